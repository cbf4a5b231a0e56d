//! Everything a run consists of: the network, servers, viewers, players at the origin; and what is done to them.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use tokio::{task::JoinSet, time::sleep};

use super::{
    ask,
    draw::{self, What},
    household::{self, Uploads},
    link::Loss,
    network::{Host, INTERFACE, Network},
    record::{Audience, Record},
    router::Attachment,
    scenario::{Scenario, UpDown},
    seat::{Exit, Seat, Watched, inside},
    wall_seconds,
};
use crate::fleet::{
    Binaries, Broadcast, BroadcastOptions, Common, Fleet, HintServer, READY_WITHIN, SEGMENTS_FOR_PLAYERS, http::Stats,
    proc_fs,
};

/// A run while it runs.
pub(super) struct Stage {
    pub(super) scenario: Scenario,
    /// Before the network and the fleet: programs end first.
    pub(super) seats: Vec<Seat>,
    coming: JoinSet<Result<Seat>>,
    going: JoinSet<Watched>,
    pub(super) gone: Vec<Watched>,
    asked: JoinSet<Vec<(usize, Stats)>>,
    pub(super) record: Record,
    pub(super) broadcast: Broadcast,
    broadcaster: Host,
    hint: Option<HintServer>,
    hint_host: Host,
    pub(super) attachments: Vec<Attachment>,
    loss: Loss,
    groups: Vec<Vec<String>>,
    uploads: Option<Uploads>,
    fleet: Arc<Fleet>,
    pub(super) network: Network,
}

const BROADCASTER_LISTEN: &str = "/ip4/0.0.0.0/udp/7300/quic-v1,/ip4/0.0.0.0/tcp/7300";
const BROADCASTER_HTTP: &str = "0.0.0.0:7380";

impl Stage {
    /// Network, hint server and broadcaster, with enough on air for players to start.
    pub(super) async fn set(scenario: Scenario, directory: &std::path::Path, binaries: Binaries) -> Result<Self> {
        let mut network = Network::new(draw::paths(&scenario), scenario.seed)?;
        let fleet = Arc::new(Fleet::guarded(directory, binaries)?);
        let servers = draw::server_attachment(&scenario);
        let hint_host = network.join(servers).context("the hint server's host")?;
        let broadcaster = network.join(servers).context("the broadcaster's host")?;
        let hint = fleet.hint_server(&hint_options(&hint_host)).await?;
        let options = BroadcastOptions {
            common: Common {
                listen: Some(BROADCASTER_LISTEN.into()),
                http: Some(BROADCASTER_HTTP.into()),
                args: scenario.stream.broadcaster_args.clone(),
                ..inside("broadcaster".into(), &broadcaster.namespace)
            },
            stream: scenario.name.clone(),
            hints: vec![hint.hint.clone()],
            bitrate: Some(scenario.stream.bitrate.to_string()),
            segment_seconds: Some(scenario.stream.segment_seconds),
            part_seconds: None,
            origin: None,
        };
        let broadcast = fleet.broadcast("test", &options).await?;
        let give_up = tokio::time::Instant::now() + READY_WITHIN;
        while ask::listed_segments(&broadcaster.namespace, &broadcast.hls).await.unwrap_or(0) < SEGMENTS_FOR_PLAYERS {
            anyhow::ensure!(
                tokio::time::Instant::now() < give_up,
                "the broadcaster lists fewer than {SEGMENTS_FOR_PLAYERS} segments{}",
                broadcast.program.log_tail()
            );
            sleep(Duration::from_millis(200)).await;
        }
        Ok(Self {
            seats: Vec::new(),
            coming: JoinSet::new(),
            going: JoinSet::new(),
            gone: Vec::new(),
            asked: JoinSet::new(),
            record: Record::new(broadcaster.id),
            broadcast,
            broadcaster,
            hint: Some(hint),
            hint_host,
            attachments: draw::attachments(&scenario),
            loss: scenario.paths.loss,
            groups: Vec::new(),
            uploads: None,
            fleet,
            network,
            scenario,
        })
    }

