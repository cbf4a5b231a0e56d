//! One machine under test: inputs by hand, outputs kept, a clock that moves when told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::control::Cancel;
use starling_proto::wire::{
    Announcement, Catalogue, ChunkHeader, ChunkRequest, ChunkStatus, Feedback, HASH_LEN, Hello, Kind, Part, Rendition,
    Role, Status, TrackStatus, VERSION,
};
use starling_proto::{
    ChunkNumber, Config, Epoch, Input, Now, Outcome, Output, Peer, PeerId, RenditionId, RequestId, SegmentNumber,
    StreamId, Time, WallTime,
};

pub(crate) const RENDITION: RenditionId = RenditionId(0);
pub(crate) const EPOCH: Epoch = Epoch(1);
pub(crate) const STREAM: StreamId = StreamId([7; 32]);
pub(crate) const SUBSTREAMS: u8 = 4;
/// Chunks of a segment, and bytes of a chunk: two seconds at 1.28 Mbit/s.
pub(crate) const CHUNKS: u64 = 8;
pub(crate) const LEN: u32 = 40_000;

/// After this a viewer is no newcomer any more.
pub(crate) const GROWN_UP: Duration = Duration::from_secs(7);

/// A machine, its clock, and everything it said.
pub(crate) struct Rig {
    pub(crate) peer: Peer,
    pub(crate) now: Time,
    /// How far the wall clock was set from where the monotonic one is, microseconds.
    pub(crate) wall_off: i64,
    /// Calls of `handle` with [`Input::Tick`].
    pub(crate) ticks: u64,
    last_id: u64,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        Self { peer: Peer::new(id(1), config, 1), now: Time(1_000_000), wall_off: 0, ticks: 0, last_id: 0 }
    }

    /// A viewer that follows the rendition of a stream whose broadcaster `serves`.
    pub(crate) fn viewer(serves: bool) -> Self {
        Self::grown_up(viewer(), serves)
    }

    /// As [`Self::viewer`], set up otherwise; no newcomer any more.
    pub(crate) fn grown_up(config: Config, serves: bool) -> Self {
        let mut rig = Self::new(config);
        rig.feed(Input::CatalogueHeld { catalogue: catalogue(EPOCH, serves) });
        rig.feed(Input::Followed { rendition: RENDITION });
        rig.pass(GROWN_UP);
        rig
    }

    pub(crate) fn feed(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.ticks += u64::from(matches!(input, Input::Tick));
        self.peer.handle(self.clocks(), input, &mut out);
        out
    }

    /// What both clocks read.
    pub(crate) fn clocks(&self) -> Now {
        Now { mono: self.now, wall: WallTime(self.now.0 as i64 + self.wall_off) }
    }

    /// Lets time pass, ticking whenever the machine asks for it.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<(Time, Output)> {
        let end = self.now + time;
        let mut all = Vec::new();
        loop {
            // A shell's timer has a resolution too.
            let at = self.peer.deadline().max(Time(self.now.0 + 100));
            if at > end {
                self.now = end;
                return all;
            }
            self.now = at;
            all.extend(self.feed(Input::Tick).into_iter().map(|o| (at, o)));
        }
    }

    /// A neighbour connects and says hello.
    pub(crate) fn meet(&mut self, peer: PeerId, status: Status) -> Vec<Output> {
        let mut out = self.feed(Input::Connected { peer });
        out.extend(self.feed(Input::Greeted { peer, hello: Box::new(hello(status)), round_trip: None }));
        out
    }

    pub(crate) fn announce(&mut self, segment: u64) -> Vec<Output> {
        self.feed(Input::Announced { announcement: announcement(EPOCH, segment, self.now) })
    }

    pub(crate) fn hold(&mut self, number: u64) -> Vec<Output> {
        self.check(number, None, true)
    }

    pub(crate) fn check(&mut self, number: u64, from: Option<PeerId>, genuine: bool) -> Vec<Output> {
        let number = ChunkNumber(number);
        self.feed(Input::Checked { rendition: RENDITION, epoch: EPOCH, number, from, genuine })
    }

    pub(crate) fn ask(&mut self, from: PeerId, kind: Kind, number: u64) -> (RequestId, Vec<Output>) {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        (id, self.feed(Input::Requested { from, id, request: request(kind, EPOCH, number) }))
    }

    pub(crate) fn respond(&mut self, id: RequestId, number: u64, path: Vec<u32>) -> Vec<Output> {
        let header =
            ChunkHeader { number: Some(ChunkNumber(number)), path, ..ChunkHeader::without_chunk(ChunkStatus::Chunk) };
        self.feed(Input::Responded {
            id,
            outcome: Outcome::Chunk { header, len: LEN, spread: Duration::from_millis(20) },
        })
    }
}

pub(crate) fn id(n: u8) -> PeerId {
    PeerId([n; 32])
}

/// The broadcaster.
pub(crate) const SOURCE: PeerId = PeerId([200; 32]);

pub(crate) fn viewer() -> Config {
    Config { upload_limit_bps: Some(10_000_000), ..Config::viewer(STREAM, SOURCE) }
}

pub(crate) fn catalogue(epoch: Epoch, serves: bool) -> Arc<Catalogue> {
    Arc::new(Catalogue {
        name: "test".into(),
        epoch,
        version: 1,
        issued: WallTime(0),
        multivariant: None,
        renditions: vec![Rendition {
            id: RENDITION,
            label: "test".into(),
            bandwidth_bps: 1_280_000,
            target_duration: 2,
            substreams: SUBSTREAMS,
            inits: Vec::new(),
            origin: "0/index.m3u8".into(),
            hls_version: 6,
            tags: Vec::new(),
            extension: "m4s".into(),
            part_target_us: None,
        }],
        serves,
        ended: false,
    })
}

