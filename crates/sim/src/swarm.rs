//! The swarm: random fleets, jobs and faults over a network that loses, repeats, delays and
//! reorders, with the control plane killed at any event, and every checker watching.

use crate::fault::{Fault, FaultKind, Network, Plant};
use crate::random::Stream;
use crate::script::{Bug, Script};
use crate::world::{Setup, SimJob, SimReservation, run};
use lindos_model::policy::{Class, QueueRule, Team};
use lindos_model::reservation::Purpose;
use lindos_model::{Level, Location, Millis, NodeSpec, Policy, Time, job};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Faults come within this time; jobs have this much again, and more, to end.
const FAULTY: u64 = 20 * 60_000;
const LIMIT: u64 = 10 * 3_600_000;

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct SeedResult {
    pub seed: u64,
    pub node_ms: u64,
    pub happenings: u64,
    pub faults: u32,
    pub violation: Option<String>,
}

/// Plays one seed. A panic of the core or of a checker is a violation, not the end of the swarm.
pub fn play(seed: u64, plant: Option<Plant>) -> SeedResult {
    let setup = setup(seed, plant);
    match catch_unwind(AssertUnwindSafe(|| run(setup))) {
        Ok(outcome) => SeedResult {
            seed,
            node_ms: outcome.node_ms,
            happenings: outcome.happenings,
            faults: outcome.jobs.iter().map(|job| job.faults).sum(),
            violation: None,
        },
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let violation = Some(message.unwrap_or_else(|| "a panic without words".into()));
            SeedResult { seed, node_ms: 0, happenings: 0, faults: 0, violation }
        }
    }
}

/// The line that plays a seed again.
pub fn reproduce(seed: u64) -> String {
    format!("lindos sim swarm --first-seed {seed} --seeds 1")
}

/// The random setup of a seed.
pub fn setup(seed: u64, plant: Option<Plant>) -> Setup {
    let mut chance = Stream::new(seed, "setup");
    let policy = random_policy(&mut chance);
    let gpus = *chance.pick(&[1_u16, 4, 8]);
    let count = chance.between(2, 12) as u32;
    let per_rack = chance.between(1, 4) as u32;
    let nodes: Vec<NodeSpec> = (0..count)
        .map(|index| NodeSpec {
            name: format!("n{index}"),
            gpus,
            platform: "sim".into(),
            address: "127.0.0.1".into(),
            location: Location {
                leaf: format!("l{}", index / per_rack / 2),
                rack: format!("r{}", index / per_rack),
                ..Location::default()
            },
            labels: [("half".to_string(), (index % 2).to_string())].into(),
        })
        .collect();
    let policy = Policy { spares: policy.spares.min(count - 1), ..policy };
    let room = Room { nodes: (count - policy.spares).max(1), count, per_rack, gpus };
    let mut jobs = Vec::new();
    for number in 0..chance.between(1, 8) {
        let job = random_job(&mut chance, number, &room, &jobs);
        jobs.push(job);
    }
    make_replicas(seed, &mut jobs);
    keep_spares(seed, &mut jobs);
    let reservations = random_reservations(seed, &nodes);
    let mut setup = Setup {
        seed,
        policy,
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
        heartbeat: Millis(1000),
        healed_at: Some(Time(FAULTY)),
        limit: Time(LIMIT),
        plant,
    };
    for _ in 0..chance.between(0, 25) {
        let fault = random_fault(&mut chance, &setup);
        setup.faults.push(fault);
    }
    setup
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
            steps: chance.between(1, 400),
            step: Millis(chance.between(20, 4_000)),
            checkpoint_every: chance.between(0, 40),
            checkpoint: Millis(chance.between(0, 50_000)),
            reports,
            bug,
        },
    }
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
            FaultKind::Hang { job }
        }
        2 | 3 => FaultKind::KillAgent { node, back_after: a_while },
        4 => FaultKind::KillAgentAndRanks { node, back_after: Millis(chance.between(10, 3_000)) },
        5 => FaultKind::PowerOff { node, back_after: a_while },
        6 => FaultKind::CutOff { node, lasts: a_while },
        7..=9 => FaultKind::KillControlPlane { back_after: a_while },
        10 if chance.chance(300_000) => FaultKind::Cancel { job },
        10 => FaultKind::Drain { node },
        11 => FaultKind::FillDisk { lasts: a_while },
        _ => FaultKind::Undrain { node },
    };
    Fault { at: Time(chance.between(1_000, FAULTY - 1)), kind }
}
