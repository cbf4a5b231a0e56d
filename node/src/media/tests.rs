use super::*;
use crate::hls::samples;

const RENDITION: RenditionId = RenditionId(0);

fn empty() -> Media {
    Media::new(Duration::from_secs(20), 1 << 20)
}

fn say(media: &Media, announcement: Announcement) -> bool {
    media.announce(Arc::new(announcement), Bytes::new())
}

fn positions(media: &Media) -> Vec<u64> {
    media.listing(RENDITION).iter().map(|listed| listed.position).collect()
}

/// (position, discontinuity, discontinuity sequence)
fn breaks(media: &Media) -> Vec<(u64, bool, u64)> {
    let listing = media.listing(RENDITION);
    listing.iter().map(|listed| (listed.position, listed.discontinuity, listed.discontinuity_sequence)).collect()
}

#[test]
fn segments_are_listed_in_order_whatever_order_they_are_announced_in() {
    let media = empty();
    for number in [5, 3, 4] {
        assert!(say(&media, samples::announcement(1, number)));
        assert!(!say(&media, samples::announcement(1, number)), "twice");
    }
    assert_eq!(positions(&media), [3, 4, 5]);
}

#[test]
fn chunks_are_kept_once_and_only_of_announced_segments() {
    let (media, announcement) = samples::one_segment(&[b"abc", b"de"]);
    let first = announcement.first_chunk;
    let second = ChunkNumber(first.0 + 1);
    let insert = |number| media.insert(RENDITION, Epoch(1), number, Bytes::from_static(b"abc"));
    assert!(insert(first));
    assert!(!insert(first), "twice");
    assert!(!insert(ChunkNumber(first.0 + 2)), "beyond the segment");
    assert!(!media.insert(RENDITION, Epoch(2), second, Bytes::new()), "of another epoch");
    assert_eq!(media.bytes(), 3);
    assert!(!media.listing(RENDITION)[0].complete);
    assert!(insert(second));
    assert!(media.listing(RENDITION)[0].complete);
}

#[test]
fn the_window_keeps_what_it_says_and_the_bytes_of_what_left_are_free() {
    let media = empty();
    (0..100).for_each(|number| samples::add(&media, samples::announcement(1, number)));
    assert_eq!(positions(&media), (90..100).collect::<Vec<_>>());
    assert_eq!(media.bytes(), 10 * 3);
}

#[test]
fn the_limit_in_bytes_holds_however_long_the_window() {
    let media = Media::new(Duration::from_secs(3600), 30);
    for number in 0..100 {
        samples::add(&media, samples::announcement(1, number));
        assert!(media.bytes() <= 30);
    }
    assert_eq!(positions(&media).last(), Some(&99));
}

#[test]
fn what_left_the_window_does_not_come_back() {
    let media = Media::new(Duration::from_secs(3600), 30);
    (0..100).for_each(|number| samples::add(&media, samples::announcement(1, number)));
    let before = positions(&media);
    assert!(!say(&media, samples::announcement(1, 3)));
    assert_eq!(positions(&media), before);
}

#[test]
fn a_restart_goes_on_in_our_numbers_behind_a_discontinuity() {
    let media = empty();
    for (epoch, number) in [(1, 7), (1, 8), (2, 0), (2, 1)] {
        let start = samples::announcement(1, 7 + epoch * 2 + number).start;
        say(&media, Announcement { start, ..samples::announcement(epoch, number) });
    }
    assert_eq!(breaks(&media), [(7, false, 0), (8, false, 0), (9, true, 0), (10, false, 1)]);
}

#[test]
fn a_restart_heard_of_in_the_wrong_order_is_one_discontinuity() {
    let media = empty();
    for (epoch, number) in [(1, 7), (2, 1), (2, 2)] {
        say(&media, samples::announcement(epoch, number));
    }
    assert!(!say(&media, samples::announcement(2, 0)), "its position is taken by the old epoch");
    assert_eq!(breaks(&media), [(7, false, 0), (8, true, 0), (9, false, 1)]);
    let late = empty();
    for (epoch, number) in [(1, 7), (2, 5), (2, 7), (2, 6)] {
        say(&late, samples::announcement(epoch, number));
    }
    assert_eq!(breaks(&late), [(7, false, 0), (8, true, 0), (9, false, 1), (10, false, 1)]);
}

