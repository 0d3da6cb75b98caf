//! Facts about processes, from `/proc`.
//!
//! A number alone does not name a process: it is given out again. Number and start time together
//! do, within one boot of the machine.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::time::Duration;

/// One process, and no other that gets its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub start_time: u64,
}

/// What `/proc/PID/stat` says, as far as we need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub id: ProcessId,
    /// `R`, `S`, `D`, …; `Z` and `X` are dead and only not yet reaped.
    pub state: char,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    /// CPU time of all its threads, as clock ticks.
    pub cpu_ticks: u64,
}

impl Stat {
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    pub fn cpu_time(&self) -> Duration {
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Duration::from_millis(self.cpu_ticks.saturating_mul(1000) / per_second)
    }
}

pub(crate) fn rustix_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, in the second field, may hold anything, also spaces and brackets; nothing after it
/// can hold a closing bracket.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(text).map_or_else(
        |_| text.split(|&byte| byte == b' ').next().and_then(|word| std::str::from_utf8(word).ok()),
        |text| text.split(' ').next(),
    )?;
    let rest = std::str::from_utf8(&text[name_end + 1..]).ok()?;
    // From field 3 (state) on; see proc_pid_stat(5).
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        id: ProcessId { pid: pid.parse().ok()?, start_time: number(22)? },
        state: fields.first()?.chars().next()?,
        parent: number(4)? as u32,
        group: number(5)? as u32,
        session: number(6)? as u32,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
    })
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<ProcessId> {
        stat(pid).map(|stat| stat.id)
    }

    pub fn current() -> ProcessId {
        ProcessId::of(std::process::id())
            .unwrap_or(ProcessId { pid: std::process::id(), start_time: 0 })
    }

    /// A process that has ended and was only not reaped yet is not alive.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.id == self && stat.is_alive())
    }
}

