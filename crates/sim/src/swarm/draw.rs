//! What a seed draws: a fleet, jobs, and what goes wrong.

use super::{FAULTY, harder};
use crate::fault::{Fault, FaultKind, Network, Plant};
use crate::random::Stream;
use crate::script::{Bug, Script};
use crate::world::{Setup, SimJob, SimReservation};
use lindos_model::policy::{Class, QueueRule, Team};
use lindos_model::reservation::Purpose;
use lindos_model::{Level, Location, Millis, NodeSpec, Policy, Time, job};
use std::sync::Arc;

const LIMIT: u64 = 10 * 3_600_000;
/// The largest fleets.
const NODES_MAX: u64 = 25_000;
/// Of a large fleet: the largest gang, the longest training, and the nodes that may be reserved.
const GANG_MAX: u32 = 256;
const STEPS_MAX: u64 = 60;
const RESERVED_MAX: usize = 64;

/// The random setup of a seed.
pub fn setup(seed: u64, plant: Option<Plant>) -> Setup {
    let mut chance = Stream::new(seed, "setup");
    let policy = random_policy(&mut chance);
    let gpus = *chance.pick(&[1_u16, 4, 8]);
    let size = Size::of(seed, &mut chance);
    let (count, per_rack) = (size.nodes, size.per_rack);
    let nodes: Vec<NodeSpec> = (0..count).map(|index| node(index, per_rack, gpus)).collect();
    let policy = size.slow_down(Policy { spares: policy.spares.min(count - 1), ..policy });
    let most = if size.is_large() { GANG_MAX } else { count };
    let room = Room { nodes: (count - policy.spares).clamp(1, most), count, per_rack, gpus };
    let mut jobs = Vec::new();
    for number in 0..chance.between(1, 8) {
        let mut job = random_job(&mut chance, number, &room, &jobs);
        if size.is_large() {
            job.script.steps = job.script.steps.min(STEPS_MAX);
        }
        jobs.push(job);
    }
    make_replicas(seed, &mut jobs);
    break_losses(seed, &mut jobs);
    keep_spares(seed, &mut jobs);
    keep_warm(seed, &mut jobs);
    let reservations = random_reservations(seed, &nodes[..nodes.len().min(RESERVED_MAX)]);
    let limit = limit(&jobs);
    let mut setup = Setup {
        seed,
        policy,
        policies: Vec::new(),
        standby: None,
        nodes,
        jobs,
        reservations,
        faults: Vec::new(),
        network: Network {
            delay_min: Millis(1),
            delay_max: Millis(chance.between(1, 800)),
            lost_ppm: chance.between(0, 50_000) as u32,
            repeated_ppm: chance.between(0, 50_000) as u32,
        },
        heartbeat: size.heartbeat(),
        healed_at: Some(Time(FAULTY)),
        limit,
        plant,
    };
    for _ in 0..chance.between(0, 25) {
        let fault = random_fault(&mut chance, &setup);
        setup.faults.push(fault);
    }
    harder::mix_sizes(seed, &mut setup);
    harder::findings(seed, &mut setup);
    harder::tests(seed, &mut setup);
    harder::later_policies(seed, &mut setup);
    harder::standby(seed, &mut setup);
    harder::slow_nodes(seed, &mut setup);
    harder::silent_ranks(seed, &mut setup);
    harder::faults(seed, &mut setup);
    setup
}

fn node(index: u32, per_rack: u32, gpus: u16) -> NodeSpec {
    let rack = index / per_rack;
    NodeSpec {
        name: format!("n{index}"),
        gpus,
        platform: "sim".into(),
        address: "127.0.0.1".into(),
        location: Location {
            leaf: format!("l{}", rack / 2),
            rack: format!("r{rack}"),
            // A feed crosses the leaves.
            pdu: format!("f{}", rack % (2 + rack / 16)),
            ..Location::default()
        },
        labels: [("half".to_string(), (index % 2).to_string())].into(),
    }
}

/// How large the fleet is. Most are small, because a small one meets more in the same time.
struct Size {
    nodes: u32,
    per_rack: u32,
}

impl Size {
    fn of(seed: u64, chance: &mut Stream) -> Size {
        let (nodes, per_rack) = (chance.between(2, 12) as u32, chance.between(1, 4) as u32);
        let chance = &mut Stream::new(seed, "size");
        match chance.between(0, 999) {
            0 => Size { nodes: chance.between(1_000, NODES_MAX) as u32, per_rack: per_rack * 8 },
            1..=10 => Size { nodes: chance.between(100, 1_000) as u32, per_rack: per_rack * 4 },
            11..=60 => Size { nodes: chance.between(13, 100) as u32, per_rack: per_rack * 2 },
            _ => Size { nodes, per_rack },
        }
    }

    fn is_large(&self) -> bool {
        self.nodes >= 100
    }

    /// Of a large fleet each node says less, so that all of them together say about as much.
    fn heartbeat(&self) -> Millis {
        Millis(1_000 * u64::from(self.nodes / 250).clamp(1, 60))
    }

