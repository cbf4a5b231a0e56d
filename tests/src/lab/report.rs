//! The figures of a run: for people as a table, for programs as JSON.

use std::fmt;

use serde::Serialize;

use super::{
    draw::ADMITTED,
    figures::{Measured, Side, percentile, ratio},
    household,
    nat::NatClass,
    record::{Audience, Look},
    scenario::Targets,
    seat::Watched,
};

/// The JSON of `scripts/lab --json`. Times are in seconds, sizes in bytes, rates in bits per second, shares 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// What everything drawn by lot followed from.
    pub seed: u64,
    /// Viewers at a time.
    pub viewers: usize,
    /// How long was measured.
    pub seconds: f64,
    /// 1 − (bytes the origin sent viewers) / (media bytes their players received).
    pub offload: Option<f64>,
    /// No offload is above: somebody must be sent the first copy. 1 − 1 / viewers.
    pub offload_bound: f64,
    /// The rest of what the viewers' players saw.
    #[serde(flatten)]
    pub playback: Playback,
    /// From the start of a node to the first picture, p95.
    pub cold_startup_p95_seconds: Option<f64>,
    /// Control bytes in parts of media, and media that came again in parts of what came once; by what nodes say.
    pub overhead_ratio: Option<f64>,
    /// The first of the two.
    pub control_ratio: Option<f64>,
    /// The second.
    pub duplicate_ratio: Option<f64>,
    /// The same number of players straight at the origin in the same run.
    pub direct: Option<Playback>,
    /// What the origin sent.
    pub origin: OriginBytes,
    /// Media the viewers' players received.
    pub delivered_bytes: u64,
    /// Viewers' uplinks.
    pub uplinks: Uplinks,
    /// Who came and went while it was measured.
    pub churn: Churned,
    /// What it cost.
    pub cost: Cost,
    /// Packets that didn't arrive, from the beginning of the run, viewers' hosts only.
    pub packets: Packets,
    /// The household's upload, if the scenario has one.
    #[serde(flatten)]
    pub household: Option<household::Figures>,
    /// Viewers at the end, one by one.
    pub seats: Vec<SeatReport>,
    /// What the scenario demands and wasn't reached.
    pub missed: Vec<String>,
}

/// What players on one side saw.
#[derive(Clone, Debug, Serialize)]
pub struct Playback {
    /// Lag at the playhead over one-second samples of all players, p50.
    pub lag_p50_seconds: Option<f64>,
    /// And p95.
    pub lag_p95_seconds: Option<f64>,
    /// From a player's first request to its picture, p50 of all who ever joined.
    pub startup_p50_seconds: Option<f64>,
    /// And p95.
    pub startup_p95_seconds: Option<f64>,
    /// Time stalled of time watched.
    pub stalled_ratio: Option<f64>,
    /// Interruptions.
    pub stalls: u64,
    /// Players that ever were.
    pub players: usize,
    /// Of those, without a picture or report, or given up.
    pub failed_players: usize,
}

/// Bytes of IP packets that left the broadcaster's interface in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OriginBytes {
    /// To viewers, HTTP.
    pub viewers_http_bytes: u64,
    /// To viewers, libp2p.
    pub viewers_libp2p_bytes: u64,
    /// Of both: to viewers in their first seconds, see [`super::record::JOINING_SECONDS`].
    pub joiners_bytes: u64,
    /// To players straight at it.
    pub direct_bytes: u64,
    /// All, as the kernel counts.
    pub interface_bytes: u64,
}

/// The viewers' links.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Uplinks {
    /// Mean.
    pub mean_bps: f64,
    /// Median.
    pub median_bps: f64,
    /// How many times the stream the viewers may upload on average: 85 % of the mean over the stream's rate.
    pub index: f64,
    /// What nodes that have measured believe they may upload, in parts of their links; mean over the window.
    pub believed_ratio: Option<f64>,
    /// Substreams without a path to the origin, in parts of all; mean over the window.
    pub lost_substreams_ratio: Option<f64>,
    /// Hops from the origin, mean over the others.
    pub mean_depth: Option<f64>,
}

