//! Viewers with a measuring player each, and what both say.

use std::path::PathBuf;

use futures::future::join_all;
use serde_json::Value;
use starling_tests::fleet::{
    Common, Fleet, Probe, ProbeReport, Viewer, WatchOptions,
    http::{Received, Stats},
};

use crate::stage::{PATIENCE, all_end, ends, eventually};

/// A viewer's node and the player in front of it.
pub(crate) struct Seat {
    pub(crate) viewer: Viewer,
    probe: Probe,
    json: PathBuf,
}

/// What a player measured, with the parts only these tests look at.
pub(crate) struct Measured {
    pub(crate) who: String,
    pub(crate) report: ProbeReport,
    pub(crate) json: Value,
}

impl Seat {
    /// A viewer named `name`, and its player with these further arguments, which has shown a picture.
    pub(crate) async fn take(fleet: &Fleet, link: &str, options: WatchOptions, player_args: &[&str]) -> Self {
        let mut seat = Self::enter(fleet, link, options, player_args).await;
        seat.plays().await;
        seat
    }

    /// As [`Seat::take`], all at once: one for each of `options`.
    pub(crate) async fn take_all(
        fleet: &Fleet,
        link: &str,
        options: impl IntoIterator<Item = WatchOptions>,
        player_args: &[&str],
    ) -> Vec<Self> {
        let mut seats =
            join_all(options.into_iter().map(|options| Self::enter(fleet, link, options, player_args))).await;
        join_all(seats.iter_mut().map(Self::plays)).await;
        seats
    }

    async fn enter(fleet: &Fleet, link: &str, options: WatchOptions, player_args: &[&str]) -> Self {
        let name = options.common.name.clone().expect("viewers are named here");
        let viewer = fleet.watch(link, &options).await.unwrap();
        let player = format!("player-of-{name}");
        let args = player_args.iter().map(|arg| (*arg).to_owned()).collect();
        let common = Common { args, ..Common::named(player.clone()) };
        let probe = fleet.probe(&viewer.playlist, None, &common).unwrap();
        Self { viewer, probe, json: fleet.directory().join(format!("{player}.json")) }
    }

    async fn plays(&mut self) {
        let what = format!("the player of {} plays", self.viewer.program.name());
        eventually(&what, async || if self.probe.has_played() { Ok(()) } else { Err(self.probe.program.log()) }).await;
    }

    /// What the node says of itself at present.
    pub(crate) async fn stats(&self) -> Stats {
        self.viewer.stats().await.unwrap()
    }

    /// Ends the player; what it measured.
    pub(crate) async fn measured(&mut self) -> Measured {
        let who = self.probe.program.name().to_owned();
        ends(&mut self.probe.program).await;
        let report = self.probe.finish(PATIENCE).await.unwrap();
        let json = serde_json::from_slice(&std::fs::read(&self.json).unwrap()).unwrap();
        Measured { who, report, json }
    }
}

/// Ends all players; what they measured.
pub(crate) async fn measured(seats: &mut [Seat]) -> Vec<Measured> {
    join_all(seats.iter_mut().map(Seat::measured)).await
}

/// Ends all nodes; players go first, or they would complain.
pub(crate) async fn leave(seats: &mut [Seat]) {
    all_end(seats.iter_mut().map(|seat| &mut seat.viewer.program)).await;
}

/// What each node received so far.
pub(crate) async fn received(seats: &[Seat]) -> Vec<Received> {
    join_all(seats.iter().map(|seat| async { seat.stats().await.received })).await
}

/// Waits until each node received this many bytes more.
pub(crate) async fn receive_more(seats: &[Seat], bytes: u64) {
    let before = received(seats).await;
    let what = format!("every viewer receives {bytes} bytes more");
    eventually(&what, async || {
        let now = received(seats).await;
        let all_did = before.iter().zip(&now).all(|(before, now)| now.all() >= before.all() + bytes);
        if all_did { Ok(()) } else { Err(format!("from {before:?} to {now:?}")) }
    })
    .await;
}

/// The part of what was received between two moments that came from other viewers, 0 to 1.
pub(crate) fn viewers_share(before: &[Received], after: &[Received]) -> f64 {
    let gained = |of: fn(Received) -> u64| {
        let sum = |all: &[Received]| all.iter().map(|received| of(*received)).sum::<u64>();
        (sum(after) - sum(before)) as f64
    };
    gained(Received::viewers) / gained(Received::all)
}

impl Measured {
    /// It played from its first picture to the end, each frame at its time.
    pub(crate) fn assert_smooth(&self) {
        let Self { who, report, json } = self;
        assert_eq!(report.error, None, "{who}: {json:#}");
        assert_eq!(report.stalls.count, 0, "{who} stood still: {json:#}");
        let errors = report.timestamp_errors;
        assert_eq!((errors.gaps, errors.overlaps), (0, 0), "{who} got jumping timestamps: {json:#}");
    }
}
