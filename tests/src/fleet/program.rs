//! One process: started, waited for until it is ready, watched, stopped.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use super::{
    Common,
    home::Home,
    namespace::Namespace,
    proc_fs::{self, Usage},
};

/// A running process with its output in files. Dropping it kills it.
pub struct Program {
    name: String,
    pid: u32,
    child: Child,
    output: PathBuf,
    log: PathBuf,
    detached: bool,
    _home: Arc<Home>,
}

impl Program {
    /// Its name within the fleet.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// CPU time and memory so far.
    ///
    /// # Errors
    /// If it has ended.
    pub fn usage(&self) -> Result<Usage> {
        proc_fs::usage(self.pid).with_context(|| format!("{} (process {}) has ended", self.name, self.pid))
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// If the system doesn't tell.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Ends it at once, as a crash would (SIGKILL).
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// If it is still there after `within`.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        if self.is_running()? {
            proc_fs::terminate(self.pid)?;
        }
        self.wait(within).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it is still there after `within`.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        match timeout(within, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("{} still runs after {within:?}{}", self.name, self.log_tail()),
        }
    }

    /// Waits until it has printed a `key value` line for each of `keys`; the values, in that order.
    ///
    /// # Errors
    /// If it ends or `within` passes before that.
    pub async fn ready(&mut self, keys: &[&str], within: Duration) -> Result<Vec<String>> {
        let give_up = Instant::now() + within;
        loop {
            // Looked at before the output: what it printed last is then surely in the file.
            let ended = self.child.try_wait()?;
            let output = self.output();
            let values: Vec<String> = keys.iter().map_while(|key| value_of(&output, key)).collect();
            if values.len() == keys.len() {
                return Ok(values);
            }
            let missing = keys[values.len()];
            if let Some(status) = ended {
                return Err(anyhow!("{} ended ({status}) before it was ready{}", self.name, self.log_tail()));
            }
            if Instant::now() >= give_up {
                bail!("{} printed no `{missing}` line within {within:?}{}", self.name, self.log_tail());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has printed on stdout.
    pub fn output(&self) -> String {
        read_lossy(&self.output)
    }

    /// What it has logged on stderr, earlier runs under the same name included.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// The file of [`Program::log`].
    pub(super) fn log_file(&self) -> &Path {
        &self.log
    }

    /// Lets it run on without us; its process id.
    pub fn detach(mut self) -> u32 {
        self.detached = true;
        self.pid
    }

    /// The last lines of the log, as the end of an error message.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(15)..];
        if last.is_empty() { "; it logged nothing".to_owned() } else { format!("; its log ends:\n{}", last.join("\n")) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.detached {
            let _ = self.child.start_kill();
        }
    }
}

/// A command line in the making.
pub(super) struct Launch {
    pub(super) name: String,
    binary: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    place: Option<Namespace>,
}

impl Launch {
    pub(super) fn new(name: String, binary: &Path, options: &Common) -> Self {
        let (env, place) = (options.env.clone(), options.place.clone());
        Self { name, binary: binary.to_owned(), args: Vec::new(), env, place }
    }

    pub(super) fn args<A: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = A>) {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    }

    pub(super) fn option(&mut self, option: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.args([option, value]);
        }
    }

    pub(super) fn start(self, home: &Arc<Home>) -> Result<Program> {
        let output = home.directory().join(format!("{}.out", self.name));
        let log = home.directory().join(format!("{}.log", self.name));
        let mut command = Command::new(&self.binary);
        command.args(&self.args).process_group(home.process_group());
        // Files, not pipes: a detached program must be able to print after we are gone.
        command.stdin(Stdio::null()).stdout(File::create(&output)?);
        command.stderr(File::options().create(true).append(true).open(&log)?);
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("STARLING_") && variable != "STARLING_LOG" {
                command.env_remove(variable);
            }
        }
        command.envs(self.env);
        let child = match self.place {
            Some(place) => {
                let runtime = Handle::current();
                place.enter(move || {
                    let _inside = runtime.enter();
                    command.spawn()
                })?
            }
            None => command.spawn(),
        };
        let child = child.with_context(|| format!("starting {}", self.binary.display()))?;
        let pid = child.id().context("a process just started has an id")?;
        Ok(Program { name: self.name, pid, child, output, log, detached: false, _home: Arc::clone(home) })
    }
}

/// The rest of the last whole line that begins with `key` and a blank.
fn value_of(output: &str, key: &str) -> Option<String> {
    let whole = &output[..output.rfind('\n')?];
    whole.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(|value| value.trim().to_owned())
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn only_whole_lines_and_whole_keys_count() {
        assert_eq!(value_of("hint /ip4/1\nhttp http://x/", "http"), None);
        assert_eq!(value_of("httpx 1\nhttp http://x/ \n", "http").as_deref(), Some("http://x/"));
        assert_eq!(value_of("", "http"), None);
    }
}
