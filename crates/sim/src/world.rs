//! The world in virtual time: nodes, their processes, the network, the users, and a control plane
//! that may be killed at any event.
//!
//! A happening is taken from the queue, in the order of time and then of arrival; whatever it
//! causes is put back with its own time. The checkers stand in [`crate::check`] and look at the
//! world's truth, not at what the core believes.

use crate::agent::{Doing, SimNode};
use crate::check::Checker;
use crate::control::{Control, JobReading, Remains};
use crate::fault::{Fault, FaultKind, Network, Plant};
use crate::random::Stream;
use crate::script::{Script, Training};
use lindos_core::edges::Reading;
use lindos_core::effect::{Command, Reply};
use lindos_core::{Effect, Event};
use lindos_journal::MemoryDisk;
use lindos_model::{
    AttemptReport, EndReason, Epoch, Exit, JobId, JobSpec, JobState, Millis, NodeId, NodeSpec,
    Policy, RequestId, Time, TrailEntry, TrailKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A user asks again when there was no answer for so long.
const ASK_AGAIN: Millis = Millis::from_secs(2);
/// A commit that found the disk full is tried again after so long.
const COMMIT_AGAIN: Millis = Millis(500);
/// The fence takes so long, and the node so long to come back after it.
const FENCE: Millis = Millis::from_secs(3);
const REBOOT: Millis = Millis::from_secs(60);

#[derive(Clone, Debug)]
pub struct SimJob {
    pub at: Time,
    pub spec: Arc<JobSpec>,
    pub script: Script,
}

/// Everything that a run begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub policy: Policy,
    pub nodes: Vec<NodeSpec>,
    pub jobs: Vec<SimJob>,
    pub faults: Vec<Fault>,
    pub network: Network,
    pub heartbeat: Millis,
    /// When faults end: the network is good from then on, and everything is on again. Without it,
    /// things stay as the faults leave them.
    pub healed_at: Option<Time>,
    /// By then every job must be over.
    pub limit: Time,
    pub plant: Option<Plant>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub ended_at: Time,
    pub trail: Vec<TrailEntry>,
    pub ledger: lindos_model::Columns,
    pub jobs: Vec<JobOutcome>,
    pub happenings: u64,
    pub node_ms: u64,
}

#[derive(Clone, Debug)]
pub struct JobOutcome {
    pub job: JobId,
    pub name: String,
    pub state: JobState,
    pub attempts: u32,
    pub faults: u32,
    pub step: Option<u64>,
    pub ledger: lindos_model::Columns,
}

#[derive(Clone, Debug)]
enum Happening {
    ToControl(ToControl),
    ToAgent(usize, Command),
    Answered {
        asked: usize,
        reply: Reply,
    },
    Ask(usize),
    Heartbeat {
        node: usize,
        incarnation: u64,
    },
    Commit,
    ControlClock,
    ControlBack,
    /// What is left of an attempt's ranks on a node ends so.
    RanksEnd {
        node: usize,
        key: Key,
        exit: Exit,
    },
    TrainingDone(Key),
    BugHits(Key),
    Fenced(usize),
    PowerOn(usize),
    AgentBack {
        node: usize,
        incarnation: u64,
    },
    Fault(usize),
    DiskFreed,
    Heal,
}

type Key = (JobId, Epoch);

#[derive(Clone, Debug)]
enum ToControl {
    Report {
        node: usize,
        incarnation: u64,
        seq: u64,
        attempts: Vec<AttemptReport>,
        readings: Vec<JobReading>,
    },
    Ask(usize),
    NodeFenced(usize),
}

/// A request of a user, repeated until it is answered.
struct Asked {
    request: RequestId,
    what: Ask,
    answered: bool,
}

#[derive(Clone, Debug)]
enum Ask {
    Submit(usize),
    Cancel(String),
    Drain(String, bool),
}

/// One attempt's processes together, over all nodes.
struct Run {
    started: u32,
    script: Script,
    training: Option<Training>,
    broken: bool,
    finished: bool,
}

struct World {
    setup: Setup,
    now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    arrivals: u64,
    happenings: u64,
    control: Option<Control>,
    remains: Option<Remains>,
    clock_armed: Option<Time>,
    disk_full_until: Time,
    nodes: Vec<SimNode>,
    by_name: BTreeMap<String, usize>,
    runs: BTreeMap<Key, Run>,
    /// The newest durable checkpoint of each job: the storage's truth.
    storage: BTreeMap<JobId, u64>,
    asked: Vec<Asked>,
    submitted: BTreeMap<String, JobId>,
    healed: bool,
    drained: BTreeSet<String>,
    faults_left: usize,
    trail: Vec<TrailEntry>,
    checker: Checker,
    network: Stream,
    chances: Stream,
}

