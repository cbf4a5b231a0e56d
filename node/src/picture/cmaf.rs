//! CMAF (ISO/IEC 23000-19) around the coded pictures: init section and chunks.

use bytes::Bytes;
use mp4_atom::{
    Avc1, Avcc, Codec, Colr, Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr, Header, Mdhd, Mdia, Mfhd, Minf, Moof,
    Moov, Mvex, Mvhd, Prft, ReferenceTime, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, Url,
    Visual, Vmhd,
};

use super::parameters::{BT_709, Parameters};
use super::{Config, Sample, TIMESCALE};

const TRACK: u32 = 1;
/// Size and type of a box.
const BOX_HEADER: usize = 8;
/// sample_depends_on = 2: nothing. ISO/IEC 14496-12 §8.8.3.1.
const KEY_SAMPLE: u32 = 0x0200_0000;
/// sample_depends_on = 1, sample_is_non_sync_sample = 1.
const DEPENDENT_SAMPLE: u32 = 0x0101_0000;
/// Seconds from the epoch of NTP, 1900, to that of Unix: RFC 868.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// `ftyp` and `moov`.
pub(super) fn init_section(config: &Config, parameters: &Parameters) -> Bytes {
    let brands = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc")],
    };
    let movie = Moov {
        mvhd: Mvhd {
            timescale: TIMESCALE,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK + 1,
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex {
                track_id: TRACK,
                default_sample_description_index: 1,
                default_sample_duration: config.frame_duration(),
                default_sample_size: 0,
                default_sample_flags: DEPENDENT_SAMPLE,
            }],
        }),
        trak: vec![track(config, parameters)],
        ..Moov::default()
    };
    let mut section = Vec::new();
    append(&mut section, &brands);
    append(&mut section, &movie);
    section.into()
}

fn track(config: &Config, parameters: &Parameters) -> Trak {
    Trak {
        tkhd: Tkhd {
            track_id: TRACK,
            enabled: true,
            in_movie: true,
            width: config.width.into(),
            height: config.height.into(),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd { timescale: TIMESCALE, language: "und".into(), ..Mdhd::default() },
            hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "Starling test picture".into() },
            minf: Minf {
                vmhd: Some(Vmhd::default()),
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                stbl: Stbl {
                    stsd: Stsd { codecs: vec![sample_entry(config, parameters)] },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    }
}

fn sample_entry(config: &Config, parameters: &Parameters) -> Codec {
    let colour = u16::from(BT_709);
    let avcc =
        Avcc::new(&parameters.sequence, &parameters.picture).expect("a sequence parameter set is longer than 4 bytes");
    Codec::Avc1(Avc1 {
        visual: Visual { data_reference_index: 1, width: config.width, height: config.height, ..Visual::default() },
        avcc,
        colr: Some(Colr::Nclx {
            colour_primaries: colour,
            transfer_characteristics: colour,
            matrix_coefficients: colour,
            full_range_flag: false,
        }),
        ..Avc1::default()
    })
}

/// One chunk: `prft`, `moof` and `mdat`. Nothing for no samples.
pub(super) fn chunk(samples: &[Sample], base_decode_time: u64, frame_duration: u32, sequence_number: u32) -> Bytes {
    let Some(first) = samples.first() else {
        return Bytes::new();
    };
    let payload: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let mut chunk = Vec::with_capacity(payload + 200 + 12 * samples.len());

    append(
        &mut chunk,
        &Prft {
            reference_track_id: TRACK,
            ntp_timestamp: ntp(first.wall_ms),
            media_time: base_decode_time,
            utc_time_semantics: ReferenceTime::Input,
        },
    );
    let mut fragment = Moof {
        mfhd: Mfhd { sequence_number },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK,
                default_base_is_moof: true,
                default_sample_duration: Some(frame_duration),
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt { base_media_decode_time: base_decode_time }),
            trun: vec![Trun { data_offset: Some(0), samples: samples.iter().map(entry).collect::<Vec<_>>().into() }],
            ..Traf::default()
        }],
    };
    // The offset counts from the start of the `moof`, whose size doesn't depend on it.
    let start = chunk.len();
    append(&mut chunk, &fragment);
    let offset = chunk.len() - start + BOX_HEADER;
    chunk.truncate(start);
    fragment.traf[0].trun[0].data_offset = Some(offset as i32);
    append(&mut chunk, &fragment);

    append(&mut chunk, &Header { kind: FourCC::new(b"mdat"), size: Some(payload) });
    for sample in samples {
        chunk.extend_from_slice(&sample.data);
    }
    chunk.into()
}

fn entry(sample: &Sample) -> TrunEntry {
    TrunEntry {
        duration: None,
        size: Some(sample.data.len() as u32),
        flags: Some(if sample.key { KEY_SAMPLE } else { DEPENDENT_SAMPLE }),
        cts: None,
    }
}

/// Unix milliseconds as seconds since 1900 in 32.32 fixed point: RFC 5905 §6.
fn ntp(wall_ms: u64) -> u64 {
    let seconds = (wall_ms / 1000).wrapping_add(NTP_TO_UNIX_SECONDS);
    let fraction = ((wall_ms % 1000) << 32) / 1000;
    seconds << 32 | fraction
}

fn append(to: &mut Vec<u8>, part: &impl Encode) {
    part.encode(to).expect("only boxes above 4 GiB or invalid values can't be encoded");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_is_that_of_the_rfc() {
        // RFC 5905, figure 4: 1 Jan 1970 and 31 Dec 1999.
        assert_eq!(ntp(0), 2_208_988_800 << 32);
        assert_eq!(ntp(946_598_400_500), (3_155_587_200 << 32) + (1 << 31));
    }
}
