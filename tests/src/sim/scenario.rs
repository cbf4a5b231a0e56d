//! What is simulated.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// One world. Everything random in it is drawn from `seed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// For the report.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// Viewers at a time; in a flash crowd: at its height.
    pub viewers: usize,
    /// Simulated seconds.
    pub seconds: u64,
    /// Viewers join evenly spread over this many seconds.
    pub join_seconds: f64,
    /// Measuring begins after this many seconds.
    pub warmup_seconds: f64,
    /// Stream rate, bits per second.
    pub bitrate_bps: f64,
    /// Segment duration, seconds; at most 12.
    pub segment_seconds: f64,
    /// In low latency: two chunks are a part, announced as it is made; players hold back 1.8 s instead of three segments.
    pub low_latency: bool,
    /// Regions viewers are spread over.
    pub regions: usize,
    /// How many of the regions lie on each continent; between continents it is an ocean.
    pub regions_per_continent: usize,
    /// All delays are multiplied by this; 0.1 is about what processes on one machine see of one another.
    pub delay_scale: f64,
    /// Mean uplink, bits per second, where `sigma` is absent.
    pub uplink_mean_bps: f64,
    /// Resource index: mean admitted uplink / stream rate if everybody uploads; the draws are scaled until it holds.
    pub sigma: Option<f64>,
    /// σ of the logarithm of the uplink; 0: all alike. Residential links: about 0.8–1.0 (research notes §1.2).
    pub uplink_sigma: f64,
    /// Downlink, bits per second.
    pub downlink_bps: f64,
    /// Share of viewers that leave and are replaced per minute: 35 % are zappers, the others stay longer (§7).
    pub churn_per_minute: f64,
    /// Share of those who leave that do so without a word.
    pub silent: f64,
    /// A crowd comes.
    pub flash: Option<Flash>,
    /// Many leave.
    pub exit: Option<Exit>,
    /// The continents can't reach one another for a while.
    pub partition: Option<Span>,
    /// When the hint server dies, seconds; absent: never.
    pub hints_die_at: Option<f64>,
    /// Whether the broadcaster's node serves chunks; otherwise first copies come from the origin.
    pub serves: bool,
    /// Loss of a packet, probability; what is lost comes later, sent again.
    pub loss: f64,
    /// Share of viewers that don't upload.
    pub free_riders: f64,
    /// Share of viewers that send other bytes than they received.
    pub polluters: f64,
    /// Shares of viewers behind each kind of NAT; what is left over is reachable by all.
    pub nat: Nat,
}

/// The audience grows tenfold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// From this moment on, seconds.
    pub at: f64,
    /// Within so many seconds, along a logistic curve (research notes §7).
    pub within: f64,
    /// How many times as many there are then.
    pub factor: f64,
}

/// Viewers leave together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// From this moment on, seconds.
    pub at: f64,
    /// What share of them.
    pub share: f64,
    /// Mean of their exponential delays, seconds (research notes §7: 75 s after the final whistle).
    pub mean: f64,
}

/// A while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// From, seconds.
    pub from: f64,
    /// Until, seconds.
    pub until: f64,
}

/// Kinds of NAT that make a difference to hole punching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nat {
    /// Filters by port: can't be reached by a symmetric one.
    pub restricted: f64,
    /// A port for each peer: can't be reached by its like nor by a port-restricted one.
    pub symmetric: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "steady".into(),
            seed: 1,
            viewers: 1000,
            seconds: 90,
            join_seconds: 20.0,
            warmup_seconds: 40.0,
            bitrate_bps: 1_100_000.0,
            segment_seconds: 2.0,
            low_latency: false,
            regions: 3,
            regions_per_continent: 3,
            delay_scale: 1.0,
            uplink_mean_bps: 12_000_000.0,
            sigma: None,
            uplink_sigma: 0.8,
            downlink_bps: 100e6,
            churn_per_minute: 0.0,
            silent: 0.5,
            flash: None,
            exit: None,
            partition: None,
            hints_die_at: None,
            serves: true,
            loss: 0.0,
            free_riders: 0.0,
            polluters: 0.0,
            nat: Nat::default(),
        }
    }
}

impl Scenario {
    /// The scenarios called `name`: a file of `tests/scenarios`, all of a group (`scarce`), or a path.
    ///
    /// # Errors
    /// If there is none, or a file isn't a sound scenario; says which there are.
    pub fn named(name: &str) -> anyhow::Result<Vec<Self>> {
        let path = Path::new(name);
        if path.extension().is_some_and(|e| e == "toml" || e == "json") {
            return Ok(vec![Self::load(path)?]);
        }
        let known = known()?;
        let of_group = |file: &&PathBuf| {
            let stem = stem(file);
            stem == name || stem.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).is_some_and(is_number)
        };
        let exact: Vec<&PathBuf> = known.iter().filter(|file| stem(file) == name).collect();
        let files = if exact.is_empty() { known.iter().filter(of_group).collect() } else { exact };
        let names: Vec<String> = known.iter().map(|file| stem(file)).collect();
        ensure!(!files.is_empty(), "no scenario is called {name}; there are {}", names.join(", "));
        files.into_iter().map(|file| Self::load(file)).collect()
    }

    /// Reads a file: TOML, or JSON if its name ends so.
    ///
    /// # Errors
    /// If it can't be read or isn't a sound scenario.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let wrong = || format!("{} is not a scenario", path.display());
        let mut scenario: Self = match path.extension().is_some_and(|e| e == "json") {
            true => serde_json::from_str(&text).with_context(wrong)?,
            false => toml::from_str(&text).with_context(wrong)?,
        };
        if scenario.name == Self::default().name {
            scenario.name = stem(path);
        }
        scenario.check().with_context(wrong)?;
        Ok(scenario)
    }

    /// Whether it can be simulated.
    ///
    /// # Errors
    /// Says what is out of range.
    pub fn check(&self) -> anyhow::Result<()> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        ensure!(
            self.segment_seconds > 0.0 && self.segment_seconds <= 12.0,
            "segment_seconds must be above 0, at most 12"
        );
        ensure!(self.bitrate_bps > 0.0, "bitrate_bps must be above 0");
        ensure!(self.sigma.is_none_or(|sigma| sigma > 0.0), "sigma must be above 0");
        ensure!(share(self.silent) && share(self.loss), "silent and loss are shares, 0 to 1");
        ensure!(share(self.free_riders) && share(self.polluters), "free_riders and polluters are shares, 0 to 1");
        ensure!(share(self.nat.restricted + self.nat.symmetric), "nat holds shares, 0 to 1 together");
        ensure!(self.flash.is_none_or(|f| f.factor >= 1.0 && f.within > 0.0), "flash: factor ≥ 1, within > 0");
        ensure!((self.warmup_seconds as u64) < self.seconds, "warmup_seconds must be below seconds");
        Ok(())
    }
}

/// The files of `tests/scenarios`, by name.
///
/// # Errors
/// If the folder can't be read.
pub fn known() -> anyhow::Result<Vec<PathBuf>> {
    let folder = std::env::var_os("STARLING_SCENARIOS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"), PathBuf::from);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}
