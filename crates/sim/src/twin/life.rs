//! The life of jobs: launched, training, saving, stopped, finished.

use super::TwinJob;
use super::straggler::Watch;
use super::work::{Every, Pace, Work};
use super::world::{Happening, World};
use lindos_core::Event;
use lindos_core::blame::evidence::look_after;
use lindos_core::effect::Target;
use lindos_core::event::GangWord;
use lindos_core::gang::attempt::{Attempt, ReplicaState};
use lindos_model::{
    Activity, Apart, EffectId, Epoch, JobId, Millis, NodeId, Stall, StandbyReport, StandbyState,
    Time,
};
use std::collections::{BTreeMap, BTreeSet};

/// One job as it really is.
#[derive(Clone, Debug)]
pub struct Life {
    /// In the setup.
    pub index: usize,
    /// The newest durable checkpoint.
    pub saved: u64,
    pub training: Option<Training>,
    /// As Lindos advises.
    save_every: Option<Millis>,
    /// Launches whose ranks are being started.
    launching: BTreeSet<Epoch>,
    /// Those of them all of whose ranks had waited for theirs.
    warm: BTreeSet<Epoch>,
    /// Replicas that have come back before the others began.
    early: BTreeSet<Epoch>,
    /// What is being stopped: a whole launch, or one replica of it.
    stopping: BTreeSet<(Epoch, Option<u32>)>,
}

/// A gang that trains, or did until something stopped it.
#[derive(Clone, Debug)]
pub struct Training {
    /// Of the launch of the whole gang.
    pub epoch: Epoch,
    pace: Pace,
    replicas: u32,
    replicas_min: u32,
    /// Those that do not train.
    pub away: BTreeSet<u32>,
    /// Replicas launched since.
    pub back: BTreeSet<Epoch>,
    /// Nodes that hold all others up, and by how much.
    pub(super) slow: BTreeMap<NodeId, f64>,
    pub(super) watch: Watch,
    /// Replicas in which something stands still, so that all others wait for them.
    hung: BTreeSet<u32>,
    /// The core knows that it does not get on, and of no step since.
    is_silent: bool,
    /// It gets no further.
    pub is_broken: bool,
    /// Of the newest checkpoint that was begun.
    save_step: u64,
    blocked: Millis,
    /// Grows with every change of what comes next, from one training of a job to the next too.
    plan: u64,
}

/// What of a gang was launched together.
struct Launched {
    /// Their numbers, ascending.
    replicas: Vec<usize>,
    nodes: usize,
    is_whole: bool,
}

impl Life {
    pub fn new(index: usize) -> Life {
        Life {
            index,
            saved: 0,
            training: None,
            save_every: None,
            launching: BTreeSet::new(),
            warm: BTreeSet::new(),
            early: BTreeSet::new(),
            stopping: BTreeSet::new(),
        }
    }
}

fn millis(time: Time) -> Millis {
    time.since(Time::ZERO)
}

impl Training {
    /// Microseconds a step, by the slowest of all and the replicas that share the work.
    pub(super) fn step_us(&self, work: &Work) -> u64 {
        let slowest = self.slow.values().copied().fold(1.0, f64::max);
        let share = f64::from(self.replicas) / f64::from(self.present().max(1));
        (work.step.0 as f64 * 1000.0 * slowest * share) as u64
    }

    /// Whole steps done.
    pub(super) fn steps_at(&self, now: Time) -> u64 {
        self.pace.steps_at(millis(now))
    }

    fn present(&self) -> u32 {
        self.replicas - self.away.len() as u32
    }

    fn can_train(&self) -> bool {
        self.present() >= self.replicas_min && self.present() > 0
    }
}

impl World<'_, '_> {
    pub(super) fn twin_job(&self, job: JobId) -> &TwinJob {
        &self.setup.jobs[self.lives[&job].index]
    }

    pub(super) fn work(&self, job: JobId) -> &Work {
        &self.twin_job(job).work
    }

    fn life(&mut self, job: JobId) -> &mut Life {
        self.lives.get_mut(&job).expect("only known jobs are launched")
    }

