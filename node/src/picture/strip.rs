//! The machine-readable clock: black and white blocks along the top edge.
//!
//! Two rows of 34 blocks span the whole width; each row is 1/18 of the picture's height.
//! All measures are fractions of the picture, so a reader needs to know neither its
//! resolution nor the scale it is shown at.
//!
//! ```text
//! row 0:  WHITE  bits 0–31 of the message   BLACK
//! row 1:  BLACK  bits 32–63 of the message  WHITE
//! ```
//!
//! The message is 48 bits of milliseconds since the Unix epoch (enough until the year
//! 10889) and their CRC-16, most significant bit first; a white block is a one. The four
//! corner blocks tell a reader what black and white look like, and that this is a strip.

use std::ops::Range;

/// Blocks in a row, markers included.
pub const COLUMNS: usize = 34;
/// Rows of blocks.
pub const ROWS: usize = 2;
/// A row is this fraction of the picture's height.
pub const ROWS_PER_HEIGHT: usize = 18;

/// White must be this much brighter than black, of 255. A guess: the picture itself
/// has 223.
const LEAST_CONTRAST: u32 = 64;
const CLOCK_BITS: u32 = 48;

/// Why no clock could be read from a picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StripError {
    /// The pixels are fewer or more than width times height.
    #[error("{pixels} pixels are not a picture of {width}x{height}")]
    Pixels {
        /// Pixels given.
        pixels: usize,
        /// Width given.
        width: usize,
        /// Height given.
        height: usize,
    },
    /// Blocks would be smaller than 3 × 3 pixels.
    #[error("a picture of {width}x{height} is too small to read; show it at 102x54 or larger")]
    TooSmall {
        /// Width given.
        width: usize,
        /// Height given.
        height: usize,
    },
    /// The corner blocks are not those of a strip.
    #[error("no clock strip along the top edge; cut the image to exactly the picture")]
    NoMarkers,
    /// The bits were read, but not all correctly.
    #[error("clock strip damaged: its checksum is {read:04x}, its clock asks for {computed:04x}")]
    Checksum {
        /// The checksum in the picture.
        read: u16,
        /// The checksum of the clock in the picture.
        computed: u16,
    },
}

/// Reads the clock, in milliseconds since the Unix epoch, from a whole picture at any
/// scale: `width` × `height` grey pixels, row by row.
///
/// The image must be cut to the picture; errors of a fifth of a block, that is 0.6 % of
/// the width and 1.1 % of the height, do no harm.
///
/// # Errors
/// See [`StripError`]; a picture without a strip, or with a damaged one, is never
/// mistaken for a clock but for one chance in 65,536.
pub fn decode(width: usize, height: usize, pixels: &[u8]) -> Result<u64, StripError> {
    if width.checked_mul(height) != Some(pixels.len()) {
        return Err(StripError::Pixels { pixels: pixels.len(), width, height });
    }
    if width < 3 * COLUMNS || height < 3 * ROWS_PER_HEIGHT {
        return Err(StripError::TooSmall { width, height });
    }
    let brightness = |row, column| {
        let xs = middle(column, width, COLUMNS);
        let ys = middle(row, height, ROWS_PER_HEIGHT);
        let count = (xs.len() * ys.len()) as u32;
        let sum: u32 = ys.flat_map(|y| &pixels[y * width..][xs.clone()]).map(|pixel| u32::from(*pixel)).sum();
        sum / count
    };

    let last = COLUMNS - 1;
    let white = brightness(0, 0).min(brightness(1, last));
    let black = brightness(1, 0).max(brightness(0, last));
    if white < black + LEAST_CONTRAST {
        return Err(StripError::NoMarkers);
    }
    let threshold = (white + black) / 2;
    let message = (0..ROWS)
        .flat_map(|row| (1..last).map(move |column| (row, column)))
        .fold(0, |message, (row, column)| message << 1 | u64::from(brightness(row, column) > threshold));
    let (clock, read) = (message >> 16, message as u16);
    let computed = checksum(clock);
    if read == computed { Ok(clock) } else { Err(StripError::Checksum { read, computed }) }
}

/// The middle half, at least one pixel, of block `index` if `length` holds `blocks`.
fn middle(index: usize, length: usize, blocks: usize) -> Range<usize> {
    let start = (4 * index + 1) * length / (4 * blocks);
    let end = (4 * index + 3) * length / (4 * blocks);
    start..end.max(start + 1)
}

/// The blocks that tell `clock_ms`: row by row, true is white. Bits above the 48th are
/// lost.
pub(super) fn blocks(clock_ms: u64) -> [[bool; COLUMNS]; ROWS] {
    let clock = clock_ms & ((1 << CLOCK_BITS) - 1);
    let message = clock << 16 | u64::from(checksum(clock));
    std::array::from_fn(|row| {
        std::array::from_fn(|column| match column {
            0 => row == 0,
            column if column == COLUMNS - 1 => row == 1,
            column => message >> (63 - (row * (COLUMNS - 2) + column - 1)) & 1 == 1,
        })
    })
}

/// CRC-16/IBM-3740 ("CCITT-FALSE": polynomial 0x1021, initially 0xFFFF) of the clock's
/// six bytes, most significant first.
fn checksum(clock: u64) -> u16 {
    crc16(&clock.to_be_bytes()[2..])
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: u64 = 1_795_356_123_456;

    /// A picture that is black but for its strip.
    fn picture(width: usize, height: usize, blocks: [[bool; COLUMNS]; ROWS]) -> Vec<u8> {
        let mut pixels = vec![0; width * height];
        for (at, pixel) in pixels.iter_mut().enumerate() {
            let (column, row) = (at % width * COLUMNS / width, at / width * ROWS_PER_HEIGHT / height);
            if row < ROWS && blocks[row][column] {
                *pixel = 255;
            }
        }
        pixels
    }

    #[test]
    fn the_clock_comes_back_at_any_size() {
        for (width, height) in [(102, 54), (320, 180), (641, 357), (1920, 1080)] {
            for clock in [0, 1, CLOCK, (1 << 48) - 1] {
                let pixels = picture(width, height, blocks(clock));
                assert_eq!(decode(width, height, &pixels), Ok(clock), "{width}x{height}");
            }
        }
    }

    #[test]
    fn any_one_wrong_block_is_noticed() {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                let mut blocks = blocks(CLOCK);
                blocks[row][column] ^= true;
                let result = decode(340, 180, &picture(340, 180, blocks));
                let is_marker = column == 0 || column == COLUMNS - 1;
                match result {
                    Err(StripError::NoMarkers) => assert!(is_marker),
                    Err(StripError::Checksum { .. }) => assert!(!is_marker),
                    other => panic!("row {row} column {column}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn other_images_are_refused() {
        assert_eq!(decode(340, 180, &vec![90; 340 * 180]), Err(StripError::NoMarkers));
        assert!(matches!(decode(340, 180, &[0; 9]), Err(StripError::Pixels { .. })));
        assert!(matches!(decode(usize::MAX, 2, &[0; 9]), Err(StripError::Pixels { .. })));
        assert!(matches!(decode(3, 3, &[0; 9]), Err(StripError::TooSmall { .. })));
        assert!(matches!(decode(0, 0, &[]), Err(StripError::TooSmall { .. })));
    }

    #[test]
    fn the_checksum_is_the_catalogued_one() {
        assert_eq!(crc16(b"123456789"), 0x29B1);
    }
}
