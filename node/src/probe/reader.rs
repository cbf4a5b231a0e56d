//! Reads a playlist line by line.
//!
//! quick-m3u8 takes the lines apart; nothing of it leaves this file. Reading is lenient as players are: a tag that
//! cannot be read is passed over. What the low-latency tags say is gathered in `parts`.

use std::{sync::Arc, time::Duration};

use quick_m3u8::{
    HlsLine, Reader,
    config::{ParsingOptions, ParsingOptionsBuilder},
    tag::{
        KnownTag,
        hls::{EnumeratedString, Method, Part as PartTag, PreloadHint, PreloadHintType, Tag},
    },
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use url::Url;

use super::{
    parts::Parts,
    playlist::{ByteRange, MediaPlaylist, Multivariant, Part, Playlist, PlaylistError, Resource, Segment, Variant},
    variables::Variables,
};

/// Reads `body`, which begins as a playlist must; a delta update goes on from `known`.
pub(super) fn read(
    known: Option<&MediaPlaylist>,
    body: &str,
    address: &Url,
    imports: &Variables,
) -> Result<Playlist, PlaylistError> {
    let mut lines = Reader::from_str(body, tags_to_read());
    let mut draft = Draft::new(known, address, imports);
    loop {
        match lines.read_line() {
            Ok(Some(line)) => draft.line(line)?,
            Ok(None) => return draft.finish(),
            Err(unreadable) => {
                tracing::trace!(error = %unreadable.error, "passed over a playlist line")
            }
        }
    }
}

/// EXT-X-PROGRAM-DATE-TIME is left to us: ffmpeg writes offsets without a colon, which the reader refuses.
fn tags_to_read() -> ParsingOptions {
    ParsingOptionsBuilder::new()
        .with_parsing_for_byterange()
        .with_parsing_for_define()
        .with_parsing_for_discontinuity()
        .with_parsing_for_discontinuity_sequence()
        .with_parsing_for_endlist()
        .with_parsing_for_gap()
        .with_parsing_for_inf()
        .with_parsing_for_key()
        .with_parsing_for_map()
        .with_parsing_for_media_sequence()
        .with_parsing_for_part()
        .with_parsing_for_part_inf()
        .with_parsing_for_preload_hint()
        .with_parsing_for_server_control()
        .with_parsing_for_skip()
        .with_parsing_for_start()
        .with_parsing_for_stream_inf()
        .with_parsing_for_targetduration()
        .build()
}

/// A playlist being read: what the tags so far say about the next address line.
struct Draft<'a> {
    known: Option<&'a MediaPlaylist>,
    address: &'a Url,
    imports: &'a Variables,
    variables: Variables,
    variants: Vec<Variant>,
    variant: Option<Variant>,
    segments: Vec<Segment>,
    parts: Parts,
    next: Next,
    map: Option<Arc<Resource>>,
    opaque: bool,
    target: Option<Duration>,
    hold_back: Option<Duration>,
    start: Option<f64>,
    ended: bool,
    first: u64,
    skipped: u64,
    discontinuity: u64,
}

/// Tags that speak of the next segment only.
#[derive(Default)]
struct Next {
    duration: Option<Duration>,
    length: Option<u64>,
    offset: Option<u64>,
    gap: bool,
    capture: Option<f64>,
}

impl<'a> Draft<'a> {
    fn new(known: Option<&'a MediaPlaylist>, address: &'a Url, imports: &'a Variables) -> Self {
        Self {
            known,
            address,
            imports,
            variables: Variables::default(),
            variants: Vec::new(),
            variant: None,
            segments: Vec::new(),
            parts: Parts::default(),
            next: Next::default(),
            map: None,
            opaque: false,
            target: None,
            hold_back: None,
            start: None,
            ended: false,
            first: 0,
            skipped: 0,
            discontinuity: 0,
        }
    }