    /// The training of a job, unless that is over.
    fn training(&mut self, job: JobId) -> Option<&mut Training> {
        self.lives.get_mut(&job)?.training.as_mut().filter(|training| !training.is_broken)
    }

    /// The training of a job that gets on.
    pub(super) fn trains(&mut self, job: JobId) -> Option<&mut Training> {
        self.training(job).filter(|training| training.hung.is_empty())
    }

    pub fn on_launch(&mut self, job: JobId, epoch: Epoch, save_every: Option<Millis>) {
        self.life(job).save_every = save_every;
        if self.life(job).launching.insert(epoch) {
            self.put(self.setup.delays.launch, Happening::Up { job, epoch });
        }
    }

    /// All ranks of a launch run, but where a node is dead: then nobody gets on.
    pub fn on_up(&mut self, job: JobId, epoch: Epoch) {
        let life = self.life(job);
        if !life.launching.remove(&epoch) {
            return;
        }
        let (is_resumed, is_warm) = (life.saved > 0, life.warm.remove(&epoch));
        self.say(job, epoch, GangWord::Running);
        let Some(launched) = self.launched(job, epoch) else { return };
        if self.dead_among(job, &launched).len() == launched.replicas.len() {
            return;
        }
        let work = self.work(job);
        let span = if launched.is_whole {
            work.starts_in(launched.nodes, is_resumed, is_warm)
        } else {
            work.starts_in(launched.nodes, false, is_warm) + work.join
        };
        self.put(span, Happening::Begins { job, epoch });
    }

    /// The gang of a job, unless the core is stopping it.
    pub fn gang_of(&self, job: JobId) -> Option<&Attempt> {
        let attempt = self.core.job(job).filter(|job| !job.is_over())?.attempt.as_ref()?;
        (!attempt.is_stopping()).then_some(attempt)
    }

    /// What of a gang was launched under an epoch, if the core has it still.
    fn launched(&self, job: JobId, epoch: Epoch) -> Option<Launched> {
        let attempt = self.gang_of(job).filter(|attempt| attempt.has_epoch(epoch))?;
        let is_of_it = |&index: &usize| {
            let replica = &attempt.replicas[index];
            replica.epoch == epoch && replica.state == ReplicaState::Launched
        };
        let replicas: Vec<usize> = match attempt.back.get(&epoch) {
            Some(&replica) => vec![replica as usize].into_iter().filter(is_of_it).collect(),
            None => (0..attempt.replicas.len()).filter(is_of_it).collect(),
        };
        let nodes = replicas.len() * attempt.nodes_in_replica();
        (nodes > 0).then_some(Launched { replicas, nodes, is_whole: epoch == attempt.epoch })
    }

    /// The place of a node in its gang, if it is one of a launch. Of the few nodes that something
    /// is the matter with it is asked which are part of a gang, and not the other way round.
    fn member_of(&self, job: JobId, launched: &Launched, node: NodeId) -> Option<usize> {
        let member = self.core.member_on(node, job)?;
        let replica = self.gang_of(job)?.replica_of(member);
        launched.replicas.binary_search(&replica).is_ok().then_some(member)
    }

    /// The bad nodes of a launch with their places in its gang, from whichever side there are fewer to
    /// look at.
    fn bad_among(&self, job: JobId, launched: &Launched) -> BTreeSet<(usize, NodeId)> {
        let Some(gang) = self.gang_of(job) else { return BTreeSet::new() };
        let is_bad = |&(_, node): &(usize, NodeId)| self.machines.is_bad(node);
        if launched.nodes < self.machines.ill_count() {
            let members = launched.replicas.iter().flat_map(|&replica| gang.members_of(replica));
            members.map(|member| (member, gang.members[member].node)).filter(is_bad).collect()
        } else {
            let ill = self.machines.ill();
            let ill = ill.filter_map(|node| Some((self.member_of(job, launched, node)?, node)));
            ill.filter(is_bad).collect()
        }
    }

    /// The replicas of a launch in which a node is dead.
    fn dead_among(&self, job: JobId, launched: &Launched) -> BTreeSet<u32> {
        let Some(gang) = self.gang_of(job) else { return BTreeSet::new() };
        let dead = self.machines.dead();
        let members = dead.filter_map(|node| self.member_of(job, launched, node));
        members.map(|member| gang.replica_of(member) as u32).collect()
    }

