//! The set-up of a workload: every program of it running, every player behind a relay.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use reqwest::Url;
use tokio::time::sleep;

use super::{
    Workload,
    relay::Relay,
    snapshot::{Snapshot, ViewerSnapshot},
};
use crate::fleet::{
    Binaries, Broadcast, BroadcastOptions, Common, Fleet, HintServer, Probe, ProbeReport, SEGMENTS_FOR_PLAYERS, Viewer,
    WatchOptions,
};

/// Between two joins: a crowd, but one that two cores can start.
const BETWEEN_JOINS: Duration = Duration::from_millis(250);

/// How long the first segments may take, and how long the last joiner may take to play.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a player may take to end and write its report.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// All programs of one run.
pub(super) struct Stage {
    name: &'static str,
    seats: Vec<Seat>,
    direct: Vec<Probe>,
    direct_relay: Relay,
    origin_relay: Relay,
    broadcast: Broadcast,
    _hint: HintServer,
    pub(super) fleet: Fleet,
}

/// A viewer: node, relay, player.
struct Seat {
    probe: Probe,
    relay: Relay,
    viewer: Viewer,
    ready_after: Duration,
}

impl Stage {
    /// Starts everything; players join one after another, at a viewer and at the origin by turns.
    pub(super) async fn set(workload: Workload, binaries: Binaries) -> Result<Self> {
        let fleet = Fleet::new(binaries)?;
        let hint = fleet.hint_server(&Common::named("hint-server")).await?;
        let options = BroadcastOptions {
            common: Common::named("broadcaster"),
            stream: "bench".to_owned(),
            hints: vec![hint.hint.clone()],
            bitrate: Some(format!("{}k", workload.bitrate_bps / 1000)),
            segment_seconds: Some(workload.segment_seconds),
            ..BroadcastOptions::default()
        };
        let broadcast = fleet.broadcast("test", &options).await?;
        let hls = Url::parse(&broadcast.hls).context("the broadcaster's `hls` line")?;
        let (direct_relay, origin_relay) = (Relay::start(&hls).await?, Relay::start(&hls).await?);
        let link = link_through(&broadcast.link, &hls, &origin_relay)?;
        let name = workload.name;
        let mut stage = Self {
            name,
            seats: Vec::new(),
            direct: Vec::new(),
            direct_relay,
            origin_relay,
            broadcast,
            _hint: hint,
            fleet,
        };
        stage.tell("on air; waiting for the first segments");
        stage.broadcast.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await?;
        for index in 0..workload.viewers.max(workload.direct) {
            if index < workload.viewers {
                let seat = stage.seat(index, &link).await?;
                stage.seats.push(seat);
            }
            if index < workload.direct {
                let url = stage.direct_relay.in_front_of(&hls);
                let probe = stage.fleet.probe(&url, None, &player(format!("direct-{index}")))?;
                stage.direct.push(probe);
            }
            sleep(BETWEEN_JOINS).await;
        }
        Ok(stage)
    }

    pub(super) fn tell(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
    }

    /// Waits until every player has shown a picture.
    pub(super) async fn wait_until_all_play(&mut self) -> Result<()> {
        self.tell(&format!("{} viewers and {} direct players in", self.seats.len(), self.direct.len()));
        let give_up = Instant::now() + PATIENCE;
        let mut players: Vec<&mut Probe> =
            self.seats.iter_mut().map(|seat| &mut seat.probe).chain(&mut self.direct).collect();
        loop {
            players.retain(|probe| !probe.has_played());
            let waiting = players.len();
            let Some(player) = players.first_mut().map(|probe| &mut probe.program) else { return Ok(()) };
            if !player.is_running()? {
                bail!("{} ended{}", player.name(), player.log_tail());
            }
            if Instant::now() > give_up {
                bail!("{waiting} players show no picture; {} is one{}", player.name(), player.log_tail());
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// Reads every counter there is.
    pub(super) async fn snapshot(&self) -> Result<Snapshot> {
        let viewers = try_join_all(self.seats.iter().map(Seat::snapshot)).await?;
        Ok(Snapshot {
            viewers,
            origin_http: self.origin_relay.media_bytes(),
            direct_http: self.direct_relay.media_bytes(),
            broadcaster_libp2p: broadcaster_libp2p(&self.broadcast).await?,
            broadcaster_cpu: self.broadcast.program.usage()?.cpu,
        })
    }

    /// How long each node took from its start until it said it was ready, seconds.
    pub(super) fn ready_seconds(&self) -> Vec<f64> {
        self.seats.iter().map(|seat| seat.ready_after.as_secs_f64()).collect()
    }

    /// Ends all players; what those at viewers and those at the origin measured.
    pub(super) async fn stop_players(&mut self) -> Result<(Vec<ProbeReport>, Vec<ProbeReport>)> {
        let nodes = try_join_all(self.seats.iter_mut().map(|seat| seat.probe.stop(STOP_WITHIN))).await?;
        let direct = try_join_all(self.direct.iter_mut().map(|probe| probe.stop(STOP_WITHIN))).await?;
        Ok((nodes, direct))
    }

    async fn seat(&self, index: usize, link: &str) -> Result<Seat> {
        let started = Instant::now();
        let options = WatchOptions { common: Common::named(format!("viewer-{index}")), ..WatchOptions::default() };
        let viewer = self.fleet.watch(link, &options).await?;
        let ready_after = started.elapsed();
        let playlist = Url::parse(&viewer.playlist).context("the viewer's `playlist` line")?;
        let relay = Relay::start(&playlist).await?;
        let probe = self.fleet.probe(&relay.in_front_of(&playlist), None, &player(format!("player-{index}")))?;
        Ok(Seat { viewer, relay, probe, ready_after })
    }
}

impl Seat {
    async fn snapshot(&self) -> Result<ViewerSnapshot> {
        Ok(ViewerSnapshot {
            stats: self.viewer.stats().await?,
            usage: self.viewer.program.usage()?,
            delivered: self.relay.media_bytes(),
        })
    }
}

fn player(name: String) -> Common {
    Common { args: vec!["--samples".to_owned()], ..Common::named(name) }
}

/// The same link, with the relay in the place of the origin it names.
fn link_through(link: &str, hls: &Url, relay: &Relay) -> Result<String> {
    let authority = |url: &Url| Some(format!("{}:{}", url.host_str()?, url.port()?));
    let relay = Url::parse(&relay.in_front_of(hls))?;
    let (origin, relay) = authority(hls).zip(authority(&relay)).context("addresses with ports")?;
    let encoded = |authority: &str| authority.replace(':', "%3A");
    let changed = link.replace(&origin, &relay).replace(&encoded(&origin), &encoded(&relay));
    ensure!(
        changed != link,
        "the link doesn't name the origin {origin}, so viewers' requests can't be counted: {link}"
    );
    Ok(changed)
}

/// Media the broadcaster says it sent over libp2p, bytes.
async fn broadcaster_libp2p(broadcast: &Broadcast) -> Result<u64> {
    let sent = broadcast.metrics().await?.sum("starling_sent_peers_bytes_total", &[]);
    sent.map(|bytes| bytes as u64).context("the broadcaster's /metrics doesn't tell what it sent to peers")
}
