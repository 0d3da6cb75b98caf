//! The world in virtual time: nodes, their processes, the network, the users, and a control plane
//! that may be killed at any event.
//!
//! A happening is taken from the queue, in the order of time and then of arrival; whatever it
//! causes is put back with its own time. The checkers stand in [`crate::check`] and look at the
//! world's truth, not at what the core believes.

mod control_side;
mod faults;
mod node_side;
mod pace;
mod story;

pub use story::{Line, Violation};

use crate::agent::{SimNode, Told};
use crate::check::Checker;
use crate::control::{Control, JobReading, Remains, Standby, Witnessed};
use crate::fault::{Fault, Network, Plant};
use crate::host::Host;
use crate::random::Stream;
use crate::script::{Position, Script, Training};
use lindos_core::effect::Reply;
use lindos_journal::MemoryDisk;
use lindos_model::reservation::Purpose;
use lindos_model::{
    AttemptReport, EffectId, Epoch, Exit, JobId, JobSpec, JobState, Millis, NodeId, NodeSpec,
    Outcome as RemedyOutcome, Policy, Remedy, RequestId, Time, TrailEntry,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A user asks again when there was no answer for so long.
const ASK_AGAIN: Millis = Millis::from_secs(2);
/// A commit that found the disk full is tried again after so long.
const COMMIT_AGAIN: Millis = Millis(500);
/// The fence takes so long, and the node so long to come back after it.
const FENCE: Millis = Millis::from_secs(3);
const REMEDY: Millis = Millis::from_secs(30);
const REBOOT: Millis = Millis::from_secs(60);
/// Once no job is left, what waits for a rank is gone after so long, and ten reports of its agent.
const STANDBYS_GONE: Millis = Millis::from_secs(300);

#[derive(Clone, Debug)]
pub struct SimJob {
    pub at: Time,
    /// Without the jobs that it comes after.
    pub spec: Arc<JobSpec>,
    /// Names of jobs that it comes after, and whether any end of theirs will do.
    pub after: Vec<(String, bool)>,
    pub script: Script,
}

/// Nodes that an operator sets aside.
#[derive(Clone, Debug)]
pub struct SimReservation {
    /// When it is asked for.
    pub at: Time,
    pub name: String,
    pub purpose: Purpose,
    /// Names of nodes that are in no other reservation at the time.
    pub nodes: Vec<String>,
    pub from: Time,
    pub until: Time,
    /// When it is called off.
    pub cancel_at: Option<Time>,
}

/// Everything that a run begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub policy: Policy,
    /// Those that a later version of the control plane may start with.
    pub policies: Vec<Policy>,
    /// A standby follows the journal, and reads what is new so often.
    pub standby: Option<Millis>,
    pub nodes: Vec<NodeSpec>,
    pub jobs: Vec<SimJob>,
    pub reservations: Vec<SimReservation>,
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
    /// Faults of the setup that struck while there was something to strike.
    pub faults: u32,
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
    ToAgent(usize, Told),
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
    StandbyReads,
    /// What is left of an attempt's ranks on a node ends so.
    RanksEnd {
        node: usize,
        key: Key,
        exit: Exit,
    },
    /// Processes that were started to wait for a rank have done what needs none.
    StandbyLoaded {
        node: usize,
        job: JobId,
        id: EffectId,
    },
    /// A replica that was launched again has loaded what it needs, and joins the others.
    ReplicaJoins(Key, u32),
    TrainingDone(Key),
    BugHits(Key),
    Fenced(usize, EffectId),
    Remedied {
        node: usize,
        effect: EffectId,
        remedy: Option<Remedy>,
    },
    /// A test of Lindos's own is over: of a node alone, or with a peer.
    Tested {
        node: usize,
        peer: Option<usize>,
        effect: EffectId,
    },
    PowerOn(usize),
    AgentBack {
        node: usize,
        incarnation: u64,
    },
    Fault(usize),
    DiskFreed,
    /// The control plane's machine gets on: what waited for it comes now.
    HostReady,
    Heal,
}

type Key = (JobId, Epoch);

/// A checkpoint on the storage.
#[derive(Clone, Copy, Debug)]
struct Saved {
    by: Epoch,
    is_spoilt: bool,
}

#[derive(Clone, Debug)]
enum ToControl {
    Report {
        node: usize,
        incarnation: u64,
        seq: u64,
        attempts: Vec<AttemptReport>,
        readings: Vec<JobReading>,
        witnessed: Witnessed,
    },
    Ask(usize),
    NodeFenced(usize, EffectId),
    RemedyOver(usize, EffectId, RemedyOutcome),
    /// Of the node, its peer and the link between them.
    PairTested(EffectId, [RemedyOutcome; 3]),
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
    /// The node was mended by hand.
    Mended(String),
    Reserve(usize),
    Unreserve(String),
}

