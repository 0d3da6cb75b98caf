//! Places for gangs on small fleets, in sentences.

use super::*;
use crate::health::fleet::{Allocation, NodeState};
use lindos_model::{JobId, Location, NodeSpec};

static LABELS: BTreeMap<String, String> = BTreeMap::new();
static NAMES: BTreeSet<String> = BTreeSet::new();

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
    fleet.allocate(id, Allocation { job: JobId(99), member: 0, gpus, quiet: None });
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
    Request {
        nodes,
        gpus_per_node,
        within: Level::Fleet,
        segment: None,
        platforms: &[],
        labels: &LABELS,
        exclude: &NAMES,
        spares: 0,
        prefer: &[],
        view: View::Open,
        own: &[],
        first: &[],
    }
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

/// Two sites with two leaves of two racks each, and `per_rack` nodes in a rack.
fn two_sites(per_rack: u32) -> Fleet {
    let mut fleet = Fleet::default();
    for site in 0..2 {
        for rack in 0..4 {
            for index in 0..per_rack {
                let leaf = rack / 2;
                let (id, _) = fleet.join(NodeSpec {
                    name: format!("s{site}l{leaf}r{rack}n{index:02}"),
                    gpus: 8,
                    platform: if site == 0 { "h100" } else { "b200" }.into(),
                    address: "127.0.0.1".into(),
                    location: Location {
                        site: format!("s{site}"),
                        leaf: format!("l{leaf}"),
                        rack: format!("r{rack}"),
                        ..Location::default()
                    },
                    labels: BTreeMap::new(),
                });
                fleet.update(id, |node| node.state = NodeState::Up);
            }
        }
    }
    fleet
}

#[test]
fn a_gang_stays_within_what_it_asks_for() {
    let mut fleet = two_sites(4);
    take(&mut fleet, "s0l0r0n00", 8);
    let within = |nodes, within| Request { within, ..want(nodes, 8) };
    assert_eq!(names(&mut fleet, &within(5, Level::Rack)), "never_fits");
    assert_eq!(names(&mut fleet, &within(9, Level::Leaf)), "never_fits");
    for rack in ["s0l0r1", "s0l1r2", "s0l1r3", "s1l0r0", "s1l0r1", "s1l1r2", "s1l1r3"] {
        take(&mut fleet, &format!("{rack}n03"), 8);
    }
    assert_eq!(names(&mut fleet, &within(4, Level::Rack)), "scattered");
    let four = "s0l0r0n01 s0l0r0n02 s0l0r0n03 s0l0r1n00";
    assert_eq!(names(&mut fleet, &within(4, Level::Leaf)), four);
}

#[test]
fn a_gang_is_of_one_hardware_design() {
    let mut fleet = two_sites(1);
    let b200 = ["b200".to_string()];
    let on_b200 = |nodes| Request { platforms: &b200, ..want(nodes, 8) };
    assert_eq!(names(&mut fleet, &on_b200(2)), "s1l0r0n00 s1l0r1n00");
    assert_eq!(names(&mut fleet, &want(5, 8)), "never_fits");
    let exclude = BTreeSet::from(["s1l0r0n00".to_string()]);
    let without = Request { exclude: &exclude, ..on_b200(2) };
    assert_eq!(names(&mut fleet, &without), "s1l1r2n00 s1l1r3n00");
    fleet.check();
}

#[test]
fn each_segment_lies_within_one_domain() {
    let mut fleet = two_sites(4);
    take(&mut fleet, "s1l0r0n01", 8);
    let segments = |nodes| Request { within: Level::Rack, segment: Some(2), ..want(nodes, 8) };
    let six = "s1l0r0n00 s1l0r0n02 s1l0r1n00 s1l0r1n01 s1l0r1n02 s1l0r1n03";
    assert_eq!(names(&mut fleet, &segments(6)), six);
    assert_eq!(names(&mut fleet, &segments(18)), "never_fits");
    for rack in ["s0l0r0", "s0l0r1", "s0l1r2", "s0l1r3"] {
        take(&mut fleet, &format!("{rack}n00"), 8);
    }
    assert_eq!(names(&mut fleet, &segments(16)), "busy");
    let four = segments(4);
    let before =
        ["s0l0r0n01", "s0l0r0n02", "s0l1r2n01", "s0l1r2n02"].map(|n| fleet.by_name(n).unwrap());
    take(&mut fleet, "s0l1r2n02", 8);
    let again = Request { prefer: &before, ..four };
    assert_eq!(names(&mut fleet, &again), "s0l0r0n01 s0l0r0n02 s0l1r2n01 s0l1r2n03");
    take(&mut fleet, "s0l1r2n03", 8);
    assert_eq!(names(&mut fleet, &again), "s0l0r0n01 s0l0r0n02 s0l0r1n01 s0l0r1n02");
}

#[test]
fn a_replacement_is_taken_from_as_near_as_can_be() {
    let mut fleet = two_sites(4);
    let before: Vec<NodeId> = ["s0l1r2n00", "s0l1r2n01", "s0l1r2n02", "s0l1r2n03"]
        .map(|name| fleet.by_name(name).unwrap())
        .to_vec();
    take(&mut fleet, "s0l1r2n01", 8);
    let again = Request { prefer: &before, ..want(4, 8) };
    assert_eq!(names(&mut fleet, &again), "s0l1r2n00 s0l1r2n02 s0l1r2n03 s0l1r3n00");
}

