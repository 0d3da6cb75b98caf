//! Which nodes a fleet on this machine has: pure.

use crate::failure::Failure;
use lindos_api::user::NodeView;
use lindos_model::{JobSpec, Location, NodeSpec};
use std::collections::BTreeSet;

pub const PLATFORM: &str = "generic";
pub const ADDRESS: &str = "127.0.0.1";

/// Ranks of one gang on this machine. Each is a process of a training script, which takes
/// gigabytes and threads; a workstation is brought to its knees by fewer.
pub const RANKS_MAX: u64 = 64;
/// Agents on this machine.
pub const NODES_MAX: u32 = 65;
const SPARES: u32 = 1;

/// The fleet that `lindos run` makes for one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub nodes: u32,
    pub gpus: u16,
}

/// What the job needs with its own spares, and one more; or what was asked for. Refused if it is
/// more than this machine should carry, or if the job would never fit.
pub fn wanted(spec: &JobSpec, nodes: Option<u32>, gpus: Option<u16>) -> Result<Wanted, Failure> {
    let ranks = u64::from(spec.nodes) * u64::from(spec.ranks_per_node);
    if ranks > RANKS_MAX {
        return Err(Failure::bad_input(
            format!(
                "job {}: its gang has {ranks} ranks, and a fleet on this machine runs at most \
                 {RANKS_MAX}",
                spec.name
            ),
            format!(
                "gang.nodes ({}) × gang.ranks_per_node ({}) must be at most {RANKS_MAX} here; for \
                 more, name a control plane with --server URL, or try it in virtual time with \
                 `lindos sim`",
                spec.nodes, spec.ranks_per_node
            ),
        ));
    }
    let wanted = Wanted {
        nodes: nodes.unwrap_or(spec.nodes.saturating_add(spec.spares).saturating_add(SPARES)),
        gpus: gpus.unwrap_or(spec.gpus_per_node),
    };
    check_count(u64::from(wanted.nodes))?;
    if wanted.nodes < spec.min_nodes || wanted.gpus < spec.gpus_per_node {
        return Err(Failure::bad_input(
            format!(
                "job {}: it wants {} nodes with {} GPUs each, and the fleet would have {} with {}",
                spec.name, spec.min_nodes, spec.gpus_per_node, wanted.nodes, wanted.gpus
            ),
            "leave --nodes and --gpus-per-node out, and the fleet fits the job",
        ));
    }
    Ok(wanted)
}

/// A whole node is kept as a spare only where there is one more than the job needs.
pub fn spares(spec: &JobSpec, wanted: Wanted) -> u32 {
    wanted.nodes.saturating_sub(spec.nodes).min(SPARES)
}

pub fn check_count(nodes: u64) -> Result<(), Failure> {
    if nodes == 0 || nodes > u64::from(NODES_MAX) {
        return Err(Failure::bad_input(
            format!("a fleet on this machine has 1 to {NODES_MAX} nodes, not {nodes}"),
            "each node is a process of its own; a larger fleet runs in virtual time: `lindos sim`",
        ));
    }
    Ok(())
}

/// Every node that the state knows already, because jobs from before may run there, and as many
/// new ones as `wanted` lacks. New ones take the first names that are free: a node never changes
/// its size.
pub fn fleet(known: &[NodeView], wanted: Wanted) -> Vec<NodeSpec> {
    let mut nodes: Vec<NodeSpec> = known.iter().map(spec_of).collect();
    let fitting = nodes.iter().filter(|node| node.gpus >= wanted.gpus).count() as u32;
    let names: BTreeSet<&str> = known.iter().map(|node| node.name.as_str()).collect();
    let new_names = (0_u32..).map(|index| format!("local-{index}"));
    let free_names = new_names.filter(|name| !names.contains(name.as_str()));
    let missing = wanted.nodes.saturating_sub(fitting) as usize;
    nodes.extend(free_names.take(missing).map(|name| NodeSpec {
        name,
        gpus: wanted.gpus,
        platform: PLATFORM.to_string(),
        address: ADDRESS.to_string(),
        location: Location::default(),
        labels: std::collections::BTreeMap::new(),
    }));
    nodes
}

/// The nodes of a fleet file, and those that the state knows besides.
pub fn fleet_of_file(known: &[NodeView], file: Vec<NodeSpec>) -> Result<Vec<NodeSpec>, Failure> {
    let mut nodes = file;
    for view in known {
        match nodes.iter().find(|node| node.name == view.name) {
            Some(node) if node.gpus != view.gpus => {
                return Err(Failure::bad_input(
                    format!(
                        "node {} has {} GPUs in the fleet file, and {} in the state folder",
                        node.name, node.gpus, view.gpus
                    ),
                    "a node never changes its size: give it another name, or use a new --state DIR",
                ));
            }
            Some(_) => {}
            None => nodes.push(spec_of(view)),
        }
    }
    Ok(nodes)
}