/// The processes of one launch together, over all nodes: of a whole gang, or of a replica that
/// comes back to it.
struct Run {
    /// Ranks that have started, by replica.
    started: BTreeMap<u32, u32>,
    script: Script,
    training: Option<Training>,
    /// What it was told to go on from.
    resume_step: Option<u64>,
    /// What it trains with: itself, or the gang that it comes back to.
    base: Key,
    /// Where those that come back look for the others.
    met_at: BTreeSet<(NodeId, u16)>,
    /// Replicas of the gang, and the fewest that train.
    replicas: u32,
    replicas_min: u32,
    /// Those of them that do not train …
    lost: BTreeSet<u32>,
    /// … and those all of whose ranks are there: once all are, they begin.
    ready: BTreeSet<u32>,
    /// The replica and the rank that all wait for, and when they last got on without one.
    waits_for: Option<(u32, u32)>,
    /// Replicas that stand still while the others go on: where, and which rank has stopped.
    stranded: BTreeMap<u32, (Position, Option<u32>)>,
    resumed_at: Option<Time>,
    /// When the newest replica of this launch had loaded what it needs.
    joined_at: Option<Time>,
    broken: bool,
    finished: bool,
}

/// Why the control plane is down, and what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Down {
    Killed,
    Deposed,
    Upgraded,
}

struct World {
    setup: Setup,
    /// Which control plane takes over at the next start: its policy.
    policy: Policy,
    host: Host,
    /// What came to the control plane's machine while nothing on it got on, in that order.
    held: Vec<Happening>,
    standby: Option<Standby>,
    /// What the control plane has sent of late.
    sent: VecDeque<(usize, Told)>,
    now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    arrivals: u64,
    happenings: u64,
    control: Option<Control>,
    remains: Option<(Remains, Down)>,
    clock_armed: Option<Time>,
    disk_full_until: Time,
    slow_disk: Option<(Time, Millis)>,
    /// Nodes that were ever slow, and until when.
    slow_spans: Vec<(usize, Time)>,
    /// Jobs of which the next replica that starts comes to no first step.
    start_hangs: BTreeSet<JobId>,
    nodes: Vec<SimNode>,
    by_name: BTreeMap<String, usize>,
    /// The nodes on which ranks of a job have ever been.
    job_nodes: BTreeMap<JobId, BTreeSet<usize>>,
    runs: BTreeMap<Key, Run>,
    /// The durable checkpoints of each job, and whether each is spoilt and who saved it: the storage's
    /// truth.
    storage: BTreeMap<JobId, BTreeMap<u64, Saved>>,
    /// The last time that the control plane has said of a job's checkpoints that they are spoilt: in
    /// which epoch, and from which step on.
    told_spoilt: BTreeMap<JobId, (Epoch, u64)>,
    /// Links between two nodes that fail every test.
    weak_links: BTreeSet<(usize, usize)>,
    asked: Vec<Asked>,
    submitted: BTreeMap<String, JobId>,
    healed: bool,
    /// All has been over since then, but for what waits for a rank.
    over_since: Option<Time>,
    drained: BTreeSet<String>,
    faults_left: usize,
    faults: u32,
    trail: Vec<TrailEntry>,
    /// Faults that struck: how long the trail was, when, and which of the setup's.
    struck: Vec<(usize, Time, usize)>,
    checker: Checker,
    network: Stream,
    chances: Stream,
}

/// Plays a setup to its end. A checker that is not content (`violation: …`) and a panic of the core
/// are the error, with what went before.
pub fn play(setup: Setup) -> Result<Outcome, Violation> {
    let mut world = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let world = world.insert(World::new(setup));
        while world.next() {}
        world.finish()
    }));
    played.map_err(|panic| Violation::new(&*panic, world.as_ref()))
}

/// [`play`], where nothing may be wrong: panics at a violation.
pub fn run(setup: Setup) -> Outcome {
    play(setup).unwrap_or_else(|violation| panic!("{violation}"))
}

