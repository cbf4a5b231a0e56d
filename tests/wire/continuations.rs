//! What more is said of a segment that grows.

use bytes::Bytes;
use proptest::prelude::*;
use starling_proto::wire::*;
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber, WallTime};

use super::samples::{InParts, Sample};

proptest! {
    /// Who knows the beginning of a segment knows by continuations all that announcements of the whole would say.
    #[test]
    fn continuations_say_what_announcements_say(whole in Announcement::sample(), count in 1..4usize, missed in 0..4usize) {
        let whole = whole.in_parts(Some(3));
        let said = |parts: usize| whole.first_parts(parts);
        let mut known = said(count.min(whole.parts.len()));
        for parts in count + 1..=whole.parts.len() {
            let longer = said(parts);
            let more = Continuation::of(&longer, count).expect("longer than that");
            prop_assert_eq!(more.join(&longer), Joined::Known);
            prop_assert_eq!(more.join(&known), Joined::Longer(longer.clone()));
            let too_early = parts.saturating_sub(count + 1 + missed);
            if too_early > 0 {
                prop_assert_eq!(more.join(&said(too_early)), Joined::Apart);
            }
            known = longer;
        }
    }

    #[test]
    fn continuations_join_only_what_they_continue(whole in Announcement::sample(), at in 0..1000usize) {
        let whole = whole.in_parts(Some(1));
        prop_assume!(whole.parts.len() > 2);
        let more = Continuation::of(&whole, 2).expect("longer than that");
        let earlier = whole.first_parts(whole.parts.len() - 1);
        let of_another = |spoil: fn(&mut Announcement, usize)| {
            let mut other = earlier.clone();
            spoil(&mut other, at);
            more.join(&other)
        };
        prop_assert_eq!(of_another(|a, _| a.epoch.0 ^= 1), Joined::Apart);
        prop_assert_eq!(of_another(|a, _| a.segment.0 ^= 1), Joined::Apart);
        prop_assert_eq!(of_another(|a, _| a.first_chunk.0 ^= 1), Joined::Apart);
        let lied = of_another(|a, _| {
            let mut hashes = a.hashes.to_vec();
            hashes.last_mut().into_iter().for_each(|byte| *byte ^= 1);
            a.hashes = hashes.into();
        });
        prop_assert_eq!(lied, Joined::Apart, "the part both say is another");
    }
}

#[test]
fn unsound_continuations_are_refused() {
    let parts = [2, 1].map(|chunks| Part { chunks, duration_us: 100_000, independent: false, source: None });
    let sound = Continuation {
        epoch: Epoch(1),
        rendition: RenditionId(0),
        segment: SegmentNumber(7),
        parts_before: 3,
        first_chunk: ChunkNumber(100),
        lengths: vec![9, 8, 7],
        hashes: Bytes::from_static(&[0; 48]),
        parts: parts.to_vec(),
        announced: WallTime(0),
        ends: false,
        source: None,
    };
    let unsound: [fn(&mut Continuation); 6] = [
        |c| c.parts.clear(),
        |c| c.parts_before = 0,
        |c| c.parts[0].chunks = 3,
        |c| c.hashes = Bytes::from_static(&[0; 47]),
        |c| c.first_chunk = ChunkNumber(u64::MAX),
        |c| c.segment = SegmentNumber(u64::MAX),
    ];
    assert_eq!(Continuation::parse(&sound.encode()).as_ref(), Ok(&sound));
    for (at, spoil) in unsound.iter().enumerate() {
        let mut spoilt = sound.clone();
        spoil(&mut spoilt);
        assert_eq!(Continuation::parse(&spoilt.encode()), Err(DecodeError::OutOfRange), "{at}");
    }
}