    fn line(&mut self, line: HlsLine<'_>) -> Result<(), PlaylistError> {
        match line {
            HlsLine::KnownTag(KnownTag::Hls(tag)) => self.tag(&tag),
            HlsLine::UnknownTag(tag) if tag.name() == "-X-PROGRAM-DATE-TIME" => {
                let value = tag.value().map_or(&[][..], |value| value.0);
                self.next.capture = std::str::from_utf8(value).ok().and_then(seconds_since_1970);
                Ok(())
            }
            HlsLine::Uri(uri) if !uri.trim().is_empty() => self.uri(uri.trim()),
            HlsLine::KnownTag(KnownTag::Custom(_))
            | HlsLine::UnknownTag(_)
            | HlsLine::Uri(_)
            | HlsLine::Comment(_)
            | HlsLine::Blank => Ok(()),
        }
    }

    fn tag(&mut self, tag: &Tag<'_>) -> Result<(), PlaylistError> {
        match tag {
            Tag::Byterange(range) => {
                self.next.length = Some(range.length());
                self.next.offset = range.offset();
            }
            Tag::Define(define) => {
                if let (Some(name), Some(value)) = (define.name(), define.value()) {
                    self.variables.define(name, value);
                } else if let Some(name) = define.import() {
                    self.variables.import(name, self.imports)?;
                } else if let Some(name) = define.queryparam() {
                    self.variables.query(name, self.address)?;
                }
            }
            Tag::Discontinuity(_) => self.discontinuity = self.discontinuity.saturating_add(1),
            Tag::DiscontinuitySequence(tag) => self.discontinuity = tag.discontinuity_sequence(),
            Tag::Endlist(_) => self.ended = true,
            Tag::Gap(_) => self.next.gap = true,
            Tag::Inf(inf) => self.next.duration = duration(inf.duration()),
            Tag::Key(key) => {
                self.opaque = match key.method() {
                    EnumeratedString::Known(Method::Aes128) => true,
                    EnumeratedString::Known(Method::None | Method::SampleAes | Method::SampleAesCtr) => false,
                    EnumeratedString::Unknown(method) => method == "AES-256",
                };
            }
            Tag::Map(map) => {
                let range = map.byterange().map(|range| ByteRange { offset: range.offset, length: range.length });
                let url = self.resolve(map.uri())?;
                let resource = Resource { url, range: range.filter(|range| range.length > 0) };
                // one allocation for all the segments that share it, also when the tag is repeated
                if self.map.as_deref() != Some(&resource) {
                    self.map = Some(Arc::new(resource));
                }
            }
            // both count only before anything is listed (RFC 8216bis §4.4.3.2), or numbers would not rise
            Tag::MediaSequence(_) | Tag::Skip(_) if !self.is_empty() => {}
            Tag::MediaSequence(tag) => self.first = tag.media_sequence(),
            Tag::Part(part) => self.part(part)?,
            Tag::PartInf(inf) => self.parts.target = duration(inf.part_target()),
            Tag::PreloadHint(hint) => self.hint(hint)?,
            Tag::ServerControl(control) => {
                self.hold_back = control.hold_back().and_then(duration);
                self.parts.blocking = control.can_block_reload();
                self.parts.hold_back = control.part_hold_back().and_then(duration);
                self.parts.skip_until = control.can_skip_until().and_then(duration);
            }
            Tag::Skip(skip) => self.skip(skip.skipped_segments())?,
            Tag::Start(start) => self.start = Some(start.time_offset()).filter(|offset| offset.is_finite()),
            Tag::StreamInf(inf) => {
                self.variant = Some(Variant {
                    url: self.address.clone(),
                    bandwidth: inf.bandwidth(),
                    resolution: inf.resolution().map(|size| (size.width, size.height)),
                    separate_audio: inf.audio().is_some(),
                });
            }
            Tag::Targetduration(tag) => self.target = duration(tag.target_duration() as f64),
            Tag::Bitrate(_)
            | Tag::ContentSteering(_)
            | Tag::Daterange(_)
            | Tag::IFrameStreamInf(_)
            | Tag::IFramesOnly(_)
            | Tag::IndependentSegments(_)
            | Tag::M3u(_)
            | Tag::Media(_)
            | Tag::PlaylistType(_)
            | Tag::ProgramDateTime(_)
            | Tag::RenditionReport(_)
            | Tag::SessionData(_)
            | Tag::SessionKey(_)
            | Tag::Version(_) => {}
        }
        Ok(())
    }

