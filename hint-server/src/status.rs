//! What `/api/status` and the status page show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use starling_proto::StreamId;
use starling_proto::directory::{Directory, StreamStatus};

/// The server at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Since the start.
    pub uptime_seconds: u64,
    /// What `--hint` takes.
    pub addresses: Vec<String>,
    /// Connections open.
    pub connections: usize,
    /// Registered viewers, over all streams.
    pub viewers: usize,
    /// Requests per second, over all streams and some ten seconds.
    pub requests_per_second: f64,
    /// Requests answered with an error since the start.
    pub refused: u64,
    /// Registrations forgotten for silence since the start.
    pub expired: u64,
    /// Neighbours proposed since the start: same network, same region, same continent, far.
    pub proposed: [u64; 4],
    /// How many streams there are.
    pub stream_count: usize,
    /// The streams with most viewers, at most [`STREAMS_SHOWN`].
    pub streams: Vec<StreamLine>,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamLine {
    /// Its id in hexadecimal.
    pub stream: String,
    /// Registered viewers.
    pub viewers: usize,
    /// Registered broadcasters.
    pub sources: usize,
    /// Viewers that offer upload.
    pub able: usize,
    /// Upload offered, bits per second.
    pub uplink_bps: u64,
    /// Requests per second over some ten seconds.
    pub requests_per_second: f64,
    /// Term of the current roster.
    pub roster_term: u64,
    /// Members of the current roster.
    pub roster_members: usize,
    /// Its regions, largest first, at most [`REGIONS_SHOWN`].
    pub regions: Vec<RegionLine>,
}

/// One region of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct RegionLine {
    /// Its name; empty: unknown.
    pub region: String,
    /// Registered viewers.
    pub viewers: usize,
    /// Upload offered, bits per second.
    pub uplink_bps: u64,
}

/// Streams on the page: what a person reads.
pub const STREAMS_SHOWN: usize = 50;

/// Regions per stream on the page.
pub const REGIONS_SHOWN: usize = 24;

/// Turns counts into rates from one look to the next.
#[derive(Debug)]
pub(crate) struct Observer {
    started: Instant,
    looked: Instant,
    rates: BTreeMap<StreamId, Rate>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    asked: u64,
    per_second: f64,
}

/// Time constant of displayed rates: about one refresh interval, or small streams would flicker.
const SMOOTHING: Duration = Duration::from_secs(10);

impl Observer {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, looked: now, rates: BTreeMap::new() }
    }

    pub(crate) fn look(
        &mut self,
        now: Instant,
        directory: &Directory,
        streams: &[StreamStatus],
        addresses: &[String],
        connections: usize,
    ) -> Status {
        self.update_rates(now, streams);
        let counters = directory.counters();
        let mut shown: Vec<&StreamStatus> = streams.iter().collect();
        shown.sort_by_key(|stream| std::cmp::Reverse(stream.viewers));
        shown.truncate(STREAMS_SHOWN);
        Status {
            uptime_seconds: now.duration_since(self.started).as_secs(),
            addresses: addresses.to_vec(),
            connections,
            viewers: streams.iter().map(|stream| stream.viewers).sum(),
            requests_per_second: self.rates.values().map(|rate| rate.per_second).sum(),
            refused: counters.refused,
            expired: counters.expired,
            proposed: counters.proposed,
            stream_count: streams.len(),
            streams: shown.into_iter().map(|stream| self.line(stream)).collect(),
        }
    }

    fn update_rates(&mut self, now: Instant, streams: &[StreamStatus]) {
        let passed = now.duration_since(self.looked).as_secs_f64().max(1e-3);
        let weight = 1.0 - (-passed / SMOOTHING.as_secs_f64()).exp();
        let before = std::mem::take(&mut self.rates);
        for stream in streams {
            let mut rate = before.get(&stream.stream).copied().unwrap_or_default();
            let present = stream.asked.saturating_sub(rate.asked) as f64 / passed;
            rate.per_second += weight * (present - rate.per_second);
            rate.asked = stream.asked;
            self.rates.insert(stream.stream, rate);
        }
        self.looked = now;
    }

    fn line(&self, stream: &StreamStatus) -> StreamLine {
        let region = |region: &starling_proto::directory::RegionStatus| RegionLine {
            region: region.region.clone(),
            viewers: region.viewers,
            uplink_bps: region.uplink_bps,
        };
        let mut regions: Vec<RegionLine> = stream.regions.iter().map(region).collect();
        regions.sort_by_key(|region| std::cmp::Reverse(region.viewers));
        regions.truncate(REGIONS_SHOWN);
        StreamLine {
            stream: hex(&stream.stream.0),
            viewers: stream.viewers,
            sources: stream.sources,
            able: stream.able,
            uplink_bps: stream.uplink_bps,
            requests_per_second: self.rates.get(&stream.stream).map_or(0.0, |rate| rate.per_second),
            roster_term: stream.term,
            roster_members: stream.roster,
            regions,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
