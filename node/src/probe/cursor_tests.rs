//! Where play starts, goes on and lands.

use std::sync::Arc;

use url::Url;

use super::super::playlist::Resource;
use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Segments of the given lengths, numbered from `first`, captured from 1000 + 2 × `first` on; target 2 s.
fn playlist(first: u64, lengths: &[f64]) -> MediaPlaylist {
    let mut capture = 1000.0 + 2.0 * first as f64;
    let segments = (first..).zip(lengths).map(|(sequence, length)| {
        let segment = Segment {
            sequence,
            part: None,
            discontinuity: 0,
            duration: seconds(*length),
            resource: Resource { url: Url::parse("http://h/s").expect("a valid address"), range: None },
            map: None::<Arc<Resource>>,
            opaque: false,
            gap: false,
            capture: Some(capture),
        };
        capture += length;
        segment
    });
    MediaPlaylist {
        target: seconds(2.0),
        hold_back: seconds(6.0),
        start: None,
        ended: false,
        first,
        segments: segments.collect(),
        low_latency: None,
    }
}

fn started(playlist: &MediaPlaylist) -> (u64, f64) {
    let (cursor, offset) = Cursor::start(playlist, None).expect("there are segments");
    (cursor.sequence, offset.as_secs_f64())
}

#[test]
fn a_live_start_is_the_hold_back_from_the_end() {
    assert_eq!(started(&playlist(10, &[2.0; 6])), (13, 0.0));
    let mut far = playlist(10, &[2.0; 6]);
    far.hold_back = seconds(9.0);
    assert_eq!(started(&far), (11, 1.0), "exact, inside a segment");
}

#[test]
fn rounded_durations_do_not_choose_a_segment_too_early() {
    // 6 s from the end lies 3 ms before the third segment from the end
    assert_eq!(started(&playlist(0, &[1.999; 6])), (3, 0.0));
    assert_eq!(started(&playlist(0, &[2.002; 6])).0, 3);
    let (sequence, offset) = started(&playlist(0, &[1.92; 6]));
    assert_eq!(sequence, 3, "0.24 s before it is still within the tolerance");
    assert_eq!(offset, 0.0);
    assert_eq!(started(&playlist(0, &[1.9; 6])).0, 2, "0.3 s is not");
}

#[test]
fn a_short_list_starts_at_its_beginning() {
    assert_eq!(started(&playlist(0, &[2.0, 2.0])), (0, 0.0));
    assert_eq!(Cursor::start(&playlist(0, &[]), None), None);
}

#[test]
fn a_tiny_hold_back_still_leaves_a_target_duration() {
    let mut near = playlist(0, &[2.0; 6]);
    near.hold_back = Duration::ZERO;
    assert_eq!(started(&near), (5, 0.0));
}

#[test]
fn an_ended_list_starts_at_its_beginning() {
    let mut ended = playlist(7, &[2.0; 6]);
    ended.ended = true;
    assert_eq!(started(&ended), (7, 0.0));
    let mut short = playlist(7, &[0.1; 6]);
    short.ended = true;
    assert_eq!(started(&short), (7, 0.0), "also if its segments are shorter than the tolerance");
}

#[test]
fn a_given_start_counts_from_either_end() {
    let mut list = playlist(0, &[2.0; 6]);
    list.start = Some(3.0);
    assert_eq!(started(&list), (1, 1.0));
    list.start = Some(-3.0);
    assert_eq!(started(&list), (4, 1.0));
    list.start = Some(-1e300);
    assert_eq!(started(&list), (0, 0.0));
    list.start = Some(1e300);
    assert_eq!(started(&list), (5, 2.0));
    let (cursor, _) = Cursor::start(&list, Some(0.0)).expect("there are segments");
    assert_eq!(cursor.sequence, 0, "the multivariant playlist's goes first");
}

#[test]
fn a_start_on_a_gap_goes_to_the_beginning_of_what_follows() {
    let mut list = playlist(0, &[2.0; 6]);
    list.start = Some(3.0);
    list.segments[1].gap = true;
    assert_eq!(started(&list), (1, 0.0));
}

#[test]
fn takes_segments_in_order_and_waits_for_the_next() {
    let list = playlist(10, &[2.0; 4]);
    let (mut cursor, _) = Cursor::start(&list, None).expect("there are segments");
    for sequence in 11..14 {
        let View::Ready(segment) = cursor.look(&list) else {
            panic!("segment {sequence} is listed");
        };
        assert_eq!(segment.sequence, sequence);
        cursor.pass(segment, true);
    }
    assert_eq!(cursor.look(&list), View::Wait);
    let ended = MediaPlaylist { ended: true, ..list };
    assert_eq!(cursor.look(&ended), View::Complete);
}

#[test]
fn knows_how_segments_join() {
    let mut list = playlist(0, &[2.0; 3]);
    list.segments[2].discontinuity = 1;
    let mut cursor = Cursor::start(&list, Some(0.0)).expect("there are segments").0;
    assert_eq!(cursor.join(&list.segments[0]), Join::Starts);
    cursor.pass(&list.segments[0], true);
    assert_eq!(cursor.join(&list.segments[1]), Join::Continues);
    cursor.pass(&list.segments[1], true);
    assert_eq!(cursor.join(&list.segments[2]), Join::Breaks);
    cursor.pass(&list.segments[2], false);
    assert_eq!(cursor.join(&list.segments[2]), Join::Starts, "a lost segment joins nothing");
}

#[test]
fn rejoins_at_the_hold_back_and_tells_what_was_lost() {
    let mut cursor = Cursor::start(&playlist(10, &[2.0; 6]), None).expect("there are segments").0;
    let later = playlist(30, &[2.0; 6]);
    assert_eq!(cursor.look(&later), View::Behind);
    assert_eq!(cursor.rejoin(&later), Some(seconds(40.0)), "from 13 to 33, by the dates");
    assert!(matches!(cursor.look(&later), View::Ready(segment) if segment.sequence == 33));
}

#[test]
fn without_dates_the_loss_is_counted_in_target_durations() {
    let undated = |first| {
        let mut list = playlist(first, &[1.0; 6]);
        list.segments.iter_mut().for_each(|segment| segment.capture = None);
        list
    };
    let mut cursor = Cursor::start(&undated(10), None).expect("there are segments").0;
    assert_eq!(cursor.sequence, 10);
    assert_eq!(cursor.rejoin(&undated(30)), Some(seconds(40.0)));
}

#[test]
fn an_old_copy_is_told_from_a_new_numbering_by_its_dates() {
    let list = playlist(10, &[2.0; 6]);
    let mut cursor = Cursor::start(&list, None).expect("there are segments").0;
    list.segments[3..].iter().for_each(|segment| cursor.pass(segment, true));
    let old = playlist(9, &[2.0; 6]);
    assert_eq!(cursor.look(&old), View::Ahead);
    assert_eq!(cursor.started_anew(&old), Some(false));
    let mut new = playlist(0, &[2.0; 3]);
    new.segments.iter_mut().for_each(|segment| segment.capture = segment.capture.map(|at| at + 100.0));
    assert_eq!(cursor.look(&new), View::Ahead);
    assert_eq!(cursor.started_anew(&new), Some(true));
    new.segments[2].capture = None;
    assert_eq!(cursor.started_anew(&new), None);
}
