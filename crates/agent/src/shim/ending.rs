//! How an attempt ends: ranks that end by themselves, ranks that are stopped, and what they leave
//! behind.

use super::rank::RankProcess;
use super::{
    KILL_INTERVAL_MAX, KILL_INTERVAL_MIN, News, SIGNAL_KILL, Shim, Source, Stop, WRITE_INTERVAL,
};
use crate::plan::State;
use lindos_hardware::cgroup::Cgroup;
use lindos_hardware::child::{self, Ended};
use lindos_hardware::process;
use lindos_model::{Exit, ReportedPhase};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const REMOVE_TRIES: u32 = 20;
const REMOVE_INTERVAL: Duration = Duration::from_millis(5);

impl Shim {
    pub(super) fn begin_stop(&mut self, grace: Duration) {
        let now = Instant::now();
        // A grace of more than a year is as good as one for ever.
        let until = now + grace.min(Duration::from_secs(366 * 86400));
        match self.stop {
            Stop::No => {
                if !grace.is_zero() {
                    for rank in &self.ranks {
                        rank.signal(Signal::TERM);
                    }
                }
                self.stop = Stop::Grace(until);
            }
            Stop::Grace(before) => self.stop = Stop::Grace(before.min(until)),
            Stop::Kill(..) => {}
        }
    }

    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        // What the ranks left behind when the last of them ended.
        let orphaned = self.ranks.iter().all(RankProcess::has_ended) && !self.childless;
        match self.stop {
            Stop::Grace(at) if at <= now => self.kill_all(KILL_INTERVAL_MIN),
            Stop::Kill(at, interval) if at <= now => {
                self.kill_all((interval * 2).min(KILL_INTERVAL_MAX));
            }
            Stop::No | Stop::Grace(_) if orphaned => self.kill_all(KILL_INTERVAL_MIN),
            _ => {}
        }
    }

    pub(super) fn kill_all(&mut self, again_after: Duration) {
        for rank in &self.ranks {
            rank.signal(Signal::KILL);
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.kill();
        }
        for descendant in process::descendants(self.own.pid) {
            let _ = process::kill_verified(descendant.id);
        }
        self.stop = Stop::Kill(Instant::now() + again_after, again_after);
    }

    /// Takes note of every child that has ended.
    pub(super) fn reap(&mut self) {
        loop {
            match child::next_ended() {
                Ok(Some((pid, ended))) => {
                    self.on_ended(pid, ended);
                    child::reap(pid);
                }
                Ok(None) => {
                    self.childless = false;
                    return;
                }
                Err(_) => {
                    self.childless = !child::has_children();
                    return;
                }
            }
        }
    }

    pub(super) fn on_ended(&mut self, pid: u32, ended: Ended) {
        let Some(index) =
            self.ranks.iter().position(|rank| rank.pid() == Some(pid) && !rank.has_ended())
        else {
            return; // Somebody's orphan.
        };
        // While the number is still its own: what it left in its group.
        process::signal_group(pid, Signal::KILL);
        let exit = match ended {
            Ended::Code(code) => Exit::Code(code),
            Ended::Signal(SIGNAL_KILL) if self.take_oom_kill() => Exit::OutOfMemory,
            Ended::Signal(number) => Exit::Signal(number),
        };
        let rank = &mut self.ranks[index];
        // Its last words come before its exit.
        rank.read_messages(&mut self.buffer);
        rank.read_output(&mut self.buffer);
        rank.end(exit, self.stopping);
        self.news = News::Exit;
        if self.plan.is_standby() {
            // One of them is missing: the others wait in vain.
            self.begin_stop(Duration::ZERO);
        }
    }

    /// Whether the kernel has killed one for memory that is not yet some rank's exit.
    pub(super) fn take_oom_kill(&mut self) -> bool {
        let kills = self.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        let new = kills > self.oom_kills_seen;
        self.oom_kills_seen += u64::from(new);
        new
    }

    /// Everything has ended: the rest of the output, the final state, and nothing left behind.
    pub(super) fn finish(&mut self) {
        for rank in &mut self.ranks {
            rank.read_messages(&mut self.buffer);
            // Until the end of the pipe, or until only a stranger holds it open: no more than
            // what a pipe can hold.
            for _ in 0..2 {
                rank.read_output(&mut self.buffer);
            }
            rank.socket = None;
            rank.output = None;
        }
        let state = State { phase: ReportedPhase::Gone, ..self.state() };
        let mut saved = self.save_state(&state, true);
        self.publish(&state);
        // On a full disk, this process is where the truth is kept. Where the folder itself is gone,
        // nobody will ever ask for it.
        while !saved && !self.released && self.dir.exists() {
            self.wait_for_agent();
            saved = self.save_state(&state, true);
            self.publish(&state);
        }
        for client in &mut self.clients {
            client.flush();
        }
        if let Some(cgroup) = &self.cgroup {
            // A group of version 1 is busy for a moment after its last member was reaped.
            for _ in 0..REMOVE_TRIES {
                if cgroup.remove().is_ok() {
                    break;
                }
                std::thread::sleep(REMOVE_INTERVAL);
            }
        }
        for rank in self.plan.ranks() {
            let _ = std::fs::remove_file(self.plan.rank_socket(rank));
        }
    }

    fn wait_for_agent(&mut self) {
        let began = Instant::now();
        self.stop = Stop::Kill(began + WRITE_INTERVAL, WRITE_INTERVAL);
        while began.elapsed() < WRITE_INTERVAL && !self.released {
            for (source, flags) in self.wait() {
                match source {
                    Source::Signals => drop(self.signals.pending()),
                    Source::Listener => self.on_connection(),
                    Source::Client(index) => self.on_client(index, flags),
                    Source::Output(_) | Source::Messages(_) | Source::Waiter(_) => {}
                }
            }
            self.clients.retain(|client| !client.is_closed());
        }
    }
}
