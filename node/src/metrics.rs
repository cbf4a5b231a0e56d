//! `/metrics`: the figures of [`Stats`] under Prometheus' naming rules. Labels are bounded; no peer is named.

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::stats::Stats;

/// Adds a node's figures, as they are now, to a registry that is about to be written out.
pub fn register(registry: &mut Registry, stats: &Stats) {
    let mut bytes = |name: &str, help: &str, value: u64| {
        registry.register_with_unit(name, help, Unit::Bytes, ConstCounter::new(value));
    };
    bytes("received_peers", "Media received from other participants", stats.received.peers);
    bytes("received_origin", "Media received from the origin", stats.received.origin);
    bytes(
        "received_broadcaster",
        "Media received from the broadcaster's node, also in received_peers",
        stats.received.broadcaster,
    );
    bytes("sent_peers", "Media sent to other participants", stats.sent.peers);
    bytes("control", "Bytes sent and received that are not media", stats.control_bytes);
    bytes("duplicates", "Media that arrived again, also in the received", stats.duplicate_bytes);
    let mut count = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    count("rejected_chunks", "Chunks that were not what the broadcaster signed", stats.rejected_chunks);
    count("duplicate_chunks", "Chunks that arrived again", stats.duplicate_chunks);
    count("origin_requests", "Media requests to the origin", stats.origin_requests);
    count("stalls", "Times a player ran dry", stats.stalls.count);
    registry.register_with_unit(
        "stalled",
        "Time players were dry",
        Unit::Seconds,
        ConstCounter::new(stats.stalls.seconds),
    );
    registry.register("neighbours", "Peers connected", ConstGauge::new(i64::from(stats.neighbours)));
    registry.register("hint_server_up", "Whether a hint server answers", ConstGauge::new(i64::from(stats.hint_server)));
    if let Some(lag) = stats.lag_seconds {
        registry.register_with_unit(
            "lag",
            "Now minus capture time of the newest media ready",
            Unit::Seconds,
            ConstGauge::new(lag),
        );
    }
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "This program", build);
}
