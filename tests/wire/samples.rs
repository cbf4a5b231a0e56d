//! Random valid messages of every type.

use std::fmt::Debug;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use starling_proto::wire::control::{Cancel, TrackStatus};
use starling_proto::wire::*;
use starling_proto::{ChunkNumber, Epoch, PeerId, RenditionId, SegmentNumber, StreamId, WallTime};

/// A message type that can be made up.
pub(crate) trait Sample: Message + Debug + PartialEq {
    /// The keys without which it is refused.
    const REQUIRED: &[u64];

    fn sample() -> BoxedStrategy<Self>;
}

macro_rules! sample {
    ($ty:ident requires [$($key:literal),*] { $($field:ident : $strategy:expr),* $(,)? }) => {
        impl Sample for $ty {
            const REQUIRED: &[u64] = &[$($key),*];

            fn sample() -> BoxedStrategy<Self> {
                // Boxed one by one: tuples of strategies end at ten, messages at fourteen fields.
                #[allow(unused_parens)]
                let parts = sample!(@nest $(($field, $strategy.boxed()))*);
                parts.prop_map(|sample!(@pattern $($field)*)| Self { $($field),* }).boxed()
            }
        }
    };
    (@nest ($field:ident, $strategy:expr) $($rest:tt)+) => { ($strategy, sample!(@nest $($rest)+)) };
    (@nest ($field:ident, $strategy:expr)) => { ($strategy) };
    (@pattern $field:ident $($rest:ident)+) => { ($field, sample!(@pattern $($rest)+)) };
    (@pattern $field:ident) => { $field };
}

sample!(ChunkRequest requires [1, 2, 3, 4] {
    kind: prop_oneof![Just(Kind::Next), Just(Kind::Get)],
    epoch: epoch(),
    rendition: rendition(),
    number: chunk(),
    feedback: of(Feedback::sample()),
    root_silent: any::<bool>(),
    informed: any::<bool>(),
    path_known: of(any::<u16>()),
});

sample!(Feedback requires [1, 2] { bytes: any::<u32>(), spread_us: any::<u32>(), first_us: of(any::<u32>()) });

sample!(ChunkHeader requires [1, 4] {
    status: prop_oneof![
        Just(ChunkStatus::Chunk),
        Just(ChunkStatus::Empty),
        Just(ChunkStatus::Loop),
        Just(ChunkStatus::Refused),
        Just(ChunkStatus::Unknown),
    ],
    number: of(chunk()),
    path: vec(any::<u32>(), 0..70),
    free_slots: any::<u16>(),
    statement: blob(),
    instead: vec(peer(), 0..4),
    notice: any::<bool>(),
    introduced: vec(NeighbourInfo::sample(), 0..3),
    continuation: blob(),
});

sample!(ControlRequest requires [] {
    hello: of(Hello::sample()),
    window: of(WindowRequest::sample()),
    status: of(Status::sample()),
    cancel: of(Cancel::sample()),
    neighbours: any::<bool>(),
    bye: any::<bool>(),
});

sample!(ControlResponse requires [] {
    hello: of(Hello::sample()),
    window: of(Window::sample()),
    neighbours: vec(NeighbourInfo::sample(), 0..9),
    error: of(text()),
});

sample!(Hello requires [2, 3, 4, 5, 6, 8, 9] {
    versions: vec(any::<u16>(), 0..5),
    stream: any::<[u8; 32]>().prop_map(StreamId),
    role: role(),
    region: text(),
    clock: wall(),
    clock_error_us: any::<u32>(),
    addrs: addrs(),
    status: Status::sample(),
    agent: text(),
});

sample!(Status requires [1, 2, 4, 5] {
    epoch: epoch(),
    catalogue_version: any::<u32>(),
    tracks: vec(TrackStatus::sample(), 0..4),
    free_slots: any::<u16>(),
    uplink_bps: any::<u64>(),
    guessed: any::<bool>(),
});

sample!(TrackStatus requires [1] { rendition: rendition(), head: of(chunk()), depths: blob(), lags: blob(), branches: blob(), heights: blob() });

sample!(Cancel requires [1, 2, 3] { epoch: epoch(), rendition: rendition(), number: chunk(), leaves: any::<bool>(), feedback: of(Feedback::sample()) });

sample!(WindowRequest requires [] { rendition: of(rendition()), since: of((0..1u64 << 62).prop_map(SegmentNumber)), known: of(chunk()) });

sample!(Window requires [] { catalogue: blob(), announcements: vec(blob(), 0..13), continuations: vec(blob(), 0..13) });

sample!(NeighbourInfo requires [1, 3] { peer: peer(), addrs: addrs(), region: text() });

sample!(HintRequest requires [2, 3, 4, 5, 8] {
    versions: vec(any::<u16>(), 0..5),
    stream: any::<[u8; 32]>().prop_map(StreamId),
    role: role(),
    region: text(),
    uplink_bps: any::<u64>(),
    renditions: vec(rendition(), 0..5),
    addrs: addrs(),
    neighbours: any::<u16>(),
    leaving: any::<bool>(),
});

sample!(HintResponse requires [2, 4, 5] {
    hints: vec(Hint::sample(), 0..17),
    refresh_ms: any::<u32>(),
    roster: blob(),
    audience: any::<u32>(),
    place: text(),
    error: of(text()),
});

