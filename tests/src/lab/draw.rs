//! What is drawn by lot before a run begins: who has which link, and what happens when. Same seed, same run.

use std::time::Duration;

use starling_proto::Rng;

use super::{
    link::Loss,
    nat::NatClass,
    router::{Attachment, Paths},
    scenario::{Event, Scenario, UpDown},
};

/// Something to do, and when: seconds into the measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When.
    pub at: f64,
    /// What.
    pub what: What,
}

/// See [`Step::what`].
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Somebody takes this seat.
    Join(usize),
    /// A viewer leaves its seat to another on the same link.
    Replace {
        /// Which, counted from 0.
        seat: usize,
        /// Without a word.
        killed: bool,
    },
    /// A viewer is killed and its seat stays empty.
    Kill(usize),
    /// Groups of regions and servers don't reach one another.
    Partition(Vec<Vec<String>>),
    /// Everybody reaches everybody.
    Heal,
    /// The hint server dies or comes back.
    HintServer(UpDown),
    /// Loss on every path.
    Loss(Loss),
    /// The household's upload begins, as the scenario says.
    Upload,
    /// And is over.
    UploadOver,
}

/// Share of an uplink that may be used for others (DESIGN §4.7); `index` counts with it.
pub(super) const ADMITTED: f64 = 0.85;
/// No link is slower or faster.
const UPLINKS: [f64; 2] = [64e3, 10e9];
/// A queue takes at least this: some packets fit before any link.
const QUEUE_BYTES_MIN: f64 = 8.0 * 1500.0;
const MINUTE: f64 = 60.0;

/// Different draws from one seed must not depend on one another.
#[derive(Clone, Copy)]
enum Lot {
    Links = 1,
    Nat,
    Access,
    Churn,
    Kills,
}

impl Lot {
    fn rng(self, seed: u64) -> Rng {
        Rng::new(seed ^ ((self as u64) << 56))
    }
}

/// A link for each seat.
pub fn attachments(scenario: &Scenario) -> Vec<Attachment> {
    let links = &scenario.links;
    let uplinks = uplinks(scenario);
    let classes = nat_classes(scenario);
    let mut access = Lot::Access.rng(scenario.seed);
    let seats = uplinks.into_iter().zip(classes).enumerate();
    seats
        .map(|(seat, (up_bps, nat))| {
            let [least, most] = links.access_ms;
            let access = least + (most - least) * access.unit();
            let queue = |rate: f64, ms: f64| (rate / 8.0 * ms / 1000.0).max(QUEUE_BYTES_MIN) as usize;
            Attachment {
                region: seat % scenario.paths.regions.len(),
                access: Duration::from_secs_f64(access / 1000.0),
                up_bps,
                down_bps: links.down,
                queue_bytes: [queue(up_bps, links.queue_ms[0]), queue(links.down, links.queue_ms[1])],
                loss: scenario.paths.loss,
                nat,
            }
        })
        .collect()
}

/// The link of the broadcaster and of the hint server.
pub fn server_attachment(scenario: &Scenario) -> Attachment {
    let rate = scenario.servers.rate;
    // A tenth of a second at the rate: no data centre's port has less.
    let queue = (rate / 80.0) as usize;
    Attachment {
        region: scenario.servers_region(),
        access: Duration::ZERO,
        up_bps: rate,
        down_bps: rate,
        queue_bytes: [queue, queue],
        loss: scenario.paths.loss,
        nat: NatClass::None,
    }
}

/// The delays of the paths: half a round trip.
pub fn paths(scenario: &Scenario) -> Paths {
    let row = |row: &Vec<f64>| row.iter().map(|ms| Duration::from_secs_f64(ms / 2000.0)).collect();
    Paths { delay: scenario.paths.rtt_ms.iter().map(row).collect(), jitter: scenario.paths.jitter }
}

