//! The picture as the encoder sees it: macroblocks of 4 × 4 cells of flat brightness,
//! one colour each.
//!
//! A cell is 4 × 4 pixels. Brightness inside a macroblock may only differ by steps of
//! [`TONE_STEP`]; then the encoder reproduces every pixel exactly (see `slice`).

use std::ops::Range;

use super::font;

/// Cells along one side of a macroblock.
pub(super) const MACROBLOCK_CELLS: usize = 4;
/// Pixels along one side of a cell.
pub(super) const CELL_PIXELS: usize = 4;
/// Pixels along one side of a macroblock, ITU-T H.264 §6.3.
pub(super) const MACROBLOCK_PIXELS: usize = MACROBLOCK_CELLS * CELL_PIXELS;
/// Smallest difference of brightness within a macroblock; see `slice::QP`.
pub(super) const TONE_STEP: u8 = 64;

/// The brightness of a cell that shares its macroblock with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Dark,
    Dim,
    Mid,
    White,
}

impl Tone {
    /// Luma in video range (16 black, 235 white).
    pub(super) const fn luma(self) -> u8 {
        const DARKEST: u8 = 44;
        match self {
            Self::Dark => DARKEST,
            Self::Dim => DARKEST + TONE_STEP,
            Self::Mid => DARKEST + 2 * TONE_STEP,
            Self::White => DARKEST + 3 * TONE_STEP,
        }
    }
}

/// The colour differences of a macroblock, 128 being none; even numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chroma {
    pub(super) blue: u8,
    pub(super) red: u8,
}

impl Chroma {
    pub(super) const NONE: Self = Self::new(128, 128);

    pub(super) const fn new(blue: u8, red: u8) -> Self {
        assert!(blue.is_multiple_of(2) && red.is_multiple_of(2));
        Self { blue, red }
    }
}

/// 16 × 16 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Macroblock {
    /// Row by row.
    pub(super) luma: [u8; MACROBLOCK_CELLS * MACROBLOCK_CELLS],
    pub(super) chroma: Chroma,
}

impl Macroblock {
    /// One colour all over. `luma` is a multiple of 4: see `slice`.
    pub(super) const fn flat(luma: u8, chroma: Chroma) -> Self {
        Self { luma: [luma; MACROBLOCK_CELLS * MACROBLOCK_CELLS], chroma }
    }
}

/// A whole picture. Everything drawn outside it is cut off.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    columns: usize,
    macroblocks: Vec<Macroblock>,
}

impl Canvas {
    /// A dark canvas of so many macroblocks.
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        let dark = Macroblock::flat(Tone::Dark.luma(), Chroma::NONE);
        Self { columns, macroblocks: vec![dark; columns * rows] }
    }

    /// Macroblocks in a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// All of it, row by row.
    pub(super) fn macroblocks(&self) -> &[Macroblock] {
        &self.macroblocks
    }

    /// Takes over the contents of a canvas of the same size.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.macroblocks.copy_from_slice(&other.macroblocks);
    }

    /// Fills a rectangle measured in macroblocks.
    pub(super) fn fill(&mut self, columns: Range<usize>, rows: Range<usize>, with: Macroblock) {
        let columns = columns.start.min(self.columns)..columns.end.min(self.columns);
        for row in self.macroblocks.chunks_exact_mut(self.columns).take(rows.end).skip(rows.start) {
            row[columns.clone()].fill(with);
        }
    }

    /// Paints one cell; it keeps the colour of its macroblock.
    pub(super) fn set(&mut self, x: usize, y: usize, tone: Tone) {
        let (column, row) = (x / MACROBLOCK_CELLS, y / MACROBLOCK_CELLS);
        if column >= self.columns {
            return;
        }
        if let Some(macroblock) = self.macroblocks.get_mut(row * self.columns + column) {
            let cell = y % MACROBLOCK_CELLS * MACROBLOCK_CELLS + x % MACROBLOCK_CELLS;
            macroblock.luma[cell] = tone.luma();
        }
    }

    /// Paints a rectangle measured in cells.
    pub(super) fn rectangle(&mut self, xs: Range<usize>, ys: Range<usize>, tone: Tone) {
        for y in ys {
            for x in xs.clone() {
                self.set(x, y, tone);
            }
        }
    }

    /// Writes `text` with its upper left corner at a cell, each dot of the font `scale`
    /// cells wide and high, whole letters only up to the cell column `end`.
    pub(super) fn text(&mut self, text: &str, (mut x, y): (usize, usize), scale: usize, end: usize) {
        for character in text.chars() {
            let glyph = font::glyph(character);
            if x + glyph.width * scale > end {
                return;
            }
            for (dot_x, dot_y) in glyph.dots() {
                let (left, top) = (x + dot_x * scale, y + dot_y * scale);
                self.rectangle(left..left + scale, top..top + scale, Tone::White);
            }
            x += (glyph.width + font::SPACING) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_outside_is_cut_off() {
        let mut canvas = Canvas::new(2, 1);
        let before = canvas.macroblocks.clone();
        canvas.rectangle(8..20, 0..4, Tone::White);
        canvas.rectangle(0..8, 4..20, Tone::White);
        canvas.fill(3..9, 0..9, Macroblock::flat(16, Chroma::NONE));
        canvas.fill(0..2, 1..9, Macroblock::flat(16, Chroma::NONE));
        assert_eq!(canvas.macroblocks, before);
    }

    #[test]
    fn text_stops_before_a_letter_that_does_not_fit() {
        let mut canvas = Canvas::new(4, 2);
        canvas.text("HH", (0, 0), 1, 10);
        let mut expected = Canvas::new(4, 2);
        expected.text("H", (0, 0), 1, 16);
        assert_eq!(canvas.macroblocks, expected.macroblocks);
        assert_ne!(canvas.macroblocks, Canvas::new(4, 2).macroblocks);
    }
}
