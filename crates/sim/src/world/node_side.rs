//! The nodes' side of the world: agents that hear and report, and ranks that run and end together.

use super::{Happening, Key, REBOOT, Run, ToControl, World};
use crate::agent::{Doing, LocalAttempt};
use crate::check::Checker;
use crate::control::JobReading;
use crate::fault::Plant;
use crate::script::Training;
use lindos_core::edges::Reading;
use lindos_core::effect::Command;
use lindos_model::{EffectId, Exit, Millis, RankExit, Time};

impl World {
    pub(super) fn start_agent(&mut self, node: usize) {
        self.nodes[node].start_agent();
        let incarnation = self.nodes[node].incarnation;
        self.put(Millis::ZERO, Happening::Heartbeat { node, incarnation });
    }

    pub(super) fn on_heartbeat(&mut self, node: usize, incarnation: u64) {
        let sim = &self.nodes[node];
        if sim.agent_alive && sim.incarnation == incarnation {
            self.report(node);
            self.put(self.setup.heartbeat, Happening::Heartbeat { node, incarnation });
        }
    }

    pub(super) fn report(&mut self, node: usize) {
        if !self.nodes[node].agent_alive || self.is_cut_off(node) {
            return;
        }
        let now = self.now;
        let (seq, mut attempts) = self.nodes[node].report();
        if self.is_planted(Plant::ReportsDropped) {
            attempts.retain(|a| {
                a.ranks.iter().all(|r| r.exit.as_ref().is_none_or(|e| e.exit.is_success()))
            });
        }
        if self.is_planted(Plant::FalseSuccess) {
            for rank in attempts.iter_mut().flat_map(|a| &mut a.ranks) {
                if let Some(exit) = &mut rank.exit {
                    exit.exit = Exit::Code(0);
                }
            }
        }
        if self.is_planted(Plant::AgentLies) {
            for attempt in
                attempts.iter_mut().filter(|attempt| attempt.epoch.0 == 1 && now > Time(60_000))
            {
                // An end without a retry, so that it is others who get the GPUs.
                attempt.phase = lindos_model::ReportedPhase::Gone;
                for rank in &mut attempt.ranks {
                    let (exit, at) = (Exit::not_started("a lie"), now);
                    rank.exit = Some(RankExit { exit, at, stopping: false });
                }
            }
        }
        let readings = self.readings(node);
        let incarnation = self.nodes[node].incarnation;
        let report = ToControl::Report { node, incarnation, seq, attempts, readings };
        self.send(&Happening::ToControl(report));
    }

    /// The node with rank 0 of a job tells its progress.
    pub(super) fn readings(&self, node: usize) -> Vec<JobReading> {
        let has_first = |attempt: &(&Key, &LocalAttempt)| {
            attempt.1.ranks.first().is_some_and(|rank| rank.rank.0 == 0)
        };
        self.nodes[node]
            .attempts
            .iter()
            .filter(has_first)
            .filter_map(|(&key, _)| {
                let run = self.runs.get(&key).filter(|run| run.script.reports)?;
                let position = run.script.at(run.training.as_ref()?, self.now);
                let reading = Reading {
                    step: position.step,
                    total_steps: Some(run.script.steps),
                    loss_micro: None,
                    checkpoint_step: position.checkpoint,
                    blocked_ms: position.blocked.0,
                };
                Some((key.0, key.1, reading))
            })
            .collect()
    }

    pub(super) fn on_agent_hears(&mut self, node: usize, command: &Command) {
        if !self.nodes[node].agent_alive || self.is_cut_off(node) {
            return;
        }
        let key = (command.job, command.epoch);
        match self.nodes[node].on_command(command) {
            Doing::Nothing => {}
            Doing::Started => self.on_ranks_started(node, key, command),
            Doing::Stopping { grace_ms } => {
                let after = Millis(self.chances.between(0, grace_ms));
                let exit = if after.0 == grace_ms { Exit::Signal(9) } else { Exit::Signal(15) };
                self.put(after, Happening::RanksEnd { node, key, exit });
            }
        }
        self.report(node);
    }

