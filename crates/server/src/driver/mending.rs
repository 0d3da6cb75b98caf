//! Remedies and burn-ins, from the core's wish to its answer.
//!
//! Nothing of it is kept: what is asked for stands in the core's tickets, what becomes of it in the
//! agents' reports and with the [`Mender`]. Both are compared again and again ([`Driver::mend`]), so
//! that a control plane that starts anew goes on where the last one stopped: it asks again for what
//! does not show, answers what is over, and calls off what is not asked for any more. An answer is
//! given once, because the core has moved on when its event is durable.

use super::pair::{self, End, Next};
use super::{Driver, Input, Staged};
use crate::agents::Agents;
use crate::mender::{Case, Mender, Way};
use lindos_api::agent::{Message, Report};
use lindos_api::work::{ANSWER_PEER, MEET_PEER, Peer, Task, Work, WorkOrder, WorkReport, WorkStep};
use lindos_core::health::fleet::NodeState;
use lindos_core::health::repair::Stage;
use lindos_core::{Core, Event};
use lindos_journal::Disk;
use lindos_model::{EffectId, Millis, NodeId, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// An order that does not show is given again.
const AGAIN: Duration = Duration::from_secs(1);
/// Remedies beside the control plane at once; others wait for their turn.
const HERE_MAX: usize = 64;

/// What is asked for now.
enum Asked {
    Remedy(Box<Case>),
    BurnIn { span: Millis, limit: Millis, peer: Option<NodeId> },
}

/// Two nodes that are to be tested together.
#[derive(Clone, Copy, Debug)]
struct Pair {
    id: EffectId,
    node: NodeId,
    peer: NodeId,
    span: Millis,
    limit: Millis,
}

/// What a node said last.
#[derive(Debug)]
struct Known {
    incarnation: u64,
    /// By the place of its name in [`Task::NAMES`]: a fleet has many nodes.
    can: [bool; Task::NAMES.len()],
    works: Vec<WorkReport>,
}

impl Known {
    fn can(&self, task: &str) -> bool {
        Task::NAMES.iter().zip(self.can).any(|(name, can)| can && *name == task)
    }

    fn work(&self, id: EffectId) -> Option<&WorkReport> {
        self.works.iter().find(|work| work.id == id.0)
    }
}

#[derive(Debug)]
enum Here {
    /// Begun by an earlier control plane.
    Left,
    UnderWay,
    Over(Outcome),
}

#[derive(Debug, Default)]
pub(super) struct Mending {
    known: BTreeMap<NodeId, Known>,
    /// Those that told of works.
    busy: BTreeSet<NodeId>,
    here: BTreeMap<EffectId, Here>,
    sent: BTreeMap<(NodeId, u64), Instant>,
    /// Something has changed since it was last compared.
    pub(super) must_look: bool,
}

impl Mending {
    pub(super) fn new(mender: &dyn Mender) -> Mending {
        let here = mender.known().into_iter().map(|id| (id, Here::Left)).collect();
        Mending { here, must_look: true, ..Mending::default() }
    }

    /// Of a report that is not stale.
    pub(super) fn heard(&mut self, node: NodeId, is_out: bool, report: &Report) {
        let (incarnation, works) = (report.incarnation, report.works.clone());
        let can = Task::NAMES.map(|name| report.can.iter().any(|can| can == name));
        self.must_look |= is_out || !works.is_empty() || self.busy.contains(&node);
        if works.is_empty() {
            self.busy.remove(&node);
        } else {
            self.busy.insert(node);
        }
        self.known.insert(node, Known { incarnation, can, works });
    }

    pub(super) fn over(&mut self, id: EffectId, outcome: Outcome) {
        self.must_look = true;
        // One that was forgotten meanwhile is over for nobody.
        if let Some(here) = self.here.get_mut(&id) {
            *here = Here::Over(outcome);
        }
    }

    fn order(&mut self, agents: &mut Agents, core: &Core, node: NodeId, id: u64, step: WorkStep) {
        let Some(name) = core.node(node).map(|node| node.spec.name.as_str()) else { return };
        let Some(known) = self.known.get(&node) else { return };
        if self.sent.get(&(node, id)).is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        self.sent.insert((node, id), Instant::now());
        let order = WorkOrder { id, incarnation: known.incarnation, step };
        if let Err(reason) = agents.send(name, Message::Work(order)) {
            tracing::debug!(node = name, id, ?reason, "a work was not delivered");
            self.sent.remove(&(node, id));
        }
    }

    /// How a work stands on a node; `Some`: it is over so.
    fn on_node(
        &mut self,
        agents: &mut Agents,
        core: &Core,
        (node, id): (NodeId, EffectId),
        work: Work,
    ) -> Option<Outcome> {
        let known = self.known_of(core, node)?;
        match known.work(id) {
            Some(work) => work.outcome.clone(),
            None if known.can(work.task.name()) => {
                self.order(agents, core, node, id.0, WorkStep::Begin(work));
                None
            }
            None => Some(Outcome::Unsupported),
        }
    }

    /// Of one that is silent nobody knows; the core waits only so long.
    fn known_of(&self, core: &Core, node: NodeId) -> Option<&Known> {
        let is_up = core.node(node).is_some_and(|node| node.state == NodeState::Up);
        self.known.get(&node).filter(|_| is_up)
    }

    /// Takes a test of two nodes a step further; `Some`: it is over.
    fn test_pair(&mut self, agents: &mut Agents, core: &Core, pair: Pair) -> Option<Event> {
        let Pair { id, node, peer, span, limit } = pair;
        let end = |of: NodeId, task: &str| {
            let known = self.known_of(core, of)?;
            let can_burn_in = known.can(Task::BurnIn { span }.name());
            Some(End { can_test: known.can(task), can_burn_in, work: known.work(id) })
        };
        let next = pair::next(end(node, MEET_PEER)?, end(peer, ANSWER_PEER)?);
        let spec = |node: NodeId| core.node(node).map(|node| &node.spec);
        let mut order = |to: NodeId, task: Task| {
            self.order(agents, core, to, id.0, WorkStep::Begin(Work { task, limit }));
        };
        match next {
            Next::Wait => {}
            Next::Answer => {
                let address = spec(peer)?.address.clone();
                order(peer, Task::AnswerPeer { span, address });
            }
            Next::Meet(address) => {
                let name = spec(peer)?.name.clone();
                order(node, Task::MeetPeer { span, peer: Peer { name, address } });
            }
            Next::BurnIn { node: own, peer: other } => {
                for (to, _) in [(node, own), (peer, other)].into_iter().filter(|(_, is_to)| *is_to)
                {
                    order(to, Task::BurnIn { span });
                }
            }
            Next::Over { node, peer, link } => {
                return Some(Event::PairTested { test: id, node, peer, link });
            }
        }
        None
    }

    /// How a remedy stands that is carried out beside the control plane.
    fn beside(
        &mut self,
        mender: &Arc<dyn Mender>,
        sender: &SyncSender<Input>,
        case: &Case,
    ) -> Option<Outcome> {
        match self.here.get(&case.id) {
            Some(Here::UnderWay) => return None,
            Some(Here::Over(outcome)) => return Some(outcome.clone()),
            Some(Here::Left) | None => {}
        }
        let is_under_way = |here: &&Here| matches!(here, Here::UnderWay);
        if self.here.values().filter(is_under_way).count() >= HERE_MAX {
            return None;
        }
        let (mender, sender, case) = (Arc::clone(mender), sender.clone(), case.clone());
        let id = case.id;
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| mender.carry_out(&case)));
            let outcome = outcome.unwrap_or_else(|_| Outcome::Failed {
                reason: "what carries it out panicked".to_string(),
            });
            // When the control plane has ended meanwhile, the next one asks again.
            let _ = sender.send(Input::Mended { id, outcome });
        };
        match std::thread::Builder::new().name("mend".into()).spawn(work) {
            Ok(_) => drop(self.here.insert(id, Here::UnderWay)),
            Err(error) => tracing::error!(%error, "no thread for a remedy; it is tried again"),
        }
        None
    }

    /// A remedy beside the control plane is over. When it has done its work and no burn-in follows, which
    /// tells the node's agent, the agent is told of it first: what it found before would be reason to take
    /// the node out again, as long as it tells of that.
    fn told_of(
        &mut self,
        agents: &mut Agents,
        core: &Core,
        (node, id): (NodeId, EffectId),
        outcome: Outcome,
    ) -> Option<Outcome> {
        let is_open = outcome == Outcome::Done && core.policy().repair.burn_in_ms == 0;
        let can = self.known.get(&node).is_some_and(|known| known.can(Task::Mended.name()));
        if !(is_open && can) {
            return Some(outcome);
        }
        let limit = Millis(core.policy().repair.remedy_timeout_ms);
        let work = Work { task: Task::Mended, limit };
        self.on_node(agents, core, (node, id), work).map(|_| outcome)
    }

    /// Ends what nobody asks for any more.
    fn call_off(
        &mut self,
        agents: &mut Agents,
        core: &Core,
        mender: &Arc<dyn Mender>,
        asked: &BTreeSet<(NodeId, EffectId)>,
    ) {
        let mut orders = Vec::new();
        for &node in &self.busy {
            let known = &self.known[&node];
            for work in known.works.iter().filter(|it| !asked.contains(&(node, EffectId(it.id)))) {
                let step = if work.outcome.is_some() { WorkStep::Forget } else { WorkStep::Stop };
                orders.push((node, work.id, step));
            }
        }
        for (node, id, step) in orders {
            self.order(agents, core, node, id, step);
        }
        let ids: BTreeSet<EffectId> = asked.iter().map(|(_, id)| *id).collect();
        let unasked: Vec<EffectId> =
            self.here.keys().copied().filter(|id| !ids.contains(id)).collect();
        for id in unasked {
            self.here.remove(&id);
            let mender = Arc::clone(mender);
            // It may wait for processes to die.
            std::thread::spawn(move || mender.forget(id));
        }
        self.sent.retain(|_, at| at.elapsed() < AGAIN);
    }
}

