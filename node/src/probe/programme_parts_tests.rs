//! A programme told in parts: where play starts, what is taken next, and what that makes of the player's timeline. The
//! clock is made up.

use url::Url;

use super::super::{
    player::{Interruptions, Player},
    playlist::{ByteRange, Playlist, PlaylistError},
    variables::Variables,
};
use super::*;

const PART: Duration = Duration::from_millis(200);

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// What differs from the usual in a list.
#[derive(Clone, Copy, Default)]
struct Unusual {
    /// A part declared absent.
    gap: Option<(u64, u64)>,
    /// Parts that are independent beside the first of each segment.
    also_independent: Option<u64>,
    /// No parts of whole segments are listed.
    bare: bool,
    /// A delta update that leaves out so many segments.
    skipped: Option<u64>,
}

fn text(whole: u64, growing: u64, unusual: Unusual) -> String {
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6,\
                    CAN-SKIP-UNTIL=12\n#EXT-X-PART-INF:PART-TARGET=0.2\n"
        .to_owned();
    match unusual.skipped {
        Some(skipped) => text += &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"),
        None => text += "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:16:40Z\n",
    }
    for sequence in unusual.skipped.unwrap_or(0)..=whole {
        let parts = if sequence == whole {
            growing
        } else if sequence + 3 >= whole && !unusual.bare {
            10
        } else {
            0
        };
        for index in 0..parts {
            let independent = index == 0 || unusual.also_independent == Some(index);
            let independent = if independent { ",INDEPENDENT=YES" } else { "" };
            let gap = if unusual.gap == Some((sequence, index)) { ",GAP=YES" } else { "" };
            text += &format!("#EXT-X-PART:DURATION=0.2,URI=\"{sequence}.{index}.mp4\"{independent}{gap}\n");
        }
        if sequence < whole {
            text += &format!("#EXTINF:2,\n{sequence}.mp4\n");
        }
    }
    text + &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{whole}.{growing}.mp4\"\n")
}

fn read(known: Option<&MediaPlaylist>, text: &str) -> Result<MediaPlaylist, PlaylistError> {
    let address = Url::parse("http://h/p.m3u8").expect("a valid address");
    match Playlist::read_after(known, text, &address, &Variables::default())? {
        Playlist::Media(media) => Ok(media),
        Playlist::Multivariant(_) => panic!("not a media playlist"),
    }
}

/// Segments from 0 on, captured from 1000 on; so many whole, and so many parts of the next.
fn list(whole: u64, growing: u64) -> MediaPlaylist {
    unusual(whole, growing, Unusual::default())
}

fn unusual(whole: u64, growing: u64, unusual: Unusual) -> MediaPlaylist {
    read(None, &text(whole, growing, unusual)).expect("it can be read")
}

fn started(playlist: MediaPlaylist) -> (Programme, Duration) {
    let mut programme = Programme::default();
    let Update::Begins { offset } = programme.update(Duration::ZERO, playlist, None) else {
        panic!("it does not begin");
    };
    (programme, offset)
}

/// The names of everything that is listed to fetch.
fn take_all(programme: &mut Programme) -> Vec<String> {
    let mut taken = Vec::new();
    while let Next::Fetch(segment) = programme.next() {
        assert!(programme.arrived(&segment).is_some());
        taken.push(segment.resource.url.path().trim_start_matches('/').trim_end_matches(".mp4").to_owned());
    }
    taken
}

#[test]
fn decodes_from_the_newest_independent_part_and_shows_from_the_hold_back() {
    // the end is at 17.4, the hold-back at 16.8
    let (mut programme, offset) = started(list(8, 7));
    assert_eq!((take_all(&mut programme)[0].as_str(), offset), ("8.0", at(0.8)));
    let (mut programme, offset) = started(unusual(8, 7, Unusual { also_independent: Some(3), ..Unusual::default() }));
    assert_eq!((take_all(&mut programme)[0].as_str(), offset), ("8.3", at(0.2)));
    // in the segment before the one that grows
    let (mut programme, offset) = started(list(8, 2));
    assert_eq!((take_all(&mut programme)[0].as_str(), offset), ("7.0", at(1.8)));
    let (mut programme, offset) = started(list(8, 3));
    assert_eq!((take_all(&mut programme)[0].as_str(), offset), ("8.0", at(0.0)), "rounding does not choose too early");
}

