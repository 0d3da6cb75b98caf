//! The fleet of the bench: four sites, each of spines, leaves and racks, and two hardware designs.

use lindos_model::NodeSpec;
use lindos_model::fleet::{NodeGroup, expand};

pub const GPUS_PER_NODE: u16 = 8;
/// Most nodes are of this design …
pub const MOST: &str = "hgx-h100";
/// … and so many in a hundred of this one.
pub const SOME: &str = "hgx-h200";
const SOME_PERCENT: u64 = 10;
const SITES: [&str; 4] = ["north", "east", "south", "west"];
const NODES_PER_RACK: u32 = 4;
const RACKS_PER_LEAF: u32 = 8;
const LEAVES_PER_SPINE: u32 = 8;

/// The nodes of a fleet of `gpus` GPUs, eight a node.
pub fn nodes(gpus: u64) -> Result<Vec<NodeSpec>, String> {
    let all = gpus / u64::from(GPUS_PER_NODE);
    let some = all * SOME_PERCENT / 100;
    let sites = SITES.len() as u64;
    let mut groups = Vec::new();
    for (index, site) in SITES.into_iter().enumerate() {
        for (platform, count) in [(MOST, all - some), (SOME, some)] {
            // Of what does not divide, the first sites have one more each.
            let here = count / sites + u64::from((index as u64) < count % sites);
            groups.push(NodeGroup {
                name: format!("{site}-{}-", &platform[4..]),
                count: u32::try_from(here).map_err(|_| format!("{gpus} GPUs are too many"))?,
                gpus: GPUS_PER_NODE,
                platform: platform.to_string(),
                address: "192.0.2.1".to_string(),
                site: site.to_string(),
                nodes_per_rack: Some(NODES_PER_RACK),
                racks_per_leaf: Some(RACKS_PER_LEAF),
                leaves_per_spine: Some(LEAVES_PER_SPINE),
            });
        }
    }
    expand(&groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_of_the_fleet_is_there_and_a_tenth_is_of_the_other_design() {
        let nodes = nodes(10_000).unwrap();
        assert_eq!(nodes.len(), 1_250);
        assert_eq!(nodes.iter().filter(|node| node.platform == SOME).count(), 125);
        assert!(nodes.iter().all(|node| node.location.path().count() == 4));
    }
}
