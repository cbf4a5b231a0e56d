//! A dial whose hand turns once a second.

use std::f64::consts::TAU;
use std::ops::Range;

use super::canvas::{Canvas, Chroma, MACROBLOCK_CELLS, Macroblock, Tone};

/// Fewer macroblocks would not look like a dial.
const SMALLEST: usize = 4;

/// A cell of the dial's face.
#[derive(Debug)]
pub(super) struct DialCell {
    pub(super) x: usize,
    pub(super) y: usize,
    /// Clockwise from twelve o'clock, in thousandths of a turn.
    turn: u64,
}

impl DialCell {
    /// One second the hand paints the face, the next it wipes it.
    pub(super) fn tone(&self, wall_ms: u64) -> Tone {
        const HAND: u64 = 20;
        let hand = wall_ms % 1000;
        let painting = (wall_ms / 1000).is_multiple_of(2);
        if (1000 + hand - self.turn) % 1000 < HAND {
            Tone::White
        } else if (self.turn <= hand) == painting {
            Tone::Mid
        } else {
            Tone::Dim
        }
    }
}

/// Draws a ring amid the bars and returns the cells within.
pub(super) fn draw(canvas: &mut Canvas, rows: Range<usize>) -> Vec<DialCell> {
    let side = rows.len();
    if side < SMALLEST || side > canvas.columns() {
        return Vec::new();
    }
    let left = (canvas.columns() - side) / 2;
    let dark = Macroblock::flat(Tone::Dark.luma(), Chroma::NONE);
    canvas.fill(left..left + side, rows.clone(), dark);

    let cells = side * MACROBLOCK_CELLS;
    let centre = (cells as f64 - 1.0) / 2.0;
    let rim = cells as f64 / 2.0 - 1.0;
    let thickness = (rim / 12.0).max(1.0);
    let mut face = Vec::new();
    for (down, across) in (0..cells).flat_map(|down| (0..cells).map(move |across| (down, across))) {
        let (dx, dy) = (across as f64 - centre, down as f64 - centre);
        let (x, y) = (left * MACROBLOCK_CELLS + across, rows.start * MACROBLOCK_CELLS + down);
        let distance = dx.hypot(dy);
        if distance <= rim - 2.0 * thickness {
            let turn = (dx.atan2(-dy) / TAU).rem_euclid(1.0) * 1000.0;
            face.push(DialCell { x, y, turn: turn as u64 % 1000 });
        } else if distance <= rim && distance > rim - thickness {
            canvas.set(x, y, Tone::White);
        }
    }
    face
}
