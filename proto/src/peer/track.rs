//! One rendition as a peer follows it.

use std::time::Duration;

use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, RequestId, SegmentNumber};
use crate::time::{Time, WallTime};
use crate::wire::{Feedback, Rendition, TrackStatus};

use super::pace::{PATH_EXPIRY, Pace, Patience};
use super::window::Window;

/// State of one followed rendition.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) rendition: RenditionId,
    pub(crate) epoch: Epoch,
    pub(crate) pace: Pace,
    pub(crate) window: Window,
    pub(crate) substreams: Vec<Substream>,
    /// When we began to follow it, by the broadcaster's clock: what was announced earlier is fetched only if a player wants it.
    pub(crate) joined: WallTime,
    /// As [`Self::joined`].
    pub(crate) begun: Time,
    /// We began so lately that what we need ourselves isn't here yet: nobody is fed.
    pub(crate) is_leaf: bool,
    /// Pull-ahead begins here; `None` until something was announced.
    pub(crate) from: Option<ChunkNumber>,
    /// Chunks that arrived before their statement, the oldest first.
    pub(crate) unchecked: Vec<Unchecked>,
    /// What was asked for by repair without success lately.
    pub(crate) in_vain: Vec<InVain>,
    /// When to ask for the window of announcements (again).
    pub(crate) window_at: Time,
    /// How often to ask still for announcements that were missed.
    pub(crate) hole_asks: u8,
    /// When something was last announced, and how often somebody was asked since for what is new.
    news: (Time, u8),
    /// A fetch from the origin failed: no other that isn't late before then.
    pub(crate) origin_retry: Time,
    /// When to look for repairs again.
    pub(crate) repair_at: Time,
    /// See [`Self::rate_bps`], with first chunk, end and number of the segments it is of.
    rate: ((ChunkNumber, ChunkNumber, usize), Option<f64>),
}

/// How we get one substream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Substream {
    pub(crate) parent: Option<PeerId>,
    /// Since when.
    pub(crate) since: Time,
    /// Is asked for the next chunk instead of the parent, and takes its place when it brings it.
    pub(crate) trial: Option<PeerId>,
    /// The parent will soon refuse us.
    pub(crate) noticed: bool,
    /// The parent is a root, and brought nothing for too long.
    pub(crate) root_silent: bool,
    /// Trials that failed since a chunk came.
    pub(crate) failed_trials: u8,
    pub(crate) in_flight: Option<Ahead>,
    /// Pull-ahead has passed everything below; what it skipped is repair's.
    pub(crate) cursor: ChunkNumber,
    /// Sender and its ancestors as told last, nearest first.
    pub(crate) path: Vec<u32>,
    /// When a chunk last came this way.
    pub(crate) fed: Time,
    /// Chunks in a row that came another way than by a parent.
    pub(crate) elsewhere: u16,
    /// Nobody feeds us, though others depend on us: see [`super::repair`].
    pub(crate) cut_off: bool,
    /// How the last chunk arrived, to be told with the next request.
    pub(crate) feedback: Option<(PeerId, Feedback)>,
    /// From announcement to arrival by way of the parent: mean and mean deviation, seconds (EWMA as RFC 6298 has it for round trips).
    pub(crate) lateness: (f64, f64),
    /// From the broadcaster's statement to arrival, seconds by its clock: mean as above; `None` before the first chunk.
    pub(crate) lag: Option<f64>,
    /// When to look for a parent (or a better one) again.
    pub(crate) look_at: Time,
    /// Our place among the seeds, 0 being the seed.
    pub(crate) rank: Option<usize>,
    /// So many chunks in a row came [`INFORMED_BEFORE`] or more after what was said of them.
    informed: u8,
    /// We were the seed until the roster changed, and go on until then: others may not have the new roster yet.
    pub(crate) seed_until: Time,
}

/// A chunk that arrived before its statement, or with one that continues what isn't here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unchecked {
    pub(crate) number: ChunkNumber,
    pub(crate) from: PeerId,
    pub(crate) since: Time,
    /// Its sender was asked for what is missing before it.
    pub(crate) asked: bool,
}

/// A chunk that a neighbour was asked for and didn't bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InVain {
    pub(crate) number: ChunkNumber,
    pub(crate) of: PeerId,
    /// It said that it lacks the chunk; otherwise it refused, or gave no answer.
    pub(crate) lacks: bool,
    /// Not to be asked again before.
    pub(crate) until: Time,
}

/// An open pull-ahead request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    pub(crate) id: RequestId,
    pub(crate) number: ChunkNumber,
    pub(crate) to: PeerId,
}

