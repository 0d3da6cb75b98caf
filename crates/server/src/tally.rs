//! What has happened since this control plane started, counted from the trail: for metrics alone.
//!
//! It is in no journal. Whoever reads counters knows that they begin anew.

use lindos_model::reason::Charge;
use lindos_model::{JobId, Outcome, Remedy, TrailEntry, TrailKind};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Launches of gangs, and of replicas that came back.
    pub launches: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub remedies: BTreeMap<(Remedy, &'static str), u64>,
    pub burn_ins: BTreeMap<&'static str, u64>,
    pub kept_in: u64,
    pub breakers_opened: u64,
    /// Faults of gangs that are being stopped: whom they are charged to is known at the end.
    open: BTreeMap<JobId, Charge>,
}

impl Tally {
    pub(crate) fn note(&mut self, entry: &TrailEntry) {
        match &entry.what {
            TrailKind::Placed { .. }
            | TrailKind::PlacedAgain { .. }
            | TrailKind::ReplicaLaunched { .. } => self.launches += 1,
            TrailKind::ReplicaLost { reason, .. } => self.fault(reason.charge()),
            TrailKind::Fault { reason, .. } => self.judge(entry.job, reason.charge()),
            TrailKind::Blamed { charge, .. } => self.judge(entry.job, *charge),
            TrailKind::Resumes { .. }
            | TrailKind::Failed { .. }
            | TrailKind::Completed
            | TrailKind::Cancelled
            | TrailKind::CancelledFor { .. } => {
                if let Some(charge) = entry.job.and_then(|job| self.open.remove(&job)) {
                    self.fault(charge);
                }
            }
            TrailKind::RemedyOver { remedy, outcome } => {
                *self.remedies.entry((*remedy, word(outcome))).or_default() += 1;
            }
            TrailKind::BurnInOver { outcome } => {
                *self.burn_ins.entry(word(outcome)).or_default() += 1;
            }
            TrailKind::KeptIn { .. } => self.kept_in += 1,
            TrailKind::BreakerOpened { .. } => self.breakers_opened += 1,
            _ => {}
        }
    }

    fn judge(&mut self, job: Option<JobId>, charge: Charge) {
        self.open.extend(job.map(|job| (job, charge)));
    }

    fn fault(&mut self, charge: Charge) {
        let whom = match charge {
            Charge::Infrastructure => "infrastructure",
            Charge::User => "user",
            Charge::Nobody | Charge::Final => "nobody",
        };
        *self.faults.entry(whom).or_default() += 1;
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed { .. } => "failed",
        Outcome::Unsupported => "unsupported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::{EndReason, Time};

    fn told(tally: &mut Tally, what: TrailKind) {
        let job = Some(JobId(1));
        tally.note(&TrailEntry { seq: 1, at: Time(1), job, epoch: None, node: None, what });
    }

    #[test]
    fn a_fault_counts_once_and_for_whom_it_was_charged_to_in_the_end() {
        let mut tally = Tally::default();
        let reason = EndReason::NodeOut { node: "n1".into(), class: "x".into(), planned: false };
        let first = reason.charge();
        assert_eq!(first, Charge::Infrastructure);
        told(&mut tally, TrailKind::Fault { reason: reason.clone(), step: 1 });
        assert!(tally.faults.is_empty(), "it is not judged yet");
        told(&mut tally, TrailKind::Blamed { reason: reason.clone(), charge: Charge::User });
        told(&mut tally, TrailKind::Failed { reason: reason.clone() });
        told(&mut tally, TrailKind::Failed { reason });
        assert_eq!(tally.faults, BTreeMap::from([("user", 1)]));
    }
}
