//! The network lab holds what it promises: distances, rates, loss and NATs measured with real sockets, a run in which the
//! viewers carry the stream, and nothing left behind.

#[path = "lab/network.rs"]
mod network;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use starling_tests::lab::network::Network;

/// No run here takes as long, on any machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Says why and returns `true` if this machine can't have a network of ours.
fn skipped() -> bool {
    let missing = Network::missing();
    if let Some(missing) = &missing {
        eprintln!("SKIPPED: {missing}");
    }
    missing.is_some()
}

#[test]
fn viewers_carry_a_quiet_stream_and_nothing_stays() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let (json, page) = (place.path().join("quiet.json"), place.path().join("quiet.html"));
    let mut lab = lab(place.path());
    lab.args(["quiet", "--viewers", "6", "--seconds", "15", "--seed", "3", "--direct", "--json"]).arg(&json);
    let output = lab.output()?;
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(json.is_file(), "no figures: {told}");
    let figures: Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
    // Exit code 1 would be a target of the scenario missed, told in `missed`.
    ensure!(output.status.success(), "{}: {told}", figures["missed"]);
    ensure!(figures["failed_players"] == 0 && figures["direct"]["failed_players"] == 0, "not everybody played: {told}");
    let offload = figures["offload"].as_f64().context("offload")?;
    ensure!((0.5..=1.0).contains(&offload), "offload {offload}: {told}");
    // Six players at 1.1 Mbit/s straight at the origin, counted on its interface: a count that misses one is caught.
    let seconds = figures["seconds"].as_f64().context("seconds")?;
    let direct = figures["origin"]["direct_bytes"].as_f64().context("direct bytes")?;
    ensure!(
        (0.7..1.6).contains(&(direct / (6.0 * 1.1e6 / 8.0 * seconds))),
        "direct players took {direct} bytes: {told}"
    );
    let origin = &figures["origin"];
    let told_apart: f64 = ["viewers_http_bytes", "viewers_libp2p_bytes", "direct_bytes"]
        .iter()
        .filter_map(|key| origin[key].as_f64())
        .sum();
    let interface = origin["interface_bytes"].as_f64().context("interface bytes")?;
    ensure!((0.9..1.1).contains(&(told_apart / interface)), "router and kernel count differently: {origin}");
    let page = fs::read_to_string(&page)?;
    ensure!(page.contains("<svg") && page.contains("Lag at the playhead"), "the page is empty");
    nothing_stays(place.path())
}

#[test]
fn a_killed_lab_takes_everything_along_and_the_next_one_clears_up() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let quiet = ["quiet", "--viewers", "2", "--seconds", "600"];
    let mut killed = lab(place.path()).args(quiet).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    until("viewers run", || Ok(programs(place.path()).len() >= 4))?;
    let pid = Pid::from_child(&killed);
    kill_process(pid, Signal::KILL)?;
    killed.wait()?;
    until("its programs are gone", || Ok(programs(place.path()).is_empty()))?;
    let left = runs(place.path())?;
    ensure!(left.len() == 1, "a killed lab can't remove its directory, so this test would see nothing: {left:?}");

    let mut ended = lab(place.path()).args(quiet).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    until("viewers run again", || Ok(programs(place.path()).len() >= 4))?;
    ensure!(!left[0].exists(), "{} is still there", left[0].display());
    kill_process(Pid::from_child(&ended), Signal::TERM)?;
    let status = ended.wait()?;
    ensure!(status.code() == Some(130), "told to end, it ends with {status}");
    nothing_stays(place.path())
}

/// The lab, with a place of its own for everything temporary, by which its programs are known.
fn lab(place: &Path) -> Command {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.env("TMPDIR", place);
    lab
}

fn nothing_stays(place: &Path) -> Result<()> {
    until("all programs are gone", || Ok(programs(place).is_empty()))?;
    ensure!(runs(place)?.is_empty(), "left behind: {:?}", runs(place)?);
    // A namespace without a process or name doesn't exist; a device of ours outside of one would be a stray.
    let devices = fs::read_to_string("/proc/net/dev")?;
    ensure!(!devices.contains("net0:"), "a device stayed: {devices}");
    Ok(())
}

/// Directories of runs.
fn runs(place: &Path) -> Result<Vec<PathBuf>> {
    let mut runs = Vec::new();
    for labs in
        fs::read_dir(place)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("starling-lab-"))
    {
        if labs.path().is_dir() {
            runs.extend(fs::read_dir(labs.path())?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
    }
    Ok(runs)
}

/// Processes that know the place by their command line: all the lab starts get a data directory or a report file in it.
fn programs(place: &Path) -> Vec<u32> {
    let place = place.display().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ended = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        !ended && String::from_utf8_lossy(&command).contains(&place)
    })
    .collect()
}

fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > give_up {
            bail!("waited {PATIENCE:?} in vain until {what}");
        }
        #[expect(clippy::disallowed_methods, reason = "nothing else runs on this thread")]
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
