//! How quick everything about a track has to be: by segments, or in low latency by parts.

use std::time::Duration;

use crate::config::Config;
use crate::wire::Rendition;

/// Waits and limits of one track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From announcement to the moment the chunks must be here.
    pub(crate) due: Duration,
    /// From the moment a player first wants what was announced before we joined to the moment it must be here: a player that
    /// begins has one segment, or a few parts, and needs what follows when that is played.
    pub(crate) catch_up: Duration,
    /// With a parent whose chunk was announced but did not come.
    pub(crate) patience: Patience,
    /// What its root has not brought so long after the announcement makes a child of it doubt the root, seconds.
    pub(crate) root_silent_after: f64,
    /// Without news for so long a newcomer asks for it: where statements ride with chunks, who isn't fed hears of nothing.
    pub(crate) silent_after: Option<Duration>,
    /// A path nothing came by for this long is none, or in low latency after a few chunks, whichever is later.
    pub(crate) path_expiry_min: Duration,
    /// A neighbour that tells no lag in a substream may have what was announced this long ago; if there is none it has no more than it
    /// says: who comes with many others asks nearly all of them in vain (tests/ABLATIONS.md).
    pub(crate) held_after: Option<Duration>,
    /// A neighbour that did not have a chunk is asked again after this: it may have got it meanwhile.
    pub(crate) retry_unknown: Duration,
    /// A repair that takes longer is asked of somebody else too.
    pub(crate) answer_within: Duration,
    /// How long the second in the order of seeds waits for the first.
    pub(crate) backup_wait: Duration,
    /// A fetch from the origin is begun this many times its usual duration before the chunks are due, and `origin_margin`.
    pub(crate) origin_factor: f64,
    /// See above.
    pub(crate) origin_margin: Duration,
    /// Who has children, and got so much of a substream in a row otherwise than by a parent, asks the origin at once.
    /// Low latency has none: there it brought `home` duplicates, and stalls where uplinks are scarce (tests/ABLATIONS.md).
    pub(crate) cut_off_after: Option<Duration>,
    /// Who is asked for a place when its slots are taken gives one more, if its link is known and it then promises no more than this
    /// share of what it sends at: slots are whole substreams, and half of one lies idle on average. Low latency gives none
    /// (tests/ABLATIONS.md).
    pub(crate) uplink_share_max: f64,
    /// What waits for the uplink goes first to who has the most below it, not simply to the strongest. Low latency does without: the
    /// simulator is better with it, the lab isn't (tests/ABLATIONS.md).
    pub(crate) highest_first: bool,
    /// What a distance class costs, in seconds: a far parent is taken only if a near one is much later.
    pub(crate) distance: [f64; 4],
    /// A candidate must be this much cheaper (in seconds) to replace a working parent: hysteresis.
    pub(crate) improvement_min: f64,
    /// How often a better parent is looked for, and not sooner after the last change: who has just come gets the worst places,
    /// and has to rise from them (measured, see tests/ABLATIONS.md; research notes §3.4: 5 s).
    pub(crate) improve_every: Duration,
}

/// How long a parent is waited for, seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// On top of that for each hop below a root's children: where a tree is cut off all below would ask for the same chunk
    /// at once, which comes down to them when the uppermost has it (measured, see tests/ABLATIONS.md).
    pub(crate) a_hop: f64,
}

/// A path nothing came by for this long is none. Above the longest usual segment duration.
pub(crate) const PATH_EXPIRY: Duration = Duration::from_secs(12);
/// Patience with a parent, but for hops, never exceeds this share of the target duration: there must be time left for the
/// repair, and less asks for half of all chunks while they are on their way (tests/ABLATIONS.md).
const PATIENCE_SHARE_MAX: f64 = 1.0;
/// A root has its chunks first: those it feeds wait less for it than others for their parents, as a share of the target
/// duration (a guess).
const ROOT_SILENT_SHARE: f64 = 0.6;
/// Segments from before we joined must be whole after this share of their duration, once a player wants them, times
/// `Config::deadline_share`.
const CATCH_UP_SHARE: f64 = 0.55;
/// When the second in the order of seeds stops waiting for the first, as a share of the target duration.
const BACKUP_SHARE: f64 = 0.5;

impl Pace {
    pub(crate) fn of(rendition: &Rendition, config: &Config) -> Self {
        let target = Duration::from_secs(u64::from(rendition.target_duration));
        match rendition.part_target_us {
            None => Self::segments(target, config),
            Some(part_us) => Self::parts(Duration::from_micros(u64::from(part_us)), config),
        }
    }

    fn segments(target: Duration, config: &Config) -> Self {
        Self {
            due: target.mul_f64(config.deadline_share).max(Duration::from_millis(500)),
            catch_up: target.mul_f64(CATCH_UP_SHARE * config.deadline_share),
            patience: Patience {
                min: config.repair_patience.as_secs_f64(),
                max: target.as_secs_f64() * PATIENCE_SHARE_MAX,
                a_hop: target.as_secs_f64() * 0.025,
            },
            root_silent_after: target.as_secs_f64() * ROOT_SILENT_SHARE,
            silent_after: None,
            path_expiry_min: PATH_EXPIRY,
            held_after: None,
            retry_unknown: Duration::from_millis(350),
            answer_within: Duration::from_millis(1200),
            backup_wait: target.mul_f64(BACKUP_SHARE),
            origin_factor: 1.25,
            origin_margin: Duration::from_millis(150),
            cut_off_after: Some(Duration::from_secs(7)),
            uplink_share_max: 0.93,
            highest_first: true,
            distance: [0.0, 0.0, 0.4, 0.8],
            improvement_min: 0.3,
            improve_every: Duration::from_secs(4),
        }
    }

    /// Shares of the time there is; the shares are guesses. A part is announced by a chunk that got here, so patience need
    /// not cover how long it takes down a tree, only that substreams differ in it.
    fn parts(part: Duration, config: &Config) -> Self {
        let due = config.part_due;
        Self {
            due,
            catch_up: due.mul_f64(0.5),
            patience: Patience {
                min: due.as_secs_f64() * 0.35,
                max: due.as_secs_f64() * 0.65,
                a_hop: due.as_secs_f64() * 0.015,
            },
            root_silent_after: due.as_secs_f64() * 0.5,
            path_expiry_min: Duration::from_secs(3),
            silent_after: Some(due.mul_f64(0.3).max(part.mul_f64(1.5))),
            held_after: Some(due.mul_f64(0.2)),
            retry_unknown: due.mul_f64(0.12),
            answer_within: due.mul_f64(0.45),
            backup_wait: due.mul_f64(0.3),
            origin_factor: 1.25,
            origin_margin: Duration::from_millis(80),
            cut_off_after: None,
            uplink_share_max: 0.0,
            highest_first: false,
            distance: [0.0, 0.0, 0.1, 0.2],
            improvement_min: 0.15,
            improve_every: Duration::from_secs(1),
        }
    }
}