sample!(Hint requires [1, 3, 4] { peer: peer(), addrs: addrs(), proximity: any::<u8>(), uplink_bps: any::<u64>() });

sample!(Roster requires [1, 2, 4] {
    issuer: peer(),
    term: any::<u64>(),
    members: vec(RosterMember::sample(), 0..33),
    audience: any::<u32>(),
});

sample!(RosterMember requires [1, 2] { peer: peer(), weight: 1..=u32::MAX });

sample!(Signed requires [2] { payload: blob(), signature: vec(any::<u8>(), 64).prop_map(sixty_four) });

sample!(Init requires [1] { index: any::<u16>(), body: blob() });

sample!(Rendition requires [1, 2, 3, 4, 5, 7, 8, 10] {
    id: rendition(),
    label: text(),
    bandwidth_bps: any::<u64>(),
    target_duration: 1..=3600u32,
    substreams: 1..=32u8,
    inits: vec(Init::sample(), 0..3),
    origin: text(),
    hls_version: any::<u8>(),
    tags: vec(tag(), 0..3),
    extension: "[a-z0-9]{1,8}",
    part_target_us: of(10_000..=10_000_000u32),
});

sample!(Catalogue requires [1, 2, 3, 4] {
    name: text(),
    epoch: epoch(),
    version: any::<u32>(),
    issued: wall(),
    multivariant: of(text()),
    renditions: vec(Rendition::sample(), 1..4).prop_map(by_rising_id),
    serves: any::<bool>(),
    ended: any::<bool>(),
});

impl Sample for Announcement {
    const REQUIRED: &[u64] = &[1, 2, 3, 4, 7, 8, 12, 13, 14];

    fn sample() -> BoxedStrategy<Self> {
        let numbers = (epoch(), rendition(), 0..1u64 << 62, 0..1u64 << 62);
        let chunks = vec((1..=MAX_CHUNK_LEN as u32, any::<[u8; HASH_LEN]>()), 1..=256);
        let times = (0..1i64 << 53, 0..=3_600_000_000u64, wall());
        let rest = (any::<bool>(), of(any::<u16>()), vec(tag(), 0..4), text(), 0..1u64 << 62, of(1..9usize));
        let make =
            |((epoch, rendition, segment, first), chunks, times, rest): (_, Vec<(u32, [u8; HASH_LEN])>, _, _)| {
                let (start, duration_us, announced): (i64, u64, WallTime) = times;
                let (discontinuity, init, tags, uri, offset, per_part) = rest;
                Self {
                    epoch,
                    rendition,
                    segment: SegmentNumber(segment),
                    first_chunk: ChunkNumber(first),
                    lengths: chunks.iter().map(|(len, _)| *len).collect(),
                    hashes: chunks.iter().flat_map(|(_, hash)| *hash).collect::<Vec<u8>>().into(),
                    start: WallTime(start),
                    duration_us,
                    discontinuity,
                    init,
                    tags,
                    uri,
                    offset,
                    announced,
                    parts: Vec::new(),
                    growing: false,
                }
                .in_parts(per_part)
            };
        (numbers, chunks, times, rest).prop_map(make).boxed()
    }
}

impl Sample for Continuation {
    const REQUIRED: &[u64] = &[1, 2, 3, 4, 5, 9];

    fn sample() -> BoxedStrategy<Self> {
        let of = |(announcement, per_part, count): (Announcement, usize, usize)| {
            Self::of(&announcement.in_parts(Some(per_part)), count)
        };
        (Announcement::sample(), 1..5usize, 1..4usize).prop_filter_map("has more parts", of).boxed()
    }
}

/// Dealing chunks into parts.
pub(crate) trait InParts {
    fn in_parts(self, per_part: Option<usize>) -> Self;
}

impl InParts for Announcement {
    fn in_parts(mut self, per_part: Option<usize>) -> Self {
        let Some(per_part) = per_part else { return self };
        let part = |run: &[u32]| Part {
            chunks: run.len() as u16,
            duration_us: 200_000,
            independent: run.len().is_multiple_of(2),
            source: run[0].is_multiple_of(2).then(|| PartSource { uri: "part".into(), offset: u64::from(run[0]) }),
        };
        self.parts = self.lengths.chunks(per_part).map(part).collect();
        self.duration_us = 200_000 * self.parts.len() as u64;
        self.growing = per_part.is_multiple_of(2);
        self
    }
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>().prop_map(PeerId)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<u64>().prop_map(Epoch)
}

fn rendition() -> impl Strategy<Value = RenditionId> {
    any::<u16>().prop_map(RenditionId)
}

fn chunk() -> impl Strategy<Value = ChunkNumber> {
    any::<u64>().prop_map(ChunkNumber)
}

fn wall() -> impl Strategy<Value = WallTime> {
    any::<i64>().prop_map(WallTime)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Viewer), Just(Role::Source)]
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß鳥]{0,40}"
}

fn tag() -> impl Strategy<Value = String> {
    "#EXT[ -~]{0,40}"
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn addrs() -> impl Strategy<Value = Vec<Bytes>> {
    vec(blob(), 0..9)
}

fn sixty_four(bytes: Vec<u8>) -> [u8; 64] {
    bytes.try_into().expect("as many as asked for")
}

fn by_rising_id(mut renditions: Vec<Rendition>) -> Vec<Rendition> {
    renditions.sort_by_key(|r| r.id);
    renditions.dedup_by_key(|r| r.id);
    renditions
}
