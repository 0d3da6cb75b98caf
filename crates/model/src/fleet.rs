//! A fleet file: the nodes that there are, by groups. Used by `sim` scenarios and `up --fleet`.

use crate::file::{FileError, Source};
use crate::node::{GPUS_PER_NODE_MAX, Location, NodeSpec};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// More nodes than any fleet that we design for.
pub const FLEET_NODES_MAX: u64 = 1_000_000;

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

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetFile {
    pub nodes: Vec<NodeGroup>,
}

impl FleetFile {
    pub fn parse(path: &Path, text: &str) -> Result<Vec<NodeSpec>, FileError> {
        let source = Source { path, text };
        let file: FleetFile = source.parse()?;
        expand(&file.nodes).map_err(|message| source.error_at_key("nodes", message, None))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<NodeSpec>, String> {
        FleetFile::parse(Path::new("fleet.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn groups_fill_racks_and_leaves_in_turn() {
        let nodes =
            parse("[[nodes]]\ncount = 9\ngpus = 8\nnodes_per_rack = 2\nracks_per_leaf = 2\n")
                .unwrap();
        assert_eq!(nodes.len(), 9);
        assert_eq!(nodes[5].location.rack, "n-rack00002");
        assert_eq!(nodes[5].location.leaf, "n-leaf00001");
    }

    #[test]
    fn a_fleet_that_cannot_be_is_refused() {
        for (text, expected) in [
            ("nodes = []", "at least one node"),
            ("[[nodes]]\ncount = 2000000\ngpus = 8", "at most 1000000"),
            ("[[nodes]]\ncount = 1\ngpus = 0", "1 to 64 GPUs"),
            ("[[nodes]]\ncount = 1\ngpus = 8\n[[nodes]]\ncount = 1\ngpus = 8", "two nodes are"),
            ("[[nodes]]\ncuont = 1\ngpus = 8", "did you mean `count`?"),
            ("[[nodes]]\ncount = 1\ngpus = 8\nnodes_per_rack = 0", "at least one"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text} gave {error}");
        }
    }
}
