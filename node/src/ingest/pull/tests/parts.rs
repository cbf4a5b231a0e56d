//! Low latency: segments that come part by part, and every way in which their parts can be wrong.

use std::ops::Range;

use bytes::Bytes;

use super::*;
use crate::ingest::samples::{chunks, init};
use crate::origin::tests::server::{Answer, TestServer};

/// Of every segment here.
const PARTS: usize = 4;

/// The parts of segment `n`, which lasts a second.
fn parts(n: u64) -> Vec<Bytes> {
    chunks(n as u32 * 1000, 250, PARTS as u32).into_iter().map(Bytes::from).collect()
}

fn whole(n: u64) -> Bytes {
    parts(n).concat().into()
}

/// A playlist with segments `listed`, the last three with their parts, and the first `growing` parts of the next.
fn playlist(listed: Range<u64>, growing: usize) -> String {
    let part = |n: u64, index: usize| {
        let independent = if index == 0 { ",INDEPENDENT=YES" } else { "" };
        format!("#EXT-X-PART:DURATION=0.25,URI=\"{n}.{index}.m4s\"{independent}\n")
    };
    let parts_of = |n: u64, count: usize| (0..count).map(|index| part(n, index)).collect::<String>();
    let segments: String = listed
        .clone()
        .map(|n| parts_of(n, if n + 3 >= listed.end { PARTS } else { 0 }) + &format!("#EXTINF:1,\n{n}.m4s\n"))
        .collect();
    format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:1\n#EXT-X-PART-INF:PART-TARGET=0.25\n\
         #EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-MAP:URI=\"init.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T14:00:{:02}Z\n{segments}{}",
        listed.start,
        listed.start,
        parts_of(listed.end, growing)
    )
}

/// A server with the files of segments 0 to 19; segments 0 to 4 and one part are listed at `/live/v.m3u8`.
async fn source() -> TestServer {
    let server = TestServer::start().await;
    server.put("/live/init.mp4", Answer::Body(init(0)));
    for n in 0..20 {
        server.put(&format!("/live/{n}.m4s"), Answer::Body(whole(n)));
        for (index, part) in parts(n).into_iter().enumerate() {
            server.put(&format!("/live/{n}.{index}.m4s"), Answer::Body(part));
        }
    }
    server.text("/live/v.m3u8", playlist(0..5, 1));
    server
}

/// A pull of that, from which the segments before the first part have come.
async fn begun(server: &TestServer) -> Pulled {
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    assert_eq!(pulled.shape().await.renditions[0].part_target, Some(Duration::from_millis(250)));
    assert_eq!(numbers(&pulled.segments(3).await), [2, 3, 4]);
    pulled
}

/// Takes the next part, which must be this one.
async fn assert_part(pulled: &mut Pulled, n: u64, index: u32) -> Part {
    let part = pulled.part().await;
    assert_eq!((part.number, part.index, &part.body), (n, index, &parts(n)[index as usize]));
    assert_eq!((part.independent, part.duration), (index == 0, Duration::from_millis(250)));
    part
}

/// Takes parts `indices` of segment `n` and then the segment.
async fn assert_grows(pulled: &mut Pulled, n: u64, indices: Range<u32>) -> Segment {
    for index in indices {
        assert_part(pulled, n, index).await;
    }
    let segment = pulled.segment().await;
    assert_eq!((segment.number, &segment.body), (n, &whole(n)));
    segment
}

fn times_asked(server: &TestServer, path: &str) -> usize {
    server.requests().iter().filter(|(asked, _)| asked == path).count()
}

