use std::sync::Arc;

use bytes::Bytes;
use starling_proto::RenditionId;
use starling_proto::wire::Announcement;

use super::*;
use crate::hls::samples;
use crate::hls::window::{Rules, window};
use crate::media::Media;

const PLAIN_INIT: &[u8] = b"\0\0\0\x18ftypiso5";

fn written(media: &Media) -> String {
    let catalogue = media.catalogue().expect("a catalogue");
    let window = window(media, RenditionId(0), Rules { ended: catalogue.ended, ..Rules::default() });
    media_text(&catalogue, &window)
}

fn media_text(catalogue: &Catalogue, window: &Window) -> String {
    media(&catalogue.renditions[0], window, form("", catalogue.ended))
}

fn form(prefix: &str, ended: bool) -> Form<'_> {
    Form { prefix, ended, hold_back: Duration::ZERO, skip: false, reports: &[] }
}

/// The lines that are neither dates nor durations.
fn skeleton(text: &str) -> Vec<&str> {
    let dull = |line: &str| line.starts_with("#EXTINF") || line.starts_with("#EXT-X-PROGRAM-DATE-TIME");
    text.lines().skip_while(|line| !line.contains("DISCONTINUITY-SEQUENCE")).skip(1).filter(|l| !dull(l)).collect()
}

fn with_keys(number: u64, keys: &[&str]) -> Announcement {
    Announcement { tags: keys.iter().map(|key| (*key).to_owned()).collect(), ..samples::announcement(1, number) }
}

#[test]
fn transport_stream() {
    let mut catalogue = samples::catalogue(1);
    catalogue.renditions[0].tags.push("#EXT-X-INDEPENDENT-SEGMENTS".into());
    let media = samples::media(catalogue);
    for number in 40..43 {
        samples::add(&media, samples::announcement(1, number));
    }
    let odd = Announcement { duration_us: 1_234_567, ..samples::announcement(1, 43) };
    samples::add(&media, Announcement { discontinuity: true, start: WallTime(odd.start.0 + 1_999), ..odd });
    assert_eq!(
        written(&media),
        "#EXTM3U\n\
         #EXT-X-VERSION:3\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-MEDIA-SEQUENCE:40\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:0\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:01:20.000Z\n\
         #EXTINF:2.000000,\n\
         1-40.ts\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:01:22.000Z\n\
         #EXTINF:2.000000,\n\
         1-41.ts\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:01:24.000Z\n\
         #EXTINF:2.000000,\n\
         1-42.ts\n\
         #EXT-X-DISCONTINUITY\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:01:26.001Z\n\
         #EXTINF:1.234567,\n\
         1-43.ts\n"
    );
}

#[test]
fn fragmented_mp4_across_a_restart_with_a_gap_and_an_end() {
    let mut catalogue = samples::catalogue(1);
    catalogue.renditions[0].extension = "m4s".into();
    catalogue.renditions[0].inits = vec![samples::init(0, PLAIN_INIT), samples::init(1, PLAIN_INIT)];
    catalogue.ended = true;
    let media = samples::media(catalogue.clone());
    for (number, init) in [(1, 0), (3, 0), (4, 1)] {
        samples::add(&media, Announcement { init: Some(init), ..samples::announcement(1, number) });
    }
    let window = window(&media, RenditionId(0), Rules { ended: true, ..Rules::default() });
    assert_eq!(
        super::media(&catalogue.renditions[0], &window, form("0/", true)),
        "#EXTM3U\n\
         #EXT-X-VERSION:6\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-MEDIA-SEQUENCE:1\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:0\n\
         #EXT-X-MAP:URI=\"0/init-1-0.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:02.000Z\n\
         #EXTINF:2.000000,\n\
         0/1-1.m4s\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:04.000Z\n\
         #EXT-X-GAP\n\
         #EXTINF:2.000000,\n\
         0/gap-2.m4s\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:06.000Z\n\
         #EXTINF:2.000000,\n\
         0/1-3.m4s\n\
         #EXT-X-MAP:URI=\"0/init-1-1.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:08.000Z\n\
         #EXTINF:2.000000,\n\
         0/1-4.m4s\n\
         #EXT-X-ENDLIST\n"
    );
}

