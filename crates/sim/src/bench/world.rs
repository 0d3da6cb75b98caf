//! A core and all the nodes around it, which do at once what they are told.

use super::topology::{self, GPUS_PER_NODE, MOST, SOME};
use lindos_core::effect::{Command, Effects, Order, Reply, Target};
use lindos_core::{Core, Effect, Event};
use lindos_model::policy::Team;
use lindos_model::{
    AttemptReport, Epoch, Exit, JobId, JobSpec, Millis, NodeId, Policy, Rank, RankExit, RankReport,
    ReportedPhase, RequestId, Time,
};
use std::sync::Arc;

pub const TEAMS: u32 = 200;
/// The team of the jobs that are timed one by one: without a share it takes nobody's nodes.
pub const BENCH_TEAM: &str = "bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    /// Ended with status 0.
    Completed,
    /// Ended because it was told to.
    Stopped,
}

/// An attempt on one node.
#[derive(Clone, Debug)]
struct Part {
    job: JobId,
    epoch: Epoch,
    gpus: u16,
    first_rank: Rank,
    ranks: u32,
    life: Life,
}

#[derive(Clone, Debug, Default)]
struct Node {
    parts: Vec<Part>,
    used: u16,
    seq: u64,
    is_some: bool,
    must_report: bool,
}

/// GPUs and nodes in use, as the orders of the core say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub gpus: u64,
    /// Nodes of the two designs, [`MOST`] first, of which no GPU is in use.
    pub whole_free: [u32; 2],
    /// Attempts that were launched.
    pub launches: u64,
}

#[derive(Clone, Debug)]
pub struct World {
    pub core: Core,
    pub now: Time,
    nodes: Vec<Node>,
    to_report: Vec<NodeId>,
    requests: u128,
    in_use: Use,
}

impl World {
    /// A fleet of `gpus` GPUs, all nodes up, without jobs.
    pub fn new(gpus: u64) -> Result<World, String> {
        World::under(Policy::default(), gpus)
    }

    /// The same under this policy, with teams.
    pub fn under(policy: Policy, gpus: u64) -> Result<World, String> {
        let mut world = World {
            core: Core::new(),
            now: Time(1_000_000_000_000),
            nodes: Vec::new(),
            to_report: Vec::new(),
            requests: 0,
            in_use: Use::default(),
        };
        let share = gpus / u64::from(TEAMS);
        let team = |name: String, share| Team { name, parent: String::new(), share, limit: None };
        let mut teams: Vec<Team> = (0..TEAMS).map(|index| team(team_name(index), share)).collect();
        teams.push(team(BENCH_TEAM.to_string(), 0));
        let policy = Policy { teams, ..policy };
        world.tell(&Event::ControlPlaneStarted { policy: Box::new(policy) });
        for (index, spec) in topology::nodes(gpus)?.into_iter().enumerate() {
            let is_some = spec.platform == SOME;
            debug_assert!(is_some || spec.platform == MOST);
            world.nodes.push(Node { is_some, ..Node::default() });
            world.in_use.whole_free[usize::from(is_some)] += 1;
            world.tell(&Event::NodeJoined { spec: Box::new(spec) });
            let report = world.report(NodeId(index as u32));
            world.tell(&report);
        }
        Ok(world)
    }

    pub fn in_use(&self) -> Use {
        self.in_use
    }

    pub fn nodes(&self) -> u32 {
        self.nodes.len() as u32
    }

    pub fn gpus(&self) -> u64 {
        self.nodes.len() as u64 * u64::from(GPUS_PER_NODE)
    }

    pub fn occupancy(&self) -> f64 {
        self.in_use.gpus as f64 / self.gpus() as f64
    }

    pub fn after(&mut self, span: u64) {
        self.now = self.now + Millis(span);
    }

    /// Steps the core, and does what it orders; the job that it took, if it took one.
    pub fn tell(&mut self, event: &Event) -> Option<JobId> {
        let mut effects = Effects::new();
        self.core.step(self.now, event, &mut effects);
        self.carry_out(&effects)
    }

    pub fn carry_out(&mut self, effects: &[Effect]) -> Option<JobId> {
        let mut taken = None;
        for effect in effects {
            match effect {
                Effect::Command(command) => self.obey(command),
                Effect::Reply { reply: Reply::Submitted { job }, .. } => taken = Some(*job),
                Effect::Reply { reply: Reply::Rejected { reason }, .. } => {
                    panic!("the core would not do what the bench asks for: {reason:?}")
                }
                _ => {}
            }
        }
        taken
    }

    /// Every node that has something new to say says it, until the core orders nothing more.
    pub fn settle(&mut self) {
        while !self.to_report.is_empty() {
            for node in std::mem::take(&mut self.to_report) {
                let report = self.report(node);
                self.tell(&report);
            }
        }
    }

    /// The reports of the nodes that have something new to say.
    pub fn reports(&mut self) -> Vec<Event> {
        let nodes = std::mem::take(&mut self.to_report);
        nodes.into_iter().map(|node| self.report(node)).collect()
    }

