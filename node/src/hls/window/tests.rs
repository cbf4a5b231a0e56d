use super::*;
use crate::hls::samples;

/// Positions, with a minus before those of gaps.
fn positions(media: &Media, rules: Rules) -> Vec<i64> {
    let sign = |entry: &Entry| if entry.media.is_some() { 1 } else { -1 };
    let entries = window(media, RenditionId(0), rules).entries;
    entries.iter().map(|entry| entry.position as i64 * sign(entry)).collect()
}

fn media_with(numbers: impl IntoIterator<Item = u64>) -> Arc<Media> {
    let media = samples::media(samples::catalogue(1));
    numbers.into_iter().for_each(|number| samples::add(&media, samples::announcement(1, number)));
    media
}

#[test]
fn few_segments_are_all_listed_and_of_many_the_newer_half() {
    assert_eq!(positions(&media_with(1..=6), Rules::default()), [1, 2, 3, 4, 5, 6]);
    assert_eq!(positions(&media_with(1..=8), Rules::default()), [3, 4, 5, 6, 7, 8]);
    assert_eq!(positions(&media_with(1..=16), Rules::default()), [9, 10, 11, 12, 13, 14, 15, 16]);
}

#[test]
fn the_first_position_never_falls_as_segments_come_and_go() {
    let media = media_with([]);
    let mut first = 0;
    for number in 1..200 {
        samples::add(&media, samples::announcement(1, number));
        let now = positions(&media, Rules::default())[0];
        assert!(now >= first, "{now} after {first}");
        first = now;
    }
    assert!(first > 150);
}

#[test]
fn nothing_is_listed_below_what_was_listed_before() {
    assert_eq!(positions(&media_with(1..=5), Rules { from: 3, ..Rules::default() }), [3, 4, 5]);
}

#[test]
fn a_hole_becomes_gaps_once_a_second_segment_follows_it() {
    let media = media_with([1, 2, 5]);
    assert_eq!(positions(&media, Rules::default()), [1, 2]);
    samples::add(&media, samples::announcement(1, 6));
    assert_eq!(positions(&media, Rules::default()), [1, 2, -3, -4, 5, 6]);
    samples::add(&media, samples::announcement(1, 4));
    assert_eq!(positions(&media, Rules::default()), [1, 2, -3, 4, 5, 6]);
}

#[test]
fn at_the_end_of_the_programme_the_last_segment_is_listed_whatever_precedes_it() {
    let rules = Rules { ended: true, ..Rules::default() };
    assert_eq!(positions(&media_with([1, 2, 5]), rules), [1, 2, -3, -4, 5]);
}

#[test]
fn gaps_share_the_time_between_their_neighbours() {
    let media = media_with([1, 2, 5, 6]);
    let entries = window(&media, RenditionId(0), Rules::default()).entries;
    let times: Vec<(i64, u64)> =
        entries.iter().map(|e| ((e.start.0 - samples::NOON.0) / 1_000_000, e.duration_us)).collect();
    assert_eq!(times, [2, 4, 6, 8, 10, 12].map(|seconds| (seconds, 2_000_000)));
}

#[test]
fn a_long_hole_is_a_new_beginning() {
    assert_eq!(positions(&media_with([1, 2, 100, 101]), Rules::default()), [100, 101]);
}

#[test]
fn a_segment_is_listed_when_announced_or_when_complete_as_asked() {
    let media = media_with([1, 2]);
    media.announce(Arc::new(samples::announcement(1, 3)), Bytes::new());
    assert_eq!(positions(&media, Rules::default()), [1, 2, 3]);
    assert_eq!(positions(&media, Rules { complete_only: true, ..Rules::default() }), [1, 2]);
}

#[test]
fn a_segment_waits_for_its_init_section() {
    let media = media_with([]);
    for number in 1..=3 {
        let init = Some(if number < 3 { 0 } else { 1 });
        samples::add(&media, Announcement { init, ..samples::announcement(1, number) });
    }
    assert_eq!(positions(&media, Rules::default()), [0; 0]);
    let mut catalogue = samples::catalogue(1);
    catalogue.version = 2;
    catalogue.renditions[0].inits = vec![samples::init(0, b"....ftyp")];
    media.set_catalogue(Arc::new(catalogue.clone()), Bytes::new());
    assert_eq!(positions(&media, Rules::default()), [1, 2]);
    catalogue.version = 3;
    catalogue.renditions[0].inits.push(samples::init(1, b"....ftyp"));
    media.set_catalogue(Arc::new(catalogue), Bytes::new());
    assert_eq!(positions(&media, Rules::default()), [1, 2, 3]);
}

#[test]
fn a_player_that_begins_is_not_told_of_parts_that_are_only_on_their_way() {
    let media = samples::media(samples::catalogue(1));
    for number in [1, 2] {
        media.announce(Arc::new(samples::grown(number, 4)), Bytes::new());
    }
    let listed = |most: u64, held: &[usize]| {
        let mut window = window(&media, RenditionId(0), Rules::default());
        window.without_fresh_parts(Duration::from_millis(most), |_, part| held.contains(&part));
        window.end()
    };
    assert_eq!(listed(5000, &[0, 1, 2, 3]), Some((2, None)), "all are here");
    assert_eq!(listed(5000, &[0, 1]), Some((2, Some(2))));
    assert_eq!(listed(1000, &[0]), Some((2, Some(2))), "two of half a second are as many as may be left out");
    assert_eq!(listed(2000, &[]), Some((1, None)));
}
