//! The replicas of a job that is made of several.

use lindos_api::user::ReplicaView;
use lindos_core::gang::attempt::{Attempt, Phase, Replica, ReplicaState};
use lindos_model::{EndReason, NodeId, Time};

/// Replicas of which a sentence says why they do not train; more are counted.
const NAMED_MAX: usize = 3;

/// What a replica is doing.
enum Doing<'a> {
    Launched,
    Training { since: Time },
    Stopping { reason: &'a EndReason, since: Time },
    Waiting { since: Time, until: Time },
}

fn doing<'a>(attempt: &'a Attempt, replica: &'a Replica) -> Doing<'a> {
    match (&attempt.phase, &replica.state) {
        (Phase::Stopping { reason, since }, _) | (_, ReplicaState::Stopping { reason, since }) => {
            Doing::Stopping { reason, since: *since }
        }
        (_, &ReplicaState::Waiting { since, until }) => Doing::Waiting { since, until },
        (_, ReplicaState::Launched) => {
            replica.first_step_at.map_or(Doing::Launched, |since| Doing::Training { since })
        }
    }
}

/// Nothing for a gang that is one.
pub(super) fn replicas(attempt: &Attempt) -> Vec<ReplicaView> {
    if attempt.replicas.len() == 1 {
        return Vec::new();
    }
    let view = |(index, replica): (usize, &Replica)| {
        let (state, since, reason) = match doing(attempt, replica) {
            Doing::Launched => ("launched", replica.launched_at, None),
            Doing::Training { since } => ("training", since, None),
            Doing::Stopping { reason, since } => ("stopping", since, Some(reason.clone())),
            Doing::Waiting { since, .. } => ("waiting", since, None),
        };
        ReplicaView {
            replica: index as u32,
            epoch: replica.epoch.0,
            state: state.to_string(),
            since: Some(since.0),
            reason,
        }
    };
    attempt.replicas.iter().enumerate().map(view).collect()
}

/// How many of them train, and what the others do; nothing for a gang that is one.
pub(super) fn sentence(attempt: &Attempt, now: Time) -> Option<String> {
    let all = attempt.replicas.len();
    if all == 1 {
        return None;
    }
    let numbered = || attempt.replicas.iter().enumerate();
    let others: Vec<String> =
        numbered().filter_map(|(index, replica)| other(attempt, index, replica, now)).collect();
    if others.is_empty() {
        return Some(format!("all {all} replicas train"));
    }
    let mut parts = vec![format!("{} of {all} replicas train", all - others.len())];
    let more = others.len().saturating_sub(NAMED_MAX);
    parts.extend(others.into_iter().take(NAMED_MAX));
    if more > 0 {
        parts.push(format!("and {more} more do not"));
    }
    Some(parts.join("; "))
}

/// Nodes of replicas that wait for some of them.
pub(super) fn waited_for(attempt: &Attempt) -> impl Iterator<Item = NodeId> {
    let numbered = attempt.replicas.iter().enumerate();
    let waiting =
        numbered.filter(|(_, replica)| matches!(replica.state, ReplicaState::Waiting { .. }));
    let members = waiting.flat_map(|(index, _)| attempt.members_of(index));
    members.map(|member| attempt.members[member].node)
}

/// What a replica does that does not train.
fn other(attempt: &Attempt, index: usize, replica: &Replica, now: Time) -> Option<String> {
    match doing(attempt, replica) {
        Doing::Training { .. } => None,
        Doing::Launched => {
            Some(format!("replica {index} is starting for {}", now.since(replica.launched_at)))
        }
        Doing::Stopping { reason, .. } => {
            Some(format!("replica {index} is being stopped, because {reason}"))
        }
        Doing::Waiting { until, .. } if until > now => {
            Some(format!("replica {index} is launched again in {}", until.since(now)))
        }
        Doing::Waiting { .. } => {
            Some(format!("replica {index} waits for nodes in place of those that are out"))
        }
    }
}