#[test]
fn discontinuities_are_counted_as_they_leave_also_when_a_restart_leaves() {
    let media = empty();
    for number in 0..5 {
        say(&media, samples::announcement(1, number));
    }
    for number in 0..10 {
        let start = samples::announcement(1, 5 + number).start;
        say(&media, Announcement { start, ..samples::announcement(2, number) });
    }
    assert_eq!(breaks(&media)[0], (5, true, 0), "the tag stays as long as its segment");
    let start = samples::announcement(1, 15).start;
    say(&media, Announcement { start, ..samples::announcement(2, 10) });
    assert_eq!(breaks(&media)[0], (6, false, 1));
}

#[test]
fn an_own_announcement_replaced_by_a_signed_one_keeps_its_name_and_chunks() {
    let media = empty();
    let own = samples::announcement(0, 12);
    samples::add(&media, own.clone());
    let signed = Announcement { epoch: Epoch(9), segment: SegmentNumber(4), first_chunk: ChunkNumber(77), ..own };
    assert!(media.announce(Arc::new(signed.clone()), Bytes::from_static(b"signed")));
    assert!(!media.announce(Arc::new(signed), Bytes::from_static(b"signed")), "proven already");
    let listed = &media.listing(RENDITION)[0];
    assert_eq!(listed.named, (Epoch(0), SegmentNumber(12)));
    assert_eq!(listed.announcement.epoch, Epoch(9));
    assert!(!listed.discontinuity);
    assert_eq!(media.chunk(RENDITION, Epoch(9), ChunkNumber(77)), Some(Bytes::from_static(b"abc")));
    let rider = Rider { chunks: 77..78, ends: true, envelope: Envelope::Statement("signed".into()) };
    assert_eq!(media.rider(RENDITION, Epoch(9), ChunkNumber(77)), Some(rider));
}

#[test]
fn the_newest_catalogue_counts() {
    let media = empty();
    let catalogue = |epoch, version| Arc::new(Catalogue { version, ..samples::catalogue(epoch) });
    assert!(media.set_catalogue(catalogue(1, 5), Bytes::new()));
    for (epoch, version) in [(1, 5), (1, 4), (0, 9)] {
        assert!(!media.set_catalogue(catalogue(epoch, version), Bytes::new()));
    }
    assert!(media.set_catalogue(catalogue(2, 1), Bytes::from_static(b"signed")));
    assert_eq!(media.signed_catalogue(), "signed");
}

#[test]
fn init_sections_stay_as_long_as_a_segment_needs_them() {
    let media = empty();
    let catalogue = |epoch, index, body| {
        let mut catalogue = samples::catalogue(epoch);
        catalogue.renditions[0].inits = vec![samples::init(index, body)];
        Arc::new(catalogue)
    };
    media.set_catalogue(catalogue(1, 3, b"old"), Bytes::new());
    say(&media, Announcement { init: Some(3), ..samples::announcement(1, 0) });
    media.set_catalogue(catalogue(2, 0, b"new"), Bytes::new());
    assert_eq!(media.init(RENDITION, Epoch(1), 3), Some(Bytes::from_static(b"old")));
    assert_eq!(media.init(RENDITION, Epoch(2), 0), Some(Bytes::from_static(b"new")));
    for number in 0..20 {
        let start = samples::announcement(1, 1 + number).start;
        say(&media, Announcement { start, init: Some(0), ..samples::announcement(2, number) });
    }
    media.set_catalogue(catalogue(3, 0, b"newest"), Bytes::new());
    assert_eq!(media.init(RENDITION, Epoch(1), 3), None);
    assert_eq!(media.init(RENDITION, Epoch(2), 0), Some(Bytes::from_static(b"new")));
}

#[test]
fn every_change_is_told() {
    let (media, announcement) = samples::one_segment(&[b"abc"]);
    let mut changes = media.changes();
    samples::insert(&media, &announcement, 0, b"abc");
    assert!(changes.has_changed().expect("alive"));
    changes.mark_unchanged();
    samples::insert(&media, &announcement, 0, b"abc");
    assert!(!changes.has_changed().expect("alive"), "nothing changed");
    say(&media, samples::announcement(1, 1));
    assert!(changes.has_changed().expect("alive"));
}

#[test]
fn ready_is_what_has_come_of_the_newest_segment() {
    let (media, announcement) = samples::one_segment(&[b"abc", b"d"]);
    assert_eq!(media.ready_until(RENDITION), None);
    samples::insert(&media, &announcement, 0, b"abc");
    assert_eq!(media.ready_until(RENDITION), Some(samples::NOON + Duration::from_millis(1500)));
    samples::insert(&media, &announcement, 1, b"d");
    assert_eq!(media.ready_until(RENDITION), Some(announcement.end()));
}

