//! What keeps Lindos from taking out too much: a bound on what may be out of each part of the fleet
//! at once, and a breaker for checks that condemn too many.

use crate::Core;
use crate::effect::Effects;
use crate::placement::tree::{PoolId, ROOT, SlotId};
use crate::timer::Timer;
use lindos_model::finding::FindingClass;
use lindos_model::policy::Repair;
use lindos_model::trail::{KeptIn, OutScope};
use lindos_model::{Level, Millis, NodeId, Time, TrailKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Which nodes a class of findings has condemned of late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// When each was condemned last.
    condemned: BTreeMap<NodeId, Time>,
    /// The same in the order of time, and what has been overtaken since.
    order: VecDeque<(Time, NodeId)>,
    /// It is forgotten a while after it was over.
    open_until: Option<Time>,
}

impl Breaker {
    /// One more is condemned; how many are within the window.
    fn condemn(&mut self, node: NodeId, now: Time, window: Millis) -> u32 {
        self.condemned.insert(node, now);
        self.order.push_back((now, node));
        while let Some(&(at, first)) = self.order.front() {
            let is_newest = self.condemned.get(&first) == Some(&at);
            if is_newest && now.since(at) < window {
                break;
            }
            if is_newest {
                self.condemned.remove(&first);
            }
            self.order.pop_front();
        }
        // One node again and again, behind another that stays.
        if self.order.len() > 2 * self.condemned.len() + 64 {
            let condemned = &self.condemned;
            self.order.retain(|(at, node)| condemned.get(node) == Some(at));
        }
        self.condemned.len() as u32
    }

    /// Until when the class condemns nobody.
    pub fn is_open_until(&self, now: Time) -> Option<Time> {
        self.open_until.filter(|&until| until > now)
    }

    fn open(&mut self, until: Time) {
        self.condemned.clear();
        self.order.clear();
        self.open_until = Some(until);
    }
}

/// Of `all` nodes of a place so many may be out at once.
///
/// `percent` is meant of a large number. Of a small one, that many out on average means at times some
/// more by chance alone, up to three standard deviations in ninety-nine of a hundred moments; but no
/// more than a quarter for that reason. At least one, and never the last. Why:
/// `docs/decisions/0004-guardrails.md`.
fn out_max(all: u32, percent: u32) -> u32 {
    let hundredths = u64::from(all) * u64::from(percent);
    let share = hundredths / 100;
    let by_chance = hundredths.saturating_add(30 * hundredths.isqrt()) / 100;
    let most = by_chance.min(u64::from(all / 4)).max(share);
    u32::try_from(most).unwrap_or(all).max(1).min(all.saturating_sub(1))
}

/// A fifth of what may be out of a fleet of so many, but no fewer than the policy says: more than
/// that condemned by one check at once are not believed.
fn breaker_nodes(all: u32, rules: &Repair) -> u32 {
    rules.breaker_nodes.max(out_max(all, rules.fleet_out_max_percent) / 5)
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
        if breaker.is_some_and(|breaker| breaker.is_open_until(self.now).is_some()) {
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
        let (window, span) = (Millis(rules.breaker_window_ms), Millis(rules.breaker_open_ms));
        let most = breaker_nodes(self.fleet.len() as u32, rules);
        // One that is kept in service is looked at again and again: the check has said it once.
        let is_known = self.kept_in.get(&node).is_some_and(|(finding, ..)| finding.class == *class);
        if !self.breakers.contains_key(class) {
            self.breakers.insert(class.clone(), Breaker::default());
        }
        let breaker = self.breakers.get_mut(class).expect("it was just put there");
        if breaker.is_open_until(now).is_some() {
            return true;
        }
        // Just after it was open, all that it has kept in service are condemned anew.
        breaker.open_until = breaker.open_until.filter(|&until| now.since(until) < window);
        if is_known && breaker.open_until.is_none() {
            return false;
        }
        let nodes = breaker.condemn(node, now, window);
        if nodes <= most {
            return false;
        }
        breaker.open(now + span);
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
            let (all, out) = self.counts_of(scope, node)?;
            let most = out_max(all, percent);
            let others = others.iter().filter(|&&other| self.are_in_one(scope, node, other));
            let out = out + others.count() as u32;
            (out >= most).then_some(KeptIn::TooManyOut { scope, out, most })
        })
    }

    /// How many nodes there are in a node's part of the fleet, and how many of them are out; `None`: it
    /// is in none.
    fn counts_of(&self, scope: OutScope, node: NodeId) -> Option<(u32, u32)> {
        let tree = self.fleet.index().tree();
        let vertex = match level(scope) {
            Some(level) => tree.ancestor(tree.home(node), level)?,
            None => ROOT,
        };
        if scope != OutScope::Platform {
            return Some((tree.vertex(vertex).nodes_below, self.fleet.out_below(vertex)));
        }
        let slots = tree.vertex(vertex).slots.iter();
        let of = |&(_, slot): &(PoolId, SlotId)| tree.slots()[slot as usize].nodes;
        let platform = |pool: PoolId| &tree.pools()[usize::from(pool)].platform;
        let own = platform(tree.pool_of(node));
        let alike = slots.filter(|&&(pool, _)| platform(pool) == own);
        Some((alike.map(of).sum(), self.fleet.out_of_design(own)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_out_is_a_share_of_a_large_fleet_and_leaves_a_small_one_room_for_chance() {
        let of = |percent: u32, all: [u32; 8]| all.map(|all| out_max(all, percent));
        let sizes = [1, 2, 4, 8, 16, 64, 1_000, 25_000];
        assert_eq!(of(5, sizes), [0, 1, 1, 2, 3, 8, 71, 1_355]);
        assert_eq!(of(10, sizes), [0, 1, 1, 2, 4, 13, 130, 2_650]);
        assert_eq!(of(25, sizes), [0, 1, 1, 2, 4, 16, 250, 6_250], "no more than that");
        assert_eq!(of(50, sizes), [0, 1, 2, 4, 8, 32, 500, 12_500]);
        assert_eq!(of(1, sizes), [0, 1, 1, 1, 1, 3, 19, 297], "stricter where it is asked for");
        assert_eq!(of(0, sizes), [0, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(of(100, sizes), [0, 1, 3, 7, 15, 63, 999, 24_999]);
        assert_eq!(out_max(125_000, 5), 6_487);
        assert_eq!(out_max(u32::MAX, u32::MAX), u32::MAX - 1);
    }

    #[test]
    fn a_check_may_condemn_more_of_a_large_fleet() {
        let of = |all| breaker_nodes(all, &Repair::default());
        assert_eq!([4, 64, 500, 1_000, 25_000, 125_000].map(of), [10, 10, 10, 14, 271, 1_297]);
        let strict = Repair { breaker_nodes: 3, ..Repair::default() };
        assert_eq!(breaker_nodes(64, &strict), 3);
    }

    #[test]
    fn a_breaker_counts_each_node_once_and_forgets_those_of_before() {
        let mut breaker = Breaker::default();
        let window = Millis(1_000);
        let mut at = |time, node| breaker.condemn(NodeId(node), Time(time), window);
        assert_eq!([at(0, 1), at(0, 1), at(500, 2), at(900, 1)], [1, 1, 2, 2]);
        assert_eq!(at(1_400, 3), 3, "the first is known from 900 on");
        assert_eq!(at(1_500, 4), 3, "the second is forgotten");
        for time in 0..10_000 {
            assert!(at(1_500 + time / 100, 4) <= 3);
        }
        assert!(breaker.order.len() < 200, "{}", breaker.order.len());
    }
}
