//! Scenario files, `tests/lab/*.toml`: what network, who is in it, what happens.
//!
//! Every field has a default but `name`'s, which is the file's; unknown fields are errors. Times are in seconds, rates
//! in bits per second.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{link::Loss, nat::NatClass};

/// One scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Of the file, without its ending.
    #[serde(skip)]
    pub name: String,
    /// Viewers at a time.
    pub viewers: usize,
    /// How long to measure.
    pub seconds: u64,
    /// Everything drawn by lot follows from this.
    pub seed: u64,
    /// As many players straight at the origin beside, on links like the viewers'.
    pub direct: bool,
    /// Viewers join evenly spread over this time.
    pub join_seconds: f64,
    /// After everybody plays, before measuring begins.
    pub settle_seconds: f64,
    /// What is broadcast.
    pub stream: Stream,
    /// Distances.
    pub paths: Distances,
    /// Viewers' links.
    pub links: Links,
    /// The broadcaster's and the hint server's link.
    pub servers: Servers,
    /// Coming and going.
    pub churn: Churn,
    /// What happens while it is measured.
    pub events: Vec<Event>,
    /// Traffic of one viewer's household.
    pub household: Option<Household>,
    /// What must be reached; a miss is exit code 1.
    pub targets: Targets,
}

/// See [`Scenario::stream`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// Rate of the test picture.
    pub bitrate: u64,
    /// Length of its segments.
    pub segment_seconds: u32,
    /// More arguments for `starling broadcast`.
    pub broadcaster_args: Vec<String>,
    /// More arguments for every `starling watch`.
    pub viewer_args: Vec<String>,
    /// More arguments for every `starling probe`.
    pub player_args: Vec<String>,
}

/// See [`Scenario::paths`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distances {
    /// Viewers are dealt out to these in turn.
    pub regions: Vec<String>,
    /// Round trip between each two, access not counted, milliseconds; row by row.
    pub rtt_ms: Vec<Vec<f64>>,
    /// A delay grows by up to this share of it, by lot.
    pub jitter: f64,
    /// On every path, one way.
    pub loss: Loss,
}

/// See [`Scenario::links`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Uplinks.
    pub up: Uplinks,
    /// Downlinks.
    pub down: f64,
    /// The longest wait in the queue before the uplink, and before the downlink, milliseconds.
    pub queue_ms: [f64; 2],
    /// One-way delay of the access, milliseconds: least and most.
    pub access_ms: [f64; 2],
    /// Shares of the viewers behind each class of NAT; the rest is behind none.
    pub nat: Vec<NatShare>,
}

/// Lognormal uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplinks {
    /// Their mean, before `index` is applied.
    pub mean: f64,
    /// σ of their logarithm; 0: all alike.
    #[serde(default)]
    pub sigma: f64,
    /// All are scaled so that this many times the stream's rate may be uploaded on average, by 85 % of each link
    /// (DESIGN §4.7): the resource index.
    pub index: Option<f64>,
}

/// See [`Links::nat`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatShare {
    /// Which.
    pub class: NatClass,
    /// 0 to 1.
    pub share: f64,
}

/// See [`Scenario::servers`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Servers {
    /// Where they are: a name among [`Distances::regions`]; the first if empty.
    pub region: String,
    /// Both ways, each.
    pub rate: f64,
}

/// See [`Scenario::churn`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// Share of the viewers that leave and are replaced, each minute.
    pub per_minute: f64,
    /// Of those, the share that goes without a word (SIGKILL).
    pub killed: f64,
}

/// Something that happens `at` seconds into the measurement: one of the other fields.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Event {
    /// When.
    pub at: f64,
    /// Groups that don't reach one another, of regions, `broadcaster` and `hint-server`; who is in none reaches all.
    pub partition: Option<Vec<Vec<String>>>,
    /// Ends the partition.
    pub heal: Option<bool>,
    /// Kills this viewer (SIGKILL), counted from 0; nobody replaces it.
    pub kill: Option<usize>,
    /// Kills this share of the viewers.
    pub kill_share: Option<f64>,
    /// `down` kills the hint server, `up` starts it again.
    pub hint_server: Option<UpDown>,
    /// Loss on every path from now on.
    pub loss: Option<Loss>,
    /// Churn from now on, as [`Churn::per_minute`].
    pub churn_per_minute: Option<f64>,
}

/// An upload over TCP beside a viewer, and one on an idle link of the same kind to compare it with.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Household {
    /// Whose household, counted from 0.
    pub viewer: usize,
    /// Its uplink, whatever was drawn.
    pub up: f64,
    /// How long into the measurement the upload begins.
    pub at: f64,
    /// And how long it lasts.
    pub seconds: f64,
    /// The kernel's congestion control it uses.
    #[serde(default = "cubic")]
    pub congestion: String,
}