    fn slow_among(&self, job: JobId, launched: &Launched) -> BTreeMap<NodeId, f64> {
        let slow = self.machines.slow().iter().map(|(&node, &factor)| (node, factor));
        slow.filter(|&(node, _)| self.member_of(job, launched, node).is_some()).collect()
    }

    pub fn on_begins(&mut self, job: JobId, epoch: Epoch) {
        let Some(launched) = self.launched(job, epoch) else { return };
        // What is broken there shows when it is used.
        for (_, node) in self.bad_among(job, &launched) {
            let launched = self.launched(job, epoch);
            if launched.is_some_and(|it| self.member_of(job, &it, node).is_some()) {
                self.fail_on(node, job);
            }
        }
        let Some(launched) = self.launched(job, epoch) else { return };
        if launched.is_whole {
            self.begin(job, epoch, &launched);
        } else if self.dead_among(job, &launched).is_empty() {
            self.join(job, epoch, &launched);
        }
    }

    fn begin(&mut self, job: JobId, epoch: Epoch, launched: &Launched) {
        let now = self.now;
        let slow = self.slow_among(job, launched);
        let spec = &self.twin_job(job).spec;
        let (replicas, replicas_min) = (spec.replicas, spec.replicas_min);
        let early = std::mem::take(&mut self.life(job).early);
        let (mut away, mut back) = (BTreeSet::new(), BTreeSet::new());
        if let Some(attempt) = self.gang_of(job) {
            away = attempt.down.union(&attempt.rejoining).copied().collect();
            for (&epoch, replica) in attempt.back.iter().filter(|(epoch, _)| early.contains(epoch))
            {
                away.remove(replica);
                back.insert(epoch);
            }
        }
        // Nobody waits for those: the others find out who is there.
        away.extend(self.dead_among(job, launched));
        if (replicas - away.len() as u32) < replicas_min.max(1) {
            return;
        }
        let step_us = self.work(job).step.0 * 1000;
        let life = self.life(job);
        // What was to come of the training before is void.
        let plan = life.training.as_ref().map_or(0, |before| before.plan);
        life.training = Some(Training {
            epoch,
            pace: Pace::new(life.saved, millis(now), step_us),
            replicas,
            replicas_min,
            away,
            back: back.clone(),
            slow,
            watch: Watch::default(),
            hung: BTreeSet::new(),
            is_silent: false,
            is_broken: false,
            save_step: life.saved,
            blocked: Millis::ZERO,
            plan,
        });
        self.tell_step(job, epoch);
        for epoch in back {
            self.tell_step(job, epoch);
        }
        self.change_pace(job);
    }

    /// A replica is back, and the others share their work with it again.
    fn join(&mut self, job: JobId, epoch: Epoch, launched: &Launched) {
        let slow = self.slow_among(job, launched);
        let attempt = self.core.job(job).and_then(|job| job.attempt.as_ref());
        let Some(&replica) = attempt.and_then(|attempt| attempt.back.get(&epoch)) else { return };
        let (now, regroup) = (self.now, self.work(job).regroup);
        let Some(training) = self.trains(job) else {
            self.life(job).early.insert(epoch);
            return;
        };
        training.away.remove(&replica);
        training.back.insert(epoch);
        training.slow.extend(slow);
        training.pace.pause(millis(now), regroup);
        self.tell_step(job, epoch);
        self.change_pace(job);
    }

    /// The core hears how far a training is.
    fn tell_step(&mut self, job: JobId, epoch: Epoch) {
        let (now, total) = (self.now, self.work(job).steps);
        if !self.twin_job(job).tells_steps {
            return;
        }
        let Some(training) = self.trains(job) else { return };
        let step = training.pace.steps_at(millis(now)).min(total);
        self.tell(&Event::StepReached {
            job,
            epoch,
            step,
            total_steps: Some(total),
            loss_micro: None,
            is_watched: true,
        });
        if self.work(job).startup_warm.is_some() && self.core.asks_for_standby(job) {
            self.tell(&Event::StandbyOffered { job });
        }
    }

