//! CAVLC, the entropy code of Baseline H.264 (ITU-T H.264 §9.2), for the two kinds of
//! block the test picture uses.
//!
//! Both stand in macroblocks without AC coefficients, so the context nC of the luma
//! block is always 0 (§9.2.1: blocks whose AC is not coded count as empty neighbours)
//! and one column of Table 9-5 is enough.

use super::bits::BitWriter;

/// Writes an Intra16x16DCLevel block: 16 levels in zig-zag order.
pub(super) fn luma_dc(bits: &mut BitWriter, levels: &[i16; 16]) {
    // Coefficients travel from the highest frequency down: the level, and how many
    // zeros stand between it and the next lower one.
    let mut nonzero = [(0_i16, 0_usize); 16];
    let mut total = 0;
    let mut zeros = 0;
    for &level in levels {
        if level == 0 {
            zeros += 1;
        } else {
            nonzero[total] = (level, zeros);
            total += 1;
            zeros = 0;
        }
    }
    let nonzero = &mut nonzero[..total];
    nonzero.reverse();

    let trailing_ones = nonzero.iter().take(3).take_while(|(level, _)| level.abs() == 1).count();
    COEFF_TOKEN[total][trailing_ones].write(bits);
    if total == 0 {
        return;
    }

    for (level, _) in &nonzero[..trailing_ones] {
        bits.flag(*level < 0);
    }
    large_levels(bits, &nonzero[trailing_ones..], total, trailing_ones);

    let mut zeros_left: usize = nonzero.iter().map(|(_, run)| run).sum();
    if total < levels.len() {
        TOTAL_ZEROS[total - 1][zeros_left].write(bits);
    }
    for (_, run) in &nonzero[..total - 1] {
        if zeros_left > 0 {
            RUN_BEFORE[zeros_left.min(7) - 1][*run].write(bits);
            zeros_left -= run;
        }
    }
}

/// Writes a ChromaDCLevel block whose only coefficient, if any, is the first one.
pub(super) fn chroma_dc(bits: &mut BitWriter, level: i16) {
    // Table 9-5, column nC = -1; then total_zeros = 0 of Table 9-9.
    match level {
        0 => return bits.bits(0b01, 2),
        1 | -1 => {
            bits.bits(0b1, 1);
            bits.flag(level < 0);
        }
        _ => {
            bits.bits(0b00_0111, 6);
            large_levels(bits, &[(level, 0)], 1, 0);
        }
    }
    bits.bits(0b1, 1);
}

/// level_prefix and level_suffix of all levels but the trailing ones: §9.2.2.1.
fn large_levels(bits: &mut BitWriter, levels: &[(i16, usize)], total: usize, trailing_ones: usize) {
    let mut suffix_length = u32::from(total > 10 && trailing_ones < 3);
    for (index, (level, _)) in levels.iter().enumerate() {
        let magnitude = u64::from(level.unsigned_abs());
        let mut code = 2 * magnitude - if *level > 0 { 2 } else { 1 };
        if index == 0 && trailing_ones < 3 {
            code -= 2;
        }
        level_code(bits, code, suffix_length);
        if suffix_length == 0 {
            suffix_length = 1;
        }
        if magnitude > 3 << (suffix_length - 1) && suffix_length < 6 {
            suffix_length += 1;
        }
    }
}

fn level_code(bits: &mut BitWriter, code: u64, suffix_length: u32) {
    let escape = if suffix_length == 0 { 30 } else { 15 << suffix_length };
    let (prefix, suffix, suffix_bits) = if code >= escape {
        (15, code - escape, 12)
    } else if suffix_length > 0 {
        let mask = (1 << suffix_length) - 1;
        (code >> suffix_length, code & mask, suffix_length)
    } else if code >= 14 {
        (14, code - 14, 4)
    } else {
        (code, 0, 0)
    };
    bits.bits(1, prefix as u32 + 1);
    bits.bits(suffix, suffix_bits);
}

/// A code word: the low `length` bits of `bits`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Code {
    bits: u16,
    length: u8,
}

impl Code {
    fn write(self, bits: &mut BitWriter) {
        debug_assert!(self.length > 0);
        bits.bits(u64::from(self.bits), u32::from(self.length));
    }
}

/// Reads a table as the standard prints it: one string a row, words parted by spaces.
const fn table<const ROWS: usize, const WORDS: usize>(rows: [&str; ROWS]) -> [[Code; WORDS]; ROWS] {
    let none = Code { bits: 0, length: 0 };
    let mut table = [[none; WORDS]; ROWS];
    let mut row = 0;
    while row < ROWS {
        let text = rows[row].as_bytes();
        let mut word = 0;
        let mut at = 0;
        while at < text.len() {
            if text[at] == b' ' {
                word += 1;
            } else {
                let code = &mut table[row][word];
                code.bits = (code.bits << 1) | (text[at] - b'0') as u16;
                code.length += 1;
            }
            at += 1;
        }
        row += 1;
    }
    table
}

