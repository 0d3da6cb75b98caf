//! The ideal world around a core: whatever is ordered is done, and told, at the same moment.
//!
//! A moment has three parts: what the trace and the running jobs bring (ends, checkpoints,
//! submissions, in this order), then the reports of all nodes that this changed, again and again
//! until nothing is ordered any more. Time passes only between moments.

use super::measure::{Levels, Meter, Window};
use super::shape::TraceJob;
use lindos_core::effect::{Command, Effects, Launch, Order, Reply, Target};
use lindos_core::{Core, Effect, Event};
use lindos_model::{
    AttemptReport, Column, Columns, Epoch, Exit, JobId, Millis, NodeId, NodeSpec, Policy, Rank,
    RankExit, RankReport, ReportedPhase, RequestId, Time, TrailKind,
};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the core need not remember here: nobody asks for it.
const REMEMBERED: u32 = 256;
/// The core may ask to be woken while nothing runs; after so many times in which it starts
/// nothing, what still waits waits for ever.
const IDLE_WAKEUPS_MAX: u32 = 10_000;
/// Progress is told after so many moments.
const MOMENTS_A_TELLING: u64 = 512;

#[derive(Clone, Debug)]
pub struct Setup<'a> {
    pub nodes: &'a [NodeSpec],
    pub policy: Policy,
    /// By submission.
    pub jobs: &'a [TraceJob],
    /// Jobs save their work whenever they have run for this long.
    pub checkpoint: Option<Millis>,
    /// The span whose utilisation is measured by itself.
    pub window: Window,
    /// The core's invariants are checked every so many events; 0: never.
    pub check_every: u64,
}

/// What became of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It never started, or was still running when nothing happened any more.
    None,
    Completed,
    Failed,
    /// The core would not take it.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobOutcome {
    pub started: Option<Time>,
    pub ended: Option<Time>,
    pub end: End,
    /// Attempts that the core stopped and that did not end the job.
    pub preempted: u32,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    /// One a job of the setup, in its order.
    pub jobs: Vec<JobOutcome>,
    pub began: Time,
    pub ended: Time,
    /// GPU-milliseconds by column, from `began` to `ended`.
    pub ledger: Columns,
    pub meter: Meter,
    /// Events that the core took.
    pub events: u64,
    pub digest: lindos_core::Digest,
}

/// Something that is to come. At one moment, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Ends { job: usize, epoch: Epoch },
    Saves { job: usize, epoch: Epoch },
}

/// An attempt on one node.
#[derive(Clone, Debug)]
struct Part {
    job: JobId,
    epoch: Epoch,
    gpus: u16,
    /// No rank: it was stopped before it came.
    rank: Option<Rank>,
    end: Option<RankExit>,
}

#[derive(Clone, Debug)]
struct Node {
    gpus: u16,
    used: u16,
    parts: Vec<Part>,
    seq: u64,
    /// What lives there changed since its last report.
    must_report: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Waits,
    Launching,
    Runs,
    /// Its ranks have ended, by themselves or because they were told to.
    Ended,
}

#[derive(Clone, Debug)]
struct Live {
    life: Life,
    epoch: Epoch,
    members: Vec<NodeId>,
    /// Members that the core has not forgotten.
    held: usize,
    /// When it began to run in this epoch, and the work that it had saved by then.
    since: Time,
    saved: Millis,
    was_stopped: bool,
    outcome: JobOutcome,
}

struct World<'a> {
    core: Core,
    now: Time,
    jobs: &'a [TraceJob],
    lives: Vec<Live>,
    /// Index in `jobs` of the core's job number `index + 1`.
    by_id: Vec<usize>,
    ids: Vec<JobId>,
    nodes: Vec<Node>,
    heap: BinaryHeap<Reverse<(Time, Happening)>>,
    next_submit: usize,
    checkpoint: Option<Millis>,
    to_report: Vec<NodeId>,
    to_begin: Vec<usize>,
    out: Effects,
    levels: Levels,
    meter: Meter,
    over: usize,
    launches: u64,
    events: u64,
    check_every: u64,
}

