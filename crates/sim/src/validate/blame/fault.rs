//! Faults with a known culprit, and what is seen of each: most of the time its own signs, at times
//! those of its victims first, at times next to nothing.

use super::stage::Stage;
use crate::random::Stream;
use crate::twin::work::HANG_SHOWS;
use lindos_core::Event;
use lindos_core::blame::evidence::look_after;
use lindos_core::gang::attempt::Attempt;
use lindos_model::finding::{Severity, Suspect};
use lindos_model::{
    Activity, Apart, Exit, Millis, NodeId, Rank, StackPlace, Stacks, Stall, SymptomKind, Time,
};

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    User,
    Node(NodeId),
    /// All that these share.
    Place(Vec<NodeId>),
    /// Nothing that could be named.
    Elsewhere,
}

/// Beside each, its part of all faults. The parts follow the published causes of the interruptions
/// of a run of 54 days on 16,384 GPUs, with the seldom and hard ones made more frequent.
pub const KINDS: [(Kind, u32); 12] = [
    (Kind::GpuLost, 28),
    (Kind::NodeLost, 10),
    (Kind::Killed, 6),
    (Kind::Link, 10),
    (Kind::Bug, 13),
    (Kind::OutOfMemory, 4),
    (Kind::RankHangs, 10),
    (Kind::Deadlock, 3),
    (Kind::RackLost, 3),
    (Kind::Storage, 4),
    (Kind::WordlessExit, 5),
    (Kind::BadNumbers, 4),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    GpuLost,
    NodeLost,
    Killed,
    Link,
    Bug,
    OutOfMemory,
    RankHangs,
    Deadlock,
    RackLost,
    Storage,
    WordlessExit,
    BadNumbers,
}

impl Kind {
    pub const fn title(self) -> &'static str {
        match self {
            Kind::GpuLost => "a GPU fails, and the crash spreads",
            Kind::NodeLost => "a node dies, and its peers end first",
            Kind::Killed => "a rank is killed from outside",
            Kind::Link => "a link fails, and others time out first",
            Kind::Bug => "the program raises, at times twice alike",
            Kind::OutOfMemory => "the program wants more memory",
            Kind::RankHangs => "one rank stands still",
            Kind::Deadlock => "all ranks wait for each other",
            Kind::RackLost => "a rack loses power, node by node",
            Kind::Storage => "the storage fails all of them",
            Kind::WordlessExit => "a rank ends without a word",
            Kind::BadNumbers => "a GPU counts wrong: the loss breaks",
        }
    }

    pub fn draw(random: &mut Stream) -> Kind {
        let all: u32 = KINDS.iter().map(|(_, parts)| parts).sum();
        let mut at = random.between(0, u64::from(all) - 1) as u32;
        for (kind, parts) in KINDS {
            if at < parts {
                return kind;
            }
            at -= parts;
        }
        unreachable!("it is less than their sum")
    }

    /// How often it comes again at the same step, as a program does that stumbles over its data.
    pub fn repeats(self, random: &mut Stream) -> u32 {
        match self {
            Kind::Bug if random.chance(400_000) => 2,
            Kind::Deadlock if random.chance(500_000) => 3,
            _ => 1,
        }
    }
}

/// Does it to the job, which trains; whose fault it is. What is seen follows, and the attempt is to
/// be stopped for it.
pub fn strike(stage: &mut Stage, kind: Kind, random: &mut Stream) -> Truth {
    let gang = stage.gang();
    let culprit = *random.pick(&gang);
    decoys(stage, &gang, random);
    match kind {
        Kind::GpuLost => gpu_lost(stage, &gang, culprit, random),
        Kind::NodeLost => node_lost(stage, &gang, culprit, random),
        Kind::Killed => killed(stage, &gang, culprit, random),
        Kind::Link => return link(stage, &gang, culprit, random),
        Kind::Bug => return bug(stage, &gang, culprit, random),
        Kind::OutOfMemory => return out_of_memory(stage, culprit, random),
        Kind::RankHangs => rank_hangs(stage, culprit, random),
        Kind::Deadlock => return deadlock(stage, random),
        Kind::RackLost => return rack_lost(stage, &gang, culprit, random),
        Kind::Storage => return storage(stage, &gang, random),
        Kind::WordlessExit => wordless(stage, &gang, culprit, random),
        Kind::BadNumbers => bad_numbers(stage),
    }
    Truth::Node(culprit)
}

/// What is always found somewhere: old and harmless things, and now and then a fresh one.
fn decoys(stage: &mut Stage, gang: &[NodeId], random: &mut Stream) {
    for &node in gang {
        if random.chance(1000) {
            stage.finds(node, "nic.symbol_errors", Severity::Warning, Suspect::Unclear);
        }
        if random.chance(3000) {
            stage.finds(node, "memory.ecc_corrected", Severity::Nonfatal, Suspect::Hardware);
        }
    }
}