/// Comings and goings in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Churned {
    /// Viewers that joined.
    pub joined: usize,
    /// Viewers that left and said so.
    pub left: usize,
    /// Viewers that were killed.
    pub killed: usize,
}

/// See [`Report::cost`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Cores the router kept busy.
    pub router_cores: f64,
    /// Cores all nodes together kept busy.
    pub nodes_cores: f64,
    /// Cores the broadcaster kept busy.
    pub broadcaster_cores: f64,
    /// The most memory any viewer's node ever had resident.
    pub memory_largest_bytes: u64,
    /// Whether the router went before other programs (SCHED_FIFO); if not, delays are not to be trusted under load.
    pub router_real_time: bool,
}

/// See [`Report::packets`].
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Packets {
    /// Handed to hosts.
    pub delivered: u64,
    /// Lost on paths, partitions included.
    pub lost: u64,
    /// That found an uplink's queue full.
    pub up_dropped: u64,
    /// That found a downlink's queue full.
    pub down_dropped: u64,
    /// That a NAT didn't let in.
    pub filtered: u64,
}

/// One viewer.
#[derive(Clone, Debug, Serialize)]
pub struct SeatReport {
    /// Which.
    pub seat: usize,
    /// Its region.
    pub region: String,
    /// Its NAT.
    pub nat: NatClass,
    /// Its uplink.
    pub up_bps: f64,
    /// What its node believes it may upload.
    pub limit_bps: Option<u64>,
    /// What its host sent, all in all.
    pub sent_bytes: u64,
    /// Packets its uplink had no room for.
    pub up_dropped: u64,
    /// Neighbours.
    pub neighbours: u32,
    /// Hops from the origin, by substream.
    pub depths: Vec<Option<u8>>,
    /// Media from other viewers, by what it says.
    pub from_viewers_bytes: u64,
    /// Media from the broadcaster's node.
    pub from_broadcaster_bytes: u64,
    /// Media from the origin over HTTP.
    pub from_origin_bytes: u64,
    /// Media requests to the origin.
    pub origin_requests: u64,
    /// Chunks that came twice.
    pub duplicate_chunks: u64,
    /// Bytes that aren't media, both ways.
    pub control_bytes: u64,
    /// Its player's lag, p95 of all its samples.
    pub lag_p95_seconds: Option<f64>,
    /// Its player's stalled seconds.
    pub stalled_seconds: f64,
}

impl Report {
    /// Figures of what was measured.
    pub fn new(measured: &Measured) -> Self {
        let viewers = measured.side(Audience::Viewers);
        let scenario = &measured.scenario;
        let (http, libp2p, joiners, direct) = measured.seconds().fold((0, 0, 0, 0), |sum, second| {
            (sum.0 + second.viewers.tcp, sum.1 + second.viewers.udp, sum.2 + second.joiners, sum.3 + second.direct)
        });
        let mut report = Self {
            scenario: scenario.name.clone(),
            seed: scenario.seed,
            viewers: scenario.viewers,
            seconds: measured.window_seconds(),
            offload: measured.offload(&measured.window),
            offload_bound: 1.0 - 1.0 / scenario.viewers as f64,
            playback: Playback::new(&viewers),
            cold_startup_p95_seconds: viewers.cold_startup(95),
            overhead_ratio: measured.control().zip(measured.duplicates()).map(|(control, again)| control + again),
            control_ratio: measured.control(),
            duplicate_ratio: measured.duplicates(),
            direct: scenario.direct.then(|| Playback::new(&measured.side(Audience::Direct))),
            origin: OriginBytes {
                viewers_http_bytes: http,
                viewers_libp2p_bytes: libp2p,
                joiners_bytes: joiners,
                direct_bytes: direct,
                interface_bytes: measured.interface_bytes,
            },
            delivered_bytes: viewers.delivered(&measured.window),
            uplinks: Uplinks::new(measured),
            churn: Churned::new(measured),
            cost: Cost {
                router_cores: measured.router_cpu.as_secs_f64() / measured.window_seconds(),
                nodes_cores: measured.nodes_cores(),
                broadcaster_cores: measured.broadcaster_cpu.as_secs_f64() / measured.window_seconds(),
                memory_largest_bytes: measured.nodes().map(|node| node.resident_peak).max().unwrap_or(0),
                router_real_time: measured.real_time,
            },
            packets: Packets::new(measured),
            household: measured.record.household.figures(&measured.window),
            seats: seats(measured),
            missed: Vec::new(),
        };
        report.missed = report.judge(&scenario.targets);
        report
    }

