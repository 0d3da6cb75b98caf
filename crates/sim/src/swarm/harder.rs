//! What goes wrong beyond a single node: what nodes share, the control plane's machine, its
//! successors. Streams of their own: without them, a seed is what it was.

use super::FAULTY;
use crate::fault::{Branch, Fault, FaultKind};
use crate::random::Stream;
use crate::world::Setup;
use lindos_model::policy::{QueueRule, Repair};
use lindos_model::{Millis, Policy, Time};
use std::sync::Arc;

/// Some fleets have nodes of several sizes, by the rack: none is smaller than those that the jobs
/// were drawn for, and some jobs ask for a larger one.
pub fn mix_sizes(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "sizes");
    if !chance.chance(300_000) {
        return;
    }
    let least = setup.nodes[0].gpus;
    let mut rack = String::new();
    let mut gpus = least;
    for node in &mut setup.nodes {
        if node.location.rack != rack {
            rack.clone_from(&node.location.rack);
            gpus = least * *chance.pick(&[1, 1, 2, 4]);
        }
        node.gpus = gpus;
    }
    let largest = setup.nodes.iter().map(|node| node.gpus).max().expect("a fleet has nodes");
    let count = setup.nodes.iter().filter(|node| node.gpus == largest).count() as u32;
    for job in &mut setup.jobs {
        let is_plain = job.spec.nodes == 1 && job.spec.labels.is_empty();
        if is_plain && count > setup.policy.spares && chance.chance(300_000) {
            Arc::make_mut(&mut job.spec).gpus_per_node = largest;
        }
    }
}

/// Policies that a later version may start with. Jobs that could start can do so under each.
pub fn later_policies(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "policies");
    for _ in 0..chance.between(0, 2) {
        let mut policy = Policy {
            spares: chance.between(0, u64::from(setup.policy.spares)) as u32,
            node_silent_ms: setup.policy.node_silent_ms * chance.between(10, 30) / 10,
            progress_interval_ms: chance.between(500, 5_000),
            queue: *chance.pick(&[QueueRule::Fair, QueueRule::Backfill, QueueRule::Fifo]),
            usage_half_life_ms: chance.between(10_000, 1_000_000),
            wait_max_ms: chance.between(60_000, 3_600_000),
            reservations_max: chance.between(1, 4) as u32,
            preempt_grace_ms: chance.between(0, 600_000),
            moves: chance.chance(500_000),
            ..setup.policy.clone()
        };
        for class in &mut policy.classes {
            class.priority = chance.between(0, 10) as i32 - 5;
            class.preempts = chance.chance(500_000);
        }
        setup.policies.push(policy);
    }
}

/// Half of the control planes have a standby.
pub fn standby(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "standby");
    if chance.chance(500_000) {
        setup.standby = Some(Millis(chance.between(30_000, 300_000)));
    }
}

pub fn faults(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "harder");
    for _ in 0..chance.between(0, 8) {
        let kind = fault(chance, setup);
        setup.faults.push(Fault { at: Time(chance.between(1_000, FAULTY - 1)), kind });
    }
}

/// How Lindos mends what its checks find, and what they find.
pub fn findings(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "findings");
    let usual = Repair::default();
    setup.policy.repair = Repair {
        automatic: chance.chance(900_000),
        rack_out_max_percent: chance.between(1, 100) as u32,
        leaf_out_max_percent: chance.between(1, 100) as u32,
        platform_out_max_percent: chance.between(1, 60) as u32,
        fleet_out_max_percent: chance.between(1, 60) as u32,
        breaker_nodes: chance.between(1, 10) as u32,
        breaker_window_ms: chance.between(1_000, 600_000),
        breaker_open_ms: chance.between(1_000, 600_000),
        strikes_max: chance.between(0, 5) as u32,
        remedy_window_ms: chance.between(1_000, 3_600_000),
        reset_gpu_max: chance.between(0, 2) as u32,
        reboot_max: chance.between(0, 2) as u32,
        remedy_timeout_ms: chance.between(10_000, 300_000),
        leave_max_ms: chance.between(1_000, 600_000),
        burn_in_ms: *chance.pick(&[0, 1_000, 60_000]),
        ..usual
    };
    for _ in 0..chance.between(0, 6) {
        let node = chance.pick(&setup.nodes).name.clone();
        let fatal = chance.chance(500_000);
        let kind = FaultKind::Find { node, fatal, lasts: Millis(chance.between(1, 600_000)) };
        setup.faults.push(Fault { at: Time(chance.between(1_000, FAULTY - 1)), kind });
    }
}