    /// Somebody takes this seat, and beside, with the same link, somebody who goes straight to the origin.
    pub(super) fn seat(&mut self, number: usize) -> Result<()> {
        let attachment = Attachment { loss: self.loss, ..self.attachments[number] };
        let region = self.scenario.paths.regions[attachment.region].clone();
        let group = self.group_of(&region);
        let host = self.network.join(attachment)?;
        self.network.set_group(host.id, group)?;
        self.record.joins(host.id, number, Audience::Viewers);
        let (fleet, link, stream) =
            (Arc::clone(&self.fleet), self.broadcast.link.clone(), self.scenario.stream.clone());
        self.coming.spawn(Seat::watch(fleet, host, number, link, region, stream));
        if self.scenario.direct {
            let host = self.network.join(attachment)?;
            self.network.set_group(host.id, group)?;
            self.record.joins(host.id, number, Audience::Direct);
            self.seats.push(Seat::direct(&self.fleet, host, number, &self.broadcast.hls, &self.scenario.stream)?);
        }
        Ok(())
    }

    /// Does one thing a scenario wants.
    pub(super) async fn perform(&mut self, what: What) -> Result<()> {
        match what {
            What::Join(seat) => self.seat(seat)?,
            What::Replace { seat, killed } => {
                let exit = if killed { Exit::Killed } else { Exit::Leaves };
                // Who is still on the way in can't leave yet; a neighbour goes instead.
                let present =
                    |number: &usize| self.seats.iter().any(|seat| seat.number == *number && seat.viewer.is_some());
                let all = self.scenario.viewers;
                let Some(number) = (0..all).map(|step| (seat + step) % all).find(present) else { return Ok(()) };
                self.empty(number, exit)?;
                self.seat(number)?;
                self.record.event(format!("{} of seat {number}", if killed { "death" } else { "departure" }));
            }
            What::Kill(number) => {
                self.empty(number, Exit::Killed)?;
                self.record.event(format!("death of seat {number} for good"));
            }
            What::Partition(groups) => {
                self.record.event(format!("partition {groups:?}"));
                self.partition(groups)?;
            }
            What::Heal => {
                self.partition(Vec::new())?;
                self.record.event("partition healed".into());
            }
            What::HintServer(UpDown::Down) => {
                if let Some(mut hint) = self.hint.take() {
                    hint.program.kill().await?;
                }
                self.record.event("hint server down".into());
            }
            What::HintServer(UpDown::Up) => {
                if self.hint.is_none() {
                    self.hint = Some(self.fleet.hint_server(&hint_options(&self.hint_host)).await?);
                }
                self.record.event("hint server up".into());
            }
            What::Loss(loss) => {
                self.loss = loss;
                for host in self.hosts() {
                    self.network.set_loss(host, loss)?;
                }
                self.record.event(format!("loss {loss:?}"));
            }
            What::Upload => self.begin_upload().await?,
            What::UploadOver => self.end_upload(),
        }
        Ok(())
    }

