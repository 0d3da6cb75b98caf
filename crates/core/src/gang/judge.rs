//! What the ledger makes of an attempt's time: GPUs change columns as it goes, and time already
//! counted is judged anew when a fault or a checkpoint tells more of it.

use super::attempt::{Attempt, Lost};
use crate::Core;
use lindos_model::{Column, EndReason, JobId, Millis, Time};

impl Core {
    /// GPUs of a job change columns, come onto its account (`from` is `None`) or leave it.
    pub(crate) fn move_gpus(
        &mut self,
        id: JobId,
        from: Option<Column>,
        to: Option<Column>,
        gpus: u64,
    ) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it holds GPUs");
        job.ledger.accrue(now);
        if let Some(attempt) = &mut job.attempt {
            attempt.count(now, job.ledger.held[Column::Productive]);
        }
        if let Some(from) = from {
            job.ledger.held[from] -= gpus;
            self.held[from] -= gpus;
        }
        if let Some(to) = to {
            job.ledger.held[to] += gpus;
            self.held[to] += gpus;
        }
    }

    /// The node of a member comes back, or goes: its GPUs stand on the job's account only while it
    /// is there.
    pub(crate) fn on_member_there(&mut self, id: JobId, member: usize, is_there: bool) {
        let job = self.jobs.get_mut(&id).expect("it holds GPUs");
        let attempt = job.attempt.as_mut().expect("it holds GPUs");
        let gpus = u64::from(attempt.members[member].gpus.len());
        let index = attempt.replica_of(member);
        let column = Some(attempt.column(index));
        let replica = &mut attempt.replicas[index];
        if is_there {
            replica.gpus += gpus;
            self.move_gpus(id, None, column, gpus);
        } else {
            replica.gpus -= gpus;
            self.move_gpus(id, column, None, gpus);
        }
    }

    /// All GPUs that a job holds wait from now on.
    pub(super) fn all_gpus_wait(&mut self, id: JobId) {
        let held = self.jobs[&id].ledger.held;
        for (column, gpus) in held.iter().filter(|&(_, gpus)| gpus > 0) {
            self.move_gpus(id, Some(column), Some(Column::Waiting), gpus);
        }
    }

    /// Time of a job already counted is judged anew, for the fleet and for the job.
    pub(super) fn judge_anew(&mut self, id: JobId, from: Column, to: Column, gpu_ms: u64) {
        self.ledger.transfer(from, to, gpu_ms);
        let job = self.jobs.get_mut(&id).expect("it was just there");
        job.ledger.transfer(from, to, gpu_ms);
    }

    /// An attempt is over: the ledger's verdict on the work since the last checkpoint.
    pub(super) fn judge(&mut self, id: JobId, reason: &EndReason, is_fault: bool) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it was just there");
        job.ledger.accrue(now);
        let productive = job.ledger.held[Column::Productive];
        let attempt = job.attempt.as_mut().expect("it was just there");
        attempt.count(now, productive);
        if let Some(first_step_at) = attempt.first_step_at {
            if is_fault {
                // Word of a checkpoint may come later than the end of the work that it saved.
                let earliest = first_step_at + attempt.checkpointing;
                let until = work_ended_at(attempt, reason, now).clamp(earliest, now);
                let since = attempt.at_risk_since.min(until);
                let unseen = attempt.training_gpus() * now.since(until).0;
                let unseen = unseen.min(job.ledger.totals[Column::Productive]);
                let gpu_ms = attempt.at_risk.saturating_sub(unseen);
                attempt.lost = Some(Lost { since, until, gpu_ms });
                self.judge_anew(id, Column::Productive, Column::Lost, gpu_ms);
                self.judge_anew(id, Column::Productive, Column::Detect, unseen);
            }
        } else if let Some(all_up_at) = attempt.all_up_at {
            // A job that tells no steps works all the same.
            let ran = job.ledger.held[Column::Startup] * now.since(all_up_at).0;
            let ran = ran.min(job.ledger.totals[Column::Startup]);
            if *reason == EndReason::Completed {
                self.judge_anew(id, Column::Startup, Column::Productive, ran);
            } else if is_fault && !job.is_expected_to_report() {
                self.judge_anew(id, Column::Startup, Column::Lost, ran);
            }
        }
    }

    /// Work that was called lost is in a checkpoint, of which word comes only now.
    pub(super) fn find_saved(&mut self, id: JobId, lost: Lost, saved: Time) {
        let (span, saved_span) = (lost.until.since(lost.since).0, saved.since(lost.since).0);
        let gpu_ms = u128::from(lost.gpu_ms) * u128::from(saved_span) / u128::from(span.max(1));
        let gpu_ms = (gpu_ms as u64).min(lost.gpu_ms);
        let job = self.jobs.get_mut(&id).expect("it was just there");
        let attempt = job.attempt.as_mut().expect("it was just there");
        attempt.lost = Some(Lost { since: saved, gpu_ms: lost.gpu_ms - gpu_ms, ..lost });
        self.judge_anew(id, Column::Lost, Column::Productive, gpu_ms);
    }
}

impl Attempt {
    /// GPUs of the replicas that train, whether their nodes are still there or not.
    pub(super) fn training_gpus(&self) -> u64 {
        self.gpus / self.replicas.len() as u64 * self.training() as u64
    }

    /// Counts the productive time up to now that a fault would lose.
    pub(crate) fn count(&mut self, now: Time, productive: u64) {
        self.at_risk += productive * now.since(self.counted_at).0;
        self.counted_at = now;
    }

    /// The work before `since` is safe from now on, and so much more was no work at all.
    pub(super) fn save(&mut self, since: Time, now: Time, productive: u64, blocked: u64) {
        self.count(now, productive);
        self.at_risk = (productive * now.since(since).0).min(self.at_risk - blocked);
        self.at_risk_since = since;
    }
}

/// When the work that a fault ended really ended, as far as anybody can tell.
pub(super) fn work_ended_at(attempt: &Attempt, reason: &EndReason, now: Time) -> Time {
    match reason {
        EndReason::RankExited { rank, .. } => {
            let exit = attempt.rank(*rank).and_then(|state| state.exit.as_ref());
            exit.map_or(now, |exit| exit.at)
        }
        EndReason::Hang { silent, .. } => {
            let since = Time(now.0.saturating_sub(silent.0));
            since + Millis(attempt.pace.step_ms.unwrap_or(0))
        }
        EndReason::NoFirstStep { after } => Time(now.0.saturating_sub(after.0)),
        EndReason::NodeSilent { .. } => {
            let last_heard = attempt.unheard.and_then(|(_, last_heard)| last_heard);
            last_heard.unwrap_or(attempt.pace.step_at)
        }
        _ => now,
    }
}
