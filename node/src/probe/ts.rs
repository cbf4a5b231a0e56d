//! Timestamps of MPEG-2 transport streams (ISO/IEC 13818-1), read while the bytes pass.
//!
//! The PAT leads to the PMT, the PMT to the video (else the first audio) stream, and its PES headers carry the
//! presentation times. No packet is kept.

use super::media::{Fault, Span};

const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// Presentation times count 90 kHz in 33 bits (§2.4.3.7).
const WRAP: i64 = 1 << 33;
/// Longest PSI section (§2.4.4.3 and following), in bytes.
const LONGEST_SECTION: usize = 1024;

/// Takes the bytes of a segment in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Packets {
    partial: Vec<u8>,
    pmt: Option<u16>,
    stream: Option<Stream>,
    pat_section: Section,
    pmt_section: Section,
    times: Option<Times>,
}

/// The elementary stream that is followed.
#[derive(Clone, Copy, Debug)]
struct Stream {
    pid: u16,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Audio,
    Video,
}

/// Presentation times relative to the first one met, in 90 kHz ticks.
#[derive(Debug)]
struct Times {
    first: i64,
    earliest: i64,
    latest: i64,
    frames: i64,
}

impl Packets {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        if !self.partial.is_empty() {
            let missing = (PACKET - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.partial.len() < PACKET {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.partial);
            self.packet(&whole)?;
        }
        let packets = bytes.chunks_exact(PACKET);
        self.partial.extend_from_slice(packets.remainder());
        for packet in packets {
            self.packet(packet)?;
        }
        Ok(())
    }

    /// What the bytes covered; a fault if they end inside a packet.
    ///
    /// A transport stream gives no durations: the last frame is taken to last as long as the others on average. A packet
    /// of audio holds several frames, the last often fewer: there the end is blurred by one packet.
    pub(super) fn finish(self) -> Result<Option<Span>, Fault> {
        if !self.partial.is_empty() {
            return Err(Fault::Truncated);
        }
        let audio = self.stream.is_some_and(|stream| stream.kind == Kind::Audio);
        Ok(self.times.filter(|times| times.frames > 1).map(|times| {
            let length = times.latest - times.earliest;
            let frame = length / (times.frames - 1);
            let start = (times.first + times.earliest).rem_euclid(WRAP);
            Span {
                start: nanos(start),
                end: nanos(start + length + frame),
                blur: if audio { nanos(frame).unsigned_abs() } else { 0 },
                break_inside: 0,
                period: Some(nanos(WRAP)),
            }
        }))
    }

    fn packet(&mut self, packet: &[u8]) -> Result<(), Fault> {
        if packet[0] != SYNC {
            return Err(Fault::Malformed);
        }
        let starts = packet[1] & 0x40 != 0;
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let Some(payload) = payload_of(packet) else {
            return Ok(());
        };
        if pid == 0 {
            if let Some(section) = self.pat_section.push(payload, starts) {
                self.pmt = first_programme(section).or(self.pmt);
            }
        } else if Some(pid) == self.pmt {
            if let Some(section) = self.pmt_section.push(payload, starts) {
                self.stream = best_stream(section).or(self.stream);
            }
        } else if self.stream.is_some_and(|stream| stream.pid == pid)
            && starts
            && let Some(time) = presentation_time(payload)
        {
            self.note(time);
        }
        Ok(())
    }

    fn note(&mut self, time: i64) {
        let Some(times) = &mut self.times else {
            self.times = Some(Times { first: time, earliest: 0, latest: 0, frames: 1 });
            return;
        };
        // the nearer way round, so that a wrap inside the segment does no harm
        let offset = (time - times.first + WRAP / 2).rem_euclid(WRAP) - WRAP / 2;
        times.earliest = times.earliest.min(offset);
        times.latest = times.latest.max(offset);
        times.frames += 1;
    }
}

