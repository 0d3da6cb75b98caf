//! After an attempt has ended: who is to blame, who pays for the retry, and what comes next.

use crate::gang::attempt::{Attempt, Phase};
use crate::job::Job;
use lindos_model::reason::Charge;
use lindos_model::{EndReason, Exit, Millis, NodeId, Policy, Rank, RankExit, SymptomKind, Time};

/// Ends within this time of each other may be one fault that spread: peers of a killed rank lose
/// their connection and exit by themselves, and their reports may come first.
pub const SPREAD: Millis = Millis(5_000);

/// The rank to blame among those that ended on their own account, if the attempt ended by that.
///
/// A rank that was killed from outside, or lost, is the cause before any that returned an exit
/// status around the same time: a dead peer makes programs exit, while an exit kills no peer.
/// Beyond that, the first to end is the cause. What ended a replica before was told then, and the
/// others went on without it.
pub fn blame(attempt: &Attempt) -> Option<(Rank, NodeId, &RankExit)> {
    let mut failures: Vec<(Rank, NodeId, &RankExit)> = attempt.failures().collect();
    failures.sort_by_key(|(rank, _, exit)| (exit.at, *rank));
    let first = failures.first()?.2.at;
    let from_outside = failures
        .iter()
        .find(|(_, _, exit)| is_from_outside(&exit.exit) && exit.at.since(first) <= SPREAD);
    from_outside.or(failures.first()).copied()
}

/// Whether the rank to blame said of its own program why it ended, before anybody was stopped.
pub fn has_explained_itself(attempt: &Attempt) -> bool {
    blame(attempt).is_some_and(|(rank, ..)| {
        let said = attempt.evidence.symptoms.get(&rank);
        said.is_some_and(|said| matches!(said.kind, SymptomKind::Program | SymptomKind::Memory))
    })
}

impl Attempt {
    /// Whether a node that fell silent may be why ranks have ended: not if it was heard long after that
    /// was told. Both are by the control plane's clock; when a rank has ended is by its node's.
    pub fn may_be_why(&self, last_heard: Time, now: Time) -> bool {
        let told_at = match self.phase {
            Phase::Stopping { since, .. } => since,
            _ => now,
        };
        last_heard <= told_at + SPREAD
    }
}

pub fn is_from_outside(exit: &Exit) -> bool {
    matches!(exit, Exit::Lost | Exit::OutOfMemory)
        || matches!(exit, Exit::Signal(number) if matches!(number, 1 | 2 | 9 | 15))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Completed,
    Cancelled,
    Failed,
    /// Try again after this wait.
    Retry {
        charge: Charge,
        backoff: Millis,
    },
}

impl Verdict {
    /// Whether the job goes on at once and where it was: it was stopped by a fault, and not for
    /// others.
    pub fn is_at_once(&self, reason: &EndReason) -> bool {
        let at_once = matches!(self, Verdict::Retry { backoff: Millis::ZERO, .. });
        at_once && !reason.is_by_the_queue()
    }
}

/// What becomes of a job whose attempt has ended for `reason`, when `charge` pays for it.
pub fn verdict(job: &Job, reason: &EndReason, charge: Charge, policy: &Policy) -> Verdict {
    if job.spec.time_limit.is_some_and(|limit| Millis(job.held_ms) >= limit)
        && *reason != EndReason::Completed
    {
        // A next attempt would be stopped as soon as it was launched.
        return if *reason == EndReason::Cancelled { Verdict::Cancelled } else { Verdict::Failed };
    }
    match reason {
        _ if reason.is_by_the_queue() => {
            return Verdict::Retry { charge, backoff: Millis::ZERO };
        }
        EndReason::Completed => return Verdict::Completed,
        EndReason::Cancelled => return Verdict::Cancelled,
        _ => {}
    }
    let may_retry = match charge {
        Charge::Final => false,
        Charge::Nobody => true,
        Charge::Infrastructure => job.infrastructure_used < job.spec.retry_infrastructure,
        Charge::User => job.user_used < job.spec.retry_user,
    };
    if may_retry {
        Verdict::Retry { charge, backoff: policy.backoff(job.failures_without_progress) }
    } else {
        Verdict::Failed
    }
}