#[tokio::test]
async fn parts_come_as_they_are_listed_and_then_their_segment() {
    let server = source().await;
    let mut pulled = begun(&server).await;
    let first = assert_part(&mut pulled, 5, 0).await;
    assert_eq!((first.uri.as_str(), first.offset, first.init), ("5.0.m4s", 0, Some(init(0))));
    server.text("/live/v.m3u8", playlist(0..5, 2));
    let second = assert_part(&mut pulled, 5, 1).await;
    assert_eq!(second.start.seconds_since(first.start), 0.25);
    server.text("/live/v.m3u8", playlist(1..6, 1));
    let segment = assert_grows(&mut pulled, 5, 2..4).await;
    assert_eq!((segment.uri.as_str(), segment.start, segment.discontinuity), ("5.m4s", first.start, false));
    assert_part(&mut pulled, 6, 0).await;
    server.text("/live/v.m3u8", playlist(2..7, 0) + "#EXT-X-ENDLIST\n");
    // The last part comes with the segment, now that it is known to be its parts joined.
    let segment = assert_grows(&mut pulled, 6, 1..3).await;
    assert_eq!(segment.start.seconds_since(first.start), 1.0);
    pulled.ended().await;
    assert_eq!((times_asked(&server, "/live/5.m4s"), times_asked(&server, "/live/6.m4s")), (1, 0));
    assert_eq!(pulled.log.at(Level::WARN), Vec::<String>::new());
}

#[tokio::test]
async fn parts_may_be_ranges_of_the_segments_file() {
    let server = source().await;
    let in_file = |listed: Range<u64>, growing: usize| {
        let mut text = playlist(listed.clone(), growing);
        for n in listed.start..=listed.end {
            for (index, part) in parts(n).iter().enumerate() {
                let offset = if index == 0 { "@0" } else { "" };
                let ranged = format!("URI=\"{n}.m4s\",BYTERANGE=\"{}{offset}\"", part.len());
                text = text.replace(&format!("URI=\"{n}.{index}.m4s\""), &ranged);
            }
        }
        text
    };
    server.text("/live/v.m3u8", in_file(0..5, 2));
    let mut pulled = begun(&server).await;
    assert_part(&mut pulled, 5, 0).await;
    let second = assert_part(&mut pulled, 5, 1).await;
    assert_eq!((second.uri.as_str(), second.offset), ("5.m4s", parts(5)[0].len() as u64));
    server.text("/live/v.m3u8", in_file(1..6, 0));
    assert_grows(&mut pulled, 5, 2..4).await;
}

#[tokio::test]
async fn a_server_that_holds_requests_is_asked_for_the_next_part() {
    let server = source().await;
    let control = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.75\n";
    server.text("/live/v.m3u8", playlist(0..5, 1) + control);
    let mut pulled = begun(&server).await;
    assert_part(&mut pulled, 5, 0).await;
    server.put("/live/v.m3u8", Answer::Held);
    server.more_requests("/live/v.m3u8?_HLS_msn=5&_HLS_part=1", 1).await;
    server.text("/live/v.m3u8", playlist(1..6, 0) + control);
    assert_grows(&mut pulled, 5, 1..4).await;
    server.put("/live/v.m3u8", Answer::Held);
    server.more_requests("/live/v.m3u8?_HLS_msn=6&_HLS_part=0", 1).await;
}

#[tokio::test]
async fn a_part_that_is_hinted_at_is_asked_for_before_it_is_listed() {
    let server = source().await;
    let hint = |name: &str| format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}.m4s\"\n");
    server.put("/live/5.1.m4s", Answer::Held);
    server.text("/live/v.m3u8", playlist(0..5, 1) + &hint("5.1"));
    let mut pulled = begun(&server).await;
    assert_part(&mut pulled, 5, 0).await;
    while times_asked(&server, "/live/5.1.m4s") == 0 {
        server.more_requests("/live/v.m3u8", 1).await;
    }
    server.put("/live/5.1.m4s", Answer::Body(parts(5)[1].clone()));
    // What doesn't come is asked for again when it is listed.
    server.put("/live/5.2.m4s", Answer::Status(404));
    server.text("/live/v.m3u8", playlist(0..5, 2) + &hint("5.2"));
    assert_part(&mut pulled, 5, 1).await;
    assert_eq!(times_asked(&server, "/live/5.1.m4s"), 1);
    while times_asked(&server, "/live/5.2.m4s") == 0 {
        server.more_requests("/live/v.m3u8", 1).await;
    }
    server.put("/live/5.2.m4s", Answer::Body(parts(5)[2].clone()));
    server.text("/live/v.m3u8", playlist(1..6, 0) + &hint("6.0"));
    assert_grows(&mut pulled, 5, 2..4).await;
    assert_eq!(times_asked(&server, "/live/5.2.m4s"), 2);
    // Nor does a hint at something that never is listed do harm.
    server.text("/live/v.m3u8", playlist(1..6, 0) + &hint("../../elsewhere/7.9"));
    server.more_requests("/live/v.m3u8", 1).await;
    server.text("/live/v.m3u8", playlist(2..7, 0));
    assert_grows(&mut pulled, 6, 0..0).await;
}

