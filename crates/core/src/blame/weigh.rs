//! Evidence into a verdict: Bayes' rule in whole decibans (ten times a decimal logarithm), so that
//! every replay comes to the same.
//!
//! The hypotheses exclude each other: the job itself, one machine of the gang, a place that several
//! of its machines share, or something of which nothing was seen. Each begins with how often it is
//! to blame when nothing is known; each clue adds the logarithm of how much likelier it is under one
//! of them than under the others. A clue that picks one machine out of a gang of N (the first to
//! end, the one that stands apart) would pick an innocent one with a chance of 1/N, so it gains the
//! logarithm of N, which is just what a large gang takes from each of its machines to begin with.

use lindos_model::NodeId;
use std::collections::BTreeMap;

/// Before any evidence, of a job that has trained: published causes of interruptions of training
/// have the user's program at about one in four, one machine at three in five, and the rest
/// elsewhere.
const USER: i32 = -6;
const A_NODE: i32 = -2;
const ELSEWHERE: i32 = -8;
/// Power and switches fail this much more seldom than one machine of those behind them.
const A_PLACE: i32 = -20;
/// With something shared at fault, of each machine behind it this much less than all is seen.
const SEEN_BEHIND_A_PLACE: i32 = -3;
/// … and each that is well speaks so much against it.
const WELL_BEHIND_A_PLACE: i32 = -10;
pub const WELL_COUNTED: u32 = 10;
/// A place is only thought of when so many of its machines have clues.
const PLACE_LEAST: usize = 2;
/// Of what cannot be.
const NEVER: i32 = -1000;
/// Surer than that is nothing.
const WEIGHT_MAX: i32 = 90;

/// A machine, a place or the job: what is weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    User,
    Node(NodeId),
    /// By its number in [`Scales::places`].
    Place(usize),
    Elsewhere,
}

