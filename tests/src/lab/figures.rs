//! From what was recorded to figures.

use std::{ops::Range, time::Duration};

use super::{
    record::{Audience, Look, Record, Second},
    router::Attachment,
    scenario::Scenario,
    seat::Watched,
};
use crate::fleet::{ProbeReport, Sample};

/// Everything one run measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was run.
    pub scenario: Scenario,
    /// What it was measured in, seconds since 1970.
    pub window: Range<f64>,
    /// CPU time of the router's thread in the window.
    pub router_cpu: Duration,
    /// And of the broadcaster.
    pub broadcaster_cpu: Duration,
    /// Bytes that left the broadcaster's interface in the window, as the kernel counts.
    pub interface_bytes: u64,
    /// Whether the router went before other programs.
    pub real_time: bool,
    /// The seats' links.
    pub attachments: Vec<Attachment>,
    /// All who watched, on both sides.
    pub watched: Vec<Watched>,
    /// Hosts of the viewers that were there at the end.
    pub ended_with: Vec<usize>,
    /// Who was there when, and what the origin sent.
    pub record: Record,
}

/// One side's players.
pub struct Side<'a> {
    reports: Vec<(&'a Watched, &'a ProbeReport)>,
    missing: usize,
    window: Range<f64>,
}

/// Who was there for less than this without a picture left before one could be expected; it counts nowhere.
const TOO_SHORT_SECONDS: f64 = 5.0;

impl Measured {
    /// The players of one side.
    pub fn side(&self, audience: Audience) -> Side<'_> {
        let on = |host: usize| self.record.members.get(&host).is_some_and(|member| member.audience == audience);
        let all: Vec<&Watched> = self.watched.iter().filter(|watched| on(watched.host)).collect();
        let reports: Vec<_> = all.iter().filter_map(|watched| Some((*watched, watched.report.as_ref()?))).collect();
        Side { missing: all.len() - reports.len(), reports, window: self.window.clone() }
    }

    /// Viewers' nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Watched> {
        let member = |watched: &&Watched| self.record.members.get(&watched.host);
        self.watched
            .iter()
            .filter(move |watched| member(watched).is_some_and(|member| member.audience == Audience::Viewers))
    }

    /// The seconds of the window. The first one began before it and is left out.
    pub fn seconds(&self) -> impl Iterator<Item = &Second> {
        self.record.seconds.iter().filter(|second| second.wall > self.window.start && second.wall <= self.window.end)
    }

    /// What nodes told in the window.
    pub fn looks(&self) -> impl Iterator<Item = &Look> {
        self.record.looks.iter().filter(|look| self.window.contains(&look.wall))
    }

    /// 1 − (bytes the origin sent to viewers) / (media bytes their players received) in part of the window.
    pub fn offload(&self, window: &Range<f64>) -> Option<f64> {
        let delivered = self.side(Audience::Viewers).delivered(window);
        let inside =
            self.record.seconds.iter().filter(|second| second.wall > window.start && second.wall <= window.end);
        let sent: u64 = inside.map(|second| second.viewers.tcp + second.viewers.udp).sum();
        ratio(sent as f64, delivered as f64).map(|share| 1.0 - share)
    }

    /// Bytes that aren't media, sent and received, in parts of the media sent and received. Over the window, by what nodes
    /// say of themselves.
    pub fn control(&self) -> Option<f64> {
        let media = self.change(|stats| stats.received.all()) + self.change(|stats| stats.sent.peers);
        ratio(self.change(|stats| stats.control_bytes), media)
    }

    /// Media that came again, in parts of what came once, as above.
    pub fn duplicates(&self) -> Option<f64> {
        let again = self.change(|stats| stats.duplicate_bytes);
        ratio(again, self.change(|stats| stats.received.all()) - again)
    }

    fn change(&self, of: impl Fn(&crate::fleet::http::Stats) -> u64) -> f64 {
        self.nodes().map(|node| of(&node.stats).saturating_sub(of(&node.stats_before)) as f64).sum()
    }

    /// Cores all nodes together kept busy.
    pub fn nodes_cores(&self) -> f64 {
        self.nodes().map(|node| node.cpu.as_secs_f64()).sum::<f64>() / self.window_seconds()
    }

    /// Length of the window.
    pub fn window_seconds(&self) -> f64 {
        self.window.end - self.window.start
    }
}

