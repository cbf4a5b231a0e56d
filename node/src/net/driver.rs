//! The loop: event, demand, product or deadline → `Peer::handle` → carry out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::{Keypair, ed25519};
use libp2p::request_response::OutboundRequestId;
use libp2p::{Multiaddr, Swarm};
use starling_proto::wire::{Announcement, Catalogue, Continuation, ControlRequest, NeighbourInfo, Role};
use starling_proto::{Config, Epoch, Input, Now, Peer, PeerId, RenditionId, RequestId, StreamId, Time};
use tokio::sync::{mpsc, watch};

use super::codec::{ChunkAnswer, Overhead};
use super::dial::Dials;
use super::exchange::{Channel, ExchangeId};
use super::fetch::{Fetched, fetch_window};
use super::heard::Heard;
use super::riders::Riders;
use super::statements::{Apart, Unproven};
use super::strangers::Strangers;
use super::swarm::{self, Behaviour, split_peer};
use crate::clock::wall_now;
use crate::gateway::playback::Playback;
use crate::gateway::{Command, Demand};
use crate::identity;
use crate::media::Media;
use crate::origin::Origin;
use crate::stats::{Received, Sent, Stats, Upload};

/// What a node is made of.
pub struct Setup {
    /// Proves who we are: the viewer's own key, or the stream's at the broadcaster.
    pub key: Keypair,
    /// The stream.
    pub stream: StreamId,
    /// The stream's name, for people.
    pub name: String,
    /// Whose signature statements carry.
    pub stream_key: ed25519::PublicKey,
    /// How the machine behaves.
    pub config: Config,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Where the broadcaster's node is.
    pub source: Vec<Multiaddr>,
    /// Hint servers, each with its `/p2p/…`.
    pub hints: Vec<Multiaddr>,
    /// Where the media is kept.
    pub media: Arc<Media>,
    /// Where missing bytes come from; the broadcaster has none.
    pub origin: Option<Arc<Origin>>,
}

/// What the broadcaster's publisher hands over.
#[derive(Clone, Debug)]
pub enum Produced {
    /// A new catalogue and its envelope; an empty envelope for one made from the origin's playlist by a viewer.
    Catalogue(Arc<Catalogue>, Bytes),
    /// A segment, or the next parts of one that grows, and the newest of its chunks, as many as were not handed over before.
    Segment(Said, Vec<Bytes>),
}

/// What is said of a segment.
#[derive(Clone, Debug)]
pub struct Said {
    /// All of it.
    pub announcement: Arc<Announcement>,
    /// Its envelope; an empty one as above.
    pub signed: Bytes,
    /// The newest of it and its envelope, if that is much less.
    pub continuation: Option<(Arc<Continuation>, Bytes)>,
}

/// The other ends of everything the loop listens to and tells.
pub struct Wires {
    /// From the gateway.
    pub demands: mpsc::Receiver<Demand>,
    /// From the player page.
    pub commands: mpsc::Receiver<Command>,
    /// From the publisher.
    pub produced: mpsc::Receiver<Produced>,
    /// To whoever shows figures.
    pub stats: watch::Sender<Stats>,
    /// To whoever goes on without the broadcaster.
    pub heard: watch::Sender<Heard>,
    /// What players went through.
    pub playback: Box<dyn Fn() -> Playback + Send>,
}

/// A neighbour waits for a chunk.
pub(super) struct Waiting {
    pub(super) channel: Channel<ChunkAnswer>,
    pub(super) from: PeerId,
}

