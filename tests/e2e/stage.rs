//! What every test stands on: the fleet, the machine to itself, free ports, waiting for events, a clean end.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use futures::future::join_all;
use starling_tests::fleet::{Binaries, Common, Fleet, Program};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

/// How long anything may take that isn't measured: two busy cores run some twenty programs at a time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program may take from SIGTERM to its end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Under `cargo test` tests are threads of one process. Under nextest each is a process, and the configuration keeps
/// swarms apart.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// Waits until no other test runs: whoever demands that no player stalls can't share two cores.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock().await
}

/// An empty fleet of the programs built last.
pub(crate) fn fleet() -> Fleet {
    let binaries = Binaries::find()
        .unwrap_or_else(|error| panic!("{error:#}\nThese tests run real programs: `cargo build --workspace --bins`"));
    Fleet::new(binaries).unwrap()
}

/// Calls `attempt` until it has something, every 100 ms; panics with what it said last when patience is at its end.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(it) => return it,
            Err(instead) => assert!(Instant::now() < give_up, "{what}: not within {PATIENCE:?}; {instead}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Ends all of these at the same time, by SIGTERM: each must go in time, with exit code 0.
pub(crate) async fn all_end(programs: impl IntoIterator<Item = &mut Program>) {
    join_all(programs.into_iter().map(ends)).await;
}

/// Ends it by SIGTERM: it must go in time, with exit code 0.
pub(crate) async fn ends(program: &mut Program) {
    let asked = Instant::now();
    let status = program.terminate(PATIENCE).await.unwrap();
    let took = asked.elapsed();
    assert!(status.success(), "{} ended with {status}:\n{}", program.name(), program.log());
    assert!(took <= END_WITHIN, "{} took {took:?} to end", program.name());
}

/// No program of the fleet may ever have panicked.
pub(crate) fn nobody_panicked(fleet: &Fleet) {
    for entry in std::fs::read_dir(fleet.directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!log.contains("panicked"), "{}:\n{log}", path.display());
        }
    }
}

/// A port that is free for TCP and UDP on loopback. It lies below those that systems give out by themselves (from 32768
/// up on Linux), so that it is still free when a program is started on it again.
pub(crate) fn free_port() -> u16 {
    let seed = RandomState::new().hash_one(std::process::id());
    let candidates = (0..u64::from(u16::MAX)).map(|n| 15_000 + ((seed.wrapping_add(n)) % 15_000) as u16);
    let free =
        |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    candidates.into_iter().find(free).expect("one of 15,000 ports is free")
}

/// Where a program can be found again after a restart.
pub(crate) struct Address {
    listen: String,
    http: String,
}

impl Address {
    /// On ports that are free.
    pub(crate) fn free() -> Self {
        let (listen, http) = (free_port(), free_port());
        Self { listen: format!("/ip4/127.0.0.1/udp/{listen}/quic-v1"), http: format!("127.0.0.1:{http}") }
    }

    /// Options of the program of that name: it finds its keys again, too.
    pub(crate) fn of(&self, name: &str) -> Common {
        Common { listen: Some(self.listen.clone()), http: Some(self.http.clone()), ..Common::named(name) }
    }
}
