//! Manifests: ffmpeg's, others', and none.

use super::*;

const FFMPEG: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic"
    availabilityStartTime="2026-11-27T11:51:35.509Z" maxSegmentDuration="PT2.0S">
  <Period id="0" start="PT0.0S">
    <AdaptationSet id="0" contentType="video" startWithSAP="1" frameRate="25/1" maxWidth="320">
      <Representation id="0" mimeType="video/mp4" codecs="avc1.42c014" bandwidth="400000" width="320" height="180">
        <SegmentTemplate timescale="12800" initialization="init-stream$RepresentationID$.m4s"
            media="chunk-stream$RepresentationID$-$Number%05d$.m4s" startNumber="1"><SegmentTimeline/></SegmentTemplate>
      </Representation>
    </AdaptationSet>
    <AdaptationSet id="1" contentType="audio" lang="de">
      <SegmentTemplate timescale="48000" initialization="init-stream$RepresentationID$.m4s"
          media="chunk-stream$RepresentationID$-$Number%05d$.m4s"/>
      <Representation id="1" mimeType="audio/mp4" codecs="mp4a.40.2" bandwidth="64000"/>
    </AdaptationSet>
    <AdaptationSet contentType="text"><Representation id="t"/></AdaptationSet>
  </Period>
</MPD>"#;

#[test]
fn ffmpegs_manifest() {
    let presentation = Presentation::parse(FFMPEG, "live/m.mpd").unwrap();
    assert_eq!(presentation.segment_max, 2);
    assert_eq!(presentation.representations.len(), 2);
    assert!(presentation.has_init("live/init-stream1.m4s"));
    assert_eq!(presentation.segment("live/chunk-stream1-00007.m4s"), Some((1, Ordinal::Number(7))));
    assert_eq!(presentation.segment("chunk-stream1-00007.m4s"), None);
    let measured = Presentation::parse(&FFMPEG.replace("64000", "65000"), "live/m.mpd").unwrap();
    assert!(presentation.has_the_files_of(&measured));
    let renamed = Presentation::parse(&FFMPEG.replace("init-", "i-"), "live/m.mpd").unwrap();
    assert!(!presentation.has_the_files_of(&renamed));
    let labels: Vec<_> = presentation.representations.iter().map(Representation::label).collect();
    assert_eq!(labels, ["180p", "audio de"]);
    let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio 1\",LANGUAGE=\"de\",DEFAULT=YES,AUTOSELECT=YES,URI=\"1/index.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=464000,CODECS=\"avc1.42c014,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=25.000,AUDIO=\"audio\"\n\
        0/index.m3u8\n";
    assert_eq!(presentation.multivariant().as_deref(), Some(expected));
}

#[test]
fn a_single_rendition_needs_no_multivariant_playlist() {
    let text = r#"<MPD><Period><AdaptationSet mimeType="audio/mp4"><Representation id="a"><SegmentTemplate
        initialization="$RepresentationID$.mp4" media="$Number$.m4s"/></Representation></AdaptationSet></Period></MPD>"#;
    let presentation = Presentation::parse(text, "m.mpd").unwrap();
    assert_eq!(presentation.multivariant(), None);
    assert_eq!(presentation.representations[0].bandwidth_bps, 128_000);
    assert_eq!(presentation.representations[0].extension(), "m4s");
}

#[test]
fn what_is_no_manifest_is_told() {
    for (text, says) in [
        ("<html><body/></html>", "its root is <html>"),
        ("", "not a DASH manifest"),
        ("<MPD", "not a DASH manifest"),
        ("<!DOCTYPE x [<!ENTITY a \"b\">]><MPD>&a;</MPD>", "not a DASH manifest"),
        ("<MPD/>", "SegmentTemplate"),
        ("<MPD><Period/></MPD>", "SegmentTemplate"),
        (
            "<MPD><Period><AdaptationSet contentType=\"video\"><Representation><SegmentTemplate \
             initialization=\"/etc/x\" media=\"../$Number$\"/></Representation></AdaptationSet></Period></MPD>",
            "SegmentTemplate",
        ),
    ] {
        let error = Presentation::parse(text, "m.mpd").unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    let one = "<Representation id=\"1\"><SegmentTemplate initialization=\"i\" media=\"$Number$\"/></Representation>";
    let many = format!(
        "<MPD><Period><AdaptationSet contentType=\"video\">{}</AdaptationSet></Period></MPD>",
        one.repeat(REPRESENTATIONS_MAX + 1)
    );
    assert_eq!(Presentation::parse(&many, "m.mpd"), Err(Unusable::TooMany));
}
