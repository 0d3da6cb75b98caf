//! One machine of the fleet, and sets of its GPUs.

use crate::topology::Level;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The most GPUs that one node may have: a [`GpuSet`] is one machine word.
pub const GPUS_PER_NODE_MAX: u16 = 64;

/// Where a node stands in the physical tree (site, hall, row, rack), in the network tree (spine,
/// leaf, NVLink domain) and in the power tree (PDU). Empty means unknown.
///
/// For placement, one tree is made of them: site, hall, spine, leaf, rack, NVLink domain, each
/// within the one before; so one name under two parents is two places. An NVLink domain that spans
/// racks stands above them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Location {
    pub site: String,
    pub hall: String,
    pub spine: String,
    pub leaf: String,
    pub rack: String,
    /// Only of a domain that is larger than the node.
    pub nvlink: String,
    pub nvlink_spans_racks: bool,
    /// Of no matter to placement.
    pub row: String,
    pub pdu: String,
}

impl Location {
    /// The names on the way from the whole fleet down to the node, without the unknown ones.
    pub fn path(&self) -> impl Iterator<Item = (Level, &str)> {
        let rack = (Level::Rack, self.rack.as_str());
        let nvlink = (Level::Nvlink, self.nvlink.as_str());
        let (upper, lower) = if self.nvlink_spans_racks { (nvlink, rack) } else { (rack, nvlink) };
        [
            (Level::Site, self.site.as_str()),
            (Level::Hall, self.hall.as_str()),
            (Level::Spine, self.spine.as_str()),
            (Level::Leaf, self.leaf.as_str()),
            upper,
            lower,
        ]
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
    }
}

/// What is known of a node before it says anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Unique in the fleet.
    pub name: String,
    /// Accelerators; on a machine without any, the slots that stand for them.
    pub gpus: u16,
    /// Hardware design, such as `hgx-h100`.
    pub platform: String,
    /// The address at which other nodes reach its ranks.
    pub address: String,
    pub location: Location,
    /// What jobs may ask for by `labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Some of one node's GPUs, bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct GpuSet(pub u64);

impl GpuSet {
    pub const EMPTY: GpuSet = GpuSet(0);

    /// The GPUs 0 to `count` - 1.
    pub fn first(count: u16) -> GpuSet {
        assert!(count <= GPUS_PER_NODE_MAX, "{count} GPUs in one node");
        if count == 64 { GpuSet(u64::MAX) } else { GpuSet((1 << count) - 1) }
    }

    pub fn len(self) -> u16 {
        self.0.count_ones() as u16
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn intersects(self, other: GpuSet) -> bool {
        self.0 & other.0 != 0
    }

    pub fn union(self, other: GpuSet) -> GpuSet {
        GpuSet(self.0 | other.0)
    }

    pub fn without(self, other: GpuSet) -> GpuSet {
        GpuSet(self.0 & !other.0)
    }

    /// The `count` lowest GPUs of this set, or `None` when it has fewer.
    pub fn lowest(self, count: u16) -> Option<GpuSet> {
        if self.len() < count {
            return None;
        }
        let mut left = self.0;
        let mut taken = 0;
        for _ in 0..count {
            let bit = left & left.wrapping_neg();
            taken |= bit;
            left &= !bit;
        }
        Some(GpuSet(taken))
    }

    pub fn iter(self) -> impl Iterator<Item = u16> {
        (0..64).filter(move |index| self.0 >> index & 1 == 1)
    }
}

impl fmt::Display for GpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.iter().map(|index| index.to_string()).collect();
        f.write_str(&list.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_out_its_lowest_gpus() {
        let set = GpuSet::first(8).without(GpuSet::first(3));
        assert_eq!(set.to_string(), "3,4,5,6,7");
        assert_eq!(set.lowest(2).unwrap().to_string(), "3,4");
        assert_eq!(set.lowest(6), None);
        assert_eq!(GpuSet::first(64).len(), 64);
    }
}
