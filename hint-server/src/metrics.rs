//! Counters and gauges for Prometheus. Labels come from fixed lists, never from the network.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use starling_proto::directory::Directory;

/// What the server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Messages that were no request. Too long ones aren't even read and don't count.
    pub(crate) malformed: Counter,
    /// Rosters signed.
    pub(crate) rosters: Counter,
    /// Connections open.
    pub(crate) connections: Gauge,
    /// From a decoded request to its answer.
    pub(crate) answer_seconds: Histogram,
    requests: Family<RequestLabels, Counter>,
    proposals: Family<ProximityLabels, Counter>,
    expired: Counter,
    registrations: Gauge,
    streams: Gauge,
    uplink_bits: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProximityLabels {
    proximity: &'static str,
}

/// Names of [`starling_proto::directory::Proximity::class`].
const PROXIMITIES: [&str; 4] = ["same_network", "same_region", "same_continent", "far"];

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            malformed: Counter::default(),
            rosters: Counter::default(),
            connections: Gauge::default(),
            // 10 µs to 0.16 s; an answer takes some 20 µs.
            answer_seconds: Histogram::new((0..15).map(|i| 1e-5 * f64::from(1 << i))),
            requests: Family::default(),
            proposals: Family::default(),
            expired: Counter::default(),
            registrations: Gauge::default(),
            streams: Gauge::default(),
            uplink_bits: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("starling_hint");
        registry.register("requests", "Requests for hints", metrics.requests.clone());
        registry.register("malformed", "Messages that were no request", metrics.malformed.clone());
        registry.register("proposals", "Neighbours proposed, by distance", metrics.proposals.clone());
        registry.register("expired", "Registrations forgotten for silence", metrics.expired.clone());
        registry.register("rosters", "Rosters signed", metrics.rosters.clone());
        registry.register("connections", "Connections open", metrics.connections.clone());
        registry.register("registrations", "Viewers and broadcasters registered", metrics.registrations.clone());
        registry.register("streams", "Streams with anybody registered", metrics.streams.clone());
        registry.register("uplink_offered_bits_per_second", "Upload offered", metrics.uplink_bits.clone());
        registry.register_with_unit("answer", "From request to answer", Unit::Seconds, metrics.answer_seconds.clone());
        metrics
    }

    /// Copies what the directory counts itself.
    pub(crate) fn follow(&self, directory: &Directory, streams: usize, uplink_bps: u64) {
        let counters = directory.counters();
        let answered = counters.asked.saturating_sub(counters.refused);
        for (result, count) in [("answered", answered), ("refused", counters.refused)] {
            raise(&self.requests.get_or_create(&RequestLabels { result }), count);
        }
        for (proximity, count) in PROXIMITIES.into_iter().zip(counters.proposed) {
            raise(&self.proposals.get_or_create(&ProximityLabels { proximity }), count);
        }
        raise(&self.expired, counters.expired);
        self.registrations.set(directory.registrations() as i64);
        self.streams.set(streams as i64);
        self.uplink_bits.set(uplink_bps as f64);
    }
}

fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
