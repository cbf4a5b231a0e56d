use proptest::prelude::*;
use url::Url;

use super::super::media;
use super::super::variables::Variables;
use super::*;

/// Segments `from..to` of two seconds, named after their number (or `name` of it), target duration 2.
fn listing(from: u64, to: u64, name: impl Fn(u64) -> String) -> MediaPlaylist {
    let body: String = (from..to).map(|n| format!("#EXTINF:2,\n{}\n", name(n))).collect();
    read(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{from}\n{body}"))
}

fn read(text: &str) -> MediaPlaylist {
    media::parse(text, &Url::parse("http://host/x.m3u8").unwrap(), &Variables::new(), 1 << 20).unwrap()
}

fn plain(n: u64) -> String {
    format!("{n}.ts")
}

fn numbers(news: &News) -> Vec<u64> {
    news.segments.iter().map(|new| new.listed.number).collect()
}

fn breaks(news: &News) -> Vec<bool> {
    news.segments.iter().map(|new| new.listed.discontinuity).collect()
}

#[test]
fn begins_near_the_live_edge_and_goes_on() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    assert_eq!(numbers(&cursor.take(listing(0, 100, plain), now)), [97, 98, 99]);
    assert_eq!(cursor.take(listing(0, 100, plain), now), News::default());
    let news = cursor.take(listing(1, 102, plain), now);
    assert_eq!((numbers(&news), breaks(&news)), (vec![100, 101], vec![false, false]));
    assert_eq!(cursor.take(read("#EXTM3U"), now), News::default());
}

#[test]
fn short_segments_mean_more_of_them_to_begin_with() {
    let body: String = (0..20).map(|n| format!("#EXTINF:0.5,\n{n}.ts\n")).collect();
    let playlist = read(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{body}"));
    assert_eq!(numbers(&Cursor::default().take(playlist, Instant::now())), [14, 15, 16, 17, 18, 19]);
}

#[test]
fn segments_that_left_unseen_break_the_line() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    cursor.take(listing(0, 5, plain), now);
    let news = cursor.take(listing(7, 10, plain), now);
    assert_eq!((numbers(&news), breaks(&news)), (vec![7, 8, 9], vec![true, false, false]));
    assert_eq!(news.notes, [Note::Missed { count: 2 }]);
    let news = cursor.take(listing(8, 60, plain), now);
    assert_eq!((numbers(&news), breaks(&news)), (vec![57, 58, 59], vec![true, false, false]));
    assert_eq!(news.notes, [Note::Missed { count: 47 }]);
}

/// As [`listing`], and then so many parts of the next segment.
fn growing(from: u64, to: u64, parts: usize) -> MediaPlaylist {
    let parts = "#EXT-X-PART:DURATION=0.5,URI=\"p\"\n".repeat(parts);
    let body: String = (from..to).map(|n| format!("#EXTINF:2,\n{n}\n")).collect();
    read(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{from}\n{body}{parts}"))
}

fn stages(news: &News) -> Vec<(u64, Range<usize>, Stage)> {
    news.segments.iter().map(|new| (new.listed.number, new.parts.clone(), new.stage)).collect()
}

#[test]
fn parts_are_new_once() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    let whole = |n| (n, 0..0, Stage::Whole);
    let news = cursor.take(growing(0, 5, 2), now);
    assert_eq!(stages(&news), [whole(2), whole(3), whole(4), (5, 0..2, Stage::Growing)]);
    assert_eq!((cursor.next(), cursor.next_part()), (Some(5), 2));
    assert_eq!(cursor.take(growing(0, 5, 2), now), News::default());
    assert_eq!(stages(&cursor.take(growing(0, 5, 3), now)), [(5, 2..3, Stage::Growing)]);
    // Its last parts left the playlist unseen.
    let news = cursor.take(growing(1, 7, 1), now);
    assert_eq!(stages(&news), [(5, 3..3, Stage::Grown), whole(6), (7, 0..1, Stage::Growing)]);
    assert_eq!((cursor.next(), cursor.next_part()), (Some(7), 1));
    cursor.rewind(Some(7));
    assert_eq!((cursor.next(), cursor.next_part()), (Some(8), 0));
}

#[test]
fn a_segment_stays_what_it_was_when_it_began_to_grow() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    cursor.take(growing(0, 5, 0), now);
    let news = cursor.take(growing(7, 9, 1), now);
    assert_eq!((numbers(&news), breaks(&news)), (vec![7, 8, 9], vec![true, false, false]));
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:9\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\n9\n\
                #EXT-X-DISCONTINUITY\n#EXT-X-PART:DURATION=1,URI=\"p\"\n";
    let news = cursor.take(read(text), now);
    assert_eq!((numbers(&news), breaks(&news)), (vec![9, 10], vec![false, true]));
    assert_eq!(news.segments[1].generation, news.segments[0].generation + 1);
    let news = cursor.take(read(&format!("{text}#EXT-X-PART:DURATION=1,URI=\"q\"\n")), now);
    assert_eq!((numbers(&news), breaks(&news)), (vec![10], vec![true]));
}

#[test]
fn gaps_are_left_out() {
    let mut cursor = Cursor::default();
    let news = cursor.take(read("#EXTM3U\n#EXTINF:2,\na\n#EXT-X-GAP\n#EXTINF:2,\nb\n#EXTINF:2,\nc\n"), Instant::now());
    assert_eq!((numbers(&news), breaks(&news)), (vec![0, 2], vec![false, true]));
}

