//! The part asked for before it is listed (EXT-X-PRELOAD-HINT, RFC 8216bis §6.2.6 and §6.3.8).
//!
//! The server holds the request until the part exists. What it brings is played once the playlist lists the part, which
//! a blocking reload learns in the same moment: only then is it certain that the hint came true.

use super::{
    download::Delivery,
    playlist::{Resource, Segment},
};

/// At most one part, from the request until it is listed.
#[derive(Debug, Default)]
pub(super) struct Preload {
    state: State,
    /// What was asked for last: a hint that failed or was wrong is not tried again.
    tried: Option<Resource>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    UnderWay(Segment),
    Here(Segment, Box<Delivery>),
}

impl Preload {
    /// Whether to ask for `hint`. If so, the request is now under way.
    pub(super) fn begins(&mut self, hint: &Segment) -> bool {
        if self.tried.as_ref() == Some(&hint.resource) {
            return false;
        }
        self.tried = Some(hint.resource.clone());
        self.state = State::UnderWay(hint.clone());
        true
    }

    /// The part whose request is under way.
    pub(super) fn under_way(&self) -> Option<&Segment> {
        match &self.state {
            State::UnderWay(part) => Some(part),
            State::Nothing | State::Here(..) => None,
        }
    }

    /// The request under way was answered, or failed.
    pub(super) fn ended(&mut self, delivery: Option<Delivery>) {
        self.state = match (std::mem::take(&mut self.state), delivery) {
            (State::UnderWay(part), Some(delivery)) => State::Here(part, Box::new(delivery)),
            (State::Nothing | State::UnderWay(_) | State::Here(..), _) => State::Nothing,
        };
    }

    /// `listed` is to be played next: what was brought of it. Anything else that was brought is of no use any more.
    pub(super) fn take(&mut self, listed: &Segment) -> Option<Delivery> {
        match std::mem::take(&mut self.state) {
            State::Here(part, delivery) if part.is_same_media(listed) => Some(*delivery),
            State::Nothing | State::UnderWay(_) | State::Here(..) => None,
        }
    }
}
