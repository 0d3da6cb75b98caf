//! The fleet as faults see it: units by kind, and which nodes fail more than others.

use super::Target;
use crate::reliability::chance::Chance;
use crate::reliability::profile::{Cause, Profile};
use crate::reliability::unit::{Groups, Parts, Unit};
use lindos_model::{NodeId, NodeSpec};
use std::collections::BTreeMap;

/// The lemons' bit; each lot has the bit of its index, plus one.
const LEMON: u8 = 1;

#[derive(Clone, Debug)]
pub(super) struct Ground {
    parts: BTreeMap<Unit, Parts>,
    groups: BTreeMap<Unit, Groups>,
    /// For each node, what it is of: lemon, lots. Empty where the profile has neither.
    marks: Vec<u8>,
    /// By cause.
    weights: Vec<Weights>,
}

/// How the units of a cause share its rate.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub units: u64,
    /// Times the rate, by a node's marks; where the units are no part of nodes, 1 everywhere.
    by_marks: Vec<f64>,
    /// The highest of any unit that is there.
    pub max: f64,
    /// Of all units.
    pub sum: f64,
}

impl Weights {
    pub fn is_empty(&self) -> bool {
        self.units == 0
    }
}

impl Ground {
    pub fn new(profile: &Profile, nodes: &[NodeSpec], seed: u64) -> Ground {
        let mut parts = BTreeMap::new();
        let mut groups = BTreeMap::new();
        let by_lots = profile.lots.iter().map(|lot| lot.by);
        let kinds = profile.causes.iter().flat_map(|cause| [cause.per, cause.reach]);
        for kind in kinds.chain(by_lots) {
            if kind.is_in_node() {
                parts.entry(kind).or_insert_with(|| Parts::new(kind, nodes));
            } else {
                groups.entry(kind).or_insert_with(|| Groups::new(kind, nodes));
            }
        }
        let mut ground = Ground { parts, groups, marks: Vec::new(), weights: Vec::new() };
        if profile.lemons.is_some() || !profile.lots.is_empty() {
            ground.marks = vec![0; nodes.len()];
            ground.mark_lemons(profile, seed);
            ground.mark_lots(profile, seed);
        }
        let counts: BTreeMap<Unit, Vec<u64>> = ground
            .parts
            .iter()
            .map(|(&kind, parts)| (kind, ground.units_by_marks(parts)))
            .collect();
        let weights = profile.causes.iter().enumerate();
        ground.weights =
            weights.map(|(index, cause)| ground.weigh(profile, index, cause, &counts)).collect();
        ground
    }

    fn mark_lemons(&mut self, profile: &Profile, seed: u64) {
        let Some(lemons) = &profile.lemons else { return };
        let mut chance = Chance::new(seed, "lemons");
        for mark in &mut self.marks {
            if chance.unit() < lemons.share {
                *mark |= LEMON;
            }
        }
    }

    fn mark_lots(&mut self, profile: &Profile, seed: u64) {
        for (index, lot) in profile.lots.iter().enumerate() {
            let bit = LEMON << (index + 1);
            let mut chance = Chance::new(seed, &format!("lot {}", lot.name));
            let groups = self.groups.get(&lot.by);
            let is_of_lot: Vec<bool> = groups.map_or(Vec::new(), |groups| {
                (0..groups.count()).map(|_| chance.unit() < lot.share).collect()
            });
            for (node, mark) in self.marks.iter_mut().enumerate() {
                let group = groups.and_then(|groups| groups.group_of(NodeId(node as u32)));
                // A node in no rack is delivered on its own.
                let is = group
                    .map_or_else(|| chance.unit() < lot.share, |group| is_of_lot[group as usize]);
                if is {
                    *mark |= bit;
                }
            }
        }
    }

    /// How many units there are on nodes of each mark.
    fn units_by_marks(&self, parts: &Parts) -> Vec<u64> {
        if self.marks.is_empty() {
            return vec![parts.count()];
        }
        let mut counts = vec![0; 256];
        for (node, mark) in self.marks.iter().enumerate() {
            counts[usize::from(*mark)] += parts.count_of(node);
        }
        counts
    }

    fn weigh(
        &self,
        profile: &Profile,
        index: usize,
        cause: &Cause,
        counts: &BTreeMap<Unit, Vec<u64>>,
    ) -> Weights {
        if !cause.per.is_in_node() {
            let units = self.groups[&cause.per].count();
            return Weights { units, by_marks: Vec::new(), max: 1.0, sum: units as f64 };
        }
        let counts = &counts[&cause.per];
        let by_marks: Vec<f64> =
            (0..counts.len()).map(|marks| weight_of(profile, index, marks as u8)).collect();
        let there = || counts.iter().zip(&by_marks).filter(|(count, _)| **count > 0);
        Weights {
            units: counts.iter().sum(),
            max: there().map(|(_, &weight)| weight).fold(0.0, f64::max),
            sum: there().map(|(&count, &weight)| count as f64 * weight).sum(),
            by_marks,
        }
    }

    pub fn weights(&self, cause: usize) -> &Weights {
        &self.weights[cause]
    }

    /// Times the rate that a unit of a cause fails.
    pub fn weight(&self, cause: usize, per: Unit, unit: u64) -> f64 {
        if self.marks.is_empty() || !per.is_in_node() {
            return 1.0;
        }
        let node = self.parts[&per].get(unit).node;
        self.weights[cause].by_marks[usize::from(self.marks[node.0 as usize])]
    }

    /// What fails with the unit of this number; where the fleet does not say what the reach is
    /// here, no more than the node or group itself.
    pub fn target(&self, per: Unit, reach: Unit, unit: u64) -> Target {
        let (node, own) = if per.is_in_node() {
            let part = self.parts[&per].get(unit);
            (
                part.node,
                match reach {
                    Unit::Gpu => Target::Gpu { node: part.node, gpu: part.index },
                    Unit::Link => Target::Link { node: part.node, rail: part.index },
                    _ => Target::Node(part.node),
                },
            )
        } else {
            let group = unit as u32;
            (self.groups(per).nodes(group)[0], Target::Group { kind: per, group })
        };
        if reach.is_in_node() || reach == per {
            return own;
        }
        let group = self.groups(reach).group_of(node);
        group.map_or(own, |group| Target::Group { kind: reach, group })
    }

    /// # Panics
    ///
    /// If no cause of the profile is of such groups, nor reaches them.
    pub fn groups(&self, kind: Unit) -> &Groups {
        self.groups.get(&kind).expect("a target is of a kind that the profile names")
    }

    fn is_marked(&self, node: NodeId, bit: u8) -> bool {
        self.marks.get(node.0 as usize).is_some_and(|mark| mark & bit != 0)
    }

    pub fn is_lemon(&self, node: NodeId) -> bool {
        self.is_marked(node, LEMON)
    }

    pub fn is_of_lot(&self, node: NodeId, lot: usize) -> bool {
        self.is_marked(node, LEMON << (lot + 1))
    }
}

fn weight_of(profile: &Profile, cause: usize, marks: u8) -> f64 {
    let lemons = profile.lemons.as_ref().map_or(1.0, |lemons| {
        let is_lemon = marks & LEMON != 0;
        lemons.ordinary() * if is_lemon { lemons.factor } else { 1.0 }
    });
    let lots = profile.lots.iter().enumerate();
    let lots: f64 = lots
        .filter(|(index, lot)| {
            marks >> (index + 1) & 1 == 1 && lot.causes.binary_search(&cause).is_ok()
        })
        .map(|(_, lot)| lot.factor)
        .product();
    lemons * lots
}