impl Side<'_> {
    /// How many there were.
    pub fn players(&self) -> usize {
        self.reports.len() + self.missing
    }

    /// Players that showed no picture although they had time for one, gave up, or left no report.
    pub fn failed(&self) -> usize {
        let failed = |report: &ProbeReport| report.error.is_some() || report.startup_seconds.is_none();
        let counts = |report: &ProbeReport| failed(report) && report.elapsed_seconds >= TOO_SHORT_SECONDS;
        self.missing + self.reports.iter().filter(|(_, report)| counts(report)).count()
    }

    /// Lag at the playhead over all players and seconds of the window, at this percentile.
    pub fn lag(&self, percent: usize) -> Option<f64> {
        percentile(self.samples().filter_map(|sample| sample.lag).collect(), percent)
    }

    /// From a player's first request to its first picture, at this percentile, over everybody who joined at whatever
    /// time. Who saw none counts with all the time it waited.
    pub fn startup(&self, percent: usize) -> Option<f64> {
        percentile(self.startups().map(|(_, seconds)| seconds).collect(), percent)
    }

    /// The same from the start of the node.
    pub fn cold_startup(&self, percent: usize) -> Option<f64> {
        percentile(self.startups().map(|(watched, seconds)| watched.ready_seconds + seconds).collect(), percent)
    }

    /// Who joined, and how long it took to a picture.
    pub fn startups(&self) -> impl Iterator<Item = (&Watched, f64)> {
        self.reports.iter().filter_map(|(watched, report)| {
            let waited = Some(report.elapsed_seconds).filter(|seconds| *seconds >= TOO_SHORT_SECONDS);
            Some((*watched, report.startup_seconds.or(waited)?))
        })
    }

    /// Time stalled in parts of the time watched after the first picture, from first to last.
    pub fn stalled_ratio(&self) -> Option<f64> {
        let stalled: f64 = self.reports.iter().map(|(_, report)| report.stalls.seconds).sum();
        let played: f64 = self.reports.iter().map(|(_, report)| report.played_seconds).sum();
        ratio(stalled, stalled + played)
    }

    /// How often somebody's picture stopped.
    pub fn stalls(&self) -> u64 {
        self.reports.iter().map(|(_, report)| report.stalls.count).sum()
    }

    /// Media bytes these players received in part of the run.
    pub fn delivered(&self, window: &Range<f64>) -> u64 {
        self.reports
            .iter()
            .map(|(_, report)| received_until(report, window.end) - received_until(report, window.start))
            .sum()
    }

    /// The one-second samples of the window.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.all_samples().filter(|sample| self.window.contains(&sample.wall))
    }

    /// Those of the whole run.
    pub fn all_samples(&self) -> impl Iterator<Item = &Sample> {
        self.reports.iter().flat_map(|(_, report)| &report.samples)
    }
}

/// By the last sample up to then; between the last sample and the end, by the report.
fn received_until(report: &ProbeReport, wall: f64) -> u64 {
    if wall >= report.started_at + report.elapsed_seconds {
        return report.bytes.media;
    }
    report.samples.iter().take_while(|sample| sample.wall <= wall).last().map_or(0, |sample| sample.media_bytes)
}

