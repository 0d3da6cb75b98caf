//! Idle nodes are burnt in, one after another, each when its last burn-in is long ago.
//!
//! A node goes on being free meanwhile: whoever wants it has it at once, and it is tried again later.
//! One that fails is condemned. The work is bounded: at most [`LOOKS_MAX`] nodes are looked at a time,
//! and not more often than every [`LOOK_EVERY`], or what is asked for if that is less.

use super::ladder::Urgency;
use super::trial::failed_class;
use crate::Core;
use crate::effect::{Effect, Effects};
use crate::health::repair::Faults;
use crate::timer::Timer;
use lindos_model::finding::{Action, Finding, FindingSource, Severity};
use lindos_model::{EffectId, Millis, NodeId, Outcome, Remedy, Time, TrailKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const LOOK_EVERY: Millis = Millis::from_secs(60);
const LOOK_EVERY_MIN: Millis = Millis::from_secs(1);
const LOOKS_MAX: usize = 1024;
/// A node that was busy is looked at again after this part of the time between two burn-ins.
const AGAIN: u64 = 16;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct IdleBurnIns {
    /// When each node is due.
    due: BTreeSet<(Time, NodeId)>,
    /// Those under way, and until when there must be an answer.
    under_way: BTreeMap<NodeId, (EffectId, Time)>,
}

impl Core {
    fn idle_every(&self) -> u64 {
        let rules = &self.policy.repair;
        if rules.burn_in_ms == 0 { 0 } else { rules.idle_burn_in_every_ms }
    }

    /// A policy begins to hold: all nodes are due within the time between two burn-ins, spread over
    /// it; or none is.
    pub(crate) fn idle_policy(&mut self, out: &mut Effects) {
        let every = self.idle_every();
        let nodes = self.fleet.len() as u64;
        if every == 0 {
            self.idle.due.clear();
            let under_way: Vec<NodeId> = self.idle.under_way.keys().copied().collect();
            for node in under_way {
                self.fleet.interrupt(node);
            }
            self.timers.cancel(Timer::Idle);
            self.end_interrupted(out);
        } else if self.idle.due.is_empty() && self.idle.under_way.is_empty() {
            for index in 0..nodes {
                let after = u128::from(every) * u128::from(index + 1) / u128::from(nodes);
                let at = self.now + Millis(after as u64);
                self.idle.due.insert((at, NodeId(index as u32)));
            }
            self.arm_idle();
        }
    }

    /// A node has joined: it was proved elsewhere, or will be in its turn.
    pub(crate) fn idle_joined(&mut self, node: NodeId) {
        let every = self.idle_every();
        if every > 0 {
            self.idle.due.insert((self.now + Millis(every), node));
            self.arm_idle();
        }
    }

    fn arm_idle(&mut self) {
        let every = Millis(self.idle_every()).clamp(LOOK_EVERY_MIN, LOOK_EVERY);
        let due = self.idle.due.first().map(|&(at, _)| at.max(self.now + every));
        let overdue = self.idle.under_way.values().map(|&(_, until)| until).min();
        let next = due.into_iter().chain(overdue).min();
        if let Some(at) = next {
            self.timers.set(Timer::Idle, at);
        }
    }

    /// How many idle nodes may be burnt in at once.
    fn idle_most(&self) -> usize {
        let percent = u64::from(self.policy.repair.idle_burn_in_max_percent);
        let idle = u64::from(self.fleet.whole_free());
        (idle * percent / 100).max(1) as usize
    }

    /// Burns in those that are due and idle.
    pub(crate) fn burn_in_idle(&mut self, out: &mut Effects) {
        let every = self.idle_every();
        if every == 0 {
            return;
        }
        let overdue = self.idle.under_way.iter().filter(|(_, (_, until))| *until <= self.now);
        let overdue: Vec<NodeId> = overdue.map(|(&node, _)| node).collect();
        for node in overdue {
            // Nobody knows what became of it; it says nothing of the node.
            self.fleet.interrupt(node);
        }
        self.end_interrupted(out);
        let most = self.idle_most();
        let span = Millis(self.policy.repair.burn_in_ms);
        for _ in 0..LOOKS_MAX {
            let Some(&(at, node)) = self.idle.due.first().filter(|(at, _)| *at <= self.now) else {
                break;
            };
            if self.idle.under_way.len() >= most {
                break;
            }
            self.idle.due.remove(&(at, node));
            let known = self.fleet.node(node);
            let is_idle = known.in_service()
                && known.is_whole()
                && known.burn_in.is_none()
                && !self.is_warm_spare(node);
            if !is_idle {
                self.idle.due.insert((self.now + Millis((every / AGAIN).max(1)), node));
                continue;
            }
            let id = self.next_effect();
            self.fleet.update(node, |node| node.burn_in = Some(id));
            let until = self.now + span + Millis(self.policy.repair.remedy_timeout_ms);
            self.idle.under_way.insert(node, (id, until));
            out.push(Effect::BurnIn { id, node, span, peer: None });
            self.note(node, TrailKind::IdleBurnIn { span }, out);
        }
        self.arm_idle();
    }

    /// The burn-in of an idle node is over; `None`: this was none of them.
    pub(crate) fn on_idle_burn_in_over(
        &mut self,
        node: NodeId,
        effect: EffectId,
        outcome: &Outcome,
        out: &mut Effects,
    ) -> Option<Faults> {
        self.idle.under_way.get(&node).filter(|(asked, _)| *asked == effect)?;
        self.idle.under_way.remove(&node);
        self.fleet.update(node, |node| node.burn_in = None);
        self.note(node, TrailKind::BurnInOver { outcome: outcome.clone() }, out);
        let every = self.idle_every().max(1);
        self.idle.due.insert((self.now + Millis(every), node));
        self.arm_idle();
        let Outcome::Failed { reason } = outcome else { return Some(Vec::new()) };
        Some(self.found_bad(node, reason, out))
    }

    /// A node that is in service has failed a test of Lindos's own.
    pub(super) fn found_bad(&mut self, node: NodeId, reason: &str, out: &mut Effects) -> Faults {
        let finding = Finding::new(
            failed_class(),
            Severity::Warning,
            Action::RunDiagnostics,
            FindingSource::Monitor,
            reason,
        );
        self.condemn(node, &finding, Remedy::Diagnose, Urgency::AtCheckpoint, true, out)
    }

    /// Burn-ins of idle nodes have given way: the agents are told, and they are tried again later.
    pub(crate) fn end_interrupted(&mut self, out: &mut Effects) {
        for (node, id) in self.fleet.take_interrupted() {
            if self.idle.under_way.get(&node).is_some_and(|(asked, _)| *asked == id) {
                self.idle.under_way.remove(&node);
                out.push(Effect::CancelBurnIn { id, node });
                let every = self.idle_every();
                if every > 0 {
                    self.idle.due.insert((self.now + Millis((every / AGAIN).max(1)), node));
                    self.arm_idle();
                }
            } else {
                self.on_helper_taken(id, out);
            }
        }
    }

    /// Burn-ins of nodes that are not in repair, and that have no answer yet: of idle nodes, and of
    /// suspects with what they are tested with. The nodes of each, and for how long.
    pub fn trial_burn_ins(
        &self,
    ) -> impl Iterator<Item = (EffectId, NodeId, Option<NodeId>, Millis)> {
        let rules = &self.policy.repair;
        let (idle, pair) = (Millis(rules.burn_in_ms), Millis(rules.pair_test_ms));
        let of_idle =
            self.idle.under_way.iter().map(move |(&node, &(id, _))| (id, node, None, idle));
        let of_pairs = self.trials.asked().map(move |(id, test)| (id, test.node, test.peer, pair));
        of_idle.chain(of_pairs)
    }

    pub(crate) fn check_idle(&self) {
        for (&node, &(id, _)) in &self.idle.under_way {
            let known = self.fleet.node(node);
            assert_eq!(known.burn_in, Some(id), "a burn-in that nobody knows");
            assert!(known.is_whole() && known.out.is_none(), "a node at work is burnt in");
        }
        let is_due = |node: NodeId| !self.idle.under_way.contains_key(&node);
        assert!(self.idle.due.iter().all(|&(_, node)| is_due(node)), "due and under way");
    }
}