/// What the broadcaster signed in `epoch` of the origin's segment `file`, which it calls `number`.
fn signed(media: &Media, epoch: u64, number: u64, file: u64) -> bool {
    let announcement = Announcement { ..of_file(epoch, number, file) };
    media.announce(Arc::new(announcement), Bytes::from_static(b"signed"))
}

fn of_file(epoch: u64, number: u64, file: u64) -> Announcement {
    let start = samples::announcement(epoch, file).start;
    Announcement { uri: format!("{file}.ts"), start, ..samples::announcement(epoch, number) }
}

#[test]
fn without_the_broadcaster_the_origins_numbers_go_on_from_what_is_here() {
    let media = empty();
    media.set_catalogue(Arc::new(samples::catalogue(10)), Bytes::from_static(b"signed"));
    (0..3).for_each(|n| assert!(signed(&media, 10, n, 500 + n)));
    assert!(!media.goes_on_from(RENDITION, ("499.ts", 0), Epoch(11), 499));
    assert!(media.goes_on_from(RENDITION, ("501.ts", 0), Epoch(11), 501));
    samples::add(&media, of_file(11, 504, 504));
    samples::add(&media, of_file(11, 503, 503));
    samples::add(&media, of_file(11, 502, 502));
    assert_eq!(positions(&media), [0, 1, 2, 3, 4]);
    // The broadcaster is back and says the newest again, one more between, and what follows.
    let mut date = of_file(20, 7, 504);
    date.start = date.start.shifted(700_000);
    assert!(media.announce(Arc::new(date), Bytes::from_static(b"signed")), "dated by another observer");
    assert!(signed(&media, 20, 6, 503));
    assert!(signed(&media, 20, 8, 505));
    assert_eq!(positions(&media), [0, 1, 2, 3, 4, 5]);
    assert_eq!(media.chunk(RENDITION, Epoch(20), ChunkNumber(700)), Some(Bytes::from_static(b"abc")));
    let names: Vec<u64> = media.listing(RENDITION).iter().map(|listed| listed.named.0.0).collect();
    assert_eq!(names, [10, 10, 10, 11, 11, 20]);
}

