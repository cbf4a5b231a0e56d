//! The whole probe against a low-latency origin on loopback, in real time, and the faults such origins have.
//!
//! Figures that depend on how busy the machine is are not asserted. What must hold on any machine is: time passes for the
//! picture or for a stall, and only stalls and jumps change how far behind the capture it is.

use std::{collections::BTreeSet, time::Duration};

use super::{
    test_origin::{Options, Origin, PART, PARTS},
    test_server::Reply,
    tests::measure,
    *,
};

const ALL_PARTS: u64 = 10 * PARTS;

fn nothing_broken(_: &test_server::Request) -> Option<Reply> {
    None
}

async fn origin(options: Options) -> Origin {
    Origin::start(options, nothing_broken).await
}

/// Plays `/low/live.m3u8` to its end.
async fn play(origin: &Origin, options: &[&str]) -> Report {
    let report = measure(&origin.url("/low/live.m3u8"), &[options, &["--samples"]].concat()).await;
    assert_eq!(report.error, None);
    report
}

/// All time is start-up, picture or stall, and the lag grows by no more than what stalls add and jumps take away.
fn assert_lag_is_accounted_for(report: &Report, left_out: f64) {
    let samples = report.samples.as_deref().expect("they were asked for");
    let playing = || samples.iter().filter(|sample| sample.playing);
    let (first, last) = (playing().next().expect("it played"), playing().next_back().expect("it played"));
    let growth = last.lag.expect("it is dated") - first.lag.expect("it is dated");
    let expected = report.stalls.seconds - left_out;
    assert!(growth < expected + 0.1, "lag grew by {growth}, stalls and jumps make {expected}");
    let accounted = report.startup_seconds.expect("it played") + report.played_seconds + report.stalls.seconds;
    assert!((report.elapsed_seconds - accounted).abs() < 1.1, "{accounted} of {}", report.elapsed_seconds);
}

fn media_asked(origin: &Origin) -> Vec<String> {
    origin.asked().iter().filter(|path| path.contains(".mp4") && !path.contains("init")).cloned().collect()
}

fn assert_nothing_is_asked_for_twice(origin: &Origin) {
    let media = media_asked(origin);
    assert_eq!(media.iter().collect::<BTreeSet<_>>().len(), media.len(), "{media:?}");
}

#[tokio::test]
async fn plays_parts_as_they_are_made() {
    let origin = origin(Options::default()).await;
    let report = play(&origin, &[]).await;
    assert_eq!((report.mode, report.container), (Some(Mode::Parts), Some(Container::Fmp4)));
    assert_eq!((report.part_target_seconds, report.hold_back_seconds), (Some(0.2), Some(0.6)));
    assert_eq!(report.timestamp_errors, TimestampErrors::default());
    assert_eq!((report.errors.total, report.skips.count, report.gaps.count, report.jumps), (0, 0, 0, 0));
    assert_eq!(report.notes, Vec::<String>::new());
    assert_lag_is_accounted_for(&report, 0.0);
    let lag = report.lag_seconds.expect("it is dated");
    assert!(lag.p50 >= 0.6, "never nearer to the end than the hold-back: {lag:?}");

    // it decoded from a key frame and showed from the hold-back, to the end
    let decoded = PART.as_secs_f64() * report.parts as f64;
    let shown = report.played_seconds;
    assert!(shown <= decoded + 1e-6 && shown > decoded - 2.0, "{shown} of {decoded} s");
    assert_eq!(report.segments, 0);
    assert!(report.hinted_parts > 0 && report.hinted_parts < report.parts);

    assert_nothing_is_asked_for_twice(&origin);
    assert!(media_asked(&origin).iter().all(|path| path.split('.').count() == 3), "no whole segment was needed");
    let reloads: Vec<String> = origin.asked().iter().filter(|path| path.contains("m3u8")).cloned().collect();
    assert_eq!(reloads[0], "/low/live.m3u8");
    assert!(reloads[1].contains("?_HLS_msn=") && reloads[1].contains("&_HLS_part="), "{reloads:?}");
    assert!(reloads[1].ends_with("&_HLS_skip=YES"), "{reloads:?}");
    assert!(reloads.len() as u64 <= ALL_PARTS, "each is held until there is something new");
}

#[tokio::test]
async fn without_hints_parts_are_asked_for_when_they_are_listed() {
    let origin = origin(Options::default()).await;
    let report = play(&origin, &["--preload-hints", "off"]).await;
    assert_eq!((report.mode, report.hinted_parts, report.errors.total), (Some(Mode::Parts), 0, 0));
    assert_eq!(report.timestamp_errors, TimestampErrors::default());
    assert_nothing_is_asked_for_twice(&origin);
    assert_lag_is_accounted_for(&report, 0.0);
}

