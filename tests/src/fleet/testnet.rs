//! `scripts/testnet`: a swarm on loopback that runs on in the background, looked after by one command at a time.
//!
//! What runs is written down in `testnet.json` in the swarm's directory, each process with its id and start time, so
//! that a later command signals this swarm's processes and no others.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{
    Binaries, BroadcastOptions, Common, Fleet, Program, READY_WITHIN, SEGMENTS_FOR_PLAYERS, WatchOptions, http, probe,
    proc_fs,
    table::{Row, Table},
};

/// How long the processes may take to end when asked, before they are killed.
const END_WITHIN: Duration = Duration::from_secs(5);

const STATE_FILE: &str = "testnet.json";

/// A swarm's directory and what it says.
pub struct Testnet {
    directory: PathBuf,
    state: State,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct State {
    link: String,
    hls: String,
    status_page: String,
    /// Hint server and broadcaster.
    servers: Vec<Process>,
    viewers: Vec<Member>,
    /// Viewers there ever were: numbers aren't used again.
    numbered: usize,
}

#[derive(Debug, Deserialize, Serialize)]
struct Member {
    number: usize,
    page: String,
    node: Process,
    player: Process,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Process {
    name: String,
    pid: u32,
    /// In clock ticks since boot, see [`proc_fs::started`].
    started: u64,
}

/// `$XDG_RUNTIME_DIR/starling-testnet`, or `starling-testnet-<user number>` where temporary files go.
pub fn default_directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) => Path::new(&runtime).join("starling-testnet"),
        None => std::env::temp_dir().join(format!("starling-testnet-{}", proc_fs::user())),
    }
}

impl Testnet {
    /// Starts a swarm; it runs on when this returns. If it can't be started whole, nothing is left.
    ///
    /// # Errors
    /// If one is up in this directory already, the directory holds something else, or a program doesn't start.
    pub async fn up(directory: &Path, viewers: usize, binaries: Binaries) -> Result<Self> {
        if let Some(testnet) = Self::read(directory)? {
            ensure!(
                !testnet.state.is_alive(),
                "a testnet is up in {}: take it down first, or give another --dir",
                directory.display()
            );
            testnet.down().await?;
        }
        ensure!(is_empty(directory)?, "{} holds other things: give another --dir", directory.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("making {}", directory.display()))?;
        let mut testnet = Self { directory: directory.to_owned(), state: State::default() };
        // From here on the directory is known as ours, whatever happens.
        testnet.write()?;
        match testnet.raise(viewers, binaries).await {
            Ok(()) => Ok(testnet),
            Err(error) => {
                testnet.down().await?;
                Err(error)
            }
        }
    }

