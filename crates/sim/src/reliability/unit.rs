//! What has a rate of its own, and where it stands in a fleet.

use lindos_model::fleet::platform::catalogue;
use lindos_model::{Location, NodeId, NodeSpec};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;

/// A kind of thing that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Gpu,
    /// One rail of a node: its network card, cable and port.
    Link,
    Node,
    Rack,
    Leaf,
    Pdu,
    Spine,
    Site,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Gpu => "gpu",
            Unit::Link => "link",
            Unit::Node => "node",
            Unit::Rack => "rack",
            Unit::Leaf => "leaf",
            Unit::Pdu => "pdu",
            Unit::Spine => "spine",
            Unit::Site => "site",
        }
    }

    /// Whether it is a node or a part of one.
    pub fn is_in_node(self) -> bool {
        self <= Unit::Node
    }

    /// Whether a fault of this kind of unit may reach so far: a part reaches its node, and anything
    /// that is no larger than a group of nodes reaches such a group. Racks, leaves and PDUs do not
    /// hold each other in every fleet, so between them there is no reach.
    pub fn may_reach(self, reach: Unit) -> bool {
        self == reach
            || (self.is_in_node() && reach >= Unit::Node)
            || (self < Unit::Spine && reach == Unit::Site)
            || (self == Unit::Leaf && reach == Unit::Spine)
            || (self == Unit::Spine && reach == Unit::Site)
    }

    /// The names that tell one group from another; `None` where the fleet does not say.
    fn group_of(self, at: &Location) -> Option<[&str; 4]> {
        let (site, hall) = (at.site.as_str(), at.hall.as_str());
        let names = match self {
            Unit::Rack => [site, hall, "", &at.rack],
            Unit::Leaf => [site, hall, &at.spine, &at.leaf],
            Unit::Pdu => [site, "", "", &at.pdu],
            Unit::Spine => [site, hall, "", &at.spine],
            Unit::Site => ["", "", "", site],
            Unit::Gpu | Unit::Link | Unit::Node => return None,
        };
        (!names[3].is_empty()).then_some(names)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A unit of the kinds that are within a node or one: the node, and which of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub node: NodeId,
    pub index: u16,
}

/// The parts of one kind, numbered through the fleet.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The number of the first of each node, and at the end how many there are.
    firsts: Vec<u64>,
}

impl Parts {
    pub fn new(unit: Unit, nodes: &[NodeSpec]) -> Parts {
        let mut total = 0;
        let mut firsts = Vec::with_capacity(nodes.len() + 1);
        for node in nodes {
            firsts.push(total);
            total += u64::from(match unit {
                Unit::Gpu => node.gpus,
                Unit::Link => rails(node),
                _ => 1,
            });
        }
        firsts.push(total);
        Parts { firsts }
    }

    pub fn count(&self) -> u64 {
        self.firsts[self.firsts.len() - 1]
    }

    pub fn count_of(&self, node: usize) -> u64 {
        self.firsts[node + 1] - self.firsts[node]
    }

    pub fn get(&self, number: u64) -> Part {
        assert!(number < self.count());
        let nodes = self.firsts.len() - 1;
        // Where all nodes are alike, which is the usual case, this is it.
        let guess = (u128::from(number) * nodes as u128 / u128::from(self.count())) as usize;
        let is_it = self.firsts[guess] <= number && number < self.firsts[guess + 1];
        let node =
            if is_it { guess } else { self.firsts.partition_point(|&first| first <= number) - 1 };
        Part { node: NodeId(node as u32), index: (number - self.firsts[node]) as u16 }
    }
}

/// Network cards of the GPUs' fabric: as the platform has them, else one a GPU.
pub fn rails(node: &NodeSpec) -> u16 {
    let platform = catalogue().get(&node.platform);
    platform.and_then(|platform| platform.rails).unwrap_or(node.gpus)
}

/// The groups of one kind: racks, leaves, PDUs, spines or sites.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// As the fleet's files name them, in the order of their first nodes.
    pub names: Vec<String>,
    group_of: Vec<Option<u32>>,
    /// Where each group's nodes begin in `members`, and where the last one's end.
    firsts: Vec<u32>,
    members: Vec<NodeId>,
}

