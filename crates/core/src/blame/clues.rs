//! From what is known of a fault to clues on the scales.
//!
//! Each clue says how likely it is, in decibans, under each hypothesis; what is common to all is
//! left out. The figures are judgements, held against thousands of faults with known culprits by
//! `lindos sim validate blame`.

use super::answer::SharedPlace;
use super::weigh::{Scales, WELL_COUNTED};
use crate::Core;
use crate::gang::attempt::Attempt;
use crate::health::places::shared_at;
use crate::health::record::Open;
use crate::job::{Job, PastAttempt};
use crate::recovery::rules;
use lindos_model::blame::{Blame, Clue, Culprit, Sign};
use lindos_model::finding::{Severity, Suspect};
use lindos_model::{
    Activity, Apart, EndReason, Exit, Millis, NodeId, Rank, StackPlace, Stall, Symptom,
    SymptomKind, Time,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What was found so long before the end of an attempt may have to do with it.
const FRESH: Millis = Millis::from_secs(600);
/// Ends of attempts count as one point when they are no further apart than this.
const SAME_POINT: Millis = Millis::from_secs(2);
/// An end within so many steps of the start is no surprise at any of them.
const SOON: u64 = 5;
/// A link that fails is just what makes others lose their peers.
const FITS: i32 = 10;
const STRIKE: i32 = 5;
/// A machine that was slow before it failed is a little likelier to be why: heat, memory and disks
/// often do worse before they do nothing. It may as well have had more to do.
const WAS_SLOW: i32 = 4;
const STRIKES_COUNTED: u32 = 3;
const TIMES_COUNTED: u32 = 3;

/// How likely a clue that picks machines out is, in decibans: when a picked one is to blame, when
/// another machine is, the job, or something else.
struct Pick {
    guilty: i32,
    other: i32,
    user: i32,
    elsewhere: i32,
}

const fn pick(guilty: i32, other: i32, user: i32, elsewhere: i32) -> Pick {
    Pick { guilty, other, user, elsewhere }
}

/// A rank was killed from outside, or vanished: a dead peer kills nobody.
const KILLED_FIRST: Pick = pick(-1, -15, -15, -10);
/// A rank returned a status and said nothing: most often the program, often a victim.
const EXITED_FIRST: Pick = pick(-6, -11, 0, -4);
const STOPPED: Pick = pick(0, -25, -25, -20);
const BLOCKED: Pick = pick(-1, -18, -18, -6);
/// Most stand in a collective, and this rank stands elsewhere: its machine holds it up, or a branch
/// in the program leads it past.
const OUTSIDE: Pick = pick(-2, -12, -6, -8);
const BEHIND: Pick = pick(-2, -10, -6, -8);
const UNLIKE: Pick = pick(-4, -8, -5, -6);
const ALL_ALIKE: Pick = pick(-8, -8, -2, -1);
/// The silence, or the refusal, is itself the fault; that an innocent machine falls silent in the
/// very same seconds is next to impossible.
const IS_THE_FAULT: i32 = 70;

/// Clues of one fault, and what they weigh.
#[derive(Debug)]
pub struct Gathered {
    pub scales: Scales,
    pub clues: Vec<(Option<NodeId>, Sign, i32)>,
    /// And how many of its machines have clues.
    pub(crate) places: Vec<(SharedPlace, u32)>,
    /// The machine that a clue has picked out alone.
    pub picked: Option<NodeId>,
    /// Some rank's last words were of another that it could not reach.
    has_lost_a_peer: bool,
}

impl Core {
    /// All that speaks for or against anybody, for a fault that has ended these members of an
    /// attempt: one replica, or all. What happens in another replica ends none of these.
    pub fn gather(
        &self,
        job: &Job,
        attempt: &Attempt,
        members: Range<usize>,
        reason: &EndReason,
    ) -> Gathered {
        let size = members.len() as u64;
        let is_hang = matches!(reason, EndReason::Hang { .. });
        // Where all ranks have ended well, nobody is held up.
        let member_on = |node: NodeId| {
            let member = self.fleet.allocation_of(node, job.id)?.member;
            let is_done = is_hang && attempt.has_done_its_part(member as usize);
            (members.contains(&(member as usize)) && !is_done).then_some((member, node))
        };
        let (scales, clues, places) = (Scales::of_gang(size), Vec::new(), Vec::new());
        let has_lost_a_peer =
            attempt.last_words(&members).any(|(_, _, said)| said.kind == SymptomKind::Peer);
        let mut all = Gathered { scales, clues, places, picked: None, has_lost_a_peer };
        match reason {
            EndReason::RankExited { .. } => all.first_end(attempt),
            EndReason::Hang { .. } => all.silence(attempt),
            EndReason::NodeSilent { .. } => {
                all.is_the_fault(self.node_of(reason), Sign::Silent);
            }
            EndReason::AttemptLost { .. } => {
                all.is_the_fault(self.node_of(reason), Sign::LostTrace);
            }
            EndReason::Refused { .. } => all.is_the_fault(self.node_of(reason), Sign::Refused),
            EndReason::NodeOut { class, .. } => {
                let sign = Sign::Found { class: class.clone(), fresh: true };
                all.is_the_fault(self.node_of(reason), sign);
            }
            EndReason::LossBroken { rank, step } => {
                let sign = Sign::LossBroken { rank: *rank, step: *step };
                all.user(sign, 6);
            }
            _ => {}
        }
        if let Some((silent, last_heard)) = attempt.unheard
            && may_have_ended(attempt, reason, last_heard, self.now)
        {
            let away = self.fleet.away().iter().filter_map(|&node| member_on(node));
            let away: BTreeSet<(u32, NodeId)> = away.collect();
            let others = away.into_iter().map(|(_, node)| node).filter(|&node| node != silent);
            let silent = member_on(silent).map(|(_, node)| node);
            for node in silent.into_iter().chain(others) {
                if self.node_of(reason) != Some(node) {
                    all.is_the_fault(Some(node), Sign::Silent);
                }
            }
        }
        all.last_words(attempt, &members);
        all.was_slow(attempt, &members);
        self.found(attempt, &members, &member_on, &mut all);
        self.past(job, attempt, reason, &mut all);
        self.shared(job, &mut all);
        all
    }

    /// What checks have found on these machines of the gang, and what they were to blame for before.
    fn found(
        &self,
        attempt: &Attempt,
        members: &Range<usize>,
        member_on: &impl Fn(NodeId) -> Option<(u32, NodeId)>,
        all: &mut Gathered,
    ) {
        let begun = attempt.launched_at.max(Time(self.now.0.saturating_sub(FRESH.0)));
        let window = Millis(self.policy.repair.strikes_window_ms);
        // From whichever side there are fewer to look at.
        let known = &self.conspicuous;
        let conspicuous: BTreeSet<NodeId> = if members.len() < known.count() {
            let nodes = attempt.members[members.clone()].iter().map(|member| member.node);
            nodes.filter(|&node| known.has(node) && member_on(node).is_some()).collect()
        } else {
            known.iter().filter(|&node| member_on(node).is_some()).collect()
        };
        for (node, health) in conspicuous.into_iter().map(|node| (node, &self.health[node])) {
            for open in health.open.iter().filter(|open| !open.is_let_be) {
                all.finding(node, open, open.last >= begun && open.since >= begun);
            }
            let recent = |at: &&Time| self.now.since(**at) < window;
            let times = health.strikes.iter().filter(recent).count() as u32;
            if times > 0 {
                let weight = STRIKE * times.min(STRIKES_COUNTED).cast_signed();
                all.node(node, Sign::Struck { times }, weight);
            }
        }
    }

    /// Whether the job has ended like this before.
    fn past(&self, job: &Job, attempt: &Attempt, reason: &EndReason, all: &mut Gathered) {
        let has_trained = |past: &PastAttempt| past.first_step_at.is_some();
        if attempt.first_step_at.is_none() && !job.history.iter().any(has_trained) {
            all.user(Sign::NeverTrained, 6);
        }
        let span = SAME_POINT.0.max(self.policy.progress_interval_ms * 2);
        let is_near = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => {
                one.abs_diff(other) <= 1
                    || one.abs_diff(other).saturating_mul(attempt.pace.step_ms.unwrap_or(span))
                        <= span
            }
            (one, other) => one.is_none() && other.is_none(),
        };
        let is_same = |past: &&PastAttempt| {
            is_alike(&past.reason, reason) && is_near(past.last_step, attempt.pace.step)
        };
        let past = job.history.iter().rev().filter(|past| !past.reason.is_by_the_queue());
        let same: Vec<&PastAttempt> = past.take_while(is_same).collect();
        // Again on the machine that is suspected now, it says nothing of the job.
        let is_elsewhere =
            |past: &&PastAttempt| all.picked.is_none() || self.culprit_of(past) != all.picked;
        let times = same.into_iter().filter(is_elsewhere).count() as u32;
        if times > 0 {
            // Whatever fails soon after a start fails near the step that it resumed from.
            let done =
                attempt.pace.step.map(|step| step - attempt.resumed_from.unwrap_or(0).min(step));
            let is_telling = done.is_some_and(|steps| steps > SOON);
            let each = if matches!(reason, EndReason::Hang { .. }) { 6 } else { 10 };
            let each = if is_telling { each } else { each / 2 };
            all.user(Sign::SameAgain { times }, each * times.min(TIMES_COUNTED).cast_signed());
        }
    }

    fn culprit_of(&self, past: &PastAttempt) -> Option<NodeId> {
        match past.blame.as_ref().map(|blame| &blame.culprit) {
            Some(Culprit::Node(name)) => self.fleet.by_name(name),
            _ => self.node_of(&past.reason),
        }
    }

    /// Places that hold several of the machines that clues speak for.
    fn shared(&self, job: &Job, all: &mut Gathered) {
        if all.scales.suspects().nth(1).is_none() {
            return;
        }
        let places = self.fleet.places();
        let mut suspected: Vec<(u32, NodeId)> = Vec::new();
        for node in all.scales.suspects() {
            let known = places.of(node).iter().filter(|&&place| place != 0);
            suspected.extend(known.map(|&place| (place, node)));
        }
        suspected.sort_unstable();
        // Of those in a place that are well, as many as count.
        let is_well = |&&node: &&NodeId| {
            self.fleet.allocation_of(node, job.id).is_some() && !all.scales.is_suspect(node)
        };
        let well =
            |place| places.nodes(place).iter().filter(is_well).take(WELL_COUNTED as usize).count();
        let mut found = Vec::new();
        for of_one in suspected.chunk_by(|one, other| one.0 == other.0) {
            let (place, first) = of_one[0];
            if of_one.len() > 1 {
                let kind = places.of(first).iter().position(|&other| other == place);
                let kind = kind.expect("the place is one of the node's");
                let nodes: Vec<NodeId> = of_one.iter().map(|&(_, node)| node).collect();
                let name = shared_at(&self.fleet.node(first).spec.location)[kind];
                found.push((kind, name, nodes, well(place) as u32));
            }
        }
        found.sort_unstable_by_key(|&(kind, name, ..)| (kind, name));
        for (kind, name, nodes, well) in found {
            all.places.push((SharedPlace { kind, name: name.to_string() }, nodes.len() as u32));
            all.scales.place(nodes, well);
        }
    }

    /// Clues for people, the strongest first.
    pub fn clues_by_name(&self, clues: &[(Option<NodeId>, Sign, i32)]) -> Vec<Clue> {
        let mut clues: Vec<&(Option<NodeId>, Sign, i32)> = clues.iter().collect();
        clues.sort_by_key(|(_, _, weight)| std::cmp::Reverse(weight.abs()));
        let named = clues.into_iter().map(|(node, sign, weight)| Clue {
            node: node.map(|node| self.fleet.node(node).spec.name.clone()),
            sign: sign.clone(),
            weight: *weight as i16,
        });
        named.take(Blame::CLUES_MAX).collect()
    }
}