#[test]
fn a_broadcaster_that_was_only_out_of_reach_goes_on_where_it_was() {
    let media = empty();
    media.set_catalogue(Arc::new(samples::catalogue(10)), Bytes::from_static(b"signed"));
    (0..2).for_each(|n| assert!(signed(&media, 10, n, 500 + n)));
    for gap in 1..5 {
        let (file, epoch) = (500 + 2 * gap, 10 + gap);
        assert!(media.goes_on_from(RENDITION, (&format!("{}.ts", file - 1), 0), Epoch(epoch), file - 1));
        samples::add(&media, of_file(epoch, file, file));
        assert!(signed(&media, 10, 2 * gap, file), "proven afterwards");
        assert!(signed(&media, 10, 2 * gap + 1, file + 1));
    }
    assert_eq!(positions(&media), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_restarted_broadcaster_that_says_again_what_was_signed_can_be_served_from() {
    let media = empty();
    samples::add(&media, of_file(10, 4, 500));
    assert!(signed(&media, 10, 4, 500));
    assert!(signed(&media, 20, 0, 500));
    assert!(!signed(&media, 10, 4, 500), "the old start is over");
    assert_eq!(media.chunk(RENDITION, Epoch(20), ChunkNumber(0)), Some(Bytes::from_static(b"abc")));
    assert!(signed(&media, 20, 1, 501));
    assert_eq!(breaks(&media), [(4, false, 0), (5, true, 0)]);
}

#[test]
fn init_sections_of_both_the_signed_catalogue_and_the_one_made_here_stay() {
    let media = empty();
    let catalogue = |epoch, version, index| {
        let mut catalogue = Catalogue { version, ..samples::catalogue(epoch) };
        catalogue.renditions[0].inits = vec![samples::init(index, b"init")];
        catalogue
    };
    media.set_catalogue(Arc::new(catalogue(10, 1, 0)), Bytes::from_static(b"signed"));
    media.add_inits(&catalogue(11, 1, 0));
    media.set_catalogue(Arc::new(catalogue(10, 2, 0)), Bytes::from_static(b"signed"));
    assert!(media.init(RENDITION, Epoch(10), 0).is_some());
    assert!(media.init(RENDITION, Epoch(11), 0).is_some());
    media.add_inits(&catalogue(11, 2, 1));
    assert!(media.init(RENDITION, Epoch(10), 0).is_some());
    assert!(media.init(RENDITION, Epoch(11), 0).is_none(), "nobody needs it any more");
}

/// The newest two of the first `parts` parts, and its signature.
fn more(parts: usize) -> (Continuation, Bytes) {
    let more = Continuation::of(&samples::grown(0, parts), 2).expect("more than that");
    (more, Bytes::from(format!("more {parts}")))
}

#[test]
fn what_is_told_piece_by_piece_is_passed_on_so_until_it_is_told_as_one() {
    let media = empty();
    let said = |parts| Arc::new(samples::grown(0, parts));
    let rider = |chunk| media.rider(RENDITION, Epoch(1), ChunkNumber(chunk)).expect("signed");
    let more_of = |chunks: std::ops::Range<u64>, signed: &'static str| Rider {
        ends: chunks.end == 4,
        chunks,
        envelope: Envelope::Continuation(signed.into()),
    };
    media.announce(said(2), "first two".into());
    for parts in [3, 4] {
        let (more, signed) = more(parts);
        media.continued(said(parts), &more, signed);
    }
    assert_eq!(media.proven(RENDITION, Epoch(1), SegmentNumber(0)), Some(said(4)));
    assert_eq!(rider(0), Rider { chunks: 0..2, ends: false, envelope: Envelope::Statement("first two".into()) });
    assert_eq!(rider(1), more_of(1..3, "more 3"), "and what comes next");
    assert_eq!(rider(2), more_of(2..4, "more 4"));
    assert_eq!(rider(3), more_of(2..4, "more 4"));
    let window = media.newest(Some(RENDITION), None, None);
    assert_eq!((window.announcements, window.continuations), (vec!["first two".into()], vec!["more 4".into()]));
    assert_eq!(media.stated_by(&said(4), &"all".into()), None, "not as one");
    assert!(media.announce(said(4), "all".into()));
    assert_eq!(media.stated_by(&said(4), &"all".into()), Some(said(4)));
    assert_eq!(media.stated_by(&said(4), &"another's".into()), None, "with a signature nobody looked at");
    let window = media.newest(Some(RENDITION), None, None);
    assert_eq!((window.announcements, window.continuations), (vec!["all".into()], vec![]));
}

#[test]
fn what_ends_a_segment_is_told_instead_of_what_it_repeats() {
    let media = empty();
    let open = Announcement { growing: true, ..samples::grown(0, 4) };
    media.announce(Arc::new(samples::grown(0, 2)), "first two".into());
    for announcement in [open, samples::grown(0, 4)] {
        let more = Continuation::of(&announcement, 2).expect("more than that");
        let signed = if more.ends { "end" } else { "on" };
        media.continued(Arc::new(announcement), &more, signed.into());
    }
    let rider = media.rider(RENDITION, Epoch(1), ChunkNumber(3)).expect("signed");
    assert_eq!(rider.envelope, Envelope::Continuation("end".into()));
    assert_eq!(media.newest(Some(RENDITION), None, None).continuations, ["end"]);
}

#[test]
fn who_knows_the_beginning_is_told_what_follows() {
    let media = empty();
    for number in 3..6 {
        media.announce(Arc::new(samples::announcement(1, number)), Bytes::from(format!("signed {number}")));
    }
    let told = |since: Option<u64>| media.newest(Some(RENDITION), since.map(SegmentNumber), None).announcements;
    assert_eq!(told(Some(4)), ["signed 4", "signed 5"]);
    assert_eq!(told(Some(9)).len(), 3, "that one isn't here: all there is");
    assert_eq!(told(None).len(), 3);
}

#[test]
fn who_knows_a_part_of_a_segment_is_told_the_rest_of_it() {
    let media = empty();
    let grown = |parts, growing| Announcement { growing, ..samples::grown(0, parts) };
    media.announce(Arc::new(grown(2, true)), "first two".into());
    for (parts, growing) in [(3, true), (4, true), (4, false)] {
        let announcement = grown(parts, growing);
        let more = Continuation::of(&announcement, 2).expect("more than that");
        let signed = if growing { format!("to {parts}") } else { "end".into() };
        media.continued(Arc::new(announcement), &more, signed.into());
    }
    let told = |known| {
        let window = media.newest(Some(RENDITION), Some(SegmentNumber(0)), Some(ChunkNumber(known)));
        [window.announcements, window.continuations].concat()
    };
    assert_eq!(told(0), ["first two", "end"], "what its beginning is only the announcement says");
    assert_eq!(told(1), ["to 3", "end"]);
    assert_eq!(told(2), ["end"]);
    assert_eq!(told(4), ["end"], "it isn't known to have ended");
    assert_eq!(told(5), [""; 0]);
    media.announce(Arc::new(samples::grown(1, 1)), "the next".into());
    assert_eq!(told(5), ["the next"]);
}