#[tokio::test]
async fn what_is_missing_of_the_parts_comes_with_the_whole_segment() {
    let server = source().await;
    server.put("/live/5.1.m4s", Answer::Status(404));
    server.text("/live/v.m3u8", playlist(0..5, 3));
    let mut pulled = begun(&server).await;
    assert_part(&mut pulled, 5, 0).await;
    pulled.log.wait_for(Level::WARN, "can't fetch a part").await;
    server.put("/live/6.0.m4s", Answer::Status(404));
    server.text("/live/v.m3u8", playlist(1..6, 2));
    let segment = assert_grows(&mut pulled, 5, 0..0).await;
    assert_eq!((segment.uri.as_str(), segment.discontinuity), ("5.m4s", false));
    server.text("/live/v.m3u8", playlist(2..7, 1));
    // Nothing was said of it before.
    assert!(!assert_grows(&mut pulled, 6, 0..0).await.discontinuity);
    assert_part(&mut pulled, 7, 0).await;
}

#[tokio::test]
async fn a_segment_that_cannot_be_had_ends_with_its_parts() {
    let server = source().await;
    server.put("/live/5.m4s", Answer::Status(404));
    let mut pulled = begun(&server).await;
    assert_part(&mut pulled, 5, 0).await;
    server.put("/live/5.1.m4s", Answer::Status(404));
    server.text("/live/v.m3u8", playlist(1..6, 1));
    let cut = pulled.segment().await;
    assert_eq!((cut.number, &cut.body, cut.duration), (5, &parts(5)[0], Duration::from_millis(250)));
    assert!(assert_part(&mut pulled, 6, 0).await.discontinuity);
}

#[tokio::test]
async fn a_segment_that_is_not_its_parts_ends_with_them() {
    let server = source().await;
    server.put("/live/5.m4s", Answer::Body(whole(4)));
    let mut pulled = begun(&server).await;
    assert_part(&mut pulled, 5, 0).await;
    server.text("/live/v.m3u8", playlist(1..6, 0));
    let segment = assert_grows(&mut pulled, 5, 1..4).await;
    assert_eq!(segment.uri, "", "what is there is something else");
    assert_eq!(pulled.log.warnings("it is not what its parts were"), 1);
}

#[tokio::test]
async fn parts_that_are_no_whole_chunks_are_given_up_in_the_end() {
    let server = source().await;
    for n in 5..20 {
        server.put(&format!("/live/{n}.1.m4s"), Answer::Body(parts(n)[1].slice(..20)));
    }
    let mut pulled = begun(&server).await;
    for n in 5..7 {
        server.text("/live/v.m3u8", playlist(n - 4..n, 3));
        assert_part(&mut pulled, n, 0).await;
        server.text("/live/v.m3u8", playlist(n - 4..n + 1, 0));
        assert_grows(&mut pulled, n, 0..0).await;
    }
    assert_eq!(pulled.log.warnings("check the packager"), 1);
    server.text("/live/v.m3u8", playlist(3..7, 3));
    assert_part(&mut pulled, 7, 0).await;
    pulled.log.wait_for(Level::WARN, "its parts are no use").await;
    server.text("/live/v.m3u8", playlist(3..8, 1));
    assert_eq!(pulled.shape().await.renditions[0].part_target, None);
    assert_grows(&mut pulled, 7, 0..0).await;
    server.text("/live/v.m3u8", playlist(4..9, 1));
    assert_grows(&mut pulled, 8, 0..0).await;
}