impl Gathered {
    fn note(&mut self, node: Option<NodeId>, sign: Sign, weight: i32) {
        self.clues.push((node, sign, weight));
    }

    fn node(&mut self, node: NodeId, sign: Sign, weight: i32) {
        self.scales.node(node, weight);
        self.note(Some(node), sign, weight);
    }

    fn user(&mut self, sign: Sign, weight: i32) {
        self.scales.user(weight);
        self.note(None, sign, weight);
    }

    fn is_the_fault(&mut self, node: Option<NodeId>, sign: Sign) {
        if let Some(node) = node {
            self.picked = Some(node);
            self.node(node, sign, IS_THE_FAULT);
        }
    }

    /// A clue that picks machines out.
    fn pick(&mut self, nodes: &[NodeId], likely: &Pick) -> i32 {
        let gain = self.scales.picks(nodes.len() as u64) + likely.guilty - likely.other;
        self.scales.every_node(likely.other);
        self.scales.user(likely.user);
        self.scales.elsewhere(likely.elsewhere);
        for &node in nodes {
            self.scales.node(node, gain);
        }
        if let [node] = nodes {
            self.picked = Some(*node);
        }
        gain
    }

    fn first_end(&mut self, attempt: &Attempt) {
        let Some((rank, node, end)) = rules::blame(attempt) else { return };
        let said = attempt.evidence.symptoms.get(&rank).map(|symptom| symptom.kind);
        let sign = Sign::EndedFirst { rank, exit: end.exit.clone() };
        if rules::is_from_outside(&end.exit) && end.exit != Exit::OutOfMemory {
            let gain = self.pick(&[node], &KILLED_FIRST);
            self.note(Some(node), sign, gain);
        } else if said == Some(SymptomKind::Peer) {
            // It ended because another did: that it was first picks nobody.
            self.scales.elsewhere(3);
            self.scales.node(node, -6);
            self.note(Some(node), sign, -6);
        } else {
            let gain = self.pick(&[node], &EXITED_FIRST);
            self.note(Some(node), sign, gain);
            if end.exit == Exit::OutOfMemory {
                self.scales.user(12);
            }
        }
    }

