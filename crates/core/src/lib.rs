//! The control plane's logic as a pure, deterministic state machine.
//!
//! [`Core::step`] takes one recorded [`Event`] and appends the [`Effect`]s that must now be
//! carried out. There is no clock, no I/O, no thread, no randomness, no floating point and no
//! hash order in here, so two cores that took the same events are equal, bit for bit. The server
//! drives it in real time, the sim in virtual time.
//!
//! To find your way: [`event`] and [`effect`] are the vocabulary; [`Core::step`] below is the
//! whole control flow; each concern's `mod.rs` holds its verbs (`on_…`) and the files beside it
//! the rules. A verb changes its own concern and returns what follows for others.
#![deny(clippy::float_arithmetic, clippy::iter_over_hash_type, clippy::disallowed_types)]

pub mod blame;
pub mod edges;
pub mod effect;
pub mod event;
pub mod explain;
pub mod gang;
pub mod health;
pub mod job;
pub mod ledger;
pub mod placement;
pub mod queue;
pub mod recovery;
pub mod timer;

#[cfg(test)]
mod tests;

pub use effect::{Effect, Effects, Reply};
pub use event::Event;

use blame::answer::Answer;
use explain::runtimes::Runtimes;
use explain::trail::Trail;
use gang::progress::Step;
use health::by_node::ByNode;
use health::fleet::Fleet;
use health::guard::Breaker;
use health::idle::IdleBurnIns;
use health::ladder::Urgency;
use health::record::{Conspicuous, Health};
use health::repair::{Faults, Ticket};
use health::trial::Trials;
use job::Job;
use ledger::Ledger;
use lindos_model::finding::{Finding, FindingClass};
use lindos_model::{
    Column, Columns, EffectId, EndReason, Epoch, JobId, Millis, NodeId, Policy, Remedy, RequestId,
    Time, TrailEntry, TrailKind,
};
use queue::after::Dependants;
use queue::hold::Hold;
use queue::order::Queue;
use queue::reserve::Reservations;
use queue::teams::{TeamId, Teams};
use recovery::interval::Exposure;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use timer::{Timer, Timers};

/// A driver that comes so much later than it was asked to was not listening: its disk was full, or
/// its machine asleep. What it has not heard in that time has not been silent.
const LATE: Millis = Millis::from_secs(2);

/// The state of a fleet and its jobs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Core {
    now: Time,
    /// Of the present control plane.
    started_at: Time,
    /// Nobody listened for a while before this: silence until then was nobody's fault.
    listens_since: Time,
    policy: Policy,
    fleet: Fleet,
    /// Each in a box of its own: the map moves its entries about.
    jobs: BTreeMap<JobId, Box<Job>>,
    /// Those with a gang.
    alive: BTreeSet<JobId>,
    queue: Queue,
    teams: Teams,
    /// Nodes held for blocked gangs.
    holds: BTreeMap<JobId, Hold>,
    reservations: Reservations,
    /// Jobs that come after others.
    dependants: Dependants,
    /// When the whole queue was passed over last.
    passed_at: Time,
    /// Whose turn it is to ask for the stop of others: see [`queue::preempt`].
    askers_turn: u32,
    /// Jobs with fewer spares than they ask for.
    short_of_spares: BTreeSet<JobId>,
    /// The last of them that looked for some.
    spares_turn: JobId,
    /// Nodes, and their GPUs, that are kept for running gangs.
    spares: (u32, u64),
    /// Jobs that may want processes to wait for a rank somewhere, in this step.
    short_of_standbys: BTreeSet<JobId>,
    /// Processes that need not wait any more, where: nobody was told so yet, in this step.
    unwanted_standbys: Vec<(JobId, NodeId, EffectId)>,
    /// By node, where anything is known.
    health: ByNode<Health>,
    /// Those of them that may be a clue in a fault.
    #[serde(skip)]
    conspicuous: Conspicuous,
    /// Nodes that are out by Lindos's own decision.
    /// (A ticket is large, and to put one between others would move them.)
    repairs: BTreeMap<NodeId, Box<Ticket>>,
    /// Those of them that jobs have not left yet.
    leaving: BTreeSet<NodeId>,
    /// Condemned nodes that something keeps in service.
    kept_in: BTreeMap<NodeId, (Finding, Remedy, Urgency)>,
    breakers: BTreeMap<FindingClass, Breaker>,
    last_ticket: u64,
    /// Nodes that were found to blame in this step.
    struck: Vec<NodeId>,
    /// A node is back, and others that were kept in may go.
    must_look_at_kept: bool,
    /// Suspects that are tested against each other.
    trials: Trials,
    idle: IdleBurnIns,
    /// Nodes that jobs may have left.
    may_be_left: BTreeSet<NodeId>,
    /// Replicas that wait for nodes.
    incomplete: BTreeSet<(JobId, u32)>,
    ledger: Ledger,
    /// GPUs on the accounts of jobs now.
    held: Columns,
    timers: Timers,
    runtimes: Runtimes,
    exposure: Exposure,
    trail: Trail,
    requests: BTreeMap<RequestId, Reply>,
    request_order: VecDeque<RequestId>,
    finished: VecDeque<JobId>,
    /// What stood on the accounts of jobs that are not remembered any more.
    forgotten: Columns,
    last_job: u64,
    last_effect: u64,
    next_port: u16,
    /// Something changed that may let a queued job start.
    must_schedule: bool,
}

