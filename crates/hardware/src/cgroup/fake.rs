//! A control group in memory, for tests of those who use one.

use super::Cgroup;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Mutex;

/// Behaves as the kernel's does: a group with members cannot be removed, a removed one cannot be
/// used, killing is complete, and running over the limit kills and is counted.
#[derive(Debug, Default)]
pub struct FakeCgroup {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    removed: bool,
    members: BTreeSet<u32>,
    /// Processes that cannot die now, as those in an uninterruptible sleep.
    stuck: BTreeSet<u32>,
    oom_kills: u64,
    limit: Option<u64>,
}

impl FakeCgroup {
    pub fn join(&self, pid: u32) {
        self.lock().members.insert(pid);
    }

    pub fn leave(&self, pid: u32) {
        self.lock().members.remove(&pid);
    }

    pub fn set_stuck(&self, pid: u32, stuck: bool) {
        let mut state = self.lock();
        if stuck {
            state.stuck.insert(pid);
        } else {
            state.stuck.remove(&pid);
        }
    }

    /// A member allocates; over the limit, the kernel kills it.
    pub fn allocate(&self, pid: u32, bytes: u64) {
        let mut state = self.lock();
        if state.limit.is_some_and(|limit| bytes > limit) && state.members.remove(&pid) {
            state.oom_kills += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let state = self.lock();
        if state.removed { Err(io::ErrorKind::NotFound.into()) } else { Ok(state) }
    }
}

impl Cgroup for FakeCgroup {
    fn entrances(&self) -> io::Result<Vec<File>> {
        self.alive().map(|_| Vec::new())
    }

    fn pids(&self) -> io::Result<Vec<u32>> {
        Ok(self.alive()?.members.iter().copied().collect())
    }

    fn kill(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        let State { members, stuck, .. } = &mut *state;
        members.retain(|pid| stuck.contains(pid));
        Ok(())
    }

    fn oom_kills(&self) -> u64 {
        self.lock().oom_kills
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        self.alive()?.limit = Some(bytes);
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        if !state.members.is_empty() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        state.removed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fake_keeps_the_kernels_rules() {
        let group = FakeCgroup::default();
        group.join(7);
        group.join(8);
        group.set_stuck(8, true);
        assert_eq!(group.remove().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        group.limit_memory(100).unwrap();
        group.allocate(7, 50);
        assert_eq!(group.oom_kills(), 0);
        group.allocate(7, 150);
        assert_eq!((group.oom_kills(), group.pids().unwrap()), (1, vec![8]));
        group.kill().unwrap();
        assert_eq!(group.pids().unwrap(), vec![8]);
        group.set_stuck(8, false);
        group.kill().unwrap();
        group.remove().unwrap();
        assert!(group.pids().is_err());
    }
}