/// Whether suspects and idle nodes are tested, and which would fail.
pub fn tests(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "tests");
    let repair = &mut setup.policy.repair;
    repair.pair_test_ms = *chance.pick(&[0, 1_000, 30_000]);
    repair.suspects_max = chance.between(2, 8) as u32;
    repair.idle_burn_in_every_ms = *chance.pick(&[0, 0, 120_000, 600_000]);
    repair.idle_burn_in_max_percent = chance.between(1, 100) as u32;
    for _ in 0..chance.between(0, 3) {
        let node = chance.pick(&setup.nodes).name.clone();
        let peer = chance.pick(&setup.nodes).name.clone();
        let peer = (peer != node && chance.chance(300_000)).then_some(peer);
        let kind = FaultKind::Weaken { node, peer };
        setup.faults.push(Fault { at: Time(chance.between(1_000, FAULTY - 1)), kind });
    }
}

/// Nodes that keep the others waiting, and whether their jobs leave them.
pub fn slow_nodes(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "slow");
    if chance.chance(500_000) {
        setup.policy.repair.straggler_cost_percent = chance.between(5, 40) as u32;
        setup.policy.repair.straggler_ms = chance.between(0, 300_000);
    }
    for _ in 0..chance.between(0, 3) {
        let node = chance.pick(&setup.nodes).name.clone();
        let kind = FaultKind::SlowDown { node, lasts: Millis(chance.between(10_000, 1_800_000)) };
        setup.faults.push(Fault { at: Time(chance.between(1_000, FAULTY - 1)), kind });
    }
}

/// Ranks that stop and keep the others waiting, or no more than their replica. Nobody can see it of a
/// job that tells no steps.
pub fn silent_ranks(seed: u64, setup: &mut Setup) {
    let chance = &mut Stream::new(seed, "silent ranks");
    for _ in 0..chance.between(0, 3) {
        let job = chance.pick(&setup.jobs);
        let ranks = u64::from(job.spec.nodes) * u64::from(job.spec.gpus_per_node);
        let rank = chance.between(0, ranks.max(1) - 1) as u32;
        let (is_alone, name) = (chance.chance(400_000), job.spec.name.clone());
        let kind = if is_alone && job.spec.replicas > 1 {
            FaultKind::Strand { job: name, rank }
        } else {
            FaultKind::Hang { job: name, rank: Some(rank) }
        };
        let at = Time(chance.between(1_000, FAULTY - 1));
        if job.script.reports {
            setup.faults.push(Fault { at, kind });
        }
    }
    // It takes a replica that starts after it.
    for job in setup.jobs.iter().filter(|job| job.spec.replicas > 1 && job.script.reports) {
        if chance.chance(300_000) {
            let kind = FaultKind::HangStart { job: job.spec.name.clone() };
            setup.faults.push(Fault { at: Time(chance.between(1_000, FAULTY - 1)), kind });
        }
    }
}

fn fault(chance: &mut Stream, setup: &Setup) -> FaultKind {
    let node = chance.pick(&setup.nodes);
    let a_while = Millis(chance.between(10, 120_000));
    // Together, or one by one.
    let apart = Millis(*chance.pick(&[0, 10, 1_000, 20_000]));
    match chance.between(0, 13) {
        0 | 1 => {
            FaultKind::PowerOffAll { branch: branch(chance, node), back_after: a_while, apart }
        }
        2 | 3 => FaultKind::CutOffAll { branch: branch(chance, node), lasts: a_while, apart },
        4 => FaultKind::LoseNodeDisk {
            node: node.name.clone(),
            // Never before its silence was noticed.
            back_after: Millis(chance.between(60_000, 180_000)),
        },
        5 => FaultKind::ClockForward { by: far(chance) },
        6 => FaultKind::ClockBack { by: far(chance) },
        7 => FaultKind::HostSleeps { lasts: a_while },
        8 => FaultKind::SlowDisk {
            lasts: Millis(chance.between(5_000, 300_000)),
            commit: Millis(chance.between(500, 15_000)),
        },
        9 => FaultKind::FillDisk { lasts: a_while, room: chance.between(0, 4_000) },
        10 | 11 => FaultKind::TakeOver {
            after: Millis(chance.between(0, 20_000)),
            late: Millis(chance.between(1_000, 300_000)),
        },
        _ => FaultKind::Upgrade {
            back_after: Millis(chance.between(0, 20_000)),
            policy: (!setup.policies.is_empty())
                .then(|| chance.between(0, setup.policies.len() as u64 - 1) as u32),
        },
    }
}

fn branch(chance: &mut Stream, node: &lindos_model::NodeSpec) -> Branch {
    let place = &node.location;
    match chance.between(0, 2) {
        0 => Branch::Rack(place.rack.clone()),
        1 => Branch::Leaf(place.leaf.clone()),
        _ => Branch::Feed(place.pdu.clone()),
    }
}

/// From half a second to two hours: small ones are as likely as large ones.
fn far(chance: &mut Stream) -> Millis {
    let most = *chance.pick(&[1_000, 30_000, 600_000, 7_200_000]);
    Millis(chance.between(500, most))
}