#[tokio::test]
async fn a_first_part_that_is_no_whole_chunk_leaves_no_trace() {
    let server = source().await;
    server.put("/live/5.0.m4s", Answer::Body(parts(5)[0].slice(..40)));
    let mut pulled = begun(&server).await;
    pulled.log.wait_for(Level::WARN, "not made of whole CMAF chunks").await;
    server.text("/live/v.m3u8", playlist(1..6, 1));
    assert!(!assert_grows(&mut pulled, 5, 0..0).await.discontinuity);
    assert!(!assert_part(&mut pulled, 6, 0).await.discontinuity);
}

#[tokio::test]
async fn too_much_text_for_a_statement_comes_with_the_whole_segment() {
    let server = source().await;
    let token = "t".repeat(1300);
    let wordy =
        |listed: Range<u64>, growing: usize| playlist(listed, growing).replace(".m4s\"", &format!(".m4s?{token}\""));
    server.text("/live/v.m3u8", wordy(0..5, 4));
    let mut pulled = begun(&server).await;
    for index in 0..4 {
        assert_part(&mut pulled, 5, index).await;
    }
    let tag = format!("#EXT-X-CUE:{token}\n").repeat(3);
    let text = wordy(1..6, 0);
    server.text("/live/v.m3u8", format!("{text}{tag}{}", wordy(1..6, 4).replace(&text, "")));
    assert_grows(&mut pulled, 5, 0..0).await;
    for index in 0..3 {
        assert_part(&mut pulled, 6, index).await;
    }
    server.text("/live/v.m3u8", wordy(2..7, 1));
    assert_grows(&mut pulled, 6, 0..0).await;
    assert_part(&mut pulled, 7, 0).await;
    assert_eq!(pulled.log.at(Level::WARN), Vec::<String>::new());
}

#[tokio::test]
async fn a_playlist_may_stop_having_parts() {
    let server = source().await;
    let mut pulled = begun(&server).await;
    assert_part(&mut pulled, 5, 0).await;
    let plain = |listed: Range<u64>| {
        let text = playlist(listed, 0);
        text.lines().filter(|line| !line.starts_with("#EXT-X-PART")).map(|line| format!("{line}\n")).collect::<String>()
    };
    server.text("/live/v.m3u8", plain(1..6));
    assert_eq!(pulled.shape().await.renditions[0].part_target, None);
    assert_grows(&mut pulled, 5, 0..0).await;
    server.text("/live/v.m3u8", plain(2..7));
    assert!(!assert_grows(&mut pulled, 6, 0..0).await.discontinuity);
}

#[tokio::test]
async fn an_encoder_that_begins_again_leaves_a_shorter_segment() {
    let server = source().await;
    server.text("/live/v.m3u8", playlist(10..15, 2));
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    pulled.segments(3).await;
    assert_part(&mut pulled, 15, 0).await;
    assert_part(&mut pulled, 15, 1).await;
    server.text("/live/v.m3u8", playlist(0..2, 1));
    let cut = pulled.segment().await;
    assert_eq!((cut.number, cut.body), (15, Bytes::from(parts(15)[..2].concat())));
    let again = pulled.segments(2).await;
    assert_eq!((numbers(&again), breaks(&again)), (vec![0, 1], vec![true, false]));
    assert_part(&mut pulled, 2, 0).await;
}

#[tokio::test]
async fn viewers_who_follow_by_themselves_take_whole_segments() {
    let server = source().await;
    let mut pulled = pull_with(&server.url("/live/v.m3u8"), Role::Viewer, SOON);
    assert_eq!(pulled.shape().await.renditions[0].part_target, None);
    assert_eq!(numbers(&pulled.segments(3).await), [2, 3, 4]);
    server.text("/live/v.m3u8", playlist(1..6, 1));
    assert_grows(&mut pulled, 5, 0..0).await;
}