/// Nor is a path one by which so many chunks should have come and didn't: who claims it when its tree is cut off keeps others
/// in it. Within [`Pace::path_expiry_min`] and [`PATH_EXPIRY`].
const PATH_EXPIRY_CHUNKS: u64 = 3;

/// So long a newcomer takes no children: connections and what its player waits for fill a slow uplink (a guess; measured in the
/// lab with 0.13 Mbit/s: ten seconds, with 0.34: three).
const LEAF_FOR: Duration = Duration::from_millis(2500);
/// Who follows a rendition for longer has parents in most substreams, and hears of everything by them.
const NEW_FOR: Duration = Duration::from_secs(6);
/// So long what is missing between two statements may come with other chunks (measured, see tests/ABLATIONS.md).
const GAP_WAIT: Duration = Duration::from_millis(50);
/// What is said of chunks needn't come with them where it was here so long before this many of them in a row (measured, see
/// tests/ABLATIONS.md).
const INFORMED_BEFORE: Duration = Duration::from_millis(20);
const INFORMED_MIN: u8 = 2;
/// The path of who is fed by a root: that, and the broadcaster.
pub(super) const ROOT_CHILD_PATH: usize = 2;
/// Hops below that beyond which patience grows no more: what is late has to be asked for in time.
const HOPS_WAITED_FOR_MAX: usize = 10;
/// Questions for what is new while nothing is: the broadcaster may have paused.
const NEWS_ASKS_MAX: u8 = 3;

impl Track {
    pub(crate) fn new(rendition: &Rendition, epoch: Epoch, pace: Pace, joined: WallTime, begun: Time) -> Self {
        Self {
            rendition: rendition.id,
            epoch,
            pace,
            window: Window::default(),
            substreams: vec![Substream::default(); usize::from(rendition.substreams.max(1))],
            joined,
            begun,
            is_leaf: false,
            from: None,
            unchecked: Vec::new(),
            in_vain: Vec::new(),
            window_at: Time::ZERO,
            hole_asks: 0,
            news: (Time::NEVER, 0),
            origin_retry: Time::ZERO,
            repair_at: Time::NEVER,
            rate: Default::default(),
        }
    }

    /// Mean size of a chunk, bits; 0 before there is one.
    pub(crate) fn chunk_bits(&self) -> f64 {
        let newest = self.window.segments.back().map(|s| &s.announcement);
        newest.map_or(0.0, |a| a.byte_len() as f64 * 8.0 / a.lengths.len().max(1) as f64)
    }

    /// Mean rate of the segments held, bits per second; `None` before there is one.
    pub(crate) fn rate_bps(&self) -> Option<f64> {
        self.rate.1
    }

    /// To be called when the window may have changed: asked for far more often than it changes, the rate is kept.
    pub(crate) fn refresh_rate(&mut self) {
        let first = self.window.segments.front().map_or(ChunkNumber(0), |s| s.announcement.first_chunk);
        let span = (first, self.window.end().unwrap_or_default(), self.window.segments.len());
        if self.rate.0 != span {
            self.rate = (span, self.window.rate_bps());
        }
    }

    pub(crate) fn count(&self) -> u8 {
        self.substreams.len() as u8
    }

    pub(crate) fn substream_of(&self, number: ChunkNumber) -> u8 {
        number.substream(self.count())
    }

    /// The next chunk to ask a parent for in a substream; `None` until pull-ahead can begin.
    pub(crate) fn next_wanted(&self, substream: u8) -> Option<ChunkNumber> {
        let step = u64::from(self.count());
        let oldest_open = self.window.segments.iter().find(|s| s.wanted && !s.is_complete());
        let open = oldest_open
            .map_or_else(|| self.window.end().map_or(0, |end| end.0), |segment| segment.announcement.first_chunk.0);
        let cursor = self.substreams.get(usize::from(substream))?.cursor.0;
        let from = self.from?.0.max(open).max(cursor);
        let aligned = from + (u64::from(substream) + step - from % step) % step;
        let mut number = ChunkNumber(aligned);
        loop {
            number = self.window.first_missing(number, self.count());
            let busy = self.window.find(number).is_some_and(|(s, i)| s.asked.contains(i) || s.at_origin.contains(i))
                || self.unchecked.iter().any(|u| u.number == number);
            if !busy {
                return Some(number);
            }
            number = ChunkNumber(number.0 + step);
        }
    }

    /// Whether parents are asked for this chunk, as it was announced after we came.
    pub(crate) fn pulls_ahead(&self, number: ChunkNumber) -> bool {
        self.from.is_some_and(|from| number >= from)
    }