#[test]
fn numbers_far_back_are_a_restart() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    cursor.take(listing(100, 105, plain), now);
    let news = cursor.take(listing(0, 2, plain), now);
    assert_eq!((numbers(&news), breaks(&news)), (vec![0, 1], vec![true, false]));
    assert_eq!(news.notes, [Note::Restarted { from: 104, to: 1 }]);
    assert_eq!(news.segments[0].generation, 1);
    assert_eq!(numbers(&cursor.take(listing(0, 3, plain), now)), [2]);
}

#[test]
fn an_old_copy_is_ignored_until_it_lives() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    cursor.take(listing(0, 10, plain), now);
    assert_eq!(cursor.take(listing(0, 9, plain), now).notes, [Note::OldCopy]);
    let later = now + Duration::from_secs(60);
    assert_eq!(cursor.take(listing(0, 9, plain), later).notes, [Note::OldCopy]);
    // It caught up: nothing happened.
    let news = cursor.take(listing(1, 11, plain), later);
    assert_eq!((numbers(&news), breaks(&news)), (vec![10], vec![false]));
    // An encoder that began again soon after its start, with the same names and no dates.
    assert_eq!(cursor.take(listing(1, 2, plain), later).notes, [Note::OldCopy]);
    let news = cursor.take(listing(1, 4, plain), later + Duration::from_secs(6));
    assert_eq!(news.notes, [Note::Restarted { from: 10, to: 3 }]);
    assert_eq!(numbers(&news), [1, 2, 3]);
}

#[test]
fn other_names_under_known_numbers_are_a_restart() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    cursor.take(listing(0, 10, plain), now);
    let news = cursor.take(listing(6, 9, |n| format!("run2-{n}.ts")), now);
    assert_eq!(news.notes, [Note::Restarted { from: 9, to: 8 }]);
    // New tokens are not new names.
    let news = cursor.take(listing(6, 8, |n| format!("run2-{n}.ts?token=2")), now);
    assert_eq!(news.notes, [Note::OldCopy]);
}

#[test]
fn another_date_under_a_known_number_is_a_restart() {
    let dated = |minute: u32, from: u64, to: u64| {
        let body: String = (from..to).map(|n| format!("#EXTINF:2,\n{n}.ts\n")).collect();
        read(&format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{from}\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-11-22T14:{minute:02}:00Z\n{body}"
        ))
    };
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    cursor.take(dated(0, 0, 4), now);
    let news = cursor.take(dated(5, 0, 6), now);
    assert_eq!(news.notes[0], Note::Restarted { from: 3, to: 5 });
    assert_eq!((numbers(&news), breaks(&news)), (vec![3, 4, 5], vec![true, false, false]));
}

#[test]
fn names_that_come_again_are_told_once() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    let wrapped = |n: u64| format!("{}.ts", n % 4);
    cursor.take(listing(0, 3, wrapped), now);
    assert_eq!(cursor.take(listing(1, 4, wrapped), now).notes, []);
    assert_eq!(cursor.take(listing(2, 5, wrapped), now).notes, [Note::NameComesAgain { uri: "0.ts".into() }]);
    assert_eq!(cursor.take(listing(3, 6, wrapped), now).notes, []);
}

#[test]
fn each_daterange_rides_once_with_the_next_new_segment() {
    let text = |to: u64, trailing: &str| {
        let body: String = (0..to).map(|n| format!("#EXTINF:2,\n{n}.ts\n")).collect();
        read(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-DATERANGE:ID=\"top\"\n{body}{trailing}"))
    };
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    let end = "#EXT-X-DATERANGE:ID=\"end\"";
    let first = cursor.take(text(4, end), now);
    assert_eq!(first.segments[0].listed.dateranges, ["#EXT-X-DATERANGE:ID=\"top\""]);
    assert!(first.segments[1..].iter().all(|new| new.listed.dateranges.is_empty()));
    let second = cursor.take(text(5, end), now);
    assert_eq!(second.segments[0].listed.dateranges, [end]);
    assert!(cursor.take(text(6, end), now).segments[0].listed.dateranges.is_empty());
}

#[test]
fn what_was_not_delivered_is_taken_again() {
    let (mut cursor, now) = (Cursor::default(), Instant::now());
    cursor.take(listing(0, 5, plain), now);
    cursor.rewind(Some(3));
    let news = cursor.take(listing(0, 6, plain), now);
    assert_eq!((numbers(&news), breaks(&news), news.notes), (vec![4, 5], vec![true, false], vec![]));
}

proptest! {
    #[test]
    fn numbers_rise_within_a_run(loads in prop::collection::vec((0u64..40, 0u64..20, 0u64..5), 1..30)) {
        let (mut cursor, mut now) = (Cursor::default(), Instant::now());
        let mut last: Option<u64> = None;
        for (from, len, wait) in loads {
            now += Duration::from_secs(wait);
            let news = cursor.take(listing(from, from + len, plain), now);
            if news.notes.iter().any(|note| matches!(note, Note::Restarted { .. })) {
                last = None;
            }
            for number in numbers(&news) {
                prop_assert!(last.is_none_or(|last| number > last));
                last = Some(number);
            }
            prop_assert!(cursor.remembered.len() <= REMEMBERED && cursor.pending.len() <= TAGS_MAX);
        }
    }
}
