//! The floor a viewer's CPU time is held against: the same bytes, equally paced, over bare QUIC.
//!
//! Two processes. The *relay*, which is measured, takes the stream in over as many connections as a viewer has
//! neighbours and sends every chunk out again over the next one, as an ideal viewer would: no libp2p, no hashing, no
//! decisions, no HTTP. The *source* plays all its neighbours: it sends chunks in the rhythm of the stream and
//! swallows what comes back.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig,
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::fleet::{Fleet, proc_fs};

const SERVER_NAME: &str = "localhost";
/// Chunks on their way from the receiving to the sending tasks of a connection; more than one means it doesn't keep up.
const CHUNKS_WAITING: usize = 64;

/// What is sent how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Pace {
    /// Connections, each used both ways.
    #[arg(long)]
    pub peers: usize,
    /// The stream's rate, bits per second.
    #[arg(long)]
    pub bitrate: u64,
    /// Bytes sent at once.
    #[arg(long)]
    pub chunk_bytes: usize,
    /// How long.
    #[arg(long)]
    pub seconds: u64,
}

/// What the relay did, as it saw itself from the first chunk to the last.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    /// Bytes of media in.
    pub received: u64,
    /// Bytes of media out.
    pub sent: u64,
    /// CPU time, seconds.
    pub cpu_seconds: f64,
    /// Most memory ever resident, bytes.
    pub resident_peak: u64,
}

/// The pair of processes; both end when dropped.
pub struct RawQuic {
    relay: Child,
    source: Child,
    told: BufReader<ChildStdout>,
}

impl RawQuic {
    /// Starts both, as hidden subcommands of this program.
    ///
    /// # Errors
    /// If the relay doesn't come up within ten seconds.
    pub async fn start(fleet: &Fleet, pace: Pace) -> Result<Self> {
        let certificate = fleet.directory().join("raw-quic.der");
        let own = std::env::current_exe()?;
        let part = |name: &str| {
            let mut command = Command::new(&own);
            command
                .arg(name)
                .arg(&certificate)
                .process_group(fleet.process_group())
                .kill_on_drop(true)
                .stdin(Stdio::null());
            command
        };
        let mut relay = part("raw-quic-relay").args(pace.to_args()).stdout(Stdio::piped()).spawn()?;
        let mut told = BufReader::new(relay.stdout.take().context("the relay's output")?);
        let mut address = String::new();
        timeout(Duration::from_secs(10), told.read_line(&mut address)).await.context("the raw QUIC relay")??;
        let source = part("raw-quic-source").arg(address.trim()).args(pace.to_args()).spawn()?;
        Ok(Self { relay, source, told })
    }

    /// Waits until both have done all they were told to.
    ///
    /// # Errors
    /// If they don't end within `within`, or not well.
    pub async fn outcome(mut self, within: Duration) -> Result<Outcome> {
        let mut line = String::new();
        timeout(within, self.told.read_line(&mut line)).await.context("the raw QUIC relay's outcome")??;
        let outcome = serde_json::from_str(&line).with_context(|| format!("the raw QUIC relay says {line:?}"))?;
        ensure!(self.relay.wait().await?.success(), "the raw QUIC relay failed");
        ensure!(self.source.wait().await?.success(), "the raw QUIC source failed");
        Ok(outcome)
    }
}

impl Pace {
    fn to_args(self) -> [String; 8] {
        let flag = |name: &str| format!("--{name}");
        [
            flag("peers"),
            self.peers.to_string(),
            flag("bitrate"),
            self.bitrate.to_string(),
            flag("chunk-bytes"),
            self.chunk_bytes.to_string(),
            flag("seconds"),
            self.seconds.to_string(),
        ]
    }

    fn chunk_every(self) -> Duration {
        Duration::from_secs_f64(self.chunk_bytes as f64 * 8.0 / self.bitrate as f64)
    }

    fn chunks(self) -> u64 {
        (self.seconds as f64 / self.chunk_every().as_secs_f64()) as u64
    }
}