    fn judge(&self, targets: &Targets) -> Vec<String> {
        let at_least = |name: &str, value: Option<f64>, target: Option<f64>| {
            let target = target?;
            (value.is_none_or(|value| value < target)).then(|| format!("{name} below {target}"))
        };
        let at_most = |name: &str, value: Option<f64>, target: Option<f64>| {
            let target = target?;
            (value.is_none_or(|value| value > target)).then(|| format!("{name} above {target}"))
        };
        let playback = &self.playback;
        let household = self.household.and_then(|figures| figures.household_ratio);
        let missed = [
            at_least("offload", self.offload, targets.offload_min),
            at_most("lag p95", playback.lag_p95_seconds, targets.lag_p95_max),
            at_most("startup p95", playback.startup_p95_seconds, targets.startup_p95_max),
            at_most("stalled ratio", playback.stalled_ratio, targets.stalled_ratio_max),
            at_least("household ratio", household, targets.household_ratio_min),
        ];
        missed.into_iter().flatten().collect()
    }
}

impl Playback {
    fn new(side: &Side<'_>) -> Self {
        Self {
            lag_p50_seconds: side.lag(50),
            lag_p95_seconds: side.lag(95),
            startup_p50_seconds: side.startup(50),
            startup_p95_seconds: side.startup(95),
            stalled_ratio: side.stalled_ratio(),
            stalls: side.stalls(),
            players: side.players(),
            failed_players: side.failed(),
        }
    }
}

impl Uplinks {
    fn new(measured: &Measured) -> Self {
        let rates: Vec<f64> = measured.attachments.iter().map(|attachment| attachment.up_bps).collect();
        let mean_bps = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        let index = mean_bps * ADMITTED / measured.scenario.stream.bitrate as f64;
        let sum = |of: &dyn Fn(&Look) -> f64| measured.looks().map(of).sum::<f64>();
        let (substreams, lost) = (sum(&|look| look.substreams as f64), sum(&|look| look.lost as f64));
        Self {
            mean_bps,
            median_bps: percentile(rates, 50).unwrap_or(0.0),
            index,
            believed_ratio: ratio(sum(&|look| look.limits_bps as f64), sum(&|look| look.links_bps)),
            lost_substreams_ratio: ratio(lost, substreams),
            mean_depth: ratio(sum(&|look| look.hops as f64), substreams - lost),
        }
    }
}

impl Churned {
    fn new(measured: &Measured) -> Self {
        let members = || measured.record.members.values().filter(|member| member.audience == Audience::Viewers);
        let gone = || members().filter(|member| member.left_at.is_some_and(|at| measured.window.contains(&at)));
        Self {
            joined: members().filter(|member| measured.window.contains(&member.joined_at)).count(),
            left: gone().filter(|member| !member.killed).count(),
            killed: gone().filter(|member| member.killed).count(),
        }
    }
}

