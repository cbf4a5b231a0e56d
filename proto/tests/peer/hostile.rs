//! Arbitrary input in arbitrary order: nothing panics, every request gets exactly one answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use starling_proto::wire::{ChunkHeader, ChunkStatus, Feedback, Kind, Status, TrackStatus};
use starling_proto::{ChunkNumber, Config, Epoch, Input, Outcome, Output, PeerId, RequestId, SegmentNumber};

use crate::rig::*;

/// One thing that happens, with wild numbers.
#[derive(Clone, Debug)]
enum Step {
    Ask { from: u8, next: bool, epoch: u64, number: u64, bytes: Option<u32> },
    Cancel { from: u8, number: u64 },
    Connect(u8),
    Disconnect(u8),
    Greet(u8, Status),
    Tell(u8, Status),
    Respond { id: u64, kind: u8, number: u64, path: Vec<u32>, instead: Vec<u8> },
    Check { epoch: u64, number: u64, from: Option<u8>, genuine: bool },
    Drop { epoch: u64, number: u64 },
    Keep { epoch: u64, number: u64 },
    OriginEnd { id: u64, complete: bool, took: u64 },
    Announce { epoch: u64, segment: u64 },
    Want { segment: u64, first: bool },
    Catalogue { epoch: u64, serves: bool },
    Follow(bool),
    Upload(bool),
    Misbehave(u8),
    Pass(u64),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..80u64, 1 => any::<u64>(), 1 => u64::MAX - 3..=u64::MAX, 1 => (1u64 << 62) - 300..1 << 62]
}

fn epoch() -> impl Strategy<Value = u64> {
    prop_oneof![20 => Just(1u64), 2 => 0..4u64, 1 => Just(u64::MAX)]
}

fn peer() -> std::ops::Range<u8> {
    2..7
}