fn spec_of(view: &NodeView) -> NodeSpec {
    NodeSpec {
        name: view.name.clone(),
        gpus: view.gpus,
        platform: view.platform.clone(),
        address: view.address.clone(),
        location: Location {
            site: view.site.clone(),
            hall: view.hall.clone(),
            spine: view.spine.clone(),
            leaf: view.leaf.clone(),
            rack: view.rack.clone(),
            nvlink: view.nvlink.clone(),
            nvlink_spans_racks: view.nvlink_spans_racks,
            row: view.row.clone(),
            pdu: view.pdu.clone(),
        },
        labels: view.labels.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use lindos_model::job;

    #[test]
    fn a_fleet_is_the_job_and_one_spare() {
        let spec = job::sample("a", 2, 4);
        let plan = wanted(&spec, None, None).unwrap();
        assert_eq!(plan, Wanted { nodes: 3, gpus: 4 });
        assert_eq!(spares(&spec, plan), 1);
        assert_eq!(spares(&spec, wanted(&spec, Some(2), None).unwrap()), 0);
    }

    #[test]
    fn more_than_this_machine_should_carry_is_refused_with_the_numbers() {
        let million = job::sample("big", 125_000, 8);
        let failure = wanted(&million, None, None).unwrap_err();
        insta::assert_snapshot!(failure, @"
        error: job big: its gang has 1000000 ranks, and a fleet on this machine runs at most 64
        hint: gang.nodes (125000) × gang.ranks_per_node (8) must be at most 64 here; for more, name a control plane with --server URL, or try it in virtual time with `lindos sim`
        ");
        assert!(wanted(&job::sample("a", 8, 8), None, None).is_ok());
        assert!(wanted(&job::sample("a", 64, 1), None, None).is_ok());
        assert!(wanted(&job::sample("a", 65, 1), None, None).is_err());
        assert!(wanted(&job::sample("a", 1, 1), Some(1000), None).is_err());
        assert!(wanted(&job::sample("a", 1, 1), Some(0), None).is_err());
    }

    #[test]
    fn a_fleet_too_small_for_the_job_is_refused() {
        let failure = wanted(&job::sample("a", 3, 4), Some(2), None).unwrap_err();
        insta::assert_snapshot!(failure, @"
        error: job a: it wants 3 nodes with 4 GPUs each, and the fleet would have 2 with 4
        hint: leave --nodes and --gpus-per-node out, and the fleet fits the job
        ");
        assert!(wanted(&job::sample("a", 3, 4), None, Some(2)).is_err());
    }

    #[test]
    fn known_nodes_are_kept_and_only_what_lacks_is_added() {
        let known = [sample::node("local-0"), sample::node("local-2")];
        let names = |wanted| -> Vec<String> {
            fleet(&known, wanted).into_iter().map(|node| node.name).collect()
        };
        assert_eq!(names(Wanted { nodes: 2, gpus: 2 }), ["local-0", "local-2"]);
        assert_eq!(names(Wanted { nodes: 3, gpus: 1 }), ["local-0", "local-2", "local-1"]);
        let larger = names(Wanted { nodes: 2, gpus: 4 });
        assert_eq!(larger, ["local-0", "local-2", "local-1", "local-3"]);
    }

    #[test]
    fn a_known_node_keeps_its_place_and_its_labels() {
        let mut view = sample::node("local-0");
        for (index, name) in [
            &mut view.site,
            &mut view.hall,
            &mut view.spine,
            &mut view.leaf,
            &mut view.rack,
            &mut view.nvlink,
            &mut view.row,
            &mut view.pdu,
        ]
        .into_iter()
        .enumerate()
        {
            *name = format!("place-{index}");
        }
        view.nvlink_spans_racks = true;
        view.labels.insert("pool".to_string(), "a".to_string());
        let spec = spec_of(&view);
        let at = &spec.location;
        let names =
            [&at.site, &at.hall, &at.spine, &at.leaf, &at.rack, &at.nvlink, &at.row, &at.pdu];
        for (index, name) in names.into_iter().enumerate() {
            assert_eq!(*name, format!("place-{index}"));
        }
        assert!(at.nvlink_spans_racks);
        assert_eq!(spec.labels, view.labels);
    }

    #[test]
    fn a_fleet_file_cannot_change_a_nodes_size() {
        let mut node = spec_of(&sample::node("local-0"));
        assert_eq!(fleet_of_file(&[sample::node("x")], vec![node.clone()]).unwrap().len(), 2);
        node.gpus = 8;
        assert!(fleet_of_file(&[sample::node("local-0")], vec![node]).is_err());
    }
}
