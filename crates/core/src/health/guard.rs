//! What keeps Lindos from taking out too much: a bound on what may be out of each part of the fleet
//! at once, and a breaker for checks that condemn too many.

use crate::Core;
use crate::effect::Effects;
use crate::placement::tree::{PoolId, ROOT};
use crate::timer::Timer;
use lindos_model::finding::FindingClass;
use lindos_model::trail::{KeptIn, OutScope};
use lindos_model::{Level, Millis, NodeId, Time, TrailKind};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Which nodes a class of findings has condemned of late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    pub condemned: VecDeque<(Time, NodeId)>,
    pub open_until: Option<Time>,
}

impl Core {
    /// Why a condemned node stays in service all the same, if it does.
    pub(super) fn keeps_in(
        &mut self,
        node: NodeId,
        class: &FindingClass,
        out: &mut Effects,
    ) -> Option<KeptIn> {
        if !self.policy.repair.automatic {
            return Some(KeptIn::NotAutomatic);
        }
        if self.is_broken(node, class, out) {
            return Some(KeptIn::Breaker);
        }
        self.too_many_out(node)
    }

    /// What keeps a condemned node in service at this moment; `None`: it is not condemned, or goes
    /// with the next look at it.
    pub fn kept_because(&self, node: NodeId) -> Option<KeptIn> {
        let (finding, ..) = self.kept_in.get(&node)?;
        if !self.policy.repair.automatic {
            return Some(KeptIn::NotAutomatic);
        }
        let breaker = self.breakers.get(&finding.class);
        if breaker.and_then(|breaker| breaker.open_until).is_some_and(|until| until > self.now) {
            return Some(KeptIn::Breaker);
        }
        self.too_many_out(node)
    }

    /// Whether a check is taken to be broken: it has condemned too many nodes within the window.
    pub(super) fn is_broken(
        &mut self,
        node: NodeId,
        class: &FindingClass,
        out: &mut Effects,
    ) -> bool {
        let (now, rules) = (self.now, &self.policy.repair);
        let (window, most) = (Millis(rules.breaker_window_ms), rules.breaker_nodes as usize);
        let span = Millis(rules.breaker_open_ms);
        let breaker = self.breakers.entry(class.clone()).or_default();
        if breaker.open_until.is_some_and(|until| until > now) {
            return true;
        }
        breaker.open_until = None;
        breaker.condemned.retain(|&(at, other)| now.since(at) < window && other != node);
        breaker.condemned.push_back((now, node));
        if breaker.condemned.len() <= most {
            return false;
        }
        let nodes = breaker.condemned.len() as u32;
        breaker.condemned.clear();
        breaker.open_until = Some(now + span);
        let due = self.timers.get(Timer::Kept).map_or(now + span, |at| at.min(now + span));
        self.timers.set(Timer::Kept, due);
        self.say(None, None, TrailKind::BreakerOpened { class: class.clone(), nodes, span }, out);
        true
    }

    /// The part of the fleet of which enough is out already.
    fn too_many_out(&self, node: NodeId) -> Option<KeptIn> {
        self.too_many_out_with(node, &[], &[])
    }

    /// The same, once these others are out, too. What is itself suspected (`but`) is no bound.
    pub(super) fn too_many_out_with(
        &self,
        node: NodeId,
        others: &[NodeId],
        but: &[OutScope],
    ) -> Option<KeptIn> {
        let rules = &self.policy.repair;
        let scopes = [
            (OutScope::Rack, rules.rack_out_max_percent),
            (OutScope::Leaf, rules.leaf_out_max_percent),
            (OutScope::Platform, rules.platform_out_max_percent),
            (OutScope::Fleet, rules.fleet_out_max_percent),
        ];
        scopes.into_iter().filter(|(scope, _)| !but.contains(scope)).find_map(|(scope, percent)| {
            let all = self.size_of(scope, node)?;
            let share = u64::from(all) * u64::from(percent) / 100;
            let most = (share as u32).max(1).min(all - 1);
            let others = others.iter().filter(|&&other| self.are_in_one(scope, node, other));
            let out = self.out_of(scope, node) + others.count() as u32;
            (out >= most).then_some(KeptIn::TooManyOut { scope, out, most })
        })
    }

    /// How many are out in a node's part of the fleet.
    fn out_of(&self, scope: OutScope, node: NodeId) -> u32 {
        let tree = self.fleet.index().tree();
        match (scope, level(scope)) {
            (_, Some(level)) => {
                let vertex = tree.ancestor(tree.home(node), level);
                vertex.map_or(0, |vertex| self.fleet.out_below(vertex))
            }
            (OutScope::Platform, None) => {
                self.fleet.out_of_design(&self.fleet.node(node).spec.platform)
            }
            (_, None) => self.fleet.out_below(ROOT),
        }
    }

    /// How many nodes there are in a node's part of the fleet; `None`: it is in none.
    fn size_of(&self, scope: OutScope, node: NodeId) -> Option<u32> {
        let tree = self.fleet.index().tree();
        let platform = |pool: PoolId| &tree.pools()[usize::from(pool)].platform;
        let own = platform(tree.pool_of(node));
        let vertex = match level(scope) {
            Some(level) => tree.ancestor(tree.home(node), level)?,
            None => ROOT,
        };
        let slots = tree.vertex(vertex).slots.iter();
        let counted =
            slots.filter(|&&(pool, _)| scope != OutScope::Platform || platform(pool) == own);
        Some(counted.map(|&(_, slot)| tree.slots()[slot as usize].nodes).sum())
    }

    fn are_in_one(&self, scope: OutScope, node: NodeId, other: NodeId) -> bool {
        let tree = self.fleet.index().tree();
        match (scope, level(scope)) {
            (_, Some(level)) => {
                let at = |node| tree.ancestor(tree.home(node), level);
                at(node) == at(other)
            }
            (OutScope::Platform, None) => {
                self.fleet.node(node).spec.platform == self.fleet.node(other).spec.platform
            }
            (_, None) => true,
        }
    }
}

fn level(scope: OutScope) -> Option<Level> {
    match scope {
        OutScope::Rack => Some(Level::Rack),
        OutScope::Leaf => Some(Level::Leaf),
        OutScope::Platform | OutScope::Fleet => None,
    }
}
