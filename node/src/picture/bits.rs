//! Writing H.264 syntax bit by bit, and wrapping the result in NAL units.

/// Collects bits, most significant first, into the bytes of an RBSP.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// The low `pending_bits` (always below 8 between calls) are not yet in `bytes`.
    pending: u64,
    pending_bits: u32,
}

impl BitWriter {
    /// `u(n)`: the low `count` bits of `value`; at most 56 at once.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 56 && value >> count == 0);
        self.pending = (self.pending << count) | value;
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.bytes.push((self.pending >> self.pending_bits) as u8);
        }
    }

    /// `u(1)`.
    pub(super) fn flag(&mut self, value: bool) {
        self.bits(u64::from(value), 1);
    }

    /// `ue(v)`, Exp-Golomb: ITU-T H.264 §9.1.
    pub(super) fn unsigned(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = code.ilog2() + 1;
        self.bits(0, length - 1);
        self.bits(code, length);
    }

    /// `se(v)`: 0, 1, -1, 2, -2 … are numbered 0, 1, 2, 3, 4 …: ITU-T H.264 §9.1.1.
    pub(super) fn signed(&mut self, value: i32) {
        let number = 2 * value.unsigned_abs();
        self.unsigned(if value > 0 { number - 1 } else { number });
    }

    /// Ends the RBSP with `rbsp_trailing_bits()`.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.flag(true);
        self.bits(0, (8 - self.pending_bits) % 8);
        self.bytes
    }
}

/// One NAL unit: `header`, then `rbsp` with emulation prevention, ITU-T H.264 §7.4.1.1:
/// no three bytes inside it may look like a start code.
pub(super) fn nal_unit(header: u8, rbsp: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(rbsp.len() + rbsp.len() / 64 + 8);
    unit.push(header);
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros == 2 && byte <= 3 {
            unit.push(3);
            zeros = 0;
        }
        unit.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits that `write` produces, as text, without the trailing ones.
    fn written(write: impl FnOnce(&mut BitWriter)) -> String {
        let mut writer = BitWriter::default();
        write(&mut writer);
        let text: String = writer.finish().iter().map(|byte| format!("{byte:08b}")).collect();
        let end = text.rfind('1').expect("the stop bit is a one");
        text[..end].to_owned()
    }

    #[test]
    fn exp_golomb_codes_are_those_of_the_standard() {
        for (value, code) in
            [(0, "1"), (1, "010"), (2, "011"), (3, "00100"), (8, "0001001"), (255, "00000000100000000")]
        {
            assert_eq!(written(|bits| bits.unsigned(value)), code, "ue({value})");
        }
        for (value, code) in [(0, "1"), (1, "010"), (-1, "011"), (2, "00100"), (-2, "00101"), (-12, "000011001")] {
            assert_eq!(written(|bits| bits.signed(value)), code, "se({value})");
        }
    }

    #[test]
    fn the_largest_exp_golomb_number_fits() {
        let code = written(|bits| bits.unsigned(u32::MAX));
        assert_eq!(code, format!("{}1{}", "0".repeat(32), "0".repeat(32)));
    }

    #[test]
    fn bits_cross_byte_borders_and_the_end_is_aligned() {
        let mut writer = BitWriter::default();
        writer.bits(0b101, 3);
        writer.bits(0xABCDE, 20);
        assert_eq!(writer.finish(), [0b1011_0101, 0b0111_1001, 0b1011_1101]);

        let mut full = BitWriter::default();
        full.bits(0xFF, 8);
        assert_eq!(full.finish(), [0xFF, 0x80]);
    }

    #[test]
    fn start_codes_are_broken_up() {
        for (rbsp, unit) in [
            (&[0, 0, 0][..], &[9, 0, 0, 3, 0][..]),
            (&[0, 0, 1], &[9, 0, 0, 3, 1]),
            (&[0, 0, 3], &[9, 0, 0, 3, 3]),
            (&[0, 0, 4], &[9, 0, 0, 4]),
            (&[0, 0, 0, 0, 0], &[9, 0, 0, 3, 0, 0, 3, 0]),
            (&[1, 0, 2, 0, 0], &[9, 1, 0, 2, 0, 0]),
        ] {
            assert_eq!(nal_unit(9, rbsp), unit, "{rbsp:?}");
        }
    }
}
