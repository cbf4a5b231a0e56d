//! What comes off the network, byte by byte: whatever the bytes, a decoder gives a value or an error, in bounded memory.
//! What goes out is read back, and stays as it is: the golden bytes below are the protocol.

#[path = "wire/continuations.rs"]
mod continuations;
#[path = "wire/samples.rs"]
mod samples;

use std::fmt::Debug;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use starling_node::link::Link;
use starling_node::statement;
use starling_proto::wire::control::{Cancel, TrackStatus};
use starling_proto::wire::*;
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber, StreamId, WallTime};

use samples::Sample;

/// Decoding `n` bytes may hold this many bytes for each of them at its peak: the costliest is a list of empty byte
/// strings, one byte there, 32 here, half as much again while the list grows.
const MEMORY_FACTOR: u64 = 64;
/// And this much besides: for a text the decoder reserves up to 16 KiB before it looks whether it is all there.
const MEMORY_BASE: u64 = 17 * 1024;

macro_rules! messages {
    ($($test:ident: $ty:ty),* $(,)?) => {
        $( mod $test {
            use super::*;

            proptest! {
                #[test]
                fn is_read_back(message in <$ty>::sample()) {
                    prop_assert_eq!(<$ty>::decode(&message.encode()), Ok(message));
                }

                #[test]
                fn unknown_keys_are_skipped(message in <$ty>::sample(), at in any::<u8>(), unknown in tree()) {
                    let mut entries = entries_of(&message.encode());
                    entries.insert(usize::from(at) % (entries.len() + 1), (200, unknown.encode()));
                    prop_assert_eq!(<$ty>::decode(&map_of(&entries)), Ok(message));
                }

                #[test]
                fn missing_keys_are_named(message in <$ty>::sample()) {
                    let entries = entries_of(&message.encode());
                    for key in <$ty>::REQUIRED {
                        let rest: Vec<_> = entries.iter().filter(|(k, _)| k != key).cloned().collect();
                        prop_assert_eq!(<$ty>::decode(&map_of(&rest)), Err(DecodeError::Missing(*key)));
                    }
                    let required: Vec<_> =
                        entries.iter().filter(|(k, _)| <$ty>::REQUIRED.contains(k)).cloned().collect();
                    prop_assert!(<$ty>::decode(&map_of(&required)).is_ok(), "another key is required too");
                }

                #[test]
                fn damage_is_noticed_or_harmless(message in <$ty>::sample(), damage in vec(damage(), 1..4)) {
                    let mut bytes = message.encode().to_vec();
                    damage.iter().for_each(|damage| damage.inflict(&mut bytes));
                    decode_everything(&bytes);
                }

                #[test]
                fn trailing_bytes_are_refused(message in <$ty>::sample(), more in vec(any::<u8>(), 1..20)) {
                    let mut bytes = message.encode().to_vec();
                    bytes.extend(more);
                    prop_assert_eq!(<$ty>::decode(&bytes), Err(DecodeError::Trailing));
                }
            }
        } )*

        /// Every decoder there is.
        fn decode_everything(bytes: &[u8]) {
            $( decode::<$ty>(bytes); )*
            parse::<Announcement>(bytes);
            parse::<Continuation>(bytes);
            parse::<Catalogue>(bytes);
            parse::<Roster>(bytes);
        }
    };
}