impl Groups {
    pub fn new(unit: Unit, nodes: &[NodeSpec]) -> Groups {
        let mut names = Vec::new();
        let mut sizes: Vec<u32> = Vec::new();
        let mut group_of = Vec::with_capacity(nodes.len());
        let mut known: HashMap<[&str; 4], u32> = HashMap::new();
        let mut before: Option<([&str; 4], u32)> = None;
        for node in nodes {
            let Some(key) = unit.group_of(&node.location) else {
                group_of.push(None);
                continue;
            };
            // Neighbours in the list mostly are neighbours in the hall: no need to look it up.
            let group = match before {
                Some((same, group)) if same == key => group,
                _ => *known.entry(key).or_insert_with(|| {
                    names.push(key[3].to_string());
                    sizes.push(0);
                    sizes.len() as u32 - 1
                }),
            };
            before = Some((key, group));
            sizes[group as usize] += 1;
            group_of.push(Some(group));
        }
        let mut firsts = vec![0];
        for size in sizes {
            firsts.push(firsts[firsts.len() - 1] + size);
        }
        let mut next = firsts.clone();
        let mut members = vec![NodeId(0); firsts[firsts.len() - 1] as usize];
        for (node, group) in group_of.iter().enumerate() {
            if let Some(group) = *group {
                members[next[group as usize] as usize] = NodeId(node as u32);
                next[group as usize] += 1;
            }
        }
        Groups { names, group_of, firsts, members }
    }

    pub fn count(&self) -> u64 {
        self.names.len() as u64
    }

    pub fn group_of(&self, node: NodeId) -> Option<u32> {
        self.group_of[node.0 as usize]
    }

    pub fn nodes(&self, group: u32) -> &[NodeId] {
        let group = group as usize;
        &self.members[self.firsts[group] as usize..self.firsts[group + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fleet, location};
    use super::*;

    #[test]
    fn parts_are_numbered_through_nodes_that_are_not_alike() {
        let mut nodes = fleet(4);
        nodes[1].gpus = 3;
        nodes[2].gpus = 0;
        let parts = Parts::new(Unit::Gpu, &nodes);
        assert_eq!(parts.count(), 19);
        let all: Vec<(u32, u16)> =
            (0..19).map(|number| parts.get(number)).map(|part| (part.node.0, part.index)).collect();
        let expected: Vec<(u32, u16)> = [(0, 8), (1, 3), (3, 8)]
            .into_iter()
            .flat_map(|(n, gpus)| (0..gpus).map(move |g| (n, g)))
            .collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn one_name_in_two_halls_is_two_racks_and_no_name_is_none() {
        let mut nodes = fleet(5);
        for (node, (hall, rack)) in
            nodes.iter_mut().zip([("a", "r1"), ("b", "r1"), ("a", "r1"), ("a", ""), ("b", "r1")])
        {
            node.location =
                Location { hall: hall.into(), rack: rack.into(), ..location("", "", "") };
        }
        let racks = Groups::new(Unit::Rack, &nodes);
        assert_eq!(racks.count(), 2);
        assert_eq!(racks.nodes(0), [NodeId(0), NodeId(2)]);
        assert_eq!(racks.nodes(1), [NodeId(1), NodeId(4)]);
        assert_eq!(racks.group_of(NodeId(3)), None);
    }

    #[test]
    fn reach_goes_up_and_never_sideways() {
        assert!(Unit::Gpu.may_reach(Unit::Gpu) && Unit::Gpu.may_reach(Unit::Node));
        assert!(Unit::Node.may_reach(Unit::Pdu) && Unit::Leaf.may_reach(Unit::Spine));
        assert!(!Unit::Gpu.may_reach(Unit::Link) && !Unit::Node.may_reach(Unit::Gpu));
        assert!(!Unit::Rack.may_reach(Unit::Leaf) && !Unit::Site.may_reach(Unit::Pdu));
    }
}
