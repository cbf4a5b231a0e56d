//! The player itself, without network or clock: a buffer, a playhead, and the account of every interruption.
//!
//! All times are given, as the time since the measurement began. Between two calls the playhead moves by itself, so
//! what is counted does not depend on how often or how punctually the player is called.

use std::{collections::VecDeque, time::Duration};

/// A player that must wait starts or resumes with this much media ahead, or one segment or part if that is shorter.
/// Browsers do with less; a second keeps one slow download from counting as many stalls. A choice of this project.
const ENOUGH: Duration = Duration::from_secs(1);

/// Buffer, playhead and account.
#[derive(Debug)]
pub(super) struct Player {
    /// When the player was last moved on.
    clock: Duration,
    state: State,
    /// The media under the playhead and after it; the last piece played stays while nothing follows.
    pieces: VecDeque<Piece>,
    /// How fast the playhead moves: seconds of media a second.
    rate: f64,
    /// Where on the timeline the playhead is; zero is the start of the first segment.
    playhead: Duration,
    /// Where the buffered media ends.
    end: Duration,
    /// How much media ahead ends the current wait.
    enough: Duration,
    /// How much is enough for the first picture, at most.
    enough_to_start: Duration,
    /// So much of what is appended next is only decoded.
    hidden: Duration,
    /// What was appended last is followed by a skip.
    skipping: bool,
    /// No more media will come.
    complete: bool,
    account: Account,
}

/// What the player counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Account {
    /// When the first picture could be shown.
    pub(super) startup: Option<Duration>,
    /// Media shown.
    pub(super) played: Duration,
    pub(super) stalls: Interruptions,
    pub(super) skips: Interruptions,
    pub(super) gaps: Interruptions,
    /// Moves forward to be nearer to the end of the programme: how often, and over how much media.
    pub(super) jumps: Interruptions,
}

/// How often, and how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Interruptions {
    pub(super) count: u64,
    pub(super) time: Duration,
}

/// What a viewer had at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Time since the measurement began.
    pub(super) at: Duration,
    /// Seconds since 1970.
    pub(super) wall: f64,
    /// Seconds between the capture of the frame at the playhead and now, if the playlist is dated.
    pub(super) lag: Option<f64>,
    /// Media ahead of the playhead.
    pub(super) buffer: Duration,
    pub(super) playing: bool,
    /// Received so far; the player doesn't know, the session does.
    pub(super) media_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Starting,
    Playing,
    /// The playhead reached the end of the buffer at `since`; `skipped` of what it waits for will never come.
    Stalled {
        since: Duration,
        skipped: Duration,
    },
    Ended,
}

/// One segment on the player's timeline.
#[derive(Debug)]
struct Piece {
    start: Duration,
    end: Duration,
    capture: Option<f64>,
}

impl Player {
    /// A player that will start `offset` into the first segment it is given.
    pub(super) fn starting_at(offset: Duration) -> Self {
        Self {
            clock: Duration::ZERO,
            state: State::Starting,
            pieces: VecDeque::new(),
            rate: 1.0,
            playhead: offset,
            end: Duration::ZERO,
            enough: ENOUGH,
            enough_to_start: ENOUGH,
            hidden: Duration::ZERO,
            skipping: false,
            complete: false,
            account: Account::default(),
        }
    }

    /// Shows the first picture as soon as there is any media to show.
    pub(super) fn starting_at_once(self) -> Self {
        Self { enough_to_start: Duration::from_nanos(1), ..self }
    }

    /// Adds a whole segment, or part, that lasts `duration`; its first frame was captured at `capture` (seconds since 1970).
    pub(super) fn append(&mut self, now: Duration, duration: Duration, capture: Option<f64>) {
        self.advance(now);
        let hidden = self.hidden.min(duration);
        self.hidden -= hidden;
        self.skipping = false;
        let start = self.end;
        self.end += duration - hidden;
        self.pieces.push_back(Piece {
            start,
            end: self.end,
            capture: capture.map(|capture| capture + hidden.as_secs_f64()),
        });
        self.enough = ENOUGH.min(duration);
        self.leave_wait();
    }

    /// Media of length `lost` will never come: the next segment appended follows it in the programme.
    ///
    /// A skip interrupts the viewer as a stall does, and is counted as one. A skip during a stall belongs to that stall,
    /// which then lasts as long as the wait or what was lost, whichever is longer: nobody misses the same second twice.
    pub(super) fn skip(&mut self, now: Duration, lost: Duration) {
        self.advance(now);
        self.account.skips.add(lost);
        self.skipping = true;
        match &mut self.state {
            State::Playing => self.account.stalls.add(lost),
            State::Stalled { skipped, .. } => *skipped += lost,
            State::Starting | State::Ended => {}
        }
    }

    /// As [`Player::skip`]; directly after another it lengthens that one.
    pub(super) fn skip_on(&mut self, now: Duration, lost: Duration) {
        if !self.skipping {
            self.skip(now, lost);
            return;
        }
        self.advance(now);
        self.account.skips.time += lost;
        match &mut self.state {
            State::Playing => self.account.stalls.time += lost,
            State::Stalled { skipped, .. } => *skipped += lost,
            State::Starting | State::Ended => {}
        }
    }

    /// The next `lead_in` that is appended is only decoded: what is shown begins after it.
    pub(super) fn hide(&mut self, lead_in: Duration) {
        self.hidden = lead_in;
    }

