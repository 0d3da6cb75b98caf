//! What was told of an attempt's ranks that no report of their state holds.

use crate::Core;
use crate::effect::Effects;
use crate::gang::attempt::Attempt;
use lindos_model::{
    Activity, Column, EndReason, Epoch, JobId, Millis, Rank, Stacks, Stall, Straggler, Symptom,
    TrailKind,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Last words of more ranks than this say nothing new.
const SYMPTOMS_MAX: usize = 64;
/// A silence of this length is looked at, however fast the steps are.
const LOOK_AT_LEAST: Millis = Millis::from_secs(5);
const STEPS_SILENT: u64 = 3;
/// For so long ranks may work without a step before a job has shown such a pause.
const WORKS: Millis = Millis::from_secs(300);

/// A loss that is no number so few steps after a start was none in the checkpoint either.
const BROKEN_AT_ONCE: u64 = 2;

/// Kept with the attempt until it is weighed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub symptoms: BTreeMap<Rank, Symptom>,
    /// The newest look, while the job stands where it stood then.
    pub stall: Option<Stall>,
    /// Where the ranks stand, as long.
    pub stacks: Option<Stacks>,
    /// The rank that the others wait for, while that lasts.
    pub straggler: Option<Straggler>,
}

impl Evidence {
    fn note_symptom(&mut self, rank: Rank, symptom: &Symptom) {
        if self.symptoms.len() < SYMPTOMS_MAX {
            self.symptoms.entry(rank).or_insert_with(|| symptom.clone());
        }
    }

    /// What is known of these ranks is of a launch that is over.
    pub fn forget_ranks(&mut self, ranks: std::ops::Range<u32>) {
        self.symptoms.retain(|rank, _| !ranks.contains(&rank.0));
        // What was seen of the others in a silence holds.
        self.stall = self.stall.take().and_then(|mut stall| {
            stall.apart.retain(|apart| !ranks.contains(&apart.rank.0));
            (!stall.apart.is_empty()).then_some(stall)
        });
        self.stacks = self.stacks.take().and_then(|mut stacks| {
            stacks.outside.retain(|(rank, _)| !ranks.contains(&rank.0));
            (!stacks.outside.is_empty()).then_some(stacks)
        });
        self.straggler = self.straggler.filter(|slow| !ranks.contains(&slow.rank.0));
    }
}

/// What a look at the ranks says of a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nobody works, or somebody who should is stopped: it will not go on by itself.
    Hangs,
    /// Some rank works, and none is behind the others: it evaluates, saves or compiles.
    Works,
    Unclear,
}

pub fn look(stall: &Stall) -> Look {
    let apart = || stall.apart.iter();
    let works = stall.most == Some(Activity::Busy)
        || apart().any(|apart| apart.activity == Some(Activity::Busy));
    let is_stopped = |activity| activity == Some(Activity::Stopped);
    if is_stopped(stall.most) || apart().any(|apart| is_stopped(apart.activity)) {
        Look::Hangs
    } else if works && stall.at_step == stall.told {
        Look::Works
    } else if stall.most == Some(Activity::Idle) && !works {
        Look::Hangs
    } else {
        Look::Unclear
    }
}

impl Core {
    pub(crate) fn on_symptom_seen(
        &mut self,
        id: JobId,
        epoch: Epoch,
        rank: Rank,
        symptom: &Symptom,
    ) {
        if let Some(attempt) = self.attempt_at(id, epoch)
            && rank.0 < attempt.world_size()
        {
            attempt.evidence.note_symptom(rank, symptom);
        }
    }

    pub(crate) fn on_stacks_seen(&mut self, id: JobId, epoch: Epoch, stacks: &Stacks) {
        if let Some(attempt) = self.attempt_at(id, epoch)
            && attempt.pace.step.is_some_and(|step| step <= stacks.step)
        {
            attempt.evidence.stacks = Some(stacks.clone());
        }
    }

    /// A silence was looked into: a hang is called one early, and ranks that work are given time.
    pub(crate) fn on_stall_seen(&mut self, id: JobId, epoch: Epoch, stall: &Stall) {
        let Some(given) = self.jobs.get(&id).map(|job| job.spec.hang_timeout) else { return };
        let interval = Millis(self.policy.progress_interval_ms);
        let Some(attempt) = self.attempt_at(id, epoch).filter(|attempt| !attempt.is_stopping())
        else {
            return;
        };
        if attempt.pace.step.is_none_or(|step| step > stall.step) {
            return;
        }
        attempt.evidence.stall = Some(stall.clone());
        let known_pause = Millis(attempt.pace.longest_gap_ms.max(attempt.pace.doubted_ms));
        let limit = match look(stall) {
            // Those that are left need time to find together again.
            _ if given.is_some() || attempt.is_regrouping => return,
            Look::Hangs => {
                let patience = look_after(attempt.pace.step_ms);
                attempt.hang_limit.min(patience.max(known_pause.times(2)) + interval)
            }
            Look::Works => attempt.hang_limit.max(WORKS),
            Look::Unclear => return,
        };
        attempt.hang_limit = limit;
        if !attempt.is_watched {
            self.await_progress(id);
        }
    }

    /// An attempt whose loss is no number any more only burns power.
    pub(crate) fn on_loss_broken(
        &mut self,
        id: JobId,
        epoch: Epoch,
        rank: Rank,
        step: u64,
        out: &mut Effects,
    ) -> Option<EndReason> {
        let now = self.now;
        let job = self.jobs.get_mut(&id).filter(|job| !job.is_over())?;
        let is_of_it =
            |attempt: &Attempt| attempt.has_epoch(epoch) && rank.0 < attempt.world_size();
        let attempt = job.attempt.as_ref().filter(|attempt| is_of_it(attempt))?;
        let is_stopping = attempt.is_stopping();
        // What is broken from the start was so in the checkpoint.
        let from = attempt.resumed_from.filter(|from| step <= from + BROKEN_AT_ONCE);
        let from = from.filter(|&from| from > 0).unwrap_or(step).min(step);
        let last = job.epoch;
        let spoilt = job.spoil(last, from);
        if let Some(work) = spoilt {
            // What they had made safe is at risk again, and lost with the rest.
            job.ledger.accrue(now);
            let (held, total) = (job.ledger.held, job.ledger.totals[Column::Productive]);
            let attempt = job.attempt.as_mut().expect("it was just there");
            attempt.count(now, held[Column::Productive]);
            if !is_stopping {
                attempt.at_risk = (attempt.at_risk + work).min(total);
            }
            let newest_good = job.checkpoint_step;
            let what = TrailKind::CheckpointsSpoilt { from, newest_good };
            self.say(Some((id, Some(epoch))), None, what, out);
        }
        (!is_stopping).then_some(EndReason::LossBroken { rank, step })
    }

    pub(crate) fn attempt_at(&mut self, id: JobId, epoch: Epoch) -> Option<&mut Attempt> {
        let job = self.jobs.get_mut(&id).filter(|job| !job.is_over())?;
        job.attempt.as_mut().filter(|attempt| attempt.has_epoch(epoch))
    }
}

/// A silence of this length is worth a look at the ranks: so many steps, or five seconds.
pub fn look_after(step_ms: Option<u64>) -> Millis {
    LOOK_AT_LEAST.max(Millis(step_ms.unwrap_or(0)).times(STEPS_SILENT))
}
