//! The network lab: real programs on hosts of their own, far apart, on links like people's homes.
//!
//! Every viewer, the broadcaster and the hint server are the real binaries, each in a network namespace of its own whose
//! only way out is a TUN device; a [`router`] of ours joins the devices and makes distance, rate, loss, NAT and partitions.
//! A [`scenario`] file says what network, who is in it and what happens; a seed decides everything drawn by lot.
//!
//! **What is counted where.** What the origin sent is counted by the router, on the interface of the broadcaster's host:
//! IP packets with all that is in them, the kernel's own counter beside it. What viewers got is what their players
//! (`starling probe`, in the viewer's namespace, at the node's default address) received as media. Offload is one minus
//! the first over the second, in a window that begins when everybody plays. Players straight at the origin, on links like
//! the viewers', are told apart by their addresses.
//!
//! **What stays behind.** Nothing: namespaces and devices have no names and vanish with the processes that hold them, a
//! guard process ends all programs if the lab dies, and the next run removes the directory of one that was killed.

mod ask;
pub mod draw;
pub mod figures;
pub mod household;
mod leftovers;
pub mod link;
pub mod nat;
pub mod network;
mod packet;
pub mod page;
pub mod record;
pub mod report;
pub mod router;
pub mod scenario;
mod seat;
mod stage;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, interval, sleep_until};

use self::{
    draw::Step, figures::Measured, leftovers::RunDirectory, report::Report, scenario::Scenario, seat::Seat,
    stage::Stage,
};
use crate::fleet::{Binaries, proc_fs};

pub use self::seat::Watched;

/// How long everybody together may take to have a picture after the last one joined. Then it is measured without.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often nodes are asked for their statistics while it runs.
const ASK_EVERY: u64 = 5;

/// A finished run.
pub struct Outcome {
    /// The figures.
    pub report: Report,
    /// What they come from, for [`page`].
    pub measured: Measured,
}

/// Runs a scenario from nothing to figures; ends and removes everything it made. With `keep`, the directory with all
/// logs stays and its path is told on stderr.
///
/// # Errors
/// If the machine lacks something (see [`network::Network::missing`]), a server doesn't start, or the router ends.
pub async fn run(scenario: Scenario, binaries: Binaries, keep: bool) -> Result<Outcome> {
    let mut directory = RunDirectory::new()?;
    if keep {
        directory.keep();
        eprintln!("logs stay in {}", directory.path().display());
    }
    let mut stage = Stage::set(scenario, directory.path(), binaries).await?;
    if !stage.network.is_real_time() {
        eprintln!("the router can't go before other programs (chrt refused): delays grow with the load of the machine");
    }
    let scenario = stage.scenario.clone();

    tell(&format!("{} viewers join over {} s", scenario.viewers, scenario.join_seconds));
    let steps = draw::joins(&scenario);
    let joins_over = Duration::from_secs_f64(scenario.join_seconds);
    live(&mut stage, steps, joins_over, |_| false).await?;
    live(&mut stage, Vec::new(), PATIENCE, Stage::all_play).await?;
    live(&mut stage, Vec::new(), Duration::from_secs_f64(scenario.settle_seconds), |_| false).await?;

    tell(&format!("measuring for {} s", scenario.seconds));
    stage.ask_now().await?;
    stage.seats.iter_mut().for_each(Seat::begin);
    let before = Meter::read(&mut stage)?;
    live(&mut stage, draw::steps(&scenario), Duration::from_secs(scenario.seconds), |_| false).await?;
    let after = Meter::read(&mut stage)?;
    stage.ask_now().await?;
    let ended_with = stage.seats.iter().filter(|seat| seat.viewer.is_some()).map(|seat| seat.host.id).collect();

    tell("measured; collecting reports");
    stage.end().await?;
    let measured = Measured {
        window: before.wall..after.wall,
        router_cpu: after.router_cpu - before.router_cpu,
        broadcaster_cpu: after.broadcaster_cpu - before.broadcaster_cpu,
        interface_bytes: after.interface_bytes - before.interface_bytes,
        real_time: stage.network.is_real_time(),
        attachments: stage.attachments.clone(),
        watched: std::mem::take(&mut stage.gone),
        ended_with,
        record: stage.record.clone(),
        scenario,
    };
    Ok(Outcome { report: Report::new(&measured), measured })
}

/// Counters at one moment.
struct Meter {
    wall: f64,
    router_cpu: Duration,
    broadcaster_cpu: Duration,
    interface_bytes: u64,
}

impl Meter {
    fn read(stage: &mut Stage) -> Result<Self> {
        stage.count()?;
        Ok(Self {
            wall: wall_seconds(),
            router_cpu: proc_fs::thread_cpu(stage.network.router_thread()).context("the router's thread")?,
            broadcaster_cpu: stage.broadcast.program.usage()?.cpu,
            interface_bytes: stage.origin_interface_bytes()?,
        })
    }
}

/// Lets the run run: does what is due, looks every second, until the time is over or `enough`.
async fn live(stage: &mut Stage, steps: Vec<Step>, how_long: Duration, enough: impl Fn(&Stage) -> bool) -> Result<()> {
    let began = Instant::now();
    let until = began + how_long;
    let mut steps = steps.into_iter().peekable();
    let mut second = interval(Duration::from_secs(1));
    let mut seconds = 0;
    while Instant::now() < until && !enough(stage) {
        let due = steps.peek().map_or(until, |step| began + Duration::from_secs_f64(step.at));
        tokio::select! {
            () = sleep_until(due.min(until)) => {
                if let Some(step) = steps.next_if(|_| due <= Instant::now()) {
                    stage.perform(step.what).await?;
                }
            }
            _ = second.tick() => {
                stage.catch_up()?;
                stage.count()?;
                seconds += 1;
                if seconds % ASK_EVERY == 0 {
                    stage.ask();
                }
            }
        }
    }
    stage.catch_up()
}

fn tell(what: &str) {
    eprintln!("lab: {what}");
}

fn wall_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