    /// What a delta update leaves out is as it was before, and what follows goes on from there.
    fn skip(&mut self, skipped: u64) -> Result<(), PlaylistError> {
        let Some(known) = self.known else {
            self.skipped = skipped;
            return Ok(());
        };
        for index in 0..skipped {
            let segment = self.first.checked_add(index).and_then(|sequence| known.segment(sequence));
            self.segments.push(segment.ok_or(PlaylistError::Delta)?.clone());
        }
        if let Some(last) = self.segments.last() {
            self.discontinuity = last.discontinuity;
            self.opaque = last.opaque;
            self.map.clone_from(&last.map);
        }
        Ok(())
    }

    fn part(&mut self, tag: &PartTag<'_>) -> Result<(), PlaylistError> {
        let url = self.resolve(tag.uri())?;
        let range = tag.byterange().filter(|range| range.length > 0).map(|range| ByteRange {
            offset: range.offset.unwrap_or_else(|| end_of(self.parts.last(), &url)),
            length: range.length,
        });
        let part = self.next_part(Resource { url, range });
        self.parts.push(Segment {
            part: part.part.map(|place| Part { independent: tag.independent(), ..place }),
            duration: duration(tag.duration()).or(self.parts.target).unwrap_or_default(),
            gap: tag.gap(),
            ..part
        });
        Ok(())
    }

    fn hint(&mut self, hint: &PreloadHint<'_>) -> Result<(), PlaylistError> {
        if hint.hint_type() != EnumeratedString::Known(PreloadHintType::Part) {
            return Ok(());
        }
        let url = self.resolve(hint.uri())?;
        let range = hint.byterange_length().map(|length| ByteRange { offset: hint.byterange_start(), length });
        // without a length, a hint of a file that holds several parts would bring all of them
        let open = hint.byterange_start() > 0 || self.parts.last().is_some_and(|part| part.resource.range.is_some());
        if range.map_or(!open, |range| range.length > 0) {
            self.parts.hint = Some(self.next_part(Resource { url, range }));
        }
        Ok(())
    }

    /// A part that continues what is listed so far. Its date is told when its segment's is.
    fn next_part(&self, resource: Resource) -> Segment {
        let sequence = self.next_sequence();
        Segment {
            sequence,
            part: Some(Part { index: self.parts.listed_of(sequence), independent: false }),
            discontinuity: self.discontinuity,
            duration: self.parts.target.unwrap_or_default(),
            resource,
            map: self.map.clone(),
            opaque: self.opaque,
            gap: false,
            capture: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.parts.last().is_none()
    }

    fn next_sequence(&self) -> u64 {
        let listed = self.skipped.saturating_add(self.segments.len() as u64);
        self.first.saturating_add(listed)
    }

    fn uri(&mut self, uri: &str) -> Result<(), PlaylistError> {
        let url = self.resolve(uri)?;
        if let Some(variant) = self.variant.take() {
            self.variants.push(Variant { url, ..variant });
            return Ok(());
        }
        let next = std::mem::take(&mut self.next);
        let duration = next.duration.or(self.target).unwrap_or_default();
        let range = next.length.filter(|length| *length > 0).map(|length| ByteRange {
            offset: next.offset.unwrap_or_else(|| end_of(self.segments.last(), &url)),
            length,
        });
        let segment = Segment {
            sequence: self.next_sequence(),
            part: None,
            discontinuity: self.discontinuity,
            duration,
            resource: Resource { url, range },
            map: self.map.clone(),
            opaque: self.opaque,
            gap: next.gap,
            capture: next.capture.or_else(|| self.capture_after_previous()),
        };
        self.segments.push(segment);
        Ok(())
    }

    fn capture_after_previous(&self) -> Option<f64> {
        let previous = self.segments.last()?;
        let same = previous.discontinuity == self.discontinuity;
        same.then_some(previous.capture? + previous.duration.as_secs_f64())
    }

    fn resolve(&self, uri: &str) -> Result<Url, PlaylistError> {
        let expanded = self.variables.expand(uri)?;
        self.address
            .join(&expanded)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| PlaylistError::Address(expanded.chars().take(200).collect()))
    }

