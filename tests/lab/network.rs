//! The router, measured with real sockets between namespaces. Tolerances are wide: the machine may be busy. Each test can
//! fail all the same, because what it expects is far from what a wrong router would do.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use starling_tests::lab::{
    link::Loss,
    nat::NatClass,
    network::{Host, Network},
    router::{Attachment, Paths},
};

use super::skipped;

/// A good link in the first region.
const GOOD: Attachment = Attachment {
    region: 0,
    access: Duration::ZERO,
    up_bps: 1e9,
    down_bps: 1e9,
    queue_bytes: [4_000_000, 4_000_000],
    loss: Loss::None,
    nat: NatClass::None,
};
/// A packet that isn't there after this long, on a path of milliseconds, doesn't come.
const NEVER: Duration = Duration::from_millis(700);
/// How long one that must come may take.
const SOON: Duration = Duration::from_secs(20);
const PORT: u16 = 4001;

fn network() -> Result<Network> {
    let ms = Duration::from_millis;
    Network::new(Paths { delay: vec![vec![ms(1), ms(50)], vec![ms(50), ms(1)]], jitter: 0.0 }, 1)
}

/// A socket on a host.
fn socket(host: &Host, port: u16) -> Result<UdpSocket> {
    let socket = host.namespace.enter(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))??;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, within: Duration) -> Result<Option<(usize, SocketAddrV4)>> {
    socket.set_read_timeout(Some(within))?;
    match socket.recv_from(&mut [0; 2048]) {
        Ok((length, SocketAddr::V4(from))) => Ok(Some((length, from))),
        Ok((_, SocketAddr::V6(_))) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn distance_and_access_make_the_delay() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut network = network()?;
    let near = network.join(GOOD)?;
    let far = network.join(Attachment { region: 1, access: Duration::from_millis(10), ..GOOD })?;
    let (here, there) = (socket(&near, PORT)?, socket(&far, PORT)?);
    let mut one_way = Vec::new();
    for _ in 0..20 {
        let sent = Instant::now();
        here.send_to(b"ping", (far.address, PORT))?;
        receive(&there, SOON)?.context("the packet must arrive")?;
        one_way.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    one_way.sort_by(f64::total_cmp);
    // 50 ms of path and 10 of access. The quickest tells the router's delay, the others the machine's load.
    ensure!((59.5..75.0).contains(&one_way[0]), "the quickest took {} ms", one_way[0]);
    ensure!(one_way[10] < 150.0, "half took more than {} ms", one_way[10]);
    Ok(())
}

#[test]
fn a_link_has_its_rate_and_a_bounded_queue() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut network = network()?;
    let slow = network.join(Attachment { up_bps: 2e6, queue_bytes: [50_000, 50_000], ..GOOD })?;
    let fast = network.join(GOOD)?;
    let (from, to) = (socket(&slow, PORT)?, socket(&fast, PORT)?);
    // 200 packets of 1,028 bytes at once: what the queue holds gets through, at 2 Mbit/s.
    for _ in 0..200 {
        from.send_to(&[0; 1000], (fast.address, PORT))?;
    }
    receive(&to, SOON)?.context("the first packet")?;
    let first = Instant::now();
    let (mut arrived, mut last) = (1, first);
    while receive(&to, NEVER)?.is_some() {
        (arrived, last) = (arrived + 1, Instant::now());
    }
    ensure!(
        (40..=80).contains(&arrived),
        "{arrived} of 200 got through; the queue holds 48 beside what leaves meanwhile"
    );
    let rate = f64::from(arrived - 1) * 1028.0 * 8.0 / (last - first).as_secs_f64();
    ensure!((1.5e6..2.6e6).contains(&rate), "{rate} bit/s");
    let host = network.counters(&[slow.id])?;
    ensure!(host.hosts[slow.id].up_dropped == 200 - arrived as u64, "{:?}", host.hosts[slow.id]);
    ensure!(host.sent[&(slow.id, fast.id)].udp == 200 * 1028, "{:?}", host.sent);
    Ok(())
}

#[test]
fn packets_are_lost_as_often_as_asked_and_partitions_lose_all() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut network = network()?;
    let sender = network.join(GOOD)?;
    let receiver = network.join(Attachment { loss: Loss::Random(0.2), ..GOOD })?;
    let (from, to) = (socket(&sender, PORT)?, socket(&receiver, PORT)?);
    let arrive = |count: u32| -> Result<u32> {
        let mut arrived = 0;
        for sent in 1..=count {
            from.send_to(b"x", (receiver.address, PORT))?;
            // In small lots, so that nothing is lost for want of room.
            if sent % 100 == 0 {
                while receive(&to, Duration::from_millis(150))?.is_some() {
                    arrived += 1;
                }
            }
        }
        Ok(arrived)
    };
    let arrived = arrive(2000)?;
    // 1,600 expected; five standard deviations are 90.
    ensure!((1500..=1700).contains(&arrived), "{arrived} of 2000 arrived with a loss of 20 %");
    network.set_loss(receiver.id, Loss::None)?;
    network.set_group(sender.id, Some(0))?;
    network.set_group(receiver.id, Some(1))?;
    network.counters(&[])?;
    ensure!(arrive(100)? == 0, "something crosses a partition");
    network.set_group(receiver.id, Some(0))?;
    network.counters(&[])?;
    ensure!(arrive(100)? == 100, "something is lost without loss and partition");
    Ok(())
}

