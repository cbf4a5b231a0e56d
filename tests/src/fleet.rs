//! A fleet of real processes on this machine: hint server, broadcaster, viewers and measuring players.
//!
//! Everything is driven from outside, as a user's script would do it: command-line options in, `key value` lines and
//! HTTP out. Each program has a data directory and log files of its own under the fleet's directory; a lifeline
//! process ends them all when the fleet is dropped, or when the program that owns it dies of whatever cause.

pub mod demo;
mod home;
pub mod http;
pub mod namespace;
mod probe;
pub mod proc_fs;
mod program;
mod roles;
mod table;
pub mod testnet;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

pub use self::home::Binaries;
pub use self::probe::{Bytes, Count, Probe, ProbeReport, Sample};
pub use self::program::Program;
pub use self::roles::{Broadcast, HintServer, SEGMENTS_FOR_PLAYERS, Viewer};
use self::{home::Home, namespace::Namespace, program::Launch};

/// How long a program may take until it has printed its ready lines: generous, since a whole fleet may be starting
/// on two slow cores.
pub const READY_WITHIN: Duration = Duration::from_secs(90);

const ANY_QUIC_PORT: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const ANY_HTTP_PORT: &str = "127.0.0.1:0";

/// The fleet's directory, its binaries, and the lifeline that ends its programs.
pub struct Fleet {
    home: Arc<Home>,
    unnamed: AtomicUsize,
}

/// What every program can be told. The defaults suit a test: any free port on loopback, a name by counting.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Names the log files and the data directory. A program started again under the name of an ended one finds that
    /// one's data.
    pub name: Option<String>,
    /// `--listen`; a multiaddr.
    pub listen: Option<String>,
    /// `--http`; `IP:PORT`.
    pub http: Option<String>,
    /// More arguments, passed last.
    pub args: Vec<String>,
    /// More environment variables. `STARLING_…` variables of the caller are not passed on, but what is to be logged is.
    pub env: Vec<(String, String)>,
    /// Runs in this network namespace instead of the caller's.
    pub place: Option<Namespace>,
}

/// Options of [`Fleet::broadcast`].
#[derive(Clone, Debug, Default)]
pub struct BroadcastOptions {
    /// What every program can be told.
    pub common: Common,
    /// `--name`, the stream's name; `demo` if empty.
    pub stream: String,
    /// `--hint`, any number of times.
    pub hints: Vec<String>,
    /// `--bitrate`, such as `1100k`.
    pub bitrate: Option<String>,
    /// `--segment-seconds`.
    pub segment_seconds: Option<u32>,
    /// `--part-seconds`, for low latency.
    pub part_seconds: Option<f64>,
    /// `--origin`, an URL.
    pub origin: Option<String>,
}

/// Options of [`Fleet::watch`].
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// What every program can be told.
    pub common: Common,
    /// `--region`.
    pub region: Option<String>,
    /// `--upload-limit`, such as `5M`.
    pub upload_limit: Option<String>,
}

impl Fleet {
    /// A fleet in a directory for this run, removed at the end. If the owning thread panics the directory stays, for
    /// its logs, and its path is told on stderr.
    ///
    /// # Errors
    /// If no directory can be made, or there is no `sh`.
    pub fn new(binaries: Binaries) -> Result<Self> {
        Ok(Self { home: Arc::new(Home::temporary(binaries)?), unnamed: AtomicUsize::new(0) })
    }