/// The measured process: writes its certificate, prints its address, relays, prints its [`Outcome`] as JSON.
///
/// # Errors
/// If QUIC fails or the source goes away early.
pub async fn run_relay(certificate: &Path, pace: Pace) -> Result<()> {
    let endpoint = Endpoint::server(server_config(certificate)?, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    println!("{}", endpoint.local_addr()?);
    let mut streams = Vec::new();
    while streams.len() < pace.peers {
        let connection = endpoint.accept().await.context("no connection")?.await?;
        let (send, mut receive) = connection.accept_bi().await?;
        read_chunk(&mut receive, &mut [0; 1]).await?;
        streams.push((connection, send, receive));
    }
    let before = proc_fs::usage(std::process::id())?;
    let moved = relay_chunks(streams, pace).await?;
    let after = proc_fs::usage(std::process::id())?;
    let outcome = Outcome {
        received: moved,
        sent: moved,
        cpu_seconds: (after.cpu - before.cpu).as_secs_f64(),
        resident_peak: after.resident_peak,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    endpoint.wait_idle().await;
    Ok(())
}

/// The other process: connects, sends chunks in rhythm, swallows what comes back.
///
/// # Errors
/// If QUIC fails or the relay goes away early.
pub async fn run_source(certificate: &Path, relay: SocketAddr, pace: Pace) -> Result<()> {
    let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    endpoint.set_default_client_config(client_config(certificate)?);
    let mut senders = Vec::new();
    let mut swallowing = JoinSet::new();
    for _ in 0..pace.peers {
        let connection = endpoint.connect(relay, SERVER_NAME)?.await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        // A stream exists for the other side from its first byte.
        send.write_all(&[0]).await?;
        senders.push((connection, send));
        swallowing.spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            let mut swallowed = 0;
            while let Some(length) = receive.read(&mut buffer).await? {
                swallowed += length as u64;
            }
            anyhow::Ok(swallowed)
        });
    }
    let chunk = vec![0x5a; pace.chunk_bytes];
    let mut rhythm = interval(pace.chunk_every());
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..pace.chunks() {
        rhythm.tick().await;
        senders[number as usize % pace.peers].1.write_all(&chunk).await?;
    }
    for (_, send) in &mut senders {
        send.finish()?;
    }
    let mut swallowed = 0;
    while let Some(bytes) = swallowing.join_next().await {
        swallowed += bytes??;
    }
    ensure!(swallowed == pace.chunks() * pace.chunk_bytes as u64, "only {swallowed} bytes came back");
    endpoint.close(0u8.into(), b"done");
    endpoint.wait_idle().await;
    Ok(())
}

/// Every chunk that comes in whole over one connection goes out over the next; ends when all have ended.
async fn relay_chunks(streams: Vec<(Connection, SendStream, RecvStream)>, pace: Pace) -> Result<u64> {
    let (queues, waiting): (Vec<_>, Vec<_>) = streams.iter().map(|_| mpsc::channel(CHUNKS_WAITING)).unzip();
    let mut tasks = JoinSet::new();
    for (index, ((connection, mut send, mut receive), mut waiting)) in streams.into_iter().zip(waiting).enumerate() {
        let next = queues[(index + 1) % queues.len()].clone();
        tasks.spawn(async move {
            let mut received = 0;
            loop {
                let mut chunk = vec![0; pace.chunk_bytes];
                if !read_chunk(&mut receive, &mut chunk).await? {
                    return anyhow::Ok(received);
                }
                received += chunk.len() as u64;
                next.send(chunk).await?;
            }
        });
        tasks.spawn(async move {
            while let Some(chunk) = waiting.recv().await {
                send.write_all(&chunk).await?;
            }
            send.finish()?;
            send.stopped().await?;
            drop(connection);
            Ok(0)
        });
    }
    drop(queues);
    let mut moved = 0;
    while let Some(received) = tasks.join_next().await {
        moved += received??;
    }
    Ok(moved)
}

/// Fills `chunk`; false at the end of the stream.
async fn read_chunk(receive: &mut RecvStream, chunk: &mut [u8]) -> Result<bool> {
    use quinn::ReadExactError::{FinishedEarly, ReadError};
    match receive.read_exact(chunk).await {
        Ok(()) => Ok(true),
        Err(FinishedEarly(0)) => Ok(false),
        Err(error @ (FinishedEarly(_) | ReadError(_))) => Err(error.into()),
    }
}

fn server_config(certificate: &Path) -> Result<ServerConfig> {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
    fs::write(certificate, made.cert.der())?;
    let key = PrivateKeyDer::try_from(made.key_pair.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok(ServerConfig::with_single_cert(vec![made.cert.der().clone()], key)?)
}

fn client_config(certificate: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(fs::read(certificate)?))?;
    Ok(ClientConfig::with_root_certificates(Arc::new(roots))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_byte_sent_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let certificate = directory.path().join("cert.der");
        let config = server_config(&certificate).unwrap();
        let endpoint = Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = endpoint.local_addr().unwrap();
        let pace = Pace { peers: 3, bitrate: 8_000_000, chunk_bytes: 25_000, seconds: 1 };
        let source = tokio::spawn(async move { run_source(&certificate, address, pace).await });
        let mut streams = Vec::new();
        while streams.len() < pace.peers {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let (send, mut receive) = connection.accept_bi().await.unwrap();
            assert!(read_chunk(&mut receive, &mut [0; 1]).await.unwrap());
            streams.push((connection, send, receive));
        }
        assert_eq!(relay_chunks(streams, pace).await.unwrap(), 40 * 25_000);
        source.await.unwrap().unwrap();
    }
}
