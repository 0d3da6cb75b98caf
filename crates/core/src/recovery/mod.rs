//! What comes after an attempt.

pub mod interval;
pub mod rules;

use crate::Core;
use crate::blame::answer::Answer;
use crate::effect::Effects;
use crate::gang::attempt::{Attempt, Phase};
use crate::job::PastAttempt;
use lindos_model::reason::Charge;
use lindos_model::report::Refusal;
use lindos_model::{EndReason, Epoch, JobId, TrailKind};
use rules::Verdict;

/// The most epochs that a job skips because an agent has seen them.
const EPOCH_LEAP: u32 = 1_000_000;

impl Core {
    /// An attempt is over and its GPUs are free: who is to blame, who pays, what comes next.
    pub(crate) fn on_attempt_over(
        &mut self,
        id: JobId,
        out: &mut Effects,
    ) -> (EndReason, Verdict, Answer) {
        let now = self.now;
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref().expect("its attempt is over");
        let Phase::Stopping { reason: first_reason, .. } = &attempt.phase else {
            panic!("an attempt of job {id} is gone and was never stopped")
        };
        let first_reason = first_reason.clone();
        let reason = self.final_reason(attempt, &first_reason);
        let whole = 0..attempt.members.len();
        let blamed = self.verdict_on(job, attempt, whole, &reason);
        let charge = blamed.as_ref().map_or(reason.charge(), |blamed| blamed.charge(&reason));
        let epoch = attempt.epoch;
        let past = PastAttempt {
            epoch,
            launched_at: attempt.launched_at,
            first_step_at: attempt.first_step_at,
            ended_at: now,
            resumed_from: attempt.resumed_from,
            last_step: attempt.pace.step,
            reason: reason.clone(),
            charge,
            blame: blamed.as_ref().map(|blamed| blamed.blame.clone()),
            nodes: attempt.members.iter().map(|member| member.node).collect(),
        };
        let step = attempt.pace.step;
        let failed_on = match &blamed {
            Some(blamed) => blamed.node,
            None => self.node_of(&reason).filter(|_| !reason.is_by_the_queue()),
        };
        let is_a_fault = blamed.is_some() && charge == Charge::Infrastructure;
        self.struck.extend(failed_on.filter(|_| is_a_fault));
        let job = self.jobs.get_mut(&id).expect("it was just there");
        if let EndReason::Refused { refusal: Refusal::StaleEpoch { newest }, .. } = &reason {
            // An agent remembers more than this journal: go on above what it has seen.
            job.epoch = job.epoch.max((*newest).min(Epoch(job.epoch.0.saturating_add(EPOCH_LEAP))));
        }
        // A job that tells no steps is taken to get on when it runs for longer than it would wait.
        let ran_long = now.since(past.launched_at).0 >= self.policy.backoff_max_ms;
        let got_on = step > job.best_step || (!job.is_expected_to_report() && ran_long);
        job.best_step = job.best_step.max(step);
        if let Some(node) = failed_on.filter(|_| !got_on && past.first_step_at.is_none()) {
            job.shunned.note(node);
        }
        // A victim of others has not failed.
        if !reason.is_by_the_queue() {
            let failures = job.failures_without_progress;
            job.failures_without_progress = if got_on { 1 } else { failures.saturating_add(1) };
        }
        job.remember(past);
        self.note_exposure(id, charge);
        let job = self.jobs.get_mut(&id).expect("it was just there");
        let verdict = rules::verdict(job, &reason, charge, &self.policy);
        if let Verdict::Retry { charge, .. } = verdict {
            match charge {
                Charge::Infrastructure => job.infrastructure_used += 1,
                Charge::User => job.user_used += 1,
                Charge::Nobody | Charge::Final => {}
            }
        }
        let from_step = job.checkpoint_step;
        let retries_left = match charge {
            Charge::User => job.spec.retry_user - job.user_used,
            _ => job.spec.retry_infrastructure - job.infrastructure_used,
        };
        let about = Some((id, Some(epoch)));
        if let Some(blamed) = &blamed {
            self.say_verdict((id, epoch), &reason, blamed, out);
        }
        if reason != first_reason || charge != reason.charge() || charge == Charge::User {
            let node = self.node_of(&reason);
            self.say(about, node, TrailKind::Blamed { reason: reason.clone(), charge }, out);
        }
        if let Verdict::Retry { backoff, .. } = verdict {
            self.say(about, None, TrailKind::Resumes { from_step, retries_left, backoff }, out);
        }
        let answer = blamed.map_or(Answer::InPlace, |blamed| blamed.answer);
        (reason, verdict, answer)
    }

    /// The reason with all evidence in: the reports that came while the attempt was being stopped
    /// may show an earlier or a better cause.
    fn final_reason(&self, attempt: &Attempt, first: &EndReason) -> EndReason {
        if !matches!(first, EndReason::RankExited { .. }) {
            return first.clone();
        }
        let name = |node| self.fleet.node(node).spec.name.clone();
        let Some((rank, node, exit)) = rules::blame(attempt) else { return first.clone() };
        let blamed = EndReason::RankExited { rank, node: name(node), exit: exit.exit.clone() };
        match attempt.unheard {
            // Peers of a dead node exit by themselves, long before its silence is noticed; but a
            // node that was heard long after the exit did not cause it.
            Some((silent, last_heard))
                if blamed.charge() == Charge::User
                    && !rules::has_explained_itself(attempt)
                    && last_heard.is_none_or(|heard| attempt.may_be_why(heard, self.now)) =>
            {
                EndReason::NodeSilent { node: name(silent) }
            }
            _ => blamed,
        }
    }

    pub(crate) fn node_of(&self, reason: &EndReason) -> Option<lindos_model::NodeId> {
        match reason {
            EndReason::RankExited { node, .. }
            | EndReason::NodeSilent { node }
            | EndReason::AttemptLost { node }
            | EndReason::NodeOut { node, .. }
            | EndReason::Refused { node, .. } => self.fleet.by_name(node),
            _ => None,
        }
    }
}