impl Who {
    pub fn node(self) -> Option<NodeId> {
        match self {
            Who::Node(node) => Some(node),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Scales {
    /// Machines of the gang.
    size: u64,
    user: i32,
    elsewhere: i32,
    /// Of all machines, also those without a clue.
    every_node: i32,
    nodes: BTreeMap<NodeId, i32>,
    /// Which machines with clues share something, and how many without.
    places: Vec<(Vec<NodeId>, u32)>,
}

impl Scales {
    pub fn of_gang(size: u64) -> Scales {
        Scales { size: size.max(1), user: USER, elsewhere: ELSEWHERE, ..Scales::default() }
    }

    pub fn user(&mut self, weight: i32) {
        self.user += weight;
    }

    pub fn elsewhere(&mut self, weight: i32) {
        self.elsewhere += weight;
    }

    /// What speaks for or against every machine of the gang alike.
    pub fn every_node(&mut self, weight: i32) {
        self.every_node += weight;
    }

    pub fn node(&mut self, node: NodeId, weight: i32) {
        *self.nodes.entry(node).or_default() += weight;
    }

    /// What a clue gains that picks `picked` machines out of the gang.
    pub fn picks(&self, picked: u64) -> i32 {
        decibans(self.size) - decibans(picked.clamp(1, self.size))
    }

    /// These machines share something, with as many others of the gang that are well; its number.
    pub fn place(&mut self, nodes: Vec<NodeId>, well: u32) -> usize {
        self.places.push((nodes, well));
        self.places.len() - 1
    }

    /// Machines of which a clue speaks for them.
    pub fn suspects(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|&(_, &weight)| weight > 0).map(|(&node, _)| node)
    }

    pub fn is_suspect(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|&weight| weight > 0)
    }

    /// How sure each is, in parts of 10,000, the surest first; a machine comes before others that
    /// are as sure, and the one of the lower number before the other.
    pub fn weigh(&self) -> Vec<(Who, u32)> {
        let a_node = A_NODE + self.every_node;
        let each = a_node - decibans(self.size);
        let mut all: Vec<(Who, i32)> = vec![(Who::User, self.user)];
        all.extend(
            self.nodes
                .iter()
                .map(|(&node, &weight)| (Who::Node(node), each + weight.min(WEIGHT_MAX))),
        );
        let places = self.places.iter().enumerate();
        for (index, (nodes, well)) in places.filter(|(_, (nodes, _))| nodes.len() >= PLACE_LEAST) {
            let seen = nodes.iter().filter_map(|node| self.nodes.get(node));
            let sum: i32 = seen.map(|weight| weight.min(&WEIGHT_MAX) + SEEN_BEHIND_A_PLACE).sum();
            // The place, and not one of the machines, has to explain every clue alone.
            let spared = WELL_BEHIND_A_PLACE * (*well).min(WELL_COUNTED).cast_signed();
            all.push((Who::Place(index), each + A_PLACE + sum + spared));
        }
        let unseen = self.size.saturating_sub(self.nodes.len() as u64);
        let others = a_node + decibans(unseen.max(1)) - decibans(self.size);
        let others = if unseen == 0 { NEVER } else { others };
        all.push((Who::Elsewhere, sum(self.elsewhere, others)));
        shares(&all)
    }
}

/// Two that cannot be told apart, together.
fn sum(one: i32, other: i32) -> i32 {
    let (more, less) = (one.max(other), one.min(other));
    match more - less {
        0 => more + 3,
        1..=3 => more + 2,
        4..=6 => more + 1,
        _ => more,
    }
}

fn shares(all: &[(Who, i32)]) -> Vec<(Who, u32)> {
    let most = all.iter().map(|&(_, weight)| weight).max().unwrap_or(0);
    let odds: Vec<u64> = all.iter().map(|&(_, weight)| chance(most - weight)).collect();
    let total: u64 = odds.iter().sum::<u64>().max(1);
    let share = |odds: u64| (odds * 10_000 / total) as u32;
    let mut shares: Vec<(Who, u32)> =
        all.iter().zip(&odds).map(|(&(who, _), &odds)| (who, share(odds))).collect();
    let order = |who: &Who| !matches!(who, Who::Node(_));
    shares.sort_by_key(|(who, share)| (std::cmp::Reverse(*share), order(who), *who));
    shares
}

/// `10^(-decibans/10)`, of 10^12.
fn chance(decibans: i32) -> u64 {
    const TENTHS: [u64; 10] = [1000, 794, 631, 501, 398, 316, 251, 200, 158, 126];
    let decades = (decibans / 10).clamp(0, 12) as u32;
    let tenths = TENTHS[(decibans % 10).clamp(0, 9) as usize];
    10u64.pow(12) / 10u64.pow(decades) * tenths / 1000
}

/// Ten times the decimal logarithm, rounded down.
pub fn decibans(of: u64) -> i32 {
    const TENTHS: [u64; 9] = [126, 159, 200, 252, 317, 399, 502, 631, 795];
    let Some(decades) = of.checked_ilog10() else { return 0 };
    let leading = of.saturating_mul(100) / 10u64.pow(decades);
    let tenths = TENTHS.iter().filter(|&&least| leading >= least).count() as u32;
    (decades * 10 + tenths).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(scales: &Scales) -> (Who, u32) {
        scales.weigh()[0]
    }

    #[test]
    fn logarithms_are_those_of_the_tables() {
        for (of, expected) in [(1, 0), (2, 3), (8, 9), (10, 10), (16, 12), (1000, 30), (2048, 33)] {
            assert_eq!(decibans(of), expected, "{of}");
        }
        assert_eq!(chance(0), 1_000_000_000_000);
        assert_eq!(chance(13), 50_100_000_000);
        assert_eq!(chance(-5), 1_000_000_000_000, "nothing is surer than the surest");
    }

    #[test]
    fn without_evidence_nobody_is_sure() {
        for size in [1, 2, 100, 100_000] {
            let (who, share) = top(&Scales::of_gang(size));
            assert_eq!(who, Who::Elsewhere, "{size}");
            assert!(share < 9000, "{size}: {share}");
        }
    }

    #[test]
    fn being_picked_out_is_worth_the_same_in_a_gang_of_any_size() {
        let share = |size| {
            let mut scales = Scales::of_gang(size);
            let weight = scales.picks(1) + 8;
            scales.node(NodeId(3), weight);
            let (who, share) = top(&scales);
            assert_eq!(who, Who::Node(NodeId(3)));
            share
        };
        let (small, large) = (share(10), share(100_000));
        assert!(small.abs_diff(large) < 1500, "{small} {large}");
    }

    #[test]
    fn two_that_are_picked_out_share_the_blame() {
        let mut scales = Scales::of_gang(100);
        for node in [7, 9] {
            let weight = scales.picks(2) + 15;
            scales.node(NodeId(node), weight);
        }
        let shares = scales.weigh();
        assert_eq!((shares[0].0, shares[1].0), (Who::Node(NodeId(7)), Who::Node(NodeId(9))));
        assert_eq!(shares[0].1, shares[1].1);
        assert!(shares[0].1 + shares[1].1 > 9000, "{shares:?}");
    }

    #[test]
    fn a_rack_that_goes_silent_is_to_blame_and_no_machine_in_it() {
        let mut scales = Scales::of_gang(64);
        let nodes: Vec<NodeId> = (0..4).map(NodeId).collect();
        for &node in &nodes {
            scales.node(node, 40);
        }
        let place = scales.place(nodes.clone(), 0);
        let larger = scales.place(nodes, 12);
        let (who, share) = top(&scales);
        assert_eq!(who, Who::Place(place), "and not the larger one, {larger}");
        assert!(share > 9900, "{share}");
    }
}
