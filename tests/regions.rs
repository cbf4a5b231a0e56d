//! Neighbour choice follows the hints: in two regions most bytes stay at home, and who can upload most sits nearer the
//! source.
//!
//! On loopback every address is of the same class, so what tells the regions apart is what viewers say of themselves
//! (`--region`), as it would be on any hint server without a geo database.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use starling_tests::fleet::http::Stats;
use starling_tests::fleet::{
    Binaries, BroadcastOptions, Common, Fleet, Probe, SEGMENTS_FOR_PLAYERS, Viewer, WatchOptions,
};
use tokio::time::{Instant, sleep};

const REGIONS: [&str; 2] = ["eu", "us"];
const VIEWERS_PER_REGION: usize = 4;
/// One viewer of each region offers this much, which is room for dozens of neighbours; the others hardly more than the stream,
/// for where nobody is short of room nothing makes the strong rise.
const STRONG: &str = "50M";
const WEAK: &str = "1500k";
const BYTES_PER_SECOND: f64 = 1_100_000.0 / 8.0;
/// Media each viewer gets before anything is measured: hint servers are asked every ten seconds, trees follow.
const SETTLING_BYTES: u64 = (BYTES_PER_SECOND * 20.0) as u64;
/// Media each viewer gets while it is measured: roots are drawn by lot for half a minute each, and one draw may favour the weak.
const WINDOW_BYTES: u64 = (BYTES_PER_SECOND * 75.0) as u64;
/// By chance alone 3 of 7 neighbours are of one's own region: 0.43.
const SHARE_AT_HOME_MIN: f64 = 0.6;
/// No event takes longer, on any machine this runs on.
const PATIENCE: Duration = Duration::from_secs(180);

struct Seat {
    viewer: Viewer,
    player: Probe,
    strong: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_stay_in_their_region_and_strong_viewers_sit_near_the_source() -> Result<()> {
    let fleet = Fleet::new(Binaries::find()?)?;
    let hint = fleet.hint_server(&Common::default()).await?;
    let options = BroadcastOptions {
        hints: vec![hint.hint.clone()],
        bitrate: Some("1100k".into()),
        segment_seconds: Some(2),
        ..BroadcastOptions::default()
    };
    let broadcast = fleet.broadcast("test", &options).await?;
    broadcast.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await?;
    let seats = seats(&fleet, &broadcast.link).await?;
    until("all play", || async { Ok(seats.iter().all(|seat| seat.player.has_played())) }).await?;
    let joined = stats(&seats).await?;
    until("the swarm has settled", || async { Ok(grown(&joined, &stats(&seats).await?) >= SETTLING_BYTES) }).await?;
    let before = stats(&seats).await?;
    // Depths change as trees are mended: one look would judge a moment.
    let mut looks = vec![before.clone()];
    let give_up = Instant::now() + PATIENCE;
    while grown(&before, looks.last().unwrap_or(&before)) < WINDOW_BYTES {
        ensure!(Instant::now() < give_up, "the window isn't over after {PATIENCE:?}");
        sleep(Duration::from_secs(1)).await;
        looks.push(stats(&seats).await?);
    }
    let after = looks.last().context("there is at least one look")?;
    let at_home = share_at_home(&before, after).context("viewers had nothing from each other")?;
    let strong = mean_depth(&seats, &looks, true).context("strong viewers told no depth")?;
    let weak = mean_depth(&seats, &looks, false).context("weak viewers told no depth")?;
    println!("bytes that stayed in the region: {at_home:.3}; mean depth: strong {strong:.2}, weak {weak:.2}");
    ensure!(at_home >= SHARE_AT_HOME_MIN, "only {at_home:.3} of the bytes between viewers stayed in their region");
    ensure!(strong < weak, "strong viewers sit at depth {strong:.2}, others at {weak:.2}");
    Ok(())
}

async fn seats(fleet: &Fleet, link: &str) -> Result<Vec<Seat>> {
    let mut seats = Vec::new();
    for number in 0..VIEWERS_PER_REGION {
        for region in REGIONS {
            // Not first to come: nearness to the source must be earned by uplink, not by arrival.
            let strong = number == VIEWERS_PER_REGION / 2;
            let options = WatchOptions {
                common: Common::named(format!("viewer-{region}-{number}")),
                region: Some(region.to_owned()),
                upload_limit: Some(if strong { STRONG } else { WEAK }.to_owned()),
            };
            let viewer = fleet.watch(link, &options).await?;
            let player = fleet.probe(&viewer.playlist, None, &Common::default())?;
            seats.push(Seat { viewer, player, strong });
        }
    }
    Ok(seats)
}

/// Of the bytes viewers had from each other, the part that came from one's own region, 0 to 1.
fn share_at_home(before: &[Stats], after: &[Stats]) -> Option<f64> {
    let grew = |count: fn(&Stats) -> u64| {
        after.iter().map(count).sum::<u64>().saturating_sub(before.iter().map(count).sum::<u64>()) as f64
    };
    let all = grew(|stats| stats.received.viewers());
    (all > 0.0).then(|| grew(|stats| stats.received.same_region) / all)
}

/// Mean hops from the origin, over substreams and looks, of the strong viewers or of the others.
fn mean_depth(seats: &[Seat], looks: &[Vec<Stats>], strong: bool) -> Option<f64> {
    let of_kind = |look| seats.iter().zip::<&Vec<Stats>>(look).filter(|(seat, _)| seat.strong == strong);
    let stats = looks.iter().flat_map(of_kind).map(|(_, stats)| stats);
    let depths: Vec<f64> = stats.flat_map(|stats| &stats.depths).flatten().map(|depth| f64::from(*depth)).collect();
    (!depths.is_empty()).then(|| depths.iter().sum::<f64>() / depths.len() as f64)
}

async fn stats(seats: &[Seat]) -> Result<Vec<Stats>> {
    let mut all = Vec::new();
    for seat in seats {
        all.push(seat.viewer.stats().await?);
    }
    Ok(all)
}

/// Media bytes the slowest viewer received since.
fn grown(before: &[Stats], now: &[Stats]) -> u64 {
    before.iter().zip(now).map(|(b, n)| n.received.all().saturating_sub(b.received.all())).min().unwrap_or(0)
}

async fn until<F: Future<Output = Result<bool>>>(what: &str, mut met: impl FnMut() -> F) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !met().await? {
        ensure!(Instant::now() < give_up, "waited {PATIENCE:?} in vain until {what}");
        sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}