#[test]
fn held_nodes_are_open_to_the_job_they_are_held_for_alone() {
    let mut fleet = fleet(1, 4);
    let held: Vec<NodeId> = ["a0", "a1"].map(|name| fleet.by_name(name).unwrap()).to_vec();
    for &node in &held {
        fleet.hold(node, Some(JobId(7)));
    }
    assert_eq!(names(&mut fleet, &want(3, 8)), "held");
    assert_eq!(names(&mut fleet, &want(2, 8)), "a2 a3");
    assert_eq!(names(&mut fleet, &Request { own: &held, ..want(3, 8) }), "a0 a1 a2");
    assert_eq!(names(&mut fleet, &Request { view: View::Free, ..want(4, 8) }), "a0 a1 a2 a3");
    fleet.check();
}

#[test]
fn labels_of_every_nodes_own_harm_nobody() {
    let mut fleet = Fleet::default();
    for index in 0..1_100 {
        let (id, _) = fleet.join(NodeSpec {
            name: format!("n{index:04}"),
            gpus: 8,
            platform: format!("p{}", index % 3),
            address: "127.0.0.1".into(),
            location: Location::default(),
            labels: BTreeMap::from([("serial".to_string(), index.to_string())]),
        });
        fleet.update(id, |node| node.state = NodeState::Up);
    }
    // And one of each design for those that are one too many.
    assert_eq!(fleet.index().tree().pools().len(), 1_003);
    assert!(place(&mut fleet, &want(366, 8)).is_ok());
    fleet.check();
}

mod against_brute_force {
    use super::*;
    use proptest::prelude::*;

    /// What a request must find, by looking at every node.
    fn brute_force(fleet: &Fleet, request: &Request<'_>) -> bool {
        let mut domains: BTreeMap<(String, Vec<String>), u32> = BTreeMap::new();
        let mut by_platform: BTreeMap<String, u32> = BTreeMap::new();
        for node in fleet.nodes() {
            let free = node.free().len();
            if !node.in_service() || free < request.gpus_per_node {
                continue;
            }
            let place: Vec<String> = node
                .spec
                .location
                .path()
                .take_while(|&(level, _)| level >= request.within)
                .map(|(_, name)| name.to_string())
                .collect();
            *domains.entry((node.spec.platform.clone(), place)).or_default() += 1;
            *by_platform.entry(node.spec.platform.clone()).or_default() += 1;
        }
        let Some(segment) = request.segment else {
            return domains.values().any(|&count| count >= request.nodes);
        };
        let mut room: BTreeMap<&String, u32> = BTreeMap::new();
        for ((platform, _), count) in &domains {
            *room.entry(platform).or_default() += count / segment * segment;
        }
        room.values().any(|&count| count >= request.nodes)
    }

    fn holds(fleet: &Fleet, request: &Request<'_>, placement: &Placement) {
        let nodes: Vec<NodeId> = placement.nodes.iter().map(|&(node, _)| node).collect();
        assert_eq!(nodes.len(), request.nodes as usize);
        let mut sorted = nodes.clone();
        fleet.index().tree().sort(&mut sorted);
        assert_eq!(sorted, nodes, "ranks do not follow the tree");
        sorted.dedup();
        assert_eq!(sorted.len(), nodes.len(), "a node is taken twice");
        let tree = fleet.index().tree();
        let platform = &fleet.node(nodes[0]).spec.platform;
        assert!(nodes.iter().all(|&node| fleet.node(node).spec.platform == *platform));
        for part in nodes.chunks(request.segment.unwrap_or(request.nodes) as usize) {
            let common = tree.common(part.iter().copied());
            if request.within != Level::Fleet && part.len() > 1 {
                assert!(tree.ancestor(common, request.within).is_some(), "it spans too much");
            }
        }
    }

    proptest! {
        #[test]
        fn a_place_is_found_exactly_when_there_is_one(
            taken in prop::collection::vec((0usize..24, 1u16..9), 0..24),
            out in prop::collection::vec(0usize..24, 0..4),
            nodes in 1u32..10,
            gpus_per_node in prop::sample::select(vec![1u16, 4, 8]),
            level in 0usize..7,
            segment in prop::sample::select(vec![None, Some(2u32), Some(3)]),
        ) {
            let within = [Level::Rack, Level::Leaf, Level::Site, Level::Fleet][level % 4];
            let segment = segment.filter(|_| within != Level::Fleet);
            let nodes = segment.map_or(nodes, |segment| nodes.div_ceil(segment) * segment);
            let mut fleet = two_sites(3);
            for (node, gpus) in taken {
                let name = fleet.node(NodeId(node as u32)).spec.name.clone();
                if fleet.node(NodeId(node as u32)).free().len() >= gpus {
                    let id = fleet.by_name(&name).unwrap();
                    let gpus = fleet.node(id).free().lowest(gpus).unwrap();
                    let allocations = fleet.node(id).allocations.len() as u64;
                    let job = JobId(100 + allocations);
                    fleet.allocate(id, Allocation { job, member: 0, gpus, quiet: None });
                }
            }
            for node in out {
                fleet.update(NodeId(node as u32), |node| node.state = NodeState::Silent);
            }
            fleet.check();
            let request = Request { within, segment, ..want(nodes, gpus_per_node) };
            let expected = brute_force(&fleet, &request) || (nodes == 1
                && brute_force(&fleet, &Request { within: Level::Fleet, ..request.clone() }));
            match place(&mut fleet, &request) {
                Ok(placement) => {
                    prop_assert!(expected, "there is no such place");
                    holds(&fleet, &request, &placement);
                }
                Err(reason) => prop_assert!(!expected, "not found: {}", reason),
            }
            fleet.check();
        }
    }
}