    fn last_words(&mut self, attempt: &Attempt, members: &Range<usize>) {
        let mut seen: BTreeMap<SymptomKind, u32> = BTreeMap::new();
        for (rank, node, symptom) in attempt.last_words(members) {
            let times = seen.entry(symptom.kind).or_default();
            *times += 1;
            let is_first = *times == 1;
            let sign = Sign::Said { rank, symptom: symptom.clone() };
            match symptom.kind {
                SymptomKind::Program if is_first => self.user(sign, 15),
                SymptomKind::Program if *times == 2 => self.user(sign, 6),
                SymptomKind::Memory if is_first => self.user(sign, 12),
                SymptomKind::Device => self.node(node, sign, 25),
                SymptomKind::Storage => {
                    if *times <= 2 {
                        self.scales.elsewhere(9);
                    }
                    self.node(node, sign, 6);
                }
                SymptomKind::Peer if is_first => self.note(Some(node), sign, 0),
                _ => {}
            }
        }
    }

    fn was_slow(&mut self, attempt: &Attempt, members: &Range<usize>) {
        let Some(slow) = &attempt.evidence.straggler else { return };
        if let Some(node) = attempt.node_of_rank(slow.rank)
            && members.contains(&attempt.member_of_rank(slow.rank))
        {
            let sign = Sign::WasSlow { rank: slow.rank, cost_permille: slow.cost_permille };
            self.node(node, sign, WAS_SLOW);
        }
    }