#[tokio::test]
async fn plays_whole_segments_when_told_to_or_when_it_cannot_block() {
    let plays = |control, options: &'static [&str]| async move {
        let origin = origin(Options { control, history: 9, ..Options::default() }).await;
        let report = play(&origin, options).await;
        assert_eq!((report.mode, report.parts, report.part_target_seconds), (Some(Mode::Segments), 0, None));
        assert_eq!(report.hold_back_seconds, Some(6.0));
        assert_eq!(report.timestamp_errors, TimestampErrors::default());
        assert!(origin.asked().iter().all(|path| !path.contains("_HLS_")), "plain requests only");
    };
    tokio::join!(
        plays(Options::default().control, &["--low-latency", "off"]),
        plays("PART-HOLD-BACK=0.6", &[]),
        plays("CAN-BLOCK-RELOAD=YES", &[]),
    );
}

#[tokio::test]
async fn a_late_part_is_a_stall() {
    let late = Duration::from_secs(3);
    let origin = origin(Options { late: Some(((8, 5), late)), ..Options::default() }).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("samples.jsonl");
    let path = file.display().to_string();
    let report = measure(&origin.url("/low/live.m3u8"), &["--samples", &path]).await;
    assert_eq!((report.error, report.errors.total, report.samples), (None, 0, None));
    assert!(report.stalls.count >= 1);
    let lines = std::fs::read_to_string(&file).expect("it is there");
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    // what it had ahead when the parts stopped coming was at most its lag; that is what the stall is shorter by
    let lag = lines[0]["lag"].as_f64().expect("it is dated");
    let least = late.as_secs_f64() - lag;
    assert!(report.stalls.seconds >= least, "{} s of stalls, lag {lag} before", report.stalls.seconds);
    assert!(lines.iter().any(|line| line["stalled"] == true) || least < 1.0, "{lines:?}");
    assert!(lines.iter().all(|line| line["bytes"].as_u64() > Some(0) && line["buffer"].is_f64()), "{lines:?}");
    assert!(report.late.iter().any(|late| late.sequence == 8 && late.part == Some(5)), "{:?}", report.late);
}

#[tokio::test]
async fn jumps_when_it_has_fallen_too_far_behind() {
    let late = Some(((8, 5), Duration::from_secs(3)));
    let origin = origin(Options { late, segments: 11, ..Options::default() }).await;
    let report = play(&origin, &["--max-latency", "2"]).await;
    assert!(report.jumps >= 1 && report.skipped_seconds > 1.0, "{} s", report.skipped_seconds);
    assert_eq!((report.skips.count, report.timestamp_errors.gaps), (0, 0));
    assert_lag_is_accounted_for(&report, report.skipped_seconds);
}

#[tokio::test]
async fn a_part_declared_absent_takes_with_it_what_builds_on_it() {
    let origin = origin(Options { gap: Some((8, 6)), ..Options::default() }).await;
    let report = play(&origin, &[]).await;
    assert_eq!((report.gaps.count, report.gaps.seconds), (1, 0.2));
    // parts 7, 8 and 9 cannot be decoded without it
    assert_eq!(report.skips.count, 1);
    assert!((report.skips.seconds - 0.6).abs() < 1e-6);
    assert_eq!((report.timestamp_errors.gaps, report.timestamp_errors.overlaps), (0, 0));
    let media = media_asked(&origin);
    assert!(["/low/8.7.mp4", "/low/8.mp4"].iter().all(|path| !media.iter().any(|asked| asked == path)), "{media:?}");
}

#[tokio::test]
async fn a_part_that_is_missing_comes_with_its_segment() {
    let missing = |request: &test_server::Request| (request.path == "/low/8.6.mp4").then(|| Reply::status(404));
    let origin = Origin::start(Options::default(), missing).await;
    let report = play(&origin, &[]).await;
    assert_eq!((report.segments, report.skips.count, report.gaps.count), (1, 0, 0));
    assert_eq!(
        report.timestamp_errors,
        TimestampErrors::default(),
        "the rest of the segment goes on where the parts end"
    );
    assert!(report.errors.by_kind.get("http_404") >= Some(&2), "{:?}", report.errors);
    assert_lag_is_accounted_for(&report, 0.0);
}