fn soon(stage: &mut Stage, random: &mut Stream, most_ms: u64) {
    stage.after(Millis(random.between(1, most_ms)));
}

/// Peers notice that somebody is gone, and end with their own words.
fn peers_end(stage: &mut Stage, gang: &[NodeId], but: NodeId, random: &mut Stream) {
    for _ in 0..random.between(1, 3) {
        let peer = *random.pick(gang);
        if peer != but {
            if random.chance(900_000) {
                stage.says(peer, SymptomKind::Peer);
            }
            stage.ends(peer, &Exit::Code(1));
            soon(stage, random, 1500);
        }
    }
}

fn gpu_lost(stage: &mut Stage, gang: &[NodeId], culprit: NodeId, random: &mut Stream) {
    if random.chance(850_000) {
        stage.finds(culprit, "gpu.xid.48", Severity::GpuFatal, Suspect::Hardware);
        soon(stage, random, 500);
    }
    let is_late = random.chance(300_000);
    if is_late {
        peers_end(stage, gang, culprit, random);
    }
    if random.chance(700_000) {
        stage.says(culprit, SymptomKind::Device);
    }
    let exit = if random.chance(500_000) { Exit::Signal(6) } else { Exit::Code(1) };
    stage.ends(culprit, &exit);
    if !is_late {
        soon(stage, random, 1000);
        peers_end(stage, gang, culprit, random);
    }
}

fn node_lost(stage: &mut Stage, gang: &[NodeId], culprit: NodeId, random: &mut Stream) {
    let last_heard = stage.now;
    soon(stage, random, 3000);
    if random.chance(700_000) {
        peers_end(stage, gang, culprit, random);
    }
    let heard_for = stage.now.since(last_heard);
    stage.after(Millis(5000_u64.saturating_sub(heard_for.0)));
    stage.is_silent_since(culprit, last_heard);
}

fn killed(stage: &mut Stage, gang: &[NodeId], culprit: NodeId, random: &mut Stream) {
    if random.chance(300_000) {
        peers_end(stage, gang, culprit, random);
    }
    stage.ends(culprit, &Exit::Signal(9));
    soon(stage, random, 500);
    peers_end(stage, gang, culprit, random);
}

fn link(stage: &mut Stage, gang: &[NodeId], culprit: NodeId, random: &mut Stream) -> Truth {
    let is_seen = random.chance(700_000);
    if is_seen {
        stage.finds(culprit, "nic.link_down", Severity::Warning, Suspect::Unclear);
        soon(stage, random, 2000);
    }
    peers_end(stage, gang, culprit, random);
    stage.says(culprit, SymptomKind::Peer);
    stage.ends(culprit, &Exit::Code(1));
    // Nobody could know whose link it was.
    if is_seen { Truth::Node(culprit) } else { Truth::Elsewhere }
}

fn bug(stage: &mut Stage, gang: &[NodeId], first: NodeId, random: &mut Stream) -> Truth {
    let says = random.chance(850_000);
    for node in [first, *random.pick(gang)] {
        if says {
            stage.says(node, SymptomKind::Program);
        }
        stage.ends(node, &Exit::Code(1));
        soon(stage, random, 300);
    }
    peers_end(stage, gang, first, random);
    Truth::User
}

fn out_of_memory(stage: &mut Stage, node: NodeId, random: &mut Stream) -> Truth {
    if random.chance(600_000) {
        stage.says(node, SymptomKind::Memory);
        stage.ends(node, &Exit::Code(1));
    } else {
        stage.ends(node, &Exit::OutOfMemory);
    }
    Truth::User
}

/// Ranks whose stacks are not in the collective in which all others stand, and how many cannot be asked.
#[derive(Clone, Debug, Default)]
struct Standing {
    outside: Vec<Rank>,
    deaf: u32,
}

/// `standing`: of a job whose ranks can be asked.
fn looks(stage: &mut Stage, most: Option<Activity>, apart: Vec<Apart>, standing: Option<Standing>) {
    let attempt = stage.attempt().expect("it runs");
    let (since, step) = (attempt.pace.step_at, attempt.pace.step.unwrap_or(0));
    let told = attempt.world_size();
    let wait = look_after(attempt.pace.step_ms);
    let behind = apart.iter().filter(|apart| apart.step.is_some_and(|at| at < step)).count();
    let at_step = told - behind as u32;
    let (job, epoch) = (stage.job, stage.epoch());
    let already = stage.now.since(since);
    stage.after(Millis(wait.0.saturating_sub(already.0)));
    if let Some(Standing { outside, deaf }) = standing {
        let known = told - deaf;
        let in_collective = known - outside.len() as u32;
        let outside = outside.into_iter().take(Stall::APART_MAX);
        let outside = outside.map(|rank| (rank, StackPlace::Elsewhere)).collect();
        let stacks = Box::new(Stacks { step, known, in_collective, outside });
        stage.tell(&Event::StacksSeen { job, epoch, stacks });
    }
    let stall = Box::new(Stall { since, step, told, at_step, most, apart });
    stage.tell(&Event::StallSeen { job, epoch, stall });
}