    fn silence(&mut self, attempt: &Attempt) {
        let Some(stall) = &attempt.evidence.stall else { return };
        let strong = strongest(stall);
        let is_clear = strong.as_ref().is_some_and(|(_, _, is_clear)| *is_clear);
        let outside = outside(attempt);
        if !outside.is_empty() && !is_clear {
            return self.outside(attempt, &outside);
        }
        let Some((likely, apart, _)) = strong else {
            self.pick(&[], &ALL_ALIKE);
            return self.note(None, Sign::AllAlike, ALL_ALIKE.user - ALL_ALIKE.guilty);
        };
        let on = |apart: &Apart| attempt.node_of_rank(apart.rank);
        let mut nodes: Vec<NodeId> = apart.iter().filter_map(on).collect();
        nodes.sort();
        nodes.dedup();
        let gain = self.pick(&nodes, &likely);
        for node in nodes {
            let first = apart.iter().find(|apart| on(apart) == Some(node));
            let Some(&Apart { rank, step, activity }) = first else { continue };
            self.note(Some(node), Sign::StoodApart { rank, step, activity }, gain);
        }
    }

    fn outside(&mut self, attempt: &Attempt, outside: &[(Rank, StackPlace)]) {
        let on = |rank: Rank| attempt.node_of_rank(rank);
        let mut nodes: Vec<NodeId> = outside.iter().filter_map(|(rank, _)| on(*rank)).collect();
        nodes.sort();
        nodes.dedup();
        let gain = self.pick(&nodes, &OUTSIDE);
        for node in nodes {
            let first = outside.iter().find(|(rank, _)| on(*rank) == Some(node));
            let Some(&(rank, place)) = first else { continue };
            self.note(Some(node), Sign::OutsideCollective { rank, place }, gain);
        }
    }