/// Plays a setup to its end. Panics with `violation: …` when a checker is not content.
pub fn run(setup: Setup) -> Outcome {
    let mut world = World::new(setup);
    while world.next() {}
    world.finish()
}

impl World {
    fn new(setup: Setup) -> World {
        let mut world = World {
            now: Time::ZERO,
            queue: BTreeMap::new(),
            arrivals: 0,
            happenings: 0,
            control: Some(Control::start(MemoryDisk::new(), &setup.policy, Time::ZERO, None)),
            remains: None,
            clock_armed: None,
            disk_full_until: Time::ZERO,
            nodes: vec![SimNode::default(); setup.nodes.len()],
            by_name: setup.nodes.iter().enumerate().map(|(i, n)| (n.name.clone(), i)).collect(),
            runs: BTreeMap::new(),
            storage: BTreeMap::new(),
            asked: Vec::new(),
            submitted: BTreeMap::new(),
            healed: false,
            drained: BTreeSet::new(),
            faults_left: setup.faults.len(),
            trail: Vec::new(),
            checker: Checker::default(),
            network: Stream::new(setup.seed, "network"),
            chances: Stream::new(setup.seed, "chances"),
            setup,
        };
        world.control_mut().forget_to_journal = world.is_planted(Plant::ForgetToJournal);
        world.put(Millis::ZERO, Happening::Commit);
        for node in 0..world.nodes.len() {
            world.nodes[node].powered = true;
            world.start_agent(node);
        }
        for index in 0..world.setup.jobs.len() {
            let at = world.setup.jobs[index].at;
            world.ask_at(at, Ask::Submit(index));
        }
        for index in 0..world.setup.faults.len() {
            let at = world.setup.faults[index].at;
            world.put(at.since(Time::ZERO), Happening::Fault(index));
        }
        if let Some(at) = world.setup.healed_at {
            world.put(at.since(Time::ZERO), Happening::Heal);
        }
        world
    }

    fn is_planted(&self, plant: Plant) -> bool {
        self.setup.plant == Some(plant)
    }

    fn put(&mut self, after: Millis, happening: Happening) {
        self.arrivals += 1;
        self.queue.insert((self.now + after, self.arrivals), happening);
    }

    fn ask_at(&mut self, at: Time, what: Ask) {
        let request = RequestId(self.chances.id());
        self.asked.push(Asked { request, what, answered: false });
        self.put(at.since(self.now), Happening::Ask(self.asked.len() - 1));
    }

    fn control_mut(&mut self) -> &mut Control {
        self.control.as_mut().expect("it is up")
    }

    /// Lets the next thing happen; false when all is over.
    fn next(&mut self) -> bool {
        let nothing_to_come = match self.setup.healed_at {
            Some(_) => self.healed,
            None => self.faults_left == 0,
        };
        let all_over = nothing_to_come
            && self.asked.iter().all(|asked| asked.answered)
            && self.control.as_ref().is_some_and(|c| {
                !c.has_waiting() && c.core.jobs().all(lindos_core::job::Job::is_over)
            });
        if all_over {
            return false;
        }
        let ((at, _), happening) = self.queue.pop_first().expect("agents never fall silent");
        assert!(at <= self.setup.limit, "violation: some job did not end: {}", self.unfinished());
        self.now = at;
        self.happenings += 1;
        self.happen(happening);
        true
    }

