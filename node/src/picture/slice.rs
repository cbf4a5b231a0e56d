//! Coded pictures: one slice of intra 16 × 16 and skipped macroblocks.
//!
//! A macroblock that did not change is P_Skip and costs a fraction of a bit. Any other
//! is predicted from the column left of it or the row above it; what is missing is the
//! same within every 4 × 4 cell, so the 16 DC coefficients carry all of it and no AC
//! coefficient is ever sent.
//!
//! At [`QP`] a DC level is worth exactly 4 steps of luma in every cell (ITU-T H.264
//! §8.5.10: with normAdjust = 16 and qP / 6 = 6 the transform of the levels is scaled by
//! 256 and, at the end of §8.5.12.2, divided by 64). The levels are the Hadamard
//! transform of the cells divided by 16 · 4: whole numbers if the cells of a macroblock
//! differ by multiples of 64 and their common part is a multiple of 4. That is the
//! canvas's rule, and it makes the decoded picture equal to the canvas, pixel by pixel.

use super::bits::{BitWriter, nal_unit};
use super::canvas::{Canvas, Chroma, Macroblock, TONE_STEP};
use super::cavlc;

/// The quantiser of all macroblocks.
pub(super) const QP: i32 = 40;
/// Brings the chroma quantiser to 28 (ITU-T H.264 Table 8-15), where a DC level is worth
/// 2 steps in the whole macroblock (§8.5.11.2: 256 · 16 / 32 / 64).
pub(super) const CHROMA_QP_OFFSET: i32 = -12;
/// Bits of frame_num, as told in the sequence parameter set.
pub(super) const FRAME_NUMBER_BITS: u32 = 4;

const LUMA_STEP: i32 = 4;
const CHROMA_STEP: i16 = 2;

/// nal_ref_idc 3 with nal_unit_type 5 (IDR) and 1 (non-IDR), ITU-T H.264 §7.4.1.
const IDR_SLICE: u8 = 0x65;
const SLICE: u8 = 0x61;

/// Codes canvases, each against the one before.
#[derive(Debug)]
pub(super) struct SliceEncoder {
    /// What the decoder shows now; nothing before the first picture.
    reference: Option<Canvas>,
    /// Pictures since the IDR picture, modulo the range of frame_num.
    frame_number: u64,
    /// Two IDR pictures in a row must differ in idr_pic_id (ITU-T H.264 §7.4.3).
    odd_idr: bool,
}

impl SliceEncoder {
    /// An encoder whose first picture will be an IDR picture.
    pub(super) fn new() -> Self {
        Self { reference: None, frame_number: 0, odd_idr: false }
    }

    /// Whether there is a picture that the next one can refer to.
    pub(super) fn has_reference(&self) -> bool {
        self.reference.is_some()
    }

    /// One coded picture as a NAL unit. `key` makes it an IDR picture, as the first one
    /// always is. All canvases are of one size.
    pub(super) fn encode(&mut self, canvas: &Canvas, key: bool) -> Vec<u8> {
        let reference = self.reference.as_ref().filter(|_| !key);
        let mut bits = BitWriter::default();
        let header = if reference.is_some() {
            self.frame_number = (self.frame_number + 1) % (1 << FRAME_NUMBER_BITS);
            SLICE
        } else {
            self.frame_number = 0;
            self.odd_idr = !self.odd_idr;
            IDR_SLICE
        };
        slice_header(&mut bits, header == IDR_SLICE, self.frame_number, self.odd_idr);
        slice_data(&mut bits, canvas, reference);

        match &mut self.reference {
            Some(reference) => reference.copy_from(canvas),
            empty @ None => *empty = Some(canvas.clone()),
        }
        nal_unit(header, &bits.finish())
    }
}