/// When the seats are taken first.
pub fn joins(scenario: &Scenario) -> Vec<Step> {
    let apart = scenario.join_seconds / scenario.viewers as f64;
    (0..scenario.viewers).map(|seat| Step { at: apart * seat as f64, what: What::Join(seat) }).collect()
}

/// Everything that will happen, in order: the scenario's events, and churn.
pub fn steps(scenario: &Scenario) -> Vec<Step> {
    let mut kills = Lot::Kills.rng(scenario.seed);
    let mut steps: Vec<Step> =
        scenario.events.iter().flat_map(|event| of_event(event, scenario.viewers, &mut kills)).collect();
    steps.extend(churn(scenario));
    if let Some(household) = &scenario.household {
        steps.push(Step { at: household.at, what: What::Upload });
        steps.push(Step { at: household.at + household.seconds, what: What::UploadOver });
    }
    steps.sort_by(|one, other| one.at.total_cmp(&other.at));
    steps
}

fn uplinks(scenario: &Scenario) -> Vec<f64> {
    let up = scenario.links.up;
    let mut rng = Lot::Links.rng(scenario.seed);
    // The mean of exp(μ + σ·normal) is exp(μ + σ²/2).
    let mu = up.mean.ln() - up.sigma * up.sigma / 2.0;
    let drawn: Vec<f64> = (0..scenario.viewers).map(|_| (mu + up.sigma * rng.normal()).exp()).collect();
    let mean = drawn.iter().sum::<f64>() / drawn.len().max(1) as f64;
    let wanted = up.index.map(|index| index * scenario.stream.bitrate as f64 / ADMITTED);
    let scale = wanted.map_or(1.0, |wanted| wanted / mean);
    let mut rates: Vec<f64> = drawn.into_iter().map(|rate| (rate * scale).clamp(UPLINKS[0], UPLINKS[1])).collect();
    if let Some(household) = &scenario.household {
        rates[household.viewer] = household.up;
    }
    rates
}

/// As many of each class as its share says, dealt out by lot.
fn nat_classes(scenario: &Scenario) -> Vec<NatClass> {
    let seats = scenario.viewers;
    let mut classes = Vec::new();
    let mut share = 0.0;
    for nat in &scenario.links.nat {
        share += nat.share;
        classes.resize(((share * seats as f64).round() as usize).min(seats), nat.class);
    }
    classes.resize(seats, NatClass::None);
    Lot::Nat.rng(scenario.seed).shuffle(&mut classes);
    classes
}

fn of_event(event: &Event, viewers: usize, rng: &mut Rng) -> Vec<Step> {
    let step = |what| Step { at: event.at, what };
    if let Some(share) = event.kill_share {
        let mut seats: Vec<usize> = (0..viewers).collect();
        rng.shuffle(&mut seats);
        let killed = (share * viewers as f64).round() as usize;
        return seats.into_iter().take(killed).map(|seat| step(What::Kill(seat))).collect();
    }
    let partition = event.partition.clone().map(What::Partition);
    let heal = event.heal.filter(|heal| *heal).map(|_| What::Heal);
    let happens = partition.or(heal).or(event.kill.map(What::Kill)).or(event.hint_server.map(What::HintServer));
    happens.or(event.loss.map(What::Loss)).map(step).into_iter().collect()
}