/// What most computers and phones at home use.
fn cubic() -> String {
    "cubic".into()
}

/// See [`Event::hint_server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpDown {
    /// Runs.
    Up,
    /// Is dead.
    Down,
}

/// See [`Scenario::targets`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    /// Least [`offload`](super::report::Report::offload).
    pub offload_min: Option<f64>,
    /// Most lag, p95, seconds.
    pub lag_p95_max: Option<f64>,
    /// Longest start, p95, seconds.
    pub startup_p95_max: Option<f64>,
    /// Most of the time stalled, 0 to 1.
    pub stalled_ratio_max: Option<f64>,
    /// Least [`household_ratio`](super::household::Figures::household_ratio).
    pub household_ratio_min: Option<f64>,
}

impl Scenario {
    /// Reads a scenario by the name of a file in `tests/lab/`, or by path.
    ///
    /// # Errors
    /// If there is none, or something in it is wrong; says what.
    pub fn find(name: &str) -> Result<Self> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
        let path = [PathBuf::from(name), shipped.join(format!("{name}.toml"))].into_iter().find(|path| path.is_file());
        let Some(path) = path else { bail!("there is no scenario {name:?}; there are {}", names(&shipped)) };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut scenario: Self = toml::from_str(&text).with_context(|| format!("{} is no scenario", path.display()))?;
        scenario.name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        scenario.check().with_context(|| path.display().to_string())?;
        Ok(scenario)
    }

    /// Where the servers are.
    pub fn servers_region(&self) -> usize {
        self.paths.regions.iter().position(|region| *region == self.servers.region).unwrap_or(0)
    }

    /// Checks what the types don't.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn check(&self) -> Result<()> {
        let regions = self.paths.regions.len();
        ensure!((1..=200).contains(&self.viewers), "viewers must be 1 to 200, not {}", self.viewers);
        ensure!((1..=86_400).contains(&self.seconds), "seconds must be 1 to 86400, not {}", self.seconds);
        ensure!((0.0..=3600.0).contains(&self.join_seconds), "join_seconds must be 0 to 3600");
        ensure!((0.0..=3600.0).contains(&self.settle_seconds), "settle_seconds must be 0 to 3600");
        ensure!(regions > 0, "there must be a region");
        let square = self.paths.rtt_ms.len() == regions && self.paths.rtt_ms.iter().all(|row| row.len() == regions);
        ensure!(square, "rtt_ms must have a row and a column for each of the {regions} regions");
        let delays = self.paths.rtt_ms.iter().flatten().chain(&self.links.access_ms);
        ensure!(delays.into_iter().all(|ms| (0.0..=10_000.0).contains(ms)), "delays must be 0 to 10000 ms");
        ensure!(self.links.queue_ms.iter().all(|ms| (0.0..=10_000.0).contains(ms)), "queue_ms must be 0 to 10000");
        ensure!(self.links.access_ms[0] <= self.links.access_ms[1], "access_ms is least and most, in this order");
        ensure!((0.0..=10.0).contains(&self.paths.jitter), "jitter is a share of the delay, 0 to 10");
        let rates = [self.links.up.mean, self.links.down, self.servers.rate];
        ensure!(rates.iter().all(|rate| (1e4..=1e11).contains(rate)), "links must have 10 kbit/s to 100 Gbit/s");
        ensure!((0.0..=4.0).contains(&self.links.up.sigma), "sigma must be 0 to 4");
        ensure!(self.links.up.index.is_none_or(|index| (0.01..=100.0).contains(&index)), "index must be 0.01 to 100");
        let nat: f64 = self.links.nat.iter().map(|nat| nat.share).sum();
        ensure!(
            self.links.nat.iter().all(|nat| nat.share >= 0.0) && nat <= 1.0 + 1e-9,
            "NAT shares must add up to at most 1"
        );
        let known = |region: &String| self.paths.regions.contains(region);
        ensure!(
            self.servers.region.is_empty() || known(&self.servers.region),
            "no region is called {:?}",
            self.servers.region
        );
        let churn = [self.churn.per_minute / 60.0, self.churn.killed];
        ensure!(
            churn.iter().all(|share| (0.0..=1.0).contains(share)),
            "churn: per_minute must be 0 to 60, killed 0 to 1"
        );
        self.paths.loss.check().map_err(anyhow::Error::msg)?;
        self.household.iter().try_for_each(|household| self.check_household(household))?;
        self.events
            .iter()
            .try_for_each(|event| self.check_event(event).with_context(|| format!("the event at {}", event.at)))
    }

    fn check_household(&self, household: &Household) -> Result<()> {
        let Household { viewer, up, at, seconds, .. } = household;
        ensure!(*viewer < self.viewers, "household: there is no such viewer; the first is 0");
        ensure!((1e4..=1e11).contains(up), "household: its uplink must have 10 kbit/s to 100 Gbit/s");
        ensure!(
            *at >= 0.0 && *seconds >= 3.0,
            "household: the upload lasts at least 3 s, and begins in the measurement"
        );
        ensure!(at + seconds <= self.seconds as f64, "household: the upload lasts longer than the measurement");
        ensure!(self.churn.per_minute == 0.0, "household: its viewer must stay, so there can't be churn");
        Ok(())
    }

    fn check_event(&self, event: &Event) -> Result<()> {
        let fields = [
            event.partition.is_some(),
            event.heal.is_some(),
            event.kill.is_some(),
            event.kill_share.is_some(),
            event.hint_server.is_some(),
            event.loss.is_some(),
            event.churn_per_minute.is_some(),
        ];
        ensure!(fields.into_iter().filter(|given| *given).count() == 1, "one thing must happen, not none or several");
        ensure!(event.at >= 0.0 && event.at.is_finite(), "`at` counts from the begin of the measurement");
        ensure!(event.kill.is_none_or(|viewer| viewer < self.viewers), "there is no such viewer; the first is 0");
        ensure!(event.kill_share.is_none_or(|share| (0.0..=1.0).contains(&share)), "kill_share must be 0 to 1");
        ensure!(event.churn_per_minute.is_none_or(|share| (0.0..=60.0).contains(&share)), "churn must be 0 to 60");
        event.loss.unwrap_or_default().check().map_err(anyhow::Error::msg)?;
        for member in event.partition.iter().flatten().flatten() {
            let known =
                self.paths.regions.contains(member) || ["broadcaster", "hint-server"].contains(&member.as_str());
            ensure!(known, "{member:?} is no region, nor `broadcaster` or `hint-server`");
        }
        Ok(())
    }
}