fn nanos(ticks: i64) -> i64 {
    // below 2^34 ticks, so the product fits
    ticks * 100_000 / 9
}

/// The payload of a packet, after the adaptation field (§2.4.3.2).
fn payload_of(packet: &[u8]) -> Option<&[u8]> {
    match packet[3] & 0x30 {
        0x10 => packet.get(4..),
        0x30 => packet.get(5 + usize::from(packet[4])..),
        _ => None,
    }
}

/// Collects one PSI section, which may span packets (§2.4.4).
#[derive(Debug, Default)]
struct Section {
    bytes: Vec<u8>,
    complete: bool,
}

impl Section {
    fn push(&mut self, payload: &[u8], starts: bool) -> Option<&[u8]> {
        if starts {
            self.bytes.clear();
            self.complete = false;
            let pointer = usize::from(*payload.first()?);
            self.bytes.extend_from_slice(payload.get(1 + pointer..)?);
        } else if self.complete || self.bytes.is_empty() {
            return None;
        } else {
            self.bytes.extend_from_slice(payload);
        }
        let length = 3 + usize::from(u16::from_be_bytes([self.bytes.get(1)? & 0x0f, *self.bytes.get(2)?]));
        if self.bytes.len() < length && self.bytes.len() <= LONGEST_SECTION {
            return None;
        }
        self.complete = true;
        // the last four bytes are a checksum
        self.bytes.get(..length.checked_sub(4)?)
    }
}

/// The PMT's PID of the first programme in a PAT (§2.4.4.4); programme 0 is the network's own.
fn first_programme(pat: &[u8]) -> Option<u16> {
    pat.get(8..)?
        .chunks_exact(4)
        .find(|entry| entry[..2] != [0, 0])
        .map(|entry| u16::from_be_bytes([entry[2] & 0x1f, entry[3]]))
}

/// The PID of the first video stream in a PMT (§2.4.4.9), else of the first audio stream.
fn best_stream(pmt: &[u8]) -> Option<Stream> {
    let descriptors = usize::from(u16::from_be_bytes([pmt.get(10)? & 0x0f, *pmt.get(11)?]));
    let mut streams = pmt.get(12 + descriptors..)?;
    let mut audio = None;
    while let [code, high, low, info_high, info_low, rest @ ..] = streams {
        let pid = u16::from_be_bytes([high & 0x1f, *low]);
        let stream = stream_kind(*code).map(|kind| Stream { pid, kind });
        if stream.is_some_and(|stream| stream.kind == Kind::Video) {
            return stream;
        }
        audio = audio.or(stream);
        let info = usize::from(u16::from_be_bytes([info_high & 0x0f, *info_low]));
        streams = rest.get(info..).unwrap_or_default();
    }
    audio
}

/// Stream types of §2.4.4.10, ATSC A/53 (AC-3) and Apple's SAMPLE-AES.
fn stream_kind(code: u8) -> Option<Kind> {
    match code {
        0x01 | 0x02 | 0x10 | 0x1b | 0x24 | 0x33 | 0xdb => Some(Kind::Video),
        0x03 | 0x04 | 0x0f | 0x11 | 0x81 | 0x87 | 0xc1 | 0xc2 | 0xcf => Some(Kind::Audio),
        _ => None,
    }
}

/// The PTS in a PES header (§2.4.3.6), in 90 kHz ticks.
fn presentation_time(payload: &[u8]) -> Option<i64> {
    let header: &[u8; 14] = payload.first_chunk()?;
    if header[..3] != [0, 0, 1] || header[7] & 0x80 == 0 {
        return None;
    }
    let [a, b, c, d, e] = [header[9], header[10], header[11], header[12], header[13]].map(i64::from);
    Some((a & 0x0e) << 29 | b << 22 | (c & 0xfe) << 14 | d << 7 | e >> 1)
}

#[cfg(test)]
#[path = "ts_tests.rs"]
mod tests;
