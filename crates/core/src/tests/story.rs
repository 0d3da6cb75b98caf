//! The teller of the stories: agents, users and a clock around a core that is checked at every step.

use crate::effect::{Effect, Effects, Order, Reply};
use crate::{Core, Event};
use lindos_model::policy::Repair;
use lindos_model::{
    AttemptReport, Column, EffectId, Exit, JobId, JobSpec, JobState, Millis, NodeId, NodeSpec,
    Policy, Rank, RankExit, RankReport, ReportedPhase, RequestId, Time,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A core with its invariants checked and its replay compared after every step.
pub struct Story {
    pub core: Core,
    pub events: Vec<(Time, Event)>,
    pub now: Time,
    pub seq: u64,
    pub requests: u128,
    pub fences: BTreeMap<NodeId, EffectId>,
    pub out: Effects,
}

impl Story {
    /// A fleet of `nodes` nodes with 8 GPUs each, all up.
    pub fn of(nodes: u32) -> Story {
        Story::under(Policy::default(), nodes)
    }

    pub fn under(policy: Policy, nodes: u32) -> Story {
        let mut story = Story {
            core: Core::new(),
            events: Vec::new(),
            now: Time(1_000_000),
            seq: 0,
            requests: 0,
            fences: BTreeMap::new(),
            out: Vec::new(),
        };
        story.tell(Event::ControlPlaneStarted { policy: Box::new(policy) });
        for index in 0..nodes {
            let spec = NodeSpec {
                name: format!("n{index}"),
                gpus: 8,
                platform: "p".into(),
                address: "127.0.0.1".into(),
                location: lindos_model::Location::default(),
                labels: BTreeMap::new(),
            };
            story.tell(Event::NodeJoined { spec: Box::new(spec) });
            story.report(index, vec![]);
        }
        story
    }

    /// One more node, in a rack of this number.
    pub fn join_in_rack(&mut self, index: u32, rack: u32) {
        let spec = NodeSpec {
            name: format!("n{index}"),
            gpus: 8,
            platform: "p".into(),
            address: "127.0.0.1".into(),
            location: lindos_model::Location { rack: format!("r{rack}"), ..Default::default() },
            labels: BTreeMap::new(),
        };
        self.tell(Event::NodeJoined { spec: Box::new(spec) });
        self.report(index, vec![]);
    }

    pub fn tell(&mut self, event: Event) {
        self.out.clear();
        self.core.step(self.now, &event, &mut self.out);
        self.events.push((self.now, event));
        for effect in &self.out {
            if let Effect::Fence { id, node } = effect {
                self.fences.insert(*node, *id);
            }
        }
        self.core.check();
    }

    pub fn after(&mut self, span: u64) -> &mut Self {
        self.now = self.now + Millis(span);
        self
    }

    /// Lets time pass, waking the core whenever it asks.
    pub fn wait(&mut self, span: u64) {
        let end = self.now + Millis(span);
        let mut seen = Vec::new();
        while let Some(at) = self.core.next_wakeup().filter(|&at| at <= end) {
            self.now = at.max(self.now);
            self.tell(Event::Tick);
            seen.append(&mut self.out);
        }
        self.now = end;
        self.out = seen;
    }

    pub fn submit(&mut self, spec: JobSpec) -> JobId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.tell(Event::JobSubmitted { request, user: "me".into(), spec: Arc::new(spec) });
        match self.out.iter().find_map(|effect| match effect {
            Effect::Reply { reply: Reply::Submitted { job }, .. } => Some(*job),
            _ => None,
        }) {
            Some(job) => job,
            None => panic!("not accepted: {:?}", self.out),
        }
    }

    /// A job that runs as soon as it is placed, with its first step told.
    pub fn run(&mut self, spec: JobSpec) -> JobId {
        let id = self.submit(spec);
        self.all_up(id);
        self.step(id, 1);
        id
    }

    /// Every rank of the job ends well.
    pub fn complete(&mut self, job: JobId) {
        self.all_end(job, &Exit::Code(0), false);
    }

    /// Every rank of a job that is being stopped is gone.
    pub fn gone(&mut self, job: JobId) {
        self.all_end(job, &killed(), true);
    }

    pub fn cancel(&mut self, job: JobId) {
        self.requests += 1;
        self.tell(Event::JobCancelled { request: RequestId(self.requests), job });
    }

    pub fn report(&mut self, node: u32, attempts: Vec<AttemptReport>) {
        self.seq += 1;
        self.tell(Event::NodeReported {
            node: NodeId(node),
            incarnation: 1,
            seq: self.seq,
            attempts,
        });
    }

    /// The newest fence of the node is confirmed.
    pub fn fenced(&mut self, node: u32) {
        let fence = self.fences[&NodeId(node)];
        self.tell(Event::NodeFenced { node: NodeId(node), fence });
    }

    pub fn silent(&mut self, node: u32, last_heard: Time) {
        self.tell(Event::NodeSilent { node: NodeId(node), last_heard });
    }

    /// All ranks of the job's attempt run, on every node of its gang.
    pub fn all_up(&mut self, job: JobId) {
        for node in self.gang(job) {
            let report = self.running(job, node);
            self.report(node.0, vec![report]);
        }
    }

    pub fn gang(&self, job: JobId) -> Vec<NodeId> {
        let attempt = self.core.job(job).unwrap().attempt.as_ref().expect("it has no gang");
        attempt.members.iter().map(|member| member.node).collect()
    }

    pub fn running(&self, job: JobId, node: NodeId) -> AttemptReport {
        let job = self.core.job(job).unwrap();
        let attempt = job.attempt.as_ref().unwrap();
        let member = attempt.members.iter().position(|member| member.node == node).unwrap();
        let ranks = (0..u32::from(attempt.ranks_per_node))
            .map(|at| Rank(attempt.first_rank(member).0 + at))
            .map(|rank| RankReport { rank, pid: 1000 + rank.0, exit: None })
            .collect();
        let epoch = attempt.epoch_of(member);
        AttemptReport { job: job.id, epoch, phase: ReportedPhase::Running, ranks }
    }

    pub fn ended(&self, job: JobId, node: NodeId, exit: &Exit, stopping: bool) -> AttemptReport {
        let mut report = self.running(job, node);
        report.phase = ReportedPhase::Gone;
        for rank in &mut report.ranks {
            rank.exit = Some(RankExit { exit: exit.clone(), at: self.now, stopping });
        }
        report
    }

    /// Every node of the gang says that its ranks ended so.
    pub fn all_end(&mut self, job: JobId, exit: &Exit, stopping: bool) {
        for node in self.gang(job) {
            let report = self.ended(job, node, exit, stopping);
            self.report(node.0, vec![report]);
        }
    }

    pub fn step(&mut self, job: JobId, step: u64) {
        let epoch = self.core.job(job).unwrap().epoch;
        self.tell(stepped(job, epoch, step));
    }

    pub fn checkpoint(&mut self, job: JobId, step: u64) {
        let epoch = self.core.job(job).unwrap().epoch;
        self.tell(Event::CheckpointSaved { job, epoch, step, blocked_ms: 0 });
    }

    pub fn state(&self, job: JobId) -> JobState {
        self.core.job(job).unwrap().state()
    }

    pub fn orders(&self) -> String {
        let mut said: Vec<String> = self
            .out
            .iter()
            .flat_map(|effect| match effect {
                Effect::Command(command) => {
                    let order = match command.order {
                        Order::Launch(_) => "launch",
                        Order::Stop { .. } => "stop",
                        Order::Forget => "forget",
                        Order::StandBy(_) => "stand by",
                        Order::StandDown { .. } => "stand down",
                    };
                    let (job, epoch) = (command.job, command.epoch);
                    let told = command.to.iter();
                    told.map(|to| format!("{order} {job}/{epoch} on n{}", to.node)).collect()
                }
                Effect::Fence { node, .. } => vec![format!("fence n{node}")],
                _ => Vec::new(),
            })
            .collect();
        said.sort();
        said.join(", ")
    }

    pub fn column(&self, column: Column) -> u64 {
        self.core.ledger_at(self.now)[column]
    }
}

