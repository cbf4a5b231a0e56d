//! How fast our own uplink is: learnt from what children report of the chunks we sent.
//!
//! Two things are told apart. *Rate*: a chunk's packets leave back to back, so the time from its first to its last byte is the
//! bottleneck's. *Waiting*: a first byte that took longer than the quickest of late waited in a queue; then we send more than the
//! link carries, or the household does, and yield (delay-based as LEDBAT, RFC 6817, but on what we offer, not on a window).

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::PeerId;
use crate::time::Time;
use crate::wire::Feedback;

/// What is known of the uplink. Bounded, see the constants.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    /// When a report came, and the rate it tells, bits per second.
    rates: VecDeque<(Time, f64)>,
    /// When a report came, and how long the chunk's first byte waited, seconds.
    waits: VecDeque<(Time, f64)>,
    trips: Vec<(PeerId, Trip)>,
    /// Median of `rates`; kept, because it is asked for with every input.
    rate_bps: Option<f64>,
    /// Taken for the rate while there is none.
    assumed_bps: f64,
    assumed_most: f64,
    /// What was sent when, bytes.
    carried: VecDeque<(Time, u32)>,
    /// A chunk that didn't arrive in time, since the last report: when, whose, and the most the link can carry if that is why,
    /// bits per second.
    bound: Option<(Time, PeerId, f64)>,
    /// Share of `rate_bps` that keeps queues short.
    restraint: f64,
    adjusted: Time,
    /// Chunks sent and reports received since `counted_from`.
    sent: u32,
    reported: u32,
    counted_from: Time,
    /// Reports since the last ones were forgotten.
    heard: u32,
    /// When the last report came, or the last ones were forgotten.
    reported_at: Time,
}

/// The shortest trips to a child lately, µs between two unrelated clocks.
#[derive(Clone, Copy, Debug)]
struct Trip {
    shortest: i64,
    /// Of the time before `since`, so that a base that rose is believed in the end.
    shortest_before: i64,
    since: Time,
}

/// Reports kept: several seconds of a dozen children.
const SAMPLES_MAX: usize = 64;
/// Reports needed before the rate is believed: a second of one who takes half the substreams in parts of 0.2 s.
const SAMPLES_MIN: usize = 4;
/// Reports older than this are forgotten unless too few are left: links change (a guess, several churns of the audience's).
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(30);
/// Only bursts of at least this many bytes tell a rate (a guess: a handful of packets).
const SAMPLE_BYTES_MIN: u32 = 6_000;
/// What comes with the first packet is there when the clock starts: QUIC's usual datagram.
const FIRST_PACKET: u32 = 1_200;
/// A receiver that reads several packets at once sees no shorter burst than this.
const SPREAD_MIN_US: u32 = 50;
/// Children whose trips are remembered.
const TRIPS_MAX: usize = 64;
/// How long a shortest trip is believed before a newer one may replace it; twice that at most, which is RFC 6817's ten minutes
/// (§2.5, BASE_HISTORY). Sooner, a household's upload that keeps the queue full would pass for the way being long. Clocks that
/// drift apart by 100 ppm pretend 60 ms in that time, less than `WAIT_LONG`.
const BASE_AGE: Duration = Duration::from_secs(300);
/// How often the restraint changes: some round trips, so that a change is seen before the next.
const ADJUST_EVERY: Duration = Duration::from_millis(700);
/// Waits the restraint is drawn from.
const WAIT_AGE_MAX: Duration = Duration::from_secs(2);
const WAITS_MIN: usize = 4;
/// The wait that counts: all must pass the link's queue, so that most waiting means the link; that some do means their own
/// connections' congestion windows.
const WAIT_SHARE: f64 = 0.25;
/// Waits above this mean that the link carries more than it can (RFC 6817 §2.5: target at most 100 ms).
const WAIT_LONG: f64 = 0.1;
/// Waits below this leave room: jitter of a home link is below it (a guess).
const WAIT_SHORT: f64 = 0.04;
/// Steps of the restraint (guesses: down in a second or two, up in ten), and its least: something must be sent to learn more.
const YIELD: f64 = 0.8;
const RECOVER: f64 = 1.06;
const RESTRAINT_MIN: f64 = 0.1;
/// The wait a chunk counts for that came too late to be of use: any that is long.
const LATE: f64 = 5.0 * WAIT_LONG;
/// What is sent and what is reported is compared so often, but not before as much was sent: children give up what comes
/// late, and go before they tell.
const COUNT_FOR: Duration = Duration::from_secs(2);
const COUNT_MIN: u32 = 4;
/// One slow chunk may have lost a packet; two are no reason to believe in more than so many times the faster's rate (a guess).
const SLOW_MIN: usize = 2;
const ASSUMED_OF_FASTEST: f64 = 2.0;
/// What was sent so long before a chunk may have kept it waiting.
const CARRIED_FOR: Duration = Duration::from_secs(2);
/// Sends remembered: of 25 KB each, 12 Mbit/s.
const CARRIED_MAX: usize = 256;
/// Two chunks that didn't arrive have to do with one another if no more time is between them (a guess).
const BOUND_AGE_MAX: Duration = Duration::from_secs(10);
/// What nobody reported on for so long may have changed (a guess: a share of a stay).
const REPORTS_STALE: Duration = Duration::from_secs(60);
/// Least that is taken for the uplink, bits per second: nobody can be a child of it.
const ASSUMED_MIN: f64 = 32_000.0;

