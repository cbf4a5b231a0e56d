//! One scenario's figures over several seeds, for people.

use std::fmt;

use serde_json::Value;

use super::report::Report;
use super::tally::confidence;

/// Reports of one scenario that differ by their seed.
#[derive(Clone, Debug)]
pub struct Table(pub Vec<Report>);

impl Table {
    fn cell(&self, unit: Unit, pick: impl Fn(&Report) -> f64) -> String {
        let values: Vec<f64> = self.0.iter().map(|report| pick(report) * unit.factor()).collect();
        let (mean, half) = confidence(&values);
        let digits = unit.digits();
        match half {
            Some(half) => format!("{mean:.digits$} ± {half:.digits$}{}", unit.name()),
            None => format!("{mean:.digits$}{}", unit.name()),
        }
    }

    /// The figures as an object: means over the seeds under their names, `confidence95` half the widths of their
    /// intervals, `runs` every single one.
    pub fn to_json(&self) -> Value {
        let runs: Vec<Value> = self.0.iter().filter_map(|report| serde_json::to_value(report).ok()).collect();
        let Some(Value::Object(mut figures)) = runs.first().cloned() else { return Value::Null };
        let mut halves = serde_json::Map::new();
        for (name, value) in figures.iter_mut().filter(|(name, _)| *name != "seed") {
            let values: Option<Vec<f64>> = runs.iter().map(|run| run[name].as_f64()).collect();
            let Some((mean, half)) = values.map(|values| confidence(&values)).filter(|_| runs.len() > 1) else {
                continue;
            };
            *value = mean.into();
            halves.extend(half.map(|half| (name.clone(), half.into())));
        }
        figures.insert("confidence95".into(), halves.into());
        figures.insert("runs".into(), runs.into());
        figures.into()
    }

    fn bound(&self, pick: fn(&Report) -> Option<f64>) -> String {
        let all: Option<Vec<f64>> = self.0.iter().map(pick).collect();
        all.map_or_else(|| "none at σ ≤ 1".into(), |all| format!("{:.2} s", all.iter().sum::<f64>() / all.len() as f64))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Unit::{Count, Number, Percent, Seconds};
        let Some(first) = self.0.first() else { return Ok(()) };
        let seeds = match self.0.len() {
            1 => format!("seed {}", first.seed),
            n => format!("seeds {}–{}, ± 95 %", first.seed, first.seed + n as u64 - 1),
        };
        let pair = |a: String, b: String| format!("{a} / {b}");
        writeln!(f, "{} · {} viewers · {seeds}", first.name, first.viewers)?;
        let rows = [
            ("offload", self.cell(Percent, |r| r.offload)),
            ("  of at most", self.cell(Percent, |r| r.offload_bound)),
            ("  σ", self.cell(Number, |r| r.sigma)),
            ("lag p50", self.cell(Seconds, |r| r.lag_p50_seconds)),
            ("lag p95", self.cell(Seconds, |r| r.lag_p95_seconds)),
            ("lag p99", self.cell(Seconds, |r| r.lag_p99_seconds)),
            ("diffusion p50", self.cell(Seconds, |r| r.diffusion_p50_seconds)),
            ("diffusion p99", self.cell(Seconds, |r| r.diffusion_p99_seconds)),
            ("  D99 / and burst", pair(self.bound(|r| r.d99_seconds), self.bound(|r| r.d99_burst_seconds))),
            ("startup p50", self.cell(Seconds, |r| r.startup_p50_seconds)),
            ("startup p95", self.cell(Seconds, |r| r.startup_p95_seconds)),
            ("never started", self.cell(Count, |r| r.never_started as f64)),
            ("stalls", self.cell(Count, |r| r.stalls as f64)),
            ("stalled time", self.cell(Percent, |r| r.stalled_ratio)),
            ("overhead", self.cell(Percent, |r| r.overhead_ratio)),
            ("  control", self.cell(Percent, |r| r.control_ratio)),
            ("  duplicates", self.cell(Percent, |r| r.duplicate_ratio)),
            ("  bad bytes", self.cell(Percent, |r| r.bad_ratio)),
            ("locality", self.cell(Percent, |r| r.locality)),
            ("Jain index of upload", self.cell(Number, |r| r.upload_jain)),
            ("depth", self.cell(Number, |r| r.depth_mean)),
            ("  high / low uplinks", {
                pair(self.cell(Number, |r| r.depth_by_uplink.0), self.cell(Number, |r| r.depth_by_uplink.1))
            }),
            ("origin, worst 5 s", self.cell(Percent, |r| r.origin_peak_ratio)),
            ("  joiners', worst 5 s", self.cell(Percent, |r| r.joiner_peak_ratio)),
            ("events", self.cell(Count, |r| r.events as f64)),
        ];
        let lines: Vec<String> = rows.iter().map(|(name, cell)| format!("  {name:<22}{cell}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Percent,
    Seconds,
    Number,
    Count,
}

impl Unit {
    fn factor(self) -> f64 {
        if matches!(self, Self::Percent) { 100.0 } else { 1.0 }
    }

    fn digits(self) -> usize {
        if matches!(self, Self::Count) { 0 } else { 2 }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Percent => " %",
            Self::Seconds => " s",
            Self::Number | Self::Count => "",
        }
    }
}