/// By nearest rank: a value that was measured.
pub fn percentile(mut values: Vec<f64>, percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// `None` of nothing.
pub(super) fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        fleet::{Count, http::Stats},
        lab::{draw, record::Member, router::Sent},
    };

    fn watched(host: usize, startup: Option<f64>, bytes_per_second: u64) -> Watched {
        let sample = |second: u64| Sample {
            wall: 100.0 + second as f64,
            lag: Some(5.0 + second as f64 / 10.0),
            playing: true,
            media_bytes: bytes_per_second * second,
        };
        let report = ProbeReport {
            started_at: 100.0,
            elapsed_seconds: 20.0,
            startup_seconds: startup,
            played_seconds: 18.0,
            stalls: Count { count: 1, seconds: 2.0 },
            samples: (1..20).map(sample).collect(),
            bytes: crate::fleet::Bytes { media: bytes_per_second * 20, playlist: 0 },
            ..ProbeReport::default()
        };
        let received = crate::fleet::http::Received { peers: 10_000, ..Default::default() };
        let stats = Stats { received, control_bytes: 300, duplicate_bytes: 2_000, ..Stats::default() };
        let cpu = Duration::from_secs(1);
        Watched {
            host,
            number: host - 2,
            joined_at: 99.5,
            ready_seconds: 0.25,
            report: Some(report),
            stats,
            stats_before: Stats::default(),
            cpu,
            resident_peak: 1,
        }
    }

    /// Two viewers and a direct player; ten seconds measured, in which the origin sent the viewers a tenth.
    pub(in crate::lab) fn measured() -> Measured {
        let scenario = Scenario { viewers: 2, ..Scenario::default() };
        let mut record = Record::new(1);
        for (host, audience) in [(2, Audience::Viewers), (3, Audience::Viewers), (4, Audience::Direct)] {
            let member = Member { number: host - 2, audience, joined_at: 99.5, left_at: None, killed: false };
            record.members.insert(host, member);
        }
        record.seconds = (101..120)
            .map(|second| {
                let viewers = Sent { tcp: 100, udp: 100 };
                Second { wall: f64::from(second), viewers, direct: 1000, present: 2, ..Second::default() }
            })
            .collect();
        Measured {
            attachments: draw::attachments(&scenario),
            scenario,
            window: 105.0..115.0,
            router_cpu: Duration::from_secs(2),
            broadcaster_cpu: Duration::from_secs(1),
            interface_bytes: 12_000,
            real_time: true,
            watched: vec![watched(2, Some(0.5), 1000), watched(3, None, 1000), watched(4, Some(0.4), 1000)],
            ended_with: vec![2, 3],
            record,
        }
    }

    #[test]
    fn offload_is_of_the_window_and_of_viewers_only() {
        let measured = measured();
        assert_eq!(measured.side(Audience::Viewers).delivered(&measured.window), 20_000);
        let offload = measured.offload(&measured.window).unwrap();
        assert!((offload - 0.9).abs() < 1e-9, "{offload}");
        assert_eq!(measured.offload(&(0.0..1.0)), None);
    }

    #[test]
    fn who_saw_no_picture_counts_with_all_its_waiting() {
        let measured = measured();
        let side = measured.side(Audience::Viewers);
        assert_eq!((side.startup(50), side.startup(95), side.failed()), (Some(0.5), Some(20.0), 1));
        assert_eq!(side.cold_startup(50), Some(0.75));
        assert!((side.stalled_ratio().unwrap() - 0.1).abs() < 1e-9);
        assert_eq!(side.stalls(), 2);
    }

    #[test]
    fn lag_is_sampled_in_the_window_and_overhead_is_of_media() {
        let measured = measured();
        let side = measured.side(Audience::Viewers);
        assert_eq!((side.lag(50), side.lag(95)), (Some(5.9), Some(6.4)));
        assert!((measured.control().unwrap() - 0.03).abs() < 1e-9);
        assert!((measured.duplicates().unwrap() - 0.25).abs() < 1e-9);
        assert!((measured.nodes_cores() - 0.2).abs() < 1e-9);
    }
}