impl Uplink {
    /// A link assumed to carry `assumed_bps`.
    pub(crate) fn new(assumed_bps: f64) -> Self {
        Self {
            rates: VecDeque::new(),
            waits: VecDeque::new(),
            trips: Vec::new(),
            rate_bps: None,
            assumed_bps,
            assumed_most: assumed_bps,
            carried: VecDeque::new(),
            bound: None,
            restraint: 1.0,
            adjusted: Time::ZERO,
            sent: 0,
            reported: 0,
            counted_from: Time::ZERO,
            heard: 0,
            reported_at: Time::ZERO,
        }
    }

    /// What the link carries, bits per second, less what it must yield.
    pub(crate) fn bps(&self) -> f64 {
        self.measured_bps().unwrap_or(self.assumed_bps)
    }

    /// As [`Self::bps`]; `None` until enough reports came.
    pub(crate) fn measured_bps(&self) -> Option<f64> {
        self.rate_bps.map(|bps| bps * self.restraint)
    }

    /// Whether enough reports came to trust what is offered, though chunks may be too small to tell a rate.
    pub(crate) fn is_known(&self) -> bool {
        self.rate_bps.is_some() || self.heard >= SAMPLES_MIN as u32
    }

    /// A chunk goes out.
    pub(crate) fn sends(&mut self, now: Time) {
        if self.sent == 0 {
            (self.reported, self.counted_from) = (0, now);
        } else if now.since(self.counted_from) >= COUNT_FOR && self.sent >= COUNT_MIN {
            if self.reported * 2 < self.sent {
                self.offer_less();
                tracing::debug!(bps = self.bps(), "few report what we send, offering less");
            }
            (self.sent, self.reported, self.counted_from) = (0, 0, now);
        }
        self.sent += 1;
    }

    /// `bytes` go out, reported on or not.
    pub(crate) fn carries(&mut self, now: Time, bytes: u32) {
        self.carried.push_back((now, bytes));
        while self.carried.len() > CARRIED_MAX
            || self.carried.front().is_some_and(|(at, _)| now.since(*at) > CARRIED_FOR * 2)
        {
            self.carried.pop_front();
        }
    }

    /// What went out at `sent` hasn't arrived, perhaps because of the link: then it carries at most everything since some time
    /// before. Two, of different children, say enough of an unknown link.
    pub(crate) fn undelivered(&mut self, now: Time, to: PeerId, sent: Time) {
        if self.rate_bps.is_some() || now <= sent {
            return;
        }
        let before = |at: Time| sent.since(at) <= CARRIED_FOR;
        let bytes: u64 = self.carried.iter().filter(|(at, _)| before(*at)).map(|(_, bytes)| u64::from(*bytes)).sum();
        let most = bytes as f64 * 8.0 / now.since(sent).as_secs_f64();
        let other = self.bound.filter(|(at, whose, _)| *whose != to && now.since(*at) <= BOUND_AGE_MAX);
        let Some((_, _, others)) = other else {
            self.bound = Some((now, to, most));
            return;
        };
        self.bound = None;
        let most = most.max(others).max(ASSUMED_MIN);
        if most < self.assumed_bps {
            self.assumed_bps = most;
            tracing::debug!(bps = self.assumed_bps, "what was sent doesn't arrive, offering less");
        }
    }

