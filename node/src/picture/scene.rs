//! What the picture shows, from top to bottom: clock strip, colour bars with a dial that
//! turns once a second, grey steps; and on a panel, coloured by rendition, the title,
//! the clock, rendition and media sequence number, and a comet that crosses the picture
//! in two seconds.

use super::canvas::{Canvas, Macroblock, Tone};
use super::dial::DialCell;
use super::layout::Layout;
use super::parameters::macroblocks;
use super::{Config, backdrop, dial, font, strip};

const COMET_CROSSING_MS: u64 = 2000;

/// Draws the picture of any moment.
#[derive(Debug)]
pub(super) struct Scene {
    label: String,
    layout: Layout,
    /// All that never changes.
    still: Canvas,
    dial: Vec<DialCell>,
}

impl Scene {
    /// The scene of one rendition.
    pub(super) fn new(config: &Config) -> Self {
        let layout = Layout::new(config);
        let (columns, rows) = macroblocks(config);
        let mut still = Canvas::new(columns, rows);
        let steps = layout.bars.end - 1..layout.bars.end;
        let bars = layout.bars.start..steps.start;
        backdrop::draw_bars(&mut still, bars.clone());
        backdrop::draw_grey_steps(&mut still, steps);
        let panel = Macroblock::flat(Tone::Dark.luma(), backdrop::tint(config.height));
        still.fill(0..columns, layout.bars.end..rows, panel);
        let dial = dial::draw(&mut still, bars);

        let scale = layout.text_scale;
        let zone_x = layout.right - font::width("UTC") * scale;
        still.text("UTC", (zone_x, layout.title_y), scale, layout.right);
        let title = (layout.left, layout.title_y);
        still.text(&config.title, title, scale, zone_x - 2 * scale);
        Self { label: config.label.clone(), layout, still, dial }
    }

    /// A canvas of the scene's size.
    pub(super) fn canvas(&self) -> Canvas {
        self.still.clone()
    }

    /// Paints over the whole `canvas`.
    pub(super) fn paint(&self, canvas: &mut Canvas, wall_ms: u64, sequence: u64) {
        canvas.copy_from(&self.still);
        self.paint_strip(canvas, wall_ms);
        for cell in &self.dial {
            canvas.set(cell.x, cell.y, cell.tone(wall_ms));
        }
        let layout = &self.layout;
        let clock = (layout.clock_x, layout.clock_y);
        canvas.text(&time_of_day(wall_ms), clock, layout.clock_scale, layout.width);
        self.paint_label(canvas, sequence);
        self.paint_comet(canvas, wall_ms);
    }

    fn paint_strip(&self, canvas: &mut Canvas, wall_ms: u64) {
        let layout = &self.layout;
        for (row, blocks) in strip::blocks(wall_ms).iter().enumerate() {
            let ys = layout.strip_rows[row]..layout.strip_rows[row + 1];
            for (column, white) in blocks.iter().enumerate() {
                if *white {
                    let xs = layout.strip_column(column)..layout.strip_column(column + 1);
                    canvas.rectangle(xs, ys.clone(), Tone::White);
                }
            }
        }
    }

    /// Rendition on the left, sequence number on the right; if they don't fit both, the
    /// number goes without its name, and then the rendition loses letters.
    fn paint_label(&self, canvas: &mut Canvas, sequence: u64) {
        let layout = &self.layout;
        let scale = layout.text_scale;
        let gap = 2 * scale;
        let start_of = |text: &str| layout.right.saturating_sub(font::width(text) * scale);
        let label_end = layout.left + font::width(&self.label) * scale;
        let mut number = format!("SEQ {sequence}");
        if label_end + gap > start_of(&number) {
            number = sequence.to_string();
        }
        let x = start_of(&number);
        canvas.text(&number, (x, layout.label_y), scale, layout.right);
        let label = (layout.left, layout.label_y);
        canvas.text(&self.label, label, scale, x.saturating_sub(gap));
    }

    fn paint_comet(&self, canvas: &mut Canvas, wall_ms: u64) {
        let layout = &self.layout;
        let ys = layout.comet_y..layout.comet_y + layout.clock_scale;
        let length = 12 * layout.clock_scale;
        let way = (layout.right - layout.left - length) as u64;
        let travelled = way * (wall_ms % COMET_CROSSING_MS) / COMET_CROSSING_MS;
        let rightwards = (wall_ms / COMET_CROSSING_MS).is_multiple_of(2);
        for cell in 0..length {
            let tone = [Tone::White, Tone::Mid, Tone::Dim][3 * cell / length];
            let x = if rightwards {
                layout.left + travelled as usize + length - 1 - cell
            } else {
                layout.right - travelled as usize - length + cell
            };
            canvas.rectangle(x..x + 1, ys.clone(), tone);
        }
    }
}

/// `HH:MM:SS.cc` in UTC.
fn time_of_day(wall_ms: u64) -> String {
    let [hours, minutes, seconds, hundredths] =
        [wall_ms / 3_600_000 % 24, wall_ms / 60_000 % 60, wall_ms / 1000 % 60, wall_ms / 10 % 100];
    format!("{hours:02}:{minutes:02}:{seconds:02}.{hundredths:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_that_of_the_day() {
        assert_eq!(time_of_day(0), "00:00:00.00");
        assert_eq!(time_of_day(1_795_356_123_456), "14:02:03.45");
        assert_eq!(time_of_day(86_399_999), "23:59:59.99");
    }
}
