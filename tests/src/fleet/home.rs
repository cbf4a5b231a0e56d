//! Where a fleet lives: its directory, the binaries it runs, the lifeline that ends it.

use std::{
    env, fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// The programs a fleet consists of.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub(super) starling: PathBuf,
    pub(super) hint_server: PathBuf,
}

/// Shared by the fleet and all its programs; the directory goes when the last of them went.
pub(super) struct Home {
    directory: PathBuf,
    binaries: Binaries,
    lifeline: Option<Lifeline>,
    temporary: Option<TempDir>,
}

impl Home {
    pub(super) fn temporary(binaries: Binaries) -> Result<Self> {
        let temporary =
            tempfile::Builder::new().prefix("starling-fleet-").tempdir().context("a directory for the run")?;
        let mut home = Self::guarded(temporary.path(), binaries)?;
        home.temporary = Some(temporary);
        Ok(home)
    }

    pub(super) fn guarded(directory: &Path, binaries: Binaries) -> Result<Self> {
        let mut home = Self::lasting(directory, binaries)?;
        home.lifeline = Some(Lifeline::start().context("sh, which guards the programs")?);
        Ok(home)
    }

    pub(super) fn lasting(directory: &Path, binaries: Binaries) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), binaries, lifeline: None, temporary: None })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The process group a new program joins; 0 makes one of its own.
    pub(super) fn process_group(&self) -> i32 {
        self.lifeline.as_ref().map_or(0, Lifeline::process_group)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.lifeline.take();
        if let Some(temporary) = &mut self.temporary
            && std::thread::panicking()
        {
            temporary.disable_cleanup(true);
            eprintln!("the fleet's logs stay in {}", temporary.path().display());
        }
    }
}

/// A shell that waits for the end of its input, which comes when its owner drops it or dies, and then kills its whole
/// process group: all programs of the fleet and itself.
struct Lifeline(Child);

impl Lifeline {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "read -r line; kill -KILL 0"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0).spawn().map(Self)
    }

    fn process_group(&self) -> i32 {
        i32::try_from(self.0.id()).expect("Linux process ids stay below 2^22")
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Binaries {
    /// Finds them in `STARLING_BIN_DIR`, or else beside the running program or one directory above (tests are one level
    /// deeper, in `target/<profile>/deps`).
    ///
    /// # Errors
    /// If one is missing; the message says what to do.
    pub fn find() -> Result<Self> {
        if let Some(directory) = env::var_os("STARLING_BIN_DIR") {
            return Self::within(&[Path::new(&directory)]);
        }
        let own = env::current_exe().context("the path of this program")?;
        Self::within(&own.ancestors().skip(1).take(2).collect::<Vec<_>>())
    }

    /// Takes each from the first of these directories that has it.
    ///
    /// # Errors
    /// As [`Binaries::find`].
    pub fn within(directories: &[&Path]) -> Result<Self> {
        let binary =
            |name: &str| match directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file()) {
                Some(path) => path.canonicalize().with_context(|| path.display().to_string()),
                None => bail!(
                    "{name} is not in {}: run `cargo build --workspace`, or say in STARLING_BIN_DIR where it is",
                    directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
                ),
            };
        Ok(Self { starling: binary("starling")?, hint_server: binary("starling-hint-server")? })
    }
}
