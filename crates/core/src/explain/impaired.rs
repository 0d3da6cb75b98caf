//! What is left of the places whose nodes are one machine, or nearly: NVLink domains and racks.

use crate::Core;
use crate::health::fleet::NodeState;
use crate::health::places::{SHARED, shared_at};
use crate::placement::{self, Request};
use lindos_model::{Level, NodeId, job};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The kinds of [`SHARED`] that are looked at.
const KINDS: [usize; 2] = [0, 1];

/// A place of which not all nodes can take work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impaired {
    /// Of [`SHARED`].
    pub kind: &'static str,
    pub name: String,
    pub nodes: u32,
    /// In service, whether at work or free.
    pub left: u32,
    /// The largest segment, or gang within a rack, that it can serve when nobody else works there.
    pub segment_max: u32,
}

impl Core {
    /// NVLink domains and racks that have lost nodes: how many of each kind of [`SHARED`], and those that
    /// have lost most, at most `limit`. Of a rack that is one NVLink domain, the domain is told alone.
    pub fn impaired(&self, limit: usize) -> (BTreeMap<&'static str, u32>, Vec<Impaired>) {
        let places = self.fleet.places();
        let mut lost: BTreeMap<(usize, u32), u32> = BTreeMap::new();
        for (index, node) in self.fleet.nodes().iter().enumerate() {
            if node.in_service() || node.state == NodeState::Expected {
                continue;
            }
            let of_node = places.of(NodeId(index as u32));
            for kind in KINDS.into_iter().filter(|&kind| of_node[kind] != 0) {
                *lost.entry((kind, of_node[kind])).or_default() += 1;
            }
        }
        // A domain of one node says no more than the node, and a rack of a domain no more than that.
        let is_told = |&(&(kind, place), _): &(&(usize, u32), &u32)| {
            let nodes = places.nodes(place);
            let domain = nodes.first().map_or(0, |&first| places.of(first)[KINDS[0]]);
            let is_one = kind != KINDS[0] && domain != 0 && places.nodes(domain) == nodes;
            nodes.len() > 1 && !is_one
        };
        let mut told: Vec<(usize, u32, u32)> = lost
            .iter()
            .filter(is_told)
            .map(|(&(kind, place), &lost)| (kind, place, lost))
            .collect();
        let mut counts = BTreeMap::new();
        for &(kind, ..) in &told {
            *counts.entry(SHARED[kind]).or_default() += 1;
        }
        told.sort_by_key(|&(kind, place, lost)| (Reverse(lost), kind, place));
        told.truncate(limit);
        let mut index = (!told.is_empty()).then(|| self.fleet.index().blank());
        let one = |(kind, place, _): (usize, u32, u32)| {
            let nodes = places.nodes(place);
            let left: BTreeSet<NodeId> =
                nodes.iter().copied().filter(|&node| self.fleet.node(node).in_service()).collect();
            let index = index.as_mut().expect("a place is told of");
            // The rule is that of placement, shown these nodes alone, and all of them free.
            for &node in &left {
                index.set(node, Some(self.fleet.node(node).spec.gpus), false);
            }
            let spec = job::sample("segment", nodes.len() as u32, 1);
            let request = Request { within: Level::Rack, ..Request::of(&spec) };
            let segment_max = placement::most_open(index, &self.fleet, &request);
            for &node in &left {
                index.set(node, None, false);
            }
            Impaired {
                kind: SHARED[kind],
                name: nodes.first().map_or_else(String::new, |&first| {
                    shared_at(&self.fleet.node(first).spec.location)[kind].to_string()
                }),
                nodes: nodes.len() as u32,
                left: left.len() as u32,
                segment_max,
            }
        };
        (counts, told.into_iter().map(one).collect())
    }
}
