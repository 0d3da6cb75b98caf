//! Nodes that slow a job down: told of, remembered, and, where the policy says so, left.
//!
//! A rank that is slow on one node and then on another is given more to do than its peers: that is
//! its program's way, and no machine is taken out for it.

use super::ladder::Urgency;
use super::repair::Faults;
use crate::Core;
use crate::effect::Effects;
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity, Suspect};
use lindos_model::{Epoch, JobId, Millis, NodeId, Rank, Remedy, Straggler, TrailKind};
use std::collections::BTreeSet;

/// The class of what a node is taken out for.
pub const SLOW: FindingClass = FindingClass::known("node.straggler");

impl Core {
    /// A rank is slower than its peers; what the job loses by it may be a reason to leave its node.
    pub(crate) fn on_straggler_seen(
        &mut self,
        id: JobId,
        epoch: Epoch,
        straggler: &Straggler,
        out: &mut Effects,
    ) -> Faults {
        let Some(attempt) = self.attempt_at(id, epoch).filter(|attempt| !attempt.is_stopping())
        else {
            return Vec::new();
        };
        let Some(node) = attempt.node_of_rank(straggler.rank) else { return Vec::new() };
        let before = attempt.evidence.straggler.replace(*straggler);
        let is_new = before.is_none_or(|before| before.rank != straggler.rank);
        let job = self.jobs.get_mut(&id).expect("it was just there");
        let elsewhere =
            job.was_slow.is_some_and(|(rank, other)| rank == straggler.rank && other != node);
        if !elsewhere {
            job.was_slow = Some((straggler.rank, node));
        }
        if is_new {
            let what = TrailKind::StragglerSeen { straggler: Box::new(*straggler), elsewhere };
            self.note_slow(id, epoch, node, what, out);
        }
        if elsewhere || !self.costs_too_much(straggler) || !self.can_do_without(id, node) {
            return Vec::new();
        }
        let finding = slow(straggler);
        self.condemn(node, &finding, Remedy::Diagnose, Urgency::AtCheckpoint, is_new, out)
    }

    /// It keeps up again.
    pub(crate) fn on_straggler_gone(
        &mut self,
        id: JobId,
        epoch: Epoch,
        rank: Rank,
        out: &mut Effects,
    ) {
        let Some(attempt) = self.attempt_at(id, epoch) else { return };
        let is_it = attempt.evidence.straggler.is_some_and(|slow| slow.rank == rank);
        let Some(node) = attempt.node_of_rank(rank).filter(|_| is_it) else { return };
        attempt.evidence.straggler = None;
        self.note_slow(id, epoch, node, TrailKind::StragglerGone { rank }, out);
    }

    /// Told of the job, and remembered of the node.
    fn note_slow(
        &mut self,
        id: JobId,
        epoch: Epoch,
        node: NodeId,
        what: TrailKind,
        out: &mut Effects,
    ) {
        self.note_of(Some((id, Some(epoch))), node, what, out);
    }

    fn costs_too_much(&self, straggler: &Straggler) -> bool {
        let rules = &self.policy.repair;
        rules.straggler_cost_percent > 0
            && straggler.cost_permille >= rules.straggler_cost_percent.saturating_mul(10)
            && self.now.since(straggler.since) >= Millis(rules.straggler_ms)
    }

    /// Whether another node could take its place now: to wait for one costs more than to be slow.
    fn can_do_without(&mut self, id: JobId, node: NodeId) -> bool {
        let members = self.jobs[&id].attempt.as_ref().map_or(0, |attempt| attempt.members.len());
        self.stand_ins_but(id, 0..members, &BTreeSet::from([node])).is_some()
    }
}

fn slow(straggler: &Straggler) -> Finding {
    Finding {
        suspect: Suspect::Unclear,
        ..Finding::new(
            SLOW,
            Severity::Warning,
            Action::RunDiagnostics,
            FindingSource::Job,
            straggler.to_string(),
        )
    }
}
