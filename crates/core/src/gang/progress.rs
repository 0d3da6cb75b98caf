//! How an attempt gets on: steps, checkpoints, and the silences that are too long.

use super::attempt::{Attempt, ReplicaState};
use crate::Core;
use crate::effect::Effects;
use crate::timer::Timer;
use lindos_model::{Column, EndReason, Epoch, JobId, Millis, Time, TrailKind};

/// After the last step a job may save, evaluate and clean up for this long.
const LAST_STEP: Millis = Millis::from_secs(600);
/// What is left of a deadline for the first step when the control plane comes back.
pub(super) const ADOPTION_GRACE: Millis = Millis::from_secs(30);

/// The edge of a reading: see [`crate::Event::StepReached`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub number: u64,
    pub total_steps: Option<u64>,
    pub loss_micro: Option<i64>,
    pub is_watched: bool,
}

impl Core {
    pub(crate) fn on_step_reached(
        &mut self,
        id: JobId,
        epoch: Epoch,
        told: Step,
        out: &mut Effects,
    ) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_over()) else { return };
        let Some(attempt) = job.attempt.as_mut() else { return };
        if !attempt.has_epoch(epoch) || attempt.is_stopping() {
            return;
        }
        let is_first = attempt.steps_first(epoch);
        let was_watched = std::mem::replace(&mut attempt.is_watched, told.is_watched);
        let gets_on = attempt.pace.on_step(now, told.number, was_watched);
        let is_whole = epoch == attempt.epoch;
        if gets_on {
            job.reports_steps = true;
            job.total_steps = told.total_steps.or(job.total_steps);
            job.first_loss_micro = job.first_loss_micro.or(told.loss_micro);
            job.last_loss_micro = told.loss_micro.or(job.last_loss_micro);
            if job.doubt.is_some_and(|doubt| told.number > doubt.step) {
                job.doubt = None;
                attempt.pace.doubted_ms = 0;
            }
            let is_last = job.total_steps.is_some_and(|total| told.number >= total);
            let wait = if is_last {
                LAST_STEP
            } else {
                attempt.pace.hang_timeout(job.spec.hang_timeout, &self.policy)
            };
            attempt.sign_at = now;
            attempt.hang_limit = wait;
            attempt.is_regrouping = false;
            attempt.evidence.stall = None;
            attempt.evidence.stacks = None;
            if told.is_watched {
                self.timers.cancel(Timer::Hang(id));
            } else {
                self.await_progress(id);
            }
        }
        // A replica that comes back tells a step that the others have long told.
        if is_first && (gets_on || !is_whole) {
            self.on_first_step(id, epoch, out);
        }
    }

    /// Replicas of this epoch have begun to train.
    fn on_first_step(&mut self, id: JobId, epoch: Epoch, out: &mut Effects) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it was just there");
        let attempt = job.attempt.as_mut().expect("it was just there");
        let (is_whole, replica) = (epoch == attempt.epoch, attempt.replica_at(epoch));
        let mut gpus = 0;
        let of_it = match replica.filter(|_| !is_whole) {
            Some(replica) => replica..replica + 1,
            None => 0..attempt.replicas.len(),
        };
        for replica in attempt.replicas[of_it].iter_mut().filter(|r| r.epoch == epoch) {
            if replica.state == ReplicaState::Launched && replica.first_step_at.is_none() {
                replica.first_step_at = Some(now);
                gpus += replica.gpus;
            }
        }
        self.move_gpus(id, Some(Column::Startup), Some(Column::Productive), gpus);
        let job = self.jobs.get_mut(&id).expect("it was just there");
        let attempt = job.attempt.as_mut().expect("it was just there");
        let mut is_last = false;
        let what = if is_whole {
            attempt.first_step_at = Some(now);
            job.shunned.forgive(attempt.members.iter().map(|member| member.node));
            attempt.at_risk_since = now;
            self.timers.cancel(Timer::FirstStep(id));
            TrailKind::FirstStep { after: now.since(attempt.launched_at) }
        } else {
            let replica = replica.expect("it has the epoch");
            attempt.rejoining.remove(&(replica as u32));
            // It says nothing of others, which may hang; where all of them have ended, its own time begins.
            is_last = attempt.not_ended().all(|other| other == replica);
            if is_last {
                attempt.sign_at = now;
            }
            let after = now.since(attempt.replicas[replica].launched_at);
            TrailKind::ReplicaBack { replica: replica as u32, after }
        };
        if is_last && self.timers.get(Timer::Hang(id)).is_some() {
            self.await_progress(id);
        }
        self.short_of_standbys.insert(id);
        self.say(Some((id, Some(epoch))), None, what, out);
    }

    /// Takes over what is said of a checkpoint. Whether it is one that the present attempt has just
    /// saved, and no older one of which word comes again.
    pub(crate) fn on_checkpoint_saved(
        &mut self,
        id: JobId,
        epoch: Epoch,
        step: u64,
        blocked_ms: u64,
        out: &mut Effects,
    ) -> bool {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_over()) else { return false };
        // It is durable, whatever has become of the attempt that saved it.
        if epoch > job.epoch || !job.note_checkpoint(epoch, step) {
            return false;
        }
        job.ledger.accrue(now);
        let productive = job.ledger.held[Column::Productive];
        let present = job.attempt.as_mut().filter(|attempt| attempt.epoch <= epoch);
        let is_present = present.is_some();
        if let Some(attempt) = present {
            attempt.pace.has_checkpointed = true;
            // The pause is known before the next step shows it; a fault may come in between.
            let blocked = blocked_ms.saturating_sub(attempt.blocked_ms);
            let is_told_late = attempt.is_stopping() || attempt.is_watched;
            let silent = if is_told_late { 0 } else { now.since(attempt.sign_at).0 };
            let pause = blocked.max(silent);
            job.is_pause_known = true;
            job.checkpoint_cost = Some(Millis(blocked));
            attempt.pace.longest_gap_ms = attempt.pace.longest_gap_ms.max(pause);
            job.longest_gap_ms = job.longest_gap_ms.max(attempt.pace.longest_gap_ms);
            if self.timers.get(Timer::Hang(id)).is_some() {
                // Whoever saves a checkpoint does not hang.
                let wait = attempt.pace.hang_timeout(job.spec.hang_timeout, &self.policy);
                attempt.sign_at = now;
                attempt.hang_limit = attempt.hang_limit.max(wait);
                self.timers.set(Timer::Hang(id), now + attempt.hang_limit);
            }
            if attempt.is_stopping() {
                // Word of it comes after the fault: what it saved was not lost.
                if let Some(lost) = attempt.lost {
                    let saved = attempt.pace.reached_at(step, lost.until);
                    self.find_saved(id, lost, saved.clamp(lost.since, lost.until));
                }
            } else if attempt.first_step_at.is_some() {
                attempt.count(now, productive);
                let at_risk = now.since(attempt.at_risk_since);
                let blocked = Millis(blocked).min(at_risk);
                attempt.blocked_ms = attempt.blocked_ms.max(blocked_ms);
                attempt.checkpointing = attempt.checkpointing + blocked;
                // The blocked time, which came after the step, has left the window in which a
                // fault loses work.
                let earliest = attempt.at_risk_since + blocked;
                let since = (attempt.pace.reached_at(step, now) + blocked).clamp(earliest, now);
                let blocked = (productive * blocked.0).min(attempt.at_risk);
                let before = attempt.at_risk - blocked;
                attempt.save(since, now, productive, blocked);
                if let Some(newest) = job.checkpoints.back_mut() {
                    newest.gpu_ms = before - attempt.at_risk;
                }
                self.judge_anew(id, Column::Productive, Column::Checkpoint, blocked);
            }
        }
        self.say(Some((id, Some(epoch))), None, TrailKind::Checkpoint { step }, out);
        is_present
    }

    /// Whoever watched a job has seen no progress since a moment: from then on silence counts.
    pub(crate) fn on_progress_stopped(&mut self, id: JobId, epoch: Epoch, since: Time) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_over()) else { return };
        let Some(attempt) = job.attempt.as_mut().filter(|attempt| attempt.has_epoch(epoch)) else {
            return;
        };
        if !attempt.is_watched || attempt.is_stopping() {
            return;
        }
        attempt.is_watched = false;
        attempt.sign_at = since.clamp(attempt.sign_at, self.now);
        self.await_progress(id);
    }

    /// From the last sign of life on, or from when somebody listened again, silence counts.
    pub(crate) fn await_progress(&mut self, id: JobId) {
        let attempt = self.jobs[&id].attempt.as_ref().expect("it makes progress");
        let at = attempt.sign_at.max(self.listens_since) + attempt.hang_limit;
        self.timers.set(Timer::Hang(id), at.max(self.now));
    }

    pub(crate) fn on_hang(&mut self, id: JobId) -> Option<EndReason> {
        // Those that have ended wait for nothing, and those that start have their own deadline.
        if let Some(at) = self.only_rejoining_until(id).filter(|&at| at > self.now) {
            self.timers.set(Timer::Hang(id), at);
            return None;
        }
        let attempt = self.jobs[&id].attempt.as_ref()?;
        Some(EndReason::Hang {
            last_step: attempt.pace.step?,
            silent: self.now.since(attempt.sign_at),
            timeout: attempt.hang_limit,
        })
    }

    pub(crate) fn on_no_first_step(&mut self, id: JobId) -> Option<EndReason> {
        let attempt = self.jobs[&id].attempt.as_ref()?;
        Some(EndReason::NoFirstStep { after: self.now.since(attempt.launched_at) })
    }

    pub(crate) fn on_time_limit(&mut self, id: JobId) -> Option<EndReason> {
        self.jobs[&id].spec.time_limit.map(|limit| EndReason::TimeLimit { limit })
    }

    /// Nobody listened for a while: silence in that time was not the jobs'. With a new control plane
    /// (`is_new`), nobody watches them any more.
    pub(crate) fn restart_deadlines(&mut self, is_new: bool) {
        self.listens_since = self.now;
        for id in self.alive.clone() {
            let job = self.jobs.get_mut(&id).expect("it is alive");
            let attempt = job.attempt.as_mut().expect("it is alive");
            let hang = attempt.pace.hang_timeout(job.spec.hang_timeout, &self.policy);
            let was_watched = attempt.is_watched && is_new && !attempt.is_stopping();
            attempt.is_watched &= !is_new;
            attempt.hang_limit = attempt.hang_limit.max(hang);
            if was_watched || self.timers.get(Timer::Hang(id)).is_some() {
                self.await_progress(id);
            }
            if let Some(at) = self.timers.get(Timer::FirstStep(id)) {
                self.timers.set(Timer::FirstStep(id), at.max(self.now + ADOPTION_GRACE));
            }
            if self.timers.get(Timer::Rejoin(id)).is_some() {
                self.await_rejoining(id);
            }
        }
    }
}

impl Attempt {
    /// Whether nobody of an epoch has told a step before.
    fn steps_first(&self, epoch: Epoch) -> bool {
        if epoch == self.epoch {
            return self.first_step_at.is_none();
        }
        let replica = self.replica_at(epoch).map(|replica| &self.replicas[replica]);
        replica.is_some_and(|r| r.state == ReplicaState::Launched && r.first_step_at.is_none())
    }
}