messages! {
    chunk_request: ChunkRequest,
    feedback: Feedback,
    chunk_header: ChunkHeader,
    control_request: ControlRequest,
    control_response: ControlResponse,
    hello: Hello,
    status: Status,
    track_status: TrackStatus,
    cancel: Cancel,
    window_request: WindowRequest,
    window: Window,
    neighbour_info: NeighbourInfo,
    hint_request: HintRequest,
    hint_response: HintResponse,
    hint: Hint,
    roster: Roster,
    roster_member: RosterMember,
    signed: Signed,
    announcement: Announcement,
    continuation: Continuation,
    catalogue: Catalogue,
    rendition: Rendition,
    init: Init,
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in vec(any::<u8>(), 0..2000)) {
        decode_everything(&bytes);
    }

    #[test]
    fn any_tree_gives_a_value_or_an_error(tree in tree(), damage in vec(damage(), 0..3)) {
        let mut bytes = tree.encode();
        damage.iter().for_each(|damage| damage.inflict(&mut bytes));
        decode_everything(&bytes);
    }

    #[test]
    fn sound_statements_parse(
        announcement in Announcement::sample(),
        continuation in Continuation::sample(),
        catalogue in Catalogue::sample(),
        roster in Roster::sample(),
    ) {
        prop_assert_eq!(Announcement::parse(&announcement.encode()), Ok(announcement));
        prop_assert_eq!(Continuation::parse(&continuation.encode()), Ok(continuation));
        prop_assert_eq!(Catalogue::parse(&catalogue.encode()), Ok(catalogue));
        prop_assert_eq!(Roster::parse(&roster.encode()), Ok(roster));
    }

    /// What the rest of the program computes with an announcement holds for any that passed the checks.
    #[test]
    fn sound_announcements_are_safe_to_compute_with(a in Announcement::sample(), number in any::<u64>()) {
        prop_assert_eq!(a.end_chunk().0 - a.first_chunk.0, a.chunk_count());
        prop_assert_eq!(a.byte_len(), a.lengths.iter().map(|len| u64::from(*len)).sum::<u64>());
        prop_assert!(a.rate_bps().is_finite());
        prop_assert!(a.end() >= a.start);
        let number = ChunkNumber(number);
        prop_assert_eq!(a.hash_of(number).is_some(), a.index_of(number).is_some());
        prop_assert_eq!(a.length_of(a.first_chunk), a.lengths.first().copied());
        prop_assert!(!statement::is_genuine(&a, number, b"not what was announced"));
    }

    #[test]
    fn any_text_is_a_link_or_an_error(text in "\\PC{0,200}", tail in "[ -~]{0,200}") {
        let _ = text.parse::<Link>();
        let _ = format!("starling://{tail}").parse::<Link>();
        let key = "12D3KooWGFFKzpSWb6MdLmymZexY2SYCQMDX6gSvWGeTZDgNvaG2";
        if let Ok(link) = format!("starling://{key}/{tail}").parse::<Link>() {
            prop_assert_eq!(link.to_string().parse::<Link>(), Ok(link));
        }
    }

    #[test]
    fn any_envelope_is_believed_or_refused(envelope in vec(any::<u8>(), 0..400), signed in Signed::sample()) {
        let key = libp2p::identity::ed25519::Keypair::generate().public();
        for envelope in [Bytes::from(envelope), signed.encode()] {
            prop_assert!(statement::verify::<Announcement>(&key, &StreamId([1; 32]), &envelope).is_err());
            prop_assert!(statement::verify::<Catalogue>(&key, &StreamId([1; 32]), &envelope).is_err());
        }
    }
}

#[test]
fn lists_and_depth_are_bounded() {
    let many = |len: u64| map_of(&[(1, [head(4, len), vec![0; len as usize]].concat())]);
    let versions = |len| HintRequest::decode(&many(len));
    assert_eq!(versions(257), Err(DecodeError::TooLong));
    assert_eq!(versions(256), Err(DecodeError::Missing(2)), "256 are allowed");
    assert_eq!(ControlRequest::decode(&head(5, 257)), Err(DecodeError::TooLong));
    let deep = [head(5, 1), head(0, 99), head(4, 1).repeat(100_000)].concat();
    assert_eq!(ControlRequest::decode(&deep), Err(DecodeError::Malformed));
    for lie in [u64::from(u32::MAX), u64::MAX, 1 << 40] {
        for major in [2, 3, 4, 5] {
            let bytes = [head(5, 1), head(0, 99), head(major, lie)].concat();
            decode_everything(&bytes);
            let bytes = [head(5, 1), head(0, 1), head(major, lie)].concat();
            decode_everything(&bytes);
        }
    }
}

