//! `scripts/demo`: a whole swarm to look at, with a summary that says whether it worked.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::Stdio,
    time::Duration,
};

use anyhow::{Result, bail};
use futures::future::join_all;
use tokio::{
    process::Command,
    time::{Instant, sleep_until},
};

use super::{
    Binaries, Broadcast, BroadcastOptions, Common, Fleet, HintServer, Probe, ProbeReport, READY_WITHIN,
    SEGMENTS_FOR_PLAYERS, Viewer, WatchOptions, interrupted,
    table::{Row, Table},
};

/// What the demo is to show.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DemoOptions {
    /// How many viewers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub viewers: u16,

    /// End by itself this many seconds after the last viewer joined [default: at Ctrl-C]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,

    /// Don't open the pages, only print their addresses
    #[arg(long)]
    pub no_open: bool,
}

/// The least part of all bytes that must have come from other viewers for the demo to count as working, 0 to 1.
const SHARE_MIN: f64 = 0.5;

/// How long a player may take to end and write its report.
const STOP_WITHIN: Duration = Duration::from_secs(10);

struct Demo {
    seats: Vec<Seat>,
    broadcast: Broadcast,
    hint: HintServer,
    fleet: Fleet,
}

struct Seat {
    probe: Probe,
    viewer: Viewer,
}

/// Shows a swarm until `options.seconds` are over or Ctrl-C; whether all played without a stall and most bytes came from
/// other viewers. Leaves nothing running.
///
/// # Errors
/// If a program doesn't start or ends early.
pub async fn run(options: DemoOptions, binaries: Binaries) -> Result<bool> {
    let mut demo = tokio::select! {
        demo = Demo::start(options, binaries) => demo?,
        interrupt = interrupted() => {
            interrupt?;
            bail!("interrupted");
        }
    };
    demo.introduce(options);
    demo.show(options.seconds.map(Duration::from_secs)).await?;
    demo.conclude().await
}

impl Demo {
    async fn start(options: DemoOptions, binaries: Binaries) -> Result<Self> {
        let fleet = Fleet::new(binaries)?;
        eprintln!("starting hint server and broadcaster; when a few segments are on air, {} viewers", options.viewers);
        let hint = fleet.hint_server(&Common::named("hint-server")).await?;
        let broadcast = BroadcastOptions {
            common: Common::named("broadcaster"),
            hints: vec![hint.hint.clone()],
            ..BroadcastOptions::default()
        };
        let broadcast = fleet.broadcast("test", &broadcast).await?;
        broadcast.on_air(SEGMENTS_FOR_PLAYERS, READY_WITHIN).await?;
        let mut seats = Vec::new();
        for number in 1..=options.viewers {
            let watch = WatchOptions { common: Common::named(format!("viewer-{number}")), ..WatchOptions::default() };
            let viewer = fleet.watch(&broadcast.link, &watch).await?;
            let probe = fleet.probe(&viewer.playlist, None, &Common::named(format!("player-{number}")))?;
            seats.push(Seat { probe, viewer });
        }
        Ok(Self { seats, broadcast, hint, fleet })
    }

    fn introduce(&self, options: DemoOptions) {
        println!("player page   {}", self.seats[0].viewer.player);
        println!("status page   {}", self.hint.http);
        println!("without peers {}", self.broadcast.hls);
        println!("share link    {}", self.broadcast.link);
        println!("logs          {}", self.fleet.directory().display());
        println!("Each viewer has a measuring player of its own; Ctrl-C ends everything.\n");
        let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|variable| std::env::var_os(variable).is_some());
        if desktop && !options.no_open && io::stdout().is_terminal() {
            for page in [&self.seats[0].viewer.player, &self.hint.http] {
                // Whether a browser opens is up to the desktop; the addresses are on the screen.
                let _ = Command::new("xdg-open").arg(page).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            }
        }
    }

    /// Every second the table, drawn over the last one; or a line, if nobody watches.
    async fn show(&mut self, how_long: Option<Duration>) -> Result<()> {
        let began = Instant::now();
        let mut interrupted = std::pin::pin!(interrupted());
        let mut drawn = 0;
        for second in 1.. {
            self.check()?;
            let table = self.table().await;
            let mut screen = io::stdout().lock();
            if screen.is_terminal() {
                let text = table.to_string();
                let up = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
                writeln!(screen, "{up}{}{}\x1b[K", text.replace('\n', "\x1b[K\n"), table.line())?;
                drawn = text.lines().count() + 1;
            } else {
                writeln!(screen, "{:>4} s  {}", began.elapsed().as_secs(), table.line())?;
            }
            drop(screen);
            if how_long.is_some_and(|how_long| began.elapsed() >= how_long) {
                break;
            }
            tokio::select! {
                () = sleep_until(began + Duration::from_secs(second)) => {}
                interrupt = &mut interrupted => return Ok(interrupt?),
            }
        }
        Ok(())
    }

    /// Ends the players and judges.
    async fn conclude(mut self) -> Result<bool> {
        let table = self.table().await;
        let mut reports = Vec::new();
        for seat in &mut self.seats {
            reports.push(seat.probe.stop(STOP_WITHIN).await?);
        }
        let total = |of: &dyn Fn(&ProbeReport) -> f64| reports.iter().map(of).sum::<f64>();
        let largest = |of: &dyn Fn(&ProbeReport) -> Option<f64>| {
            reports.iter().filter_map(of).reduce(f64::max).map_or("-".to_owned(), |value| format!("{value:.2} s"))
        };
        let played = reports.iter().filter(|report| report.startup_seconds.is_some() && report.error.is_none()).count();
        let stalls = total(&|report| report.stalls.count as f64);
        let share = table.viewers_share();
        println!("\n{table}");
        println!(
            "{played} of {} viewers played, {:.0} s in all",
            reports.len(),
            total(&|report| report.played_seconds)
        );
        println!(
            "{:.1} % of the bytes came from other viewers (ceiling {:.1} %)",
            share * 100.0,
            100.0 - 100.0 / reports.len() as f64
        );
        println!("{stalls} stalls, {:.1} s", total(&|report| report.stalls.seconds));
        println!("slowest start {}", largest(&|report| report.startup_seconds));
        println!("highest lag at a playhead, p95 {}", largest(&|report| Some(report.lag_seconds?.p95)));
        let good = played == reports.len() && stalls == 0.0 && share > SHARE_MIN;
        println!(
            "{}",
            if good { "all good" } else { "NOT good: everybody should play, without a stall, mostly from others" }
        );
        Ok(good)
    }

    fn check(&mut self) -> Result<()> {
        let nodes = self.seats.iter_mut().map(|seat| &mut seat.viewer.program);
        for program in nodes.chain([&mut self.broadcast.program, &mut self.hint.program]) {
            if !program.is_running()? {
                bail!("{} ended by itself{}", program.name(), program.log_tail());
            }
        }
        Ok(())
    }

    async fn table(&self) -> Table {
        Table(join_all(self.seats.iter().map(Seat::row)).await)
    }
}

impl Seat {
    async fn row(&self) -> Row {
        Row {
            name: self.viewer.program.name().to_owned(),
            player: self.probe.state().unwrap_or_else(|| "starting".to_owned()),
            stats: self.viewer.stats().await.ok(),
        }
    }
}
