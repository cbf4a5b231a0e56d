//! What stands still: colour bars, grey steps and the panel's colour.

use std::ops::Range;

use super::canvas::{Canvas, Chroma, Macroblock};

/// The 100/0/75/0 bars of ITU-R BT.471 in the colours of BT.709, each rounded to what
/// the encoder reproduces.
const BARS: [(u8, Chroma); 8] = [
    (236, Chroma::NONE),
    (168, Chroma::new(44, 136)),
    (144, Chroma::new(148, 44)),
    (132, Chroma::new(64, 52)),
    (64, Chroma::new(192, 204)),
    (52, Chroma::new(108, 212)),
    (28, Chroma::new(212, 120)),
    (16, Chroma::NONE),
];

const GREY_STEPS: usize = 10;

/// A picture up to so many pixels high has a panel of this colour; others have a grey one.
const TINTS: [(u16, Chroma); 4] = [
    (270, Chroma::new(120, 138)),
    (360, Chroma::new(124, 120)),
    (480, Chroma::new(138, 122)),
    (720, Chroma::new(136, 134)),
];

/// Fills these rows of macroblocks with colour bars.
pub(super) fn draw_bars(canvas: &mut Canvas, rows: Range<usize>) {
    for (bar, (luma, chroma)) in BARS.into_iter().enumerate() {
        let columns = part(bar, BARS.len(), canvas.columns());
        canvas.fill(columns, rows.clone(), Macroblock::flat(luma, chroma));
    }
}

/// Fills these rows of macroblocks with steps from black to white.
pub(super) fn draw_grey_steps(canvas: &mut Canvas, rows: Range<usize>) {
    for step in 0..GREY_STEPS {
        let luma = 16 + 24 * step as u8;
        let columns = part(step, GREY_STEPS, canvas.columns());
        canvas.fill(columns, rows.clone(), Macroblock::flat(luma, Chroma::NONE));
    }
}

/// The panel's colour in a picture of this height: a change of rendition shall catch the
/// eye.
pub(super) fn tint(height: u16) -> Chroma {
    TINTS.into_iter().find(|(up_to, _)| height <= *up_to).map_or(Chroma::NONE, |(_, tint)| tint)
}

fn part(index: usize, parts: usize, of: usize) -> Range<usize> {
    index * of / parts..(index + 1) * of / parts
}