/// The network side of a node.
pub struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) peer: Peer,
    pub(super) media: Arc<Media>,
    pub(super) stream: StreamId,
    pub(super) stream_key: ed25519::PublicKey,
    pub(super) source: Vec<Multiaddr>,
    pub(super) origin: Option<Arc<Origin>>,
    pub(super) inputs: VecDeque<Input>,
    /// Neighbours' chunk requests not answered yet; `proto` bounds what it holds, the streams bound the rest.
    pub(super) inbound: HashMap<RequestId, Waiting>,
    pub(super) inbound_last: u64,
    pub(super) riders: Riders,
    pub(super) outbound: HashMap<ExchangeId, Asked>,
    pub(super) told: HashMap<ExchangeId, Told>,
    pub(super) hint_servers: Vec<(libp2p::PeerId, Multiaddr)>,
    pub(super) hint_next: usize,
    pub(super) hint_asked: HashSet<OutboundRequestId>,
    pub(super) hint_alive: bool,
    /// Why hint servers gave none, as said last.
    pub(super) hint_error: Option<String>,
    /// Where neighbours can be dialled, as they said; one entry a connection.
    pub(super) neighbour_addrs: BTreeMap<PeerId, NeighbourInfo>,
    pub(super) dials: Dials,
    pub(super) unproven: Vec<Unproven>,
    pub(super) apart: Vec<Apart>,
    /// Announcements and their envelopes, of a start of the broadcaster whose catalogue isn't here yet.
    pub(super) early: Vec<(Arc<Announcement>, Bytes)>,
    pub(super) strangers: Strangers,
    pub(super) fetched_tx: mpsc::Sender<Fetched>,
    pub(super) origin_differs: bool,
    pub(super) origin_fails: bool,
    /// Media played from the origin without the mesh, bytes; the machine knows nothing of it.
    pub(super) unsigned_bytes: u64,
    pub(super) overhead: Overhead,
    /// When a signed announcement was last news.
    pub(super) heard_at: Instant,
    pub(super) following: HashMap<RenditionId, Instant>,
    pub(super) wanted_before_catalogue: Vec<RenditionId>,
    fetched: mpsc::Receiver<Fetched>,
    name: String,
    role: Role,
    upload: bool,
    started: Instant,
    sent_before: (Instant, u64),
    upload_rate_bps: u64,
}

/// A chunk request of ours.
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) to: PeerId,
    pub(super) rendition: RenditionId,
    pub(super) epoch: Epoch,
}

/// A control request of ours.
pub(super) struct Told {
    pub(super) to: PeerId,
    pub(super) at: Instant,
    pub(super) hello: bool,
}

/// Fetched chunks waiting for the loop: all chunks of as many fetches as `proto` opens at once.
const FETCHED_MAX: usize = 2048;
/// A rendition no player asked for this long is left (the page reloads its playlist every few seconds).
const IDLE: Duration = Duration::from_secs(45);
/// How often figures are told.
const STATS_EVERY: Duration = Duration::from_millis(500);
/// How long a broadcaster goes on serving after it was told to end; with the rest well within two seconds.
const DRAIN: Duration = Duration::from_millis(600);
/// Time for the last words on the way out.
const FAREWELL: Duration = Duration::from_millis(250);

impl Driver {
    /// A node that listens, with the addresses it listens at.
    ///
    /// # Errors
    /// If an address can't be listened at; says which and what to do.
    pub async fn new(setup: Setup) -> anyhow::Result<(Self, Vec<Multiaddr>)> {
        let id = identity::of(&setup.key).context("the key is not an Ed25519 key; make a new one")?;
        let role = setup.config.role;
        let connections = setup.config.neighbours_max * 2 + 16;
        let overhead = Overhead::default();
        let (fetched_tx, fetched) = mpsc::channel(FETCHED_MAX);
        if let Some(origin) = setup.origin.clone() {
            tokio::spawn(fetch_window(origin, None, fetched_tx.clone()));
        }
        let mut swarm = swarm::build(setup.key, u32::try_from(connections).unwrap_or(256), &overhead)?;
        let listening = listen(&mut swarm, &setup.listen).await?;
        let hint_servers = setup.hints.iter().filter_map(split_peer).collect();
        let upload = setup.config.upload;
        let driver = Self {
            swarm,
            peer: Peer::new(id, setup.config, rand::random()),
            media: setup.media,
            stream: setup.stream,
            stream_key: setup.stream_key,
            source: setup.source,
            origin: setup.origin,
            inputs: VecDeque::new(),
            inbound: HashMap::new(),
            inbound_last: 0,
            riders: Riders::default(),
            outbound: HashMap::new(),
            told: HashMap::new(),
            hint_servers,
            hint_next: 0,
            hint_asked: HashSet::new(),
            hint_alive: false,
            hint_error: None,
            neighbour_addrs: BTreeMap::new(),
            dials: Dials::default(),
            unproven: Vec::new(),
            apart: Vec::new(),
            early: Vec::new(),
            strangers: Strangers::default(),
            fetched_tx,
            origin_differs: false,
            origin_fails: false,
            unsigned_bytes: 0,
            overhead,
            heard_at: Instant::now(),
            following: HashMap::new(),
            wanted_before_catalogue: Vec::new(),
            fetched,
            name: setup.name,
            role,
            upload,
            started: Instant::now(),
            sent_before: (Instant::now(), 0),
            upload_rate_bps: 0,
        };
        Ok((driver, listening))
    }

