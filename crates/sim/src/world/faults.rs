//! What goes wrong, and the end of it.

use super::{ASK_AGAIN, Ask, Down, Happening, Key, World};
use crate::agent::LocalAttempt;
use crate::control::Remains;
use crate::fault::{Branch, FaultKind};
use crate::script::Position;
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity};
use lindos_model::{Exit, Millis};

impl World {
    pub(super) fn on_fault(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::KillRank { job, rank } => self.kill_rank(&job, rank),
            FaultKind::Hang { job, rank: Some(rank) } => self.stop_rank(&job, rank, true),
            FaultKind::Strand { job, rank } => self.stop_rank(&job, rank, false),
            FaultKind::HangStart { job } => {
                self.start_hangs.extend(self.submitted.get(&job));
            }
            FaultKind::Hang { job, rank: None } => {
                if let Some(key) = self.alive_run(&job) {
                    let base = self.runs.get(&key).map_or(key, |run| run.base);
                    self.save(base);
                }
            }
            FaultKind::KillAgent { node, back_after } => self.kill_agent(&node, back_after),
            FaultKind::KillAgentAndRanks { node, back_after } => {
                let index = self.by_name[&node];
                self.kill_agent(&node, back_after);
                self.nodes[index].standbys.clear();
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
                if self.control.is_some() {
                    let now = self.clock();
                    let control = self.control.take().expect("it is up");
                    let chances = &mut self.chances;
                    let remains = control.kill(now, |most| chances.between(0, most));
                    self.control_is_down(remains, Down::Killed, back_after);
                }
            }
            FaultKind::TakeOver { after, late } => self.depose(after, late),
            FaultKind::Upgrade { back_after, policy } => self.upgrade(back_after, policy),
            FaultKind::FillDisk { lasts, room } => {
                self.disk_full_until = self.now + lasts;
                self.put(lasts, Happening::DiskFreed);
                self.bound_disk(Some(room));
            }
            FaultKind::SlowDisk { lasts, commit } => {
                self.slow_disk = Some((self.now + lasts, commit));
            }
            FaultKind::PowerOffAll { branch, back_after, apart } => {
                for (order, node) in self.members_of(&branch).into_iter().enumerate() {
                    self.power_off(node, back_after + apart.times(order as u64));
                }
            }
            FaultKind::CutOffAll { branch, lasts, apart } => {
                for (order, node) in self.members_of(&branch).into_iter().enumerate() {
                    let until = self.now + lasts + apart.times(order as u64);
                    self.nodes[node].cut_off_until = Some(until);
                }
            }
            FaultKind::LoseNodeDisk { node, back_after } => {
                let node = self.by_name[&node];
                self.power_off(node, back_after);
                self.nodes[node].lose_disk();
            }
            FaultKind::ClockForward { by } => self.jump(by.0.cast_signed()),
            FaultKind::ClockBack { by } => self.jump(-by.0.cast_signed()),
            FaultKind::HostSleeps { lasts } => {
                if self.control.is_some() && !self.host.is_busy(self.now) {
                    self.host.sleep(self.now, lasts);
                }
            }
            FaultKind::Find { node, fatal, lasts } => {
                let node = self.by_name[&node];
                let until = self.now + lasts;
                self.nodes[node].findings.push((until, found(fatal)));
            }
            FaultKind::Weaken { node, peer: None } => {
                let node = self.by_name[&node];
                self.nodes[node].is_weak = true;
            }
            FaultKind::Weaken { node, peer: Some(peer) } => {
                let (one, other) = (self.by_name[&node], self.by_name[&peer]);
                self.weak_links.insert((one.min(other), one.max(other)));
            }
            FaultKind::SlowDown { node, lasts } => {
                let node = self.by_name[&node];
                self.slow_down(node, lasts);
            }
            FaultKind::Cancel { job } => self.ask_at(self.now, Ask::Cancel(job)),
            FaultKind::Drain { node } => {
                self.drained.insert(node.clone());
                self.ask_at(self.now, Ask::Drain(node, true));
            }
            FaultKind::Undrain { node } => self.ask_at(self.now, Ask::Drain(node, false)),
        }
    }

    fn members_of(&self, branch: &Branch) -> Vec<usize> {
        let nodes = self.setup.nodes.iter().enumerate();
        nodes.filter(|(_, node)| branch.has(node)).map(|(index, _)| index).collect()
    }

    /// The wall clock jumps, and a deadline of the control plane may come sooner than it thought.
    fn jump(&mut self, by_ms: i64) {
        self.host.jump(by_ms);
        self.clock_armed = None;
        self.arm_clock();
    }

    fn control_is_down(&mut self, remains: Remains, why: Down, back_after: Millis) {
        self.remains = Some((remains, why));
        self.clock_armed = None;
        self.wake_host();
        self.host.take_stalled();
        self.put(back_after, Happening::ControlBack);
    }

    /// The lease is lost: what the control plane had begun to send is still on its way.
    fn depose(&mut self, after: Millis, late: Millis) {
        if self.control.is_none() {
            return;
        }
        let now = self.clock();
        let control = self.control.take().expect("it is up");
        let chances = &mut self.chances;
        let remains = control.depose(now, |most| chances.between(0, most));
        for (node, told) in std::mem::take(&mut self.sent) {
            let delay = Millis(self.chances.between(0, late.0));
            self.put(delay, Happening::ToAgent(node, told));
        }
        self.control_is_down(remains, Down::Deposed, after);
    }

    /// What waits is carried out first, if the disk takes it.
    fn upgrade(&mut self, back_after: Millis, policy: Option<u32>) {
        if self.control.is_none() || self.host.is_busy(self.now) {
            return;
        }
        self.on_commit();
        let Some(control) = self.control.take() else { return };
        if control.has_waiting() {
            self.control = Some(control);
            return;
        }
        if let Some(policy) = policy {
            self.policy = self.setup.policies[policy as usize].clone();
        }
        self.control_is_down(control.stop(), Down::Upgraded, back_after);
    }

    pub(super) fn alive_run(&self, job: &str) -> Option<Key> {
        let id = *self.submitted.get(job)?;
        let nodes = self.nodes_of(id);
        let mut alive = nodes.iter().flat_map(|&node| &self.nodes[node].attempts);
        alive.find(|((job, _), attempt)| *job == id && attempt.is_alive()).map(|(&key, _)| key)
    }

    /// A rank stops, and with it all that train with it, or only its replica.
    fn stop_rank(&mut self, job: &str, rank: u32, all_wait: bool) {
        let newest = self.find_rank(job, rank).into_iter().max_by_key(|&(_, key)| key);
        let Some((node, key)) = newest else { return };
        let replica = self.nodes[node].attempts[&key].replica;
        let Some(base) = self.runs.get(&key).map(|run| run.base) else { return };
        let Some(run) = self.runs.get_mut(&base) else { return };
        let training = run.training.as_ref().filter(|training| training.ended.is_none());
        let Some(training) = training.filter(|_| !run.finished && !run.lost.contains(&replica))
        else {
            return;
        };
        if all_wait {
            run.waits_for = Some((replica, rank));
            self.save(base);
        } else if run.stranded.len() + run.lost.len() + 1 < run.replicas as usize {
            let position = run.script.at(training, self.now);
            self.strand(key, replica, position, Some(rank));
        }
    }

    /// A replica gets no further than this, and the others go on; which of its ranks is seen to have stopped.
    pub(super) fn strand(&mut self, key: Key, replica: u32, at: Position, rank: Option<u32>) {
        let base = self.runs[&key].base;
        let run = self.runs.get_mut(&base).expect("it was started before");
        run.stranded.entry(replica).or_insert((at, rank));
        // Whoever makes no steps where others do may be called slow, too.
        for node in self.nodes_of(key.0) {
            let is_of_it = |it: &LocalAttempt| it.is_alive() && it.replica == replica;
            if self.nodes[node].attempts.get(&key).is_some_and(is_of_it) {
                self.slow_spans.push((node, self.now));
            }
        }
    }

    pub(super) fn kill_rank(&mut self, job: &str, rank: u32) {
        let now = self.now;
        for (node, key) in self.find_rank(job, rank) {
            let attempt = self.nodes[node].attempts.get_mut(&key).expect("it was just found");
            let (replica, stopping) = (attempt.replica, attempt.stopping);
            let mut ranks = attempt.ranks.iter_mut();
            let hit = ranks.find(|it| it.rank.0 == rank).expect("it was just found");
            hit.exit = Some(lindos_model::RankExit { exit: Exit::Signal(9), at: now, stopping });
            self.break_run(key, replica);
            self.report(node);
        }
    }

    /// Where a rank of a job lives: on more than one node while an old launch of it is not gone.
    fn find_rank(&self, job: &str, rank: u32) -> Vec<(usize, Key)> {
        let Some(&id) = self.submitted.get(job) else { return Vec::new() };
        let lives_in = |attempt: &LocalAttempt| {
            attempt.ranks.iter().any(|it| it.rank.0 == rank && it.exit.is_none())
        };
        let on = |node: usize| {
            let mut here = self.nodes[node].attempts.iter();
            let (&key, _) = here.find(|(key, attempt)| key.0 == id && lives_in(attempt))?;
            Some((node, key))
        };
        self.nodes_of(id).into_iter().filter_map(on).collect()
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
        self.slow_disk = None;
        self.bound_disk(None);
        self.wake_host();
        self.on_control_back();
        for node in 0..self.nodes.len() {
            self.nodes[node].cut_off_until = None;
            self.nodes[node].findings.clear();
            if self.nodes[node].in_repair {
                continue;
            }
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

/// What the checks of a node say.
fn found(fatal: bool) -> Finding {
    let (class, severity, action) = if fatal {
        ("gpu.xid.79", Severity::NodeFatal, Action::Reboot)
    } else {
        ("gpu.row_remap_pending", Severity::Warning, Action::ResetGpu)
    };
    Finding::new(FindingClass::known(class), severity, action, FindingSource::KernelLog, "")
}