#[test]
fn unsound_statements_are_refused() {
    let sound = announcement();
    let unsound: [fn(&mut Announcement); 10] = [
        |a| a.lengths.clear(),
        |a| a.lengths = vec![1; 3],
        |a| a.lengths[0] = 0,
        |a| a.lengths[0] = MAX_CHUNK_LEN as u32 + 1,
        |a| a.hashes = Bytes::from_static(&[0; 17]),
        |a| a.first_chunk = ChunkNumber(1 << 62),
        |a| a.segment = SegmentNumber(u64::MAX),
        |a| a.tags = vec!["#EXT-X-KEY:METHOD=NONE\n#EXT-X-ENDLIST".into()],
        |a| a.uri = "a.ts\r\n#EXT-X-ENDLIST".into(),
        |a| a.start = WallTime(-1),
    ];
    assert_eq!(Announcement::parse(&sound.encode()).as_ref(), Ok(&sound));
    for (at, spoil) in unsound.iter().enumerate() {
        let mut spoilt = sound.clone();
        spoil(&mut spoilt);
        assert_eq!(Announcement::parse(&spoilt.encode()), Err(DecodeError::OutOfRange), "{at}");
    }
}

/// Changing any of these is changing the protocol: then `VERSION` changes too.
#[test]
fn the_wire_is_as_it_was() {
    golden(
        &ChunkRequest {
            kind: Kind::Next,
            epoch: Epoch(1_790_000_000_000),
            rendition: RenditionId(2),
            number: ChunkNumber(1000),
            feedback: Some(Feedback { bytes: 34_375, spread_us: 27_500, first_us: Some(4_000_000_000) }),
            root_silent: false,
            informed: false,
            path_known: Some(0x1234),
        },
        "a6 0100 02 1b 000001a0c4506c00 0302 04 1903e8 05 a3 01 198647 02 196b6c 03 1aee6b2800 08 191234",
    );
    golden(
        &ChunkHeader {
            status: ChunkStatus::Chunk,
            number: Some(ChunkNumber(1000)),
            path: vec![0x0403_0201, 7],
            free_slots: 3,
            statement: Bytes::from_static(b"st"),
            instead: vec![],
            notice: true,
            introduced: vec![],
            continuation: Bytes::new(),
        },
        "a6 0100 02 1903e8 03 82 1a04030201 07 0403 05 427374 07 f5",
    );
    golden(&ChunkHeader::without_chunk(ChunkStatus::Loop), "a2 0102 0400");
    golden(
        &ControlRequest {
            cancel: Some(Cancel {
                epoch: Epoch(1),
                rendition: RenditionId(0),
                number: ChunkNumber(9),
                leaves: false,
                feedback: None,
            }),
            ..ControlRequest::none()
        },
        "a1 04 a3 0101 0200 0309",
    );
    golden(&ControlRequest { bye: true, ..ControlRequest::none() }, "a1 06 f5");
    golden(&ControlResponse::refused("no"), "a1 04 626e6f");
    golden(&ControlResponse::noted(), "a0");
    let status = Status {
        epoch: Epoch(1),
        catalogue_version: 2,
        tracks: vec![TrackStatus {
            rendition: RenditionId(0),
            head: Some(ChunkNumber(24)),
            depths: Bytes::from_static(&[1, TrackStatus::NO_PATH]),
            lags: Bytes::from_static(&[40, 255]),
            branches: Bytes::from_static(&[7, 0]),
            heights: Bytes::from_static(&[2, 0]),
        }],
        free_slots: 5,
        uplink_bps: 9_000_000,
        guessed: false,
    };
    let said = "a5 0101 0202 03 81 a6 0100 021818 034201ff 044228ff 05420700 06420200 0405 051a00895440";
    golden(&ControlRequest { status: Some(status.clone()), ..ControlRequest::none() }, &format!("a1 03 {said}"));
    let guess = Status { guessed: true, ..status.clone() };
    golden(&guess, "a6 0101 0202 03 81 a6 0100 021818 034201ff 044228ff 05420700 06420200 0405 051a00895440 06f5");
    golden(
        &Hello {
            versions: vec![VERSION],
            stream: StreamId([0x11; 32]),
            role: Role::Source,
            region: "eu".into(),
            clock: WallTime(1_790_000_000_000_000),
            clock_error_us: 0,
            addrs: vec![Bytes::from_static(&[4, 127, 0, 0, 1])],
            status,
            agent: "x".into(),
        },
        &format!(
            "a9 01 81 01 02 5820 {} 0301 04 626575 05 1b 00065bfeda25e000 0600 07 81 45047f000001 08 {said} 09 6178",
            "11".repeat(32)
        ),
    );
    golden(
        &announcement(),
        "ae 0101 0200 0307 041838 05 82 1908 00 02 06 5820 000102030405060708090a0b0c0d0e0f 000102030405060708090a0b0c0d0e0f
         07 1b 00065bfeda25e000 08 1a001e8480 09 f5 0a 03 0b 81 68 2345585454455354 0c 65 37 2e6d3473 0d 00 0e 1b 00065bfeda25e001",
    );
    let source = Some(PartSource { uri: "7.1.m4s".into(), offset: 9 });
    let part =
        |source: Option<PartSource>| Part { chunks: 1, duration_us: 1_000_000, independent: source.is_none(), source };
    let growing = Announcement { parts: vec![part(None), part(source)], growing: true, ..announcement() };
    let tail: String =
        growing.encode().iter().skip(announcement().encode().len()).map(|b| format!("{b:02x}")).collect();
    assert_eq!(tail, "0f82a30101021a000f424003f5a30101021a000f424004a20167372e312e6d34730209".to_owned() + "10f5");
    assert_eq!(Announcement::parse(&growing.encode()).as_ref(), Ok(&growing));
    let signed_bytes = Signed::signed_bytes::<Announcement>(&StreamId([0x22; 32]), b"payload");
    assert_eq!(signed_bytes, [b"starling/1/announcement\0", [0x22; 32].as_slice(), b"payload"].concat());
    assert_eq!((Catalogue::DOMAIN, Roster::DOMAIN), ("catalogue", "roster"));
}