    /// Takes in who has come, who has gone, and what nodes told. Never waits.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        while let Some(came) = self.coming.try_join_next() {
            self.seats.push(came??);
        }
        while let Some(went) = self.going.try_join_next() {
            let went = went?;
            self.network.leave(went.host)?;
            self.gone.push(went);
        }
        while let Some(told) = self.asked.try_join_next() {
            self.told(told?);
        }
        Ok(())
    }

    /// Reads the router's counters.
    pub(super) fn count(&mut self) -> Result<()> {
        let household = self.household();
        let senders: Vec<_> = [self.broadcaster.id].into_iter().chain(household.as_ref().map(|host| host.id)).collect();
        let counters = self.network.counters(&senders)?;
        let stalled = self.seats.iter().filter(|seat| seat.viewer.is_some());
        let stalled = stalled.filter(|seat| seat.probe.state().as_deref() == Some("stalled")).count();
        self.record.second(&counters, stalled);
        if let Some(host) = household {
            let tcp = self.uploads.as_ref().and_then(|uploads| counters.sent.get(&(host.id, uploads.elsewhere.id)));
            let (beside, alone) = self.uploads.as_ref().map(Uploads::received).unwrap_or_default();
            let relayed = counters.hosts[host.id].up_bytes - tcp.map_or(0, |sent| sent.tcp);
            let second = household::Second { wall: wall_seconds(), beside, alone, relayed };
            self.record.household.seconds.push(second);
        }
        Ok(())
    }

    /// The host of the viewer whose household uploads, if the scenario has one and it is there.
    fn household(&self) -> Option<Host> {
        let number = self.scenario.household.as_ref()?.viewer;
        let seat = self.seats.iter().find(|seat| seat.number == number && seat.viewer.is_some())?;
        Some(seat.host.clone())
    }

    async fn begin_upload(&mut self) -> Result<()> {
        let Some(options) = self.scenario.household.clone() else { return Ok(()) };
        let viewer = self.household().context("the household's viewer isn't there")?;
        let twin = self.network.join(Attachment { loss: self.loss, ..self.attachments[options.viewer] })?;
        let elsewhere = self.network.join(draw::server_attachment(&self.scenario))?;
        self.uploads = Some(Uploads::begin(viewer, twin, elsewhere, &options.congestion).await?);
        self.record.event("a household's upload".into());
        self.record.household.upload = wall_seconds()..f64::MAX;
        Ok(())
    }

    fn end_upload(&mut self) {
        self.record.household.upload.end = wall_seconds();
        self.record.event("the upload is over".into());
        self.uploads.iter().for_each(Uploads::end);
    }

    /// Asks every node for its statistics; the answers come with [`Stage::catch_up`]. Does nothing while it waits for
    /// the last ones.
    pub(super) fn ask(&mut self) {
        if self.asked.is_empty() {
            let pages: Vec<_> = self.seats.iter().filter_map(|seat| Some((seat.host.id, seat.page()?))).collect();
            self.asked.spawn(async move {
                let asked = pages
                    .into_iter()
                    .map(|(host, (inside, page))| async move { Some((host, ask::stats(&inside, &page).await.ok()?)) });
                join_all(asked).await.into_iter().flatten().collect()
            });
        }
    }

    /// Waits until every node has told its statistics, or can't.
    pub(super) async fn ask_now(&mut self) -> Result<()> {
        while self.asked.join_next().await.is_some() {}
        self.ask();
        while let Some(told) = self.asked.join_next().await {
            self.told(told?);
        }
        Ok(())
    }

    fn told(&mut self, told: Vec<(usize, Stats)>) {
        for (host, stats) in told {
            if let Some(seat) = self.seats.iter_mut().find(|seat| seat.host.id == host) {
                seat.stats = stats;
            }
        }
        let nodes = self.seats.iter().filter(|seat| !seat.stats.peer.is_empty());
        self.record.look(nodes.map(|seat| (&seat.stats, self.attachments[seat.number].up_bps)));
    }

    /// Whether everybody sits and has seen a picture.
    pub(super) fn all_play(&self) -> bool {
        self.coming.is_empty() && self.seats.iter().all(|seat| seat.probe.has_played())
    }

    /// Ends all who watch and waits for their reports.
    pub(super) async fn end(&mut self) -> Result<()> {
        self.coming.abort_all();
        for seat in std::mem::take(&mut self.seats) {
            self.going.spawn(seat.end(Exit::Leaves));
        }
        while let Some(went) = self.going.join_next().await {
            self.gone.push(went?);
        }
        Ok(())
    }

    /// Bytes that left the broadcaster's interface, as the kernel counts.
    pub(super) fn origin_interface_bytes(&self) -> Result<u64> {
        proc_fs::interface_sent(self.broadcast.program.pid(), INTERFACE).context("the broadcaster's interface")
    }

    fn empty(&mut self, number: usize, exit: Exit) -> Result<()> {
        let (leaving, staying) = std::mem::take(&mut self.seats).into_iter().partition(|seat| seat.number == number);
        self.seats = staying;
        for seat in leaving {
            let _: &Seat = &seat;
            self.record.leaves(seat.host.id, exit == Exit::Killed);
            self.going.spawn(seat.end(exit));
        }
        Ok(())
    }

    fn partition(&mut self, groups: Vec<Vec<String>>) -> Result<()> {
        self.groups = groups;
        self.network.set_group(self.broadcaster.id, self.group_of("broadcaster"))?;
        self.network.set_group(self.hint_host.id, self.group_of("hint-server"))?;
        for seat in &self.seats {
            let region = &self.scenario.paths.regions[self.attachments[seat.number].region];
            self.network.set_group(seat.host.id, self.group_of(region))?;
        }
        Ok(())
    }

    fn group_of(&self, name: &str) -> Option<u8> {
        let group = self.groups.iter().position(|group| group.iter().any(|member| member == name));
        group.and_then(|group| u8::try_from(group).ok())
    }

    fn hosts(&self) -> Vec<usize> {
        let servers = [self.broadcaster.id, self.hint_host.id];
        self.seats.iter().map(|seat| seat.host.id).chain(servers).collect()
    }
}

fn hint_options(host: &Host) -> Common {
    // One address, so that there is one `hint` line.
    let listen = format!("/ip4/{}/udp/7400/quic-v1", host.address);
    Common { listen: Some(listen), ..inside("hint-server".into(), &host.namespace) }
}