    /// Runs until `shutdown`; then says goodbye.
    ///
    /// # Errors
    /// If the stream's topics can't be subscribed to.
    pub async fn run(mut self, mut wires: Wires, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let topic = swarm::topic(&self.stream, None);
        self.swarm.behaviour_mut().gossip.subscribe(&topic).context("subscribing to the catalogue")?;
        let mut figures = tokio::time::interval(STATS_EVERY);
        let mut shutdown = std::pin::pin!(shutdown);
        let mut leave_at = None;
        self.inputs.push_back(Input::Tick);
        loop {
            self.work();
            self.tell_heard(&wires.heard);
            let deadline = self.instant_of(self.peer.deadline());
            tokio::select! {
                () = &mut shutdown, if leave_at.is_none() => leave_at = Some(tokio::time::Instant::now() + self.drain()),
                () = tokio::time::sleep_until(leave_at.unwrap_or_else(tokio::time::Instant::now)), if leave_at.is_some() => break,
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(fetched) = self.fetched.recv() => self.on_fetched(fetched),
                Some(demand) = wires.demands.recv() => self.on_demand(demand),
                Some(command) = wires.commands.recv() => self.on_command(command),
                Some(produced) = wires.produced.recv() => self.on_produced(produced),
                () = tokio::time::sleep_until(deadline.into()) => self.inputs.push_back(Input::Tick),
                _ = figures.tick() => {
                    self.on_figures();
                    wires.stats.send_replace(self.stats(&(wires.playback)()));
                }
            }
        }
        self.farewell().await;
        Ok(())
    }

    /// How long neighbours may still fetch what they lack: of the last segment before a restart nobody else may have all.
    fn drain(&self) -> Duration {
        match self.role {
            Role::Source => DRAIN,
            Role::Viewer => Duration::ZERO,
        }
    }

    /// Both clocks, read once.
    pub(super) fn now(&self) -> Now {
        let mono = Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
        Now { mono, wall: wall_now() }
    }

