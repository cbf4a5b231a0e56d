//! The table and the JSON of a run, with every target and whether it was reached.

use std::fmt;

use serde::Serialize;

use super::{Workload, figures::Measured};

/// What one workload gave.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub workload: &'static str,
    /// Viewers.
    pub viewers: usize,
    /// Players straight at the origin.
    pub direct: usize,
    /// Rate of the stream, bits per second.
    pub bitrate_bps: u64,
    /// Length of a segment, seconds.
    pub segment_seconds: u32,
    /// Length of the window, seconds.
    pub window_seconds: f64,
    /// Cores of this machine.
    pub cores: usize,
    /// The figures, in the order of the table.
    pub figures: Vec<Figure>,
    /// Whether every target was reached.
    pub pass: bool,
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Its name in the JSON, stable.
    pub key: &'static str,
    /// Its name in the table.
    #[serde(skip)]
    pub label: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// For the viewers.
    pub starling: Option<f64>,
    /// For the players straight at the origin, where that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct: Option<f64>,
    /// For the bare QUIC transfer, where that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_quic: Option<f64>,
    /// What it is held against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether the target was reached; a figure that couldn't be had doesn't reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<bool>,
    /// Whether the speed of this machine has no part in it.
    #[serde(skip)]
    pub untimed: bool,
}

/// A bound, included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Not below this.
    AtLeast(f64),
    /// Not above this.
    AtMost(f64),
}

/// What a byte more may cost, in parts of what it costs over bare QUIC.
const COST_MOST: f64 = 1.5;

impl Report {
    /// All figures of a run, each against its target.
    pub fn new(workload: Workload, measured: &Measured) -> Self {
        let figures =
            [carried(workload, measured), seen(workload, measured), spent(workload, measured), sound(measured)]
                .concat();
        Self {
            workload: workload.name,
            viewers: workload.viewers,
            direct: workload.direct,
            bitrate_bps: workload.bitrate_bps,
            segment_seconds: workload.segment_seconds,
            window_seconds: measured.window_seconds,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            pass: figures.iter().all(|figure| figure.pass != Some(false)),
            figures,
        }
    }

    /// Adds what a gigabyte more costs than at `slower`'s rate: what doesn't grow with the bytes is left out, on both sides.
    pub fn compare_cost(&mut self, slower: &Self) {
        let rates = |report: &Self, of: fn(&Figure) -> Option<f64>| {
            let value = |key| report.figures.iter().find(|figure| figure.key == key).and_then(of);
            Some((value("cpu")? / 100.0, value("moved")? / 1e3 / report.window_seconds))
        };
        let per_gigabyte = |of| {
            let ((cpu, moved), (cpu_slower, moved_slower)) = (rates(self, of)?, rates(slower, of)?);
            (moved > moved_slower).then(|| (cpu - cpu_slower) / (moved - moved_slower))
        };
        let raw = per_gigabyte(|figure| figure.raw_quic);
        let figure =
            Figure::new("cpu_marginal_per_gb", "CPU for one GB more", "s", per_gigabyte(|figure| figure.starling))
                .raw_quic(raw)
                .at_most(COST_MOST * raw.unwrap_or(f64::NAN));
        self.pass &= figure.pass != Some(false);
        self.figures.push(figure);
    }

    /// Whether all targets were reached in which the speed of this machine has no part.
    pub fn untimed_pass(&self) -> bool {
        self.figures.iter().filter(|figure| figure.untimed).all(|figure| figure.pass != Some(false))
    }
}

/// Who carried the bytes.
fn carried(workload: Workload, measured: &Measured) -> Vec<Figure> {
    let ceiling = (1.0 - 1.0 / workload.viewers as f64) * 100.0;
    vec![
        Figure::new("offload", "offload", "%", measured.offload_percent()).at_least(workload.offload_percent),
        Figure::new("offload_ceiling", "  its ceiling, 1 − 1/N", "%", Some(ceiling)),
        Figure::new("delivered", "delivered to players", "MB", megabytes(measured.delivered()))
            .direct(megabytes(measured.change.direct_http))
            .at_least(0.1)
            .untimed(),
        Figure::new("left_http", "  left the source, HTTP", "MB", megabytes(measured.left_over_http())),
        Figure::new("left_libp2p", "  left the source, libp2p", "MB", megabytes(measured.left_over_libp2p())),
        Figure::new("between_viewers", "  between viewers", "MB", megabytes(measured.between_viewers()))
            .at_least(0.1)
            .untimed(),
        Figure::new("counts_differ", "two counts differ by", "%", measured.counts_differ_percent()).at_most(5.0),
        Figure::new("control", "bytes that aren't media", "%", measured.control_percent()),
    ]
}

