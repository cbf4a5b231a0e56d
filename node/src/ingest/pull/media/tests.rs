use proptest::prelude::*;

use super::*;

fn read(text: &str) -> MediaPlaylist {
    parse(text, &Url::parse("http://host/live/v.m3u8?t=1").unwrap(), &Variables::new(), 1 << 20).unwrap()
}

fn dates(playlist: &MediaPlaylist) -> Vec<Option<i64>> {
    playlist.segments.iter().map(|s| s.date.map(|date| date.0)).collect()
}

#[test]
fn segments_inherit_what_stands_before_them() {
    let playlist = read(
        "#EXTM3U\n#EXT-X-VERSION:6\n#VENDOR\n#EXT-X-VENDOR:1\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:70\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"100@8\"\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-CUE-OUT:30\n#EXTINF:4.0,title\na.m4s\n\
         #EXT-X-DATERANGE:ID=\"x\"\n#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:3.5\n#EXT-X-BITRATE:800\n/b.m4s\n\
         #EXT-X-PART:DURATION=1,URI=\"p\"\n#EXT-X-GAP\n#EXTINF:4,\nc.m4s\n#EXT-X-DATERANGE:ID=\"y\"\n",
    );
    assert_eq!((playlist.target_duration, playlist.version, playlist.ended), (4, 6, false));
    assert_eq!(playlist.tags, ["#EXT-X-INDEPENDENT-SEGMENTS"]);
    assert_eq!(playlist.unknown_tags, ["#EXT-X-VENDOR:1"]);
    assert_eq!(playlist.trailing, ["#EXT-X-DATERANGE:ID=\"y\""]);
    let [a, b, c] = playlist.segments.as_slice() else { panic!("three segments") };
    assert_eq!((a.number, a.uri.as_str(), a.url.as_str()), (70, "a.m4s", "http://host/live/a.m4s"));
    assert_eq!(a.init.as_deref().unwrap().range, Some(8..108));
    assert_eq!(a.init.as_deref().unwrap().url.as_str(), "http://host/live/init.mp4");
    assert_eq!(a.tags, ["#EXT-X-CUE-OUT:30"]);
    assert!(a.keys.hide_segments() && !a.discontinuity);
    assert_eq!((b.number, b.url.as_str(), b.duration), (71, "http://host/b.m4s", Duration::from_millis(3500)));
    assert_eq!(b.dateranges, ["#EXT-X-DATERANGE:ID=\"x\""]);
    assert_eq!(b.tags, ["#EXT-X-BITRATE:800"]);
    assert!(b.discontinuity && !b.gap && !b.keys.hide_segments() && b.init == a.init);
    assert!(c.gap && !c.discontinuity);
    assert_eq!(c.tags, ["#EXT-X-BITRATE:800"]);
}

#[test]
fn dates_are_counted_forwards_and_back() {
    let playlist = read(
        "#EXTM3U\n#EXTINF:2,\na\n#EXTINF:2,\nb\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:00.000+0000\n#EXTINF:3,\nc\n\
         #EXTINF:2,\nd\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:02:00Z\n#EXTINF:2,\ne\n",
    );
    let seconds = [56, 58, 60, 63, 120].map(|s| Some(s * 1_000_000));
    assert_eq!(dates(&playlist), seconds);
    assert_eq!(dates(&read("#EXTM3U\n#EXTINF:2,\na\n")), [None]);
}

#[test]
fn byte_ranges_continue_within_a_file() {
    let playlist = read(
        "#EXTM3U\n#EXTINF:2,\n#EXT-X-BYTERANGE:10@5\na\n#EXTINF:2,\n#EXT-X-BYTERANGE:7\na\n#EXTINF:2,\n#EXT-X-BYTERANGE:3\nb\n\
         #EXTINF:2,\nc\n",
    );
    let ranges: Vec<_> = playlist.segments.iter().map(|s| s.range.clone()).collect();
    assert_eq!(ranges, [Some(5..15), Some(15..22), Some(0..3), None]);
}

#[test]
fn parts_belong_to_the_segment_that_follows_them() {
    let playlist = read(
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MAP:URI=\"i\"\n\
         #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:00Z\n\
         #EXT-X-PART:DURATION=0.5,URI=\"a\",BYTERANGE=\"10@5\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.25,URI=\"a\",BYTERANGE=\"20\"\n#EXTINF:0.75,\na\n\
         #EXT-X-DATERANGE:ID=\"x\"\n#EXT-X-DISCONTINUITY\n\
         #EXT-X-PART:DURATION=0.5,URI=\"b\"\n#EXT-X-PART:DURATION=0.5,URI=\"c\",GAP=YES\n#EXT-X-PART:DURATION=0.5\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"d\"\n",
    );
    assert_eq!(playlist.part_target, Some(Duration::from_millis(500)));
    let parts: Vec<_> = playlist.segments[0].parts.iter().map(|p| (p.range.clone().unwrap(), p.independent)).collect();
    assert_eq!(parts, [(5..15, true), (15..35, false)]);
    let growing = playlist.growing.unwrap();
    let parts: Vec<_> = growing.parts.iter().map(|p| (p.uri.as_str(), p.url.path(), p.gap)).collect();
    assert_eq!(parts, [("b", "/live/b", false), ("c", "/live/c", true), ("", "/live/v.m3u8", true)]);
    assert_eq!((growing.number, growing.uri.as_str(), growing.duration), (8, "", Duration::from_millis(1500)));
    assert_eq!(growing.date, Some(WallTime(60_750_000)));
    let url = Url::parse("http://host/live/d").unwrap();
    assert_eq!(playlist.hint, Some(Hint { url, range: None }));
    assert!(growing.discontinuity && growing.init == playlist.segments[0].init);
    assert_eq!((growing.dateranges.len(), playlist.trailing.len()), (1, 0));
    assert_eq!(read("#EXTM3U\n#EXT-X-PART-INF:PART-TARGET=0\n#EXTINF:1,\na\n").part_target, None);
}

