//! A gang of known machines around the real core, to which faults are done on purpose.

use crate::random::Stream;
use lindos_core::event::GangWord;
use lindos_core::gang::attempt::Attempt;
use lindos_core::job::{Job, PastAttempt};
use lindos_core::{Core, Effect, Effects, Event, Reply};
use lindos_model::finding::{Action, FindingClass, FindingSource, Severity, Suspect};
use lindos_model::{
    AttemptReport, EffectId, Epoch, Exit, Finding, JobId, JobSpec, JobState, Location, Millis,
    NodeId, NodeSpec, Policy, Rank, RankExit, RankReport, ReportedPhase, RequestId, Symptom,
    SymptomKind, Time, job,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const GPUS: u16 = 8;
const NODES_IN_RACK: u32 = 4;
const NODES_IN_LEAF: u32 = 16;
const NODES_ON_FEED: u32 = 8;
/// So long nobody hears from a node before it is called silent.
const SILENT_AFTER: Millis = Millis::from_secs(5);
/// What waits for longer waits for ever.
const PATIENCE: u32 = 100_000;

pub struct Stage {
    pub core: Core,
    pub now: Time,
    pub job: JobId,
    gpus: u16,
    seq: u64,
    fences: BTreeMap<NodeId, EffectId>,
    /// Nodes that do not answer.
    dead: BTreeSet<NodeId>,
    out: Effects,
    /// What its ranks' stacks show is drawn from this, if they can be asked.
    pub stacks: Option<Stream>,
}

impl Stage {
    /// A job of so many nodes, and some more beside them. Nobody but the job is there, and nothing is
    /// taken out: only the verdicts are looked at.
    pub fn new(nodes: u32) -> Stage {
        Stage::with_gpus(nodes, GPUS)
    }

    /// The same, of nodes with so many GPUs.
    pub fn with_gpus(nodes: u32, gpus: u16) -> Stage {
        let mut policy = Policy::default();
        policy.repair.automatic = false;
        let mut stage = Stage {
            core: Core::new(),
            now: Time(1_700_000_000_000),
            job: JobId(0),
            gpus,
            seq: 0,
            fences: BTreeMap::new(),
            dead: BTreeSet::new(),
            out: Vec::new(),
            stacks: None,
        };
        stage.tell(&Event::ControlPlaneStarted { policy: Box::new(policy) });
        for index in 0..nodes + nodes / 8 + 8 {
            stage.tell(&Event::NodeJoined { spec: Box::new(node(index, gpus)) });
            stage.reports(NodeId(index), Vec::new());
        }
        let spec = JobSpec {
            retry_infrastructure: u32::MAX,
            retry_user: u32::MAX,
            ..job::sample("train", nodes, gpus)
        };
        let (request, user) = (RequestId(1), "someone".to_string());
        stage.tell(&Event::JobSubmitted { request, user, spec: Arc::new(spec) });
        stage.job = stage.submitted();
        stage
    }

    fn submitted(&self) -> JobId {
        let replies = self.out.iter().find_map(|effect| match effect {
            Effect::Reply { reply: Reply::Submitted { job }, .. } => Some(*job),
            _ => None,
        });
        replies.expect("the job fits")
    }

    pub fn tell(&mut self, event: &Event) {
        self.out.clear();
        self.core.step(self.now, event, &mut self.out);
        for effect in &self.out {
            if let Effect::Fence { id, node } = effect {
                self.fences.insert(*node, *id);
            }
        }
    }

    pub fn after(&mut self, span: Millis) {
        let end = self.now + span;
        while let Some(at) = self.core.next_wakeup().filter(|&at| at <= end) {
            self.now = at.max(self.now);
            self.tell(&Event::Tick);
        }
        self.now = end;
    }

    pub fn the_job(&self) -> &Job {
        self.core.job(self.job).expect("it is remembered")
    }

    pub fn attempt(&self) -> Option<&Attempt> {
        self.the_job().attempt.as_ref()
    }

    pub fn epoch(&self) -> Epoch {
        self.the_job().epoch
    }

    pub fn gang(&self) -> Vec<NodeId> {
        let members = self.attempt().map_or(&[][..], |attempt| &attempt.members);
        members.iter().map(|member| member.node).collect()
    }

    pub fn name(node: NodeId) -> String {
        format!("n{}", node.0)
    }

    /// The first rank on a node.
    pub fn rank_on(&self, node: NodeId) -> Rank {
        let attempt = self.attempt().expect("it runs");
        let member = attempt.members.iter().position(|member| member.node == node);
        attempt.first_rank(member.expect("a member of the gang"))
    }

    pub fn place(&self, node: NodeId) -> &Location {
        let known = self.core.node(node).expect("it has joined");
        &known.spec.location
    }

    fn reports(&mut self, node: NodeId, attempts: Vec<AttemptReport>) {
        self.seq += 1;
        let (incarnation, seq) = (1, self.seq);
        self.tell(&Event::NodeReported { node, incarnation, seq, attempts });
    }

    pub fn all_say(&mut self, word: GangWord, but: Vec<NodeId>) {
        let (job, epoch) = (self.job, self.epoch());
        self.tell(&Event::GangReported { job, epoch, word, but });
    }

    /// Waits until the job is launched, and lets it take steps up to this one.
    pub fn trains_to(&mut self, step: u64, step_time: Millis) {
        let mut patience = PATIENCE;
        while self.the_job().state() != JobState::Starting {
            self.after(Millis::from_secs(1));
            patience -= 1;
            assert!(patience > 0, "the job never starts: {:?}", self.the_job().wait);
        }
        self.all_say(GangWord::Running, Vec::new());
        let begun = self.the_job().checkpoint_step.unwrap_or(0);
        for at in begun + 1..=step.max(begun + 2) {
            self.after(step_time);
            self.steps(at, false);
        }
    }

    pub fn steps(&mut self, step: u64, is_watched: bool) {
        let (job, epoch) = (self.job, self.epoch());
        let (total_steps, loss_micro) = (None, None);
        self.tell(&Event::StepReached { job, epoch, step, total_steps, loss_micro, is_watched });
    }

    pub fn saves(&mut self, step: u64, blocked_ms: u64) {
        let (job, epoch) = (self.job, self.epoch());
        self.tell(&Event::CheckpointSaved { job, epoch, step, blocked_ms });
    }

    pub fn says(&mut self, node: NodeId, kind: SymptomKind) {
        let (job, epoch, rank) = (self.job, self.epoch(), self.rank_on(node));
        let symptom = Box::new(Symptom { kind, line: format!("last words: {kind}") });
        self.tell(&Event::SymptomSeen { job, epoch, rank, symptom });
    }

    pub fn finds(&mut self, node: NodeId, class: &'static str, what: Severity, who: Suspect) {
        let finding = Finding {
            suspect: who,
            ..Finding::new(
                FindingClass::known(class),
                what,
                Action::None,
                FindingSource::KernelLog,
                "",
            )
        };
        self.tell(&Event::FindingSeen { node, finding: Box::new(finding) });
    }

    pub fn forgets_findings(&mut self, node: NodeId) {
        let open = self.core.health(node).map_or(Vec::new(), |health| health.open.clone());
        for open in open {
            let (class, device) = (open.finding.class, open.finding.device);
            self.tell(&Event::FindingGone { node, class, device });
        }
    }

    /// The first rank of a node ends so, by itself; the others there still run.
    pub fn ends(&mut self, node: NodeId, exit: &Exit) {
        let (first, per_node) = (self.rank_on(node).0, u32::from(self.gpus));
        let at = self.now;
        let ranks = (0..per_node)
            .map(|index| RankReport {
                rank: Rank(first + index),
                pid: 1000 + index,
                exit: (index == 0).then(|| RankExit { exit: exit.clone(), at, stopping: false }),
            })
            .collect();
        let (job, epoch, phase) = (self.job, self.epoch(), ReportedPhase::Running);
        self.reports(node, vec![AttemptReport { job, epoch, phase, ranks }]);
    }

    /// Nothing more is heard from a node, and after a while that is noticed.
    pub fn falls_silent(&mut self, node: NodeId) {
        let last_heard = self.now;
        self.after(SILENT_AFTER);
        self.is_silent_since(node, last_heard);
    }

    pub fn is_silent_since(&mut self, node: NodeId, last_heard: Time) {
        self.dead.insert(node);
        self.tell(&Event::NodeSilent { node, last_heard });
    }

    /// Waits for the attempt to be stopped, ends all of it, and brings back the dead: the fault.
    pub fn fault(&mut self) -> PastAttempt {
        let mut patience = PATIENCE;
        while self.the_job().state() != JobState::Stopping {
            self.after(Millis::from_secs(1));
            patience -= 1;
            assert!(patience > 0, "nobody notices the fault");
        }
        let dead: Vec<NodeId> = self.dead.iter().copied().collect();
        self.after(Millis::from_secs(1));
        self.all_say(GangWord::Stopped, dead.clone());
        for node in dead {
            let fence = self.fences[&node];
            self.tell(&Event::NodeFenced { node, fence });
        }
        let past = self.the_job().history.last().expect("an attempt is over").clone();
        for node in std::mem::take(&mut self.dead) {
            self.reports(node, Vec::new());
        }
        past
    }
}

fn node(index: u32, gpus: u16) -> NodeSpec {
    NodeSpec {
        name: Stage::name(NodeId(index)),
        gpus,
        platform: "hgx-h100".into(),
        address: "127.0.0.1".into(),
        location: Location {
            leaf: format!("l{}", index / NODES_IN_LEAF),
            rack: format!("r{}", index / NODES_IN_RACK),
            pdu: format!("p{}", index / NODES_ON_FEED),
            ..Location::default()
        },
        labels: BTreeMap::new(),
    }
}
