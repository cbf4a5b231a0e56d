//! The player against a made-up clock: every rule of the module once, as a transcript.

use super::*;

const TWO: Duration = Duration::from_secs(2);

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Started at 0.5 s with one segment of 2 s captured at 1000.
fn playing() -> Player {
    let mut player = Player::starting_at(Duration::ZERO);
    player.append(at(0.5), TWO, Some(1000.0));
    player
}

#[test]
fn starts_with_the_first_whole_segment() {
    let mut player = Player::starting_at(Duration::ZERO);
    player.advance(at(3.0));
    assert_eq!(player.account().startup, None);
    assert_eq!(player.sample(at(3.0), 1003.0), None, "nothing to see yet");
    player.append(at(3.2), TWO, None);
    assert_eq!(player.account().startup, Some(at(3.2)));
    assert_eq!(player.account().stalls.count, 0, "waiting for the start is not a stall");
}

#[test]
fn starts_inside_a_segment_and_waits_until_a_second_is_ahead() {
    let mut player = Player::starting_at(at(1.5));
    player.append(at(0.2), TWO, Some(1000.0));
    assert_eq!(player.account().startup, None, "half a second is not enough");
    player.append(at(0.4), TWO, Some(1002.0));
    assert_eq!(player.account().startup, Some(at(0.4)));
    let sample = player.sample(at(0.4), 1010.0).expect("it plays");
    assert_eq!(sample.lag, Some(1010.0 - 1001.5));
    assert_eq!(sample.buffer, at(2.5));
}

#[test]
fn a_short_segment_is_enough_to_start() {
    let mut player = Player::starting_at(Duration::ZERO);
    player.append(at(0.1), at(0.4), None);
    assert_eq!(player.account().startup, Some(at(0.1)));
}

#[test]
fn counts_a_stall_from_the_moment_the_buffer_ends() {
    let mut player = playing();
    // it ran dry at 2.5, whenever we look
    player.advance(at(7.0));
    assert_eq!(player.waiting(), Some(at(4.5)));
    player.append(at(7.25), TWO, Some(1002.0));
    let account = player.account();
    assert_eq!(account.stalls, Interruptions { count: 1, time: at(4.75) });
    assert_eq!(account.played, TWO);
    assert_eq!(player.waiting(), None);
}

#[test]
fn the_account_does_not_depend_on_how_often_it_is_asked() {
    let (mut often, mut seldom) = (playing(), playing());
    for step in 1..=600 {
        often.advance(at(0.5 + f64::from(step) * 0.01));
    }
    often.append(at(6.5), TWO, None);
    seldom.append(at(6.5), TWO, None);
    assert_eq!(often.account(), seldom.account());
}

#[test]
fn media_that_comes_in_the_last_moment_is_no_stall() {
    let mut player = playing();
    player.append(at(2.5), TWO, None);
    player.advance(at(4.5));
    assert_eq!(player.account().stalls.count, 0);
    player.advance(at(4.6));
    assert_eq!(player.account().stalls.count, 1);
}

#[test]
fn resumes_when_a_second_or_a_segment_is_ahead() {
    let mut player = playing();
    player.append(at(3.0), at(0.3), None);
    assert_eq!(player.account().stalls.time, at(0.5), "a whole short segment is enough");
    let mut player = Player::starting_at(Duration::ZERO);
    player.append(at(0.0), at(4.0), None);
    player.append(at(5.0), at(4.0), None);
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(1.0) });
}

#[test]
fn lag_is_measured_at_the_playhead_and_grows_in_a_stall() {
    let mut player = playing();
    let sample = player.sample(at(1.5), 1007.0).expect("it plays");
    assert_eq!((sample.lag, sample.playing, sample.buffer), (Some(6.0), true, at(1.0)));
    let sample = player.sample(at(4.5), 1010.0).expect("it stalls");
    assert_eq!((sample.lag, sample.playing, sample.buffer), (Some(8.0), false, Duration::ZERO));
    player.append(at(4.5), TWO, Some(1002.0));
    let sample = player.sample(at(5.5), 1011.0).expect("it plays");
    assert_eq!(sample.lag, Some(8.0), "the lost time is not made up for");
}

#[test]
fn lag_follows_the_date_of_the_segment_under_the_playhead() {
    let mut player = playing();
    // a gap of 4 s in the programme: the dates jump, the timeline does not
    player.pass_gap(at(4.0));
    player.append(at(1.0), TWO, Some(1006.0));
    let before = player.sample(at(2.0), 1008.0).and_then(|sample| sample.lag);
    let after = player.sample(at(3.0), 1009.0).and_then(|sample| sample.lag);
    assert_eq!((before, after), (Some(6.5), Some(2.5)));
    assert_eq!(player.account().gaps, Interruptions { count: 1, time: at(4.0) });
    assert_eq!(player.account().stalls.count, 0);
}

