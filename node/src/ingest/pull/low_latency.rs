//! Whether a rendition is taken by parts.
//!
//! It is while its playlist lists parts that can be announced: those of fragmented MP4 that isn't encrypted as a whole.
//! Everything else comes by whole segments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Role;
use super::media::{Listed, ListedPart, MediaPlaylist};

/// Longest target duration with parts, seconds: the chunks of a segment must fit into its announcement (256), and one is
/// 100 ms long.
const TARGET_MAX: u32 = 10;

/// Shortest PART-TARGET: an announcement each is too much for less.
const PART_TARGET_MIN: Duration = Duration::from_millis(40);

/// Without a part in this many segments the playlist has stopped having them.
const WITHOUT_PARTS_MAX: u64 = 2;

/// What is known of a rendition's parts.
#[derive(Debug, Default)]
pub(super) struct LowLatency {
    /// Number of the newest segment that had any.
    newest: Option<u64>,
    /// Longest part that was listed though PART-TARGET is shorter.
    longest: Duration,
    refused: Arc<AtomicBool>,
}

impl LowLatency {
    /// To be set by whoever finds that the parts are no use.
    pub(super) fn refused(&self) -> Arc<AtomicBool> {
        self.refused.clone()
    }

    /// Leaves in `playlist` the parts that are to be taken and PART-TARGET as it is to be announced: neither, if the
    /// rendition comes by whole segments. Viewers are many, and each would ask for each part.
    pub(super) fn judge(&mut self, playlist: &mut MediaPlaylist, role: Role) {
        let refused = role == Role::Viewer || self.refused.load(Ordering::Relaxed);
        let target = playlist.part_target.filter(|target| {
            let longest = Duration::from_secs(playlist.target_duration.into()) / 2;
            !refused && playlist.target_duration <= TARGET_MAX && (PART_TARGET_MIN..=longest).contains(target)
        });
        for listed in playlist.segments.iter_mut().chain(&mut playlist.growing) {
            let takeable = target.map_or(0, |target| takeable(listed, target));
            listed.parts.truncate(takeable);
            self.longest = listed.parts.iter().map(|part| part.duration).fold(self.longest, Duration::max);
        }
        playlist.growing.take_if(|growing| growing.parts.is_empty());
        let listed = playlist.growing.iter().chain(playlist.segments.iter().rev());
        let with_parts = listed.filter(|listed| !listed.parts.is_empty()).map(|listed| listed.number).next();
        let last = playlist.segments.last().map_or(0, |last| last.number);
        let known = self.newest.filter(|newest| newest.abs_diff(last) < WITHOUT_PARTS_MAX);
        self.newest = with_parts.or(known);
        playlist.part_target = target.filter(|_| self.newest.is_some()).map(|target| target.max(self.longest));
        playlist.hint.take_if(|_| playlist.part_target.is_none());
    }
}