/// A Poisson process: every viewer is as likely to go next as any other, whatever happened before.
fn churn(scenario: &Scenario) -> Vec<Step> {
    let mut rng = Lot::Churn.rng(scenario.seed);
    let changes = scenario.events.iter().filter_map(|event| Some((event.at, event.churn_per_minute?)));
    let mut rates: Vec<(f64, f64)> = std::iter::once((0.0, scenario.churn.per_minute)).chain(changes).collect();
    rates.sort_by(|one, other| one.0.total_cmp(&other.0));
    let ends = rates.iter().skip(1).map(|(from, _)| *from).chain([scenario.seconds as f64]).collect::<Vec<_>>();
    let mut steps = Vec::new();
    for ((from, per_minute), until) in rates.into_iter().zip(ends) {
        let mean = MINUTE / (per_minute * scenario.viewers as f64);
        let mut at = from;
        while mean.is_finite() {
            at += rng.exponential(mean);
            if at >= until {
                break;
            }
            let (seat, killed) = (rng.below(scenario.viewers), rng.unit() < scenario.churn.killed);
            steps.push(Step { at, what: What::Replace { seat, killed } });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::scenario::{Churn, Household, Links, NatShare, Uplinks};

    fn home() -> Scenario {
        let up = Uplinks { mean: 3e6, sigma: 0.8, index: Some(1.65) };
        let nat = vec![NatShare { class: NatClass::Symmetric, share: 0.25 }];
        Scenario {
            viewers: 40,
            seconds: 600,
            links: Links { up, nat, ..Links::default() },
            churn: Churn { per_minute: 0.15, killed: 0.5 },
            ..Scenario::default()
        }
    }

    #[test]
    fn same_seed_same_run() {
        let other = Scenario { seed: 2, ..home() };
        assert_eq!(attachments(&home()), attachments(&home()));
        assert_eq!(steps(&home()), steps(&home()));
        assert_ne!(attachments(&home()), attachments(&other));
        assert_ne!(steps(&home()), steps(&other));
    }

    #[test]
    fn links_are_as_scarce_as_asked() {
        let seats = attachments(&home());
        let mean = seats.iter().map(|seat| seat.up_bps).sum::<f64>() / 40.0;
        assert!((mean * ADMITTED / 1.1e6 - 1.65).abs() < 0.01, "{mean}");
        let (least, most) = seats
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), seat| (least.min(seat.up_bps), most.max(seat.up_bps)));
        assert!(most / least > 5.0, "{least} to {most}");
        assert_eq!(seats.iter().filter(|seat| seat.nat == NatClass::Symmetric).count(), 10);
    }

    #[test]
    fn churn_comes_at_its_rate_and_changes_with_events() {
        // 40 viewers × 0.15 a minute × 10 minutes: 60 expected.
        let steps = steps(&home());
        assert!((35..=85).contains(&steps.len()), "{}", steps.len());
        let killed = steps.iter().filter(|step| matches!(step.what, What::Replace { killed: true, .. })).count();
        assert!((15..=60).contains(&killed), "{killed}");
        let event = |at, churn| Event { at, churn_per_minute: Some(churn), ..Event::default() };
        let changed = Scenario { events: vec![event(100.0, 0.0), event(500.0, 1.0)], ..home() };
        let steps = super::steps(&changed);
        assert!(!steps.iter().any(|step| (100.0..500.0).contains(&step.at)));
        assert!(steps.iter().filter(|step| step.at >= 500.0).count() > 30);
    }

    #[test]
    fn a_household_has_its_uplink_and_its_upload_a_begin_and_an_end() {
        let household = Household { viewer: 3, up: 6e6, at: 10.0, seconds: 20.0, congestion: "cubic".into() };
        let scenario = Scenario { churn: Churn::default(), household: Some(household), ..home() };
        assert_eq!(attachments(&scenario)[3].up_bps, 6e6);
        let expected = [Step { at: 10.0, what: What::Upload }, Step { at: 30.0, what: What::UploadOver }];
        assert_eq!(steps(&scenario), expected);
    }

    #[test]
    fn events_become_steps_in_order() {
        let kill = Event { at: 20.0, kill_share: Some(0.1), ..Event::default() };
        let heal = Event { at: 10.0, heal: Some(true), ..Event::default() };
        let scenario = Scenario { churn: Churn::default(), events: vec![kill, heal], ..home() };
        let steps = steps(&scenario);
        assert_eq!(steps[0], Step { at: 10.0, what: What::Heal });
        assert_eq!(steps.len(), 5);
        assert!(steps[1..].iter().all(|step| matches!(step.what, What::Kill(_))));
    }
}