fn announcement() -> Announcement {
    Announcement {
        epoch: Epoch(1),
        rendition: RenditionId(0),
        segment: SegmentNumber(7),
        first_chunk: ChunkNumber(56),
        lengths: vec![2048, 2],
        hashes: (0..32).map(|i| i % 16).collect::<Vec<u8>>().into(),
        start: WallTime(1_790_000_000_000_000),
        duration_us: 2_000_000,
        discontinuity: true,
        init: Some(3),
        tags: vec!["#EXTTEST".into()],
        uri: "7.m4s".into(),
        offset: 0,
        announced: WallTime(1_790_000_000_000_001),
        parts: Vec::new(),
        growing: false,
    }
}

fn golden<M: Message + Debug + PartialEq>(message: &M, hex: &str) {
    let hex: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let written: String = message.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written, hex, "{message:?}");
    assert_eq!(M::decode(&message.encode()).as_ref(), Ok(message));
}

/// Decodes within the bound of memory.
fn decode<M: Message + Debug>(bytes: &[u8]) {
    within_bound(bytes.len(), || drop(M::decode(bytes)));
}

fn parse<S: Statement + Debug>(bytes: &[u8]) {
    within_bound(bytes.len(), || drop(S::parse(bytes)));
}

fn within_bound(len: usize, decode: impl FnOnce()) {
    let held = allocation_counter::measure(decode).bytes_max;
    let bound = len as u64 * MEMORY_FACTOR + MEMORY_BASE;
    assert!(held <= bound, "{held} bytes held for {len}, more than {bound}");
}

/// A CBOR item of any shape, keys and values alike what messages use.
#[derive(Clone, Debug)]
enum Tree {
    Unsigned(u64),
    Negative(u64),
    Bytes(Vec<u8>),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(u64, Self)>),
    Flag(bool),
    Tagged(u64, Box<Self>),
}