/// All that the core waits for.
fn outstanding(core: &Core) -> Vec<(NodeId, EffectId, Asked)> {
    let patience = Millis(core.policy().repair.remedy_timeout_ms);
    let asked = core.repairs().filter_map(|(node, ticket)| match ticket.stage {
        Stage::Mending { effect: Some(id), .. } => {
            let spec = core.node(node)?.spec.clone();
            let (remedy, device) = (ticket.remedy, ticket.device.clone());
            let case = Case { id, node: spec, remedy, device, limit: patience };
            Some((node, id, Asked::Remedy(Box::new(case))))
        }
        Stage::BurnIn { effect: id, .. } => {
            let span = Millis(core.policy().repair.burn_in_ms);
            Some((node, id, Asked::BurnIn { span, limit: span + patience, peer: None }))
        }
        // What is asked of suspects stands with their tests.
        Stage::Leaving | Stage::Mending { effect: None, .. } | Stage::Suspect { .. } => None,
    });
    let trials = core.trial_burn_ins().map(|(id, node, peer, span)| {
        (node, id, Asked::BurnIn { span, limit: span + patience, peer })
    });
    asked.chain(trials).collect()
}

impl<D: Disk> Driver<D> {
    /// Compares what is asked for with what is under way, and stages what is over.
    pub(super) fn mend(&mut self, staged: &mut Staged) {
        self.mending.must_look = false;
        let (mending, agents, core) = (&mut self.mending, &mut self.world.agents, &self.world.core);
        let mut ids = BTreeSet::new();
        for (node, id, asked) in outstanding(core) {
            ids.insert((node, id));
            let outcome = match asked {
                Asked::BurnIn { span, limit, peer: None } => {
                    let work = Work { task: Task::BurnIn { span }, limit };
                    mending.on_node(agents, core, (node, id), work)
                }
                Asked::BurnIn { span, limit, peer: Some(peer) } => {
                    ids.insert((peer, id));
                    let pair = Pair { id, node, peer, span, limit };
                    let over = mending.test_pair(agents, core, pair);
                    staged.events.extend(over.map(|event| (event, None)));
                    None
                }
                Asked::Remedy(case) => match self.mender.way(&case) {
                    Way::Nowhere => Some(Outcome::Unsupported),
                    Way::Here => {
                        let over = mending.beside(&self.mender, &self.sender, &case);
                        over.and_then(|over| mending.told_of(agents, core, (node, id), over))
                    }
                    Way::Node(work) => mending.on_node(agents, core, (node, id), work),
                },
            };
            if let Some(outcome) = outcome {
                staged.events.push((Event::RemedyOver { node, remedy: id, outcome }, None));
            }
        }
        mending.call_off(agents, core, &self.mender, &ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_core::Effects;
    use lindos_model::{Location, NodeSpec, Policy, Time};

    #[test]
    fn the_burn_in_of_an_idle_node_is_asked_for_until_it_is_over() {
        let mut core = Core::new();
        let tell = |core: &mut Core, at, event| {
            core.step(Time(at), &event, &mut Effects::new());
            outstanding(core)
        };
        let mut policy = Policy::default();
        policy.repair.idle_burn_in_every_ms = 600_000;
        let started = Event::ControlPlaneStarted { policy: Box::new(policy) };
        tell(&mut core, 0, started.clone());
        let spec = NodeSpec {
            name: "n0".into(),
            gpus: 8,
            platform: "generic".into(),
            address: "127.0.0.1".into(),
            location: Location::default(),
            labels: BTreeMap::new(),
        };
        tell(&mut core, 1, Event::NodeJoined { spec: Box::new(spec) });
        let node = NodeId(0);
        let report = Event::NodeReported { node, incarnation: 1, seq: 1, attempts: vec![] };
        assert!(tell(&mut core, 2, report).is_empty());
        let asked = tell(&mut core, 600_001, Event::Tick);
        let [(NodeId(0), id, Asked::BurnIn { span: Millis(600_000), peer: None, .. })] = asked[..]
        else {
            panic!("it is due")
        };
        assert_eq!(tell(&mut core, 600_002, started).len(), 1, "the next one asks for it, too");
        let over = Event::RemedyOver { node, remedy: id, outcome: Outcome::Done };
        assert!(tell(&mut core, 1_200_002, over).is_empty());
    }
}
