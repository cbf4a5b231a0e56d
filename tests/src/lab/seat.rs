//! One viewer: a host with a node and a measuring player, or a player alone that goes straight to the origin.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{ask, network::Host, scenario::Stream};
use crate::fleet::{
    Common, Fleet, Probe, ProbeReport, Viewer, WatchOptions, http::Stats, namespace::Namespace, proc_fs::Usage,
};

/// Somebody who watches.
pub(super) struct Seat {
    pub(super) host: Host,
    pub(super) number: usize,
    /// Seconds since 1970 at which its programs were started.
    pub(super) joined_at: f64,
    /// Until the node said it was ready, seconds.
    ready_seconds: f64,
    /// Absent at the origin.
    pub(super) viewer: Option<Viewer>,
    pub(super) probe: Probe,
    /// What the node told last.
    pub(super) stats: Stats,
    /// What it had told when measuring began; default if it wasn't there.
    pub(super) stats_before: Stats,
    pub(super) cpu_before: Duration,
}

/// What is left of a `Seat`.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its host's number.
    pub host: usize,
    /// Which seat of the scenario it had.
    pub number: usize,
    /// Seconds since 1970 at which its programs were started.
    pub joined_at: f64,
    /// Until the node said it was ready, seconds; 0 at the origin.
    pub ready_seconds: f64,
    /// What its player measured; `None` if it left no report.
    pub report: Option<ProbeReport>,
    /// What its node told last.
    pub stats: Stats,
    /// What its node had told when measuring began; default if it came later.
    pub stats_before: Stats,
    /// CPU time of the node while it was measured, as far as it was seen.
    pub cpu: Duration,
    /// The most memory its node ever had resident, bytes.
    pub resident_peak: u64,
}

/// How a viewer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It says good-bye (SIGTERM).
    Leaves,
    /// It is gone (SIGKILL).
    Killed,
}

/// Where viewers' nodes listen: what `starling watch` does without options, which a fleet would change.
const LISTEN: &str = "/ip4/0.0.0.0/udp/0/quic-v1,/ip4/0.0.0.0/tcp/0";
const HTTP: &str = "127.0.0.1:7373";
/// How long a player may take to write its report.
const REPORT_WITHIN: Duration = Duration::from_secs(20);
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

impl Seat {
    /// Starts a node, and when it is ready a player.
    pub(super) async fn watch(
        fleet: Arc<Fleet>,
        host: Host,
        number: usize,
        link: String,
        region: String,
        stream: Stream,
    ) -> Result<Self> {
        let joined_at = super::wall_seconds();
        let began = Instant::now();
        let name = format!("viewer-{number}-{}", host.id);
        let common = Common {
            listen: Some(LISTEN.into()),
            http: Some(HTTP.into()),
            args: stream.viewer_args,
            ..inside(name, &host.namespace)
        };
        let options = WatchOptions { common, region: Some(region), upload_limit: None };
        let viewer = fleet.watch(&link, &options).await?;
        let ready_seconds = began.elapsed().as_secs_f64();
        let player = inside(format!("player-{number}-{}", host.id), &host.namespace);
        let probe = fleet.probe(&viewer.playlist, None, &playing(player, &stream.player_args))?;
        Ok(Self::new(host, number, joined_at, ready_seconds, Some(viewer), probe))
    }

    /// Starts a player straight at the origin.
    pub(super) fn direct(fleet: &Fleet, host: Host, number: usize, url: &str, stream: &Stream) -> Result<Self> {
        let player = inside(format!("direct-{number}-{}", host.id), &host.namespace);
        let probe = fleet.probe(url, None, &playing(player, &stream.player_args))?;
        Ok(Self::new(host, number, super::wall_seconds(), 0.0, None, probe))
    }

    fn new(
        host: Host,
        number: usize,
        joined_at: f64,
        ready_seconds: f64,
        viewer: Option<Viewer>,
        probe: Probe,
    ) -> Self {
        let (stats, stats_before, cpu_before) = Default::default();
        Self { host, number, joined_at, ready_seconds, viewer, probe, stats, stats_before, cpu_before }
    }

    /// Remembers what was before, for the differences that count.
    pub(super) fn begin(&mut self) {
        self.stats_before = self.stats.clone();
        self.cpu_before = self.usage().cpu;
    }

    /// What the node has used; nothing at the origin, or if it died.
    pub(super) fn usage(&self) -> Usage {
        self.viewer.as_ref().and_then(|viewer| viewer.program.usage().ok()).unwrap_or_default()
    }

    /// Whom to ask for statistics, and where.
    pub(super) fn page(&self) -> Option<(Namespace, String)> {
        self.viewer.as_ref().map(|viewer| (self.host.namespace.clone(), viewer.player.clone()))
    }

    /// Ends both programs; what they measured.
    pub(super) async fn end(mut self, exit: Exit) -> Watched {
        if let Some((inside, page)) = self.page()
            && let Ok(stats) = ask::stats(&inside, &page).await
        {
            self.stats = stats;
        }
        let usage = self.usage();
        let player = self.probe.program.pid();
        let node = async {
            let Some(viewer) = &mut self.viewer else { return };
            // The player is told in the same moment, or it would report that its server is gone.
            let _ = crate::fleet::proc_fs::terminate(player);
            match exit {
                Exit::Killed => drop(viewer.program.kill().await),
                Exit::Leaves => drop(viewer.program.terminate(LEAVE_WITHIN).await),
            }
        };
        let ((), report) = tokio::join!(node, self.probe.stop(REPORT_WITHIN));
        Watched {
            host: self.host.id,
            number: self.number,
            joined_at: self.joined_at,
            ready_seconds: self.ready_seconds,
            report: report.ok(),
            stats: self.stats,
            stats_before: self.stats_before,
            cpu: usage.cpu.saturating_sub(self.cpu_before),
            resident_peak: usage.resident_peak,
        }
    }
}

/// The defaults, under this name, in this namespace.
pub(super) fn inside(name: String, namespace: &Namespace) -> Common {
    Common { place: Some(namespace.clone()), ..Common::named(name) }
}

fn playing(common: Common, args: &[String]) -> Common {
    let args = std::iter::once("--samples".to_owned()).chain(args.iter().cloned()).collect();
    Common { args, ..common }
}