    fn finding(&mut self, node: NodeId, open: &Open, fresh: bool) {
        let finding = &open.finding;
        // What only follows from another finding counts with that.
        if finding.cause.is_some() || finding.class.as_str() == "node.lemon" {
            return;
        }
        let (fresh_weight, old_weight, user) = match (finding.severity, finding.suspect) {
            (Severity::AppFatal, Suspect::User) => (3, 0, 10),
            (Severity::AppFatal, _) => (15, 3, 3),
            (severity, _) if severity.is_loss_of_hardware() => (45, 8, 0),
            (Severity::Warning, _) => (20, 3, 0),
            (Severity::Nonfatal, _) => (8, 1, 0),
            _ => (0, 0, 0),
        };
        let weight = if fresh { fresh_weight } else { old_weight };
        if finding.suspect == Suspect::Peer && fresh {
            self.scales.elsewhere(10);
        }
        if fresh {
            self.scales.user(user);
        }
        if weight > 0 {
            let is_a_link = matches!(finding.class.part(), "nic" | "nvlink" | "pcie");
            let fits = if fresh && is_a_link && self.has_lost_a_peer { FITS } else { 0 };
            let class = finding.class.to_string();
            self.node(node, Sign::Found { class, fresh }, weight + fits);
        }
    }
}

/// Ranks that did not come to the collective in which most others wait.
fn outside(attempt: &Attempt) -> Vec<(Rank, StackPlace)> {
    let Some(stacks) = &attempt.evidence.stacks else { return Vec::new() };
    let outside = stacks.known - stacks.in_collective.min(stacks.known);
    let are_few = outside * 2 <= stacks.in_collective;
    if are_few { stacks.outside.clone() } else { Vec::new() }
}

/// The ranks that a silence points at most clearly, and whether that is clearer than where they
/// stand in the program.
fn strongest(stall: &Stall) -> Option<(Pick, Vec<Apart>, bool)> {
    let of = |wanted: &dyn Fn(&Apart) -> bool| -> Vec<Apart> {
        stall.apart.iter().filter(|apart| wanted(apart)).copied().collect()
    };
    let does = |what: Activity| move |apart: &Apart| apart.activity == Some(what);
    let is_behind = |apart: &Apart| apart.step.is_some_and(|step| step < stall.step);
    let is_unlike = |apart: &Apart| {
        apart.activity.is_some() && stall.most.is_some() && apart.activity != stall.most
    };
    [
        (STOPPED, of(&does(Activity::Stopped)), true),
        (BLOCKED, of(&does(Activity::Blocked)), true),
        (BEHIND, of(&is_behind), false),
        (UNLIKE, of(&is_unlike), false),
    ]
    .into_iter()
    .find(|(_, ranks, _)| !ranks.is_empty())
}

/// Whether a node that went silent may be why the attempt ended: not if it was heard long after.
fn may_have_ended(
    attempt: &Attempt,
    reason: &EndReason,
    last_heard: Option<Time>,
    now: Time,
) -> bool {
    // One that has said itself what was wrong with its program was no victim of anybody.
    if matches!(reason, EndReason::RankExited { .. }) && rules::has_explained_itself(attempt) {
        return false;
    }
    match (reason, last_heard) {
        (EndReason::RankExited { .. }, Some(heard)) => attempt.may_be_why(heard, now),
        _ => true,
    }
}

/// Whether two attempts ended in the same way.
fn is_alike(one: &EndReason, other: &EndReason) -> bool {
    match (one, other) {
        (EndReason::RankExited { exit: one, .. }, EndReason::RankExited { exit: other, .. }) => {
            one == other
        }
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

impl Attempt {
    pub fn node_of_rank(&self, rank: Rank) -> Option<NodeId> {
        self.members.get(self.member_of_rank(rank)).map(|member| member.node)
    }

    fn has_done_its_part(&self, member: usize) -> bool {
        self.members[member].succeeded == self.ranks_per_node
    }

    fn member_of_rank(&self, rank: Rank) -> usize {
        (rank.0 / u32::from(self.ranks_per_node.max(1))) as usize
    }

    /// What ranks of some members have said before they ended.
    fn last_words(&self, members: &Range<usize>) -> impl Iterator<Item = (Rank, NodeId, &Symptom)> {
        let said = self.evidence.symptoms.iter();
        said.filter_map(move |(&rank, symptom)| {
            let member = self.member_of_rank(rank);
            members.contains(&member).then(|| (rank, self.members[member].node, symptom))
        })
    }
}