#[test]
fn starts_with_a_whole_segment_where_no_parts_are_listed() {
    let (mut programme, offset) = started(unusual(8, 1, Unusual { bare: true, ..Unusual::default() }));
    assert_eq!(offset, at(1.6));
    assert_eq!(take_all(&mut programme), ["7", "8.0"]);
    let mut given = list(8, 4);
    given.start = Some(2.5);
    let (mut programme, offset) = started(given);
    assert_eq!(offset, at(0.5));
    let taken = take_all(&mut programme);
    assert_eq!((taken[3].as_str(), taken[4].as_str(), taken.len()), ("4", "5.0", 4 + 30 + 4));
    let (mut programme, offset) = started(list(0, 1));
    assert_eq!(
        (take_all(&mut programme), offset),
        (vec!["0.0".to_owned()], Duration::ZERO),
        "the first moments of a stream"
    );
}

#[test]
fn nothing_that_was_taken_in_parts_is_taken_again() {
    let (mut programme, _) = started(list(8, 9));
    assert_eq!(take_all(&mut programme).len(), 9);
    programme.update(at(0.2), list(9, 0), None);
    assert_eq!(take_all(&mut programme), ["8.9"]);
    programme.update(at(0.4), list(9, 2), None);
    assert_eq!(take_all(&mut programme), ["9.0", "9.1"]);
    assert_eq!(programme.next(), Next::Wait);
    // an older copy, with fewer parts
    programme.update(at(0.5), list(9, 1), None);
    assert_eq!(programme.next(), Next::Wait);
    assert_eq!(programme.hint(), None, "what the old copy hints at was taken");
    programme.update(at(0.6), list(9, 3), None);
    assert_eq!(take_all(&mut programme), ["9.2"]);
}

#[test]
fn when_parts_disappear_the_rest_comes_from_the_whole_segment() {
    let (mut programme, _) = started(list(8, 7));
    take_all(&mut programme);
    programme.update(at(9.0), list(13, 4), None);
    let Next::Fetch(segment) = programme.next() else { panic!("segment 8 is listed") };
    assert_eq!((segment.place(), segment.part), ((8, 0), None));
    assert_eq!(programme.so_far(&segment), at(1.4));
    assert!(programme.arrived(&segment).is_some());
    let taken = take_all(&mut programme);
    assert_eq!((taken[0].as_str(), taken[1].as_str(), taken.len()), ("9", "10.0", 1 + 30 + 4));

    // of a segment that was taken to its end, nothing
    let (mut programme, _) = started(list(8, 9));
    take_all(&mut programme);
    programme.update(at(0.2), list(9, 0), None);
    take_all(&mut programme);
    programme.update(at(9.0), list(13, 0), None);
    assert_eq!(take_all(&mut programme)[0], "9");
}

#[test]
fn a_part_that_cannot_be_had_comes_with_its_segment() {
    let (mut programme, _) = started(list(8, 5));
    let Next::Fetch(part) = programme.next() else { panic!("it is listed") };
    assert!(programme.forgo_parts(&part));
    assert!(!programme.forgo_parts(&part), "it is no longer expected");
    assert_eq!((programme.next(), programme.hint()), (Next::Wait, None));
    programme.update(at(1.0), list(9, 1), None);
    assert_eq!(take_all(&mut programme), ["8", "9.0"]);
}

#[test]
fn what_builds_on_an_absent_part_cannot_be_decoded() {
    let holed = Unusual { gap: Some((8, 4)), ..Unusual::default() };
    let (mut programme, _) = started(unusual(8, 4, holed));
    assert_eq!(take_all(&mut programme).len(), 4);
    programme.update(at(0.4), unusual(8, 7, holed), None);
    assert_eq!(programme.next(), Next::Gap(PART));
    assert_eq!(programme.next(), Next::Undecodable(PART));
    assert_eq!(programme.next(), Next::Undecodable(PART));
    assert_eq!((programme.next(), programme.hint()), (Next::Wait, None), "the next one cannot be decoded either");
    programme.update(at(1.0), unusual(9, 1, holed), None);
    assert_eq!(programme.next(), Next::Undecodable(PART));
    assert_eq!(programme.next(), Next::Undecodable(PART));
    assert_eq!(programme.next(), Next::Undecodable(PART));
    assert_eq!(take_all(&mut programme), ["9.0"]);
}