/// ITU-T H.264 §7.3.3.
fn slice_header(bits: &mut BitWriter, idr: bool, frame_number: u64, odd_idr: bool) {
    bits.unsigned(0); // first_mb_in_slice
    bits.unsigned(if idr { 7 } else { 5 }); // slice_type: all I, all P
    bits.unsigned(0); // pic_parameter_set_id
    bits.bits(frame_number, FRAME_NUMBER_BITS);
    if idr {
        bits.unsigned(u32::from(odd_idr)); // idr_pic_id
        bits.flag(false); // no_output_of_prior_pics_flag
        bits.flag(false); // long_term_reference_flag
    } else {
        bits.flag(false); // num_ref_idx_active_override_flag
        bits.flag(false); // ref_pic_list_modification_flag_l0
        bits.flag(false); // adaptive_ref_pic_marking_mode_flag
    }
    bits.signed(0); // slice_qp_delta
    bits.unsigned(1); // disable_deblocking_filter_idc
}

/// ITU-T H.264 §7.3.4: an I slice, or a P slice if there is a `reference`.
fn slice_data(bits: &mut BitWriter, canvas: &Canvas, reference: Option<&Canvas>) {
    let macroblocks = canvas.macroblocks();
    let columns = canvas.columns();
    let mut skipped = 0;
    for (address, macroblock) in macroblocks.iter().enumerate() {
        if let Some(reference) = reference {
            if reference.macroblocks()[address] == *macroblock {
                skipped += 1;
                continue;
            }
            bits.unsigned(skipped); // mb_skip_run
            skipped = 0;
        }
        let left = (address % columns > 0).then(|| &macroblocks[address - 1]);
        let above = address.checked_sub(columns).map(|at| &macroblocks[at]);
        let luma = LumaResidual::of(macroblock, left, above);
        let chroma = ChromaResidual::of(macroblock, left, above);

        let intra_types = if reference.is_some() { 5 } else { 0 }; // Table 7-13 goes first
        let chroma_pattern = if chroma.is_zero() { 0 } else { 4 };
        bits.unsigned(intra_types + 1 + luma.mode + chroma_pattern); // mb_type, Table 7-11
        bits.unsigned(chroma.mode); // intra_chroma_pred_mode
        bits.signed(0); // mb_qp_delta
        cavlc::luma_dc(bits, &luma.levels);
        if !chroma.is_zero() {
            cavlc::chroma_dc(bits, chroma.blue);
            cavlc::chroma_dc(bits, chroma.red);
        }
    }
    if skipped > 0 {
        bits.unsigned(skipped);
    }
}

struct LumaResidual {
    /// Intra16x16PredMode, ITU-T H.264 Table 8-4.
    mode: u32,
    /// In zig-zag order.
    levels: [i16; 16],
}

impl LumaResidual {
    /// The prediction that leaves the fewest coefficients.
    fn of(target: &Macroblock, left: Option<&Macroblock>, above: Option<&Macroblock>) -> Self {
        const VERTICAL: u32 = 0;
        const HORIZONTAL: u32 = 1;
        const DC: u32 = 2;

        let from = |mode, predicted: &dyn Fn(usize) -> u8| Self {
            mode,
            levels: levels(std::array::from_fn(|cell| i32::from(target.luma[cell]) - i32::from(predicted(cell)))),
        };
        let left = left.map(|left| from(HORIZONTAL, &|cell| left.luma[cell / 4 * 4 + 3]));
        let above = above.map(|above| from(VERTICAL, &|cell| above.luma[12 + cell % 4]));
        match (left, above) {
            (Some(left), Some(above)) if above.coefficients() < left.coefficients() => above,
            (Some(best), _) | (None, Some(best)) => best,
            // DC prediction without neighbours is half the range, §8.3.3.3.
            (None, None) => from(DC, &|_| 128),
        }
    }

    fn coefficients(&self) -> usize {
        self.levels.iter().filter(|level| **level != 0).count()
    }
}