    /// Feeds what happened and carries out what follows, until nothing does.
    fn work(&mut self) {
        let mut out = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            let now = self.now();
            self.peer.handle(now, input, &mut out);
            for output in out.drain(..) {
                tracing::trace!(?output, "out");
                self.carry_out(now, output);
            }
        }
    }

    fn instant_of(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(3600);
        let after = Duration::from_micros(time.0).min(self.started.elapsed() + FAR);
        self.started + after
    }

    fn on_demand(&mut self, demand: Demand) {
        match demand {
            Demand::Playlist { rendition } => self.follow(rendition),
            Demand::Segment { rendition, epoch, segment, first } => {
                self.follow(rendition);
                self.inputs.push_back(Input::Wanted { rendition, epoch, segment, first });
            }
        }
    }

    fn follow(&mut self, rendition: RenditionId) {
        let first = self.following.is_empty();
        if self.following.insert(rendition, Instant::now()).is_none() {
            self.heard_at = if first { Instant::now() } else { self.heard_at };
            tracing::info!(%rendition, "a player asks for it: following");
            // The machine knows signed catalogues only, not one made here from the origin's playlist.
            if self.media.signed_catalogue().is_empty() && !self.wanted_before_catalogue.contains(&rendition) {
                self.wanted_before_catalogue.push(rendition);
            }
            self.inputs.push_back(Input::Followed { rendition });
            if let Some(origin) = self.origin.clone() {
                tokio::spawn(fetch_window(origin, Some(rendition), self.fetched_tx.clone()));
            }
        }
    }

    fn tell_heard(&self, heard: &watch::Sender<Heard>) {
        let known = |heard: &Heard| {
            let same = heard.following.len() == self.following.len();
            heard.at == self.heard_at && same && heard.following.iter().all(|r| self.following.contains_key(r))
        };
        heard.send_if_modified(|heard| {
            let news = !known(heard);
            if news {
                heard.at = self.heard_at;
                heard.following = self.following.keys().copied().collect();
                heard.following.sort_unstable();
            }
            news
        });
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Upload { enabled } => {
                tracing::info!(enabled, "upload switched");
                self.upload = enabled;
                self.inputs.push_back(Input::UploadSet { enabled });
            }
        }
    }

    fn on_produced(&mut self, produced: Produced) {
        match produced {
            Produced::Catalogue(catalogue, signed) => self.publish_catalogue(&catalogue, signed),
            Produced::Segment(said, chunks) => self.publish_segment(said, chunks),
        }
    }

    fn on_figures(&mut self) {
        self.drop_old_unproven();
        let (at, sent) = self.sent_before;
        let sent_now = self.peer.stats().sent_bytes;
        let seconds = at.elapsed().as_secs_f64();
        if seconds >= 2.0 {
            self.upload_rate_bps = ((sent_now - sent) as f64 * 8.0 / seconds) as u64;
            self.sent_before = (Instant::now(), sent_now);
        }
        if self.role == Role::Source {
            return;
        }
        self.look_at_strangers();
        let idle: Vec<_> = self.following.iter().filter(|(_, at)| at.elapsed() >= IDLE).map(|(r, _)| *r).collect();
        for rendition in idle {
            tracing::info!(%rendition, "no player asks for it any more: leaving");
            self.following.remove(&rendition);
            self.inputs.push_back(Input::Unfollowed { rendition });
        }
    }

    fn stats(&self, playback: &Playback) -> Stats {
        let counters = self.peer.stats();
        let now = self.now();
        let ready = self.following.keys().min().and_then(|r| self.media.ready_until(*r));
        let depths = self.peer.depths(now.mono).into_iter().map(|d| (d != 255).then_some(d)).collect();
        let from_origin = counters.origin_bytes + self.unsigned_bytes;
        let received = counters.peer_bytes + from_origin;
        Stats {
            stream: self.name.clone(),
            received: Received {
                peers: counters.peer_bytes,
                origin: from_origin,
                broadcaster: counters.source_bytes,
                same_region: counters.near_bytes,
            },
            sent: Sent { peers: counters.sent_bytes },
            neighbours: u32::try_from(self.peer.neighbour_count()).unwrap_or(u32::MAX),
            lag_seconds: ready.map(|ready| self.peer.stream_time(now).seconds_since(ready)),
            startup_seconds: playback.startup_seconds,
            stalls: playback.stalls.clone(),
            rejected_chunks: counters.rejected_chunks,
            control_bytes: self.overhead.load(Ordering::Relaxed),
            duplicate_chunks: counters.duplicate_chunks,
            duplicate_bytes: counters.duplicate_bytes,
            origin_requests: counters.origin_fetches,
            upload: Upload {
                enabled: self.upload,
                limit_bps: self.peer.upload_limit_bps(),
                rate_bps: self.upload_rate_bps,
            },
            hint_server: self.hint_alive,
            notice: self.notice().map(str::to_owned),
            depths,
            peer: identity::to_proto(self.swarm.local_peer_id()).as_ref().map(identity::short).unwrap_or_default(),
            parents: self.peer.parents().iter().map(|parent| parent.as_ref().map(identity::short)).collect(),
            peer_share: if received == 0 { 0.0 } else { counters.peer_bytes as f64 / received as f64 },
        }
    }

    /// Neighbours look for other parents at once instead of after a time-out.
    async fn farewell(&mut self) {
        let neighbours: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in neighbours {
            if !self.hint_servers.iter().any(|(server, _)| *server == peer) {
                let bye = ControlRequest { bye: true, ..ControlRequest::none() };
                self.swarm.behaviour_mut().control.ask(&peer, bye);
            }
        }
        self.leave_hint_servers();
        let _ = tokio::time::timeout(FAREWELL, async {
            loop {
                self.swarm.select_next_some().await;
            }
        })
        .await;
    }
}

/// Listens at each address and waits until each has said where.
async fn listen(swarm: &mut Swarm<Behaviour>, addresses: &[Multiaddr]) -> anyhow::Result<Vec<Multiaddr>> {
    use libp2p::swarm::SwarmEvent;
    const SETTLE: Duration = Duration::from_millis(200);
    let advice = |address: &Multiaddr| {
        format!("can't listen at {address} (is the port in use? give another with --listen, port 0 for any free one)")
    };
    let mut waiting = HashSet::new();
    for address in addresses {
        waiting.insert(swarm.listen_on(address.clone()).with_context(|| advice(address))?);
    }
    let mut listening = Vec::new();
    let mut settled = tokio::time::Instant::now() + Duration::from_secs(5);
    // One listener on a wildcard address reports each interface by itself; wait a moment for the others.
    while let Ok(event) = tokio::time::timeout_at(settled, swarm.select_next_some()).await {
        #[allow(clippy::wildcard_enum_match_arm)] // a non-exhaustive enum, of which two variants matter before the loop
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.remove(&listener_id);
                listening.push(address);
                if waiting.is_empty() {
                    settled = tokio::time::Instant::now()
                        + if listening.len() == addresses.len() { Duration::ZERO } else { SETTLE };
                }
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                return Err(error).context("a listener closed at once; is the port in use?");
            }
            _ => {}
        }
    }
    anyhow::ensure!(waiting.is_empty(), "{}", addresses.first().map(advice).unwrap_or_default());
    Ok(listening)
}