#[test]
fn what_is_hinted_at_is_what_is_listed_next() {
    let (mut programme, _) = started(list(8, 5));
    assert_eq!(programme.hint(), None, "first comes what is listed");
    take_all(&mut programme);
    let hint = programme.hint().expect("there is one").clone();
    assert_eq!((hint.place(), hint.capture), ((8, 5), None));
    programme.update(at(0.2), list(8, 6), None);
    let Next::Fetch(listed) = programme.next() else { panic!("it is listed") };
    assert!(listed.is_same_media(&hint));
    assert!(listed.capture.is_some_and(|capture| (capture - 1017.0).abs() < 1e-6), "{listed:?}");
    assert!(programme.is_new(&listed));
}

#[test]
fn a_hint_of_a_file_that_holds_several_parts_needs_a_length() {
    let hint = |attributes: &str| {
        let whole = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.5.mp4\"\n";
        let list = text(8, 5, Unusual::default()).replace(whole, &format!("#EXT-X-PRELOAD-HINT:{attributes}\n"));
        let hint = read(None, &list).expect("it can be read").low_latency.expect("it lists parts").hint;
        hint.map(|hint| (hint.resource.url.path().to_owned(), hint.resource.range))
    };
    let range = ByteRange { offset: 70, length: 9 };
    assert_eq!(hint("TYPE=PART,URI=\"x\""), Some(("/x".to_owned(), None)));
    let closed = hint("TYPE=PART,URI=\"8.mp4\",BYTERANGE-START=70,BYTERANGE-LENGTH=9");
    assert_eq!(closed, Some(("/8.mp4".to_owned(), Some(range))));
    for unusable in [
        "TYPE=MAP,URI=\"init.mp4\"",
        "TYPE=PART,URI=\"8.mp4\",BYTERANGE-START=70",
        "TYPE=PART,URI=\"8.mp4\",BYTERANGE-START=70,BYTERANGE-LENGTH=0",
        "TYPE=PART",
    ] {
        assert_eq!(hint(unusable), None, "{unusable}");
    }
}

#[test]
fn a_delta_update_goes_on_from_what_is_known() {
    let known = list(8, 5);
    let delta = text(9, 2, Unusual { skipped: Some(3), ..Unusual::default() });
    let merged = read(Some(&known), &delta).expect("everything left out is known");
    assert_eq!(merged, list(9, 2));
    let hole = text(12, 0, Unusual { skipped: Some(9), ..Unusual::default() });
    assert_eq!(read(Some(&known), &hole), Err(PlaylistError::Delta));
    for absurd in ["", "#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n"] {
        let absurd = format!("{absurd}#EXT-X-SKIP:SKIPPED-SEGMENTS=18446744073709551615\n#EXT-X-MAP");
        let absurd = text(12, 0, Unusual::default()).replace("#EXT-X-MAP", &absurd);
        assert_eq!(read(Some(&known), &absurd), Err(PlaylistError::Delta));
    }
}

#[test]
fn tells_whether_parts_add_up() {
    assert!(list(8, 5).parts_add_up());
    let wrong = read(None, &text(8, 5, Unusual::default()).replace("#EXTINF:2,\n7", "#EXTINF:2.2,\n7"));
    assert!(!wrong.expect("it can be read").parts_add_up());
}

#[test]
fn an_incomplete_low_latency_playlist_is_an_ordinary_one() {
    for (from, to) in [
        ("CAN-BLOCK-RELOAD=YES,", ""),
        ("PART-HOLD-BACK=0.6,", ""),
        ("#EXT-X-PART-INF:PART-TARGET=0.2\n", ""),
        ("PART-TARGET=0.2", "PART-TARGET=0"),
        ("PART-HOLD-BACK=0.6", "PART-HOLD-BACK=-1"),
    ] {
        let playlist = read(None, &text(8, 5, Unusual::default()).replace(from, to)).expect("it can be read");
        assert_eq!(playlist.low_latency, None, "{from:?}");
        assert_eq!(playlist.segments.len(), 8);
    }
}

