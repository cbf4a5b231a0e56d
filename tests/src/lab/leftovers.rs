//! Where runs of the lab keep their logs, and what a run that died left behind.
//!
//! Namespaces and devices have no names and go with their processes, and the processes go with the lab (see
//! [`Fleet::guarded`](crate::fleet::Fleet::guarded)). What can stay is a directory, and, if even the guard was killed,
//! programs: they are known by their output, which goes to files in that directory.

use std::{
    env,
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::fleet::proc_fs;

/// A directory for one run, removed with this value. Locked as long as the run lives, however it ends.
pub(super) struct RunDirectory {
    directory: TempDir,
    _lock: File,
}

const LOCK: &str = "lock";
const PREFIX: &str = "run-";

impl RunDirectory {
    /// Clears what dead runs left and makes a directory for this one.
    pub(super) fn new() -> Result<Self> {
        let runs = env::temp_dir().join(format!("starling-lab-{}", proc_fs::user()));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&runs)
            .with_context(|| format!("making {}", runs.display()))?;
        // One at a time: a directory that isn't locked yet must not be taken for a dead one's.
        let door = File::create(runs.join(LOCK))?;
        door.lock().context("waiting for another run to begin")?;
        clear(&runs)?;
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&runs).context("a directory for the run")?;
        let lock = File::create(directory.path().join(LOCK))?;
        lock.lock().context("locking the run's directory")?;
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Lets it stay, for its logs.
    pub(super) fn keep(&mut self) {
        let _ = fs::remove_file(self.path().join(LOCK));
        self.directory.disable_cleanup(true);
    }
}

fn clear(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs).with_context(|| runs.display().to_string())?.flatten() {
        let run = entry.path();
        // One that was kept on purpose has no lock any more.
        let Ok(lock) = File::open(run.join(LOCK)) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let left = programs_of(&run);
        for pid in &left {
            let _ = proc_fs::kill(*pid);
        }
        eprintln!("clearing up after a run that died: {} with {} programs", run.display(), left.len());
        fs::remove_dir_all(&run).with_context(|| format!("removing {}", run.display()))?;
    }
    Ok(())
}

/// Processes whose output goes into this directory.
fn programs_of(run: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|pid: &u32| {
        let output: Option<PathBuf> = fs::read_link(format!("/proc/{pid}/fd/1")).ok();
        output.is_some_and(|output| output.starts_with(run))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_dead_run_is_cleared_with_its_programs_and_a_living_one_is_not() {
        let runs = tempfile::tempdir().unwrap();
        let run = |name: &str| {
            let run = runs.path().join(name);
            fs::create_dir(&run).unwrap();
            (File::create(run.join(LOCK)).unwrap(), run)
        };
        let (living, living_run) = run("run-a");
        living.lock().unwrap();
        let (dead, dead_run) = run("run-b");
        drop(dead);
        let output = File::create(dead_run.join("x.out")).unwrap();
        let mut program = Command::new("sleep").arg("600").stdout(output).stderr(Stdio::null()).spawn().unwrap();
        clear(runs.path()).unwrap();
        assert!(!program.wait().unwrap().success());
        assert!(living_run.exists() && !dead_run.exists());
    }
}