/// How many of a segment's parts can be taken: up to the first that isn't there, or isn't what EXT-X-PART-INF promised.
/// Somewhat longer ones are; sloppy packagers are more likely than evil ones.
fn takeable(listed: &Listed, target: Duration) -> usize {
    if listed.init.is_none() || listed.keys.hide_segments() {
        return 0;
    }
    let good = |part: &&ListedPart| !part.gap && !part.duration.is_zero() && part.duration <= target * 3 / 2;
    listed.parts.iter().take_while(good).count()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::media;
    use super::super::variables::Variables;
    use super::*;

    const PART: &str = "#EXT-X-PART:DURATION=0.5,URI=\"p\"\n";

    /// Segment 7, its tags before it, and then `rest`.
    fn read(header: &str, before: &str, rest: &str) -> MediaPlaylist {
        let text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n{header}\n{before}\n#EXTINF:2,\n7.m4s\n{rest}"
        );
        media::parse(&text, &Url::parse("http://host/").unwrap(), &Variables::new(), 1 << 16).unwrap()
    }

    fn parts(mut playlist: MediaPlaylist) -> (Option<Duration>, Vec<usize>) {
        LowLatency::default().judge(&mut playlist, Role::Broadcaster);
        let listed = playlist.segments.iter().chain(&playlist.growing);
        (playlist.part_target, listed.map(|listed| listed.parts.len()).collect())
    }

    const INF: &str = "#EXT-X-PART-INF:PART-TARGET=0.5";
    const MAP: &str = "#EXT-X-MAP:URI=\"i\"";

    #[test]
    fn parts_of_fragmented_mp4_are_taken() {
        let half = Some(Duration::from_millis(500));
        assert_eq!(parts(read(INF, &format!("{MAP}\n{PART}{PART}"), PART)), (half, vec![2, 1]));
        assert_eq!(parts(read(INF, &format!("{MAP}\n{PART}"), "")), (half, vec![1]));
    }

    #[test]
    fn anything_else_comes_whole() {
        let whole = (None, vec![0]);
        assert_eq!(parts(read(INF, "", PART)), whole, "a transport stream");
        assert_eq!(parts(read("", MAP, PART)), whole, "no EXT-X-PART-INF");
        assert_eq!(parts(read(INF, MAP, "")), whole, "no parts");
        assert_eq!(parts(read(INF, &format!("{MAP}\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\""), PART)), whole, "encrypted");
        for target in ["0", "0.01", "1.5", "NaN", "-1"] {
            assert_eq!(parts(read(&format!("#EXT-X-PART-INF:PART-TARGET={target}"), MAP, PART)), whole, "{target}");
        }
        let mut playlist = read(INF, MAP, PART);
        LowLatency::default().judge(&mut playlist, Role::Viewer);
        assert_eq!((playlist.part_target, playlist.growing), (None, None), "a viewer");
        let mut playlist = read(INF, MAP, PART);
        let mut low_latency = LowLatency::default();
        low_latency.refused().store(true, Ordering::Relaxed);
        low_latency.judge(&mut playlist, Role::Broadcaster);
        assert_eq!((playlist.part_target, playlist.growing), (None, None), "refused");
    }

    #[test]
    fn parts_end_at_the_first_that_is_unsound() {
        for unsound in
            ["DURATION=0.5,URI=\"p\",GAP=YES", "DURATION=0.5", "DURATION=0,URI=\"p\"", "DURATION=9,URI=\"p\""]
        {
            let rest = format!("{PART}#EXT-X-PART:{unsound}\n{PART}");
            assert_eq!(parts(read(INF, MAP, &rest)).1, [0, 1], "{unsound}");
        }
    }

    #[test]
    fn a_longer_part_raises_the_target_and_it_stays() {
        let mut low_latency = LowLatency::default();
        let mut longer = read(INF, MAP, "#EXT-X-PART:DURATION=0.6,URI=\"p\"\n");
        low_latency.judge(&mut longer, Role::Broadcaster);
        assert_eq!(longer.part_target, Some(Duration::from_millis(600)));
        let mut usual = read(INF, MAP, PART);
        low_latency.judge(&mut usual, Role::Broadcaster);
        assert_eq!(usual.part_target, longer.part_target);
    }

    #[test]
    fn a_playlist_may_be_without_parts_between_two_segments_but_not_for_long() {
        let mut low_latency = LowLatency::default();
        let mut target_of = |rest: &str| {
            let mut playlist = read(INF, MAP, rest);
            low_latency.judge(&mut playlist, Role::Broadcaster);
            playlist.part_target.is_some()
        };
        assert!(target_of(PART));
        assert!(target_of("#EXTINF:2,\n8.m4s\n"));
        assert!(target_of("#EXTINF:2,\n8.m4s\n#EXTINF:2,\n9.m4s\n"));
        assert!(!target_of("#EXTINF:2,\n8.m4s\n#EXTINF:2,\n9.m4s\n#EXTINF:2,\n10.m4s\n"));
        assert!(!target_of("#EXTINF:2,\n8.m4s\n"));
        assert!(target_of(PART));
    }
}