#[test]
fn a_programme_left_behind_is_joined_anew_at_the_hold_back() {
    let (mut programme, _) = started(list(8, 5));
    take_all(&mut programme);
    let mut later = list(30, 5);
    later.segments.drain(..20);
    later.first = 20;
    programme.update(at(50.0), later, None);
    // from 1017.0 to the beginning of 30, of which 0.4 s are only decoded
    assert_eq!(programme.next(), Next::Skip(at(43.0)));
    assert_eq!(programme.lead_in(), at(0.4));
    assert_eq!(take_all(&mut programme)[0], "30.0");
    assert_eq!(programme.lead_in(), Duration::ZERO);
}

#[test]
fn numbers_that_end_stop_it_but_do_not_hold_it() {
    let holed = Unusual { gap: Some((0, 9)), ..Unusual::default() };
    let last = text(1, 0, holed).replace("#EXT-X-MAP", "#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXT-X-MAP");
    let (mut programme, _) = started(read(None, &last).expect("it can be read"));
    assert_eq!(take_all(&mut programme).len(), 9, "up to the gap");
    assert_eq!(programme.next(), Next::Wait);
}

/// Lines in no order that makes sense.
const LINES: [&str; 24] = [
    "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6,CAN-SKIP-UNTIL=12",
    "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=86400",
    "#EXT-X-PART-INF:PART-TARGET=0.2",
    "#EXT-X-PART-INF:PART-TARGET=86400",
    "#EXT-X-MEDIA-SEQUENCE:7",
    "#EXT-X-MEDIA-SEQUENCE:18446744073709551615",
    "#EXT-X-SKIP:SKIPPED-SEGMENTS=1",
    "#EXT-X-SKIP:SKIPPED-SEGMENTS=18446744073709551615",
    "#EXT-X-DISCONTINUITY",
    "#EXT-X-DISCONTINUITY-SEQUENCE:18446744073709551615",
    "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:16:40Z",
    "#EXT-X-PROGRAM-DATE-TIME:9999-12-31T23:59:59Z",
    "#EXT-X-MAP:URI=\"init.mp4\"",
    "#EXT-X-GAP",
    "#EXT-X-ENDLIST",
    "#EXT-X-PART:DURATION=0.2,URI=\"a\"",
    "#EXT-X-PART:DURATION=0.2,URI=\"a\",INDEPENDENT=YES",
    "#EXT-X-PART:DURATION=0.2,URI=\"a\",GAP=YES",
    "#EXT-X-PART:DURATION=86400,URI=\"a\",BYTERANGE=\"18446744073709551615\"",
    "#EXT-X-PART:DURATION=0,URI=\"a\",BYTERANGE=\"1@18446744073709551615\"",
    "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b\"",
    "#EXT-X-START:TIME-OFFSET=-1e300",
    "#EXTINF:2,\nc",
    "#EXTINF:0,\nc",
];

proptest::proptest! {
    #[test]
    fn no_order_of_lines_leads_astray(
        lists in proptest::collection::vec(proptest::collection::vec(0..LINES.len(), 0..40), 1..6),
        farthest in 0..10_u64,
    ) {
        let mut programme = Programme::default();
        for (time, lines) in (0..).zip(lists) {
            let body: String = lines.into_iter().map(|line| format!("{}\n", LINES[line])).collect();
            let body = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{body}");
            let Ok(playlist) = read(programme.playlist(), &body) else { continue };
            programme.update(Duration::from_secs(time), playlist, None);
            programme.jump(at(0.1), Duration::from_secs(farthest));
            let mut steps = 0;
            loop {
                let before = programme.cursor.as_ref().map(Cursor::place);
                programme.hint();
                match programme.next() {
                    Next::Fetch(segment) if steps % 3 == 0 => assert!(programme.arrived(&segment).is_some()),
                    Next::Fetch(part) if part.part.is_some() => assert!(programme.forgo_parts(&part)),
                    Next::Fetch(segment) => assert!(programme.lost(&segment)),
                    Next::Gap(_) | Next::Undecodable(_) => {}
                    Next::Skip(_) => assert_ne!(programme.cursor.as_ref().map(Cursor::place), before, "it moves on"),
                    Next::Wait | Next::Complete => break,
                }
                steps += 1;
                assert!(steps < 200, "it comes to an end");
            }
        }
    }
}