    /// A chunk that went out won't be reported on, for no fault of the link's.
    pub(crate) fn excuse(&mut self) {
        self.sent = self.sent.saturating_sub(1);
    }

    /// A child took back what it was sent: it was too late for it.
    pub(crate) fn late(&mut self, now: Time) {
        push(&mut self.waits, now, LATE);
        self.adjust(now);
    }

    /// A report of the chunk that was sent at `sent`.
    pub(crate) fn report(&mut self, now: Time, from: PeerId, sent: Time, feedback: &Feedback) {
        self.reported += 1;
        self.reported_at = now;
        self.heard = self.heard.saturating_add(1);
        self.bound = None;
        if feedback.bytes >= SAMPLE_BYTES_MIN {
            let bytes = f64::from(feedback.bytes - FIRST_PACKET);
            let rate = bytes * 8e6 / f64::from(feedback.spread_us.max(SPREAD_MIN_US));
            push(&mut self.rates, now, rate);
            self.doubt();
            while self.rates.len() > SAMPLES_MIN && now.since(self.rates[0].0) > SAMPLE_AGE_MAX {
                self.rates.pop_front();
            }
            self.rate_bps = (self.rates.len() >= SAMPLES_MIN).then(|| quantile(&self.rates, 0.5));
        }
        if let Some(came) = feedback.first_us {
            let wait = self.trip(now, from, came.wrapping_sub(sent.0 as u32).cast_signed());
            push(&mut self.waits, now, wait);
            self.adjust(now);
        }
    }

    /// Doubts an unknown link after a few slow chunks.
    fn doubt(&mut self) {
        let fastest = self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        if self.rates.len() >= SLOW_MIN {
            self.assumed_bps = self.assumed_bps.min((fastest * ASSUMED_OF_FASTEST).max(ASSUMED_MIN));
        }
    }

    /// Believes in twice as much after a while without reports: who serves nobody would never learn that it could.
    pub(crate) fn doubt_old_reports(&mut self, now: Time) {
        if now.since(self.reported_at) < REPORTS_STALE {
            return;
        }
        let believed = self.bps();
        self.assumed_bps = (believed * 2.0).min(self.assumed_most.max(believed));
        (self.rate_bps, self.restraint, self.reported_at) = (None, 1.0, now);
        (self.heard, self.bound) = (0, None);
        self.rates.clear();
    }

    fn offer_less(&mut self) {
        match self.rate_bps {
            Some(_) => self.restraint = (self.restraint * YIELD).max(RESTRAINT_MIN),
            None => self.assumed_bps = (self.assumed_bps / 2.0).max(ASSUMED_MIN),
        }
    }

    /// How much longer than the shortest this trip took, seconds.
    fn trip(&mut self, now: Time, peer: PeerId, us: i32) -> f64 {
        let us = i64::from(us);
        let fresh = Trip { shortest: us, shortest_before: us, since: now };
        let at = self.trips.iter().position(|(p, _)| *p == peer).unwrap_or_else(|| {
            if self.trips.len() >= TRIPS_MAX {
                self.trips.remove(0);
            }
            self.trips.push((peer, fresh));
            self.trips.len() - 1
        });
        let trip = &mut self.trips[at].1;
        if now.since(trip.since) > BASE_AGE {
            *trip = Trip { shortest_before: trip.shortest, ..fresh };
        }
        trip.shortest = trip.shortest.min(us);
        (us - trip.shortest.min(trip.shortest_before)) as f64 / 1e6
    }

