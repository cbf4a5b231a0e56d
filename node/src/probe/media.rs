//! What a segment's bytes are, and which stretch of media time they cover.

use std::time::Duration;

use thiserror::Error;

use super::{
    fmp4::{Fragments, Track},
    ts::Packets,
};

/// The stretch of media time a segment covers, in nanoseconds of its own timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
    /// How far `end` may be off, because the container does not say it and it had to be estimated.
    pub(super) blur: u64,
    /// The largest jump between fragments of the segment itself: positive is a hole, negative an overlap.
    pub(super) break_inside: i64,
    /// After how long the timeline starts again at zero, if it does (MPEG-TS: 26.5 hours).
    pub(super) period: Option<i64>,
}

impl Span {
    /// What is left of it after its first `taken`.
    pub(super) fn after(self, taken: Duration) -> Self {
        Self { start: self.start.saturating_add(i64::try_from(taken.as_nanos()).unwrap_or(i64::MAX)), ..self }
    }
}

/// How segments are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// Encrypted as a whole (AES-128 or AES-256): counted and timed, but the timestamps cannot be seen.
    Encrypted,
    /// Fragmented MP4 (CMAF).
    Fmp4,
    /// MPEG-2 transport stream.
    MpegTs,
    /// Anything else, such as packed audio or WebVTT: played by the durations in the playlist.
    Other,
}

/// What is wrong with a segment's bytes.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub(super) enum Fault {
    #[error("the body is empty")]
    Empty,
    #[error("the body is a web page, not media")]
    WebPage,
    #[error("the body ends inside a box or packet")]
    Truncated,
    #[error("the body breaks the rules of its container")]
    Malformed,
}

/// Reads a body as it arrives; keeps no more of it than a header.
#[derive(Debug)]
pub(super) struct Analyser {
    reader: Reader,
    first: Vec<u8>,
    track: Option<Track>,
    fault: Option<Fault>,
}

/// What an [`Analyser`] found.
#[derive(Debug, PartialEq)]
pub(super) struct Analysis {
    pub(super) container: Container,
    pub(super) span: Option<Span>,
    /// The track of the initialisation section, to read segments with.
    pub(super) track: Option<Track>,
    /// Media that is damaged but arrived as the server has it.
    pub(super) fault: Option<Fault>,
}

#[derive(Debug)]
enum Reader {
    Undecided,
    Opaque,
    Fmp4(Fragments),
    MpegTs(Packets),
    Other,
}

impl Analyser {
    /// For a body in the clear; `track` is what its initialisation section said.
    pub(super) fn new(track: Option<Track>) -> Self {
        Self { reader: Reader::Undecided, first: Vec::new(), track, fault: None }
    }

    /// For a body that is encrypted as a whole.
    pub(super) fn opaque() -> Self {
        Self { reader: Reader::Opaque, ..Self::new(None) }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if matches!(self.reader, Reader::Undecided) {
            self.first.extend_from_slice(bytes);
            if self.first.len() >= 8 {
                self.decide();
            }
        } else {
            self.read(bytes);
        }
    }

    /// Says what the body was. A body that is no media at all is an error; damaged media is reported in the analysis.
    pub(super) fn finish(mut self) -> Result<Analysis, Fault> {
        if matches!(self.reader, Reader::Undecided) {
            self.decide();
        }
        let (container, outcome) = match self.reader {
            Reader::Undecided => return Err(Fault::Empty),
            Reader::Opaque => (Container::Encrypted, Ok(None)),
            Reader::Fmp4(fragments) => {
                self.track = fragments.track();
                (Container::Fmp4, fragments.finish())
            }
            Reader::MpegTs(packets) => (Container::MpegTs, packets.finish()),
            Reader::Other if looks_like_a_web_page(&self.first) => return Err(Fault::WebPage),
            Reader::Other => (Container::Other, Ok(None)),
        };
        let fault = self.fault.or(outcome.err());
        Ok(Analysis { container, span: outcome.ok().flatten().filter(|_| fault.is_none()), track: self.track, fault })
    }

    fn decide(&mut self) {
        let first = std::mem::take(&mut self.first);
        self.reader = match first.first() {
            None => return,
            Some(0x47) => Reader::MpegTs(Packets::default()),
            Some(_) if first.get(4..8).is_some_and(is_box_name) => Reader::Fmp4(Fragments::new(self.track)),
            Some(_) => Reader::Other,
        };
        self.read(&first);
        self.first = first;
        self.first.truncate(64);
    }

    fn read(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        let outcome = match &mut self.reader {
            Reader::Undecided | Reader::Opaque | Reader::Other => Ok(()),
            Reader::Fmp4(fragments) => fragments.push(bytes),
            Reader::MpegTs(packets) => packets.push(bytes),
        };
        self.fault = outcome.err();
    }
}

/// The boxes a segment or initialisation section may begin with (ISO/IEC 14496-12, 23000-19).
fn is_box_name(name: &[u8]) -> bool {
    const NAMES: [&[u8; 4]; 12] =
        [b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"emsg", b"prft", b"free", b"skip", b"uuid", b"ssix"];
    NAMES.iter().any(|known| *known == name)
}

fn looks_like_a_web_page(first: &[u8]) -> bool {
    first.trim_ascii_start().first() == Some(&b'<')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analyse(body: &[u8]) -> Result<Analysis, Fault> {
        let mut analyser = Analyser::new(None);
        body.iter().for_each(|byte| analyser.push(&[*byte]));
        analyser.finish()
    }

    #[test]
    fn tells_web_pages_and_nothing_from_media() {
        assert_eq!(analyse(b""), Err(Fault::Empty));
        assert_eq!(analyse(b"\n  <!DOCTYPE html><html>"), Err(Fault::WebPage));
        assert_eq!(analyse(b"<p>"), Err(Fault::WebPage));
    }

    #[test]
    fn lets_unknown_media_pass_without_timestamps() {
        let analysis = analyse(b"ID3\x04\0\0\0\0\0\0").expect("packed audio is media");
        assert_eq!(analysis.container, Container::Other);
        assert_eq!(analysis.span, None);
    }

    #[test]
    fn reads_nothing_in_encrypted_bytes() {
        let mut analyser = Analyser::opaque();
        analyser.push(b"<looks like a page, by chance");
        let analysis = analyser.finish().expect("anything goes");
        assert_eq!(analysis.container, Container::Encrypted);
    }

    #[test]
    fn reports_a_damaged_transport_stream() {
        let mut body = vec![0x47; 188];
        body.extend([0; 188]);
        let analysis = analyse(&body).expect("it is media");
        assert_eq!(analysis.fault, Some(Fault::Malformed));
        let analysis = analyse(&[0x47; 100]).expect("it is media");
        assert_eq!(analysis.fault, Some(Fault::Truncated));
    }
}
