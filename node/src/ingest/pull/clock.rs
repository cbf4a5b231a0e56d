//! When a segment was captured, if the source doesn't say.
//!
//! A segment is listed once it is finished, so its end lies at most a poll and the encoder's own delay before the moment
//! we see it. Within a run durations are exact while arrivals jitter, so the estimate follows the durations and is
//! only corrected when an arrival proves it wrong: a segment can't have been seen before it ended. Estimated starts of
//! renditions that count and cut alike are made equal, because players align renditions by date.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use starling_proto::WallTime;

use super::cursor::New;

/// Estimates of one rendition.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Number and start of the segment to come, if it follows without a break.
    next: Option<(u64, WallTime)>,
    /// Generation, number and start of the last segment dated: one that grows keeps its date.
    dated: Option<(u32, u64, WallTime)>,
}

/// Estimates all renditions of a source share.
#[derive(Debug, Default)]
pub(super) struct SharedClock(Mutex<VecDeque<Estimate>>);

/// Estimates remembered: renditions are at most a few segments apart.
const ESTIMATES_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Estimate {
    number: u64,
    start: WallTime,
    duration: Duration,
}

impl Clock {
    /// Dates the segments that one reading of the playlist at `now` brought.
    pub(super) fn date(&mut self, news: &mut [New], target: Duration, now: WallTime, shared: &SharedClock) {
        let mut until_end: Duration = news.iter().map(|new| new.listed.duration).sum();
        for New { listed, generation, .. } in news {
            let dated = self.dated.filter(|(of, number, _)| (*of, *number) == (*generation, listed.number));
            let follows = self.next.filter(|(number, _)| *number == listed.number && !listed.discontinuity);
            let start = dated.map(|(.., start)| start).or(listed.date).unwrap_or_else(|| {
                let seen = now - until_end;
                let own = steady(follows.map(|(_, start)| start), seen, target);
                shared.agree(Estimate { number: listed.number, start: own, duration: listed.duration })
            });
            listed.date = Some(start);
            self.dated = Some((*generation, listed.number, start));
            self.next = Some((listed.number.saturating_add(1), start + listed.duration));
            until_end -= listed.duration;
        }
    }
}

impl SharedClock {
    /// The start another rendition gave to this number, if it is likely the same moment; else `own`, for the others.
    fn agree(&self, own: Estimate) -> WallTime {
        let mut estimates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = |other: &&Estimate| {
            let span = own.duration.as_secs_f64();
            other.number == own.number
                && (other.duration.as_secs_f64() - span).abs() <= 0.2 * span
                && other.start.seconds_since(own.start).abs() <= 1.5 * span
        };
        if let Some(other) = estimates.iter().rev().find(alike) {
            return other.start;
        }
        if estimates.len() == ESTIMATES_MAX {
            estimates.pop_front();
        }
        estimates.push_back(own);
        own.start
    }
}

/// Where the durations say the segment begins, unless `seen`, the latest start that its arrival allows, contradicts:
/// it is earlier, or later by so much that the source must have paused (or a clock was set).
fn steady(predicted: Option<WallTime>, seen: WallTime, target: Duration) -> WallTime {
    let plausible = predicted.filter(|p| (0.0..=3.0 * target.as_secs_f64()).contains(&seen.seconds_since(*p)));
    plausible.unwrap_or(seen)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::cursor::Cursor;
    use super::super::media;
    use super::super::variables::Variables;
    use super::*;

    const TARGET: Duration = Duration::from_secs(2);

    /// New segments `from..to` of two seconds, nothing dated.
    fn news(from: u64, to: u64) -> Vec<New> {
        let body: String = (from..to).map(|n| format!("#EXTINF:2,\n{n}.ts\n")).collect();
        let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{from}\n{body}");
        let url = Url::parse("http://host/").unwrap();
        let playlist = media::parse(&text, &url, &Variables::new(), 1 << 16).unwrap();
        Cursor::default().take(playlist, tokio::time::Instant::now()).segments
    }

    fn starts(clock: &mut Clock, shared: &SharedClock, from: u64, to: u64, now_ms: i64) -> Vec<i64> {
        let mut news = news(from, to);
        clock.date(&mut news, TARGET, WallTime(now_ms * 1000), shared);
        news.iter().map(|new| new.listed.date.unwrap().0 / 1000).collect()
    }

    #[test]
    fn estimates_follow_durations_and_are_corrected_by_arrivals() {
        let (mut clock, shared) = (Clock::default(), SharedClock::default());
        assert_eq!(starts(&mut clock, &shared, 7, 10, 100_900), [94_900, 96_900, 98_900]);
        // 0.3 s late: the durations know better.
        assert_eq!(starts(&mut clock, &shared, 10, 11, 103_200), [100_900]);
        // 0.5 s earlier than predicted: it can't have ended later than it was seen.
        assert_eq!(starts(&mut clock, &shared, 11, 12, 104_400), [102_400]);
        // The source paused for a minute.
        assert_eq!(starts(&mut clock, &shared, 12, 13, 166_400), [164_400]);
        // A number is missing.
        assert_eq!(starts(&mut clock, &shared, 14, 15, 171_000), [169_000]);
    }

    #[test]
    fn renditions_agree() {
        let shared = SharedClock::default();
        let (mut video, mut audio) = (Clock::default(), Clock::default());
        assert_eq!(starts(&mut video, &shared, 7, 8, 100_000), [98_000]);
        assert_eq!(starts(&mut audio, &shared, 7, 9, 100_010), [98_000, 98_010]);
        assert_eq!(starts(&mut video, &shared, 8, 9, 102_000), [98_010]);
    }

    #[test]
    fn a_stated_date_wins() {
        let (mut clock, shared) = (Clock::default(), SharedClock::default());
        let mut dated = news(0, 1);
        dated[0].listed.date = Some(WallTime(5_000_000));
        clock.date(&mut dated, TARGET, WallTime(100_000_000), &shared);
        assert_eq!(dated[0].listed.date, Some(WallTime(5_000_000)));
        // The next has none, but its arrival says the clocks differ: believe the arrival.
        assert_eq!(starts(&mut clock, &shared, 1, 2, 102_000), [100_000]);
    }
}