#[test]
fn hints_are_followed_that_say_all_of_where_a_part_will_be() {
    let range = |attributes: &str| {
        let playlist = read(&format!("#EXTM3U\n#EXT-X-PRELOAD-HINT:{attributes}\n#EXTINF:1,\na\n"));
        playlist.hint.map(|hint| hint.range)
    };
    assert_eq!(range("TYPE=PART,URI=\"d\""), Some(None));
    assert_eq!(range("TYPE=PART,URI=\"d\",BYTERANGE-START=5,BYTERANGE-LENGTH=7"), Some(Some(5..12)));
    assert_eq!(range("TYPE=PART,URI=\"d\",BYTERANGE-LENGTH=7"), Some(Some(0..7)));
    for other in ["TYPE=PART", "TYPE=MAP,URI=\"i\"", "URI=\"d\"", "TYPE=PART,URI=\"d\",BYTERANGE-START=5"] {
        assert_eq!(range(other), None, "{other}");
    }
    assert_eq!(range("TYPE=PART,URI=\"d\",BYTERANGE-LENGTH=x"), None);
}

#[test]
fn parts_are_kept_of_the_newest_segments_and_not_too_many() {
    let part = "#EXT-X-PART:DURATION=0.1,URI=\"p\"\n";
    let body: String = (0..10).map(|n| format!("{part}#EXTINF:1,\n{n}\n")).collect();
    let playlist = read(&format!("#EXTM3U\n{body}{}", part.repeat(1000)));
    let counts: Vec<_> = playlist.segments.iter().map(|listed| listed.parts.len()).collect();
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(playlist.growing.unwrap().parts.len(), PARTS_MAX);
}

#[test]
fn a_long_window_keeps_its_end() {
    let body: String = (0..5000).map(|n| format!("#EXTINF:1,\n{n}.ts\n")).collect();
    let playlist = read(&format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:100\n{body}#EXT-X-ENDLIST"));
    assert_eq!(playlist.segments.len(), SEGMENTS_MAX);
    assert_eq!(playlist.segments.last().unwrap().number, 5099);
    assert!(playlist.ended);
    assert_eq!(playlist.target_duration, 1);
}

#[test]
fn unreasonable_values_become_reasonable_ones() {
    let playlist = read(
        "#EXTM3U\n#EXT-X-TARGETDURATION:-3\n#EXT-X-VERSION:999\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n\
         #EXTINF:NaN,\na\n#EXTINF:1e300,\nb\n#EXTINF:-1,\nc\n#EXT-X-BYTERANGE:18446744073709551615@9\n#EXTINF:1,\nd\n",
    );
    assert_eq!((playlist.target_duration, playlist.version), (3600, 1));
    assert_eq!(playlist.segments[1].duration, Duration::from_secs(3600));
    assert_eq!(playlist.segments[3].range, Some(9..u64::MAX));
}

/// Lines that steer the reader into its corners, with noise in their values.
fn hostile_line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "#EXTM3U",
        "#EXTINF:",
        "#EXT-X-KEY:METHOD=",
        "#EXT-X-KEY:URI=\"",
        "#EXT-X-MAP:URI=\"",
        "#EXT-X-BYTERANGE:",
        "#EXT-X-PROGRAM-DATE-TIME:",
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T14:00:00",
        "#EXT-X-MEDIA-SEQUENCE:",
        "#EXT-X-TARGETDURATION:",
        "#EXT-X-SKIP:SKIPPED-SEGMENTS=",
        "#EXT-X-DEFINE:NAME=\"a\",VALUE=\"",
        "{$a}",
        "#EXT-X-DATERANGE:",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-PART-INF:PART-TARGET=",
        "#EXT-X-PART:DURATION=",
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"a\",BYTERANGE-LENGTH=",
        "#EXT-X-PART:DURATION=0.5,URI=\"a\",BYTERANGE=\"",
        "#EXT-X-STREAM-INF:",
        "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"",
        "",
        "#EXT",
    ]);
    let value = prop_oneof![any::<u64>().prop_map(|n| n.to_string()), ".{0,40}", "[0-9@:.,=\"+Z-]{0,30}"];
    (name, value).prop_map(|(name, value)| format!("{name}{value}"))
}

proptest! {
    #[test]
    fn hostile_playlists_never_panic(lines in prop::collection::vec(hostile_line(), 0..60)) {
        let text = lines.join("\n");
        let url = Url::parse("http://host/x.m3u8").unwrap();
        let _ = crate::ingest::pull::outline::Outline::multivariant(&text, &url, &url, 1 << 16);
        if let Ok(playlist) = parse(&text, &url, &Variables::new(), 1 << 16) {
            prop_assert!((1..=3600).contains(&playlist.target_duration));
            for segment in &playlist.segments {
                let lines = segment.keys.lines(segment.number).chain(segment.tags.iter().cloned());
                for line in lines.chain(segment.dateranges.iter().cloned()) {
                    prop_assert!(line.starts_with('#') && !line.contains(['\r', '\n']));
                }
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let url = Url::parse("http://host/x.m3u8").unwrap();
        let _ = parse(&text, &url, &Variables::new(), 1 << 16);
        let _ = date::parse(&text);
    }
}