impl Drop for Story {
    /// Every story is also a replay test.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut again = Core::new();
        for (index, (at, event)) in self.events.iter().enumerate() {
            again.step(*at, event, &mut Vec::new());
            if index == self.events.len() / 2 {
                again = Core::restore(&again.snapshot()).expect("our own snapshot");
            }
        }
        assert_eq!(again.digest(), self.core.digest(), "a replay came out differently");
    }
}

pub fn stepped(job: JobId, epoch: lindos_model::Epoch, step: u64) -> Event {
    let (total_steps, loss_micro, is_watched) = (None, None, false);
    Event::StepReached { job, epoch, step, total_steps, loss_micro, is_watched }
}

pub fn job(nodes: u32) -> JobSpec {
    lindos_model::job::sample("train", nodes, 8)
}

/// A fleet of which half may be out, so that a small one shows what a large one does.
pub fn half_out(repair: &Repair, nodes: u32) -> Story {
    let repair = Repair {
        rack_out_max_percent: 50,
        leaf_out_max_percent: 50,
        platform_out_max_percent: 50,
        fleet_out_max_percent: 50,
        ..repair.clone()
    };
    Story::under(Policy { repair, ..Policy::default() }, nodes)
}

pub fn killed() -> Exit {
    Exit::Signal(9)
}