impl World {
    fn new(setup: Setup) -> World {
        let host = Host::default();
        let disk = MemoryDisk::new();
        let control = Control::start(disk, &setup.policy, &host, Time::ZERO, None);
        let mut world = World {
            policy: setup.policy.clone(),
            host,
            held: Vec::new(),
            standby: setup.standby.map(|_| Standby::default()),
            sent: VecDeque::new(),
            now: Time::ZERO,
            queue: BTreeMap::new(),
            arrivals: 0,
            happenings: 0,
            control: Some(control),
            remains: None,
            clock_armed: None,
            disk_full_until: Time::ZERO,
            slow_disk: None,
            slow_spans: Vec::new(),
            start_hangs: BTreeSet::new(),
            nodes: vec![SimNode::default(); setup.nodes.len()],
            by_name: setup.nodes.iter().enumerate().map(|(i, n)| (n.name.clone(), i)).collect(),
            job_nodes: BTreeMap::new(),
            runs: BTreeMap::new(),
            storage: BTreeMap::new(),
            told_spoilt: BTreeMap::new(),
            weak_links: BTreeSet::new(),
            asked: Vec::new(),
            submitted: BTreeMap::new(),
            healed: false,
            over_since: None,
            drained: BTreeSet::new(),
            faults_left: setup.faults.len(),
            faults: 0,
            trail: Vec::new(),
            struck: Vec::new(),
            checker: Checker::default(),
            network: Stream::new(setup.seed, "network"),
            chances: Stream::new(setup.seed, "chances"),
            setup,
        };
        world.checker.misreads_reservations = world.is_planted(Plant::ReservationMisread);
        world.plant_in_control();
        if let Some(standby) = &mut world.standby {
            standby.skips_starts = world.setup.plant == Some(Plant::StandbySkips);
        }
        if let Some(every) = world.setup.standby {
            world.put(every, Happening::StandbyReads);
        }
        world.put(Millis::ZERO, Happening::Commit);
        for node in 0..world.nodes.len() {
            world.nodes[node].powered = true;
            world.nodes[node].plant = world.setup.plant;
            world.start_agent(node);
        }
        for index in 0..world.setup.jobs.len() {
            let at = world.setup.jobs[index].at;
            world.ask_at(at, Ask::Submit(index));
        }
        for index in 0..world.setup.reservations.len() {
            let SimReservation { at, name, cancel_at, .. } = &world.setup.reservations[index];
            let (at, name, cancel_at) = (*at, name.clone(), *cancel_at);
            world.ask_at(at, Ask::Reserve(index));
            if let Some(at) = cancel_at {
                world.ask_at(at, Ask::Unreserve(name));
            }
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

    /// Puts the planted faults of a driver into the control plane that is up.
    fn plant_in_control(&mut self) {
        let forgets = self.is_planted(Plant::ForgetToJournal);
        let follows_the_wall = self.is_planted(Plant::ClockJumps);
        let control = self.control_mut();
        control.forget_to_journal = forgets;
        control.follows_the_wall = follows_the_wall;
    }

    /// What the clock of the control plane that is up shows.
    fn clock(&mut self) -> Time {
        let control = self.control.as_mut().expect("it is up");
        control.now(&self.host, self.now)
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
        let control = self.control.as_ref();
        let no_job_is_left = nothing_to_come
            && self.asked.iter().all(|asked| asked.answered)
            && control.is_some_and(|c| c.core.jobs().all(lindos_core::job::Job::is_over));
        let is_idle = control.is_some_and(|control| !control.has_waiting());
        if no_job_is_left && is_idle && !self.somebody_waits() {
            return false;
        }
        self.over_since = no_job_is_left.then(|| self.over_since.unwrap_or(self.now));
        let longest = STANDBYS_GONE + self.setup.heartbeat.times(10);
        let waits_on = self.over_since.is_some_and(|since| self.now.since(since) > longest);
        assert!(!waits_on, "violation: no job is left, and what waits for a rank does so for ever");
        let ((at, _), happening) = self.queue.pop_first().expect("agents never fall silent");
        assert!(at <= self.setup.limit, "violation: some job did not end: {}", self.unfinished());
        self.now = at;
        self.happenings += 1;
        self.happen(happening);
        true
    }

    /// Whether processes wait for a rank where they can be told to end.
    fn somebody_waits(&self) -> bool {
        let can_hear = |&(index, node): &(usize, &SimNode)| {
            node.agent_alive && !node.standbys.is_empty() && !self.is_cut_off(index)
        };
        self.nodes.iter().enumerate().any(|node| can_hear(&node))
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
        let is_for_control = matches!(
            happening,
            Happening::ToControl(_) | Happening::Commit | Happening::ControlClock
        );
        if is_for_control && self.host.is_busy(self.now) {
            self.hold(happening);
            return;
        }
        match happening {
            Happening::ToControl(message) => self.on_control_hears(message),
            Happening::ToAgent(node, command) => self.on_agent_hears(node, &command),
            Happening::Answered { asked, reply } => self.on_answered(asked, &reply),
            Happening::Ask(asked) => self.on_ask(asked),
            Happening::Heartbeat { node, incarnation } => self.on_heartbeat(node, incarnation),
            Happening::Commit => self.on_commit(),
            Happening::ControlClock => self.on_control_clock(),
            Happening::ControlBack => self.on_control_back(),
            Happening::StandbyReads => self.on_standby_reads(),
            Happening::RanksEnd { node, key, exit } => self.end_ranks(node, key, &exit),
            Happening::StandbyLoaded { node, job, id } => self.on_standby_loaded(node, job, id),
            Happening::ReplicaJoins(key, index) => self.on_replica_joins(key, index),
            Happening::TrainingDone(key) => self.on_training_done(key),
            Happening::BugHits(key) => self.on_bug(key),
            Happening::Fenced(node, fence) => self.on_fenced(node, fence),
            Happening::Remedied { node, effect, remedy } => self.on_remedied(node, effect, remedy),
            Happening::Tested { node, peer, effect } => self.on_tested(node, peer, effect),
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
                    self.faults += 1;
                    self.note_strike(index);
                    self.on_fault(kind);
                }
            }
            Happening::DiskFreed => {
                if self.disk_full_until <= self.now {
                    self.bound_disk(None);
                }
            }
            Happening::HostReady => self.release_held(),
            Happening::Heal => self.heal(),
        }
    }