impl Packets {
    fn new(measured: &Measured) -> Self {
        let hosts = measured.nodes().filter_map(|node| measured.record.last.hosts.get(node.host));
        hosts.fold(Self::default(), |sum, host| Self {
            delivered: sum.delivered + host.down_packets,
            lost: sum.lost + host.lost,
            up_dropped: sum.up_dropped + host.up_dropped,
            down_dropped: sum.down_dropped + host.down_dropped,
            filtered: sum.filtered + host.filtered,
        })
    }
}

fn seats(measured: &Measured) -> Vec<SeatReport> {
    let there = measured.nodes().filter(|node| measured.ended_with.contains(&node.host));
    let mut seats: Vec<SeatReport> = there.filter_map(|node| seat(measured, node)).collect();
    seats.sort_by_key(|seat| seat.seat);
    seats
}

fn seat(measured: &Measured, node: &Watched) -> Option<SeatReport> {
    let attachment = measured.attachments.get(node.number)?;
    let host = measured.record.last.hosts.get(node.host).copied().unwrap_or_default();
    let stats = &node.stats;
    let report = node.report.as_ref();
    Some(SeatReport {
        seat: node.number,
        region: measured.scenario.paths.regions.get(attachment.region).cloned().unwrap_or_default(),
        nat: attachment.nat,
        up_bps: attachment.up_bps,
        limit_bps: stats.upload.limit_bps,
        sent_bytes: host.up_bytes,
        up_dropped: host.up_dropped,
        neighbours: stats.neighbours,
        depths: stats.depths.clone(),
        from_viewers_bytes: stats.received.viewers(),
        from_broadcaster_bytes: stats.received.broadcaster,
        from_origin_bytes: stats.received.origin,
        origin_requests: stats.origin_requests,
        duplicate_chunks: stats.duplicate_chunks,
        control_bytes: stats.control_bytes,
        lag_p95_seconds: report.and_then(|report| Some(report.lag_seconds?.p95)),
        stalled_seconds: report.map_or(0.0, |report| report.stalls.seconds),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2} s"));
        let percent = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{:.2} %", value * 100.0));
        let direct = |of: &dyn Fn(&Playback) -> String| self.direct.as_ref().map_or("-".to_owned(), of);
        let playback = &self.playback;
        writeln!(f, "{}: {} viewers, {:.0} s, seed {}", self.scenario, self.viewers, self.seconds, self.seed)?;
        writeln!(f, "{:<24}{:>12}{:>12}   goal", "", "viewers", "direct")?;
        let mut row = |name: &str, viewers: String, direct: String, goal: &str| {
            writeln!(f, "{name:<24}{viewers:>12}{direct:>12}   {goal}")
        };
        let bound = format!("95 % (bound {:.1} %)", self.offload_bound * 100.0);
        row("offload", percent(self.offload), percent(self.direct.as_ref().map(|_| 0.0)), &bound)?;
        row("lag p50", seconds(playback.lag_p50_seconds), direct(&|side| seconds(side.lag_p50_seconds)), "")?;
        row(
            "lag p95",
            seconds(playback.lag_p95_seconds),
            direct(&|side| seconds(side.lag_p95_seconds)),
            "3 s; with whole segments direct + 0.5 s",
        )?;
        row(
            "startup p50",
            seconds(playback.startup_p50_seconds),
            direct(&|side| seconds(side.startup_p50_seconds)),
            "",
        )?;
        row(
            "startup p95",
            seconds(playback.startup_p95_seconds),
            direct(&|side| seconds(side.startup_p95_seconds)),
            "1 s or direct + 0.2 s",
        )?;
        row("time stalled", percent(playback.stalled_ratio), direct(&|side| percent(side.stalled_ratio)), "0.1 %")?;
        row("stalls", playback.stalls.to_string(), direct(&|side| side.stalls.to_string()), "")?;
        let failed = |side: &Playback| format!("{} of {}", side.failed_players, side.players);
        row("players that failed", failed(playback), direct(&failed), "0")?;
        row("control + duplicates", percent(self.overhead_ratio), "-".into(), "3 % of media")?;
        row("  control", percent(self.control_ratio), "-".into(), "")?;
        row("  duplicates", percent(self.duplicate_ratio), "-".into(), "")?;
        let cost = &self.cost;
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        row("memory, largest node", megabytes(cost.memory_largest_bytes), "-".into(), "60 MB")?;
        let origin = &self.origin;
        writeln!(
            f,
            "origin sent viewers {} by HTTP and {} by libp2p ({} to those just joined); to direct players {}; interface {}",
            megabytes(origin.viewers_http_bytes),
            megabytes(origin.viewers_libp2p_bytes),
            megabytes(origin.joiners_bytes),
            megabytes(origin.direct_bytes),
            megabytes(origin.interface_bytes)
        )?;
        writeln!(
            f,
            "uplinks mean {:.2}, median {:.2} Mbit/s, index {:.2}; {} joined, {} left, {} killed",
            self.uplinks.mean_bps / 1e6,
            self.uplinks.median_bps / 1e6,
            self.uplinks.index,
            self.churn.joined,
            self.churn.left,
            self.churn.killed
        )?;
        let uplinks = &self.uplinks;
        writeln!(
            f,
            "nodes believe in {} of their uplinks; {} of substreams have no path to the origin, the others {} hops",
            percent(uplinks.believed_ratio),
            percent(uplinks.lost_substreams_ratio),
            uplinks.mean_depth.map_or("-".to_owned(), |depth| format!("{depth:.1}"))
        )?;
        writeln!(
            f,
            "cores: router {:.2}{}, nodes {:.2}, broadcaster {:.2}",
            cost.router_cores,
            if cost.router_real_time { "" } else { " (without priority: delays not to be trusted)" },
            cost.nodes_cores,
            cost.broadcaster_cores
        )?;
        let packets = &self.packets;
        writeln!(
            f,
            "packets: {} delivered, {} lost, {} dropped before uplinks, {} before downlinks, {} at NATs",
            packets.delivered, packets.lost, packets.up_dropped, packets.down_dropped, packets.filtered
        )?;
        self.household.iter().try_for_each(|figures| writeln!(f, "{figures}"))?;
        self.missed.iter().try_for_each(|missed| writeln!(f, "MISSED: {missed}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::figures::tests::measured;

    #[test]
    fn json_carries_what_is_promised() {
        let report = Report::new(&measured());
        let json = serde_json::to_value(&report).unwrap();
        for field in [
            "offload",
            "offload_bound",
            "lag_p50_seconds",
            "lag_p95_seconds",
            "startup_p95_seconds",
            "stalled_ratio",
            "overhead_ratio",
            "seed",
            "viewers",
            "seconds",
            "direct",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(json["origin"]["direct_bytes"], 10_000);
        assert_eq!(json["seats"].as_array().unwrap().len(), 2);
        assert!(report.to_string().contains("90.00 %"), "{report}");
    }

    #[test]
    fn a_households_figures_stand_beside_the_others() {
        let mut measured = measured();
        assert!(serde_json::to_value(Report::new(&measured)).unwrap().get("household_ratio").is_none());
        measured.record.household = household::tests::household();
        measured.scenario.targets.household_ratio_min = Some(0.9);
        let report = Report::new(&measured);
        assert_eq!(serde_json::to_value(&report).unwrap()["household_ratio"], 0.8);
        assert_eq!(report.missed, ["household ratio below 0.9"]);
    }

    #[test]
    fn only_a_scenarios_own_targets_are_judged() {
        let mut measured = measured();
        assert!(Report::new(&measured).missed.is_empty());
        measured.scenario.targets = Targets { offload_min: Some(0.95), lag_p95_max: Some(7.0), ..Targets::default() };
        assert_eq!(Report::new(&measured).missed, ["offload below 0.95"]);
    }
}
