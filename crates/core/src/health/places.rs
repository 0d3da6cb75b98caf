//! What nodes share with others, by number: names are compared once, when a node joins, and not for
//! each fault of a job on thousands of them.

use lindos_model::{Location, NodeId};
use std::collections::BTreeMap;

/// What fails with all that is in it or behind it, the smallest first.
pub const SHARED: [&str; 4] = ["NVLink domain", "rack", "leaf", "power feed"];

/// The names of them at a location; empty when unknown.
pub fn shared_at(location: &Location) -> [&str; SHARED.len()] {
    [&location.nvlink, &location.rack, &location.leaf, &location.pdu]
}

/// By kind, the number of the place that a node is in; 0: it is not known.
pub type PlaceIds = [u32; SHARED.len()];

/// Made of the nodes' locations, and so in no snapshot.
#[derive(Clone, Debug, Default)]
pub struct Places {
    numbers: BTreeMap<(usize, String), u32>,
    of_nodes: Vec<PlaceIds>,
    /// By number, and nothing at 0.
    nodes: Vec<Vec<NodeId>>,
}

impl Places {
    /// Of all nodes, in their order.
    pub fn new<'l>(locations: impl Iterator<Item = &'l Location>) -> Places {
        let mut places = Places::default();
        for (index, location) in locations.enumerate() {
            places.set(NodeId(index as u32), location);
        }
        places
    }

    /// A node joins, or is elsewhere now.
    pub fn set(&mut self, node: NodeId, location: &Location) {
        let names = shared_at(location);
        let ids: PlaceIds = std::array::from_fn(|kind| self.number(kind, names[kind]));
        if node.index() >= self.of_nodes.len() {
            self.of_nodes.resize(node.index() + 1, PlaceIds::default());
        }
        let before = std::mem::replace(&mut self.of_nodes[node.index()], ids);
        for kind in (0..SHARED.len()).filter(|&kind| before[kind] != ids[kind]) {
            self.nodes[before[kind] as usize].retain(|&other| other != node);
            if ids[kind] != 0 {
                self.nodes[ids[kind] as usize].push(node);
            }
        }
    }

    fn number(&mut self, kind: usize, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let next = self.numbers.len() as u32 + 1;
        let number = *self.numbers.entry((kind, name.to_string())).or_insert(next);
        if self.nodes.len() <= number as usize {
            self.nodes.resize(number as usize + 1, Vec::new());
        }
        number
    }

    pub fn of(&self, node: NodeId) -> &PlaceIds {
        &self.of_nodes[node.index()]
    }

    /// All nodes of a place.
    pub fn nodes(&self, place: u32) -> &[NodeId] {
        &self.nodes[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rack: &str, leaf: &str) -> Location {
        Location { rack: rack.to_string(), leaf: leaf.to_string(), ..Location::default() }
    }

    #[test]
    fn equal_names_of_one_kind_are_one_place_and_a_node_that_moves_is_in_another() {
        let all = [at("a", "a"), at("a", "b"), at("", "b")];
        let mut places = Places::new(all.iter());
        let of = |places: &Places, node| *places.of(NodeId(node));
        assert_eq!(of(&places, 0)[1], of(&places, 1)[1]);
        assert_ne!(of(&places, 0)[1], of(&places, 0)[2], "a rack is no leaf");
        assert_eq!((of(&places, 1)[2], of(&places, 2)[1]), (of(&places, 2)[2], 0));
        places.set(NodeId(2), &at("b", "c"));
        places.set(NodeId(0), &at("b", "a"));
        let [_, rack, leaf, _] = of(&places, 2);
        assert_eq!((places.nodes(rack).len(), places.nodes(leaf)), (2, &[NodeId(2)][..]));
        assert_eq!(places.nodes(of(&places, 1)[2]), [NodeId(1)], "the other has left the leaf");
    }
}