#[test]
fn undated_media_has_no_lag() {
    let mut player = Player::starting_at(Duration::ZERO);
    player.append(at(0.0), TWO, None);
    assert_eq!(player.sample(at(1.0), 1.0).and_then(|sample| sample.lag), None);
}

#[test]
fn a_skip_while_playing_is_an_interruption_of_its_own() {
    let mut player = playing();
    player.skip(at(1.0), at(6.0));
    player.append(at(1.0), TWO, Some(1008.0));
    let account = player.account();
    assert_eq!(account.skips, Interruptions { count: 1, time: at(6.0) });
    assert_eq!(account.stalls, Interruptions { count: 1, time: at(6.0) });
}

#[test]
fn a_skip_in_a_stall_lengthens_it_only_beyond_the_wait() {
    // stalled at 2.5; what was lost is longer than the wait
    let mut player = playing();
    player.skip(at(3.5), at(10.0));
    player.append(at(4.5), TWO, None);
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(10.0) });
    // and shorter
    let mut player = playing();
    player.skip(at(3.5), at(1.0));
    player.append(at(8.5), TWO, None);
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(6.0) });
    assert_eq!(player.account().skips, Interruptions { count: 1, time: at(1.0) });
}

#[test]
fn a_skip_before_the_first_picture_interrupts_nobody() {
    let mut player = Player::starting_at(Duration::ZERO);
    player.skip(at(1.0), TWO);
    player.append(at(2.0), TWO, None);
    assert_eq!(player.account().stalls.count, 0);
    assert_eq!(player.account().skips.count, 1);
    assert_eq!(player.account().startup, Some(at(2.0)));
}

#[test]
fn the_end_of_the_programme_is_no_stall() {
    let mut player = playing();
    player.complete(at(1.0));
    player.advance(at(2.4));
    assert!(!player.ended());
    player.advance(at(9.0));
    assert!(player.ended());
    assert_eq!(player.account().stalls.count, 0);
    assert_eq!(player.account().played, TWO);
    assert_eq!(player.sample(at(9.0), 0.0), None);
}

#[test]
fn an_end_found_out_in_a_stall_ends_it() {
    let mut player = playing();
    player.complete(at(4.0));
    assert!(player.ended());
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(1.5) });
}

#[test]
fn a_short_programme_plays_although_there_is_less_than_a_second() {
    let mut player = Player::starting_at(at(1.8));
    player.append(at(0.3), TWO, None);
    player.complete(at(0.4));
    assert_eq!(player.account().startup, Some(at(0.4)));
    player.advance(at(1.0));
    assert!(player.ended());
    assert_eq!(player.account().played, TWO - at(1.8));
}

#[test]
fn an_empty_programme_ends_without_a_picture() {
    let mut player = Player::starting_at(Duration::ZERO);
    player.complete(at(1.0));
    assert!(player.ended());
    assert_eq!(player.account().startup, None);
}

#[test]
fn a_stall_that_goes_on_is_counted_to_the_end() {
    let mut player = playing();
    player.stop(at(10.0));
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(7.5) });
    let mut player = playing();
    player.stop(at(1.0));
    assert_eq!(player.account().stalls.count, 0);
    assert_eq!(player.account().played, at(0.5));
}

#[test]
fn knows_when_there_is_room_again() {
    let mut player = playing();
    assert_eq!(player.shrinks_to(TWO), Some(at(0.5)));
    player.append(at(1.0), at(40.0), None);
    assert_eq!(player.buffered(), at(41.5));
    assert_eq!(player.shrinks_to(at(30.0)), Some(at(12.5)));
    assert_eq!(player.shrinks_to(at(50.0)), None);
}

#[test]
fn keeps_only_what_is_still_to_play() {
    let mut player = playing();
    for segment in 1..1000 {
        player.append(at(0.5 + 2.0 * f64::from(segment)), TWO, None);
    }
    assert!(player.pieces.len() <= 2);
    assert_eq!(player.account().stalls.count, 0);
}

#[test]
fn a_clock_that_steps_back_does_no_harm() {
    let mut player = playing();
    player.advance(at(2.0));
    player.advance(at(1.0));
    assert_eq!(player.account().played, at(1.5));
    player.advance(at(2.25));
    assert_eq!(player.account().played, at(1.75));
}

#[test]
fn plays_faster_when_told_to() {
    let mut player = playing();
    player.play_at(at(0.5), 1.25);
    assert_eq!(player.shrinks_to(Duration::ZERO), Some(at(0.5 + 1.6)));
    let sample = player.sample(at(1.3), 1002.0).expect("it plays");
    assert_eq!((sample.lag, sample.buffer), (Some(1.0), at(1.0)), "0.8 s later a second was shown");
    player.play_at(at(1.3), 1.0);
    player.advance(at(2.2));
    assert_eq!(player.account().stalls.count, 0);
    player.play_at(at(2.2), 2.0);
    player.stop(at(3.0));
    assert_eq!(player.account().stalls, Interruptions { count: 1, time: at(0.75) });
}
