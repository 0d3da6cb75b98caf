//! Who is to blame for a fault.
//!
//! What is seen of the ranks is gathered while an attempt runs ([`evidence`]). When it has ended by a
//! fault, all that is known becomes clues ([`clues`]), and the clues a verdict with a confidence
//! ([`weigh`]). The verdict decides who pays for the retry, whether a machine has earned a strike,
//! and what the job keeps away from; when it is not sure, nobody is condemned by it: the job starts
//! again where it was, and what happens next is a clue.

pub(crate) mod answer;
pub mod clues;
pub mod evidence;
pub mod weigh;

use crate::Core;
use crate::effect::Effects;
use crate::gang::attempt::Attempt;
use crate::job::Job;
use answer::{Answer, answer};
use lindos_model::blame::{Blame, Culprit};
use lindos_model::reason::Charge;
use lindos_model::{EndReason, Epoch, JobId, NodeId, TrailKind};
use std::collections::BTreeMap;
use std::ops::Range;
use weigh::Who;

/// From this on a verdict overturns what the kind of the end says of who pays.
const OVERTURNS: u8 = 75;
/// … of a silence, which comes at the same step twice by chance more easily than an end does.
const OVERTURNS_A_SILENCE: u8 = 80;
/// More machines than this are no choice between a few.
const FEW: usize = 4;

/// A verdict, with what the core needs to act on it.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub blame: Blame,
    /// The machine to blame, if it is likely that one is.
    pub node: Option<NodeId>,
    /// Of 100, that it was the job itself.
    pub user_percent: u8,
    pub answer: Answer,
}

impl Verdict {
    /// Who pays: as the kind of the end says, unless the evidence says otherwise.
    pub fn charge(&self, reason: &EndReason) -> Charge {
        let others = 100 - self.user_percent.min(100);
        // A silence before the first step is one, too.
        let is_silence = matches!(reason, EndReason::Hang { .. } | EndReason::NoFirstStep { .. });
        let overturns = if is_silence { OVERTURNS_A_SILENCE } else { OVERTURNS };
        match reason.charge() {
            Charge::User if others >= overturns => Charge::Infrastructure,
            Charge::Infrastructure if self.user_percent >= overturns => Charge::User,
            charge => charge,
        }
    }

    /// Whether it tells more than the reason does.
    fn says_more(&self, reason: &EndReason) -> bool {
        self.blame.clues.len() > 1 || matches!(reason, EndReason::Hang { .. })
    }
}

/// Whether it is a fault at all, and nobody has ordered it.
fn is_weighed(reason: &EndReason) -> bool {
    matches!(reason.charge(), Charge::Infrastructure | Charge::User)
}

impl Core {
    /// Of a fault that has ended these members of an attempt: one replica, or all.
    pub(crate) fn verdict_on(
        &self,
        job: &Job,
        attempt: &Attempt,
        members: Range<usize>,
        reason: &EndReason,
    ) -> Option<Verdict> {
        if !is_weighed(reason) {
            return None;
        }
        let gathered = self.gather(job, attempt, members, reason);
        let shares = gathered.scales.weigh();
        let percent = |share: u32| (share / 100) as u8;
        let user = shares.iter().find(|(who, _)| *who == Who::User);
        let (top, share) = shares[0];
        let few: Vec<(NodeId, u32)> = shares
            .iter()
            .take(FEW)
            .map_while(|(who, share)| who.node().map(|node| (node, *share)))
            .collect();
        let together: u32 = few.iter().map(|(_, share)| share).sum();
        let name = |node: NodeId| self.fleet.node(node).spec.name.clone();
        let is_sure = |share: u32| percent(share) >= Blame::SURE;
        let (culprit, share) = match top {
            Who::Node(node) if is_sure(share) || !is_sure(together) => {
                (Culprit::Node(name(node)), share)
            }
            Who::Node(_) => {
                (Culprit::OneOf(one_of(&few).into_iter().map(name).collect()), together)
            }
            Who::User => (Culprit::User, share),
            Who::Place(index) => {
                let (place, nodes) = gathered.places[index].clone();
                (Culprit::Shared { place: place.to_string(), nodes }, share)
            }
            Who::Elsewhere => (Culprit::Unknown, share),
        };
        let likely = percent(share) >= Blame::LIKELY;
        let culprit = if likely { culprit } else { Culprit::Unknown };
        let node = top.node().filter(|_| matches!(culprit, Culprit::Node(_)));
        let clues = self.clues_by_name(&gathered.clues);
        let blame = Blame { culprit, percent: percent(share), clues };
        let user_percent = user.map_or(0, |&(_, share)| percent(share));
        let place = match top {
            Who::Place(index) => Some(&gathered.places[index].0),
            _ => None,
        };
        let gang = self.unseen_in_silence(attempt, reason);
        let answer = answer(&blame, &one_of(&few), gang.as_deref(), place);
        Some(Verdict { blame, node, user_percent, answer })
    }

    /// The replica of a gang in which the machines stand that are likely to be why none of it gets
    /// on.
    pub(crate) fn replica_to_blame(
        &self,
        job: &Job,
        attempt: &Attempt,
        reason: &EndReason,
    ) -> Option<usize> {
        let gathered = self.gather(job, attempt, 0..attempt.members.len(), reason);
        let mut by_replica: BTreeMap<usize, u32> = BTreeMap::new();
        for (who, share) in gathered.scales.weigh() {
            if let Some(allocation) = who.node().and_then(|n| self.fleet.allocation_of(n, job.id)) {
                *by_replica.entry(attempt.replica_of(allocation.member as usize)).or_default() +=
                    share;
            }
        }
        let (replica, share) = by_replica.into_iter().max_by_key(|&(_, share)| share)?;
        ((share / 100) as u8 >= Blame::LIKELY).then_some(replica)
    }

    /// The machines of a gang that hung with all of its ranks alike, where they are few enough to be
    /// tested.
    fn unseen_in_silence(&self, attempt: &Attempt, reason: &EndReason) -> Option<Vec<NodeId>> {
        let is_hang = matches!(reason, EndReason::Hang { .. });
        let is_small = attempt.members.len() <= self.policy.repair.suspects_max as usize;
        let is_unseen = attempt.evidence.stall.as_ref().is_some_and(|stall| stall.apart.is_empty());
        let nodes = attempt.members.iter().map(|member| member.node);
        (is_hang && is_small && is_unseen).then(|| nodes.collect())
    }

    /// Tells people what was made of the evidence, where that is more than the reason says.
    pub(crate) fn say_verdict(
        &mut self,
        about: (JobId, Epoch),
        reason: &EndReason,
        verdict: &Verdict,
        out: &mut Effects,
    ) {
        if verdict.says_more(reason) {
            let what = TrailKind::Weighed { blame: Box::new(verdict.blame.clone()) };
            self.say(Some((about.0, Some(about.1))), verdict.node, what, out);
        }
    }
}

/// The few that are sure together: as many of them as it takes.
fn one_of(few: &[(NodeId, u32)]) -> Vec<NodeId> {
    let mut sum = 0;
    let mut nodes = Vec::new();
    for &(node, share) in few {
        nodes.push(node);
        sum += share;
        if sum / 100 >= u32::from(Blame::SURE) {
            break;
        }
    }
    nodes
}
