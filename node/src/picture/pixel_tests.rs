//! The claim of `slice`: whatever the canvas holds, a decoder shows exactly that.

use super::Config;
use super::canvas::{CELL_PIXELS, Canvas, Chroma, MACROBLOCK_PIXELS, Macroblock, Tone};
use super::parameters::{Parameters, macroblocks};
use super::slice::SliceEncoder;
use super::tests::ffmpeg;

const WIDTH: usize = 480;
const HEIGHT: usize = 270;
const COLUMNS: usize = 30;
const ROWS: usize = 17;

#[test]
fn random_pictures_decode_exactly() {
    let canvases: Vec<Canvas> = (0..40).map(random_canvas).collect();
    assert_decodes_exactly(&canvases);
}

/// Blocks of 0 to 16 coefficients in any order, so that the decoder meets every table of
/// CAVLC from its first to its last word.
#[test]
fn random_coefficients_decode_exactly() {
    let canvases: Vec<Canvas> = (0..40).map(coefficient_canvas).collect();
    assert_decodes_exactly(&canvases);
}

fn assert_decodes_exactly(canvases: &[Canvas]) {
    let config = Config { width: WIDTH as u16, height: HEIGHT as u16, ..Config::for_bitrate(100_000, "") };
    assert_eq!(macroblocks(&config), (COLUMNS, ROWS));
    let parameters = Parameters::new(&config).expect("a level");
    let mut slices = SliceEncoder::new();
    let mut stream = Vec::new();
    for (index, canvas) in canvases.iter().enumerate() {
        let slice = slices.encode(canvas, index % 20 == 0);
        for unit in [&parameters.sequence, &parameters.picture, &slice] {
            stream.extend([0, 0, 0, 1]);
            stream.extend(unit);
        }
    }
    let arguments = ["-f", "h264", "-i", "-", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"];
    let decoded = ffmpeg(&arguments, stream);

    let frames: Vec<&[u8]> = decoded.chunks(WIDTH * HEIGHT * 3 / 2).collect();
    assert_eq!(frames.len(), canvases.len());
    for (number, (frame, canvas)) in frames.iter().zip(canvases).enumerate() {
        assert_shows(frame, canvas, number);
    }
}

fn assert_shows(frame: &[u8], canvas: &Canvas, number: usize) {
    let macroblock = |x: usize, y: usize| canvas.macroblocks()[y / MACROBLOCK_PIXELS * COLUMNS + x / MACROBLOCK_PIXELS];
    let (luma, chroma) = frame.split_at(WIDTH * HEIGHT);
    for (at, pixel) in luma.iter().enumerate() {
        let (x, y) = (at % WIDTH, at / WIDTH);
        let cell = y / CELL_PIXELS % 4 * 4 + x / CELL_PIXELS % 4;
        assert_eq!(*pixel, macroblock(x, y).luma[cell], "frame {number} at {x},{y}");
    }
    let (blue, red) = chroma.split_at(chroma.len() / 2);
    for (at, pixels) in blue.iter().zip(red).enumerate() {
        let (x, y) = (at % (WIDTH / 2) * 2, at / (WIDTH / 2) * 2);
        let Chroma { blue, red } = macroblock(x, y).chroma;
        assert_eq!(pixels, (&blue, &red), "frame {number} at {x},{y}");
    }
}

/// Macroblocks with nothing, little or everything in them.
fn random_canvas(seed: u64) -> Canvas {
    let mut random = generator(seed);
    let tones = [Tone::Dark, Tone::Dim, Tone::Mid, Tone::White];
    let mut canvas = Canvas::new(COLUMNS, ROWS);
    for (row, column) in (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column))) {
        let chroma = Chroma::new(2 * random(128) as u8, 2 * random(128) as u8);
        let flat = Macroblock::flat(16 + 4 * random(56) as u8, chroma);
        match random(4) {
            0 => canvas.fill(column..column + 1, row..row + 1, flat),
            1 | 2 => {
                for _ in 0..random(17) {
                    let (x, y) = (random(4), random(4));
                    canvas.set(4 * column + x, 4 * row + y, tones[random(4)]);
                }
            }
            _ => {}
        }
    }
    canvas
}

/// Macroblocks among grey ones, so that any prediction is grey and what is coded is known.
fn coefficient_canvas(seed: u64) -> Canvas {
    const GREY: Macroblock = Macroblock::flat(128, Chroma::NONE);
    let mut random = generator(seed);
    let mut canvas = Canvas::new(COLUMNS, ROWS);
    canvas.fill(0..COLUMNS, 0..ROWS, GREY);
    for (row, column) in (1..ROWS).step_by(2).flat_map(|row| (1..COLUMNS).step_by(2).map(move |column| (row, column))) {
        let mut macroblock = GREY;
        for (level, at) in random_levels(&mut random).into_iter().zip(ZIG_ZAG) {
            for (cell, luma) in macroblock.luma.iter_mut().enumerate() {
                let basis = WALSH[at / 4][cell / 4] * WALSH[at % 4][cell % 4];
                *luma = luma.wrapping_add_signed(4 * level * basis);
            }
        }
        canvas.fill(column..column + 1, row..row + 1, macroblock);
    }
    canvas
}

const ZIG_ZAG: [usize; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];
const WALSH: [[i8; 4]; 4] = [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, -1]];

/// Levels whose sizes sum to at most 31, so that no cell leaves the range of luma. How
/// many there are and how many zeros stand among them is evenly spread.
fn random_levels(random: &mut impl FnMut(usize) -> usize) -> [i8; 16] {
    let mut levels = [0; 16];
    let total = random(17);
    if total == 0 {
        return levels;
    }
    let last = total - 1 + random(17 - total);
    let mut spare = 31 - total;
    for left in (1..=total).rev() {
        // The last place is always taken, the others as chance has it.
        let mut at = last;
        while levels[at] != 0 {
            at = random(last);
        }
        let more = if random(2) == 0 { 0 } else { random(spare / left + 1) };
        spare -= more;
        let size = 1 + more as i8;
        levels[at] = if random(2) == 0 { size } else { -size };
    }
    levels
}

/// Numbers below the one asked for.
fn generator(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    }
}
