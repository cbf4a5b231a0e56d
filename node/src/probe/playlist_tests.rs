//! Playlists as servers write them.

use super::*;

fn address() -> Url {
    Url::parse("http://h/live/p.m3u8?token=t").expect("a valid address")
}

fn read(body: &str) -> Result<Playlist, PlaylistError> {
    Playlist::read(body, &address(), &Variables::default())
}

fn media(body: &str) -> MediaPlaylist {
    match read(body) {
        Ok(Playlist::Media(media)) => media,
        other => panic!("not a media playlist: {other:?}"),
    }
}

#[test]
fn reads_what_ffmpeg_writes() {
    let list = media(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:41\n#EXT-X-MAP:URI=\"init.mp4\"\n\
         #EXTINF:2.000000,\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T01:00:10.250+0100\nlive41.m4s\n\
         #EXTINF:1.960000,\nlive42.m4s\n",
    );
    assert_eq!(list.target, Duration::from_secs(2));
    assert_eq!(list.hold_back, Duration::from_secs(6));
    assert!(!list.ended);
    assert_eq!(list.next_sequence(), 43);
    assert_eq!(list.length(), Duration::from_millis(3960));
    let [first, second] = &list.segments[..] else {
        panic!("two segments are listed");
    };
    assert_eq!(first.sequence, 41);
    assert_eq!(first.resource.url.as_str(), "http://h/live/live41.m4s");
    assert_eq!(first.capture, Some(10.25), "an offset without a colon is read");
    assert_eq!(second.capture, Some(12.25), "dates go on by the durations");
    let map = first.map.as_ref().expect("there is a map");
    assert_eq!(map.url.as_str(), "http://h/live/init.mp4");
    assert!(Arc::ptr_eq(map, second.map.as_ref().expect("it is the same")));
}

#[test]
fn tolerates_low_latency_and_unknown_tags_and_bad_lines() {
    let list = media(
        "\u{feff}#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK=12.5,PART-HOLD-BACK=1.0\r\n\
         #EXT-X-PART-INF:PART-TARGET=0.33\r\n#EXT-X-PART:DURATION=0.33,URI=\"a.0.mp4\"\r\n#EXT\r\n#EXT-X-SOMETHING:NEW=1\r\n\
         # a comment\r\n\r\n#EXTINF:4 ,a title\r\n  a.mp4 \r\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b.0.mp4\"\r\n\
         #EXT-X-RENDITION-REPORT:URI=\"../x.m3u8\",LAST-MSN=1,LAST-PART=0\r\n",
    );
    assert_eq!(list.hold_back, Duration::from_millis(12_500));
    assert_eq!(list.segments.len(), 1);
    assert_eq!(list.segments[0].resource.url.path(), "/live/a.mp4");
    assert_eq!(list.segments[0].duration, Duration::from_secs(4));
}

#[test]
fn resolves_byte_ranges() {
    let list = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"100@0\"\n\
         #EXTINF:1,\n#EXT-X-BYTERANGE:200@100\nall.mp4\n#EXTINF:1,\n#EXT-X-BYTERANGE:50\nall.mp4\n\
         #EXTINF:1,\n#EXT-X-BYTERANGE:7\nother.mp4\n#EXT-X-ENDLIST\n",
    );
    let ranges: Vec<_> = list.segments.iter().map(|segment| segment.resource.range).collect();
    let range = |offset, length| Some(ByteRange { offset, length });
    assert_eq!(ranges, [range(100, 200), range(300, 50), range(0, 7)]);
    assert_eq!(list.segments[0].map.as_ref().and_then(|map| map.range), range(0, 100));
    assert!(list.ended);
}

#[test]
fn marks_discontinuities_gaps_and_encryption() {
    let list = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-DISCONTINUITY-SEQUENCE:5\n#EXT-X-START:TIME-OFFSET=-4.5\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\n0\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXT-X-GAP\n#EXTINF:1,\n1\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\n2\n#EXT-X-KEY:METHOD=AES-256,URI=\"k\"\n#EXTINF:1,\n3\n",
    );
    let seen: Vec<_> =
        list.segments.iter().map(|segment| (segment.discontinuity, segment.gap, segment.opaque)).collect();
    assert_eq!(seen, [(5, false, true), (5, true, false), (6, false, false), (6, false, true)]);
    assert_eq!(list.start, Some(-4.5));
}