/// A host behind a NAT, and two outside.
struct Behind {
    /// Keeps the router.
    _network: Network,
    inside: UdpSocket,
    alice: UdpSocket,
    alice_at: SocketAddrV4,
    bob: UdpSocket,
    bob_at: SocketAddrV4,
    /// As Alice saw it when the host sent to her.
    seen_by_alice: SocketAddrV4,
}

impl Behind {
    fn new(nat: NatClass) -> Result<Self> {
        let mut network = network()?;
        let home = network.join(Attachment { nat, ..GOOD })?;
        let (alice_host, bob_host) = (network.join(GOOD)?, network.join(GOOD)?);
        let inside = socket(&home, PORT)?;
        let (alice, bob) = (socket(&alice_host, 5001)?, socket(&bob_host, 5002)?);
        let alice_at = SocketAddrV4::new(alice_host.address, 5001);
        let bob_at = SocketAddrV4::new(bob_host.address, 5002);
        // Nothing was sent yet: nobody gets in.
        alice.send_to(b"early", (home.address, PORT))?;
        ensure!(receive(&inside, NEVER)?.is_none(), "{nat:?} lets in who was never sent to");
        inside.send_to(b"hello", alice_at)?;
        let (_, seen_by_alice) = receive(&alice, SOON)?.context("the way out is open")?;
        ensure!(*seen_by_alice.ip() == home.address, "{nat:?} shows {seen_by_alice}, not {}", home.address);
        alice.send_to(b"answer", seen_by_alice)?;
        let (_, from) = receive(&inside, SOON)?.context("an answer gets in")?;
        ensure!(from == alice_at, "the answer seems to come from {from}");
        Ok(Self { _network: network, inside, alice, alice_at, bob, bob_at, seen_by_alice })
    }

    /// Whether Bob, to whom nothing was sent, gets in where Alice does.
    fn stranger_gets_in(&self) -> Result<bool> {
        self.bob.send_to(b"stranger", self.seen_by_alice)?;
        Ok(receive(&self.inside, NEVER)?.is_some())
    }

    /// As Bob sees the host once it sends to him.
    fn seen_by_bob(&self) -> Result<SocketAddrV4> {
        self.inside.send_to(b"hello", self.bob_at)?;
        Ok(receive(&self.bob, SOON)?.context("the way out is open")?.1)
    }
}

#[test]
fn a_full_cone_keeps_its_mapping_and_lets_strangers_in() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let behind = Behind::new(NatClass::FullCone)?;
    ensure!(behind.stranger_gets_in()?, "a full cone must let a stranger in");
    ensure!(behind.seen_by_bob()? == behind.seen_by_alice, "the mapping must not depend on the destination");
    Ok(())
}

#[test]
fn a_port_restricted_nat_keeps_its_mapping_and_keeps_strangers_out() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let behind = Behind::new(NatClass::PortRestricted)?;
    ensure!(!behind.stranger_gets_in()?, "a stranger got in");
    ensure!(behind.seen_by_bob()? == behind.seen_by_alice, "the mapping must not depend on the destination");
    ensure!(behind.stranger_gets_in()?, "who was sent to must get in");
    Ok(())
}

#[test]
fn a_symmetric_nat_maps_every_destination_anew() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let behind = Behind::new(NatClass::Symmetric)?;
    ensure!(!behind.stranger_gets_in()?, "a stranger got in");
    ensure!(behind.seen_by_bob()? != behind.seen_by_alice, "every destination must see another port");
    ensure!(!behind.stranger_gets_in()?, "Bob got in by Alice's port");
    behind.alice.send_to(b"again", behind.seen_by_alice)?;
    let (_, from) = receive(&behind.inside, SOON)?.context("Alice still gets in")?;
    ensure!(from == behind.alice_at, "from {from}");
    Ok(())
}