pub(crate) fn announcement(epoch: Epoch, segment: u64, now: Time) -> Arc<Announcement> {
    Arc::new(Announcement {
        parts: Vec::new(),
        growing: false,
        epoch,
        rendition: RENDITION,
        segment: SegmentNumber(segment),
        first_chunk: ChunkNumber(segment * CHUNKS),
        lengths: vec![LEN; CHUNKS as usize],
        hashes: Bytes::from(vec![0; HASH_LEN * CHUNKS as usize]),
        start: WallTime(now.0 as i64),
        duration_us: 2_000_000,
        discontinuity: false,
        init: None,
        tags: Vec::new(),
        uri: format!("{segment}.m4s"),
        offset: 0,
        announced: WallTime(now.0 as i64),
    })
}

/// The first `parts` parts, of one chunk each, of a segment of a low-latency stream.
pub(crate) fn growing(segment: u64, parts: u64, now: Time) -> Arc<Announcement> {
    let whole = announcement(EPOCH, segment, now);
    let part = |index| Part { chunks: 1, duration_us: 250_000, independent: index == 0, source: None };
    Arc::new(Announcement {
        lengths: vec![LEN; parts as usize],
        hashes: Bytes::from(vec![0; HASH_LEN * parts as usize]),
        duration_us: 250_000 * parts,
        parts: (0..parts).map(part).collect(),
        growing: parts < CHUNKS,
        // Which segment it is, not when it was asked for.
        start: WallTime(segment as i64 * 2_000_000),
        ..(*whole).clone()
    })
}

pub(crate) fn request(kind: Kind, epoch: Epoch, number: u64) -> ChunkRequest {
    // As one that got a chunk before, at 16 Mbit/s.
    let feedback = (kind == Kind::Next).then_some(Feedback { bytes: LEN, spread_us: 20_000, first_us: None });
    ChunkRequest {
        kind,
        epoch,
        rendition: RENDITION,
        number: ChunkNumber(number),
        feedback,
        root_silent: false,
        informed: false,
        path_known: None,
    }
}

pub(crate) fn cancelled(from: PeerId, number: u64, leaves: bool, feedback: Option<Feedback>) -> Input {
    let number = ChunkNumber(number);
    Input::Cancelled { from, cancel: Cancel { epoch: EPOCH, rendition: RENDITION, number, leaves, feedback } }
}

pub(crate) fn hello(status: Status) -> Hello {
    Hello {
        versions: vec![VERSION],
        stream: STREAM,
        role: Role::Viewer,
        region: String::new(),
        clock: WallTime(0),
        clock_error_us: u32::MAX,
        addrs: Vec::new(),
        status,
        agent: String::new(),
    }
}

/// A viewer at `depth` in all substreams that holds everything up to `head`.
pub(crate) fn status(depth: u8, head: u64, uplink_bps: u64) -> Status {
    let depths = Bytes::from(vec![depth; usize::from(SUBSTREAMS)]);
    let (head, lags, branches, heights) = (Some(ChunkNumber(head)), Bytes::new(), Bytes::new(), Bytes::new());
    let track = TrackStatus { rendition: RENDITION, head, depths, lags, branches, heights };
    Status { epoch: EPOCH, catalogue_version: 1, tracks: vec![track], free_slots: 8, uplink_bps, guessed: false }
}

/// As [`status`] has it, with chunks of all substreams that late; `None`: it gets none.
pub(crate) fn lagging(status: Status, seconds: Option<f64>) -> Status {
    let lag = seconds.map_or(u8::MAX, |seconds| (seconds / TrackStatus::LAG_UNIT.as_secs_f64()) as u8);
    let lags = Bytes::from(vec![lag; usize::from(SUBSTREAMS)]);
    let tracks = status.tracks.into_iter().map(|track| TrackStatus { lags: lags.clone(), ..track }).collect();
    Status { tracks, ..status }
}

/// What was answered to `id`, in order.
pub(crate) fn answers(out: &[Output], to: RequestId) -> Vec<ChunkHeader> {
    let answer =
        |o: &Output| if let Output::Answer { id, header, .. } = o { (*id == to).then(|| header.clone()) } else { None };
    out.iter().filter_map(answer).collect()
}

/// Status and number of the only answer to `id`.
pub(crate) fn answered(out: &[Output], id: RequestId) -> Option<(ChunkStatus, Option<u64>)> {
    let all = answers(out, id);
    assert!(all.len() <= 1, "answered {} times", all.len());
    all.first().map(|h| (h.status, h.number.map(|n| n.0)))
}

/// Requests among the outputs: whose they are for, kind and number.
pub(crate) fn requests(out: &[Output]) -> Vec<(RequestId, PeerId, Kind, u64)> {
    let asked = |o: &Output| {
        if let Output::Request { id, to, request } = o {
            Some((*id, *to, request.kind, request.number.0))
        } else {
            None
        }
    };
    out.iter().filter_map(asked).collect()
}

/// Whole chunk requests, and whom they go to.
pub(crate) fn asked(out: &[Output]) -> impl Iterator<Item = (PeerId, &ChunkRequest)> {
    out.iter().filter_map(|o| if let Output::Request { to, request, .. } = o { Some((*to, request)) } else { None })
}

/// Chunk ranges fetched from the origin.
pub(crate) fn fetches(out: &[Output]) -> Vec<(RequestId, u64, u64)> {
    let fetch = |o: &Output| {
        if let Output::FetchOrigin { id, first, end, .. } = o { Some((*id, first.0, end.0)) } else { None }
    };
    out.iter().filter_map(fetch).collect()
}

pub(crate) fn plain(timed: Vec<(Time, Output)>) -> Vec<Output> {
    timed.into_iter().map(|(_, o)| o).collect()
}