fn rank_hangs(stage: &mut Stage, culprit: NodeId, random: &mut Stream) {
    let most = *random.pick(&[Activity::Idle, Activity::Busy]);
    let step = stage.attempt().and_then(|attempt| attempt.pace.step).unwrap_or(0);
    let (rank, behind) = (stage.rank_on(culprit), Some(step.saturating_sub(1)));
    let mut apart = vec![match random.between(0, 3) {
        0 => Apart { rank, step: behind, activity: Some(Activity::Stopped) },
        1 => Apart { rank, step: behind, activity: Some(Activity::Blocked) },
        2 => Apart { rank, step: behind, activity: Some(Activity::Busy) },
        _ => Apart { rank, step: Some(step), activity: Some(other(most)) },
    }];
    if random.chance(200_000) {
        // Somebody else was not seen in time.
        let other =
            Rank(random.between(0, u64::from(stage.attempt().map_or(1, Attempt::world_size)) - 1)
                as u32);
        apart.push(Apart { rank: other, step: behind, activity: None });
    }
    let is_seen = random.chance((HANG_SHOWS * 1e6) as u32);
    let activity = apart[0].activity;
    let standing = stage.stacks.as_mut().map(|random| match activity {
        // A signal does not reach it.
        Some(Activity::Stopped | Activity::Blocked) => Standing { deaf: 1, ..Standing::default() },
        // In the collective itself, now and then.
        _ if random.chance(100_000) => Standing::default(),
        _ => Standing { outside: vec![rank], deaf: 0 },
    });
    looks(stage, Some(most), if is_seen { apart } else { Vec::new() }, standing);
}

fn other(activity: Activity) -> Activity {
    if activity == Activity::Idle { Activity::Busy } else { Activity::Idle }
}

fn deadlock(stage: &mut Stage, random: &mut Stream) -> Truth {
    let most = *random.pick(&[Activity::Idle, Activity::Busy]);
    let world_size = stage.attempt().map_or(1, Attempt::world_size);
    let standing = stage.stacks.as_mut().map(|random| {
        // A branch that one takes alone, or half of them take.
        let outside = if random.chance(500_000) {
            vec![Rank(random.between(0, u64::from(world_size) - 1) as u32)]
        } else {
            (0..world_size / 2).map(Rank).collect()
        };
        Standing { outside, deaf: 0 }
    });
    looks(stage, Some(most), Vec::new(), standing);
    Truth::User
}

fn rack_lost(stage: &mut Stage, gang: &[NodeId], first: NodeId, random: &mut Stream) -> Truth {
    let rack = stage.place(first).rack.clone();
    let lost: Vec<NodeId> =
        gang.iter().copied().filter(|&node| stage.place(node).rack == rack).collect();
    let since: Vec<Time> =
        lost.iter().map(|_| stage.now + Millis(random.between(0, 1000))).collect();
    stage.after(Millis(6000));
    for (&node, &last_heard) in lost.iter().zip(&since) {
        stage.is_silent_since(node, last_heard);
        soon(stage, random, 200);
    }
    if lost.len() > 1 { Truth::Place(lost) } else { Truth::Node(first) }
}

fn storage(stage: &mut Stage, gang: &[NodeId], random: &mut Stream) -> Truth {
    for _ in 0..random.between(2, 6) {
        let node = *random.pick(gang);
        stage.says(node, SymptomKind::Storage);
        stage.ends(node, &Exit::Code(1));
        soon(stage, random, 800);
    }
    Truth::Elsewhere
}

fn wordless(stage: &mut Stage, gang: &[NodeId], culprit: NodeId, random: &mut Stream) {
    stage.ends(culprit, &Exit::Signal(11));
    soon(stage, random, 1500);
    peers_end(stage, gang, culprit, random);
}

fn bad_numbers(stage: &mut Stage) {
    let (job, epoch) = (stage.job, stage.epoch());
    let step = stage.attempt().and_then(|attempt| attempt.pace.step).unwrap_or(0);
    stage.tell(&Event::LossBroken { job, epoch, rank: Rank(0), step });
}
