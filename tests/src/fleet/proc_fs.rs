//! What Linux tells of a running process under `/proc`, and signals to processes that are not our children.
//!
//! Everything in the fleet that only works on Linux is in this module.

use std::{fs, io, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time of all its threads. The kernel counts in clock ticks, usually 10 ms.
    pub cpu: Duration,
    /// Resident memory now, bytes.
    pub resident: u64,
    /// The most it ever had resident, bytes.
    pub resident_peak: u64,
}

/// User and system time of one thread of this process. An error if it has ended.
pub fn thread_cpu(thread: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat"))?;
    Ok(Stat::parse(&stat).ok_or(io::ErrorKind::InvalidData)?.cpu())
}

/// Bytes a process's network namespace has sent over one of its interfaces, as the kernel counts; by `/proc/PID/net/dev`.
pub fn interface_sent(pid: u32, interface: &str) -> io::Result<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    // Eight columns of what was received come first.
    let sent = line.and_then(|line| line.split_ascii_whitespace().nth(8)?.parse().ok());
    sent.ok_or(io::ErrorKind::NotFound.into())
}

/// Reads what the process has used. An error if it has ended.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = Stat::read(pid)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(Usage { cpu: stat.cpu(), resident: kilobytes("VmRSS") * 1024, resident_peak: kilobytes("VmHWM") * 1024 })
}

/// When the process started, in clock ticks since boot. A process id is reused, the pair of id and start is not.
/// `None` once the process has ended, even while its parent hasn't collected it.
pub fn started(pid: u32) -> Option<u64> {
    Stat::read(pid).ok().filter(|stat| !stat.ended).map(|stat| stat.started)
}

/// Asks a process to end (SIGTERM). One that has ended already is no error.
pub fn terminate(pid: u32) -> io::Result<()> {
    signal(pid, Signal::TERM)
}

/// Ends a process at once (SIGKILL). One that has ended already is no error.
pub fn kill(pid: u32) -> io::Result<()> {
    signal(pid, Signal::KILL)
}

/// The user's number, for names of files that are not shared between users.
pub fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The fields of `/proc/PID/stat` used here; numbered from 1 in proc(5).
struct Stat {
    ended: bool,
    cpu_ticks: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?).ok_or(io::ErrorKind::InvalidData.into())
    }

    fn cpu(&self) -> Duration {
        Duration::from_secs_f64(self.cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    fn parse(stat: &str) -> Option<Self> {
        // Field 2 is the program's name in brackets and may hold anything, brackets and blanks too.
        let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = |number: usize| field(number)?.parse::<u64>().ok();
        Some(Self { ended: matches!(field(3)?, "Z" | "X"), cpu_ticks: ticks(14)? + ticks(15)?, started: ticks(22)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_skipped() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 250 50 0 0 20 0 1 0 4242 0 0";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.ended, stat.cpu_ticks, stat.started), (false, 300, 4242));
        assert!(Stat::parse("7 (cut").is_none() && Stat::parse("7 (x) S 1").is_none());
    }

    #[test]
    fn this_very_process_uses_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.resident_peak >= usage.resident, "{usage:?}");
        assert_eq!(started(std::process::id()), started(std::process::id()));
        assert!(started(std::process::id()).is_some());
    }
}