#[test]
fn dates_reach_back_but_not_across_a_discontinuity() {
    let list = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n0\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\n1\n#EXTINF:2,\n\
         #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:00Z\n2\n#EXTINF:2,\n3\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\n4\n",
    );
    let captures: Vec<_> = list.segments.iter().map(|segment| segment.capture).collect();
    assert_eq!(captures, [None, Some(58.0), Some(60.0), Some(62.0), None]);
}

#[test]
fn chooses_a_variant() {
    let body = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"a.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=2000,RESOLUTION=640x360,AUDIO=\"a\"\nmid.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=5000\nhttps://cdn/high.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nlow.m3u8\n\
         #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=10,URI=\"i.m3u8\"\n";
    let Ok(Playlist::Multivariant(list)) = read(body) else {
        panic!("it lists variants");
    };
    let chosen = |cap| list.choose(cap).expect("there are variants").url.to_string();
    assert_eq!(chosen(None), "http://h/live/mid.m3u8");
    assert_eq!(chosen(Some(9999)), "https://cdn/high.m3u8");
    assert_eq!(chosen(Some(2000)), "http://h/live/mid.m3u8");
    assert_eq!(chosen(Some(1)), "http://h/live/low.m3u8");
    assert_eq!(list.variants[0].resolution, Some((640, 360)));
    assert!(list.variants[0].separate_audio);
}

#[test]
fn uses_variables() {
    let mut imports = Variables::default();
    imports.define("host", "http://cdn.example");
    let body = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-DEFINE:IMPORT=\"host\"\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n\
         #EXTINF:1,\n{$host}/0.ts?t={$token}\n";
    let Ok(Playlist::Media(list)) = Playlist::read(body, &address(), &imports) else {
        panic!("it lists segments");
    };
    assert_eq!(list.segments[0].resource.url.as_str(), "http://cdn.example/0.ts?t=t");
    assert!(matches!(read(body), Err(PlaylistError::Variable(_))), "nothing to import from");
}

#[test]
fn says_what_is_wrong() {
    let error = read("<!DOCTYPE html>\n<html>").expect_err("it is a page");
    let text = error.to_string();
    assert!(text.contains("not an HLS playlist") && text.contains("<!DOCTYPE html>") && text.contains("check the URL"));
    assert_eq!(read("\n \n"), Err(PlaylistError::Empty));
    assert_eq!(read("#EXTM3U\n"), Err(PlaylistError::Neither));
    let body = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n";
    assert!(matches!(read(body), Err(PlaylistError::Address(_))));
}

#[test]
fn unbelievable_numbers_do_no_harm() {
    let list = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXT-X-SERVER-CONTROL:HOLD-BACK=1e99\n\
         #EXTINF:1e300,\n0\n#EXTINF:nan,\n1\n#EXTINF:-3,\n2\n#EXT-X-BYTERANGE:0@0\n#EXTINF:1,\n3\n",
    );
    assert_eq!(list.hold_back, Duration::from_secs(6));
    assert_eq!(list.segments[0].duration, Duration::from_secs(2), "the target, for want of better");
    assert_eq!(list.segments[3].resource.range, None);
    assert_eq!(list.next_sequence(), u64::MAX);
}

#[test]
fn any_cut_of_a_playlist_is_read_or_refused() {
    let body = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"b\"\n#EXT-X-MAP:URI=\"i\",BYTERANGE=\"1@0\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000+00:00\n#EXT-X-BYTERANGE:3@1\n#EXTINF:2.0,\n{$a}.ts\n#EXT-X-ENDLIST\n";
    for cut in 0..body.len() {
        let _ = read(&body[..cut]);
        let mut damaged = body.as_bytes().to_vec();
        damaged[cut] ^= 0x15;
        let _ = read(&String::from_utf8_lossy(&damaged));
    }
}