    fn adjust(&mut self, now: Time) {
        self.waits.retain(|(at, _)| now.since(*at) <= WAIT_AGE_MAX);
        if self.waits.len() < WAITS_MIN || now.since(self.adjusted) < ADJUST_EVERY {
            return;
        }
        self.adjusted = now;
        let wait = quantile(&self.waits, WAIT_SHARE);
        if wait > WAIT_LONG {
            self.offer_less();
            tracing::debug!(wait, bps = self.bps(), "uplink congested, offering less");
        } else if wait < WAIT_SHORT {
            self.restraint = (self.restraint * RECOVER).min(1.0);
        }
    }

    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.trips.retain(|(p, _)| *p != peer);
    }
}

fn push(samples: &mut VecDeque<(Time, f64)>, now: Time, sample: f64) {
    samples.push_back((now, sample));
    if samples.len() > SAMPLES_MAX {
        samples.pop_front();
    }
}

fn quantile(samples: &VecDeque<(Time, f64)>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = samples.iter().map(|(_, sample)| *sample).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() as f64 * share) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: PeerId = PeerId([1; 32]);

    /// A link that carries `bps` and is offered chunks of 25 KB at `offered` bits per second, for `seconds`.
    fn offered(uplink: &mut Uplink, from: f64, seconds: f64, offered: f64, bps: f64) -> f64 {
        let (mut at, mut free) = (from, from);
        while at < from + seconds {
            let begins = free.max(at);
            free = begins + 25_000.0 * 8.0 / bps;
            let first_us = Some(((begins + 3000.02) * 1e6) as u64 as u32); // another clock, 20 ms away
            let spread_us = (23_800.0 * 8e6 / bps) as u32;
            let (sent, told) = (Duration::from_secs_f64(at), Duration::from_secs_f64(free));
            let feedback = Feedback { bytes: 25_000, spread_us, first_us };
            uplink.report(Time::ZERO + told, CHILD, Time::ZERO + sent, &feedback);
            at += 25_000.0 * 8.0 / offered;
        }
        free
    }

    #[test]
    fn the_rate_is_that_of_bursts_and_old_ones_are_forgotten() {
        let mut uplink = Uplink::new(1e6);
        assert_eq!(uplink.measured_bps(), None);
        let end = offered(&mut uplink, 0.0, 20.0, 2e6, 4e6);
        let bps = uplink.rate_bps.unwrap();
        assert!((3.9e6..4.1e6).contains(&bps), "{bps}");
        offered(&mut uplink, end, 40.0, 0.9e6, 1e6);
        let bps = uplink.rate_bps.unwrap();
        assert!((0.95e6..1.05e6).contains(&bps), "{bps}");
    }

    #[test]
    fn queues_make_it_yield_and_short_ones_let_it_recover() {
        let mut uplink = Uplink::new(1e6);
        let end = offered(&mut uplink, 0.0, 10.0, 1.4e6, 1e6);
        let yielded = uplink.bps();
        assert!(yielded < 0.5e6, "a queue that grows for ten seconds: {yielded}");
        offered(&mut uplink, end + 5.0, 40.0, 0.5e6, 1e6);
        let recovered = uplink.bps();
        assert!(recovered > 0.9e6, "no queue for forty: {recovered}");
    }

    #[test]
    fn a_queue_that_stands_for_minutes_is_still_a_queue() {
        let mut uplink = Uplink::new(6e6);
        let mut report = |second: u64, wait_ms: u32| {
            for at in (0..5).map(|i| Time::ZERO + Duration::from_millis(1000 * second + 200 * i)) {
                let first_us = Some((at.0 as u32).wrapping_add(20_000 + 1000 * wait_ms));
                let feedback = Feedback { bytes: 25_000, spread_us: 31_700, first_us };
                uplink.report(at + Duration::from_millis(250), CHILD, at, &feedback);
            }
            uplink.bps()
        };
        assert!((0..100).map(|second| report(second, 0)).last().unwrap() > 5.9e6);
        let beside: Vec<f64> = (100..360).map(|second| report(second, 180)).collect();
        assert!(beside[20..].iter().all(|bps| *bps < 0.7e6), "{beside:?}");
    }

    #[test]
    fn who_hears_nothing_of_what_it_sends_offers_ever_less() {
        let mut uplink = Uplink::new(1.5e6);
        (0..200).for_each(|i| uplink.sends(Time::ZERO + Duration::from_millis(100 * i)));
        assert_eq!(uplink.bps(), ASSUMED_MIN);
    }

    #[test]
    fn half_must_be_reported() {
        let small = Feedback { bytes: 1_000, spread_us: 1, first_us: None };
        let believed = |unreported: u64| {
            let mut uplink = Uplink::new(1.5e6);
            for i in 0..100 {
                let now = Time::ZERO + Duration::from_millis(100 * i);
                uplink.sends(now);
                if i % 3 >= unreported {
                    uplink.report(now, CHILD, now, &small);
                }
            }
            uplink.bps()
        };
        assert_eq!(believed(1), 1.5e6);
        assert!(believed(2) < 0.2e6, "{}", believed(2));
    }

    #[test]
    fn two_slow_chunks_say_enough_of_an_unknown_link_and_it_is_tried_again() {
        let mut uplink = Uplink::new(4e6);
        let slow = Feedback { bytes: 12_000, spread_us: 864_000, first_us: None };
        uplink.report(Time::ZERO, CHILD, Time::ZERO, &slow);
        assert_eq!(uplink.bps(), 4e6, "one may have lost a packet");
        uplink.report(Time::ZERO, CHILD, Time::ZERO, &slow);
        assert_eq!(uplink.measured_bps(), None);
        assert!((0.1e6..0.3e6).contains(&uplink.bps()), "{}", uplink.bps());
        for minute in 1..20 {
            uplink.doubt_old_reports(Time::ZERO + Duration::from_secs(61 * minute));
        }
        assert_eq!(uplink.bps(), 4e6);
    }

    #[test]
    fn two_chunks_that_do_not_arrive_say_how_little_an_unknown_link_carries() {
        let mut uplink = Uplink::new(4e6);
        let ms = |ms| Time::ZERO + Duration::from_millis(ms);
        (0..2).for_each(|_| uplink.carries(ms(5_000), 12_500));
        (0..9).for_each(|_| uplink.undelivered(ms(5_800), CHILD, ms(5_000)));
        assert_eq!(uplink.bps(), 4e6, "it may be the child's link");
        let other = PeerId([2; 32]);
        uplink.undelivered(ms(16_000), other, ms(5_000));
        assert_eq!(uplink.bps(), 4e6, "that was long ago");
        uplink.undelivered(ms(5_800), CHILD, ms(5_000));
        uplink.undelivered(ms(6_000), other, ms(5_000));
        assert_eq!(uplink.bps(), 250_000.0, "25 KB in 0.8 s at most");
        uplink.carries(ms(20_000), 12_500);
        [CHILD, other].into_iter().for_each(|child| uplink.undelivered(ms(20_800), child, ms(20_000)));
        assert_eq!(uplink.bps(), 125_000.0);
    }

    #[test]
    fn a_first_burst_need_not_be_reported_at_once() {
        let mut uplink = Uplink::new(4e6);
        let fast = Feedback { bytes: 12_000, spread_us: 10_000, first_us: None };
        let ms = |ms| Time::ZERO + Duration::from_millis(ms);
        (0..8).for_each(|i| uplink.sends(ms(10_000 + 25 * i)));
        (0..8).for_each(|i| uplink.report(ms(10_150 + 25 * i), CHILD, ms(10_000 + 25 * i), &fast));
        uplink.sends(ms(13_000));
        assert!(uplink.bps() > 8e6, "{}", uplink.bps());
    }

    #[test]
    fn nonsense_is_survived() {
        let mut uplink = Uplink::new(1e6);
        for i in 0..500_u32 {
            let feedback =
                Feedback { bytes: u32::MAX - i, spread_us: i % 3, first_us: Some(i.wrapping_mul(0x9e37_79b9)) };
            let now = Time::ZERO + Duration::from_millis(u64::from(i) * 10);
            uplink.report(now, PeerId([i as u8; 32]), now, &feedback);
            assert!(uplink.bps().is_finite() && uplink.bps() > 0.0);
        }
        assert!(uplink.rates.len() <= SAMPLES_MAX && uplink.trips.len() <= TRIPS_MAX);
    }
}