/// Sends SIGKILL to exactly this process. `false`: it is not there any more.
pub fn kill_verified(id: ProcessId) -> io::Result<bool> {
    let Some(pid) = rustix_pid(id.pid) else { return Ok(false) };
    // The descriptor first, the check second: then the check is of the process that we hold.
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => {
            if !id.is_alive() {
                return Ok(false);
            }
            match pidfd_send_signal(&handle, Signal::KILL) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::SRCH) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(false),
        // A kernel before 5.3: between check and signal there is a window of a microsecond.
        Err(rustix::io::Errno::NOSYS) => {
            if !id.is_alive() {
                return Ok(false);
            }
            rustix::process::kill_process(pid, Signal::KILL)?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends SIGURG to exactly this process, which ignores it unless it has a handler. `false`: it is
/// not there any more.
pub fn ask_verified(id: ProcessId) -> io::Result<bool> {
    let Some(pid) = rustix_pid(id.pid) else { return Ok(false) };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !id.is_alive() {
        return Ok(false);
    }
    match pidfd_send_signal(&handle, Signal::URG) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Signals a process group; a group without members is no error.
pub fn signal_group(leader: u32, signal: Signal) {
    if let Some(pid) = rustix_pid(leader).filter(|_| leader > 1) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Every living process.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(stat)
        .filter(Stat::is_alive)
        .collect()
}

/// The living descendants of a process, without itself.
pub fn descendants(ancestor: u32) -> Vec<Stat> {
    let mut rest = all();
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        let (children, others): (Vec<Stat>, Vec<Stat>) =
            rest.into_iter().partition(|stat| stat.parent == parent);
        parents.extend(children.iter().map(|child| child.id.pid));
        found.extend(children);
        rest = others;
    }
    found
}

/// The living processes that were started with this variable (`NAME=value`) in their environment,
/// as far as this user may look: children inherit it, wherever they go.
pub fn with_variable(assignment: &str) -> Vec<ProcessId> {
    with_word("environ", |words| words.contains(&assignment.as_bytes()))
}

/// The living processes whose command line ends with these words.
pub fn with_last_arguments(last: &[&[u8]]) -> Vec<ProcessId> {
    with_word("cmdline", |words| words.ends_with(last))
}

/// `/proc/PID/FILE` holds words, each ended by a zero byte.
fn with_word(file: &str, matches: impl Fn(&[&[u8]]) -> bool) -> Vec<ProcessId> {
    all()
        .into_iter()
        .filter(|stat| {
            fs::read(format!("/proc/{}/{file}", stat.id.pid)).is_ok_and(|text| {
                let text = text.strip_suffix(b"\0").unwrap_or(&text);
                matches(&text.split(|&byte| byte == 0).collect::<Vec<_>>())
            })
        })
        .map(|stat| stat.id)
        // The number may have changed hands between the two files.
        .filter(|id| id.is_alive())
        .collect()
}

/// Changes with every boot of the machine; empty where the kernel does not say.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_string())
        .unwrap_or_default()
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How the main thread of a process has used its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadTime {
    pub ran: Duration,
    /// Ready to run, without a processor.
    pub delayed: Duration,
}

/// Of the thread that the process began with. `None`: it is gone, or the kernel does not count.
pub fn main_thread_time(pid: u32) -> Option<ThreadTime> {
    parse_schedstat(&fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?)
}

/// Nanoseconds on a processor, nanoseconds waiting for one, and how often; see
/// `Documentation/scheduler/sched-stats.rst` of the kernel.
fn parse_schedstat(text: &str) -> Option<ThreadTime> {
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || Some(Duration::from_nanos(fields.next()?.ok()?));
    Some(ThreadTime { ran: next()?, delayed: next()? })
}

/// What a process has read from disks and written to them, in bytes; `None` where this user may not
/// look.
pub fn disk_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    Some(field("read_bytes:")?.saturating_add(field("write_bytes:")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read() {
        let text = b"42 (a) b (c)) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let expected = Stat {
            id: ProcessId { pid: 42, start_time: 987_654 },
            state: 'S',
            parent: 7,
            group: 8,
            session: 9,
            cpu_ticks: 11,
        };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat(b"42 (x"), None);
        assert_eq!(parse_stat(b""), None);
        assert!(
            parse_stat(b"42 (\xff) S 7 8 9 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17").is_some()
        );
    }

    #[test]
    fn the_time_of_a_thread_is_read_in_nanoseconds() {
        let (ran, delayed) = (Duration::from_micros(1_500), Duration::from_nanos(70));
        assert_eq!(parse_schedstat("1500000 70 12\n"), Some(ThreadTime { ran, delayed }));
        assert_eq!(parse_schedstat("1500000"), None);
        assert_eq!(parse_schedstat("a b c"), None);
        assert!(main_thread_time(std::process::id()).is_some(), "this kernel counts");
    }

    #[test]
    fn only_the_very_process_is_killed() {
        let mut child =
            Command::new("sleep").arg("100").env("LINDOS_TEST_COOKIE", "x1").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        let impostor = ProcessId { start_time: id.start_time + 1, ..id };
        assert!(!kill_verified(impostor).unwrap());
        assert!(id.is_alive());
        assert_eq!(with_variable("LINDOS_TEST_COOKIE=x1"), vec![id]);
        assert!(with_last_arguments(&[b"sleep", b"100"]).contains(&id));
        assert!(descendants(std::process::id()).iter().any(|stat| stat.id == id));
        assert!(kill_verified(id).unwrap());
        let status = child.wait().unwrap();
        assert!(!status.success());
        assert!(!id.is_alive());
        assert!(!kill_verified(id).unwrap());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.is_alive());
        drop(child.stdin.take());
        let handle = pidfd_open(rustix_pid(id.pid).unwrap(), PidfdFlags::empty()).unwrap();
        rustix::event::poll(
            &mut [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)],
            None,
        )
        .unwrap();
        assert!(!id.is_alive());
        child.wait().unwrap();
    }
}
