//! Padding to the target bitrate: an SEI message that every decoder ignores.
//!
//! ITU-T H.264 §D.1.6, user_data_unregistered: a UUID and then anything. The bytes look
//! random, so that nothing on the way can compress them, but none of them is zero: then
//! no emulation prevention is needed and the size is known beforehand.

/// The least number of bytes [`push_unit`] can add.
pub(super) const LEAST: usize = unit_length(UUID.len());

/// Marks the padding as ours. Drawn at random, once.
const UUID: [u8; 16] = [0x5B, 0xE1, 0x1F, 0x9A, 0x3C, 0x77, 0x4D, 0x26, 0x8E, 0x52, 0xD4, 0x0F, 0x91, 0x6A, 0xC3, 0x38];
/// nal_unit_type 6, ITU-T H.264 Table 7-1.
const SEI: u8 = 6;
/// payloadType of user_data_unregistered, ITU-T H.264 §D.1.1.
const USER_DATA_UNREGISTERED: u8 = 5;
const RBSP_STOP: u8 = 0x80;

/// The bytes a stream may still use to keep its bitrate.
///
/// Counted in bits times frames per second, so that no frame rate rounds.
#[derive(Debug)]
pub(super) struct Budget {
    bitrate: i64,
    frames_per_second: i64,
    balance: i64,
}

impl Budget {
    /// Of a stream of so many bits a second.
    pub(super) fn new(bitrate_bps: u64, frames_per_second: u32) -> Self {
        Self { bitrate: bitrate_bps as i64, frames_per_second: i64::from(frames_per_second), balance: 0 }
    }

    /// Grants the bytes of one more frame.
    pub(super) fn add_frame(&mut self) {
        self.balance += self.bitrate;
    }

    /// Notes bytes that were sent. Later frames pay a debt back, but only of the last
    /// second: a picture that is too large for its bitrate doesn't dig a hole for good.
    pub(super) fn spend(&mut self, bytes: usize) {
        let cost = 8 * bytes as i64 * self.frames_per_second;
        let deepest = -self.bitrate * self.frames_per_second;
        self.balance = (self.balance - cost).max(deepest);
    }

    /// Whole bytes left.
    pub(super) fn bytes(&self) -> usize {
        (self.balance.max(0) / (8 * self.frames_per_second)) as usize
    }
}

/// Appends one length-prefixed SEI NAL unit of `length` bytes in all (one less where no
/// message has that size), but at least [`LEAST`]. Equal seeds give equal bytes.
pub(super) fn push_unit(sample: &mut Vec<u8>, length: usize, seed: u64) {
    let payload = payload_length(length).max(UUID.len());
    let unit = unit_length(payload);
    sample.reserve(unit);
    sample.extend((unit as u32 - 4).to_be_bytes());
    sample.extend([SEI, USER_DATA_UNREGISTERED]);
    sample.extend(std::iter::repeat_n(0xFF, payload / 255));
    sample.push((payload % 255) as u8);
    sample.extend(UUID);
    push_noise(sample, payload - UUID.len(), seed);
    sample.push(RBSP_STOP);
}

/// Bytes of the unit around so many bytes of payload: length, NAL header, payload type,
/// payload size (one byte for each full 255 and one for the rest), payload, stop bit.
const fn unit_length(payload: usize) -> usize {
    4 + 1 + 1 + (payload / 255 + 1) + payload + 1
}

/// The largest payload whose unit is not longer than `length`.
fn payload_length(length: usize) -> usize {
    let room = length.saturating_sub(unit_length(0));
    // Every 255 bytes of payload cost a byte of payload size.
    255 * (room / 256) + (room % 256).min(254)
}

/// Appends `count` bytes of 1 to 255, from SplitMix64 (Steele, Lea, Flood: Fast
/// splittable pseudorandom number generators, 2014).
fn push_noise(bytes: &mut Vec<u8>, count: usize, seed: u64) {
    let start = bytes.len();
    let mut state = seed;
    while bytes.len() < start + count {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        bytes.extend(word.to_le_bytes().map(|byte| byte.max(1)));
    }
    bytes.truncate(start + count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(length: usize) -> Vec<u8> {
        let mut sample = Vec::new();
        push_unit(&mut sample, length, 7);
        sample
    }

    #[test]
    fn the_asked_length_is_met_to_the_byte_or_one_less() {
        for length in LEAST..5000 {
            let got = unit(length).len();
            assert!(got == length || got + 1 == length, "{length}: {got}");
        }
        assert_eq!(unit(0).len(), LEAST);
    }

    #[test]
    fn the_message_parses_back() {
        for length in [LEAST, 278, 279, 280, 281, 70_000] {
            let unit = unit(length);
            let (prefix, nal) = unit.split_at(4);
            assert_eq!(prefix, (nal.len() as u32).to_be_bytes());
            assert_eq!(nal[..2], [SEI, USER_DATA_UNREGISTERED]);
            let full = nal[2..].iter().take_while(|byte| **byte == 0xFF).count();
            let size = full * 255 + usize::from(nal[2 + full]);
            let payload = &nal[3 + full..nal.len() - 1];
            assert_eq!(payload.len(), size);
            assert!(payload.starts_with(&UUID));
            assert!(!payload.contains(&0));
            assert_eq!(nal[nal.len() - 1], RBSP_STOP);
        }
    }

    #[test]
    fn the_budget_keeps_the_bitrate_and_forgives_old_debts() {
        let mut budget = Budget::new(1_000_000, 30);
        let mut sent = 0;
        for _ in 0..300 {
            budget.add_frame();
            sent += budget.bytes();
            budget.spend(budget.bytes());
        }
        assert!((1_249_999..=1_250_000).contains(&sent), "{sent} bytes");

        budget.spend(10_000_000);
        for _ in 0..29 {
            budget.add_frame();
            assert_eq!(budget.bytes(), 0);
        }
        for _ in 0..2 {
            budget.add_frame();
        }
        assert!(budget.bytes() > 0);
    }

    #[test]
    fn noise_is_even_and_depends_on_the_seed() {
        let noise = |seed| {
            let mut bytes = Vec::new();
            push_noise(&mut bytes, 1 << 16, seed);
            bytes
        };
        let mut counts = [0; 256];
        for byte in noise(1) {
            counts[usize::from(byte)] += 1;
        }
        assert!(counts[2..].iter().all(|count| (150..400).contains(count)));
        assert_ne!(noise(1), noise(2));
    }
}