#[tokio::test]
async fn parts_that_contradict_their_segment_are_told() {
    let origin = origin(Options { extinf: 2.5, swapped: Some(((8, 6), (8, 2))), ..Options::default() }).await;
    let report = play(&origin, &[]).await;
    assert!(report.notes.iter().any(|note| note.contains("do not add up")), "{:?}", report.notes);
    // the media of another part: back by four parts, and forward again
    assert_eq!((report.timestamp_errors.overlaps, report.timestamp_errors.gaps), (1, 1));
    assert!((report.timestamp_errors.largest_seconds - 0.8).abs() < 1e-6);
    assert_nothing_is_asked_for_twice(&origin);
}

#[tokio::test]
async fn a_server_that_does_not_hold_reloads_is_not_flooded() {
    let origin = origin(Options { never_blocks: true, ..Options::default() }).await;
    let report = play(&origin, &[]).await;
    let reloads = origin.asked().iter().filter(|path| path.contains("m3u8")).count();
    // one that finds nothing new is followed by a second's pause
    assert!((reloads as f64) < 3.0 * report.elapsed_seconds + 3.0, "{reloads} in {} s", report.elapsed_seconds);
    assert_lag_is_accounted_for(&report, 0.0);
}

#[tokio::test]
async fn a_refused_reload_is_followed_by_a_plain_one() {
    let refused = |request: &test_server::Request| request.path.contains("_HLS_msn=8").then(|| Reply::status(503));
    let origin = Origin::start(Options::default(), refused).await;
    let report = play(&origin, &[]).await;
    assert!(report.errors.by_kind.get("http_503") >= Some(&1), "{:?}", report.errors);
    let asked = origin.asked();
    let after =
        asked.iter().filter(|path| path.contains("m3u8")).skip_while(|path| !path.contains("_HLS_msn=8")).nth(1);
    assert_eq!(after.map(String::as_str), Some("/low/live.m3u8"));
}

#[tokio::test]
async fn hints_that_do_not_come_true_do_no_harm() {
    let origin = origin(Options { false_hints_from: Some(9), ..Options::default() }).await;
    let report = play(&origin, &[]).await;
    assert!(report.errors.by_kind.get("http_404") >= Some(&1), "{:?}", report.errors);
    assert_eq!((report.skips.count, report.errors.retries), (0, 0));
    assert_eq!(report.timestamp_errors, TimestampErrors::default());
    assert_nothing_is_asked_for_twice(&origin);
}

#[tokio::test]
async fn plays_parts_that_are_byte_ranges_of_a_chosen_variant() {
    let renditions = &[("high", 600_000), ("low", 200_000)];
    let origin = origin(Options { ranges: true, renditions, ..Options::default() }).await;
    let url = origin.url("/master.m3u8");
    let report = measure(&url, &["--bandwidth", "300000", "--samples"]).await;
    assert_eq!((report.error.as_deref(), report.variant.map(|variant| variant.bandwidth)), (None, Some(200_000)));
    assert_eq!((report.mode, report.segments), (Some(Mode::Parts), 0));
    assert_eq!((report.hinted_parts, report.errors.total), (0, 0), "open hints of such files are left alone");
    assert_eq!(report.timestamp_errors, TimestampErrors::default());
    assert_nothing_is_asked_for_twice(&origin);
    assert!(media_asked(&origin).iter().all(|path| path.starts_with("/low/") && path.contains(' ')));
    assert_lag_is_accounted_for(&report, 0.0);
}

#[tokio::test]
async fn a_stream_told_in_nonsense_ends_with_a_reason() {
    let nonsense = |request: &test_server::Request| {
        let control = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1e300,CAN-SKIP-UNTIL=-1";
        request.path.contains("m3u8").then(|| {
            Reply::ok(format!(
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n{control}\n#EXT-X-PART-INF:PART-TARGET=1e-9\n\
                 #EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXT-X-PART:DURATION=-3,URI=\"0.0.mp4\"\n\
                 #EXT-X-PART:URI=\"\"\n#EXTINF:nan,\nx\n#EXT-X-SKIP:SKIPPED-SEGMENTS=18446744073709551615\n\
                 #EXT-X-PART:DURATION=1e99,URI=\"9.9.mp4\",BYTERANGE=\"18446744073709551615@18446744073709551615\"\n\
                 #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x\",BYTERANGE-START=1,BYTERANGE-LENGTH=0\n"
            ))
        })
    };
    let origin = Origin::start(Options::default(), nonsense).await;
    let report = measure(&origin.url("/low/live.m3u8"), &["--give-up", "1", "--seconds", "4"]).await;
    assert_eq!(report.startup_seconds, None);
    assert!(origin.asked().len() < 50, "{} requests", origin.asked().len());
}
