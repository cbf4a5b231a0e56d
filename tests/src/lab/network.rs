//! Hosts and the router between them, as the rest of the lab and tests use them.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command as Process, Stdio},
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, bail, ensure};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{
    link::Loss,
    nat::NatClass,
    router::{Attachment, Command, Counters, HostId, Paths, Router},
};
use crate::fleet::namespace::Namespace;

/// A network of hosts. Everything of it goes when it is dropped, and when its process dies of whatever cause.
pub struct Network {
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<Result<()>>>,
    router_thread: u32,
    real_time: bool,
    joined: usize,
}

/// A host: a namespace, and an address under which the others know it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Number, in the order of joining.
    pub id: usize,
    /// Where its programs run.
    pub namespace: Namespace,
    /// Outside of its NAT, if it has one.
    pub address: Ipv4Addr,
}

/// The name of every host's interface.
pub const INTERFACE: &str = "net0";

/// Commands that wait for the router: it takes them every few milliseconds.
const COMMANDS: usize = 64;
/// Hosts of one network, over all its time.
const HOSTS_MAX: usize = 60_000;
/// 198.18.0.0/15 is for networks under test (RFC 2544). The first few thousand addresses are enough.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Behind a NAT every home has the same.
const HOME_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
/// The lowest that goes before everything ordinary is enough.
const REAL_TIME_PRIORITY: &str = "1";

impl Network {
    /// What this machine lacks for a network, as a sentence that says what to do; `None` if nothing.
    pub fn missing() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("making network namespaces needs root: run this as root or with sudo".into());
        }
        if !Path::new("/dev/net/tun").exists() {
            return Some("there is no /dev/net/tun: load the kernel module (modprobe tun), or pass the device into the container".into());
        }
        if let Err(error) = Process::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status() {
            return Some(format!("the program ip can't be run ({error}): install iproute2"));
        }
        match Namespace::new() {
            Ok(_) => None,
            Err(error) => Some(format!("no network namespace is to be had ({error}): this needs CAP_SYS_ADMIN")),
        }
    }

    /// A network without hosts. Everything random in it follows from `seed`.
    ///
    /// # Errors
    /// With [`Network::missing`], if something is.
    pub fn new(paths: Paths, seed: u64) -> Result<Self> {
        if let Some(missing) = Self::missing() {
            bail!(missing);
        }
        let (commands, received) = sync_channel(COMMANDS);
        let (id, thread_id) = sync_channel(1);
        let router = Router::new(paths, seed, received)?;
        let thread = std::thread::Builder::new().name("router".into()).spawn(move || {
            let _ = id.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
            router.run()
        })?;
        let router_thread = thread_id.recv().context("the router's thread")?;
        let real_time = is_real_time(router_thread);
        Ok(Self { commands: Some(commands), thread: Some(thread), router_thread, real_time, joined: 0 })
    }

    /// Whether the router goes before ordinary programs. If not, delays grow with the load of the machine.
    pub fn is_real_time(&self) -> bool {
        self.real_time
    }

    /// The router's thread, for its CPU time.
    pub fn router_thread(&self) -> u32 {
        self.router_thread
    }

    /// Adds a host.
    ///
    /// # Errors
    /// If no namespace or device is to be had, or `ip` refuses.
    pub fn join(&mut self, attachment: Attachment) -> Result<Host> {
        ensure!(self.joined < HOSTS_MAX, "this network has had {HOSTS_MAX} hosts; no more fit");
        let id = self.joined;
        let address = Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + id as u32);
        let inner = if attachment.nat == NatClass::None { address } else { HOME_ADDRESS };
        let namespace = Namespace::new().context("a network namespace")?;
        let device = namespace.enter(move || device(inner))?.context("a TUN device")?;
        self.command(Command::Join { device, attachment, inner, outer: address })?;
        self.counters(&[])?; // until the router knows it, packets to it end nowhere
        self.joined += 1;
        Ok(Host { id, namespace, address })
    }

    /// Takes a host's link away. Programs on it live on, alone.
    ///
    /// # Errors
    /// If the router has ended.
    pub fn leave(&self, host: HostId) -> Result<()> {
        self.command(Command::Leave(host))
    }

    /// Changes how packets to a host are lost.
    ///
    /// # Errors
    /// If the router has ended.
    pub fn set_loss(&self, host: HostId, loss: Loss) -> Result<()> {
        self.command(Command::SetLoss(host, loss))
    }

    /// Puts a host on one side of a partition: hosts of different groups don't reach one another, those of none
    /// (`None`) reach everybody.
    ///
    /// # Errors
    /// If the router has ended.
    pub fn set_group(&self, host: HostId, group: Option<u8>) -> Result<()> {
        self.command(Command::SetGroup(host, group))
    }

    /// What was counted so far; pairs only for these senders. All that was commanded before is in force when this returns;
    /// without it, a few milliseconds later.
    ///
    /// # Errors
    /// If the router has ended.
    pub fn counters(&self, senders: &[HostId]) -> Result<Counters> {
        let (reply, counters) = sync_channel(1);
        self.command(Command::Read(senders.to_vec(), reply))?;
        counters.recv().context("the router has ended")
    }

    fn command(&self, command: Command) -> Result<()> {
        self.commands.as_ref().and_then(|commands| commands.send(command).ok()).context("the router has ended")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the router failed: {error:#}");
        }
    }
}

impl Host {
    /// Its address, for things that take any.
    pub fn ip(&self) -> IpAddr {
        self.address.into()
    }
}

/// Called inside the namespace: its only way out.
fn device(address: Ipv4Addr) -> Result<SyncDevice> {
    let device = DeviceBuilder::new().name(INTERFACE).build_sync()?;
    device.set_nonblocking(true)?;
    // IPv6 would only chatter: nobody routes it.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    ip(&format!(
        "link set lo up\n\
         link set {INTERFACE} mtu 1500 txqueuelen 1000 up\n\
         address add {address}/32 dev {INTERFACE}\n\
         route add default dev {INTERFACE}\n"
    ))?;
    Ok(device)
}

fn ip(commands: &str) -> Result<()> {
    let mut ip = Process::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut ip = ip.spawn().context("running ip")?;
    ip.stdin.take().context("ip's input")?.write_all(commands.as_bytes())?;
    let output = ip.wait_with_output()?;
    ensure!(output.status.success(), "ip refused: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn is_real_time(thread: u32) -> bool {
    let mut chrt = Process::new("chrt");
    chrt.args(["--fifo", "--pid", REAL_TIME_PRIORITY, &thread.to_string()]);
    chrt.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
