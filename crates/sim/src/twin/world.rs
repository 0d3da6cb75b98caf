//! The clock, the core, and what its orders bring about.

use super::harm::Machines;
use super::life::Life;
use super::measure::{Outcome, Tallies};
use super::script::Script;
use super::{Record, Setup};
use lindos_core::effect::{Command, Effects, Order, Reply};
use lindos_core::event::GangWord;
use lindos_core::{Core, Effect, Event};
use lindos_model::{
    EffectId, EndReason, Epoch, JobId, Millis, NodeId, Policy, RequestId, Time, TrailEntry,
    TrailKind,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What the core need not remember here: nobody asks for it.
const REMEMBERED: u32 = 256;
/// How often it is told how far the world is.
const MOMENTS_A_TELLING: u64 = 4096;

/// Something that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Submit(usize),
    /// All ranks of a launch run.
    Up {
        job: JobId,
        epoch: Epoch,
    },
    /// Nothing of a launch lives any more, as ordered.
    Stopped {
        job: JobId,
        epoch: Epoch,
        replica: Option<u32>,
    },
    /// Processes of a job have done what needs no rank, and wait for one.
    Loaded {
        job: JobId,
        standby: EffectId,
    },
    /// A launch trains, or a replica of it with the others again.
    Begins {
        job: JobId,
        epoch: Epoch,
    },
    /// The ranks of a training that stands still were looked at.
    Looked {
        job: JobId,
        epoch: Epoch,
        node: NodeId,
        since: Time,
    },
    /// The next save of a training, or its end; void if its plan has changed since.
    Next {
        job: JobId,
        plan: u64,
    },
    Durable {
        job: JobId,
        epoch: Epoch,
        step: u64,
        blocked: Millis,
    },
    /// A planned fault, by its number; one that comes again, by its place.
    Strikes(usize),
    StrikesAgain(usize),
    /// A deed of the script, by its place.
    Deed(usize),
    /// A check knows which node it is.
    Seen(usize),
    Mended(usize),
    Silent {
        node: NodeId,
        since: Time,
    },
    Fenced {
        node: NodeId,
        fence: EffectId,
    },
    /// A remedy that the core has ordered is over, or a burn-in.
    Remedied {
        node: NodeId,
        remedy: EffectId,
    },
    BurntIn {
        node: NodeId,
        peer: Option<NodeId>,
        remedy: EffectId,
    },
    /// A person has mended what the ladder left to people.
    ByHand {
        node: NodeId,
        ticket: u64,
    },
    /// A person has mended a node that a person had drained.
    PersonDone {
        node: NodeId,
    },
    /// A node is back in service and not whole.
    StillFound {
        node: NodeId,
    },
    /// A pause is over, or a slow node is as it was.
    Resumes {
        job: JobId,
        plan: u64,
    },
    /// A node has kept a training waiting for long enough to be told of, or no longer does; void if
    /// that has changed since.
    Straggles {
        job: JobId,
        epoch: Epoch,
        turn: u64,
    },
}

pub(super) struct World<'s, 'r> {
    pub core: Core,
    pub now: Time,
    pub setup: &'s Setup,
    record: Option<Record<'r>>,
    heap: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    arrivals: u64,
    next_fault: usize,
    pub lives: BTreeMap<JobId, Life>,
    /// Index in the setup's jobs of what is being submitted.
    submitting: usize,
    /// The request that does so.
    submission: RequestId,
    requests: u128,
    pub machines: Machines,
    pub tallies: Tallies,
    out: Effects,
    events: u64,
}

/// A policy without what nobody asks for here.
pub(super) fn forgetful(mut policy: Policy) -> Policy {
    policy.trail_max = policy.trail_max.min(REMEMBERED);
    policy.requests_max = policy.requests_max.min(REMEMBERED);
    policy
}

/// Plays a setup to its end. `tell` hears how far it is.
pub fn run(setup: &Setup, record: Option<Record<'_>>, tell: &mut dyn FnMut(Time)) -> Outcome {
    let mut world = World::new(setup, record);
    world.enrol();
    world.play(tell)
}

/// A fleet that has joined, and nothing else has happened: several runs can begin with it, which
/// saves most of what a short run of a large fleet costs.
#[derive(Clone, Debug)]
pub struct Joined {
    core: Core,
    machines: Machines,
    events: u64,
}

impl Joined {
    /// The nodes and the policy of a setup; its jobs and its faults do not matter.
    pub fn new(setup: &Setup) -> Joined {
        let mut world = World::new(setup, None);
        world.enrol();
        Joined { core: world.core, machines: world.machines, events: world.events }
    }

    /// As [`run`], of a setup with the same nodes and policy; `record` does not hear of the joining.
    pub fn run(
        &self,
        setup: &Setup,
        record: Option<Record<'_>>,
        tell: &mut dyn FnMut(Time),
    ) -> Outcome {
        assert_eq!(self.machines.count(), setup.nodes.len(), "the fleet is the one that joined");
        let mut world = World::new(setup, record);
        world.core = self.core.clone();
        world.machines = self.machines.clone();
        world.events = self.events;
        world.play(tell)
    }
}

