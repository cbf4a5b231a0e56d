//! Why something pushed isn't taken, in words for the person at the encoder.

use axum::http::StatusCode;
use thiserror::Error;

use super::presentation::Unusable;
use crate::ingest::chunks::Unsound;

/// Why something pushed isn't taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error(
        "wrong or missing key; push to the URL that starling printed after `push`, or send the key as password or bearer token"
    )]
    Key,
    #[error("this is no name for a file here: use letters, digits, - _ . and at most four directories")]
    Name,
    #[error("another encoder is pushing this stream; stop it, or push this one to a starling of its own")]
    AnotherEncoder,
    #[error(
        "this stream already has the playlist {0}; for several variants push a multivariant playlist too (ffmpeg: -master_pl_name master.m3u8)"
    )]
    AnotherPlaylist(String),
    #[error("another connection began to send this file; it is taken from there")]
    TakenOver,
    #[error("it is larger than {0} bytes; make segments shorter")]
    TooLarge(u64),
    #[error("nothing came for {0} seconds")]
    Silent(u64),
    #[error("the request was broken off")]
    BrokenOff,
    #[error("too many files at once")]
    TooMany,
    #[error("{0}")]
    Body(String),
    #[error("{0}")]
    Segment(#[from] Unsound),
    #[error("{0}")]
    Manifest(#[from] Unusable),
    #[error("starling is ending")]
    Ending,
}

impl Refusal {
    /// The status to answer with.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Key => StatusCode::UNAUTHORIZED,
            Self::Name => StatusCode::BAD_REQUEST,
            Self::AnotherEncoder | Self::AnotherPlaylist(_) | Self::TakenOver => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Silent(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::Body(_) | Self::Segment(_) | Self::Manifest(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany | Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