fn statuses() -> impl Strategy<Value = Status> {
    let depths = prop::collection::vec(any::<u8>(), 0..40);
    let uplink = prop_oneof![any::<u64>(), 0..50_000_000u64];
    (epoch(), depths, prop::option::of(number()), any::<u16>(), uplink).prop_map(
        |(epoch, depths, head, free_slots, uplink_bps)| {
            let lags = Bytes::from(depths.iter().rev().copied().collect::<Vec<u8>>());
            let head = head.map(ChunkNumber);
            let (depths, branches, heights) = (Bytes::from(depths), lags.clone(), lags.clone());
            let track = TrackStatus { rendition: RENDITION, head, depths, lags, branches, heights };
            Status {
                epoch: Epoch(epoch),
                catalogue_version: 1,
                tracks: vec![track],
                free_slots,
                uplink_bps,
                guessed: false,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    use Step::{
        Announce, Ask, Cancel, Catalogue, Check, Connect, Disconnect, Drop, Follow, Greet, Keep, Misbehave, OriginEnd,
        Pass, Respond, Tell, Upload, Want,
    };
    let fast = prop::option::of(20_000..u32::MAX);
    let path = prop::collection::vec(
        any::<u32>().prop_map(|t| if t % 3 == 0 { id(1 + (t % 7) as u8).tag() } else { t }),
        0..80,
    );
    prop_oneof![
        12 => (peer(), any::<bool>(), epoch(), number(), fast)
            .prop_map(|(from, next, epoch, number, bytes)| Ask { from, next, epoch, number, bytes }),
        2 => (peer(), number()).prop_map(|(from, number)| Cancel { from, number }),
        3 => peer().prop_map(Connect),
        1 => peer().prop_map(Disconnect),
        3 => (peer(), statuses()).prop_map(|(p, s)| Greet(p, s)),
        2 => (peer(), statuses()).prop_map(|(p, s)| Tell(p, s)),
        6 => (0..60u64, 0..8u8, number(), path, prop::collection::vec(0..9u8, 0..4))
            .prop_map(|(id, kind, number, path, instead)| Respond { id, kind, number, path, instead }),
        8 => (epoch(), number(), prop::option::of(peer()), prop::bool::weighted(0.95))
            .prop_map(|(epoch, number, from, genuine)| Check { epoch, number, from, genuine }),
        1 => (epoch(), number()).prop_map(|(epoch, number)| Drop { epoch, number }),
        1 => (epoch(), number()).prop_map(|(epoch, number)| Keep { epoch, number }),
        2 => (0..60u64, any::<bool>(), any::<u64>()).prop_map(|(id, complete, took)| OriginEnd { id, complete, took }),
        4 => (epoch(), 0..10u64).prop_map(|(epoch, segment)| Announce { epoch, segment }),
        1 => (0..12u64, any::<bool>()).prop_map(|(segment, first)| Want { segment, first }),
        1 => (epoch(), any::<bool>()).prop_map(|(epoch, serves)| Catalogue { epoch, serves }),
        1 => prop::bool::weighted(0.7).prop_map(Follow),
        1 => prop::bool::weighted(0.7).prop_map(Upload),
        1 => peer().prop_map(Misbehave),
        4 => (0..1_500u64).prop_map(Pass),
    ]
}

/// The machine, and the answers it owes.
struct Ledger {
    rig: Rig,
    owed: BTreeMap<RequestId, PeerId>,
    last: u64,
}

impl Ledger {
    fn take(&mut self, step: Step) {
        let rendition = RENDITION;
        let input = match step {
            Step::Ask { from, next, epoch, number, bytes } => {
                self.last += 1;
                let (asked, kind) = (RequestId(self.last), if next { Kind::Next } else { Kind::Get });
                self.owed.insert(asked, id(from));
                let feedback = bytes.map(|bytes| Feedback { bytes, spread_us: 10_000, first_us: Some(bytes) });
                let request = starling_proto::wire::ChunkRequest { feedback, ..request(kind, Epoch(epoch), number) };
                Input::Requested { from: id(from), id: asked, request }
            }
            Step::Cancel { from, number } => {
                let odd = Feedback { bytes: number as u32, spread_us: 1, first_us: None };
                cancelled(id(from), number, number % 2 == 0, (number % 3 == 0).then_some(odd))
            }
            Step::Connect(peer) => Input::Connected { peer: id(peer) },
            Step::Disconnect(peer) => {
                self.owed.retain(|_, p| *p != id(peer));
                Input::Disconnected { peer: id(peer) }
            }
            Step::Greet(peer, status) => {
                Input::Greeted { peer: id(peer), hello: Box::new(hello(status)), round_trip: Some(Duration::MAX) }
            }
            Step::Tell(peer, status) => Input::StatusTold { peer: id(peer), status },
            Step::Respond { id, kind, number, path, instead } => {
                Input::Responded { id: RequestId(id), outcome: outcome(kind, number, path, &instead) }
            }
            Step::Check { epoch, number, from, genuine } => Input::Checked {
                rendition,
                epoch: Epoch(epoch),
                number: ChunkNumber(number),
                from: from.map(id),
                genuine,
            },
            Step::Drop { epoch, number } => {
                Input::Dropped { rendition, epoch: Epoch(epoch), number: ChunkNumber(number) }
            }
            Step::Keep { epoch, number } => Input::Kept { rendition, epoch: Epoch(epoch), number: ChunkNumber(number) },
            Step::OriginEnd { id, complete, took } => {
                Input::OriginEnded { id: RequestId(id), complete, took: Duration::from_micros(took % 3_600_000_000) }
            }
            Step::Announce { epoch, segment } => {
                Input::Announced { announcement: announcement(Epoch(epoch), segment, self.rig.now) }
            }
            Step::Want { segment, first } => {
                Input::Wanted { rendition, epoch: EPOCH, segment: SegmentNumber(segment), first }
            }
            Step::Catalogue { epoch, serves } => {
                Input::CatalogueHeld { catalogue: catalogue(Epoch(epoch % 8), serves) }
            }
            Step::Follow(true) => Input::Followed { rendition },
            Step::Follow(false) => Input::Unfollowed { rendition },
            Step::Upload(enabled) => Input::UploadSet { enabled },
            Step::Misbehave(peer) => Input::Misbehaved { peer: id(peer), reason: "test" },
            Step::Pass(ms) => {
                let out = self.rig.pass(Duration::from_millis(ms));
                return self.settle(&plain(out));
            }
        };
        let out = self.rig.feed(input);
        self.settle(&out);
    }

    fn settle(&mut self, out: &[Output]) {
        for output in out {
            if let Output::Answer { id, header, .. } = output {
                assert!(self.owed.remove(id).is_some(), "answered though nothing was owed: {id:?} {header:?}");
                assert_eq!(header.status == ChunkStatus::Chunk, header.number.is_some());
            }
        }
        for output in out {
            if let Output::Ban { peer, .. } = output {
                self.owed.retain(|_, p| p != peer);
            }
        }
    }
}

fn outcome(kind: u8, number: u64, path: Vec<u32>, instead: &[u8]) -> Outcome {
    let status =
        [ChunkStatus::Empty, ChunkStatus::Loop, ChunkStatus::Refused, ChunkStatus::Unknown, ChunkStatus::Chunk];
    match kind {
        0..5 => {
            let instead = instead.iter().map(|n| id(*n)).collect();
            Outcome::Without(ChunkHeader { instead, ..ChunkHeader::without_chunk(status[usize::from(kind)]) })
        }
        5 => Outcome::Failed,
        6 => Outcome::Malformed,
        _ => {
            let number = Some(ChunkNumber(number));
            let header = ChunkHeader { number, path, ..ChunkHeader::without_chunk(ChunkStatus::Chunk) };
            Outcome::Chunk { header, len: LEN, spread: Duration::MAX }
        }
    }
}

fn run(config: Config, steps: Vec<Step>) {
    let mut ledger = Ledger { rig: Rig::new(config), owed: BTreeMap::new(), last: 0 };
    ledger.take(Step::Catalogue { epoch: 1, serves: true });
    ledger.take(Step::Follow(true));
    let count = steps.len();
    for step in steps {
        ledger.take(step);
    }
    let before = ledger.rig.ticks;
    ledger.take(Step::Pass(30_000));
    assert!(ledger.rig.ticks - before <= 100 * 30, "{} ticks in 30 s", ledger.rig.ticks - before);
    assert!(ledger.owed.is_empty(), "{} of {count} never answered: {:?}", ledger.owed.len(), ledger.owed);
    let debug = format!("{:?}", ledger.rig.peer).len();
    assert!(debug < 2_000_000, "tables have bounds; {debug} characters after {count} steps");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_viewer_answers_everything_once(steps in prop::collection::vec(step(), 1..200)) {
        run(viewer(), steps);
    }

    #[test]
    fn a_source_answers_everything_once(steps in prop::collection::vec(step(), 1..200)) {
        run(Config::source(STREAM, id(1)), steps);
    }

    #[test]
    fn the_same_inputs_have_the_same_outputs(steps in prop::collection::vec(step(), 1..100)) {
        let all = || {
            let mut ledger = Ledger { rig: Rig::viewer(true), owed: BTreeMap::new(), last: 0 };
            steps.iter().cloned().for_each(|step| ledger.take(step));
            let said = ledger.rig.pass(Duration::from_secs(5));
            format!("{:?} {said:?}", ledger.rig.peer)
        };
        prop_assert_eq!(all(), all());
    }
}