    /// The swarm that is up in this directory.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::read(directory)?
            .with_context(|| format!("no testnet is up in {}: `testnet up` starts one", directory.display()))
    }

    /// Adds viewers, each with a player.
    ///
    /// # Errors
    /// If one doesn't start; those before it stay.
    pub async fn add(&mut self, viewers: usize, binaries: Binaries) -> Result<()> {
        let fleet = Fleet::lasting(&self.directory, binaries)?;
        for _ in 0..viewers {
            let number = self.state.numbered + 1;
            let options = WatchOptions { common: Common::named(format!("viewer-{number}")), ..WatchOptions::default() };
            let viewer = fleet.watch(&self.state.link, &options).await?;
            let player = fleet.probe(&viewer.playlist, None, &Common::named(format!("player-{number}")))?.program;
            let (node, page) = (Process::of(&viewer.program)?, viewer.player.clone());
            self.state.viewers.push(Member { number, page, node, player: Process::of(&player)? });
            self.state.numbered = number;
            self.write()?;
            viewer.program.detach();
            player.detach();
        }
        Ok(())
    }

    /// Kills a viewer and its player as a crash would, without a word.
    ///
    /// # Errors
    /// If there is no viewer of that number.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        let Some(index) = self.state.viewers.iter().position(|viewer| viewer.number == number) else {
            let numbers: Vec<String> = self.state.viewers.iter().map(|viewer| viewer.number.to_string()).collect();
            bail!("there is no viewer {number}; there are {}", numbers.join(", "));
        };
        let viewer = self.state.viewers.remove(index);
        viewer.node.kill()?;
        viewer.player.kill()?;
        self.write()
    }

    /// What is up, for people. What doesn't answer is shown as such.
    pub async fn status(&self) -> String {
        let servers: Vec<String> = self.state.servers.iter().map(Process::line).collect();
        let table = Table(join_all(self.state.viewers.iter().map(|viewer| self.row(viewer))).await);
        let pages: Vec<String> =
            self.state.viewers.iter().map(|viewer| format!("{:<12}{}", viewer.node.name, viewer.page)).collect();
        format!(
            "share link    {}\nwithout peers {}\nstatus page   {}\nlogs          {}\n\n{}\n\n{table}{}\n\nplayer pages:\n{}",
            self.state.link,
            self.state.hls,
            self.state.status_page,
            self.directory.display(),
            servers.join("\n"),
            table.line(),
            pages.join("\n")
        )
    }

    /// Ends everything and removes the directory.
    ///
    /// # Errors
    /// If a process can't be signalled or the directory can't be removed.
    pub async fn down(self) -> Result<()> {
        for end in [Process::terminate, Process::kill] {
            for process in self.state.processes() {
                end(process)?;
            }
            let give_up = Instant::now() + END_WITHIN;
            while self.state.is_alive() && Instant::now() < give_up {
                sleep(Duration::from_millis(20)).await;
            }
        }
        fs::remove_dir_all(&self.directory).with_context(|| format!("removing {}", self.directory.display()))
    }

    async fn raise(&mut self, viewers: usize, binaries: Binaries) -> Result<()> {
        let fleet = Fleet::lasting(&self.directory, binaries.clone())?;
        let hint = fleet.hint_server(&Common::named("hint-server")).await?;
        let options = BroadcastOptions {
            common: Common::named("broadcaster"),
            stream: "testnet".to_owned(),
            hints: vec![hint.hint.clone()],
            ..BroadcastOptions::default()
        };
        let broadcast = fleet.broadcast("test", &options).await?;
        self.state = State {
            link: broadcast.link.clone(),
            hls: broadcast.hls.clone(),
            status_page: hint.http.clone(),
            servers: vec![Process::of(&hint.program)?, Process::of(&broadcast.program)?],
            ..State::default()
        };
        self.write()?;
        broadcast.on_air(SEGMENTS_FOR_PLAYERS, READY_WITHIN).await?;
        hint.program.detach();
        broadcast.program.detach();
        self.add(viewers, binaries).await
    }

    async fn row(&self, viewer: &Member) -> Row {
        let state = probe::state_in(&self.directory.join(format!("{}.log", viewer.player.name)));
        Row {
            name: viewer.node.name.clone(),
            player: if viewer.player.is_alive() {
                state.unwrap_or_else(|| "starting".to_owned())
            } else {
                "ended".to_owned()
            },
            stats: http::stats(&viewer.page).await.ok(),
        }
    }

    fn read(directory: &Path) -> Result<Option<Self>> {
        let file = directory.join(STATE_FILE);
        match fs::read_to_string(&file) {
            Ok(json) => {
                let state = serde_json::from_str(&json).with_context(|| format!("{} is damaged", file.display()))?;
                Ok(Some(Self { directory: directory.to_owned(), state }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    fn write(&self) -> Result<()> {
        let file = self.directory.join(STATE_FILE);
        // Whole or not at all: a command that is interrupted must not leave processes nobody knows.
        let unfinished = file.with_extension("new");
        fs::write(&unfinished, serde_json::to_string_pretty(&self.state)?)?;
        fs::rename(&unfinished, &file).with_context(|| format!("writing {}", file.display()))
    }
}

impl State {
    fn processes(&self) -> impl Iterator<Item = &Process> {
        // Players first: a player that loses its node complains.
        let viewers =
            self.viewers.iter().map(|viewer| &viewer.player).chain(self.viewers.iter().map(|viewer| &viewer.node));
        viewers.chain(&self.servers)
    }

    fn is_alive(&self) -> bool {
        self.processes().any(Process::is_alive)
    }
}

impl Process {
    fn of(program: &Program) -> Result<Self> {
        let started = proc_fs::started(program.pid())
            .with_context(|| format!("{} has ended{}", program.name(), program.log_tail()))?;
        Ok(Self { name: program.name().to_owned(), pid: program.pid(), started })
    }

    fn is_alive(&self) -> bool {
        proc_fs::started(self.pid) == Some(self.started)
    }

    fn terminate(&self) -> io::Result<()> {
        if self.is_alive() { proc_fs::terminate(self.pid) } else { Ok(()) }
    }

    fn kill(&self) -> io::Result<()> {
        if self.is_alive() { proc_fs::kill(self.pid) } else { Ok(()) }
    }

    fn line(&self) -> String {
        format!("{:<12} {}", self.name, if self.is_alive() { "runs" } else { "has ended" })
    }
}

fn is_empty(directory: &Path) -> Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("reading {}", directory.display())),
    }
}