#[test]
fn a_restart_of_the_broadcaster_continues_the_numbers_behind_a_discontinuity() {
    let media = samples::media(samples::catalogue(1));
    samples::add(&media, samples::announcement(1, 8));
    let restarted = Announcement { start: samples::announcement(1, 9).start, ..samples::announcement(2, 0) };
    samples::add(&media, restarted);
    let text = written(&media);
    assert_eq!(skeleton(&text), ["1-8.ts", "#EXT-X-DISCONTINUITY", "2-0.ts"]);
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:8\n"), "{text}");
}

#[test]
fn discontinuities_that_left_are_counted() {
    let media = samples::media(samples::catalogue(1));
    for number in 1..=12 {
        let discontinuity = number == 3 || number == 8;
        samples::add(&media, Announcement { discontinuity, ..samples::announcement(1, number) });
    }
    let text = written(&media);
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{text}");
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
}

#[test]
fn the_target_duration_is_never_below_a_rounded_duration() {
    let media = samples::media(samples::catalogue(1));
    samples::add(&media, Announcement { duration_us: 2_499_999, ..samples::announcement(1, 1) });
    assert!(written(&media).contains("#EXT-X-TARGETDURATION:2\n"));
    samples::add(&media, Announcement { duration_us: 2_500_000, ..samples::announcement(1, 2) });
    assert!(written(&media).contains("#EXT-X-TARGETDURATION:3\n"));
}

#[test]
fn a_key_is_written_when_it_changes_and_cleared_when_it_ends() {
    let media = samples::media(samples::catalogue(1));
    let (a, b) = (
        "#EXT-X-KEY:METHOD=AES-128,URI=\"https://k.example/a\"",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"https://k.example/b\"",
    );
    let date_range = "#EXT-X-DATERANGE:ID=\"ad\",START-DATE=\"2026-11-22T12:00:06Z\"";
    for (number, tags) in [(1, &[a][..]), (2, &[a]), (3, &[date_range, b]), (4, &[]), (5, &["#EXT-X-KEY:METHOD=NONE"])]
    {
        samples::add(&media, with_keys(number, tags));
    }
    let expected = [a, "1-1.ts", "1-2.ts", b, date_range, "1-3.ts", "#EXT-X-KEY:METHOD=NONE", "1-4.ts", "1-5.ts"];
    assert_eq!(skeleton(&written(&media)), expected);
}

/// A key governs the init sections behind it, so where the init section stands says whether it is encrypted.
#[test]
fn init_sections_stand_on_the_right_side_of_keys() {
    let key = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x1";
    let sample_key = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"";
    let (first, second) = ("#EXT-X-MAP:URI=\"init-1-0.mp4\"", "#EXT-X-MAP:URI=\"init-1-1.mp4\"");
    let text = |init: &'static [u8], key: &str| {
        let mut catalogue = samples::catalogue(1);
        catalogue.renditions[0].inits = vec![samples::init(0, init), samples::init(1, init)];
        let media = samples::media(catalogue);
        for number in [1, 2] {
            let init = Some(number as u16 - 1);
            samples::add(&media, Announcement { init, ..with_keys(number, &[key]) });
        }
        skeleton(&written(&media)).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        text(PLAIN_INIT, key),
        [first, key, "1-1.ts", "#EXT-X-KEY:METHOD=NONE", second, key, "1-2.ts"],
        "plain init sections, encrypted segments"
    );
    assert_eq!(text(b"\x93\x1c\x55\x02\xa8\x41", key), [key, first, "1-1.ts", second, "1-2.ts"], "all encrypted");
    assert_eq!(text(PLAIN_INIT, sample_key), [sample_key, first, "1-1.ts", second, "1-2.ts"], "samples encrypted");
}

#[test]
fn a_single_media_playlist_is_given_directly() {
    let mut catalogue = samples::catalogue(1);
    assert_eq!(direct(&catalogue).map(|rendition| rendition.id), Some(RenditionId(0)));
    catalogue.multivariant = Some("#EXTM3U\n".into());
    assert_eq!(direct(&catalogue), None);
}

#[test]
fn renditions_played_beside_others_are_told_from_the_text() {
    let mut catalogue = samples::catalogue(1);
    assert!(is_main(&catalogue, &samples::rendition(0)));
    catalogue.multivariant = Some(
        "#EXTM3U\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",URI=\"1/index.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=900000,AUDIO=\"a\"\n\
         0/index.m3u8\n"
            .into(),
    );
    assert!(is_main(&catalogue, &samples::rendition(0)));
    assert!(!is_main(&catalogue, &samples::rendition(1)));
}