fn names(directory: &Path) -> String {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names.join(", ")
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            viewers: 10,
            seconds: 60,
            seed: 1,
            direct: false,
            join_seconds: 10.0,
            settle_seconds: 10.0,
            stream: Stream::default(),
            paths: Distances::default(),
            links: Links::default(),
            servers: Servers::default(),
            churn: Churn::default(),
            events: Vec::new(),
            household: None,
            targets: Targets::default(),
        }
    }
}

impl Default for Stream {
    fn default() -> Self {
        let (broadcaster_args, viewer_args, player_args) = Default::default();
        Self { bitrate: 1_100_000, segment_seconds: 2, broadcaster_args, viewer_args, player_args }
    }
}

impl Default for Distances {
    fn default() -> Self {
        Self { regions: vec!["here".into()], rtt_ms: vec![vec![20.0]], jitter: 0.0, loss: Loss::None }
    }
}

impl Default for Links {
    fn default() -> Self {
        let up = Uplinks { mean: 20e6, sigma: 0.0, index: None };
        Self { up, down: 100e6, queue_ms: [100.0, 100.0], access_ms: [0.0, 0.0], nat: Vec::new() }
    }
}

impl Default for Servers {
    fn default() -> Self {
        Self { region: String::new(), rate: 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_sound() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
        let names = names(&directory);
        assert!(names.contains("home-hls"), "{names}");
        for name in names.split(", ") {
            let scenario = Scenario::find(name).unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(scenario.name, name);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let told = |text: &str| match toml::from_str::<Scenario>(text) {
            Ok(scenario) => scenario.check().map_or_else(|error| format!("{error:#}"), |()| "sound".into()),
            Err(error) => error.to_string(),
        };
        assert_eq!(told("viewers = 3"), "sound");
        assert!(told("viewrs = 3").contains("viewrs"));
        assert!(told("viewers = 0").contains("1 to 200"));
        assert!(told("paths = { regions = ['a', 'b'] }").contains("row and a column"));
        assert!(told("paths = { loss = { random = 2.0 } }").contains("probabilities"));
        assert!(told("events = [{ at = 1 }]").contains("one thing"));
        assert!(told("events = [{ at = 1, heal = true, kill = 0 }]").contains("one thing"));
        assert!(told("events = [{ at = 1, partition = [['nowhere']] }]").contains("nowhere"));
        assert!(told("household = { viewer = 0, up = 6e6, at = 50, seconds = 20 }").contains("longer than"));
        assert_eq!(told("events = [{ at = 1, loss = { bursts = { begin = 0.01, end = 0.2, loss = 0.5 } } }]"), "sound");
        assert!(Scenario::find("no-such").is_err_and(|error| error.to_string().contains("quiet")));
    }
}