impl<'s, 'r> World<'s, 'r> {
    fn new(setup: &'s Setup, record: Option<Record<'r>>) -> World<'s, 'r> {
        let mut world = World {
            core: Core::new(),
            now: Time::ZERO,
            setup,
            record,
            heap: BinaryHeap::new(),
            arrivals: 0,
            next_fault: 0,
            lives: BTreeMap::new(),
            submitting: 0,
            submission: RequestId(0),
            requests: 0,
            machines: Machines::new(setup.nodes.len()),
            tallies: Tallies::new(setup),
            out: Vec::new(),
            events: 0,
        };
        for (index, job) in setup.jobs.iter().enumerate() {
            world.put_at(job.at, Happening::Submit(index));
        }
        world
    }

    /// The control plane starts, and every node joins it; with a script, when that says so.
    fn enrol(&mut self) {
        let setup = self.setup;
        let policy = Box::new(forgetful(setup.policy.clone()));
        self.tell(&Event::ControlPlaneStarted { policy });
        if let Some(script) = &setup.script {
            self.put_script(script);
            return;
        }
        for spec in &setup.nodes {
            self.tell(&Event::NodeJoined { spec: Box::new(spec.clone()) });
        }
        for index in 0..setup.nodes.len() {
            self.report(NodeId(index as u32), Vec::new());
        }
    }

    /// Deeds go before all else of their moment, or after it.
    fn put_script(&mut self, script: &Script) {
        for (index, deed) in script.deeds.iter().enumerate() {
            let arrival = if deed.is_first { 0 } else { u64::MAX };
            self.heap.push(Reverse((deed.at, arrival, Happening::Deed(index))));
        }
    }

    fn play(mut self, tell: &mut dyn FnMut(Time)) -> Outcome {
        let mut moments = 0u64;
        while self.step() {
            moments += 1;
            if moments.is_multiple_of(MOMENTS_A_TELLING) {
                tell(self.now);
            }
        }
        self.core.check();
        Outcome::new(&self.core, self.now, self.events, &self.lives, self.tallies)
    }

    pub fn put(&mut self, after: Millis, happening: Happening) {
        self.put_at(self.now + after, happening);
    }

    pub fn put_at(&mut self, at: Time, happening: Happening) {
        self.arrivals += 1;
        self.heap.push(Reverse((at.max(self.now), self.arrivals, happening)));
    }

    /// Lets the next thing happen; false when all is over.
    fn step(&mut self) -> bool {
        let fault = self.setup.faults.faults().get(self.next_fault).map(|fault| fault.at);
        let happening = self.heap.peek().map(|Reverse((at, ..))| *at);
        let wakeup = self.core.next_wakeup();
        let next = [fault, happening, wakeup].into_iter().flatten().min();
        let is_scripted = self.setup.script.is_some();
        let Some(next) = next.or(is_scripted.then_some(Time(u64::MAX))) else { return false };
        let next = next.max(self.now);
        let is_over = self.tallies.over == self.setup.jobs.len() && !is_scripted;
        if next > self.setup.until || is_over {
            // Whatever runs has run until then.
            if next > self.setup.until {
                self.now = self.setup.until;
                self.tell(&Event::Tick);
            }
            return false;
        }
        self.now = next;
        if wakeup.is_some_and(|at| at <= next) {
            self.tell(&Event::Tick);
        } else if happening.is_some_and(|at| at <= next) {
            let Reverse((.., happening)) = self.heap.pop().expect("it was just looked at");
            self.happen(happening);
        } else {
            self.next_fault += 1;
            self.happen(Happening::Strikes(self.next_fault - 1));
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit(index) => self.submit(index),
            Happening::Up { job, epoch } => self.on_up(job, epoch),
            Happening::Stopped { job, epoch, replica } => self.on_stopped(job, epoch, replica),
            Happening::Loaded { job, standby } => self.on_loaded(job, standby),
            Happening::Begins { job, epoch } => self.on_begins(job, epoch),
            Happening::Next { job, plan } => self.on_next(job, plan),
            Happening::Durable { job, epoch, step, blocked } => {
                self.on_durable(job, epoch, step, blocked);
            }
            Happening::Strikes(index) => {
                let fault = self.setup.faults.faults()[index].clone();
                self.on_strike(fault);
            }
            Happening::StrikesAgain(place) => {
                let fault = self.machines.fault(place).clone();
                self.on_strike(fault);
            }
            Happening::Deed(place) => self.on_deed(place),
            Happening::Seen(place) => self.on_seen(place),
            Happening::Mended(place) => self.on_mended(place),
            Happening::Silent { node, since } => self.on_silent(node, since),
            Happening::Fenced { node, fence } => self.tell(&Event::NodeFenced { node, fence }),
            Happening::Remedied { node, remedy } => self.on_remedied(node, remedy),
            Happening::BurntIn { node, peer, remedy } => self.on_burnt_in(node, peer, remedy),
            Happening::ByHand { node, ticket } => self.on_by_hand(node, ticket),
            Happening::PersonDone { node } => self.on_person_done(node),
            Happening::StillFound { node } => self.on_still_found(node),
            Happening::Resumes { job, plan } => self.on_resumes(job, plan),
            Happening::Looked { job, epoch, node, since } => {
                self.on_looked(job, epoch, node, since);
            }
            Happening::Straggles { job, epoch, turn } => self.on_straggles(job, epoch, turn),
        }
    }