impl Tree {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Unsigned(n) => head(0, *n),
            Self::Negative(n) => head(1, *n),
            Self::Bytes(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
            Self::Text(text) => [head(3, text.len() as u64), text.clone().into_bytes()].concat(),
            Self::List(items) => {
                items.iter().fold(head(4, items.len() as u64), |all, item| [all, item.encode()].concat())
            }
            Self::Map(entries) => {
                map_of(&entries.iter().map(|(key, value)| (*key, value.encode())).collect::<Vec<_>>())
            }
            Self::Flag(flag) => vec![if *flag { 0xf5 } else { 0xf4 }],
            Self::Tagged(tag, item) => [head(6, *tag), item.encode()].concat(),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let number = prop_oneof![0..16u64, any::<u64>(), Just(u64::MAX)];
    let leaf = prop_oneof![
        number.clone().prop_map(Tree::Unsigned),
        number.clone().prop_map(Tree::Negative),
        prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 32), vec(any::<u8>(), 64)].prop_map(Tree::Bytes),
        "[ -~é]{0,20}".prop_map(Tree::Text),
        any::<bool>().prop_map(Tree::Flag),
    ];
    leaf.prop_recursive(6, 64, 12, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..12).prop_map(Tree::List),
            vec((0..15u64, inner.clone()), 0..14).prop_map(Tree::Map),
            (number.clone(), inner).prop_map(|(tag, item)| Tree::Tagged(tag, Box::new(item))),
        ]
    })
}

/// What can happen to bytes on their way.
#[derive(Clone, Debug)]
enum Damage {
    Changed(usize, u8),
    Cut(usize),
    Inserted(usize, Vec<u8>),
    Repeated(usize, usize),
}

impl Damage {
    fn inflict(&self, bytes: &mut Vec<u8>) {
        let place = |at: usize, len: usize| if len == 0 { 0 } else { at % len };
        match self {
            Self::Changed(at, with) => {
                let at = place(*at, bytes.len());
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
            }
            Self::Cut(at) => bytes.truncate(place(*at, bytes.len())),
            Self::Inserted(at, more) => {
                let at = place(*at, bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeated(at, len) => {
                let at = place(*at, bytes.len());
                let part: Vec<u8> = bytes.iter().skip(at).take(*len).copied().collect();
                bytes.splice(at..at, part);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), 1..=u8::MAX).prop_map(|(at, with)| Damage::Changed(at, with)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), vec(any::<u8>(), 1..9)).prop_map(|(at, more)| Damage::Inserted(at, more)),
        (any::<usize>(), 1..40usize).prop_map(|(at, len)| Damage::Repeated(at, len)),
    ]
}

/// The head of a CBOR item (RFC 8949 §3), in its shortest form.
fn head(major: u8, value: u64) -> Vec<u8> {
    let be = value.to_be_bytes();
    let (info, tail) = match value {
        0..=23 => (value as u8, &be[8..]),
        24..=0xff => (24, &be[7..]),
        0x100..=0xffff => (25, &be[6..]),
        0x1_0000..=0xffff_ffff => (26, &be[4..]),
        0x1_0000_0000.. => (27, &be[..]),
    };
    [&[major << 5 | info], tail].concat()
}

fn map_of(entries: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let pair = |(key, value): &(u64, Vec<u8>)| [head(0, *key), value.clone()].concat();
    entries.iter().fold(head(5, entries.len() as u64), |all, entry| [all, pair(entry)].concat())
}

/// The top-level entries of a map as a message writes them.
fn entries_of(message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let (_, count, mut rest) = split_head(message);
    let entry = |_| {
        let (_, key, value) = split_head(rest);
        let (value, after) = value.split_at(len_of(value));
        rest = after;
        (key, value.to_vec())
    };
    (0..count).map(entry).collect()
}

fn split_head(item: &[u8]) -> (u8, u64, &[u8]) {
    let extra = match item[0] & 0x1f {
        short @ 0..=23 => return (item[0] >> 5, u64::from(short), &item[1..]),
        long => 1 << (long - 24),
    };
    let value = item[1..=extra].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    (item[0] >> 5, value, &item[extra + 1..])
}

/// The length of the first item, of the kinds messages are made of.
fn len_of(item: &[u8]) -> usize {
    let (major, value, rest) = split_head(item);
    let own = item.len() - rest.len();
    let inner = match major {
        2 | 3 => value as usize,
        4 | 5 => {
            let items = if major == 4 { value } else { value * 2 };
            (0..items).fold(0, |len, _| len + len_of(&rest[len..]))
        }
        _ => 0,
    };
    own + inner
}