/// What people would have seen.
fn seen(workload: Workload, measured: &Measured) -> Vec<Figure> {
    let (nodes, direct) = (&measured.nodes, &measured.direct);
    let startup =
        Figure::new("startup_p95", "start-up p95", "s", nodes.startup_seconds(95)).direct(direct.startup_seconds(95));
    let lag = Figure::new("lag_p95", "lag p95", "s", nodes.lag_seconds(95)).direct(direct.lag_seconds(95));
    let (startup, lag) = if workload.targets_times {
        let startup_most = direct.startup_seconds(95).map_or(1.0, |direct| (direct + 0.3).min(1.0));
        (startup.at_most(startup_most), lag.at_most(direct.lag_seconds(95).unwrap_or(f64::NAN) + 0.5))
    } else {
        (startup, lag)
    };
    vec![
        Figure::new("lag_p50", "lag p50", "s", nodes.lag_seconds(50)).direct(direct.lag_seconds(50)),
        lag,
        Figure::new("startup_p50", "start-up p50", "s", nodes.startup_seconds(50)).direct(direct.startup_seconds(50)),
        startup,
        Figure::new("cold_start_p95", "  with the node's own, p95", "s", measured.cold_start_seconds(95)),
        Figure::new("stalls", "stalls in 1,000 viewer-seconds", "", nodes.stalls_per_thousand())
            .direct(direct.stalls_per_thousand())
            .at_most(0.0)
            .untimed(),
        Figure::new("stalled", "  stalled", "s", nodes.stalled_seconds_per_thousand())
            .direct(direct.stalled_seconds_per_thousand()),
    ]
}

/// What it cost a viewer.
fn spent(workload: Workload, measured: &Measured) -> Vec<Figure> {
    let resident = Figure::new(
        "resident_max",
        "resident memory, largest",
        "MB",
        measured.largest(|viewer| viewer.resident).map(in_mega),
    )
    .raw_quic(megabytes(measured.raw_quic.resident_peak));
    let core_percent = |seconds: f64| Some(seconds / measured.window_seconds * 100.0);
    let viewers_cpu =
        measured.mean(|viewer| viewer.cpu.as_micros() as u64).and_then(|micros| core_percent(micros / 1e6));
    vec![
        Figure::new("cpu_per_gb", "CPU of a viewer per GB moved", "s", measured.cpu_per_gigabyte())
            .raw_quic(measured.raw_quic_cpu_per_gigabyte()),
        Figure::new("cpu", "CPU of a viewer", "% core", viewers_cpu)
            .raw_quic(core_percent(measured.raw_quic.cpu_seconds)),
        Figure::new(
            "broadcaster_cpu",
            "CPU of the broadcaster",
            "% core",
            core_percent(measured.change.broadcaster_cpu.as_secs_f64()),
        ),
        Figure::new(
            "moved",
            "moved by a viewer, in and out",
            "MB",
            measured.mean(|viewer| viewer.received.all() + viewer.sent).map(in_mega),
        )
        .raw_quic(megabytes(measured.raw_quic.received + measured.raw_quic.sent)),
        Figure::new("neighbours", "neighbours of a viewer", "", Some(measured.neighbours as f64))
            .raw_quic(Some(measured.neighbours.max(1) as f64)),
        Figure::new(
            "resident_mean",
            "resident memory, mean",
            "MB",
            measured.mean(|viewer| viewer.resident).map(in_mega),
        ),
        if workload.targets_times { resident.at_most(60.0) } else { resident },
        Figure::new(
            "resident_peak",
            "  largest ever",
            "MB",
            measured.largest(|viewer| viewer.resident_peak).map(in_mega),
        ),
    ]
}

/// What must never happen.
fn sound(measured: &Measured) -> Vec<Figure> {
    let rejected = Some(measured.sum(|viewer| viewer.rejected_chunks) as f64);
    vec![
        Figure::new("failed_players", "players without a picture", "", measured.nodes.failed())
            .direct(measured.direct.failed())
            .at_most(0.0)
            .untimed(),
        Figure::new("broken_timestamps", "broken media timestamps", "", measured.nodes.broken_timestamps())
            .direct(measured.direct.broken_timestamps())
            .at_most(0.0)
            .untimed(),
        Figure::new("rejected_chunks", "rejected chunks", "", rejected).at_most(0.0).untimed(),
    ]
}

impl Figure {
    fn new(key: &'static str, label: &'static str, unit: &'static str, starling: Option<f64>) -> Self {
        Self { key, label, unit, starling, direct: None, raw_quic: None, target: None, pass: None, untimed: false }
    }

