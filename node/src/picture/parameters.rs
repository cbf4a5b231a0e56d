//! What a decoder must know beforehand: level, sequence and picture parameter sets.

use super::bits::{BitWriter, nal_unit};
use super::canvas::MACROBLOCK_PIXELS;
use super::slice::{CHROMA_QP_OFFSET, FRAME_NUMBER_BITS, QP};
use super::{Config, ConfigError};

/// profile_idc of Baseline, ITU-T H.264 §A.2.1.
const BASELINE: u8 = 66;
/// constraint_set0_flag and constraint_set1_flag: Constrained Baseline, §A.2.1.1.
const CONSTRAINED: u8 = 0xC0;
/// nal_ref_idc 3, nal_unit_type 7 and 8, §7.4.1.
const SEQUENCE_PARAMETER_SET: u8 = 0x67;
const PICTURE_PARAMETER_SET: u8 = 0x68;
/// BT.709, in the numbering of ITU-T H.264 §E.2.1 and of the `colr` box.
pub(super) const BT_709: u8 = 1;

/// The parameter sets of a stream, as NAL units.
#[derive(Debug)]
pub(super) struct Parameters {
    /// level_idc: ten times the level.
    level: u8,
    pub(super) sequence: Vec<u8>,
    pub(super) picture: Vec<u8>,
}

impl Parameters {
    /// Fails if no level allows so many macroblocks or bits a second.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let level = level(config).ok_or(ConfigError::NoLevel {
            width: config.width,
            height: config.height,
            frames_per_second: config.frames_per_second,
        })?;
        Ok(Self { level, sequence: sequence_parameter_set(config, level), picture: picture_parameter_set() })
    }

    /// The codecs parameter of RFC 6381 §3.3: `avc1.` and profile_idc, constraint flags
    /// and level_idc in hexadecimal.
    pub(super) fn codecs(&self) -> String {
        format!("avc1.{BASELINE:02X}{CONSTRAINED:02X}{:02X}", self.level)
    }
}

/// Width and height in macroblocks.
pub(super) fn macroblocks(config: &Config) -> (usize, usize) {
    let count = |pixels: u16| usize::from(pixels).div_ceil(MACROBLOCK_PIXELS);
    (count(config.width), count(config.height))
}

/// The lowest level_idc whose limits hold: ITU-T H.264 §A.3.1 and Table A-1.
fn level(config: &Config) -> Option<u8> {
    // level_idc, MaxMBPS, MaxFS, MaxBR.
    const LEVELS: [(u8, u64, u64, u64); 16] = [
        (10, 1_485, 99, 64),
        (11, 3_000, 396, 192),
        (12, 6_000, 396, 384),
        (13, 11_880, 396, 768),
        (20, 11_880, 396, 2_000),
        (21, 19_800, 792, 4_000),
        (22, 20_250, 1_620, 4_000),
        (30, 40_500, 1_620, 10_000),
        (31, 108_000, 3_600, 14_000),
        (32, 216_000, 5_120, 20_000),
        (40, 245_760, 8_192, 20_000),
        (41, 245_760, 8_192, 50_000),
        (42, 522_240, 8_704, 50_000),
        (50, 589_824, 22_080, 135_000),
        (51, 983_040, 36_864, 240_000),
        (52, 2_073_600, 36_864, 240_000),
    ];
    /// cpbBrNalFactor of Baseline, Table A-2; the padding is not VCL data.
    const MAX_BR_UNIT: u64 = 1200;

    let (columns, rows) = macroblocks(config);
    let (columns, rows) = (columns as u64, rows as u64);
    let rate = columns * rows * u64::from(config.frames_per_second);
    LEVELS
        .into_iter()
        .find(|(_, max_rate, max_size, max_bitrate)| {
            rate <= *max_rate
                && columns * rows <= *max_size
                && columns.max(rows).pow(2) <= 8 * max_size
                && config.bitrate_bps <= max_bitrate * MAX_BR_UNIT
        })
        .map(|(level, ..)| level)
}

/// ITU-T H.264 §7.3.2.1.
fn sequence_parameter_set(config: &Config, level: u8) -> Vec<u8> {
    let (columns, rows) = macroblocks(config);
    let mut bits = BitWriter::default();
    for byte in [BASELINE, CONSTRAINED, level] {
        bits.bits(u64::from(byte), 8);
    }
    bits.unsigned(0); // seq_parameter_set_id
    bits.unsigned(FRAME_NUMBER_BITS - 4); // log2_max_frame_num_minus4
    bits.unsigned(2); // pic_order_cnt_type: output order is coding order
    bits.unsigned(1); // max_num_ref_frames
    bits.flag(false); // gaps_in_frame_num_value_allowed_flag
    bits.unsigned(columns as u32 - 1); // pic_width_in_mbs_minus1
    bits.unsigned(rows as u32 - 1); // pic_height_in_map_units_minus1
    bits.flag(true); // frame_mbs_only_flag
    bits.flag(true); // direct_8x8_inference_flag
    cropping(&mut bits, config);
    bits.flag(true); // vui_parameters_present_flag
    usability_information(&mut bits, config.frames_per_second);
    nal_unit(SEQUENCE_PARAMETER_SET, &bits.finish())
}