    /// Moves the playhead forward `by` so much, over `skipped` of the programme. What is not buffered yet must be waited
    /// for, and that is a stall.
    pub(super) fn jump(&mut self, now: Duration, by: Duration, skipped: Duration) {
        self.advance(now);
        self.account.jumps.add(skipped);
        let inside = by.min(self.buffered());
        self.playhead += inside;
        self.hidden = by - inside;
        if self.buffered().is_zero() && self.state == State::Playing {
            self.run_dry(self.clock);
        }
        self.forget_played();
    }

    /// The server says there is no media of length `duration` here (EXT-X-GAP); the playhead will pass over it.
    pub(super) fn pass_gap(&mut self, duration: Duration) {
        self.account.gaps.add(duration);
    }

    /// No more media will come: what is buffered is played to its end.
    pub(super) fn complete(&mut self, now: Duration) {
        self.advance(now);
        self.complete = true;
        self.leave_wait();
    }

    /// Moves the playhead to where it is at `now`.
    pub(super) fn advance(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.clock);
        self.clock = self.clock.max(now);
        if self.state != State::Playing {
            return;
        }
        let left = self.end - self.playhead;
        let lasts = self.takes(left);
        let moved = if elapsed >= lasts { left } else { elapsed.mul_f64(self.rate).min(left) };
        self.playhead += moved;
        self.account.played += moved;
        if elapsed > lasts || (self.complete && elapsed == lasts) {
            self.run_dry(self.clock - (elapsed - lasts));
        }
        self.forget_played();
    }

    /// From `now` on the playhead moves this fast; at least 1.
    pub(super) fn play_at(&mut self, now: Duration, rate: f64) {
        self.advance(now);
        self.rate = rate.max(1.0);
    }

    /// What the viewer has at `now`, which is `wall` on the clock; `None` before the first picture and after the end.
    pub(super) fn sample(&mut self, now: Duration, wall: f64) -> Option<Sample> {
        self.advance(now);
        let playing = match self.state {
            State::Playing => true,
            State::Stalled { .. } => false,
            State::Starting | State::Ended => return None,
        };
        Some(Sample {
            at: now,
            wall,
            lag: self.capture_at_playhead().map(|capture| wall - capture),
            buffer: self.buffered(),
            playing,
            media_bytes: 0,
        })
    }

    /// Ends the measurement: a stall that goes on is counted up to `now`.
    pub(super) fn stop(&mut self, now: Duration) {
        self.advance(now);
        if let State::Stalled { since, skipped } = self.state {
            self.account.stalls.time += (now.saturating_sub(since)).max(skipped);
        }
        self.state = State::Ended;
    }

    /// Media ahead of the playhead.
    pub(super) fn buffered(&self) -> Duration {
        self.end.saturating_sub(self.playhead)
    }

    /// When the media ahead will have shrunk to `level`, if it will without anything being appended.
    pub(super) fn shrinks_to(&self, level: Duration) -> Option<Duration> {
        let surplus = self.buffered().checked_sub(level)?;
        (self.state == State::Playing).then(|| self.clock + self.takes(surplus))
    }

    /// How long so much media lasts; to the nanosecond at the usual rate.
    fn takes(&self, media: Duration) -> Duration {
        if self.rate == 1.0 { media } else { media.div_f64(self.rate) }
    }

    /// For how long the viewer has been waiting in a stall, if in one.
    pub(super) fn waiting(&self) -> Option<Duration> {
        match self.state {
            State::Stalled { since, .. } => Some(self.clock.saturating_sub(since)),
            State::Starting | State::Playing | State::Ended => None,
        }
    }

    pub(super) fn ended(&self) -> bool {
        self.state == State::Ended
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    fn forget_played(&mut self) {
        while self.pieces.len() > 1 && self.pieces.front().is_some_and(|piece| piece.end <= self.playhead) {
            self.pieces.pop_front();
        }
    }

    fn run_dry(&mut self, since: Duration) {
        if self.complete {
            self.state = State::Ended;
        } else {
            self.account.stalls.count += 1;
            self.state = State::Stalled { since, skipped: Duration::ZERO };
        }
    }

    fn leave_wait(&mut self) {
        let enough = match self.state {
            State::Starting => self.enough.min(self.enough_to_start),
            State::Playing | State::Stalled { .. } | State::Ended => self.enough,
        };
        let ready = self.buffered() >= enough || self.complete;
        if !ready || self.pieces.is_empty() && !self.complete {
            return;
        }
        match self.state {
            State::Starting if self.pieces.is_empty() => self.state = State::Ended,
            State::Starting => {
                self.playhead = self.playhead.min(self.end);
                self.account.startup = Some(self.clock);
                self.state = State::Playing;
            }
            State::Stalled { since, skipped } => {
                self.account.stalls.time += (self.clock - since).max(skipped);
                self.state = State::Playing;
                if self.complete && self.buffered().is_zero() {
                    self.state = State::Ended;
                }
            }
            State::Playing | State::Ended => {}
        }
    }

    fn capture_at_playhead(&self) -> Option<f64> {
        let under = self.pieces.iter().find(|piece| self.playhead < piece.end).or(self.pieces.back())?;
        Some(under.capture? + (self.playhead.as_secs_f64() - under.start.as_secs_f64()))
    }
}

impl Interruptions {
    fn add(&mut self, time: Duration) {
        self.count += 1;
        self.time += time;
    }
}

#[cfg(test)]
#[path = "player_tests.rs"]
mod tests;
