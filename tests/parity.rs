//! Holds the simulator against real nodes: twenty viewers on loopback, and the same twenty simulated.
//!
//! What the simulator models instead of running is the network, gossipsub, the origin and the players; if that model
//! drifts from the truth, these figures part. Tolerances are stated beside each comparison: they are what two runs of
//! the real swarm differ by on a busy machine, and room.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_tests::fleet::http::Stats;
use starling_tests::fleet::{
    Binaries, BroadcastOptions, Common, Fleet, Probe, SEGMENTS_FOR_PLAYERS, Viewer, WatchOptions,
};
use starling_tests::sim::{Scenario, World};
use tokio::time::{Instant, sleep};

const VIEWERS: usize = 20;
const BITRATE_BPS: f64 = 1_100_000.0;
/// Measured over this much media per viewer.
const WINDOW_BYTES: u64 = (BITRATE_BPS / 8.0 * 30.0) as u64;
/// No event takes longer, on any machine this runs on.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is compared.
#[derive(Debug)]
struct Figures {
    /// 1 − first copies / all bytes.
    offload: f64,
    /// Mean hops from the origin.
    depth: f64,
    /// Control bytes / media bytes.
    control: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_real_viewers_do_what_twenty_simulated_ones_do() -> Result<()> {
    let real = real().await?;
    let simulated = simulated();
    println!("real {real:.3?}\nsimulated {simulated:.3?}");
    // Offload: 3 points. A single repair from the origin in the window is 0.2 points.
    ensure!((real.offload - simulated.offload).abs() <= 0.03, "offload: real {real:?}, simulated {simulated:?}");
    // Depth: 1.5 hops. Who connects to whom is chance in both.
    ensure!((real.depth - simulated.depth).abs() <= 1.5, "depth: real {real:?}, simulated {simulated:?}");
    // Control bytes: a factor of three. The simulator counts packet headers, the nodes' own counter doesn't.
    let ratio = simulated.control / real.control;
    ensure!((1.0 / 3.0..=3.0).contains(&ratio), "control: real {real:?}, simulated {simulated:?}");
    Ok(())
}

fn simulated() -> Figures {
    let scenario = Scenario {
        name: "parity".into(),
        viewers: VIEWERS,
        seconds: 80,
        regions: 1,
        delay_scale: 0.1,
        uplink_mean_bps: 300e6,
        uplink_sigma: 0.0,
        ..Scenario::default()
    };
    let report = World::new(scenario).run();
    Figures { offload: report.offload, depth: report.depth_mean, control: report.control_ratio }
}

async fn real() -> Result<Figures> {
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
    let mut viewers = Vec::new();
    let mut players = Vec::new();
    for _ in 0..VIEWERS {
        let viewer = fleet.watch(&broadcast.link, &WatchOptions::default()).await?;
        players.push(fleet.probe(&viewer.playlist, None, &Common::default())?);
        viewers.push(viewer);
    }
    until("all play", || async { Ok(players.iter().all(Probe::has_played)) }).await?;
    let settled = stats(&viewers).await?;
    // Trees form and everybody has the same roster after some segments more.
    until("the swarm has settled", || async { Ok(grown(&settled, &stats(&viewers).await?) >= WINDOW_BYTES / 2) })
        .await?;
    let before = stats(&viewers).await?;
    until("the window is over", || async { Ok(grown(&before, &stats(&viewers).await?) >= WINDOW_BYTES) }).await?;
    let after = stats(&viewers).await?;
    figures(&before, &after).context("no depths were told")
}

fn figures(before: &[Stats], after: &[Stats]) -> Option<Figures> {
    let grew = |count: fn(&Stats) -> u64| {
        after.iter().map(count).sum::<u64>() as f64 - before.iter().map(count).sum::<u64>() as f64
    };
    let all = grew(|s| s.received.all());
    let depths: Vec<f64> = after.iter().flat_map(|s| &s.depths).flatten().map(|d| f64::from(*d)).collect();
    (!depths.is_empty()).then(|| Figures {
        offload: 1.0 - grew(|s| s.received.source()) / all,
        depth: depths.iter().sum::<f64>() / depths.len() as f64,
        control: grew(|s| s.control_bytes) / all,
    })
}

async fn stats(viewers: &[Viewer]) -> Result<Vec<Stats>> {
    let mut all = Vec::new();
    for viewer in viewers {
        all.push(viewer.stats().await?);
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