/// Plays the whole trace. `tell` is told the jobs that are over, and all of them.
pub fn replay(setup: Setup<'_>, tell: &mut dyn FnMut(usize, usize)) -> Outcome {
    let jobs = setup.jobs;
    let mut world = World::new(setup);
    let began = world.now;
    let mut moments = 0u64;
    let mut idle = (0, 0);
    while world.over < jobs.len() {
        let Some(next) = world.next_moment() else { break };
        if world.is_waiting_only() {
            idle =
                if idle.1 == world.launches { (idle.0 + 1, idle.1) } else { (0, world.launches) };
            if idle.0 > IDLE_WAKEUPS_MAX {
                break;
            }
        }
        world.pass_to(next);
        world.live_moment();
        moments += 1;
        if moments.is_multiple_of(MOMENTS_A_TELLING) {
            tell(world.over, jobs.len());
        }
    }
    world.core.check();
    let ended = world.now;
    Outcome {
        jobs: world.lives.iter().map(|live| live.outcome).collect(),
        began,
        ended,
        ledger: world.core.ledger_at(ended),
        digest: world.core.digest(),
        events: world.events,
        meter: world.meter,
    }
}

impl<'a> World<'a> {
    fn new(setup: Setup<'a>) -> World<'a> {
        let now = setup.jobs.first().map_or(Time::ZERO, |job| job.submit);
        let gpus = setup.nodes.iter().map(|node| u64::from(node.gpus)).sum();
        let fresh = Live {
            life: Life::Waits,
            epoch: Epoch(0),
            members: Vec::new(),
            held: 0,
            since: now,
            saved: Millis::ZERO,
            was_stopped: false,
            outcome: JobOutcome { started: None, ended: None, end: End::None, preempted: 0 },
        };
        let node = |spec: &NodeSpec| Node {
            gpus: spec.gpus,
            used: 0,
            parts: Vec::new(),
            seq: 0,
            must_report: false,
        };
        let mut world = World {
            core: Core::new(),
            now,
            jobs: setup.jobs,
            lives: vec![fresh; setup.jobs.len()],
            by_id: Vec::new(),
            ids: vec![JobId(0); setup.jobs.len()],
            nodes: setup.nodes.iter().map(node).collect(),
            heap: BinaryHeap::new(),
            next_submit: 0,
            checkpoint: setup.checkpoint.filter(|span| span.0 > 0),
            to_report: Vec::new(),
            to_begin: Vec::new(),
            out: Vec::new(),
            levels: Levels { free: gpus, ..Levels::default() },
            meter: Meter::new(now, setup.window),
            over: 0,
            launches: 0,
            events: 0,
            check_every: setup.check_every,
        };
        let mut policy = setup.policy;
        policy.finished_jobs_max = policy.finished_jobs_max.min(REMEMBERED);
        policy.trail_max = policy.trail_max.min(REMEMBERED);
        policy.requests_max = policy.requests_max.min(REMEMBERED);
        world.tell(&Event::ControlPlaneStarted { policy: Box::new(policy) });
        for (index, spec) in setup.nodes.iter().enumerate() {
            world.tell(&Event::NodeJoined { spec: Box::new(spec.clone()) });
            world.report(NodeId(index as u32));
        }
        world
    }

    fn next_moment(&self) -> Option<Time> {
        let submit = self.jobs.get(self.next_submit).map(|job| job.submit);
        let happening = self.heap.peek().map(|Reverse((at, _))| *at);
        [submit, happening, self.core.next_wakeup()].into_iter().flatten().min()
    }

    /// Whether only the core's own timers can bring anything.
    fn is_waiting_only(&self) -> bool {
        self.heap.is_empty() && self.next_submit == self.jobs.len()
    }

    fn pass_to(&mut self, next: Time) {
        // A wakeup may be overdue; time does not go back for it.
        self.now = next.max(self.now);
        let stranded = self.core.ledger_at(self.now)[Column::Stranded];
        self.meter.pass(self.now, &self.levels, stranded);
    }

    /// All that happens at this moment, until nothing follows from it.
    fn live_moment(&mut self) {
        if self.core.next_wakeup().is_some_and(|at| at <= self.now) {
            self.tell(&Event::Tick);
        }
        while let Some(&Reverse((at, happening))) = self.heap.peek() {
            if at > self.now {
                break;
            }
            self.heap.pop();
            match happening {
                Happening::Ends { job, epoch } => self.end(job, epoch),
                Happening::Saves { job, epoch } => self.save(job, epoch),
            }
        }
        // Ends go first: what they free is there for those who come at the same moment.
        self.settle();
        while self.jobs.get(self.next_submit).is_some_and(|job| job.submit <= self.now) {
            self.submit(self.next_submit);
            self.next_submit += 1;
        }
        self.settle();
    }

    fn settle(&mut self) {
        while !self.to_report.is_empty() || !self.to_begin.is_empty() {
            for node in std::mem::take(&mut self.to_report) {
                self.report(node);
            }
            for job in std::mem::take(&mut self.to_begin) {
                self.begin(job);
            }
        }
    }

    fn submit(&mut self, index: usize) {
        let job = &self.jobs[index];
        self.levels.waiting += 1;
        self.tell(&Event::JobSubmitted {
            request: RequestId(index as u128 + 1),
            user: job.user.clone(),
            spec: std::sync::Arc::clone(&job.spec),
        });
    }

    /// Every member of the gang runs: its work begins.
    fn begin(&mut self, index: usize) {
        let live = &mut self.lives[index];
        if live.life != Life::Launching {
            return;
        }
        live.life = Life::Runs;
        live.since = self.now;
        let (epoch, saved) = (live.epoch, live.saved);
        let left = self.jobs[index].duration - saved;
        self.heap.push(Reverse((self.now + left, Happening::Ends { job: index, epoch })));
        self.plan_save(index);
        // A job that never tells a step stands in the ledger as starting until it has completed.
        self.tell(&Event::StepReached {
            job: self.ids[index],
            epoch,
            step: saved.0 + 1,
            total_steps: None,
            loss_micro: None,
            is_watched: true,
        });
    }

    fn plan_save(&mut self, index: usize) {
        let Some(every) = self.checkpoint else { return };
        let live = &self.lives[index];
        let (done, epoch) = (self.now.since(live.since) + live.saved, live.epoch);
        if done + every < self.jobs[index].duration {
            self.heap.push(Reverse((self.now + every, Happening::Saves { job: index, epoch })));
        }
    }

    fn is_running(&self, index: usize, epoch: Epoch) -> bool {
        let live = &self.lives[index];
        live.life == Life::Runs && live.epoch == epoch
    }

    fn save(&mut self, index: usize, epoch: Epoch) {
        if !self.is_running(index, epoch) {
            return;
        }
        let live = &self.lives[index];
        let step = (self.now.since(live.since) + live.saved).0;
        self.tell(&Event::CheckpointSaved { job: self.ids[index], epoch, step, blocked_ms: 0 });
        self.plan_save(index);
    }

    fn end(&mut self, index: usize, epoch: Epoch) {
        if !self.is_running(index, epoch) {
            return;
        }
        self.lives[index].life = Life::Ended;
        let job = self.ids[index];
        for at in 0..self.lives[index].members.len() {
            let node = self.lives[index].members[at];
            self.end_part(node, job, epoch, Exit::Code(0), false);
        }
    }

    fn end_part(&mut self, node: NodeId, job: JobId, epoch: Epoch, exit: Exit, stopping: bool) {
        let at = self.now;
        let parts = &mut self.nodes[node.index()].parts;
        let end = RankExit { exit, at, stopping };
        match parts.iter_mut().find(|part| (part.job, part.epoch) == (job, epoch)) {
            Some(part) => {
                part.end.get_or_insert(end);
            }
            None => parts.push(Part { job, epoch, gpus: 0, rank: None, end: Some(end) }),
        }
        self.must_report(node);
    }

    fn must_report(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.index()];
        if !node.must_report {
            node.must_report = true;
            self.to_report.push(id);
        }
    }