    fn finish(mut self) -> Result<Playlist, PlaylistError> {
        if !self.variants.is_empty() {
            return Ok(Playlist::Multivariant(Multivariant {
                variants: self.variants,
                variables: self.variables,
                start: self.start,
            }));
        }
        let target = self.target.ok_or(PlaylistError::Neither)?;
        date_backwards(&mut self.segments);
        let growing = self.next.capture.or_else(|| self.capture_after_previous());
        Ok(Playlist::Media(MediaPlaylist {
            target,
            hold_back: self.hold_back.unwrap_or(target * 3),
            start: self.start,
            ended: self.ended,
            first: self.first,
            low_latency: self.parts.finish(&self.segments, growing).map(Box::new),
            segments: self.segments,
        }))
    }
}

/// Where a byte range without an offset starts (RFC 8216bis §4.4.4.2, §4.4.4.9).
fn end_of(previous: Option<&Segment>, url: &Url) -> u64 {
    previous
        .map(|previous| &previous.resource)
        .filter(|resource| resource.url == *url)
        .and_then(|resource| resource.range)
        .map_or(0, |range| range.offset.saturating_add(range.length))
}

/// Segments before the first dated one are dated from it, as far as its timeline reaches back.
fn date_backwards(segments: &mut [Segment]) {
    for later in (1..segments.len()).rev() {
        let (before, after) = segments.split_at_mut(later);
        let (Some(earlier), Some(later)) = (before.last_mut(), after.first()) else {
            return;
        };
        if earlier.capture.is_none() && earlier.discontinuity == later.discontinuity {
            earlier.capture = later.capture.map(|capture| capture - earlier.duration.as_secs_f64());
        }
    }
}

/// No segment or target is believed to be longer than a day.
fn duration(seconds: f64) -> Option<Duration> {
    (0.0..=86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// An ISO 8601 date and time; an offset may lack its colon (ffmpeg), and without one UTC is meant.
fn seconds_since_1970(text: &str) -> Option<f64> {
    let text = text.trim();
    if !text.is_ascii() {
        return None;
    }
    let clock = text.find(['T', 't'])?;
    let mut complete = text.to_owned();
    match text.rfind(['+', '-']).filter(|sign| *sign > clock) {
        Some(sign) if text.len() == sign + 5 && !text[sign..].contains(':') => complete.insert(sign + 3, ':'),
        Some(sign) if text.len() == sign + 3 => complete.push_str(":00"),
        Some(_) => {}
        None if text.ends_with(['Z', 'z']) => {}
        None => complete.push('Z'),
    }
    let date = OffsetDateTime::parse(&complete, &Rfc3339).ok()?;
    Some(date.unix_timestamp_nanos() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_as_servers_write_them() {
        for text in [
            "1970-01-01T00:00:01.5Z",
            "1970-01-01T00:00:01.500+00:00",
            "1970-01-01T02:00:01.500+0200",
            "1969-12-31T19:00:01.500-05",
            "1970-01-01T00:00:01.500",
            " 1970-01-01T00:00:01.5z ",
        ] {
            assert_eq!(seconds_since_1970(text), Some(1.5), "{text}");
        }
        for text in ["", "yesterday", "1970-01-01", "1970-13-01T00:00:00Z", "T+", "T+1é1"] {
            assert_eq!(seconds_since_1970(text), None, "{text}");
        }
    }
}
