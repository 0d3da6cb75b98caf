//! Where a gang goes: the nodes that cross the lowest level of the network tree, and among those
//! the ones that leave the least behind (best fit).
//!
//! This is a pass over the fleet, made for thousands of nodes. It has this room to itself so that
//! an incremental index can take its place without anybody noticing.

use crate::health::fleet::{Fleet, Node};
use lindos_model::{GpuSet, Location, NodeId, WaitReason};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub nodes: u32,
    pub gpus_per_node: u16,
    /// Whole free nodes that must be left over.
    pub spares: u32,
    /// Nodes that are taken first, all else being equal: where the job ran before. Sorted.
    pub prefer: &'a [NodeId],
}

/// The nodes of a gang in rank order, which follows the network tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub nodes: Vec<(NodeId, GpuSet)>,
}

/// How much of two locations must agree for them to be close.
type Level = fn(&Location) -> [&str; 4];

/// The levels of the network tree, lowest first.
const LEVELS: [Level; 5] = [
    |l| [&l.site, &l.spine, &l.leaf, &l.rack],
    |l| [&l.site, &l.spine, &l.leaf, ""],
    |l| [&l.site, &l.spine, "", ""],
    |l| [&l.site, "", "", ""],
    |_| ["", "", "", ""],
];

pub fn place(fleet: &mut Fleet, request: &Request<'_>) -> Result<Placement, WaitReason> {
    let order = fleet.order().to_vec();
    let candidates: Vec<NodeId> =
        order.into_iter().filter(|&id| could_take(fleet.node(id), request.gpus_per_node)).collect();
    let usable = usable(fleet, &candidates, request.spares);
    if usable < request.nodes {
        return Err(wait_reason(fleet, request, usable));
    }
    let group = LEVELS
        .iter()
        .find_map(|&level| best_group(fleet, &candidates, level, request))
        .expect("the whole fleet is a group, and it is large enough");
    Ok(choose(fleet, group, request))
}

fn could_take(node: &Node, gpus: u16) -> bool {
    node.in_service() && node.free().len() >= gpus
}

/// How many of the candidates may be taken when `spares` whole nodes must be left.
fn usable(fleet: &Fleet, candidates: &[NodeId], spares: u32) -> u32 {
    let whole = candidates.iter().filter(|&&id| fleet.node(id).is_whole()).count() as u32;
    let part = candidates.len() as u32 - whole;
    let kept = spares.saturating_sub(fleet.whole_free() - whole);
    part + whole.saturating_sub(kept)
}

/// The tightest group at one level that holds the gang; `None` when no group does.
fn best_group<'c>(
    fleet: &Fleet,
    candidates: &'c [NodeId],
    level: Level,
    request: &Request<'_>,
) -> Option<&'c [NodeId]> {
    candidates
        .chunk_by(|&a, &b| {
            level(&fleet.node(a).spec.location) == level(&fleet.node(b).spec.location)
        })
        .filter(|group| usable(fleet, group, request.spares) >= request.nodes)
        .min_by_key(|group| {
            let friends = group.iter().filter(|&&id| is_preferred(request, id)).count();
            let strangers = request.prefer.len() - friends;
            let free: u64 = group.iter().map(|&id| u64::from(fleet.node(id).free().len())).sum();
            (strangers, free, group[0])
        })
}

/// The gang within a group: preferred nodes, then the fullest, then by place.
fn choose(fleet: &Fleet, group: &[NodeId], request: &Request<'_>) -> Placement {
    // Where spares are kept, a whole node is touched only when no broken one will do.
    let spared = |node: &Node| request.spares > 0 && node.is_whole();
    let mut ranked: Vec<(bool, bool, u16, usize)> = group
        .iter()
        .enumerate()
        .map(|(place, &id)| {
            let node = fleet.node(id);
            (!is_preferred(request, id), spared(node), node.free().len(), place)
        })
        .collect();
    ranked.sort_unstable();
    let mut places: Vec<usize> =
        ranked[..request.nodes as usize].iter().map(|&(.., place)| place).collect();
    places.sort_unstable();
    Placement {
        nodes: places
            .into_iter()
            .map(|place| {
                let id = group[place];
                let gpus = fleet.node(id).free().lowest(request.gpus_per_node);
                (id, gpus.expect("a candidate has the GPUs"))
            })
            .collect(),
    }
}

fn is_preferred(request: &Request<'_>, id: NodeId) -> bool {
    request.prefer.binary_search(&id).is_ok()
}