    /// The node says all that is on it.
    fn report(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.index()];
        node.must_report = false;
        node.seq += 1;
        let attempts = node.parts.iter().map(Part::report).collect();
        let event = Event::NodeReported { node: id, incarnation: 1, seq: node.seq, attempts };
        self.tell(&event);
    }

    fn tell(&mut self, event: &Event) {
        let mut out = std::mem::take(&mut self.out);
        self.core.step(self.now, event, &mut out);
        self.events += 1;
        if self.check_every > 0 && self.events.is_multiple_of(self.check_every) {
            self.core.check();
        }
        for effect in out.drain(..) {
            self.carry_out(effect);
        }
        self.out = out;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { reply: Reply::Submitted { job }, .. } => {
                assert_eq!(job.0, self.by_id.len() as u64 + 1, "the core's jobs are numbered");
                self.by_id.push(self.next_submit);
                self.ids[self.next_submit] = job;
            }
            Effect::Reply { reply: Reply::Rejected { .. }, .. } => {
                let index = self.next_submit;
                self.finish(index, End::Refused);
            }
            Effect::Reply { reply: Reply::Done, .. } => {}
            Effect::Command(command) => self.obey(&command),
            Effect::Fence { node, .. } => panic!("node {node} was never silent"),
            Effect::Remedy { node, .. }
            | Effect::BurnIn { node, .. }
            | Effect::CancelBurnIn { node, .. } => {
                panic!("nothing was found on node {node}")
            }
            Effect::Trail(entry) => {
                let Some(job) = entry.job else { return };
                let end = match entry.what {
                    TrailKind::Completed => End::Completed,
                    TrailKind::Failed { .. } | TrailKind::Cancelled => End::Failed,
                    _ => return,
                };
                self.finish(self.index(job), end);
            }
        }
    }

    fn index(&self, job: JobId) -> usize {
        // The trail of a submission comes before its answer.
        self.by_id.get(job.0 as usize - 1).copied().unwrap_or(self.next_submit)
    }

    fn finish(&mut self, index: usize, end: End) {
        let live = &mut self.lives[index];
        live.outcome.end = end;
        live.outcome.ended = Some(self.now);
        if live.life == Life::Waits {
            // Its gang was released just before this was told, or it never had one.
            live.life = Life::Ended;
            self.levels.waiting -= 1;
        }
        if live.was_stopped && end == End::Failed && live.outcome.preempted > 0 {
            // This stop was the end, and no preemption.
            live.outcome.preempted -= 1;
        }
        self.over += 1;
    }

    fn obey(&mut self, command: &Command) {
        for to in &command.to {
            self.obey_on(to, command);
        }
    }

    fn obey_on(&mut self, to: &Target, command: &Command) {
        let (node, job, epoch) = (to.node, command.job, command.epoch);
        match &command.order {
            Order::Launch(launch) => self.launch(to, job, epoch, launch),
            Order::Stop { .. } => {
                let live = &mut self.lives[self.by_id[job.0 as usize - 1]];
                if live.epoch == epoch {
                    live.outcome.preempted += u32::from(!live.was_stopped);
                    live.was_stopped = true;
                    live.life = Life::Ended;
                }
                self.end_part(node, job, epoch, Exit::Signal(15), true);
            }
            Order::Forget => self.forget(node, job, epoch),
            // No program here says that it can wait for its rank.
            Order::StandBy(_) | Order::StandDown { .. } => {}
        }
    }

    fn launch(&mut self, to: &Target, job: JobId, epoch: Epoch, launch: &Launch) {
        let node = to.node;
        let index = self.index(job);
        let live = &mut self.lives[index];
        if live.epoch != epoch {
            live.epoch = epoch;
            live.members.clear();
            live.life = Life::Launching;
            live.was_stopped = false;
            live.saved = Millis(launch.resume_step.unwrap_or(0));
            live.outcome.started.get_or_insert(self.now);
            self.levels.waiting -= 1;
            self.launches += 1;
        }
        live.members.push(node);
        live.held += 1;
        if live.members.len() == launch.gang.len() {
            self.to_begin.push(index);
        }
        let gpus = to.gpus.len();
        let at = &mut self.nodes[node.index()];
        self.levels.drop_node(at.gpus, at.used);
        at.used += gpus;
        self.levels.add_node(at.gpus, at.used);
        at.parts.push(Part {
            job,
            epoch,
            gpus,
            rank: Some(launch.first_rank(to.member)),
            end: None,
        });
        self.must_report(node);
    }

    fn forget(&mut self, node: NodeId, job: JobId, epoch: Epoch) {
        let at = &mut self.nodes[node.index()];
        let Some(place) = at.parts.iter().position(|p| (p.job, p.epoch) == (job, epoch)) else {
            return;
        };
        let part = at.parts.remove(place);
        self.levels.drop_node(at.gpus, at.used);
        at.used -= part.gpus;
        self.levels.add_node(at.gpus, at.used);
        let live = &mut self.lives[self.by_id[job.0 as usize - 1]];
        if part.rank.is_none() {
            return;
        }
        live.held -= 1;
        if live.held == 0 && live.outcome.end == End::None && live.epoch == epoch {
            live.life = Life::Waits;
            self.levels.waiting += 1;
        }
    }
}

impl Part {
    fn report(&self) -> AttemptReport {
        const PID: u32 = 1000;
        let phase = match self.end {
            Some(_) => ReportedPhase::Gone,
            None => ReportedPhase::Running,
        };
        let rank = |rank| RankReport { rank, pid: PID, exit: self.end.clone() };
        let ranks = self.rank.map(rank).into_iter().collect();
        AttemptReport { job: self.job, epoch: self.epoch, phase, ranks }
    }
}