/// Cuts what the macroblocks hold beyond the picture, in units of two pixels.
fn cropping(bits: &mut BitWriter, config: &Config) {
    let (columns, rows) = macroblocks(config);
    let right = columns * MACROBLOCK_PIXELS - usize::from(config.width);
    let bottom = rows * MACROBLOCK_PIXELS - usize::from(config.height);
    let crop = right > 0 || bottom > 0;
    bits.flag(crop); // frame_cropping_flag
    if crop {
        for pixels in [0, right, 0, bottom] {
            bits.unsigned(pixels as u32 / 2);
        }
    }
}

/// ITU-T H.264 §E.1.1: frame rate, colours, and that nothing is ever reordered, so that
/// decoders show a picture as soon as they have it.
fn usability_information(bits: &mut BitWriter, frames_per_second: u32) {
    bits.flag(true); // aspect_ratio_info_present_flag
    bits.bits(1, 8); // aspect_ratio_idc: square
    bits.flag(false); // overscan_info_present_flag
    bits.flag(true); // video_signal_type_present_flag
    bits.bits(5, 3); // video_format: unspecified
    bits.flag(false); // video_full_range_flag
    bits.flag(true); // colour_description_present_flag
    for _ in ["colour_primaries", "transfer_characteristics", "matrix_coefficients"] {
        bits.bits(u64::from(BT_709), 8);
    }
    bits.flag(false); // chroma_loc_info_present_flag
    bits.flag(true); // timing_info_present_flag
    bits.bits(1, 32); // num_units_in_tick
    bits.bits(2 * u64::from(frames_per_second), 32); // time_scale, in fields
    bits.flag(true); // fixed_frame_rate_flag
    bits.flag(false); // nal_hrd_parameters_present_flag
    bits.flag(false); // vcl_hrd_parameters_present_flag
    bits.flag(false); // pic_struct_present_flag
    bits.flag(true); // bitstream_restriction_flag
    bits.flag(false); // motion_vectors_over_pic_boundaries_flag
    bits.unsigned(0); // max_bytes_per_pic_denom: no limit
    bits.unsigned(0); // max_bits_per_mb_denom: no limit
    bits.unsigned(0); // log2_max_mv_length_horizontal: nothing moves
    bits.unsigned(0); // log2_max_mv_length_vertical
    bits.unsigned(0); // max_num_reorder_frames
    bits.unsigned(1); // max_dec_frame_buffering
}

/// ITU-T H.264 §7.3.2.2.
fn picture_parameter_set() -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.unsigned(0); // pic_parameter_set_id
    bits.unsigned(0); // seq_parameter_set_id
    bits.flag(false); // entropy_coding_mode_flag: CAVLC
    bits.flag(false); // bottom_field_pic_order_in_frame_present_flag
    bits.unsigned(0); // num_slice_groups_minus1
    bits.unsigned(0); // num_ref_idx_l0_default_active_minus1
    bits.unsigned(0); // num_ref_idx_l1_default_active_minus1
    bits.flag(false); // weighted_pred_flag
    bits.bits(0, 2); // weighted_bipred_idc
    bits.signed(QP - 26); // pic_init_qp_minus26
    bits.signed(0); // pic_init_qs_minus26
    bits.signed(CHROMA_QP_OFFSET); // chroma_qp_index_offset
    bits.flag(true); // deblocking_filter_control_present_flag
    bits.flag(false); // constrained_intra_pred_flag
    bits.flag(false); // redundant_pic_cnt_present_flag
    nal_unit(PICTURE_PARAMETER_SET, &bits.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_of(width: u16, height: u16, frames_per_second: u32, bitrate_bps: u64) -> Option<u8> {
        level(&Config { width, height, frames_per_second, bitrate_bps, title: String::new(), label: String::new() })
    }

    #[test]
    fn levels_follow_size_rate_and_bitrate() {
        assert_eq!(level_of(320, 180, 25, 100_000), Some(12));
        assert_eq!(level_of(640, 360, 25, 800_000), Some(30));
        assert_eq!(level_of(1280, 720, 30, 3_000_000), Some(31));
        assert_eq!(level_of(1280, 720, 60, 3_000_000), Some(32));
        assert_eq!(level_of(1280, 720, 30, 20_000_000), Some(32));
        assert_eq!(level_of(1920, 1080, 30, 6_000_000), Some(40));
        assert_eq!(level_of(3840, 2160, 60, 100_000_000), Some(52));
        assert_eq!(level_of(65534, 16, 25, 100_000), None);
        assert_eq!(level_of(8192, 8192, 25, 100_000), None);
    }
}
