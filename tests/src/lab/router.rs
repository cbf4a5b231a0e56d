//! The router: one thread between the TUN devices of all hosts.
//!
//! A packet goes through its host's NAT, up its link (rate and queue), along the path (delay, jitter, partitions), may be
//! lost, goes down the other link and through the other NAT. Everything happens at a time on a heap. Packets of one host
//! to another stay in order. It looks at most every `TICK`: that is the error of a delay, and what makes 50 hosts cheap.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{Timespec, epoll},
    thread::NanosleepRelativeResult,
};
use starling_proto::Rng;
use tun_rs::SyncDevice;

use super::{
    link::{Loss, Lossy, Shaper},
    nat::{Nat, NatClass},
    packet::{self, End, Header, Transport},
};

/// What a host is attached by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attachment {
    /// Row and column of the delay table.
    pub region: usize,
    /// One-way delay of its access, added to that of the path.
    pub access: Duration,
    /// Towards the network, bits per second.
    pub up_bps: f64,
    /// From the network, bits per second.
    pub down_bps: f64,
    /// Bytes that wait before each direction, at most.
    pub queue_bytes: [usize; 2],
    /// How packets to it are lost.
    pub loss: Loss,
    /// Its NAT.
    pub nat: NatClass,
}

/// Paths between regions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Paths {
    /// One-way delays, row by row.
    pub delay: Vec<Vec<Duration>>,
    /// Added to every delay: a share of it, uniform from 0 to this.
    pub jitter: f64,
}

/// Number of a host, in the order of joining.
pub(super) type HostId = usize;

pub(super) enum Command {
    Join {
        device: SyncDevice,
        attachment: Attachment,
        inner: Ipv4Addr,
        outer: Ipv4Addr,
    },
    Leave(HostId),
    SetLoss(HostId, Loss),
    /// Hosts in different groups don't reach one another; those in none reach everybody.
    SetGroup(HostId, Option<u8>),
    /// Answers with what went from these hosts to each.
    Read(Vec<HostId>, std::sync::mpsc::SyncSender<Counters>),
}

/// What the router has counted since it began.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By sender and receiver, for the senders asked for: what left the sender's interface.
    pub sent: HashMap<(usize, usize), Sent>,
    /// Per host.
    pub hosts: Vec<HostCounters>,
}

/// Bytes of IP packets from one host to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Over TCP: HTTP, here.
    pub tcp: u64,
    /// Over UDP: libp2p.
    pub udp: u64,
}

/// One host's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Bytes that left its interface.
    pub up_bytes: u64,
    /// Bytes that reached it.
    pub down_bytes: u64,
    /// Packets that reached it.
    pub down_packets: u64,
    /// Packets its uplink had no room for.
    pub up_dropped: u64,
    /// Packets its downlink had no room for.
    pub down_dropped: u64,
    /// Packets to it that were lost on their way.
    pub lost: u64,
    /// Packets to it that its NAT didn't let in.
    pub filtered: u64,
}

/// At most one round of work in this time.
const TICK: Duration = Duration::from_micros(250);
/// Looks for commands at least this often.
const IDLE: Duration = Duration::from_millis(10);
/// Packets read from one device before the others get a turn.
const BATCH: usize = 64;
/// Packets under way at most, all together: 300 MB. More are dropped like those that find a queue full.
const UNDER_WAY_MAX: usize = 200_000;
/// Larger than any packet: the devices' MTU is 1500.
const PACKET_MAX: usize = 2048;

struct Host {
    device: SyncDevice,
    region: usize,
    access: Duration,
    up: Shaper,
    down: Shaper,
    loss: Lossy,
    nat: Nat,
    inner: Ipv4Addr,
    outer: Ipv4Addr,
    group: Option<u8>,
}

/// Something due. The order of the heap: earliest first, then as they came.
struct Due {
    at: Duration,
    order: u64,
    to: HostId,
    packet: Box<[u8]>,
    /// Down the link already: what is left is to hand it over.
    through: bool,
}

struct Path {
    last_arrival: Duration,
    sent: Sent,
}

