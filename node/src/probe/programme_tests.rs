//! A programme told by one playlist after another.

use url::Url;

use super::super::{playlist::Playlist, variables::Variables};
use super::*;

const TWO: Duration = Duration::from_secs(2);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Six segments of 2 s from `first` on; `dated` gives the minute in which the first was captured.
fn list(first: u64, dated: Option<u64>) -> MediaPlaylist {
    let date =
        dated.map_or(String::new(), |minute| format!("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:{minute:02}:00Z\n"));
    let segments: String = (first..first + 6).map(|sequence| format!("#EXTINF:2,\n{sequence}.ts\n")).collect();
    read(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n{date}{segments}"))
}

fn read(body: &str) -> MediaPlaylist {
    let address = Url::parse("http://h/p.m3u8").expect("a valid address");
    match Playlist::read(body, &address, &Variables::default()) {
        Ok(Playlist::Media(media)) => media,
        other => panic!("not a media playlist: {other:?}"),
    }
}

/// Takes everything that is listed and returns the numbers.
fn take_all(programme: &mut Programme) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Next::Fetch(segment) = programme.next() {
        assert!(programme.arrived(&segment).is_some());
        taken.push(segment.sequence);
    }
    taken
}

#[test]
fn begins_at_the_hold_back_and_goes_on_with_what_is_added() {
    let mut programme = Programme::default();
    assert_eq!(programme.next(), Next::Wait);
    let begins = Update::Begins { offset: Duration::ZERO };
    assert_eq!(programme.update(at(0), list(10, None), None), begins);
    assert_eq!(take_all(&mut programme), [13, 14, 15]);
    assert_eq!(programme.next(), Next::Wait);
    assert_eq!(programme.update(at(4), list(12, None), None), Update::Continues);
    assert_eq!(take_all(&mut programme), [16, 17]);
}

#[test]
fn waits_for_a_first_segment() {
    let mut programme = Programme::default();
    let empty = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n";
    assert_eq!(programme.update(at(0), read(empty), None), Update::Continues);
    assert_eq!(programme.next(), Next::Wait);
    let over = format!("{empty}#EXT-X-ENDLIST\n");
    assert_eq!(programme.update(at(2), read(&over), None), Update::Continues);
    assert_eq!(programme.next(), Next::Complete);
}

#[test]
fn tells_new_segments_from_those_it_found() {
    let mut programme = Programme::default();
    programme.update(at(0), list(10, None), None);
    let later = list(12, None);
    programme.update(at(4), later.clone(), None);
    let new: Vec<bool> = later.segments.iter().map(|segment| programme.is_new(segment)).collect();
    assert_eq!(new, [false, false, false, false, true, true]);
}

#[test]
fn sees_what_changes_a_playlist() {
    let mut programme = Programme::default();
    let first = list(10, None);
    assert!(programme.is_changed_by(&first));
    programme.update(at(0), first.clone(), None);
    assert!(!programme.is_changed_by(&first));
    assert!(programme.is_changed_by(&list(11, None)));
    assert!(programme.is_changed_by(&MediaPlaylist { ended: true, ..first }));
}

#[test]
fn passes_over_gaps() {
    let mut programme = Programme::default();
    let mut holed = list(10, None);
    holed.segments[4].gap = true;
    programme.update(at(0), holed.clone(), None);
    assert_eq!(programme.next(), Next::Fetch(holed.segments[3].clone()));
    assert!(programme.arrived(&holed.segments[3]).is_some());
    assert_eq!(programme.next(), Next::Gap(TWO));
    assert_eq!(programme.next(), Next::Fetch(holed.segments[5].clone()));
}

#[test]
fn skips_ahead_when_left_behind() {
    let mut programme = Programme::default();
    programme.update(at(0), list(10, Some(0)), None);
    programme.update(at(60), list(40, Some(1)), None);
    // from 13, captured at 0:06, to 43, captured at 1:06
    assert_eq!(programme.next(), Next::Skip(at(60)));
    assert_eq!(take_all(&mut programme), [43, 44, 45]);
}

#[test]
fn a_lost_segment_is_passed_once() {
    let mut programme = Programme::default();
    let playlist = list(10, None);
    programme.update(at(0), playlist.clone(), None);
    assert!(programme.lost(&playlist.segments[3]));
    assert!(!programme.lost(&playlist.segments[3]));
    assert_eq!(programme.arrived(&playlist.segments[3]), None);
    assert_eq!(programme.arrived(&playlist.segments[4]), Some(Join::Starts));
    assert_eq!(programme.arrived(&playlist.segments[5]), Some(Join::Continues));
}

#[test]
fn an_old_copy_is_not_used() {
    let mut programme = Programme::default();
    programme.update(at(0), list(10, Some(5)), None);
    take_all(&mut programme);
    assert_eq!(programme.update(at(100), list(8, Some(4)), None), Update::Outdated);
    assert_eq!(programme.update(at(101), list(11, None), None), Update::Continues);
    assert_eq!(take_all(&mut programme), [16]);
}

#[test]
fn a_new_numbering_with_later_dates_is_followed_at_once() {
    let mut programme = Programme::default();
    programme.update(at(0), list(1000, Some(5)), None);
    take_all(&mut programme);
    // our place is 12 s past minute 5; the new list is joined 6 s past minute 6
    let restarts = Update::Restarts { lost: at(54) };
    assert_eq!(programme.update(at(60), list(0, Some(6)), None), restarts);
    assert_eq!(take_all(&mut programme), [3, 4, 5]);
}

#[test]
fn without_dates_a_new_numbering_must_stay_for_three_targets() {
    let mut programme = Programme::default();
    programme.update(at(0), list(1000, None), None);
    take_all(&mut programme);
    assert_eq!(programme.update(at(10), list(0, None), None), Update::Outdated);
    assert_eq!(programme.update(at(15), list(1, None), None), Update::Outdated);
    let restarts = Update::Restarts { lost: Duration::ZERO };
    assert_eq!(programme.update(at(16), list(2, None), None), restarts);
    assert_eq!(take_all(&mut programme), [5, 6, 7]);
    assert_eq!(programme.target(), Some(TWO));
}