    pub fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn submit(&mut self, index: usize) {
        self.submitting = index;
        let (request, spec) = (self.next_request(), &self.setup.jobs[index].spec);
        self.submission = request;
        let (user, spec) = ("twin".to_string(), std::sync::Arc::clone(spec));
        self.tell(&Event::JobSubmitted { request, user, spec });
    }

    /// Steps the core, and does what it orders.
    pub fn tell(&mut self, event: &Event) {
        if let Some(record) = &mut self.record {
            record(self.now, event);
        }
        let mut out = std::mem::take(&mut self.out);
        let first = out.len();
        self.core.step(self.now, event, &mut out);
        self.events += 1;
        if self.setup.check_every > 0 && self.events.is_multiple_of(self.setup.check_every) {
            self.core.check();
        }
        let effects: Vec<Effect> = out.drain(first..).collect();
        self.out = out;
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { reply: Reply::Submitted { job }, .. } => {
                self.lives.entry(job).or_insert_with(|| Life::new(self.submitting));
            }
            Effect::Reply { reply: Reply::Rejected { reason }, request, .. }
                if request == self.submission =>
            {
                self.tallies.refused.push(format!("{reason:?}"));
                self.tallies.over += 1;
            }
            // A window on a node that has one already: whoever asked for it goes without.
            // The answer of a burn-in that was ended is to a question that nobody asks any more.
            Effect::Reply { reply: Reply::Done | Reply::Rejected { .. }, .. }
            | Effect::CancelBurnIn { .. } => {}
            Effect::Command(command) => self.obey(&command),
            Effect::Fence { id: fence, node } => {
                self.put(self.setup.delays.fence, Happening::Fenced { node, fence });
            }
            Effect::Remedy { id, node, remedy, .. } => self.on_remedy(node, remedy, id),
            Effect::BurnIn { id, node, span, peer } => self.on_burn_in(node, peer, span, id),
            Effect::Trail(entry) => self.on_trail(&entry),
        }
    }

    fn on_trail(&mut self, entry: &TrailEntry) {
        if let Some(node) = entry.node.as_ref().filter(|_| entry.job.is_none())
            && let Some(node) = self.core.node_by_name(node)
        {
            self.on_node_trail(node, &entry.what);
        }
        let Some(job) = entry.job else { return };
        if let TrailKind::Fault { reason: EndReason::NodeOut { node, .. }, .. }
        | TrailKind::ReplicaLost { reason: EndReason::NodeOut { node, .. }, .. } = &entry.what
        {
            self.note_left(job, node);
        }
        match &entry.what {
            // Its launch is carried out before the answer to its submission.
            TrailKind::Submitted { .. } => {
                self.lives.insert(job, Life::new(self.submitting));
            }
            TrailKind::Completed | TrailKind::Failed { .. } | TrailKind::Cancelled => {
                self.tallies.over += 1;
            }
            // The last left a node once its work was saved.
            TrailKind::Preempted { .. }
            | TrailKind::Moved { .. }
            | TrailKind::Grows { .. }
            | TrailKind::Fault { reason: EndReason::NodeOut { planned: true, .. }, .. } => {
                self.tallies.job(job).stops += 1;
            }
            TrailKind::Fault { .. } => self.tallies.job(job).interruptions += 1,
            TrailKind::MadeWay { name, .. } => {
                self.tallies.job(job).stops += 1;
                if let Some(cause) = self.machines.cause_of_window(name) {
                    self.tallies.note_cause(job, cause);
                }
            }
            TrailKind::ReplicaLost { .. } => self.tallies.job(job).replicas_lost += 1,
            TrailKind::StartedWarm { warm, nodes } if warm == nodes => {
                let epoch = entry.epoch.expect("it is of a launch");
                self.note_warm(job, epoch);
            }
            _ => {}
        }
    }

    fn obey(&mut self, command: &Command) {
        let (job, epoch) = (command.job, command.epoch);
        match &command.order {
            Order::Launch(launch) => self.on_launch(job, epoch, launch.save_every),
            Order::Stop { grace } => self.on_stop(job, epoch, *grace, &command.to),
            Order::StandBy(order) => self.on_stand_by(job, order.id),
            // What is not wanted any more is gone: nobody waits for a word of it.
            Order::Forget | Order::StandDown { .. } => {}
        }
    }

    /// Everybody who is alive of a launch says the same.
    pub fn say(&mut self, job: JobId, epoch: Epoch, word: GangWord) {
        let but = self.machines.dead().filter(|&node| self.is_on(node, job)).collect();
        self.tell(&Event::GangReported { job, epoch, word, but });
    }

    pub fn is_on(&self, node: NodeId, job: JobId) -> bool {
        self.core.member_on(node, job).is_some()
    }
}