    /// The substream whose parent will bring this chunk; none brings what it has passed over.
    pub(crate) fn expected_of(&self, number: ChunkNumber) -> Option<&Substream> {
        let substream = &self.substreams[usize::from(self.substream_of(number))];
        let brings = self.pulls_ahead(number) && substream.parent.is_some() && substream.cursor <= number;
        brings.then_some(substream)
    }

    /// Whether what is said of the next chunk of a substream will be here sooner than it, by another one.
    pub(crate) fn is_informed(&self, substream: u8) -> bool {
        let told_with_chunks = self.pace.silent_after.is_some();
        told_with_chunks && self.substreams[usize::from(substream)].informed >= INFORMED_MIN
    }

    /// Whether a chunk that the parent should have brought is missing for longer than a root may take.
    pub(crate) fn waits_too_long(&self, now: Time, substream: u8) -> bool {
        let cursor = self.substreams.get(usize::from(substream)).map_or(ChunkNumber(0), |s| s.cursor);
        let mut wanted = self.window.segments.iter().filter(|s| s.wanted && !s.is_complete());
        wanted.any(|segment| {
            segment.missing().any(|(index, number)| {
                let since = now.since(segment.timing(index).heard).as_secs_f64();
                self.substream_of(number) == substream && number >= cursor && since > self.pace.root_silent_after
            })
        })
    }

    /// Until when it is a leaf's.
    pub(crate) fn leaf_until(&self) -> Time {
        if self.is_leaf { self.begun + LEAF_FOR } else { Time::NEVER }
    }

    /// When a neighbour should be asked for announcements.
    pub(crate) fn window_due(&self) -> Time {
        if self.from.is_none() || self.hole_asks > 0 {
            return self.window_at;
        }
        let (heard, asked) = self.news;
        let is_new = heard != Time::NEVER && heard.since(self.begun) < NEW_FOR;
        let silent = self.pace.silent_after.filter(|_| is_new && asked < NEWS_ASKS_MAX);
        let news = silent.map_or(Time::NEVER, |time| heard + time);
        self.window_at.max(news.min(self.gap().map_or(Time::NEVER, |gap| gap.since + GAP_WAIT)))
    }

    /// In low latency each chunk comes with what is said of it: which waits longest, because something before that is missing.
    pub(crate) fn gap(&self) -> Option<&Unchecked> {
        self.unchecked.iter().find(|u| !u.asked && self.pace.silent_after.is_some())
    }

    /// The first segment of which something may be missing, and how much of it is known, as [`super::io::Output::FetchWindow`]
    /// has it.
    pub(crate) fn known_since(&self) -> Option<(SegmentNumber, ChunkNumber)> {
        let open = self.window.segments.iter().find(|s| s.announcement.growing).or(self.window.segments.back());
        let said = open.map(|s| &s.announcement).filter(|_| self.hole_asks == 0)?;
        Some((said.segment, ChunkNumber(said.end_chunk().0 + u64::from(!said.growing))))
    }

    /// This neighbour is asked for announcements: nobody may be telling us of chunks before they come any more.
    pub(crate) fn window_asked(&mut self, of: PeerId, again_at: Time) {
        self.substreams.iter_mut().for_each(|s| s.informed = 0);
        self.unchecked.iter_mut().filter(|u| u.from == of).for_each(|u| u.asked = true);
        self.window_at = again_at;
        self.news.1 = self.news.1.saturating_add(1);
        self.hole_asks = self.hole_asks.saturating_sub(1);
    }

    /// Something new was announced.
    pub(crate) fn heard_news(&mut self, now: Time) {
        self.news = (now, 0);
    }

    /// How long chunks of each substream take to us and then wait `wait` seconds for their turn, as told to neighbours.
    pub(crate) fn lags(&self, wait: f64) -> Vec<u8> {
        let told = |seconds: f64| (seconds / TrackStatus::LAG_UNIT.as_secs_f64()).clamp(0.0, 255.0).round() as u8;
        self.substreams.iter().map(|s| s.lag.map_or(u8::MAX, |lag| told(lag + wait))).collect()
    }

    /// Which branch of its tree each substream comes by, as told to neighbours.
    pub(crate) fn branches(&self, own: PeerId) -> Vec<u8> {
        self.substreams.iter().map(|s| s.branch(own).unwrap_or_default()).collect()
    }