    pub(super) fn on_ranks_started(&mut self, node: usize, key: Key, command: &Command) {
        Checker::on_ranks_started(&self.nodes, node, key);
        let lindos_core::effect::Order::Launch(launch) = &command.order else { return };
        let name = &launch.spec.name;
        let job = self.setup.jobs.iter().find(|job| job.spec.name == *name);
        let script = job.expect("only our jobs are launched").script.clone();
        let run = self.runs.entry(key).or_insert(Run {
            started: 0,
            script,
            training: None,
            broken: false,
            finished: false,
        });
        run.started += launch.rank_count;
        if run.broken {
            self.peers_notice(key);
            return;
        }
        if run.started == launch.world_size {
            let from_step = self.storage.get(&key.0).copied().unwrap_or(0);
            let training = Training { began: self.now, from_step, ended: None };
            let done = run.script.finishes(&training).since(self.now);
            let bug = run.script.bug.filter(|bug| key.1.0 <= bug.attempts && bug.step > from_step);
            let bug = bug.map(|bug| run.script.reaches(&training, bug.step).since(self.now));
            run.training = Some(training);
            self.put(done, Happening::TrainingDone(key));
            if let Some(after) = bug {
                self.put(after, Happening::BugHits(key));
            }
        }
    }

    /// What lives of an attempt on a node ends, and its peers notice.
    pub(super) fn end_ranks(&mut self, node: usize, key: Key, exit: &Exit) {
        let now = self.now;
        let Some(attempt) = self.nodes[node].attempts.get_mut(&key).filter(|a| a.is_alive()) else {
            return;
        };
        attempt.end(exit, now);
        if !exit.is_success() {
            self.break_run(key);
        }
        self.report(node);
    }

    /// A rank has died: nobody gets on, and the peers lose their connections.
    pub(super) fn break_run(&mut self, key: Key) {
        self.save(key);
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.finished || std::mem::replace(&mut run.broken, true) {
            return;
        }
        self.peers_notice(key);
    }

    /// The training stands still from now on; its checkpoints are on the storage.
    pub(super) fn save(&mut self, key: Key) {
        let now = self.now;
        let Some(run) = self.runs.get_mut(&key) else { return };
        let Some(training) = &mut run.training else { return };
        let ended = training.ended.get_or_insert(now);
        let at = *ended;
        if let Some(step) = run.script.at(training, at).checkpoint {
            let newest = self.storage.entry(key.0).or_default();
            *newest = step.max(*newest);
        }
    }

    pub(super) fn peers_notice(&mut self, key: Key) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].attempts.get(&key).is_some_and(LocalAttempt::is_alive) {
                let after = Millis(self.chances.between(5, 3000));
                self.put(after, Happening::RanksEnd { node, key, exit: Exit::Code(1) });
            }
        }
    }

    pub(super) fn on_training_done(&mut self, key: Key) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let stands = run.training.as_ref().is_none_or(|training| training.ended.is_some());
        if run.broken || stands {
            return;
        }
        run.finished = true;
        for node in 0..self.nodes.len() {
            if self.nodes[node].attempts.contains_key(&key) {
                let after = Millis(self.chances.between(0, 200));
                self.put(after, Happening::RanksEnd { node, key, exit: Exit::Code(0) });
            }
        }
    }

    pub(super) fn on_bug(&mut self, key: Key) {
        let stands = self.runs[&key].training.as_ref().is_none_or(|t| t.ended.is_some());
        if stands {
            return;
        }
        let holder =
            (0..self.nodes.len()).find(|&node| self.nodes[node].attempts.contains_key(&key));
        if let Some(node) = holder {
            self.end_ranks(node, key, &Exit::Code(1));
        }
    }

    pub(super) fn on_fenced(&mut self, node: usize, fence: EffectId) {
        if !self.is_planted(Plant::FenceLies) {
            self.power_off(node, REBOOT);
        }
        self.send(&Happening::ToControl(ToControl::NodeFenced(node, fence)));
    }

    pub(super) fn power_off(&mut self, node: usize, back_after: Millis) {
        let alive: Vec<Key> = self.nodes[node]
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.is_alive())
            .map(|(&key, _)| key)
            .collect();
        self.nodes[node].power_off(self.now);
        for key in alive {
            self.break_run(key);
        }
        self.put(back_after, Happening::PowerOn(node));
    }
}
