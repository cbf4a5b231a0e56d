//! The hint server: proposes near and able neighbours to the viewers of a stream.
//!
//! All decisions are `starling_proto::directory`'s. This crate gives it a network (libp2p), places (geo databases), a key
//! to sign with, and shows it to its operator over HTTP. [`start`] makes a server, [`Server::run`] runs it; `main` only
//! adds a command line and signals.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use prometheus_client::registry::Registry;
use starling_proto::directory::{self, Directory};
use thiserror::Error;
use tokio::sync::watch;

mod address;
pub mod codec;
pub mod config;
mod data_dir;
mod http;
mod metrics;
pub mod os;
mod place;
mod server;
pub mod status;
mod swarm;

pub use config::Config;
pub use data_dir::DataDirError;
pub use place::GeoIpError;
pub use swarm::PROTOCOL;

use address::{Endpoint, Reach, reach};
use data_dir::DataDir;
use http::Http;
use metrics::Metrics;
use place::Places;
use server::{Clock, Shell};
use status::{Observer, Status};

/// A hint server that listens already.
pub struct Server {
    shell: Shell,
    http: Http,
    /// Dropped last: the directory is ours until everything has stopped.
    _data_dir: DataDir,
}

/// Why a server doesn't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A geo database.
    #[error(transparent)]
    GeoIp(#[from] GeoIpError),
    /// The transports' encryption, for want of randomness.
    #[error("cannot set up encryption: {0}")]
    Encryption(#[from] libp2p::noise::Error),
    /// An address of `--listen`.
    #[error(
        "cannot listen on {address} ({reason}): stop what uses the port (another hint server?) or choose another with --listen"
    )]
    Listen {
        /// Which.
        address: Multiaddr,
        /// What was said.
        reason: String,
    },
    /// The address of `--http`.
    #[error("cannot serve http on {addr} ({source}): stop what uses the port or choose another with --http")]
    Http {
        /// Which.
        addr: std::net::SocketAddr,
        /// What was said.
        source: std::io::Error,
    },
}

/// How long listeners may take to say where they listen.
const LISTEN_WITHIN: Duration = Duration::from_secs(5);

/// Interfaces of an unspecified address are reported one by one; after this much silence all have been.
const LISTEN_QUIET: Duration = Duration::from_millis(50);

/// Starts a server, prints where it can be reached, and serves until `shutdown` completes.
///
/// # Errors
/// [`StartError`] says what is wrong with the configuration or the machine.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let server = start(config).await?;
    let mut out = std::io::stdout().lock();
    for address in server.addresses() {
        // Nobody to tell is no reason not to serve.
        let _ = writeln!(out, "hint {address}");
    }
    let _ = writeln!(out, "http {}", server.http_url()).and_then(|()| out.flush());
    drop(out);
    server.run(shutdown).await;
    Ok(())
}

/// Starts a server: when this returns, it listens.
///
/// # Errors
/// As [`run`].
pub async fn start(config: Config) -> Result<Server, StartError> {
    let data_dir = DataDir::open(config.data_dir.as_deref())?;
    let places = Places::open(config.geoip.as_deref(), config.geoip_asn.as_deref())?;
    let swarm = swarm::build(data_dir.key.clone())?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (published, newest) = watch::channel(Arc::new((Instant::now(), Status::default())));
    let mut shell = Shell {
        directory: directory(&config, &swarm),
        swarm,
        key: data_dir.key.clone(),
        places,
        metrics,
        published,
        addresses: Vec::new(),
        clock: Clock::start(),
        observer: Observer::new(Instant::now()),
        sightings: HashMap::new(),
        channels: BTreeMap::new(),
        requests: 0,
    };
    shell.addresses = listen(&mut shell, &config).await?;
    shell.publish();
    let http = Http::start(config.http, newest, registry).await;
    let http = http.map_err(|source| StartError::Http { addr: config.http, source })?;
    tracing::info!(http = %http.addr, viewers_max = config.viewers_max, geoip = config.geoip.is_some(), "ready");
    Ok(Server { shell, http, _data_dir: data_dir })
}

impl Server {
    /// What `--hint` takes: external addresses first, loopback ones last.
    pub fn addresses(&self) -> &[String] {
        &self.shell.addresses
    }

    /// Where the status page is.
    pub fn http_url(&self) -> String {
        format!("http://{}/", self.http.addr)
    }

    /// Serves until `shutdown` completes.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        self.shell.run(shutdown).await;
        self.http.stop().await;
        tracing::info!("stopped");
    }
}

fn directory(config: &Config, swarm: &Swarm<swarm::Behaviour>) -> Directory {
    let issuer = swarm::name_of(*swarm.local_peer_id()).unwrap_or(starling_proto::PeerId([0; 32]));
    let (viewers_max, refresh) = (config.viewers_max as usize, config.refresh);
    let limits = directory::Config { viewers_max, refresh, ..directory::Config::new(issuer) };
    Directory::new(limits, rand::random())
}

/// Begins to listen and returns the addresses in the form people pass on.
async fn listen(shell: &mut Shell, config: &Config) -> Result<Vec<String>, StartError> {
    let mut silent = Vec::new();
    for address in &config.listen {
        let listener = swarm::listen(&mut shell.swarm, address).map_err(|reason| failure(address, reason))?;
        silent.push((listener, address));
    }
    let mut listening = Vec::new();
    let (mut within, started) = (LISTEN_WITHIN, Instant::now());
    while let Ok(event) = tokio::time::timeout(within, shell.swarm.select_next_some()).await {
        if let SwarmEvent::NewListenAddr { listener_id, address } = &event {
            silent.retain(|(listener, _)| listener != listener_id);
            listening.push(address.clone());
        }
        shell.happened(event);
        within = if silent.is_empty() { LISTEN_QUIET } else { LISTEN_WITHIN.saturating_sub(started.elapsed()) };
    }
    if let Some((_, address)) = silent.first() {
        return Err(failure(address, "no interface has such an address".to_owned()));
    }
    for address in &config.external_address {
        shell.swarm.add_external_address(address.clone());
    }
    listening.sort_by_key(rank);
    let peer = *shell.swarm.local_peer_id();
    let all = config.external_address.iter().chain(&listening);
    Ok(all.map(|address| format!("{address}/p2p/{peer}")).collect())
}

/// Addresses that reach farther first, QUIC before TCP.
fn rank(address: &Multiaddr) -> (u8, bool) {
    let endpoint = Endpoint::of(address);
    let reach = match endpoint.as_ref().and_then(Endpoint::ip).map(reach) {
        None | Some(Reach::Public) => 0,
        Some(Reach::Private) => 1,
        Some(Reach::Loopback | Reach::Nobody) => 2,
    };
    (reach, endpoint.is_some_and(|endpoint| endpoint.transport == address::Transport::Tcp))
}

fn failure(address: &Multiaddr, reason: String) -> StartError {
    StartError::Listen { address: address.clone(), reason }
}