pub(super) struct Router {
    began: Instant,
    epoll: rustix::fd::OwnedFd,
    commands: Receiver<Command>,
    hosts: Vec<Option<Host>>,
    counters: Vec<HostCounters>,
    addresses: HashMap<Ipv4Addr, HostId>,
    paths: Paths,
    pairs: HashMap<(HostId, HostId), Path>,
    due: BinaryHeap<Due>,
    order: u64,
    rng: Rng,
    /// Doesn't share its draws with the paths, so that a NAT changes nobody's jitter.
    nat_rng: Rng,
}

impl Router {
    pub(super) fn new(paths: Paths, seed: u64, commands: Receiver<Command>) -> Result<Self> {
        Ok(Self {
            began: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?,
            commands,
            hosts: Vec::new(),
            counters: Vec::new(),
            addresses: HashMap::new(),
            paths,
            pairs: HashMap::new(),
            due: BinaryHeap::new(),
            order: 0,
            rng: Rng::new(seed),
            nat_rng: Rng::new(seed ^ 0x4e41_5400),
        })
    }

    /// Routes until nobody can command it any more.
    pub(super) fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            let woke = Instant::now();
            if !self.obey() {
                return Ok(());
            }
            self.deliver();
            let next = self.due.peek().map_or(IDLE, |due| due.at.saturating_sub(self.began.elapsed()).min(IDLE));
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(next.subsec_nanos()) };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for packets"),
            }
            for event in &events {
                self.read(event.data.u64() as HostId);
            }
            if let Some(rest) = TICK.checked_sub(woke.elapsed()) {
                pause(rest);
            }
        }
    }

    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Join { device, attachment, inner, outer }) => self.join(device, attachment, inner, outer),
                Ok(Command::Leave(host)) => self.leave(host),
                Ok(Command::SetLoss(host, loss)) => self.with(host, |host| host.loss.loss = loss),
                Ok(Command::SetGroup(host, group)) => self.with(host, |host| host.group = group),
                Ok(Command::Read(from, reply)) => {
                    let _ = reply.send(self.read_counters(&from));
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn join(&mut self, device: SyncDevice, attachment: Attachment, inner: Ipv4Addr, outer: Ipv4Addr) {
        let id = self.hosts.len();
        let data = epoll::EventData::new_u64(id as u64);
        if let Err(error) = epoll::add(&self.epoll, &device, data, epoll::EventFlags::IN) {
            tracing::error!(%error, "a device can't be waited for: its host stays silent");
        }
        self.addresses.insert(outer, id);
        self.counters.push(HostCounters::default());
        self.hosts.push(Some(Host {
            device,
            region: attachment.region,
            access: attachment.access,
            up: Shaper::new(attachment.up_bps, attachment.queue_bytes[0]),
            down: Shaper::new(attachment.down_bps, attachment.queue_bytes[1]),
            loss: Lossy::new(attachment.loss),
            nat: Nat::new(attachment.nat),
            inner,
            outer,
            group: None,
        }));
    }

    /// Its device goes with it, and what is under way to it leads nowhere.
    fn leave(&mut self, id: HostId) {
        if let Some(host) = self.hosts.get_mut(id).and_then(Option::take) {
            self.addresses.remove(&host.outer);
        }
    }

    fn with(&mut self, id: HostId, change: impl FnOnce(&mut Host)) {
        if let Some(host) = self.hosts.get_mut(id).and_then(Option::as_mut) {
            change(host);
        }
    }

    fn read_counters(&self, from: &[HostId]) -> Counters {
        let asked = self.pairs.iter().filter(|((sender, _), _)| from.contains(sender));
        Counters { sent: asked.map(|(pair, path)| (*pair, path.sent)).collect(), hosts: self.counters.clone() }
    }

    /// Takes what a host sent.
    fn read(&mut self, id: HostId) {
        let mut packet = [0; PACKET_MAX];
        for _ in 0..BATCH {
            let Some(Some(host)) = self.hosts.get(id) else { return };
            match host.device.recv(&mut packet) {
                Ok(length) => {
                    self.forward(id, &mut packet[..length]);
                }
                // Nothing more, or the device is going.
                Err(_) => return,
            }
        }
    }

    /// From a host into the network. `None`: it ends here.
    fn forward(&mut self, from: HostId, packet: &mut [u8]) -> Option<()> {
        let now = self.began.elapsed();
        let header = Header::of(packet)?;
        let to = *self.addresses.get(&header.destination)?;
        let host = self.hosts.get_mut(from)?.as_mut()?;
        if header.source != host.inner {
            return None;
        }
        if !host.nat.is_transparent() {
            let ports = header.ports?;
            let remote = header.destination()?;
            let port = host.nat.outbound(now, ports.transport, ports.source, remote, &mut self.nat_rng)?;
            packet::rewrite(packet, ports, End::Source, SocketAddrV4::new(host.outer, port));
        }
        let length = packet.len() as u64;
        let (region, access, group) = (host.region, host.access, host.group);
        let left = host.up.pass(now, packet.len());
        let pair = self.pairs.entry((from, to)).or_insert(Path { last_arrival: Duration::ZERO, sent: Sent::default() });
        match header.ports.map(|ports| ports.transport) {
            Some(Transport::Tcp) => pair.sent.tcp += length,
            Some(Transport::Udp) | None => pair.sent.udp += length,
        }
        let counters = self.counters.get_mut(from)?;
        counters.up_bytes += length;
        let Some(left) = left else {
            counters.up_dropped += 1;
            return None;
        };
        let receiver = self.hosts.get_mut(to)?.as_mut()?;
        let parted = group.zip(receiver.group).is_some_and(|(one, other)| one != other);
        if parted || receiver.loss.loses(&mut self.rng) {
            self.counters.get_mut(to)?.lost += 1;
            return None;
        }
        let base = *self.paths.delay.get(region)?.get(receiver.region)? + access + receiver.access;
        let delay = base.mul_f64(1.0 + self.paths.jitter * self.rng.unit());
        let at = (left + delay).max(pair.last_arrival);
        pair.last_arrival = at;
        self.schedule(at, to, packet.into(), false);
        Some(())
    }

    /// Everything whose time has come.
    fn deliver(&mut self) {
        let now = self.began.elapsed();
        while self.due.peek().is_some_and(|due| due.at <= now) {
            let Some(due) = self.due.pop() else { return };
            self.arrive(due);
        }
    }

    /// At the near end of a host's downlink, or at the far one.
    fn arrive(&mut self, mut due: Due) -> Option<()> {
        let host = self.hosts.get_mut(due.to)?.as_mut()?;
        let counters = self.counters.get_mut(due.to)?;
        if due.through {
            // A device that takes no more is a full receive queue: the packet is gone.
            if host.device.send(&due.packet).is_ok() {
                counters.down_bytes += due.packet.len() as u64;
                counters.down_packets += 1;
            }
            return Some(());
        }
        if !host.nat.is_transparent() {
            let header = Header::of(&due.packet)?;
            let allowed = header.ports.zip(header.source()).and_then(|(ports, source)| {
                Some((ports, host.nat.inbound(due.at, ports.transport, ports.destination, source)?))
            });
            let Some((ports, port)) = allowed else {
                counters.filtered += 1;
                return None;
            };
            packet::rewrite(&mut due.packet, ports, End::Destination, SocketAddrV4::new(host.inner, port));
        }
        let Some(at) = host.down.pass(due.at, due.packet.len()) else {
            counters.down_dropped += 1;
            return None;
        };
        self.schedule(at, due.to, due.packet, true);
        Some(())
    }

    fn schedule(&mut self, at: Duration, to: HostId, packet: Box<[u8]>, through: bool) {
        if self.due.len() < UNDER_WAY_MAX {
            self.order += 1;
            self.due.push(Due { at, order: self.order, to, packet, through });
        }
    }
}

/// `std::thread::sleep` would do the same; this one is allowed here, where nothing else runs on the thread.
fn pause(how_long: Duration) {
    let rest = Timespec { tv_sec: 0, tv_nsec: i64::from(how_long.subsec_nanos()) };
    let (NanosleepRelativeResult::Ok | NanosleepRelativeResult::Interrupted(_) | NanosleepRelativeResult::Err(_)) =
        rustix::thread::nanosleep(&rest);
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}