    /// All ranks of a launch have waited for theirs.
    pub fn note_warm(&mut self, job: JobId, epoch: Epoch) {
        self.life(job).warm.insert(epoch);
    }

    /// Processes are started, to wait for a rank: so long until they do.
    pub fn on_stand_by(&mut self, job: JobId, standby: EffectId) {
        let work = self.work(job);
        let loads = work.startup - work.startup_warm.unwrap_or(work.startup);
        self.put(loads, Happening::Loaded { job, standby });
    }

    /// Those that an order asked for wait now, wherever they should and live.
    pub fn on_loaded(&mut self, job: JobId, standby: EffectId) {
        let Some(attempt) = self.core.job(job).and_then(|job| job.attempt.as_ref()) else { return };
        let all = attempt.standbys.iter();
        let of_it = all.filter(|(_, it)| it.id == standby && it.ready_at.is_none());
        let nodes: Vec<NodeId> = of_it.map(|(&node, _)| node).collect();
        for node in nodes {
            if self.machines.is_dead(node) {
                continue;
            }
            let mut standbys = self.core.ready_on(node);
            standbys.push(StandbyReport { job, id: standby, state: StandbyState::Ready });
            let known = self.core.node(node).expect("the core has asked it");
            let (incarnation, seq) = (known.incarnation, known.seq);
            self.tell(&Event::StandbysReported { node, incarnation, seq, standbys });
        }
    }

    /// The speed of a training may be another from now on, and so what comes next.
    pub fn change_pace(&mut self, job: JobId) {
        let now = self.now;
        let work = self.work(job).clone();
        let Some(training) = self.trains(job) else { return };
        let step_us = training.step_us(&work);
        training.pace.change(millis(now), step_us);
        self.plan_next(job);
        self.look_for_straggler(job);
    }

    fn plan_next(&mut self, job: JobId) {
        let (now, work) = (self.now, self.work(job).clone());
        let advised = self.lives[&job].save_every;
        let Some(training) = self.trains(job) else { return };
        training.plan += 1;
        if training.is_silent {
            // That it gets on again is told as soon as it does.
            let (plan, next) = (training.plan, training.pace.steps_at(millis(now)) + 1);
            let at = Time::ZERO + training.pace.reaches(next);
            return self.put_at(at, Happening::Resumes { job, plan });
        }
        let every = work.steps_a_save(advised);
        let save = every.map_or(u64::MAX, |steps| training.save_step.saturating_add(steps));
        let step = save.min(work.steps);
        let (at, plan) = (training.pace.reaches(step), training.plan);
        self.put_at(Time::ZERO + at, Happening::Next { job, plan });
    }

    /// A checkpoint is due, or the last step is done.
    pub fn on_next(&mut self, job: JobId, plan: u64) {
        let (now, work) = (self.now, self.work(job).clone());
        let Some(training) = self.trains(job).filter(|training| training.plan == plan) else {
            return;
        };
        let (epoch, step) = (training.epoch, training.pace.steps_at(millis(now)));
        if step >= work.steps {
            self.finish(job);
            return;
        }
        self.tell_step(job, epoch);
        self.save(job, work.checkpoints.blocks, work.checkpoints.durable_after);
        self.plan_next(job);
    }

    /// A checkpoint is begun.
    fn save(&mut self, job: JobId, blocks: Millis, durable_after: Millis) {
        let now = self.now;
        let Some(training) = self.trains(job) else { return };
        let (epoch, step) = (training.epoch, training.pace.steps_at(millis(now)));
        training.pace.drop_step(millis(now));
        training.pace.pause(millis(now), blocks);
        training.save_step = step;
        training.blocked = training.blocked + blocks;
        let blocked = training.blocked;
        self.put(blocks + durable_after, Happening::Durable { job, epoch, step, blocked });
    }

    /// A checkpoint is durable, unless whoever wrote it is gone.
    pub fn on_durable(&mut self, job: JobId, epoch: Epoch, step: u64, blocked: Millis) {
        // Who stands still may have written it for all that.
        let Some(training) = self.training(job).filter(|training| training.epoch == epoch) else {
            return;
        };
        debug_assert!(training.save_step >= step);
        let life = self.life(job);
        life.saved = life.saved.max(step);
        if !self.twin_job(job).tells_saves {
            return;
        }
        self.tell(&Event::CheckpointSaved { job, epoch, step, blocked_ms: blocked.0 });
    }