    fn direct(mut self, value: Option<f64>) -> Self {
        self.direct = value;
        self
    }

    fn raw_quic(mut self, value: Option<f64>) -> Self {
        self.raw_quic = value;
        self
    }

    fn at_least(self, bound: f64) -> Self {
        self.held_against(Target::AtLeast(bound))
    }

    fn at_most(self, bound: f64) -> Self {
        self.held_against(Target::AtMost(bound))
    }

    fn held_against(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.pass = Some(self.starling.is_some_and(|value| match target {
            Target::AtLeast(bound) => value >= bound,
            Target::AtMost(bound) => value <= bound,
        }));
        self
    }

    fn untimed(mut self) -> Self {
        self.untimed = true;
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} viewers, {} players at the origin, {:.1} Mbit/s, {} s segments, window {:.0} s, {} cores",
            self.workload,
            self.viewers,
            self.direct,
            self.bitrate_bps as f64 / 1e6,
            self.segment_seconds,
            self.window_seconds,
            self.cores
        )?;
        writeln!(f, "{:<32}{:>12}{:>12}{:>12}   target", "", "starling", "direct", "raw QUIC")?;
        self.figures.iter().try_for_each(|figure| write!(f, "{figure}"))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number =
            |value: Option<f64>, absent: &str| value.map_or(absent.to_owned(), |value| with_unit(value, self.unit));
        let (starling, direct, raw_quic) =
            (number(self.starling, "none"), number(self.direct, ""), number(self.raw_quic, ""));
        let line = format!("{:<32}{starling:>12}{direct:>12}{raw_quic:>12}", self.label);
        let Some(target) = self.target else { return writeln!(f, "{}", line.trim_end()) };
        let (sign, bound) = match target {
            Target::AtLeast(bound) => ('≥', bound),
            Target::AtMost(bound) => ('≤', bound),
        };
        let verdict = if self.pass == Some(true) { "pass" } else { "MISSED" };
        writeln!(f, "{line}   {sign} {}: {verdict}", with_unit(bound, self.unit))
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    let decimals = if unit == "s" || value.fract() != 0.0 { 2 } else { 0 };
    format!("{value:.decimals$} {unit}").trim_end().to_owned()
}

fn megabytes(bytes: u64) -> Option<f64> {
    Some(in_mega(bytes as f64))
}

fn in_mega(bytes: f64) -> f64 {
    bytes / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::W1;

    #[test]
    fn a_figure_that_could_not_be_had_misses_its_target() {
        let report = Report::new(W1, &Measured::default());
        let offload = &report.figures[0];
        assert_eq!(
            (offload.key, offload.pass, report.pass, report.untimed_pass()),
            ("offload", Some(false), false, false)
        );
        let lag = report.figures.iter().find(|figure| figure.key == "lag_p95").unwrap();
        assert_eq!(lag.pass, Some(false));
    }

    #[test]
    fn what_a_byte_more_costs_is_told_beside_bare_quic() {
        let report = |cpu: f64, raw: f64, moved: f64| {
            let mut report = Report::new(W1, &Measured { window_seconds: 100.0, ..Measured::default() });
            report.figures = vec![
                Figure::new("cpu", "", "", Some(cpu)).raw_quic(Some(raw)),
                Figure::new("moved", "", "", Some(moved)).raw_quic(Some(moved)),
            ];
            report.pass = true;
            report
        };
        let (slow, mut fast) = (report(2.0, 0.5, 25.0), report(3.0, 1.5, 125.0));
        fast.compare_cost(&slow);
        let cost = fast.figures.last().unwrap();
        // One percent of a core for a hundred seconds, for a hundred megabytes.
        assert!((cost.starling.unwrap() - 10.0).abs() < 1e-9 && (cost.raw_quic.unwrap() - 10.0).abs() < 1e-9);
        assert!(fast.pass);
        let mut dear = report(4.0, 1.5, 125.0);
        dear.compare_cost(&slow);
        assert!(!dear.pass, "twice the cost");
    }

    #[test]
    fn a_bound_is_included_and_shown() {
        let figure = Figure::new("lag_p95", "lag p95", "s", Some(7.5)).direct(Some(7.0)).at_most(7.5);
        assert_eq!(figure.pass, Some(true));
        let line = figure.to_string();
        assert!(line.contains("7.50 s") && line.contains("7.00 s") && line.ends_with("≤ 7.50 s: pass\n"), "{line}");
        let json = serde_json::to_value(&figure).unwrap();
        assert_eq!(json["target"]["at_most"], 7.5);
        assert!(json.get("raw_quic").is_none());
    }
}