/// Plays a transcript: at each time a playlist comes, and everything listed arrives at once.
fn play(transcript: &[(f64, MediaPlaylist)], farthest: Option<Duration>) -> (Programme, Player) {
    let mut programme = Programme::default();
    let mut player = Player::starting_at(Duration::ZERO);
    for (time, playlist) in transcript {
        if let Update::Begins { offset } = programme.update(at(*time), playlist.clone(), None) {
            player = Player::starting_at(offset).starting_at_once();
        }
        player.advance(at(*time));
        if let Some(jump) = farthest.and_then(|farthest| programme.jump(player.buffered(), farthest)) {
            player.jump(at(*time), jump.by, jump.skipped);
        }
        while let Next::Fetch(segment) = programme.next() {
            assert!(programme.arrived(&segment).is_some());
            player.append(at(*time), segment.duration, segment.capture);
        }
    }
    (programme, player)
}

#[test]
fn the_lag_is_that_of_the_part_under_the_playhead() {
    // the world is at 1017.0 + t when t seconds have passed; each part is listed as soon as it is captured
    let (_, mut player) = play(&[(0.0, list(8, 5)), (0.2, list(8, 6)), (0.4, list(8, 7))], None);
    assert_eq!(player.account().startup, Some(Duration::ZERO));
    let sample = player.sample(at(0.5), 1017.5).expect("it plays");
    assert!((sample.lag.expect("it is dated") - 0.6).abs() < 1e-6, "{sample:?}");
    assert!((sample.buffer.as_secs_f64() - 0.5).abs() < 1e-6, "{sample:?}");
}

#[test]
fn a_late_part_stalls_for_as_long_as_it_is_late_beyond_the_buffer() {
    // at 0.2 nothing comes for 2 s, then all at once
    let transcript = [(0.0, list(8, 5)), (2.2, list(9, 6))];
    let (_, mut player) = play(&transcript, None);
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(1.6) });
    let lag = player.sample(at(2.2), 1019.2).and_then(|sample| sample.lag).expect("it plays");
    assert!((lag - 2.2).abs() < 1e-6, "the hold-back and the stall: {lag}");
    // one part is enough to go on
    let (_, player) = play(&[(0.0, list(8, 5)), (2.2, list(8, 6))], None);
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(1.6) });
}

#[test]
fn a_jump_through_what_is_buffered_is_no_stall() {
    // after a stall of 1.6 s it is 1.3 s from the end of the list, and has 0.9 s of that
    let transcript = [(0.0, list(8, 5)), (2.2, list(9, 0)), (2.3, list(9, 2))];
    let (_, mut player) = play(&transcript, Some(at(1.2)));
    assert_eq!(player.account().jumps, Interruptions { count: 1, time: at(0.7) });
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(1.6) });
    let lag = player.sample(at(2.3), 1019.3).and_then(|sample| sample.lag).expect("it plays");
    assert!((lag - (0.6 + 1.6 - 0.7)).abs() < 1e-6, "{lag}");
    assert_eq!(play(&transcript, Some(at(1.4))).1.account().jumps.count, 0);
}

#[test]
fn a_jump_beyond_the_buffer_leaves_out_what_lies_between() {
    let (mut programme, _) = started(list(8, 5));
    take_all(&mut programme);
    let mut player = Player::starting_at(at(0.4)).starting_at_once();
    player.append(at(0.0), at(1.0), Some(1016.0));
    programme.update(at(6.0), list(11, 6), None);
    player.advance(at(6.0));
    let jump = programme.jump(player.buffered(), at(2.0)).expect("it is 6.2 s behind");
    // to 0.6 s before the end, which is 0.6 s into segment 11
    assert_eq!((jump.breaks, jump.by, jump.skipped), (true, at(0.6), at(5.6)));
    player.jump(at(6.0), jump.by, jump.skipped);
    let Next::Fetch(part) = programme.next() else { panic!("11.0 is listed") };
    assert_eq!(part.place(), (11, 0));
    for _ in 0..4 {
        assert_eq!(player.waiting(), Some(at(5.4)), "the picture stands still");
        player.append(at(6.0), PART, Some(1022.0));
    }
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(5.4) });
    assert_eq!(player.buffered(), PART);
}