    fn slow_down(&self, policy: Policy) -> Policy {
        let node_silent_ms = policy.node_silent_ms.max(self.heartbeat().0 * 5 / 2);
        Policy { node_silent_ms, ..policy }
    }
}

/// What jobs may ask for so that they can start at all.
struct Room {
    /// Besides the spares.
    nodes: u32,
    count: u32,
    per_rack: u32,
    gpus: u16,
}

fn random_policy(chance: &mut Stream) -> Policy {
    let team = |name: &str, parent: &str, share| Team {
        name: name.into(),
        parent: parent.into(),
        share,
        limit: None,
    };
    let teams = if chance.chance(500_000) {
        let part = chance.between(0, 16);
        vec![team("a", "", part + 8), team("b", "", chance.between(0, 32)), team("c", "a", part)]
    } else {
        Vec::new()
    };
    let class = |name: &str, priority, preempts| Class { name: name.into(), priority, preempts };
    Policy {
        spares: chance.between(0, 2) as u32,
        node_silent_ms: chance.between(3_000, 15_000),
        progress_interval_ms: chance.between(500, 5_000),
        queue: *chance.pick(&[
            QueueRule::Fair,
            QueueRule::Fair,
            QueueRule::Backfill,
            QueueRule::Fifo,
        ]),
        teams,
        classes: vec![class("low", -5, false), class("urgent", 5, true)],
        usage_half_life_ms: chance.between(10_000, 1_000_000),
        wait_max_ms: chance.between(60_000, 3_600_000),
        reservations_max: chance.between(1, 4) as u32,
        preempt_grace_ms: chance.between(0, 600_000),
        ..Policy::default()
    }
}

fn random_job(chance: &mut Stream, number: u64, room: &Room, before: &[SimJob]) -> SimJob {
    let nodes = chance.between(1, u64::from(room.nodes)) as u32;
    let per_node = chance.between(1, u64::from(room.gpus)) as u16;
    let mut spec = job::sample(&format!("job{number}"), nodes, per_node);
    spec.priority = chance.between(0, 2) as i32;
    spec.class = (*chance.pick(&["", "", "", "low", "urgent"])).to_string();
    spec.team = (*chance.pick(&["a", "b", "c"])).to_string();
    // The first rack is a full one, or all there is.
    let rack = room.per_rack.min(room.nodes);
    match chance.between(0, 9) {
        0 => (spec.within, spec.nodes) = (Level::Rack, nodes.min(rack)),
        1 => {
            (spec.within, spec.segment) = (Level::Rack, Some(rack));
            let segments = (room.count / room.per_rack).max(1).min(room.nodes / rack);
            spec.nodes = chance.between(1, u64::from(segments)) as u32 * rack;
        }
        2 if room.nodes > 1 => {
            // Half of the nodes have it; spares may be of that half.
            spec.labels = [("half".to_string(), "0".to_string())].into();
            spec.nodes = 1;
        }
        _ => {}
    }
    spec.min_nodes = spec.nodes;
    let mut after = Vec::new();
    if let Some(first) = before.last().filter(|_| chance.chance(150_000)) {
        after.push((first.spec.name.clone(), chance.chance(500_000)));
    }
    if chance.chance(50_000) {
        spec.array = Some(chance.between(1, 3) as u32);
    }
    spec.ranks_per_node = chance.between(1, 4) as u16;
    if chance.chance(300_000) && spec.segment.is_none() {
        spec.min_nodes = chance.between(1, u64::from(spec.nodes)) as u32;
    }
    if chance.chance(300_000) {
        spec.time_limit = Some(Millis(chance.between(10_000, 600_000)));
    }
    let reports = chance.chance(800_000);
    if reports {
        spec.progress_pattern = Some("step (?<step>[0-9]+)".into());
    }
    let bug = chance
        .chance(200_000)
        .then(|| Bug { step: chance.between(1, 50), attempts: chance.between(1, 3) as u32 });
    SimJob {
        at: Time(chance.between(0, FAULTY / 2)),
        spec: Arc::new(spec),
        after,
        script: Script {
            startup: Millis(chance.between(100, 30_000)),
            saved_warm: Millis::ZERO,
            stands_by: false,
            steps: chance.between(1, 400),
            step: Millis(chance.between(20, 4_000)),
            checkpoint_every: chance.between(0, 40),
            checkpoint: Millis(chance.between(0, 50_000)),
            reports,
            bug,
            loss_breaks: None,
        },
    }
}

/// The losses of some jobs break. A stream of their own, as above.
fn break_losses(seed: u64, jobs: &mut [SimJob]) {
    let chance = &mut Stream::new(seed, "losses");
    for job in jobs {
        let breaks = chance.chance(80_000);
        let (step, attempts) = (chance.between(1, 100), chance.between(1, 3) as u32);
        job.script.loss_breaks = (breaks && job.script.reports).then_some(Bug { step, attempts });
    }
}

/// By when all must have ended: time for all of them twice, one after another.
fn limit(jobs: &[SimJob]) -> Time {
    let all = jobs.iter().map(|job| job.script.alone().0 * u64::from(job.spec.array.unwrap_or(1)));
    Time(LIMIT.max(FAULTY + 2 * all.sum::<u64>()))
}