    fn finish(&mut self, job: JobId) {
        if let Some(exit) = self.twin_job(job).fails.clone() {
            self.fail_by_itself(job, &exit);
            return;
        }
        let Some(training) = self.trains(job) else { return };
        training.is_broken = true;
        let epochs: Vec<Epoch> =
            std::iter::once(training.epoch).chain(training.back.iter().copied()).collect();
        self.life(job).saved = self.work(job).steps;
        for epoch in epochs {
            self.say(job, epoch, GangWord::Succeeded);
        }
    }

    /// Something has ended the training of a replica; of most jobs, of all.
    pub fn break_training(&mut self, job: JobId, replica: u32) {
        let (now, regroup) = (self.now, self.work(job).regroup);
        let Some(training) = self.training(job) else { return };
        let epoch = training.epoch;
        self.tell_step(job, epoch);
        let slow = self.slow_in(job, replica as usize);
        let Some(training) = self.training(job) else { return };
        let was_hung = !training.hung.is_empty();
        training.away.insert(replica);
        training.hung.remove(&replica);
        training.slow.retain(|node, _| !slow.contains(node));
        training.plan += 1;
        if !training.can_train() {
            training.is_broken = true;
            return;
        }
        if !training.hung.is_empty() {
            return;
        }
        training.pace.drop_step(millis(now));
        if was_hung {
            training.pace.go_on(millis(now));
        }
        training.pace.pause(millis(now), regroup);
        self.change_pace(job);
        if was_hung {
            self.let_in(job);
        }
    }

    /// Replicas have come back while the others stood still.
    fn let_in(&mut self, job: JobId) {
        for epoch in std::mem::take(&mut self.life(job).early) {
            if let Some(launched) = self.launched(job, epoch) {
                self.join(job, epoch, &launched);
            }
        }
    }

    fn is_training(&mut self, job: JobId, replica: u32) -> bool {
        self.training(job).is_some_and(|training| !training.away.contains(&replica))
    }

    /// Those of a replica's nodes that hold all others up.
    fn slow_in(&self, job: JobId, replica: usize) -> BTreeSet<NodeId> {
        let training = self.lives.get(&job).and_then(|life| life.training.as_ref());
        let Some(training) = training.filter(|training| !training.slow.is_empty()) else {
            return BTreeSet::new();
        };
        let Some(gang) = self.gang_of(job) else { return BTreeSet::new() };
        let nodes = gang.members_of(replica).map(|member| gang.members[member].node);
        nodes.filter(|node| training.slow.contains_key(node)).collect()
    }

    /// All of a training stands still for a while; the core hears of it, and of its end.
    pub fn pause_training(&mut self, job: JobId, span: Millis) {
        let now = self.now;
        let Some(training) = self.trains(job) else { return };
        let epoch = training.epoch;
        self.tell_step(job, epoch);
        self.tell(&Event::ProgressStopped { job, epoch, since: now });
        let Some(training) = self.trains(job) else { return };
        training.pace.pause(millis(now), span);
        training.is_silent = true;
        self.plan_next(job);
    }

    /// All of a training stands still for a while that is no longer than its steps now and then are.
    pub fn stall_training(&mut self, job: JobId, span: Millis) {
        let now = self.now;
        if let Some(training) = self.trains(job) {
            training.pace.pause(millis(now), span);
            self.plan_next(job);
        }
    }

    /// One replica stands still, and all others wait for it, until the core finds that too long. With
    /// `shows`, a look at the ranks will find those of this node apart.
    pub fn hang_training(&mut self, job: JobId, replica: u32, node: NodeId, shows: bool) {
        let now = self.now;
        let Some(training) = self.training(job).filter(|it| !it.away.contains(&replica)) else {
            return;
        };
        let (epoch, was_hung) = (training.epoch, !training.hung.is_empty());
        if !was_hung {
            self.tell_step(job, epoch);
            self.tell(&Event::ProgressStopped { job, epoch, since: now });
        }
        let Some(training) = self.training(job) else { return };
        training.hung.insert(replica);
        training.is_silent = true;
        training.plan += 1;
        let step_ms = training.pace.step_ms();
        if shows && self.twin_job(job).tells_steps {
            let after = look_after(Some(step_ms));
            self.put(after, Happening::Looked { job, epoch, node, since: now });
        }
    }