    fn unfinished(&self) -> String {
        let Some(control) = &self.control else { return "the control plane is down".into() };
        let open = control.core.jobs().filter(|job| !job.is_over());
        open.map(|job| {
            format!("job {} is {} ({:?})", job.id, job.state(), control.core.why(job.id))
        })
        .chain(
            self.asked.iter().filter(|a| !a.answered).map(|a| format!("{:?} unanswered", a.what)),
        )
        .collect::<Vec<_>>()
        .join(", ")
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToControl(message) => self.on_control_hears(message),
            Happening::ToAgent(node, command) => self.on_agent_hears(node, &command),
            Happening::Answered { asked, reply } => self.on_answered(asked, &reply),
            Happening::Ask(asked) => self.on_ask(asked),
            Happening::Heartbeat { node, incarnation } => self.on_heartbeat(node, incarnation),
            Happening::Commit => self.on_commit(),
            Happening::ControlClock => self.on_control_clock(),
            Happening::ControlBack => self.on_control_back(),
            Happening::RanksEnd { node, key, exit } => self.end_ranks(node, key, &exit),
            Happening::TrainingDone(key) => self.on_training_done(key),
            Happening::BugHits(key) => self.on_bug(key),
            Happening::Fenced(node) => self.on_fenced(node),
            Happening::PowerOn(node) => {
                if !self.nodes[node].powered {
                    self.nodes[node].powered = true;
                    self.start_agent(node);
                }
            }
            Happening::AgentBack { node, incarnation } => {
                let sim = &self.nodes[node];
                if sim.powered && !sim.agent_alive && sim.incarnation == incarnation {
                    self.start_agent(node);
                }
            }
            Happening::Fault(index) => {
                self.faults_left -= 1;
                let kind = self.setup.faults[index].kind.clone();
                if !self.healed {
                    self.on_fault(kind);
                }
            }
            Happening::DiskFreed => {
                if self.disk_full_until <= self.now {
                    self.fill_disk(false);
                }
            }
            Happening::Heal => self.heal(),
        }
    }

    // ---- the network ----

    /// Sends a message on its way, maybe twice, maybe never.
    fn send(&mut self, happening: &Happening) {
        let network = if self.healed { Network::good() } else { self.setup.network.clone() };
        let copies = 1 + u32::from(self.network.chance(network.repeated_ppm));
        for _ in 0..copies {
            if self.network.chance(network.lost_ppm) {
                continue;
            }
            let delay = self.network.between(network.delay_min.0, network.delay_max.0);
            self.put(Millis(delay), happening.clone());
        }
    }

    fn is_cut_off(&self, node: usize) -> bool {
        self.nodes[node].cut_off_until.is_some_and(|until| until > self.now)
    }

    // ---- the control plane ----

    fn on_control_hears(&mut self, message: ToControl) {
        let now = self.now;
        if self.control.is_none() {
            return;
        }
        match message {
            ToControl::Report { node, incarnation, seq, attempts, readings } => {
                if self.is_cut_off(node) {
                    return;
                }
                let spec = self.setup.nodes[node].clone();
                let known = self.control_mut().core.node_by_name(&spec.name);
                let Some(id) = known else {
                    // It enrols, and is heard with its next report.
                    self.take(Event::NodeJoined { spec: Box::new(spec) });
                    return;
                };
                let control = self.control_mut();
                for event in control.on_report(now, id, incarnation, seq, attempts, &readings) {
                    self.take(event);
                }
            }
            ToControl::Ask(asked) => {
                let Asked { request, what, .. } = &self.asked[asked];
                let request = *request;
                let event = match what {
                    Ask::Submit(index) => {
                        let spec = Arc::clone(&self.setup.jobs[*index].spec);
                        Some(Event::JobSubmitted { request, user: "sim".into(), spec })
                    }
                    Ask::Cancel(name) => {
                        self.submitted.get(name).map(|&job| Event::JobCancelled { request, job })
                    }
                    Ask::Drain(name, drained) => {
                        let node = self.control.as_ref().and_then(|c| c.core.node_by_name(name));
                        let drained = *drained;
                        let reason = "by the scenario".to_string();
                        node.map(|node| {
                            if drained {
                                Event::NodeDrained { request, node, reason }
                            } else {
                                Event::NodeUndrained { request, node }
                            }
                        })
                    }
                };
                if self.is_planted(Plant::AckEarly) {
                    self.checker.on_acknowledged(request);
                }
                if let Some(event) = event {
                    self.take(event);
                }
            }
            ToControl::NodeFenced(node) => {
                let name = &self.setup.nodes[node].name;
                if let Some(node) = self.control.as_ref().and_then(|c| c.core.node_by_name(name)) {
                    self.take(Event::NodeFenced { node });
                }
            }
        }
        self.arm_clock();
    }

    fn take(&mut self, event: Event) {
        if self.control_mut().take(event) {
            let after = Millis(self.chances.between(0, 3));
            self.put(after, Happening::Commit);
        }
    }

    fn arm_clock(&mut self) {
        let Some(deadline) = self.control.as_ref().and_then(Control::next_deadline) else { return };
        if self.clock_armed.is_none_or(|armed| deadline < armed || armed <= self.now) {
            self.clock_armed = Some(deadline);
            self.put(deadline.since(self.now), Happening::ControlClock);
        }
    }

    fn on_control_clock(&mut self) {
        let now = self.now;
        self.clock_armed = None;
        if let Some(control) = &mut self.control {
            for event in control.on_clock(now) {
                self.take(event);
            }
            self.arm_clock_after_commit();
        }
    }

    /// A tick that waits for its commit leaves the core's deadline in the past until then.
    fn arm_clock_after_commit(&mut self) {
        if self.control.as_ref().is_some_and(|control| !control.has_waiting()) {
            self.arm_clock();
        }
    }

    fn on_commit(&mut self) {
        let now = self.now;
        let Some(control) = self.control.as_mut().filter(|control| control.has_waiting()) else {
            return;
        };
        let Some(effects) = control.commit(now) else {
            self.put(COMMIT_AGAIN, Happening::Commit);
            return;
        };
        let core = &control.core;
        core.check();
        self.checker.on_commit(core);
        let seen = self.trail.last().map_or(0, |entry| entry.seq);
        let fresh: Vec<TrailEntry> = core.trail_after(seen).cloned().collect();
        for entry in &fresh {
            if let (
                TrailKind::Fault { reason: EndReason::Hang { .. }, .. },
                Some(job),
                Some(epoch),
            ) = (&entry.what, entry.job, entry.epoch)
            {
                let run = self.runs.get(&(job, epoch)).and_then(|run| run.training.as_ref());
                let stands = run.is_none_or(|training| training.ended.is_some());
                // A bad network may hide progress; a good one may not.
                let is_good = self.setup.network == Network::good() || self.healed;
                assert!(stands || !is_good, "violation: job {job} is called hung and gets on");
            }
            if let (TrailKind::Completed, Some(job)) = (&entry.what, entry.job) {
                let done = self.runs.iter().any(|((id, _), run)| *id == job && run.finished);
                assert!(done, "violation: job {job} is called completed and was not finished");
            }
        }
        self.trail.extend(fresh);
        for effect in effects {
            self.carry_out(effect);
        }
        self.arm_clock();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Trail(_) => {}
            Effect::Reply { request, reply } => {
                let asked = self.asked.iter().position(|asked| asked.request == request);
                let asked = asked.expect("nobody else asks");
                self.send(&Happening::Answered { asked, reply });
            }
            Effect::Command(command) => {
                let node = self.index_of(command.node);
                if !self.is_cut_off(node) {
                    self.send(&Happening::ToAgent(node, command));
                }
            }
            Effect::Fence { node, .. } => {
                let node = self.index_of(node);
                self.put(FENCE, Happening::Fenced(node));
            }
        }
    }

    fn fill_disk(&mut self, is_full: bool) {
        if let Some(control) = &self.control {
            control.set_disk_full(is_full);
        } else if let Some(remains) = &self.remains {
            remains.disk.set_capacity(is_full.then_some(0));
        }
    }

    fn index_of(&self, id: NodeId) -> usize {
        let control = self.control.as_ref().expect("it is up");
        self.by_name[&control.core.node(id).expect("it knows the node").spec.name]
    }

    fn on_control_back(&mut self) {
        if self.control.is_some() || self.remains.is_none() {
            return;
        }
        if self.disk_full_until > self.now {
            // It would say so and end; whoever watches over it starts it again.
            self.put(COMMIT_AGAIN, Happening::ControlBack);
            return;
        }
        let remains = self.remains.take().expect("it was killed");
        let disk = remains.disk.clone();
        let mut control = Control::start(disk, &self.setup.policy, self.now, Some(&remains));
        control.forget_to_journal = self.is_planted(Plant::ForgetToJournal);
        self.checker.on_restart(&control.core);
        self.control = Some(control);
        self.put(Millis::ZERO, Happening::Commit);
    }

    // ---- users ----

    fn on_ask(&mut self, asked: usize) {
        if !self.asked[asked].answered {
            self.send(&Happening::ToControl(ToControl::Ask(asked)));
            self.put(ASK_AGAIN, Happening::Ask(asked));
        }
    }

    fn on_answered(&mut self, index: usize, reply: &Reply) {
        let asked = &mut self.asked[index];
        asked.answered = true;
        match (&asked.what, reply) {
            (Ask::Submit(job), Reply::Submitted { job: id }) => {
                let name = self.setup.jobs[*job].spec.name.clone();
                self.submitted.insert(name, *id);
                self.checker.on_submitted(asked.request, *id);
            }
            (Ask::Submit(_), other) => panic!("violation: a good job was not taken: {other:?}"),
            _ => {}
        }
    }

    // ---- nodes ----

    fn start_agent(&mut self, node: usize) {
        self.nodes[node].start_agent();
        let incarnation = self.nodes[node].incarnation;
        self.put(Millis::ZERO, Happening::Heartbeat { node, incarnation });
    }

    fn on_heartbeat(&mut self, node: usize, incarnation: u64) {
        let sim = &self.nodes[node];
        if sim.agent_alive && sim.incarnation == incarnation {
            self.report(node);
            self.put(self.setup.heartbeat, Happening::Heartbeat { node, incarnation });
        }
    }

    fn report(&mut self, node: usize) {
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
                attempt.phase = lindos_model::ReportedPhase::Gone;
            }
        }
        let readings = self.readings(node);
        let incarnation = self.nodes[node].incarnation;
        let report = ToControl::Report { node, incarnation, seq, attempts, readings };
        self.send(&Happening::ToControl(report));
    }

    /// The node with rank 0 of a job tells its progress.
    fn readings(&self, node: usize) -> Vec<JobReading> {
        let has_first = |attempt: &(&Key, &crate::agent::LocalAttempt)| {
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

    fn on_agent_hears(&mut self, node: usize, command: &Command) {
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

    fn on_ranks_started(&mut self, node: usize, key: Key, command: &Command) {
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
    fn end_ranks(&mut self, node: usize, key: Key, exit: &Exit) {
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
    fn break_run(&mut self, key: Key) {
        self.save(key);
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.finished || std::mem::replace(&mut run.broken, true) {
            return;
        }
        self.peers_notice(key);
    }

    /// The training stands still from now on; its checkpoints are on the storage.
    fn save(&mut self, key: Key) {
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

    fn peers_notice(&mut self, key: Key) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].attempts.get(&key).is_some_and(crate::agent::LocalAttempt::is_alive)
            {
                let after = Millis(self.chances.between(5, 3000));
                self.put(after, Happening::RanksEnd { node, key, exit: Exit::Code(1) });
            }
        }
    }

    fn on_training_done(&mut self, key: Key) {
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

    fn on_bug(&mut self, key: Key) {
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

    fn on_fenced(&mut self, node: usize) {
        if !self.is_planted(Plant::FenceLies) {
            self.power_off(node, REBOOT);
        }
        self.send(&Happening::ToControl(ToControl::NodeFenced(node)));
    }

    fn power_off(&mut self, node: usize, back_after: Millis) {
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

    // ---- faults ----

    fn on_fault(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::KillRank { job, rank } => self.kill_rank(&job, rank),
            FaultKind::Hang { job } => {
                if let Some(key) = self.alive_run(&job) {
                    self.save(key);
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

    fn alive_run(&self, job: &str) -> Option<Key> {
        let id = *self.submitted.get(job)?;
        let mut alive = self.nodes.iter().flat_map(|node| &node.attempts);
        alive.find(|((job, _), attempt)| *job == id && attempt.is_alive()).map(|(&key, _)| key)
    }

    fn kill_rank(&mut self, job: &str, rank: u32) {
        let Some(key) = self.alive_run(job) else { return };
        let now = self.now;
        for node in 0..self.nodes.len() {
            let Some(attempt) = self.nodes[node].attempts.get_mut(&key) else { continue };
            let stopping = attempt.stopping;
            let hit = attempt.ranks.iter_mut().find(|r| r.rank.0 == rank && r.exit.is_none());
            if let Some(hit) = hit {
                hit.exit =
                    Some(lindos_model::RankExit { exit: Exit::Signal(9), at: now, stopping });
                self.break_run(key);
                self.report(node);
            }
        }
    }

    fn kill_agent(&mut self, node: &str, back_after: Millis) {
        let node = self.by_name[node];
        self.nodes[node].agent_alive = false;
        let incarnation = self.nodes[node].incarnation;
        self.put(back_after, Happening::AgentBack { node, incarnation });
    }

    /// Nothing goes wrong from now on.
    fn heal(&mut self) {
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

    fn finish(mut self) -> Outcome {
        let now = self.now;
        let leak = u64::from(self.is_planted(Plant::LedgerLeak));
        let control = self.control.take().expect("it was brought back");
        let core = &control.core;
        let ledger = core.ledger_at(now);
        self.checker.on_end(core, now, ledger.total() - leak);
        let jobs = core.jobs().map(|job| JobOutcome {
            job: job.id,
            name: job.spec.name.clone(),
            state: job.state(),
            attempts: job.epoch.0,
            faults: job.faults,
            step: job.best_step,
            ledger: job.ledger.at(now),
        });
        let jobs = jobs.collect();
        // Once more from the journal alone.
        let remains = control.kill(now, |most| most);
        Control::start(remains.disk.clone(), &self.setup.policy, now, Some(&remains));
        Outcome {
            ended_at: now,
            trail: self.trail,
            ledger,
            jobs,
            happenings: self.happenings,
            node_ms: now.0 * self.setup.nodes.len() as u64,
        }
    }
}
