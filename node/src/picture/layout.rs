//! Where things stand in a picture of a given size.

use std::ops::Range;

use super::canvas::{CELL_PIXELS, MACROBLOCK_CELLS};
use super::{Config, font, strip};

/// A clock with all its parts.
const CLOCK_FACE: &str = "00:00:00.00";

/// Where things are, in cells unless they say macroblocks.
#[derive(Debug)]
pub(super) struct Layout {
    /// Of the visible picture.
    pub(super) width: usize,
    /// Of the visible picture, in pixels.
    pixel_width: usize,
    pub(super) strip_rows: [usize; strip::ROWS + 1],
    /// Rows of macroblocks that hold bars and grey steps.
    pub(super) bars: Range<usize>,
    /// Edges of everything below.
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) text_scale: usize,
    pub(super) clock_scale: usize,
    pub(super) title_y: usize,
    pub(super) clock_x: usize,
    pub(super) clock_y: usize,
    pub(super) label_y: usize,
    pub(super) comet_y: usize,
}

impl Layout {
    /// Places everything in a picture of the size of `config`.
    pub(super) fn new(config: &Config) -> Self {
        let (pixel_width, pixel_height) = (usize::from(config.width), usize::from(config.height));
        let (width, height) = (pixel_width / CELL_PIXELS, pixel_height / CELL_PIXELS);
        let strip_rows = std::array::from_fn(|row| nearest(row * pixel_height, strip::ROWS_PER_HEIGHT * CELL_PIXELS));

        let clock_scale = (width / (font::width(CLOCK_FACE) + 2)).clamp(1, height / 33);
        let text_scale = (clock_scale + 1).div_ceil(4);
        let gap = clock_scale + clock_scale / 2;
        let text_height = font::HEIGHT * text_scale;
        let clock_height = font::HEIGHT * clock_scale;
        let panel = 5 * gap + 2 * text_height + clock_height + clock_scale;
        let bars_start = strip_rows[strip::ROWS].div_ceil(MACROBLOCK_CELLS);
        let bars_end = ((height - panel) / MACROBLOCK_CELLS).max(bars_start + 2);

        let title_y = bars_end * MACROBLOCK_CELLS + gap;
        let clock_y = title_y + text_height + gap;
        let label_y = clock_y + clock_height + gap;
        let clock_width = font::width(CLOCK_FACE) * clock_scale;
        let margin = 2 * clock_scale;
        Self {
            width,
            pixel_width,
            strip_rows,
            bars: bars_start..bars_end,
            left: margin,
            right: width - margin,
            text_scale,
            clock_scale,
            title_y,
            clock_x: (width - clock_width) / 2,
            clock_y,
            label_y,
            comet_y: label_y + text_height + gap,
        }
    }

    /// The left edge of a block of the strip.
    pub(super) fn strip_column(&self, column: usize) -> usize {
        if column == strip::COLUMNS {
            return self.pixel_width.div_ceil(CELL_PIXELS);
        }
        nearest(column * self.pixel_width, strip::COLUMNS * CELL_PIXELS)
    }
}

fn nearest(dividend: usize, divisor: usize) -> usize {
    (dividend + divisor / 2) / divisor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_fits_into_every_picture() {
        let heights = (180..=2160).step_by(2);
        for (width, height) in heights.flat_map(|height| [(320, height), (height * 16 / 9, height), (4096, height)]) {
            let config = Config { width, height, ..Config::for_bitrate(1_000_000, "fits") };
            let layout = Layout::new(&config);
            assert!(
                layout.comet_y + layout.clock_scale <= usize::from(height) / CELL_PIXELS,
                "{width}x{height}: {layout:?}"
            );
            assert!(layout.right <= layout.width, "{width}x{height}: {layout:?}");
            assert!(layout.bars.len() >= 2, "{width}x{height}: {layout:?}");
        }
    }
}