    /// How far from the origin we are in each substream.
    pub(crate) fn depths(&self, now: Time) -> Vec<u8> {
        let missed = self.few_chunks();
        // While nothing is announced nothing is missed.
        let fed = |s: &Substream| now.since(s.fed) < PATH_EXPIRY && self.news.0.min(now).since(s.fed) < missed;
        self.substreams.iter().map(|s| s.depth(s.fed != Time::ZERO && fed(s))).collect()
    }

    /// How long [`PATH_EXPIRY_CHUNKS`] of a substream take to be made, within bounds.
    fn few_chunks(&self) -> Duration {
        self.lasting(PATH_EXPIRY_CHUNKS).clamp(self.pace.path_expiry_min, PATH_EXPIRY)
    }

    /// How long so many chunks of a substream take to be made.
    pub(crate) fn lasting(&self, count: u64) -> Duration {
        let all = self.window.segments.iter().map(|s| &s.announcement);
        let (us, chunks) = all.fold((0, 0), |(us, n), a| (us + a.duration_us, n + a.lengths.len() as u64));
        Duration::from_micros((us / chunks.max(1)).saturating_mul(u64::from(self.count()) * count))
    }
}

impl Substream {
    /// Distance from the origin; `fed`: something came this way lately.
    fn depth(&self, fed: bool) -> u8 {
        match () {
            () if !fed => TrackStatus::NO_PATH,
            () if self.is_root() => 0,
            () if self.parent.is_some() && !self.path.is_empty() => self.path.len().min(200) as u8,
            () => TrackStatus::NO_PATH,
        }
    }

    /// Whether we are the seed and have it from the origin. Who is cut off isn't told of as one: others would come, and it would
    /// hardly find a parent again (tests/ABLATIONS.md).
    pub(crate) fn is_root(&self) -> bool {
        self.rank == Some(0) && self.parent.is_none()
    }

    /// See [`TrackStatus::branches`].
    pub(crate) fn branch(&self, own: PeerId) -> Option<u8> {
        let below = self.path.len().checked_sub(ROOT_CHILD_PATH)?;
        let tag = if below == 0 { own.tag() } else { self.path[below - 1] };
        Some((tag as u8).max(1))
    }

    /// A chunk came as it should, this long after the broadcaster stated it.
    pub(crate) fn lags_by(&mut self, seconds: f64) {
        self.lag = Some(self.lag.map_or(seconds, |mean| mean * 0.75 + seconds * 0.25));
    }

    /// A chunk came by way of the parent this long after its announcement.
    pub(crate) fn arrived_after(&mut self, seconds: f64) {
        let (mean, deviation) = self.lateness;
        self.lateness = if mean == 0.0 {
            (seconds, seconds / 2.0)
        } else {
            (mean * 0.875 + seconds * 0.125, deviation * 0.75 + (seconds - mean).abs() * 0.25)
        };
    }

    /// After so many seconds a chunk is late: mean + 4 deviations (RFC 6298 §2), within bounds. Of a parent that brought
    /// nothing yet more than the least is expected: a newcomer hears of chunks from the broadcaster before they are anywhere
    /// else.
    pub(crate) fn patience(&self, Patience { min, max, a_hop }: Patience) -> f64 {
        let (mean, deviation) = self.lateness;
        let usual = if mean == 0.0 { (min + max) / 2.0 } else { mean + 4.0 * deviation };
        let below_root = self.path.len().saturating_sub(ROOT_CHILD_PATH).min(HOPS_WAITED_FOR_MAX);
        usual.clamp(min, max.max(min)) + a_hop * below_root as f64
    }

    /// Whether what was `heard` of then should have been brought by now; not by who became the parent only later.
    pub(crate) fn is_overdue(&self, now: Time, heard: Time, patience: Patience) -> bool {
        now.since(heard.max(self.since)).as_secs_f64() >= self.patience(patience)
    }

    /// A chunk came so long after we heard of it, if we had.
    pub(crate) fn came_after(&mut self, heard: Option<Duration>) {
        let sooner = heard.is_some_and(|time| time >= INFORMED_BEFORE);
        self.informed = if sooner { self.informed.saturating_add(1) } else { 0 };
    }

    /// Who is asked for what comes next, or will be.
    pub(crate) fn asked(&self) -> Option<PeerId> {
        self.in_flight.map(|ahead| ahead.to).or(self.trial).or(self.parent)
    }

    /// Gives the parent up; the caller cancels what is in flight.
    pub(crate) fn orphan(&mut self, look_at: Time) {
        self.parent = None;
        self.trial = None;
        (self.noticed, self.root_silent) = (false, false);
        self.in_flight = None;
        self.informed = 0;
        self.feedback = None;
        self.look_at = look_at;
    }
}