    /// Somebody has looked at all ranks of a training that stands still.
    pub fn on_looked(&mut self, job: JobId, epoch: Epoch, node: NodeId, since: Time) {
        let now = self.now;
        let Some(gang) = self.gang_of(job) else { return };
        let Some(member) = self.core.member_on(node, job) else { return };
        let (replica, rank) = (gang.replica_of(member) as u32, gang.first_rank(member));
        let (nodes, per_node) = (gang.nodes_in_replica() as u32, u32::from(gang.ranks_per_node));
        let Some(training) = self.training(job) else { return };
        if training.epoch != epoch || !training.hung.contains(&replica) {
            return;
        }
        let step = training.pace.steps_at(millis(now));
        let told = training.present() * nodes * per_node;
        let stopped = Apart { rank, step: Some(step), activity: Some(Activity::Stopped) };
        let (most, apart) = (Some(Activity::Idle), vec![stopped]);
        let stall = Box::new(Stall { since, step, told, at_step: told, most, apart });
        self.tell(&Event::StallSeen { job, epoch, stall });
    }

    pub fn on_resumes(&mut self, job: JobId, plan: u64) {
        let Some(training) = self.trains(job).filter(|training| training.plan == plan) else {
            return;
        };
        training.is_silent = false;
        let epoch = training.epoch;
        self.tell_step(job, epoch);
        self.change_pace(job);
    }

    pub fn slow_down(&mut self, job: JobId, node: NodeId, factor: Option<f64>) {
        let Some(training) = self.trains(job) else { return };
        match factor {
            Some(factor) => training.slow.insert(node, factor),
            None => training.slow.remove(&node),
        };
        self.change_pace(job);
    }

    pub fn on_stop(&mut self, job: JobId, epoch: Epoch, grace: Millis, to: &[Target]) {
        // Only a part of a gang that goes on is stopped alone.
        let first = to.first().map_or(0, |to| to.member as usize);
        let replica = self.gang_of(job).map(|attempt| attempt.replica_of(first) as u32);
        if !self.life(job).stopping.insert((epoch, replica)) {
            return;
        }
        let mut span = self.setup.delays.stop;
        if replica.is_none() {
            self.life(job).launching.remove(&epoch);
            span = self.stop_training(job, epoch, grace);
        } else if let Some(replica) = replica.filter(|&replica| self.is_training(job, replica)) {
            // It leaves a node that was taken out, and the others go on without it.
            self.break_training(job, replica);
        }
        self.put(span, Happening::Stopped { job, epoch, replica });
    }

    /// A whole gang is told to stop, and saves its work if it has the time. When it is gone.
    fn stop_training(&mut self, job: JobId, epoch: Epoch, grace: Millis) -> Millis {
        let (work, stop) = (self.work(job).clone(), self.setup.delays.stop);
        let saving = work.checkpoints.blocks + work.checkpoints.durable_after;
        let saves = work.checkpoints.every != Every::Never && grace >= saving + stop;
        if self.trains(job).is_none_or(|training| training.epoch != epoch) {
            return stop;
        }
        self.tell_step(job, epoch);
        if saves {
            self.save(job, work.checkpoints.blocks, work.checkpoints.durable_after);
        }
        if let Some(training) = self.trains(job) {
            training.plan += 1;
            training.is_broken = !saves;
        }
        if saves { saving + stop } else { stop }
    }

    pub fn on_stopped(&mut self, job: JobId, epoch: Epoch, replica: Option<u32>) {
        let life = self.life(job);
        life.stopping.remove(&(epoch, replica));
        let whole = life.training.as_mut().filter(|t| t.epoch == epoch && replica.is_none());
        if let Some(training) = whole {
            training.is_broken = true;
        }
        self.say(job, epoch, GangWord::Stopped);
    }
}