/// Equal state, equal digest: XXH3 (128 bits) over the snapshot's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u128);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A snapshot that does not decode: it is from another version, or it is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError(pub String);

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the snapshot does not decode: {}", self.0)
    }
}

impl std::error::Error for SnapshotError {}

impl Core {
    pub fn new() -> Self {
        Core::default()
    }

    /// Applies one recorded event at `at`; appends what must now be done to `out`.
    ///
    /// `at` is never earlier than at the step before; a driver whose clock goes back repeats the
    /// last time.
    pub fn step(&mut self, at: Time, event: &Event, out: &mut Effects) {
        assert!(at >= self.now, "time went back from {:?} to {at:?}", self.now);
        self.now = at;
        self.ledger.accrue(at);
        if self.timers.next().is_some_and(|due| at > due + LATE) {
            self.restart_deadlines(false);
        }

        match event {
            Event::ControlPlaneStarted { policy } => self.on_control_plane_started(policy, out),
            Event::NodeJoined { spec } => self.on_node_joined(spec, out),
            Event::NodeReported { node, incarnation, seq, attempts } => {
                if self.on_node_heard(*node, *incarnation, *seq, out) {
                    for word in self.on_node_reported(*node, attempts, out) {
                        if let Some((replica, reason)) = word.fault {
                            self.on_fault(word.job, replica, reason, out);
                        }
                        self.settle_attempt(word.job, out);
                    }
                }
            }
            Event::NodeSilent { node, last_heard } => {
                let faults = self.on_node_silent(*node, *last_heard, out);
                self.on_faults(faults, out);
            }
            Event::NodeFenced { node, fence } => {
                for job in self.on_node_fenced(*node, *fence, out) {
                    self.settle_attempt(job, out);
                }
            }
            Event::NodeDrained { request, node, reason } => {
                self.on_node_drained(*request, *node, Some(reason), out);
            }
            Event::NodeUndrained { request, node } => {
                self.on_node_drained(*request, *node, None, out);
            }
            Event::JobSubmitted { request, user, spec } => {
                self.on_job_submitted(*request, user, spec, out);
            }
            Event::JobCancelled { request, job } => {
                if let Some(reason) = self.on_job_cancelled(*request, *job, out) {
                    self.stop_attempt(*job, reason, out);
                }
            }
            Event::NodesReserved { request, reservation } => {
                self.on_nodes_reserved(*request, reservation, out);
            }
            Event::ReservationCancelled { request, name } => {
                self.on_reservation_cancelled(*request, name, out);
            }
            Event::StepReached { job, epoch, step, total_steps, loss_micro, is_watched } => {
                let (total_steps, loss_micro) = (*total_steps, *loss_micro);
                let (number, is_watched) = (*step, *is_watched);
                let told = Step { number, total_steps, loss_micro, is_watched };
                self.on_step_reached(*job, *epoch, told, out);
            }
            Event::CheckpointSaved { job, epoch, step, blocked_ms } => {
                let is_fresh = self.on_checkpoint_saved(*job, *epoch, *step, *blocked_ms, out);
                if is_fresh
                    && let Some(reason) = self.leaves_now(*job).or_else(|| self.growth(*job))
                {
                    self.stop_attempt(*job, reason, out);
                }
            }
            Event::GangReported { job, epoch, word, but } => {
                if self.on_gang_reported(*job, *epoch, *word, but) {
                    self.settle_attempt(*job, out);
                }
            }
            Event::ProgressStopped { job, epoch, since } => {
                self.on_progress_stopped(*job, *epoch, *since);
            }
            Event::FindingSeen { node, finding } => {
                let faults = self.on_finding_seen(*node, finding, out);
                self.on_faults(faults, out);
            }
            Event::FindingGone { node, class, device } => {
                self.on_finding_gone(*node, class, device.as_ref(), out);
            }
            Event::RemedyOver { node, remedy, outcome } => {
                if !self.on_test_over(*remedy, outcome, out) {
                    match self.on_idle_burn_in_over(*node, *remedy, outcome, out) {
                        Some(faults) => self.on_faults(faults, out),
                        None => self.on_remedy_over(*node, *remedy, outcome, out),
                    }
                }
            }
            Event::NodeMended { request, node, how } => {
                self.on_node_mended(*request, *node, *how, out);
            }
            Event::SymptomSeen { job, epoch, rank, symptom } => {
                self.on_symptom_seen(*job, *epoch, *rank, symptom);
            }
            Event::StallSeen { job, epoch, stall } => {
                self.on_stall_seen(*job, *epoch, stall);
            }
            Event::LossBroken { job, epoch, rank, step } => {
                if let Some(reason) = self.on_loss_broken(*job, *epoch, *rank, *step, out) {
                    self.stop_attempt(*job, reason, out);
                }
            }
            Event::StragglerSeen { job, epoch, straggler } => {
                let faults = self.on_straggler_seen(*job, *epoch, straggler, out);
                self.on_faults(faults, out);
            }
            Event::StragglerGone { job, epoch, rank } => {
                self.on_straggler_gone(*job, *epoch, *rank, out);
            }
            Event::StacksSeen { job, epoch, stacks } => {
                self.on_stacks_seen(*job, *epoch, stacks);
            }
            Event::ReplicaSilent { job, epoch, replica, stall } => {
                self.on_replica_silent(*job, *epoch, *replica as usize, stall, out);
            }
            Event::StandbyOffered { job } => self.on_standby_offered(*job),
            Event::StandbysReported { node, incarnation, seq, standbys } => {
                self.on_standbys_reported(*node, (*incarnation, *seq), standbys, out);
            }
            Event::PairTested { test, node, peer, link } => {
                self.on_pair_tested(*test, node, peer, link, out);
            }
            Event::Tick => {}
        }

        while let Some(timer) = self.timers.pop_due(at) {
            self.on_timer(timer, out);
        }
        self.settle_health(out);
        if self.must_schedule {
            self.must_schedule = false;
            self.complete_replicas(out);
            self.schedule(out);
            self.keep_spares(out);
            self.end_trials_that_block(out);
        }
        self.begin_trials(out);
        if !self.may_be_left.is_empty() {
            self.begin_repairs(out);
        }
        if self.fleet.has_interrupted() {
            self.end_interrupted(out);
            if self.must_schedule {
                self.wake_by(at);
            }
        }
        self.keep_standbys(out);
        self.settle_ledger();
    }

