//! The smallest fleet file: groups of like nodes, `[[nodes]]`. `sim` scenarios use them too.

use super::FLEET_NODES_MAX;
use crate::node::{GPUS_PER_NODE_MAX, Location, NodeSpec};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Nodes of one kind. With `nodes_per_rack` and so on, they fill racks, leaves and spines in turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeGroup {
    /// The first part of the names: `n` gives `n0`, `n1`, …
    #[serde(default = "default_prefix")]
    pub name: String,
    pub count: u32,
    pub gpus: u16,
    #[serde(default = "default_platform")]
    pub platform: String,
    #[serde(default = "default_address")]
    pub address: String,
    #[serde(default)]
    pub site: String,
    pub nodes_per_rack: Option<u32>,
    pub racks_per_leaf: Option<u32>,
    pub leaves_per_spine: Option<u32>,
}

fn default_prefix() -> String {
    "n".to_string()
}

fn default_platform() -> String {
    "generic".to_string()
}

fn default_address() -> String {
    "127.0.0.1".to_string()
}

/// Every node of the groups, checked.
pub fn expand(groups: &[NodeGroup]) -> Result<Vec<NodeSpec>, String> {
    let total: u64 = groups.iter().map(|group| u64::from(group.count)).sum();
    if total == 0 {
        return Err("a fleet has at least one node".into());
    }
    if total > FLEET_NODES_MAX {
        return Err(format!("{total} nodes; a fleet has at most {FLEET_NODES_MAX}"));
    }
    let mut names = BTreeSet::new();
    let mut nodes = Vec::with_capacity(total as usize);
    for group in groups {
        if group.gpus == 0 || group.gpus > GPUS_PER_NODE_MAX {
            return Err(format!("{}: a node has 1 to {GPUS_PER_NODE_MAX} GPUs", group.name));
        }
        for per in [group.nodes_per_rack, group.racks_per_leaf, group.leaves_per_spine] {
            if per == Some(0) {
                return Err(format!("{}: a rack, leaf or spine holds at least one", group.name));
            }
        }
        for index in 0..group.count {
            let name = format!("{}{index}", group.name);
            if !names.insert(name.clone()) {
                return Err(format!("two nodes are named `{name}`"));
            }
            nodes.push(NodeSpec {
                name,
                gpus: group.gpus,
                platform: group.platform.clone(),
                address: group.address.clone(),
                location: group.location(index),
                labels: std::collections::BTreeMap::new(),
            });
        }
    }
    Ok(nodes)
}

impl NodeGroup {
    fn location(&self, index: u32) -> Location {
        let mut location = Location { site: self.site.clone(), ..Location::default() };
        if let Some(nodes_per_rack) = self.nodes_per_rack {
            let rack = index / nodes_per_rack;
            location.rack = format!("{}-rack{rack:05}", self.name);
            if let Some(racks_per_leaf) = self.racks_per_leaf {
                let leaf = rack / racks_per_leaf;
                location.leaf = format!("{}-leaf{leaf:05}", self.name);
                if let Some(leaves_per_spine) = self.leaves_per_spine {
                    location.spine = format!("{}-spine{:05}", self.name, leaf / leaves_per_spine);
                }
            }
        }
        location
    }
}