/// Some gangs are made of replicas. A stream of their own: without them, a seed is what it was.
fn make_replicas(seed: u64, jobs: &mut [SimJob]) {
    let chance = &mut Stream::new(seed, "replicas");
    for job in jobs {
        let nodes = job.spec.nodes;
        let wants = nodes > 1 && job.spec.min_nodes == nodes && chance.chance(400_000);
        let counts: Vec<u32> = (2..=nodes).filter(|count| nodes.is_multiple_of(*count)).collect();
        if wants {
            let spec = Arc::make_mut(&mut job.spec);
            spec.replicas = *chance.pick(&counts);
            spec.replicas_min = chance.between(1, u64::from(spec.replicas)) as u32;
        }
    }
}

/// Some jobs keep spares for themselves. A stream of their own: without them, a seed is what it was.
fn keep_spares(seed: u64, jobs: &mut [SimJob]) {
    let chance = &mut Stream::new(seed, "spares of jobs");
    for job in jobs {
        if chance.chance(250_000) {
            let most = u64::from(job.spec.nodes.min(3));
            Arc::make_mut(&mut job.spec).spares = chance.between(1, most) as u32;
        }
    }
}

/// Processes of some jobs wait for a rank. A stream of their own: without them, a seed is what it was.
fn keep_warm(seed: u64, jobs: &mut [SimJob]) {
    let chance = &mut Stream::new(seed, "warm");
    for job in jobs {
        let spares = u64::from(job.spec.spares);
        let warm_spares = if spares > 0 { chance.between(0, spares) } else { 0 };
        let warm_restarts = chance.chance(100_000);
        if warm_spares == 0 && !warm_restarts {
            continue;
        }
        let spec = Arc::make_mut(&mut job.spec);
        (spec.warm_spares, spec.warm_restarts) = (warm_spares as u32, warm_restarts);
        let saved_warm = Millis(chance.between(0, job.script.startup.0));
        if chance.chance(900_000) {
            (job.script.stands_by, job.script.saved_warm) = (true, saved_warm);
        }
    }
}

/// Reservations of nodes of their own, all over when everything is healed. A stream of their own:
/// without them, a seed is what it was.
fn random_reservations(seed: u64, nodes: &[NodeSpec]) -> Vec<SimReservation> {
    let chance = &mut Stream::new(seed, "reservations");
    if chance.chance(500_000) {
        return Vec::new();
    }
    let mut reservations: Vec<SimReservation> = Vec::new();
    // Nodes of one that is over are reserved again.
    let count = chance.between(1, 4);
    for number in 0..count {
        let wanted = chance.between(50_000, 1_000_000) as u32;
        let at = chance.between(0, FAULTY - 120_000);
        let is_free = |node: &str| {
            let has = |other: &SimReservation| {
                other.nodes.iter().any(|name| name == node) && other.until.0 > at
            };
            !reservations.iter().any(has)
        };
        let free = nodes.iter().filter(|node| is_free(&node.name) && chance.chance(wanted));
        let names: Vec<String> = free.map(|node| node.name.clone()).collect();
        if names.is_empty() {
            continue;
        }
        let from = chance.between(at.saturating_sub(60_000), FAULTY - 60_000);
        let until = chance.between(from.max(at) + 1, FAULTY);
        let purpose = match *chance.pick(&["", "", "a", "b", "c"]) {
            "" => Purpose::Maintenance,
            team => Purpose::Team(team.into()),
        };
        let cancel_at = chance.chance(200_000).then(|| Time(chance.between(at, until)));
        reservations.push(SimReservation {
            at: Time(at),
            name: format!("reservation{number}"),
            purpose,
            nodes: names,
            from: Time(from),
            until: Time(until),
            cancel_at,
        });
    }
    reservations
}

fn random_fault(chance: &mut Stream, setup: &Setup) -> Fault {
    let job = chance.pick(&setup.jobs).spec.name.clone();
    let node = chance.pick(&setup.nodes).name.clone();
    let a_while = Millis(chance.between(10, 60_000));
    let kind = match chance.between(0, 12) {
        0 | 1 => FaultKind::KillRank { job, rank: chance.between(0, 3) as u32 },
        // A job that tells no steps cannot be seen to hang.
        2 if setup.jobs.iter().any(|j| j.spec.name == job && j.script.reports) => {
            FaultKind::Hang { job, rank: None }
        }
        2 | 3 => FaultKind::KillAgent { node, back_after: a_while },
        4 => FaultKind::KillAgentAndRanks { node, back_after: Millis(chance.between(10, 3_000)) },
        5 => FaultKind::PowerOff { node, back_after: a_while },
        6 => FaultKind::CutOff { node, lasts: a_while },
        7..=9 => FaultKind::KillControlPlane { back_after: a_while },
        10 if chance.chance(300_000) => FaultKind::Cancel { job },
        10 => FaultKind::Drain { node },
        11 => FaultKind::FillDisk { lasts: a_while, room: 0 },
        _ => FaultKind::Undrain { node },
    };
    Fault { at: Time(chance.between(1_000, FAULTY - 1)), kind }
}
