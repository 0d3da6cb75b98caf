//! The nodes' side of the world: agents that hear and report, and ranks that run and end together.

use super::{Happening, Key, REBOOT, Run, Saved, ToControl, World};
use crate::agent::{Doing, LocalAttempt, Told};
use crate::check::Checker;
use crate::control::{JobReading, Witnessed};
use crate::fault::Plant;
use crate::script::{Bug, Position, Training};
use lindos_core::edges::{RankReading, Reading};
use lindos_core::effect::Launch;
use lindos_model::{
    Activity, EffectId, Epoch, Exit, JobId, Millis, Outcome, Rank, RankExit, Remedy, StandbyState,
    Symptom, SymptomKind, Time,
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn start_agent(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].start_agent(now);
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
        self.spend_time(node);
        let findings = self.nodes[node].found(now);
        let standbys = self.nodes[node].standby_reports();
        let witnessed = Witnessed { findings, standbys, ..self.witnessed(node) };
        let report = ToControl::Report { node, incarnation, seq, attempts, readings, witnessed };
        self.send(&Happening::ToControl(report));
    }

    /// The node with rank 0 of a job tells its progress.
    pub(super) fn readings(&self, node: usize) -> Vec<JobReading> {
        let has_first = |attempt: &(&Key, &LocalAttempt)| {
            attempt.1.ranks.first().is_some_and(|rank| rank.rank.0 == 0) || attempt.1.has_replicas
        };
        self.nodes[node]
            .attempts
            .iter()
            .filter(has_first)
            .filter_map(|(&key, attempt)| {
                let run = self.runs.get(&key).filter(|run| run.script.reports)?;
                let base = self.runs.get(&run.base)?;
                let is_away = base.lost.contains(&attempt.replica) && !base.broken;
                if run.training.is_none() || is_away {
                    return None;
                }
                let position = match base.stranded.get(&attempt.replica) {
                    Some(&(stands_at, _)) => stands_at,
                    None => run.script.at(base.training.as_ref()?, self.now),
                };
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

    /// What every rank does: it works while its job gets on, and sleeps when that stands. A rank that
    /// fails says whether it came to a bug, or only lost its peers.
    fn witnessed(&self, node: usize) -> Witnessed {
        let mut witnessed = Witnessed::default();
        for (&(job, epoch), attempt) in &self.nodes[node].attempts {
            let Some(run) = self.runs.get(&(job, epoch)) else { continue };
            if run.script.stands_by && attempt.is_alive() {
                witnessed.offers.push(job);
            }
            let base = self.runs.get(&run.base);
            let training = base.and_then(|base| base.training.as_ref());
            let stands = training.is_some_and(|training| training.ended.is_some());
            let awaited = base.and_then(|base| base.waits_for);
            let stranded = base.and_then(|base| base.stranded.get(&attempt.replica));
            let stopped = stranded.and_then(|&(_, rank)| rank).or_else(|| {
                awaited.filter(|&(replica, _)| replica == attempt.replica).map(|(_, rank)| rank)
            });
            let does = |rank: Rank| match stopped {
                Some(stopped) if stopped == rank.0 => Activity::Stopped,
                _ if stands || stranded.is_some() => Activity::Idle,
                _ => Activity::Busy,
            };
            let tells = run.script.reports && run.training.is_some();
            let position = match stranded.filter(|_| tells) {
                Some(&(stands_at, _)) => Some(stands_at),
                None => training.filter(|_| tells).map(|it| run.script.at(it, self.now)),
            };
            let broken_from = training.and_then(|it| run.script.loss_broken_from(it, run.base.1.0));
            let loss_broken_from = broken_from
                .filter(|_| !self.is_planted(Plant::DeafToLoss))
                .filter(|&from| position.and_then(|position| position.step) >= Some(from));
            for rank in &attempt.ranks {
                match &rank.exit {
                    None => {
                        let step = position.and_then(|position| position.step);
                        let checkpoint_step = position.and_then(|position| position.checkpoint);
                        let pace = Some(rank.pace);
                        let reading = RankReading {
                            step,
                            checkpoint_step,
                            activity: Some(does(rank.rank)),
                            loss_broken_from,
                            place: None,
                            pace,
                        };
                        witnessed.ranks.push((job, epoch, rank.rank, reading));
                    }
                    Some(exit) if exit.exit == Exit::Code(1) && !exit.stopping => {
                        let symptom = last_words(attempt.came_to_bug);
                        witnessed.symptoms.push((job, epoch, rank.rank, symptom));
                    }
                    Some(_) => {}
                }
            }
        }
        witnessed
    }

    pub(super) fn on_agent_hears(&mut self, node: usize, command: &Told) {
        if !self.nodes[node].agent_alive || self.is_cut_off(node) {
            return;
        }
        let key = (command.job, command.epoch);
        match self.nodes[node].on_command(command) {
            Doing::Nothing => {}
            Doing::AsBefore => return,
            Doing::Started => {
                // Whatever it was tested for is over: work comes first.
                self.nodes[node].remedy = None;
                self.on_ranks_started(node, key, command);
            }
            Doing::StandingBy => {
                self.nodes[node].remedy = None;
                let name = &self.nodes[node].standbys[&key.0];
                let (id, after) = (name.id, self.loads_for(key.0));
                self.put(after, Happening::StandbyLoaded { node, job: key.0, id });
            }
            Doing::Stopping { grace_ms } => {
                let after = Millis(self.chances.between(0, grace_ms));
                let exit = if after.0 == grace_ms { Exit::Signal(9) } else { Exit::Signal(15) };
                self.put(after, Happening::RanksEnd { node, key, exit });
            }
        }
        self.report(node);
    }

    /// For which the processes of a job load before they wait for a rank.
    fn loads_for(&self, id: JobId) -> Millis {
        let here = self.runs.range((id, Epoch(0))..=(id, Epoch(u32::MAX))).next_back();
        here.map_or(Millis::ZERO, |(_, run)| run.script.saved_warm)
    }

    /// They wait now; or, now and then, they have come to grief.
    pub(super) fn on_standby_loaded(&mut self, node: usize, job: JobId, id: EffectId) {
        let fails = self.healed_at_all() && self.chances.chance(50_000);
        let waiting = self.nodes[node].standbys.get_mut(&job).filter(|waiting| waiting.id == id);
        let Some(waiting) = waiting else { return };
        let reason = "process 0, exit status 1".to_string();
        waiting.state = if fails { StandbyState::Ended { reason } } else { StandbyState::Ready };
        self.report(node);
    }

    /// Whether this world has faults by chance at all.
    fn healed_at_all(&self) -> bool {
        self.setup.healed_at.is_some()
    }

    pub(super) fn on_ranks_started(&mut self, node: usize, key: Key, told: &Told) {
        let job_nodes = self.job_nodes.entry(key.0).or_default();
        job_nodes.insert(node);
        Checker::on_ranks_started(&self.nodes, job_nodes, node, key);
        let lindos_core::effect::Order::Launch(launch) = &told.order else { return };
        let base = self.base_of(key, launch);
        let index = launch.replica.as_ref().map_or(0, |replica| replica.index);
        let peers = launch.replica.as_ref().map_or(&[][..], |replica| &replica.peers);
        if let Some(others) = self.runs.get_mut(&base).filter(|_| key != base) {
            others.met_at.extend(peers.get(index as usize));
        }
        let run = self.runs.entry(key).or_insert_with(|| {
            let name = &launch.spec.name;
            let job = self.setup.jobs.iter().find(|job| job.spec.name == *name);
            Run {
                started: BTreeMap::new(),
                script: job.expect("only our jobs are launched").script.clone(),
                training: None,
                resume_step: launch.resume_step,
                base,
                met_at: peers.iter().copied().collect(),
                replicas: peers.len().max(1) as u32,
                replicas_min: launch.replica.as_ref().map_or(1, |replica| replica.replicas_min),
                lost: BTreeSet::new(),
                ready: BTreeSet::new(),
                waits_for: None,
                stranded: BTreeMap::new(),
                resumed_at: None,
                joined_at: None,
                broken: false,
                finished: false,
            }
        });
        let started = run.started.entry(index).or_default();
        *started += launch.ranks_per_node();
        let is_whole = *started == launch.gang.len() as u32 * launch.ranks_per_node();
        let base = run.base;
        if run.broken || run.lost.contains(&index) {
            self.peers_notice(key, index);
        } else if is_whole {
            self.replica_is_there(key, base, index);
        }
    }

    /// All ranks of a replica are there. Where the others train, it loads first what it needs.
    fn replica_is_there(&mut self, key: Key, base: Key, index: u32) {
        let others = self.runs.get_mut(&base).expect("it was started before");
        if key == base || others.training.is_none() {
            return self.join_replica(key, index);
        }
        // Nobody can see it of a program that tells no steps.
        if others.script.reports && self.start_hangs.remove(&key.0) {
            return;
        }
        let after = self.runs[&key].script.startup_of(self.is_warm(key));
        self.put(after, Happening::ReplicaJoins(key, index));
    }

    pub(super) fn on_replica_joins(&mut self, key: Key, index: u32) {
        if self.runs.get(&key).is_some_and(|run| !run.broken) {
            self.join_replica(key, index);
        }
    }

    /// A replica joins the others if those train, or all begin once the last is there.
    fn join_replica(&mut self, key: Key, index: u32) {
        let base = self.runs[&key].base;
        let others = self.runs.get_mut(&base).expect("it was started before");
        if others.broken {
            // There is nobody to join.
            self.break_run(key, index);
            return;
        }
        others.lost.remove(&index);
        others.ready.insert(index);
        let is_complete = others.ready.len() as u32 == others.replicas;
        if others.training.is_none() && is_complete {
            let can_do_without = others.script.reports && others.replicas > others.replicas_min;
            self.begin_training(base);
            if can_do_without && self.start_hangs.remove(&key.0) {
                self.strand(key, index, Position::default(), None);
            }
        }
        let others = &self.runs[&base];
        let (training, finished) = (others.training.clone(), others.finished);
        let with_it = self.runs.values_mut().filter(|run| run.base == base && !run.broken);
        for run in with_it {
            run.training.clone_from(&training);
        }
        self.runs.get_mut(&key).expect("it was just there").joined_at = Some(self.now);
        if finished {
            self.end_well(key);
        }
    }

    /// What the ranks of a launch train with: the gang of their job that is there, if there is one.
    /// Of replicas that come back at the same time, those of a later epoch may be there first.
    fn base_of(&self, key: Key, launch: &Launch) -> Key {
        let Some(replica) = &launch.replica else { return key };
        let met_at = (0..).zip(replica.peers.iter());
        let lives = |base: &Key| {
            let run = &self.runs[base];
            if run.finished {
                // Whoever comes late to what the others have finished finds nothing more to do; a gang
                // that is launched anew looks for nobody of before.
                return met_at
                    .clone()
                    .any(|(index, it)| index != replica.index && run.met_at.contains(it));
            }
            let here = self.nodes_of(key.0);
            let mut attempts = here.iter().flat_map(|&node| &self.nodes[node].attempts);
            attempts.any(|(other, attempt)| {
                let of_it = self.runs.get(other).is_some_and(|run| run.base == *base);
                of_it && attempt.is_alive()
            })
        };
        let of_the_job = (key.0, Epoch(0))..=(key.0, Epoch(u32::MAX));
        let others = self.runs.range(of_the_job).rev();
        let mut bases = others.filter(|(other, run)| run.base == **other && !run.broken);
        bases.find(|(base, _)| **base != key && lives(base)).map_or(key, |(&base, _)| base)
    }

    /// The newest checkpoint that is not after the one that the launch names.
    fn goes_on_from(&self, key: Key) -> (u64, bool) {
        let told = self.runs[&key].resume_step.filter(|_| !self.is_planted(Plant::ResumesNewest));
        let saved = self.storage.get(&key.0);
        let found = saved.and_then(|saved| saved.range(..=told.unwrap_or(u64::MAX)).next_back());
        let Some((&step, saved)) = found else { return (0, false) };
        let known = self.told_spoilt.get(&key.0);
        let is_known =
            known.is_some_and(|&(epoch, from)| epoch < key.1 && saved.by <= epoch && step >= from);
        assert!(
            !is_known || !saved.is_spoilt,
            "violation: job {} goes on from the spoilt checkpoint of step {step}",
            key.0
        );
        (step, saved.is_spoilt)
    }

    /// Whether all ranks of a launch had waited for theirs.
    fn is_warm(&self, key: Key) -> bool {
        let of_it = |&node: &usize| self.nodes[node].attempts.get(&key);
        self.nodes_of(key.0).iter().filter_map(of_it).all(|it| it.was_warm)
    }

    fn begin_training(&mut self, key: Key) {
        let (from_step, is_spoilt) = self.goes_on_from(key);
        let is_warm = self.is_warm(key);
        let training = Training { began: self.now, from_step, ended: None, is_spoilt, is_warm };
        let run = self.runs.get_mut(&key).expect("it was just started");
        run.training = Some(training);
        self.foresee(key);
    }

    /// When a training that gets on will be over, and come to its bug.
    fn foresee(&mut self, key: Key) {
        let run = &self.runs[&key];
        let training = run.training.as_ref().expect("it has begun");
        let done = run.script.finishes(training).since(self.now);
        let bug = run.bug_at(key).filter(|&at| at > self.now).map(|at| at.since(self.now));
        self.put(done, Happening::TrainingDone(key));
        if let Some(after) = bug {
            self.put(after, Happening::BugHits(key));
        }
    }

    /// Whom all waited for is gone: the others go on where they were.
    fn resume(&mut self, base: Key) {
        let now = self.now;
        let run = self.runs.get_mut(&base).expect("it has begun");
        (run.waits_for, run.resumed_at) = (None, Some(now));
        let training = run.training.as_mut().expect("it has begun");
        let ended = training.ended.take().expect("it stood");
        training.began = training.began + now.since(ended);
        let training = run.training.clone();
        for run in self.runs.values_mut().filter(|run| run.base == base && !run.broken) {
            if run.training.is_some() {
                run.training.clone_from(&training);
            }
        }
        self.foresee(base);
    }

    /// What lives of an attempt on a node ends, and its peers notice.
    pub(super) fn end_ranks(&mut self, node: usize, key: Key, exit: &Exit) {
        let now = self.now;
        let Some(attempt) = self.nodes[node].attempts.get_mut(&key).filter(|a| a.is_alive()) else {
            return;
        };
        attempt.end(exit, now);
        let replica = attempt.replica;
        if exit.is_success() {
            // One that ends as it was told to has saved what it had.
            let base = self.runs.get(&key).map_or(key, |run| run.base);
            self.store(base);
        } else {
            self.break_run(key, replica);
        }
        self.report(node);
    }

    /// A rank has died: its replica gets no further, nor does anybody when too few are left; and
    /// the peers lose their connections.
    pub(super) fn break_run(&mut self, key: Key, replica: u32) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let base = run.base;
        if base != key {
            run.broken = true;
        }
        let Some(others) = self.runs.get_mut(&base) else { return };
        if others.stranded.remove(&replica).is_some() {
            others.resumed_at = Some(self.now);
        }
        if others.finished || !others.lost.insert(replica) {
            return;
        }
        others.ready.remove(&replica);
        let left = others.replicas - others.lost.len() as u32;
        let was_awaited = others.waits_for.is_some_and(|(silent, _)| silent == replica);
        if left < others.replicas_min {
            others.broken = true;
            self.save(base);
            self.all_notice(base);
        } else if was_awaited && !others.broken {
            self.resume(base);
        }
        self.peers_notice(key, replica);
    }

    /// The training stands still from now on.
    pub(super) fn save(&mut self, key: Key) {
        let now = self.now;
        let Some(run) = self.runs.get_mut(&key) else { return };
        if let Some(training) = &mut run.training {
            training.ended.get_or_insert(now);
            self.store(key);
        }
    }

    /// The checkpoints of a training so far are on the storage.
    fn store(&mut self, key: Key) {
        let Some(run) = self.runs.get(&key) else { return };
        let Some(training) = &run.training else { return };
        let at = training.ended.unwrap_or(self.now);
        let storage = self.storage.entry(key.0).or_default();
        for (step, is_spoilt) in run.script.saved(training, key.1.0, at) {
            storage.insert(step, Saved { by: key.1, is_spoilt });
        }
    }

    /// Whoever trained in one replica with a rank that is gone.
    pub(super) fn peers_notice(&mut self, key: Key, replica: u32) {
        for node in self.nodes_of(key.0) {
            let is_peer = |a: &LocalAttempt| a.is_alive() && a.replica == replica;
            if self.nodes[node].attempts.get(&key).is_some_and(is_peer) {
                let after = Millis(self.chances.between(5, 3000));
                self.put(after, Happening::RanksEnd { node, key, exit: Exit::Code(1) });
            }
        }
    }

    /// Too few replicas are left, and their program ends by itself: nobody could tell from outside
    /// that one that tells no steps stands still.
    fn all_notice(&mut self, base: Key) {
        let tell_nothing = self.runs.iter().filter(|(_, run)| !run.script.reports);
        let launches: Vec<Key> =
            tell_nothing.filter(|(_, run)| run.base == base).map(|(&key, _)| key).collect();
        for key in launches {
            for replica in 0..self.runs[&key].replicas {
                self.peers_notice(key, replica);
            }
        }
    }

    pub(super) fn on_training_done(&mut self, key: Key) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let is_due = |training: &Training| {
            training.ended.is_none() && run.script.finishes(training) <= self.now
        };
        if run.broken || !run.training.as_ref().is_some_and(is_due) {
            return;
        }
        run.finished = true;
        let is_with_it =
            |(_, run): &(&Key, &Run)| run.base == key && !run.broken && run.training.is_some();
        let keys: Vec<Key> = self.runs.iter().filter(is_with_it).map(|(&key, _)| key).collect();
        for key in keys {
            self.end_well(key);
        }
    }

    /// The nodes on which ranks of a job have ever been: a fleet is too large to be looked through.
    pub(super) fn nodes_of(&self, job: JobId) -> Vec<usize> {
        self.job_nodes.get(&job).into_iter().flatten().copied().collect()
    }

    /// The ranks of a launch have nothing more to do.
    fn end_well(&mut self, key: Key) {
        let base = self.runs.get(&key).map_or(key, |run| run.base);
        for node in self.nodes_of(key.0) {
            let is_over = |it: &LocalAttempt| {
                !self.runs.get(&base).is_some_and(|run| run.stranded.contains_key(&it.replica))
            };
            if self.nodes[node].attempts.get(&key).is_some_and(is_over) {
                let after = Millis(self.chances.between(0, 200));
                self.put(after, Happening::RanksEnd { node, key, exit: Exit::Code(0) });
            }
        }
    }

    /// The program's own bug: it ends all ranks of a job without replicas through the first, and
    /// every replica comes to it.
    pub(super) fn on_bug(&mut self, key: Key) {
        let run = &self.runs[&key];
        let stands = run.training.as_ref().is_none_or(|training| training.ended.is_some());
        if stands || run.bug_at(key).is_none_or(|at| at > self.now) {
            return;
        }
        let has_it = |node: &usize| {
            self.nodes[*node]
                .attempts
                .keys()
                .any(|other| self.runs.get(other).is_some_and(|run| run.base == key))
        };
        let mut holders: Vec<usize> = self.nodes_of(key.0).into_iter().filter(has_it).collect();
        if self.runs[&key].replicas == 1 {
            holders.truncate(1);
        }
        for node in holders {
            let here = self.nodes[node].attempts.keys().copied();
            let keys: Vec<Key> = here
                .filter(|other| self.runs.get(other).is_some_and(|run| run.base == key))
                .collect();
            for key in keys {
                if let Some(attempt) = self.nodes[node].attempts.get_mut(&key) {
                    attempt.came_to_bug = true;
                }
                self.end_ranks(node, key, &Exit::Code(1));
            }
        }
    }

    /// Something was done to a node, with or without success. Nothing may have run there.
    pub(super) fn on_remedied(&mut self, node: usize, effect: EffectId, remedy: Option<Remedy>) {
        // Whoever does it does one thing at a time, and no more once somebody else has come.
        if self.nodes[node].remedy != Some(effect) {
            return;
        }
        let alive = self.nodes[node].attempts.values().any(LocalAttempt::is_alive);
        assert!(!alive, "violation: a node is mended while ranks run there");
        if matches!(remedy, Some(Remedy::Reboot | Remedy::PowerCycle)) {
            self.power_off(node, REBOOT);
        }
        let outcome = match self.chances.between(0, 9) {
            _ if remedy.is_none() && self.nodes[node].is_weak => {
                Outcome::Failed { reason: "not the same, bit for bit".into() }
            }
            0 => Outcome::Unsupported,
            1 | 2 => Outcome::Failed { reason: "by chance".into() },
            _ => Outcome::Done,
        };
        if outcome == Outcome::Done && remedy.is_some() {
            self.nodes[node].findings.clear();
            self.nodes[node].is_weak = false;
        }
        self.send(&Happening::ToControl(ToControl::RemedyOver(node, effect, outcome)));
    }

    /// A test of a node, or of two and their link, is over. It says the truth, or that nobody can. A node
    /// that is bad shows by itself, or only in what it carries; with an older agent there is one word
    /// about all of it, or none about the link.
    pub(super) fn on_tested(&mut self, node: usize, peer: Option<usize>, effect: EffectId) {
        let nodes: Vec<usize> = std::iter::once(node).chain(peer).collect();
        let is_under_way =
            |&node: &usize| self.nodes[node].remedy == Some(effect) && self.nodes[node].agent_alive;
        if !nodes.iter().all(is_under_way) {
            return;
        }
        for &node in &nodes {
            let alive = self.nodes[node].attempts.values().any(LocalAttempt::is_alive);
            assert!(!alive, "violation: a node is tested while ranks run there");
        }
        let link = peer.map(|peer| (node.min(peer), node.max(peer)));
        let is_weak = nodes.iter().any(|&node| self.nodes[node].is_weak);
        let is_weak_link = link.is_some_and(|link| self.weak_links.contains(&link));
        let lies = self.is_planted(Plant::TestsLie);
        let failed = || Outcome::Failed { reason: "not the same, bit for bit".into() };
        let told = |fails: bool| if fails { failed() } else { Outcome::Done };
        let chance = self.chances.between(0, 99);
        let Some(peer) = peer.filter(|_| chance >= 10) else {
            let outcome = match chance {
                0 => Outcome::Unsupported,
                _ => told((is_weak || is_weak_link) != lies),
            };
            return self.send(&Happening::ToControl(ToControl::RemedyOver(node, effect, outcome)));
        };
        let outcomes = match chance {
            // Burnt in at once: nobody looks at what is carried.
            10..20 => {
                let [node, peer] = [node, peer].map(|it| told(self.nodes[it].is_weak != lies));
                [node, peer, Outcome::Unsupported]
            }
            20..60 => [Outcome::Done, Outcome::Done, told((is_weak || is_weak_link) != lies)],
            _ => {
                let [node, peer] = [node, peer].map(|it| told(self.nodes[it].is_weak));
                [node, peer, told(is_weak_link != lies)]
            }
        };
        self.send(&Happening::ToControl(ToControl::PairTested(effect, outcomes)));
    }

    pub(super) fn on_fenced(&mut self, node: usize, fence: EffectId) {
        if !self.is_planted(Plant::FenceLies) {
            self.power_off(node, REBOOT);
        }
        self.send(&Happening::ToControl(ToControl::NodeFenced(node, fence)));
    }

    pub(super) fn power_off(&mut self, node: usize, back_after: Millis) {
        let alive: Vec<(Key, u32)> = self.nodes[node]
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.is_alive())
            .map(|(&key, attempt)| (key, attempt.replica))
            .collect();
        self.nodes[node].power_off(self.now);
        for (key, replica) in alive {
            self.break_run(key, replica);
        }
        self.put(back_after, Happening::PowerOn(node));
    }
}

fn last_words(came_to_bug: bool) -> Symptom {
    let (kind, line) = if came_to_bug {
        (SymptomKind::Program, "KeyError: 'bug'")
    } else {
        (SymptomKind::Peer, "Connection closed by peer")
    };
    Symptom { kind, line: line.into() }
}

impl Run {
    /// When its training comes to the program's own bug, if it is never stopped.
    fn bug_at(&self, key: Key) -> Option<Time> {
        let training = self.training.as_ref()?;
        let is_ahead = |bug: &Bug| key.1.0 <= bug.attempts && bug.step > training.from_step;
        let bug = self.script.bug.filter(is_ahead)?;
        Some(self.script.reaches(training, bug.step))
    }
}