/// ITU-T H.264 Table 9-5, column 0 <= nC < 2; row TotalCoeff, word TrailingOnes.
const COEFF_TOKEN: [[Code; 4]; 17] = table([
    "1",
    "000101 01",
    "00000111 000100 001",
    "000000111 00000110 0000101 00011",
    "0000000111 000000110 00000101 000011",
    "00000000111 0000000110 000000101 0000100",
    "0000000001111 00000000110 0000000101 00000100",
    "0000000001011 0000000001110 00000000101 000000100",
    "0000000001000 0000000001010 0000000001101 0000000100",
    "00000000001111 00000000001110 0000000001001 00000000100",
    "00000000001011 00000000001010 00000000001101 0000000001100",
    "000000000001111 000000000001110 00000000001001 00000000001100",
    "000000000001011 000000000001010 000000000001101 00000000001000",
    "0000000000001111 000000000000001 000000000001001 000000000001100",
    "0000000000001011 0000000000001110 0000000000001101 000000000001000",
    "0000000000000111 0000000000001010 0000000000001001 0000000000001100",
    "0000000000000100 0000000000000110 0000000000000101 0000000000001000",
]);

/// ITU-T H.264 Tables 9-7 and 9-8; row TotalCoeff - 1, word total_zeros.
const TOTAL_ZEROS: [[Code; 16]; 15] = table([
    "1 011 010 0011 0010 00011 00010 000011 000010 0000011 0000010 00000011 00000010 000000011 000000010 000000001",
    "111 110 101 100 011 0101 0100 0011 0010 00011 00010 000011 000010 000001 000000",
    "0101 111 110 101 0100 0011 100 011 0010 00011 00010 000001 00001 000000",
    "00011 111 0101 0100 110 101 100 0011 011 0010 00010 00001 00000",
    "0101 0100 0011 111 110 101 100 011 0010 00001 0001 00000",
    "000001 00001 111 110 101 100 011 010 0001 001 000000",
    "000001 00001 101 100 011 11 010 0001 001 000000",
    "000001 0001 00001 011 11 10 010 001 000000",
    "000001 000000 0001 11 10 001 01 00001",
    "00001 00000 001 11 10 01 0001",
    "0000 0001 001 010 1 011",
    "0000 0001 01 1 001",
    "000 001 1 01",
    "00 01 1",
    "0 1",
]);

/// ITU-T H.264 Table 9-10; row zerosLeft - 1 (the last for all above 6), word run_before.
const RUN_BEFORE: [[Code; 15]; 7] = table([
    "1 0",
    "1 01 00",
    "11 10 01 00",
    "11 10 01 001 000",
    "11 10 011 010 001 000",
    "11 000 001 011 010 101 100",
    "111 110 101 100 011 010 001 0001 00001 000001 0000001 00000001 000000001 0000000001 00000000001",
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_word_starts_another_of_its_table() {
        let all_tokens: Vec<Code> = COEFF_TOKEN.as_flattened().to_vec();
        prefix_free(&all_tokens, 62);
        for (row, codes) in TOTAL_ZEROS.iter().enumerate() {
            prefix_free(codes, 16 - row);
        }
        for (row, codes) in RUN_BEFORE.iter().enumerate() {
            prefix_free(codes, if row < 6 { row + 2 } else { 15 });
        }
    }

    fn prefix_free(codes: &[Code], expected: usize) {
        let words: Vec<Code> = codes.iter().copied().filter(|c| c.length > 0).collect();
        assert_eq!(words.len(), expected);
        for (i, a) in words.iter().enumerate() {
            for b in &words[i + 1..] {
                let shared = a.length.min(b.length);
                let (a_start, b_start) = (a.bits >> (a.length - shared), b.bits >> (b.length - shared));
                assert_ne!(a_start, b_start, "{a:?} {b:?}");
            }
        }
    }

    /// A block worked through by hand: levels 0 3 0 1 -1 -1 0 1 0 … in zig-zag order.
    #[test]
    fn a_known_block_gives_its_known_bits() {
        let mut bits = BitWriter::default();
        luma_dc(&mut bits, &[0, 3, 0, 1, -1, -1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        // coeff_token(5, 3) 0000100 · signs 0 1 1 · level +1 1 · level +3 001 0 ·
        // total_zeros 3 = 111 · run_before 1 of 3 = 10, 0 of 2 = 1, 0 of 2 = 1, 1 of 2 = 01 · stop 1
        assert_eq!(bits.finish(), [0b0000_1000, 0b1110_0101, 0b1110_1101, 0b1000_0000]);
    }
}