    /// Weighs what faults say of nodes, and looks again at those that were kept in service.
    fn settle_health(&mut self, out: &mut Effects) {
        while !self.struck.is_empty() || self.must_look_at_kept {
            let mut faults = self.on_struck(out);
            if std::mem::take(&mut self.must_look_at_kept) {
                faults.extend(self.look_at_kept(out));
            }
            self.on_faults(faults, out);
        }
    }

    /// Acts on a verdict, beyond the retry.
    fn on_answer(&mut self, id: JobId, answer: &Answer, out: &mut Effects) {
        match answer {
            Answer::InPlace => {}
            Answer::TestSuspects(suspects) => self.suspect(id, suspects, out),
            Answer::TakeOut(place) => {
                self.take_out_place(id, place, out);
                self.avoid_place(id, place);
            }
            Answer::KeepAway(place) => self.avoid_place(id, place),
        }
    }

    fn on_faults(&mut self, faults: Faults, out: &mut Effects) {
        for (job, replica, reason) in faults {
            self.on_fault(job, replica, reason, out);
        }
    }

    /// Moves an attempt on when all of its ranks have succeeded, and ends it when all of its
    /// members are gone; the same for each replica of it.
    fn settle_attempt(&mut self, id: JobId, out: &mut Effects) {
        let job = self.jobs.get(&id).filter(|job| !job.is_over());
        let Some(attempt) = job.and_then(|job| job.attempt.as_ref()) else { return };
        let has_succeeded = !attempt.is_stopping() && attempt.all_succeeded();
        let is_gone = attempt.all_gone();
        let has_replicas_down = !attempt.down.is_empty();
        if has_succeeded {
            self.stop_attempt(id, EndReason::Completed, out);
        }
        if is_gone {
            self.end_gang(id);
            let (reason, verdict, answer) = self.on_attempt_over(id, out);
            let faults = self.on_struck(out);
            self.on_answer(id, &answer, out);
            if !(verdict.is_at_once(&reason) && self.restart_in_place(id, out)) {
                self.release_gang(id, out);
                self.on_verdict(id, reason, &verdict, out);
            }
            self.on_faults(faults, out);
        } else if has_replicas_down {
            self.settle_replicas(id, out);
        }
        if !self.leaving.is_empty() {
            self.look_who_is_left(id);
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Effects) {
        match timer {
            Timer::Hang(job) => {
                if let Some(reason) = self.on_hang(job) {
                    match self.silent_replica(job, &reason) {
                        Some(replica) => self.drop_silent(job, replica, reason, out),
                        None => self.stop_attempt(job, reason, out),
                    }
                }
            }
            Timer::FirstStep(job) => {
                if let Some(reason) = self.on_no_first_step(job) {
                    self.stop_attempt(job, reason, out);
                }
            }
            Timer::Rejoin(job) => self.on_rejoin_overdue(job, out),
            Timer::TimeLimit(job) => {
                if let Some(reason) = self.on_time_limit(job) {
                    self.stop_attempt(job, reason, out);
                }
            }
            Timer::Resend(job) => self.on_resend(job, out),
            Timer::Backoff(job) => self.on_backoff_over(job),
            Timer::Pass => self.must_schedule = true,
            Timer::Reservation(id) => {
                for (job, reason) in self.on_reservation_due(id, out) {
                    self.stop_attempt(job, reason, out);
                }
            }
            Timer::Fence(node) => self.on_fence_overdue(node, out),
            Timer::Repair(node) => {
                let faults = self.on_repair_overdue(node, out);
                self.on_faults(faults, out);
            }
            Timer::Kept => self.must_look_at_kept = true,
            Timer::Trial(trial) => self.on_trial_overdue(trial, out),
            Timer::Idle => self.burn_in_idle(out),
            Timer::Standby(job) => self.on_standbys_overdue(job, out),
        }
    }

    /// When the core wants to be stepped next, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Splits the free GPUs into spare, stranded and idle, and lets the ledger go on with that.
    fn settle_ledger(&mut self) {
        let mut rates = self.fleet.columns();
        for (column, gpus) in self.held.iter() {
            rates[column] += gpus;
        }
        let free = rates[Column::Idle];
        let spare = self.spare_gpus().min(free);
        let stranded = (free - spare).min(self.queue.demand_gpus());
        rates[Column::Idle] = free - spare - stranded;
        rates[Column::Spare] += spare;
        rates[Column::Stranded] += stranded;
        let cause = (stranded > 0).then(|| self.queue.first_wait.as_deref().unwrap_or("new"));
        self.ledger.set_rates(rates, cause);
    }

    /// GPUs of the whole free nodes that are kept as spares, for one gang or for all. The latter are
    /// not told apart: it is the mean size of those that are free.
    fn spare_gpus(&self) -> u64 {
        let (of_jobs, their_gpus) = self.spares;
        let nodes = u64::from(self.fleet.whole_free() - of_jobs);
        if nodes == 0 {
            return their_gpus;
        }
        let kept = u64::from(self.policy.spares).min(nodes);
        their_gpus + (self.fleet.whole_free_gpus() - their_gpus) * kept / nodes
    }

    /// Every invariant; panics if one is broken.
    pub fn check(&self) {
        self.timers.check();
        self.fleet.check();
        self.ledger.check(self.fleet.gpus());
        self.queue.check();
        self.dependants.check();
        self.check_holds();
        self.check_reservations();
        self.check_spares();
        self.check_standbys();
        self.check_repairs();
        self.check_trials();
        self.check_idle();
        let mut queued = 0;
        let mut held: BTreeMap<TeamId, u64> = BTreeMap::new();
        let mut allocations = 0;
        let mut accounts = self.forgotten;
        let mut columns = Columns::default();
        for job in self.jobs.values() {
            let account = job.ledger.at(self.now);
            for column in Column::ALL {
                accounts[column] += account[column];
            }
            for (column, gpus) in job.ledger.held.iter() {
                columns[column] += gpus;
            }
            let is_queued = !job.is_over() && job.attempt.is_none();
            assert_eq!(is_queued, self.queue.contains(job.id));
            queued += usize::from(is_queued);
            let gang = job.attempt.as_ref().filter(|_| !job.is_over());
            assert_eq!(gang.is_some(), self.alive.contains(&job.id));
            if let Some(attempt) = gang {
                *held.entry(job.team).or_default() += self.gpus_of(attempt);
            }
            allocations += self.check_job(job);
        }
        assert_eq!(columns, self.held, "GPUs on the accounts of jobs were miscounted");
        let fleet = self.ledger.at(self.now);
        for column in Column::ALL.into_iter().filter(|column| column.is_on_a_job()) {
            assert_eq!(accounts[column], fleet[column], "the jobs' {} time differs", column.name());
        }
        assert_eq!(queued, self.queue.len(), "the queue holds unknown jobs");
        self.teams.check(&held);
        let on_nodes: usize = self.fleet.nodes().iter().map(|n| n.allocations.len()).sum();
        assert_eq!(allocations, on_nodes, "GPUs are held by nobody");
    }

    /// Proves that a job's gang and the nodes agree; how many allocations it has.
    fn check_job(&self, job: &Job) -> usize {
        let Some(attempt) = job.attempt.as_ref().filter(|_| !job.is_over()) else {
            assert_eq!(job.ledger.held.total(), 0, "job {} holds GPUs and has no gang", job.id);
            return 0;
        };
        assert!(attempt.epoch <= job.epoch);
        assert!(!attempt.all_gone(), "an attempt of job {} is over and was not settled", job.id);
        attempt.check();
        let mut held = Columns::default();
        for (index, replica) in attempt.replicas.iter().enumerate() {
            let mut there = 0;
            for member in attempt.members_of(index) {
                let known = &attempt.members[member];
                let node = self.fleet.node(known.node);
                let allocation = node.allocations.iter().find(|a| a.job == job.id);
                let allocation = allocation.expect("a gang's node does not know the job");
                assert_eq!((allocation.gpus, allocation.member), (known.gpus, member as u32));
                let is_up = node.state == health::fleet::NodeState::Up;
                there += if is_up { u64::from(known.gpus.len()) } else { 0 };
            }
            assert_eq!(replica.gpus, there, "a replica's GPUs were miscounted");
            held[attempt.column(index)] += there;
        }
        assert_eq!(job.ledger.held, held, "the GPUs of job {} stand elsewhere", job.id);
        assert!(
            self.timers.get(Timer::Resend(job.id)).is_some()
                || attempt.phase == gang::attempt::Phase::Up
        );
        attempt.members.len()
    }

    /// The whole state in bytes, for [`Core::restore`].
    pub fn snapshot(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("the state is plain data")
    }

    pub fn restore(bytes: &[u8]) -> Result<Core, SnapshotError> {
        let mut core: Core =
            postcard::from_bytes(bytes).map_err(|error| SnapshotError(error.to_string()))?;
        core.fleet.restore_index();
        for attempt in core.jobs.values_mut().filter_map(|job| job.attempt.as_mut()) {
            attempt.restore_failed();
        }
        core.conspicuous = Conspicuous::among(&core.health);
        let policy = core.policy.clone();
        core.teams.rule_by(&policy);
        Ok(core)
    }

    pub fn digest(&self) -> Digest {
        Digest(xxhash_rust::xxh3::xxh3_128(&self.snapshot()))
    }

    fn next_effect(&mut self) -> EffectId {
        self.last_effect += 1;
        EffectId(self.last_effect)
    }

    fn say(
        &mut self,
        job: Option<(JobId, Option<Epoch>)>,
        node: Option<NodeId>,
        what: TrailKind,
        out: &mut Effects,
    ) {
        let entry = self.record(job, node, what);
        out.push(Effect::Trail(entry));
    }

    fn record(
        &mut self,
        job: Option<(JobId, Option<Epoch>)>,
        node: Option<NodeId>,
        what: TrailKind,
    ) -> Arc<TrailEntry> {
        let name = node.map(|node| self.fleet.node(node).spec.name.as_str());
        self.trail.push(self.now, job, name, what, self.policy.trail_max as usize)
    }
}
