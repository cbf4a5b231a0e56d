//! Transport streams built packet by packet.

use super::*;

const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;

/// One packet with `payload`, filled up by an adaptation field.
fn packet(pid: u16, starts: bool, payload: &[u8]) -> Vec<u8> {
    let start = if starts { 0x40 } else { 0 };
    let mut packet = vec![SYNC, (pid >> 8) as u8 | start, pid as u8];
    let filling = 184 - payload.len();
    if filling == 0 {
        packet.push(0x10);
    } else {
        packet.extend([0x30, (filling - 1) as u8]);
        packet.extend(std::iter::repeat_n(0, filling - 1));
    }
    packet.extend_from_slice(payload);
    packet
}

fn section(table: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() + 4;
    let mut section = vec![0, table, 0xb0 | (length >> 8) as u8, length as u8];
    section.extend_from_slice(body);
    section.extend([0; 4]);
    section
}

/// PAT (with a network entry first) and PMT (audio first), after which frames follow.
fn tables() -> Vec<u8> {
    let pat = section(0, &[0, 1, 0xc1, 0, 0, 0, 0, 0xe0, 0x10, 0, 1, 0xf0, 0x00]);
    let pmt = section(
        2,
        &[
            0, 1, 0xc1, 0, 0, 0xe1, 0x00, 0xf0, 2, 9, 9, // two bytes of descriptors
            0x0f, 0xe1, 0x01, 0xf0, 0, // AAC
            0x1b, 0xe1, 0x00, 0xf0, 1, 7, // H.264 with a descriptor
        ],
    );
    [packet(0, true, &pat), packet(0x1000, true, &pmt)].concat()
}

fn frame(pid: u16, time: i64) -> Vec<u8> {
    let time = time.rem_euclid(WRAP);
    let stamp = [
        0x21 | (time >> 29) as u8 & 0x0e,
        (time >> 22) as u8,
        (time >> 14) as u8 | 1,
        (time >> 7) as u8,
        (time << 1) as u8 | 1,
    ];
    let header = [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5][..], &stamp, &[1, 2, 3]].concat();
    packet(pid, true, &header)
}

fn span(bytes: &[u8]) -> Result<Option<Span>, Fault> {
    let mut packets = Packets::default();
    packets.push(bytes)?;
    packets.finish()
}

fn seconds(times: impl IntoIterator<Item = i64>) -> (f64, f64) {
    let frames: Vec<u8> = times.into_iter().flat_map(|time| frame(VIDEO, time)).collect();
    let span = span(&[tables(), frames].concat()).expect("it is sound").expect("it has times");
    (span.start as f64 / 1e9, span.end as f64 / 1e9)
}

#[test]
fn covers_first_to_last_frame_and_the_last_ones_duration() {
    assert_eq!(seconds((0..50).map(|frame| 900_000 + frame * 3600)), (10.0, 12.0));
}

#[test]
fn frames_may_come_in_coding_order() {
    assert_eq!(seconds([27_000, 0, 9000, 18_000, 36_000]), (0.0, 0.5));
}

#[test]
fn a_wrap_inside_the_segment_is_no_jump() {
    let (start, end) = seconds([-6000, -3000, 0, 3000].map(|time| time + WRAP));
    assert!((end - start - 12_000.0 / 90_000.0).abs() < 1e-9);
    assert!(start > 95_443.0, "it starts before the wrap");
}

#[test]
fn every_bit_of_a_time_counts() {
    for bit in 0..33 {
        let time = 1_i64 << bit;
        let mut header = frame(VIDEO, time);
        let payload = header.split_off(header.len() - 17);
        assert_eq!(presentation_time(&payload), Some(time));
    }
}

#[test]
fn falls_back_to_audio() {
    let pat = section(0, &[0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0x00]);
    let pmt = section(2, &[0, 1, 0xc1, 0, 0, 0xe1, 0x01, 0xf0, 0, 0x0f, 0xe1, 0x01, 0xf0, 0]);
    let tables = [packet(0, true, &pat), packet(0x1000, true, &pmt)].concat();
    let frames = [frame(AUDIO, 0), frame(AUDIO, 90_000)].concat();
    let span = span(&[tables, frames].concat()).expect("it is sound").expect("it has times");
    assert_eq!((span.end, span.blur), (2_000_000_000, 1_000_000_000));
}

#[test]
fn a_table_may_span_packets() {
    let pat = section(0, &[0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0x00]);
    // 250 bytes of descriptors before the stream
    let mut body = vec![0, 1, 0xc1, 0, 0, 0xe1, 0x00, 0xf0, 250];
    body.extend([0; 250]);
    body.extend([0x1b, 0xe1, 0x00, 0xf0, 0]);
    let pmt = section(2, &body);
    let bytes = [
        packet(0, true, &pat),
        packet(0x1000, true, &pmt[..184]),
        packet(0x1000, false, &pmt[184..]),
        frame(VIDEO, 0),
        frame(VIDEO, 90_000),
    ];
    assert!(span(&bytes.concat()).expect("it is sound").is_some());
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let bytes = [tables(), frame(AUDIO, 5), frame(VIDEO, 0), frame(VIDEO, 3600)].concat();
    let whole = span(&bytes);
    for size in [1, 100, 187, 188, 189, 500] {
        let mut packets = Packets::default();
        for piece in bytes.chunks(size) {
            packets.push(piece).expect("it is sound");
        }
        assert_eq!(packets.finish(), whole, "in pieces of {size}");
    }
}

#[test]
fn too_little_to_tell_is_no_span() {
    assert_eq!(span(&tables()), Ok(None));
    assert_eq!(span(&[tables(), frame(VIDEO, 0)].concat()), Ok(None), "one frame has no duration");
}

#[test]
fn tells_what_is_cut_off_from_what_is_wrong() {
    let bytes = [tables(), frame(VIDEO, 0)].concat();
    assert_eq!(span(&bytes[..bytes.len() - 1]), Err(Fault::Truncated));
    assert_eq!(span(&[0; 188]), Err(Fault::Malformed));
}

#[test]
fn damage_anywhere_is_survived() {
    let bytes = [tables(), frame(VIDEO, 0), frame(VIDEO, 3600)].concat();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let _ = span(&damaged);
        }
    }
}