    /// Keeps what the control plane's machine cannot take yet until it can.
    fn hold(&mut self, happening: Happening) {
        if self.held.is_empty() {
            self.put(self.host.busy_until.since(self.now), Happening::HostReady);
        }
        self.held.push(happening);
    }

    /// Brings what was held, in its order, unless the machine has become busy again.
    fn release_held(&mut self) {
        if self.host.is_busy(self.now) {
            self.put(self.host.busy_until.since(self.now), Happening::HostReady);
            return;
        }
        for happening in std::mem::take(&mut self.held) {
            self.put(Millis::ZERO, happening);
        }
    }

    /// The control plane's machine is woken, whatever was to come: nothing goes on waiting for it.
    fn wake_host(&mut self) {
        self.host.wake(self.now);
        self.release_held();
    }

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

    fn finish(&mut self) -> Outcome {
        let now = self.clock();
        let leak = u64::from(self.is_planted(Plant::LedgerLeak));
        let control = self.control.take().expect("it was brought back");
        let core = &control.core;
        let ledger = core.ledger_at(now);
        self.checker.on_end(core, now, ledger.total() - leak);
        for job in core.jobs() {
            let script = self.setup.jobs.iter().find(|known| known.spec.name == job.spec.name);
            let script = &script.expect("nobody else submits").script;
            let has_bug = script.bug.is_some() || script.loss_breaks.is_some();
            // Ends are told by the nodes' clocks, silences by the control plane's. Where these differ,
            // or reports wait for a slow disk, the one may be taken for the cause of the other:
            // docs/swarm.md.
            let is_clear = !has_bug && self.host.tells_when();
            assert!(
                !is_clear || job.user_used == 0,
                "violation: job {} has no bug, and its user was charged: {:?}",
                job.id,
                job.history
            );
            let may_fail = !is_clear || job.spec.time_limit.is_some();
            assert!(
                may_fail || job.state() != JobState::Failed,
                "violation: job {} failed without a cause: {:?}",
                job.id,
                job.ended
            );
        }
        let jobs = core.jobs().map(|job| JobOutcome {
            job: job.id,
            name: match job.array_index {
                Some(index) => format!("{}[{index}]", job.spec.name),
                None => job.spec.name.clone(),
            },
            state: job.state(),
            attempts: job.epoch.0,
            faults: job.faults,
            step: job.best_step,
            ledger: job.ledger.at(now),
        });
        let jobs = jobs.collect();
        // Once more from the journal alone.
        let remains = control.kill(now, |most| most);
        let disk = remains.disk.clone();
        let again = Control::start(disk, &self.policy, &self.host, self.now, Some(&remains));
        if let Some(standby) = &mut self.standby {
            standby.follow(again.disk());
            standby.check_takes_over(&again);
        }
        Outcome {
            ended_at: now,
            trail: std::mem::take(&mut self.trail),
            ledger,
            jobs,
            happenings: self.happenings,
            faults: self.faults,
            node_ms: self.now.0 * self.setup.nodes.len() as u64,
        }
    }
}