    /// All timers that are due.
    pub fn tick(&mut self) {
        while self.core.next_wakeup().is_some_and(|at| at <= self.now) {
            self.tell(&Event::Tick);
            self.settle();
        }
    }

    pub fn submission(&mut self, spec: JobSpec) -> Event {
        self.requests += 1;
        let request = RequestId(self.requests);
        let user = format!("user{:03}", self.requests % 500);
        Event::JobSubmitted { request, user, spec: Arc::new(spec) }
    }

    pub fn submit(&mut self, spec: JobSpec) -> JobId {
        let event = self.submission(spec);
        self.tell(&event).expect("the core answers a submission")
    }

    pub fn cancel(&mut self, job: JobId) {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.tell(&Event::JobCancelled { request, job });
    }

    /// Every rank of a running job ends well; its nodes have yet to say so.
    pub fn complete(&mut self, job: JobId) {
        let attempt = self.core.job(job).and_then(|job| job.attempt.as_ref());
        let attempt = attempt.expect("only a job that runs completes");
        let members: Vec<NodeId> = attempt.members.iter().map(|member| member.node).collect();
        for node in members {
            self.change(node, job, |part| part.life = Life::Completed);
        }
    }

    pub fn is_running(&self, job: JobId) -> bool {
        self.core.job(job).is_some_and(|job| !job.is_over() && job.attempt.is_some())
    }

    fn change(&mut self, node: NodeId, job: JobId, change: impl Fn(&mut Part)) {
        let parts = &mut self.nodes[node.index()].parts;
        if let Some(part) = parts.iter_mut().find(|part| part.job == job) {
            change(part);
            self.has_news(node);
        }
    }

    fn has_news(&mut self, node: NodeId) {
        let known = &mut self.nodes[node.index()];
        if !known.must_report {
            known.must_report = true;
            self.to_report.push(node);
        }
    }

    fn obey(&mut self, command: &Command) {
        for to in &command.to {
            self.obey_on(to, command);
        }
    }

    fn obey_on(&mut self, to: &Target, command: &Command) {
        let (Command { job, epoch, order, .. }, node) = (command, &to.node);
        match order {
            Order::Launch(launch) => {
                let known = &mut self.nodes[node.index()];
                if known.parts.iter().any(|part| (part.job, part.epoch) == (*job, *epoch)) {
                    return;
                }
                let gpus = to.gpus.len();
                if known.used == 0 {
                    self.in_use.whole_free[usize::from(known.is_some)] -= 1;
                }
                known.used += gpus;
                self.in_use.gpus += u64::from(gpus);
                self.in_use.launches += u64::from(launch.node_rank(to.member) == 0);
                known.parts.push(Part {
                    job: *job,
                    epoch: *epoch,
                    gpus,
                    first_rank: launch.first_rank(to.member),
                    ranks: launch.ranks_per_node(),
                    life: Life::Runs,
                });
                self.has_news(*node);
            }
            Order::Stop { .. } => self.change(*node, *job, |part| {
                if part.life == Life::Runs {
                    part.life = Life::Stopped;
                }
            }),
            Order::Forget => {
                let known = &mut self.nodes[node.index()];
                let is_it = |part: &Part| (part.job, part.epoch) == (*job, *epoch);
                let Some(at) = known.parts.iter().position(is_it) else { return };
                let gpus = known.parts.remove(at).gpus;
                known.used -= gpus;
                self.in_use.gpus -= u64::from(gpus);
                if known.used == 0 {
                    self.in_use.whole_free[usize::from(known.is_some)] += 1;
                }
                self.has_news(*node);
            }
            // No job here has warm spares.
            Order::StandBy(_) | Order::StandDown { .. } => {}
        }
    }

    /// All that lives on a node.
    fn report(&mut self, id: NodeId) -> Event {
        let now = self.now;
        let node = &mut self.nodes[id.index()];
        node.must_report = false;
        node.seq += 1;
        let attempts = node.parts.iter().map(|part| part.report(now)).collect();
        Event::NodeReported { node: id, incarnation: 1, seq: node.seq, attempts }
    }
}

impl Part {
    fn report(&self, now: Time) -> AttemptReport {
        let (phase, exit) = match self.life {
            Life::Runs => (ReportedPhase::Running, None),
            Life::Completed => (ReportedPhase::Gone, Some((Exit::Code(0), false))),
            Life::Stopped => (ReportedPhase::Gone, Some((Exit::Signal(15), true))),
        };
        let rank = |at| {
            let rank = Rank(self.first_rank.0 + at);
            let exit = exit.clone().map(|(exit, stopping)| RankExit { exit, at: now, stopping });
            RankReport { rank, pid: 1000 + rank.0, exit }
        };
        let ranks = (0..self.ranks).map(rank).collect();
        AttemptReport { job: self.job, epoch: self.epoch, phase, ranks }
    }
}

pub fn team_name(index: u32) -> String {
    format!("team{index:03}")
}