fn wait_reason(fleet: &Fleet, request: &Request<'_>, usable: u32) -> WaitReason {
    let (nodes_wanted, gpus_per_node) = (request.nodes, request.gpus_per_node);
    let (mut large_enough, mut out, mut too_small) = (0, 0, 0);
    for node in fleet.nodes() {
        if node.spec.gpus >= gpus_per_node {
            large_enough += 1;
            out += u32::from(!node.in_service());
        } else {
            too_small += u32::from(node.in_service());
        }
    }
    // The spares may be nodes that this job could not use anyway.
    let spares = request.spares.saturating_sub(too_small);
    let nodes_that_could = u32::saturating_sub(large_enough, spares);
    if nodes_that_could < nodes_wanted {
        WaitReason::NeverFits { nodes_wanted, gpus_per_node, nodes_that_could }
    } else if nodes_that_could - out.min(nodes_that_could) < nodes_wanted {
        WaitReason::NodesOut { nodes_wanted, gpus_per_node, nodes_free: usable, nodes_out: out }
    } else {
        WaitReason::Busy {
            nodes_wanted,
            gpus_per_node,
            nodes_free: usable,
            spares_kept: request.spares.min(fleet.whole_free()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::fleet::{Allocation, NodeState};
    use lindos_model::{Column, Epoch, JobId, NodeSpec};

    /// Racks `a`, `b`, … of `per_rack` nodes with 8 GPUs, two racks a leaf, all up.
    fn fleet(racks: u8, per_rack: u32) -> Fleet {
        let mut fleet = Fleet::default();
        for rack in 0..racks {
            for index in 0..per_rack {
                let letter = char::from(b'a' + rack);
                let (id, _) = fleet.join(NodeSpec {
                    name: format!("{letter}{index}"),
                    gpus: 8,
                    platform: "p".into(),
                    address: "127.0.0.1".into(),
                    location: Location {
                        site: "s".into(),
                        spine: "x".into(),
                        leaf: format!("leaf{}", rack / 2),
                        rack: letter.to_string(),
                        ..Location::default()
                    },
                    labels: std::collections::BTreeMap::new(),
                });
                fleet.update(id, |node| node.state = NodeState::Up);
            }
        }
        fleet
    }

    fn take(fleet: &mut Fleet, name: &str, gpus: u16) {
        let id = fleet.by_name(name).unwrap();
        let gpus = fleet.node(id).free().lowest(gpus).unwrap();
        let (job, epoch) = (JobId(99), Epoch(1));
        fleet.allocate(id, Allocation { job, epoch, member: 0, gpus, column: Column::Startup });
    }

    fn names(fleet: &mut Fleet, request: &Request<'_>) -> String {
        match place(fleet, request) {
            Ok(placement) => {
                let name = |&(id, _): &(NodeId, GpuSet)| fleet.node(id).spec.name.clone();
                placement.nodes.iter().map(name).collect::<Vec<_>>().join(" ")
            }
            Err(reason) => reason.name().to_string(),
        }
    }

    fn want(nodes: u32, gpus_per_node: u16) -> Request<'static> {
        Request { nodes, gpus_per_node, spares: 0, prefer: &[] }
    }

    #[test]
    fn a_gang_stays_in_the_tightest_rack_that_holds_it() {
        let mut fleet = fleet(3, 4);
        take(&mut fleet, "b0", 8);
        assert_eq!(names(&mut fleet, &want(3, 8)), "b1 b2 b3");
        assert_eq!(names(&mut fleet, &want(4, 8)), "a0 a1 a2 a3");
    }

    #[test]
    fn a_gang_too_large_for_a_rack_stays_under_one_leaf() {
        let mut fleet = fleet(4, 4);
        take(&mut fleet, "a0", 8);
        assert_eq!(names(&mut fleet, &want(7, 8)), "a1 a2 a3 b0 b1 b2 b3");
    }

    #[test]
    fn part_node_jobs_fill_broken_nodes_first() {
        let mut fleet = fleet(1, 3);
        take(&mut fleet, "a1", 5);
        assert_eq!(names(&mut fleet, &want(1, 2)), "a1");
        assert_eq!(names(&mut fleet, &want(1, 4)), "a0");
    }

    #[test]
    fn spares_are_left_and_a_restart_may_take_them() {
        let mut fleet = fleet(1, 3);
        take(&mut fleet, "a0", 8);
        assert_eq!(names(&mut fleet, &Request { spares: 1, ..want(2, 8) }), "busy");
        assert_eq!(names(&mut fleet, &want(2, 8)), "a1 a2");
        assert_eq!(names(&mut fleet, &Request { spares: 1, ..want(3, 8) }), "never_fits");
    }

    #[test]
    fn a_restart_goes_back_to_its_nodes() {
        let mut fleet = fleet(2, 4);
        let before: Vec<NodeId> = ["b1", "b3"].iter().map(|n| fleet.by_name(n).unwrap()).collect();
        let request = Request { prefer: &before, ..want(2, 8) };
        assert_eq!(names(&mut fleet, &request), "b1 b3");
    }

    #[test]
    fn each_reason_to_wait_is_told_from_the_others() {
        let mut fleet = fleet(1, 3);
        assert_eq!(names(&mut fleet, &want(4, 8)), "never_fits");
        assert_eq!(names(&mut fleet, &want(1, 9)), "never_fits");
        take(&mut fleet, "a0", 1);
        assert_eq!(names(&mut fleet, &want(3, 8)), "busy");
        let id = fleet.by_name("a1").unwrap();
        fleet.update(id, |node| node.state = NodeState::Silent);
        assert_eq!(names(&mut fleet, &want(3, 1)), "nodes_out");
    }
}