#[test]
fn dates_out_of_range_are_left_out() {
    let media = samples::media(samples::catalogue(1));
    media.announce(Arc::new(Announcement { start: WallTime(i64::MAX), ..samples::announcement(1, 1) }), Bytes::new());
    assert_eq!(skeleton(&written(&media)), ["1-1.ts"]);
}

/// A rendition in parts of half a second, four to a segment.
fn in_parts() -> Arc<Media> {
    let mut catalogue = samples::catalogue(1);
    catalogue.renditions[0].part_target_us = Some(500_000);
    samples::media(catalogue)
}

fn say(media: &Media, announcement: Announcement) {
    assert!(media.announce(Arc::new(announcement), Bytes::from_static(b"signed")));
}

#[test]
fn a_growing_segment_is_listed_by_parts_and_what_comes_next_is_hinted() {
    let media = in_parts();
    (1..9).for_each(|number| say(&media, samples::grown(number, 4)));
    say(&media, samples::grown(9, 1));
    say(&media, samples::grown(9, 2));
    let text = written(&media);
    assert!(text.contains("#EXT-X-VERSION:9\n"), "{text}");
    assert!(text.contains("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.500,CAN-SKIP-UNTIL=12.0\n"));
    assert!(text.contains("#EXT-X-PART-INF:PART-TARGET=0.500000\n"));
    let tail: Vec<_> = text.lines().rev().take(4).collect();
    assert!(tail[3].starts_with("#EXT-X-PROGRAM-DATE-TIME:"), "{text}");
    assert_eq!(
        tail[..3],
        [
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-1-9-2.ts\"",
            "#EXT-X-PART:DURATION=0.500000,URI=\"part-1-9-1.ts\"",
            "#EXT-X-PART:DURATION=0.500000,URI=\"part-1-9-0.ts\",INDEPENDENT=YES"
        ]
    );
    assert!(text.contains("part-1-7-0.ts") && !text.contains("part-1-4-0.ts"), "old parts are not listed: {text}");
    say(&media, samples::grown(9, 4));
    let text = written(&media);
    assert!(
        text.ends_with("#EXTINF:2.000000,\n1-9.ts\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-1-10-0.ts\"\n"),
        "{text}"
    );
}

#[test]
fn nothing_is_listed_behind_a_segment_whose_end_is_unknown() {
    let media = in_parts();
    (1..4).for_each(|number| say(&media, samples::grown(number, 4)));
    say(&media, samples::grown(4, 3));
    say(&media, samples::grown(5, 1));
    assert!(!written(&media).contains("part-1-5-0"), "{}", written(&media));
    say(&media, samples::grown(4, 4));
    let text = written(&media);
    assert!(text.contains("1-4.ts") && text.contains("part-1-5-0"), "{text}");
}

#[test]
fn a_segment_ends_where_the_next_begins_even_if_nobody_said_so() {
    let media = in_parts();
    (1..4).for_each(|number| say(&media, samples::grown(number, 4)));
    say(&media, Announcement { growing: true, ..samples::grown(4, 4) });
    assert!(!written(&media).contains("1-4.ts\n#EXTINF"));
    say(&media, samples::grown(5, 1));
    let text = written(&media);
    assert!(text.contains("#EXTINF:2.000000,\n1-4.ts\n"), "{text}");
}

#[test]
fn a_delta_update_leaves_out_what_is_beyond_the_limit_and_nothing_else() {
    let media = in_parts();
    (1..=24).for_each(|number| say(&media, samples::grown(number, 4)));
    let catalogue = media.catalogue().expect("a catalogue");
    let window = window(&media, RenditionId(0), Rules::default());
    let whole = super::media(&catalogue.renditions[0], &window, form("", false));
    let delta = super::media(&catalogue.renditions[0], &window, Form { skip: true, ..form("", false) });
    let skipped = delta.lines().find_map(|line| line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS=")).expect("skips");
    let skipped: usize = skipped.parse().expect("a number");
    let count = |text: &str| text.lines().filter(|line| line.starts_with("#EXTINF")).count();
    assert_eq!(count(&whole), count(&delta) + skipped);
    assert_eq!(count(&delta), 7, "six target durations, and the one that ends where they begin: {delta}");
    assert!(whole.ends_with(&delta[delta.find("#EXT-X-PART:").expect("parts")..]));
}