/// The DC levels that decode to `cells`: the inverse of ITU-T H.264 §8.5.10.
fn levels(mut cells: [i32; 16]) -> [i16; 16] {
    /// Frame zig-zag scan, ITU-T H.264 Table 8-13.
    const ZIG_ZAG: [usize; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];

    for row in 0..4 {
        hadamard(&mut cells, [0, 1, 2, 3].map(|column| 4 * row + column));
    }
    for column in 0..4 {
        hadamard(&mut cells, [0, 1, 2, 3].map(|row| 4 * row + column));
    }
    ZIG_ZAG.map(|at| {
        debug_assert_eq!(cells[at] % (16 * LUMA_STEP), 0, "cells off the tone grid");
        (cells[at] / (16 * LUMA_STEP)) as i16
    })
}

const _: () = assert!(TONE_STEP as i32 % (16 * LUMA_STEP) == 0);

/// Transforms the four cells named by `at`, with the matrix of ITU-T H.264 (8-320).
fn hadamard(cells: &mut [i32; 16], at: [usize; 4]) {
    let [a, b, c, d] = at.map(|index| cells[index]);
    let (outer, inner) = (a + d, b + c);
    let (outer_difference, inner_difference) = (a - d, b - c);
    cells[at[0]] = outer + inner;
    cells[at[1]] = outer_difference + inner_difference;
    cells[at[2]] = outer - inner;
    cells[at[3]] = outer_difference - inner_difference;
}

struct ChromaResidual {
    /// intra_chroma_pred_mode, ITU-T H.264 Table 7-16.
    mode: u32,
    blue: i16,
    red: i16,
}

impl ChromaResidual {
    fn of(target: &Macroblock, left: Option<&Macroblock>, above: Option<&Macroblock>) -> Self {
        const DC: u32 = 0;
        const HORIZONTAL: u32 = 1;
        const VERTICAL: u32 = 2;

        let same_above = above.filter(|above| above.chroma == target.chroma);
        let (mode, predicted) = match (left, same_above.or(above)) {
            (_, Some(above)) if same_above.is_some() => (VERTICAL, above.chroma),
            (Some(left), _) => (HORIZONTAL, left.chroma),
            (None, Some(above)) => (VERTICAL, above.chroma),
            (None, None) => (DC, Chroma::NONE),
        };
        let level = |target, predicted| (i16::from(target) - i16::from(predicted)) / CHROMA_STEP;
        Self { mode, blue: level(target.chroma.blue, predicted.blue), red: level(target.chroma.red, predicted.red) }
    }

    fn is_zero(&self) -> bool {
        self.blue == 0 && self.red == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::canvas::Tone;

    #[test]
    fn a_flat_difference_is_one_level() {
        let mut expected = [0; 16];
        expected[0] = -7;
        assert_eq!(levels([-28; 16]), expected);
    }

    #[test]
    fn every_pattern_of_tones_has_whole_levels_that_invert() {
        let tones = [Tone::Dark, Tone::Dim, Tone::Mid, Tone::White];
        for seed in 0_u32..2000 {
            let cells: [i32; 16] = std::array::from_fn(|cell| {
                let pick = seed.wrapping_mul(2_654_435_761).rotate_left(2 * cell as u32) % 4;
                i32::from(tones[pick as usize].luma()) - 180
            });
            let mut decoded = [0; 16];
            let zig_zag = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];
            for (level, at) in levels(cells).into_iter().zip(zig_zag) {
                decoded[at] = i32::from(level);
            }
            for line in 0..4 {
                hadamard(&mut decoded, [0, 1, 2, 3].map(|step| 4 * line + step));
            }
            for line in 0..4 {
                hadamard(&mut decoded, [0, 1, 2, 3].map(|step| 4 * step + line));
            }
            assert_eq!(decoded.map(|cell| cell * LUMA_STEP), cells);
        }
    }

    #[test]
    fn an_unchanged_picture_costs_next_to_nothing() {
        let canvas = Canvas::new(54, 30);
        let mut slices = SliceEncoder::new();
        assert_eq!(slices.encode(&canvas, false)[0], IDR_SLICE);
        let repeated = slices.encode(&canvas, false);
        assert_eq!(repeated[0], SLICE);
        assert!(repeated.len() < 10, "{} bytes", repeated.len());
        assert_eq!(slices.encode(&canvas, true)[0], IDR_SLICE);
    }
}
