//! Partial segments as a media playlist lists them (EXT-X-PART, RFC 8216bis §4.4.4.9).

use std::ops::Range;
use std::time::Duration;

use url::Url;

use super::super::line::attribute;
use super::{byterange, seconds};

/// Parts kept of one segment: parts of 0.1 s of segments that are longer than usual. What is beyond comes with the whole.
pub(in crate::ingest::pull) const PARTS_MAX: usize = 128;

/// A part as listed.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ingest::pull) struct ListedPart {
    /// Where it is.
    pub(in crate::ingest::pull) url: Url,
    /// The same as written.
    pub(in crate::ingest::pull) uri: String,
    /// BYTERANGE.
    pub(in crate::ingest::pull) range: Option<Range<u64>>,
    /// DURATION.
    pub(in crate::ingest::pull) duration: Duration,
    /// INDEPENDENT=YES.
    pub(in crate::ingest::pull) independent: bool,
    /// GAP=YES: listed, but not there.
    pub(in crate::ingest::pull) gap: bool,
}

/// The part that will be listed next (EXT-X-PRELOAD-HINT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest::pull) struct Hint {
    pub(in crate::ingest::pull) url: Url,
    /// BYTERANGE-START and BYTERANGE-LENGTH.
    pub(in crate::ingest::pull) range: Option<Range<u64>>,
}

impl Hint {
    /// Reads an attribute list found in a playlist at `base`. `None` unless it says all of where a part will be: one whose
    /// end isn't known can be told from what follows it only once it is listed.
    pub(super) fn read(list: &str, base: &Url) -> Option<Self> {
        let number = |name| attribute(list, name).map(|value| value.parse::<u64>().ok());
        let uri = attribute(list, "URI").filter(|uri| !uri.is_empty() && attribute(list, "TYPE") == Some("PART"))?;
        let range = match (number("BYTERANGE-START"), number("BYTERANGE-LENGTH")) {
            (None, None) => None,
            (start, Some(Some(len))) => {
                let start = start.unwrap_or(Some(0))?;
                Some(start..start.saturating_add(len))
            }
            (Some(_), None) | (_, Some(None)) => return None,
        };
        Some(Self { url: base.join(uri).ok()?, range })
    }
}

impl ListedPart {
    /// Reads an attribute list found in a playlist at `base`; `ranges` are those of the parts before it.
    pub(super) fn read(list: &str, base: &Url, ranges: &mut Ranges) -> Self {
        let uri = attribute(list, "URI").unwrap_or("");
        let joined = base.join(uri).ok().filter(|_| !uri.is_empty());
        let byterange = attribute(list, "BYTERANGE").and_then(byterange);
        Self {
            gap: attribute(list, "GAP") == Some("YES") || joined.is_none(),
            url: joined.unwrap_or_else(|| base.clone()),
            uri: uri.to_owned(),
            range: byterange.map(|(len, offset)| ranges.next(uri, len, offset)),
            duration: seconds(attribute(list, "DURATION").unwrap_or("")),
            independent: attribute(list, "INDEPENDENT") == Some("YES"),
        }
    }
}

/// Byte ranges of one kind of tag, in order: one without an offset goes on where the last one of its resource ended.
#[derive(Default)]
pub(super) struct Ranges(Option<(String, u64)>);

impl Ranges {
    pub(super) fn next(&mut self, uri: &str, len: u64, offset: Option<u64>) -> Range<u64> {
        let follows = self.0.as_ref().filter(|(resource, _)| resource == uri).map_or(0, |(_, end)| *end);
        let start = offset.unwrap_or(follows);
        let end = start.saturating_add(len);
        self.0 = Some((uri.to_owned(), end));
        start..end
    }
}