    /// Programs that outlive the caller, in a directory that stays. [`Program::detach`] those to keep.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub fn lasting(directory: &Path, binaries: Binaries) -> Result<Self> {
        Ok(Self { home: Arc::new(Home::lasting(directory, binaries)?), unnamed: AtomicUsize::new(0) })
    }

    /// Programs that end with the caller, in a directory that stays.
    ///
    /// # Errors
    /// As [`Fleet::new`].
    pub fn guarded(directory: &Path, binaries: Binaries) -> Result<Self> {
        Ok(Self { home: Arc::new(Home::guarded(directory, binaries)?), unnamed: AtomicUsize::new(0) })
    }

    /// Where data directories and logs are.
    pub fn directory(&self) -> &Path {
        self.home.directory()
    }

    /// Starts a hint server and waits until it is ready.
    ///
    /// # Errors
    /// If it ends or isn't ready in time; the message ends with the last lines of its log.
    pub async fn hint_server(&self, options: &Common) -> Result<HintServer> {
        let mut launch = self.launch("hint-server", &self.home.binaries().hint_server, options);
        self.serve(&mut launch, options);
        launch.args(&options.args);
        let mut program = launch.start(&self.home)?;
        let mut ready = program.ready(&["hint", "http"], READY_WITHIN).await?;
        Ok(HintServer { hint: ready.remove(0), http: ready.remove(0), program })
    }

    /// A hint server, and a broadcast of the test picture that viewers find through it, by parts of so many seconds or in whole
    /// segments; returns when players can start.
    ///
    /// # Errors
    /// As [`Fleet::hint_server`], or if too few segments are listed in time.
    pub async fn on_air(&self, part_seconds: Option<f64>) -> Result<(HintServer, Broadcast)> {
        let hint = self.hint_server(&Common::default()).await?;
        let options = BroadcastOptions { hints: vec![hint.hint.clone()], part_seconds, ..BroadcastOptions::default() };
        let broadcast = self.broadcast("test", &options).await?;
        broadcast.on_air(SEGMENTS_FOR_PLAYERS, READY_WITHIN).await?;
        Ok((hint, broadcast))
    }

    /// Starts a broadcaster of `input` and waits until it is ready.
    ///
    /// # Errors
    /// As [`Fleet::hint_server`].
    pub async fn broadcast(&self, input: &str, options: &BroadcastOptions) -> Result<Broadcast> {
        let mut launch = self.launch("broadcaster", &self.home.binaries().starling, &options.common);
        let stream = if options.stream.is_empty() { "demo" } else { &options.stream };
        launch.args(["broadcast", input, "--name", stream]);
        self.serve(&mut launch, &options.common);
        for hint in &options.hints {
            launch.args(["--hint", hint]);
        }
        launch.option("--bitrate", options.bitrate.as_deref());
        launch.option("--segment-seconds", options.segment_seconds.map(|seconds| seconds.to_string()).as_deref());
        launch.option("--part-seconds", options.part_seconds.map(|seconds| seconds.to_string()).as_deref());
        launch.option("--origin", options.origin.as_deref());
        launch.args(&options.common.args);
        let mut program = launch.start(&self.home)?;
        let mut ready = program.ready(&["link", "hls"], READY_WITHIN).await?;
        Ok(Broadcast { link: ready.remove(0), hls: ready.remove(0), program })
    }

    /// Starts a viewer's node and waits until it is ready.
    ///
    /// # Errors
    /// As [`Fleet::hint_server`].
    pub async fn watch(&self, link: &str, options: &WatchOptions) -> Result<Viewer> {
        let mut launch = self.launch("viewer", &self.home.binaries().starling, &options.common);
        launch.args(["watch", link, "--no-open"]);
        self.serve(&mut launch, &options.common);
        launch.option("--region", options.region.as_deref());
        launch.option("--upload-limit", options.upload_limit.as_deref());
        launch.args(&options.common.args);
        let mut program = launch.start(&self.home)?;
        let mut ready = program.ready(&["playlist", "player"], READY_WITHIN).await?;
        Ok(Viewer { playlist: ready.remove(0), player: ready.remove(0), program })
    }

    /// Starts a measuring player on any HLS URL; it ends after that many `seconds`, or when it is stopped. Doesn't wait
    /// for anything.
    ///
    /// # Errors
    /// If the process can't be started.
    pub fn probe(&self, url: &str, seconds: Option<u64>, options: &Common) -> Result<Probe> {
        let mut launch = self.launch("probe", &self.home.binaries().starling, options);
        let json = self.path_of(&launch.name, "json");
        launch.args(["probe", url, "--progress"]);
        launch.args([Path::new("--json"), &json]);
        launch.option("--seconds", seconds.map(|seconds| seconds.to_string()).as_deref());
        launch.args(&options.args);
        // The report of an earlier run under this name must not be taken for this one's.
        let _ = std::fs::remove_file(&json);
        Ok(Probe::new(launch.start(&self.home)?, json))
    }

    /// The process group that ends with this fleet, for programs started elsewhere.
    pub(crate) fn process_group(&self) -> i32 {
        self.home.process_group()
    }

    fn launch(&self, kind: &str, binary: &Path, options: &Common) -> Launch {
        let name = options.name.clone().unwrap_or_else(|| {
            let number = self.unnamed.fetch_add(1, Ordering::Relaxed);
            format!("{kind}-{number}")
        });
        Launch::new(name, binary, options)
    }

    fn serve(&self, launch: &mut Launch, options: &Common) {
        let data = self.path_of(&launch.name, "data");
        launch.args(["--listen", options.listen.as_deref().unwrap_or(ANY_QUIC_PORT)]);
        launch.args(["--http", options.http.as_deref().unwrap_or(ANY_HTTP_PORT)]);
        launch.args([Path::new("--data-dir"), &data]);
    }

    fn path_of(&self, name: &str, ending: &str) -> PathBuf {
        self.home.directory().join(format!("{name}.{ending}"))
    }
}

/// Waits for Ctrl-C or SIGTERM. After that the caller is to drop what it started and go.
///
/// # Errors
/// If the system doesn't let us listen.
pub async fn interrupted() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt,
        _ = terminate.recv() => Ok(()),
    }
}

impl Common {
    /// The defaults, under this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
