//! What goes wrong, and the end of it.

use super::{ASK_AGAIN, Ask, Happening, Key, World};
use crate::fault::FaultKind;
use lindos_model::{Exit, Millis};

impl World {
    pub(super) fn on_fault(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::KillRank { job, rank } => self.kill_rank(&job, rank),
            FaultKind::Hang { job } => {
                if let Some(key) = self.alive_run(&job) {
                    let base = self.runs.get(&key).map_or(key, |run| run.base);
                    self.save(base);
                }
            }
            FaultKind::KillAgent { node, back_after } => self.kill_agent(&node, back_after),
            FaultKind::KillAgentAndRanks { node, back_after } => {
                let index = self.by_name[&node];
                self.kill_agent(&node, back_after);
                let keys: Vec<Key> = self.nodes[index].attempts.keys().copied().collect();
                for key in keys {
                    self.end_ranks(index, key, &Exit::Lost);
                }
            }
            FaultKind::PowerOff { node, back_after } => {
                let node = self.by_name[&node];
                self.power_off(node, back_after);
            }
            FaultKind::CutOff { node, lasts } => {
                let node = self.by_name[&node];
                self.nodes[node].cut_off_until = Some(self.now + lasts);
            }
            FaultKind::KillControlPlane { back_after } => {
                let now = self.now;
                if let Some(control) = self.control.take() {
                    let chances = &mut self.chances;
                    self.remains = Some(control.kill(now, |most| chances.between(0, most)));
                    self.clock_armed = None;
                    self.put(back_after, Happening::ControlBack);
                }
            }
            FaultKind::FillDisk { lasts } => {
                self.disk_full_until = self.now + lasts;
                self.put(lasts, Happening::DiskFreed);
                self.fill_disk(true);
            }
            FaultKind::Cancel { job } => self.ask_at(self.now, Ask::Cancel(job)),
            FaultKind::Drain { node } => {
                self.drained.insert(node.clone());
                self.ask_at(self.now, Ask::Drain(node, true));
            }
            FaultKind::Undrain { node } => self.ask_at(self.now, Ask::Drain(node, false)),
        }
    }

    pub(super) fn alive_run(&self, job: &str) -> Option<Key> {
        let id = *self.submitted.get(job)?;
        let mut alive = self.nodes.iter().flat_map(|node| &node.attempts);
        alive.find(|((job, _), attempt)| *job == id && attempt.is_alive()).map(|(&key, _)| key)
    }

    pub(super) fn kill_rank(&mut self, job: &str, rank: u32) {
        let Some(&id) = self.submitted.get(job) else { return };
        let now = self.now;
        for node in 0..self.nodes.len() {
            let mut here = self.nodes[node].attempts.iter_mut();
            let hit = here.find_map(|(key, attempt)| {
                let (replica, stopping) = (attempt.replica, attempt.stopping);
                let mut ranks = attempt.ranks.iter_mut();
                let hit = ranks.find(|r| r.rank.0 == rank && r.exit.is_none())?;
                (key.0 == id).then_some((*key, replica, stopping, hit))
            });
            if let Some((key, replica, stopping, hit)) = hit {
                hit.exit =
                    Some(lindos_model::RankExit { exit: Exit::Signal(9), at: now, stopping });
                self.break_run(key, replica);
                self.report(node);
            }
        }
    }

    pub(super) fn kill_agent(&mut self, node: &str, back_after: Millis) {
        let node = self.by_name[node];
        self.nodes[node].agent_alive = false;
        let incarnation = self.nodes[node].incarnation;
        self.put(back_after, Happening::AgentBack { node, incarnation });
    }

    /// Nothing goes wrong from now on.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.disk_full_until = self.now;
        self.fill_disk(false);
        self.on_control_back();
        for node in 0..self.nodes.len() {
            self.nodes[node].cut_off_until = None;
            if !self.nodes[node].powered {
                self.nodes[node].powered = true;
                self.start_agent(node);
            } else if !self.nodes[node].agent_alive {
                self.start_agent(node);
            }
        }
        // A request to drain may still be on its way, or be sent again: it comes before this.
        for asked in &mut self.asked {
            asked.answered |= matches!(asked.what, Ask::Drain(..));
        }
        for name in std::mem::take(&mut self.drained) {
            self.ask_at(self.now + ASK_AGAIN, Ask::Drain(name, false));
        }
    }
}
