//! Whether an agent lives in a node's folder: it holds `agent.lock` for as long as it does.

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::path::Path;

/// The agent that holds the lock: its process id if the file says so. `None`: nobody holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: Option<u32>,
}

pub fn holder(node_folder: &Path) -> Option<Holder> {
    let path = node_folder.join("agent.lock");
    // Read-only: looking must not make the file, and the lock is gone again with the descriptor.
    let file = File::open(&path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let pid = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Some(Holder { pid })
}

/// Sends a signal to the agent in this folder, wherever it came from. A process that took over its
/// number meanwhile is not touched: the lock is looked at again once the process is pinned.
pub fn signal(node_folder: &Path, signal: Signal) {
    let Some(Holder { pid: Some(number) }) = holder(node_folder) else { return };
    let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { return };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if holder(node_folder) == Some(Holder { pid: Some(number) }) {
        let _ = pidfd_send_signal(process, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(holder(folder.path()), None);
        let path = folder.path().join("agent.lock");
        std::fs::write(&path, "4711\n").unwrap();
        assert_eq!(holder(folder.path()), None);
        let held = File::open(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        assert_eq!(holder(folder.path()), Some(Holder { pid: Some(4711) }));
        drop(held);
        assert_eq!(holder(folder.path()), None);
    }
}
