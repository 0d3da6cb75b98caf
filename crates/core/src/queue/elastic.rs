//! Jobs that run with fewer nodes than they want, and grow at a checkpoint.
//!
//! Growing stops the gang and starts it anew with more nodes, so it is done right after a
//! checkpoint, when next to nothing is lost; when nobody waits for the nodes; and only when the
//! nodes that are won, over the time that the job still has, come to more than twice the GPU-time
//! of the start.

use crate::Core;
use crate::placement::Request;
use crate::queue::forecast::WhatIf;
use lindos_model::{EndReason, JobId, Millis};

impl Core {
    /// Why a job that has just saved a checkpoint is stopped to go on larger, if it is.
    pub(crate) fn growth(&mut self, id: JobId) -> Option<EndReason> {
        let job = self.jobs.get(&id).filter(|job| !job.is_over())?;
        let attempt = job.attempt.as_ref().filter(|attempt| !attempt.is_stopping())?;
        let from = attempt.members.len() as u32;
        let is_small = from < job.spec.nodes && job.spec.min_nodes < job.spec.nodes;
        // Whoever waits for something that this one cannot give does not mind.
        let is_wanted = self.queue.is_blocked || self.first_at_limit(job.team).is_some();
        if !is_small || is_wanted {
            return None;
        }
        let start = attempt.first_step_at?.since(attempt.launched_at);
        let run = self.now.since(attempt.launched_at);
        let left = match job.spec.time_limit {
            Some(limit) => limit - Millis(job.held_ms) - run,
            // It may be expected to run for as long again as it has.
            None => Millis(job.held_ms) + run,
        };
        let spec = std::sync::Arc::clone(&job.spec);
        let segment = spec.segment.unwrap_or(1);
        let gpus = u64::from(spec.gpus_per_node);
        let most_by_limit =
            (self.teams.left_to(job.team, &self.promised()) / gpus).saturating_add(u64::from(from));
        let most = self.fleet.with_index(|index, fleet| {
            let mut what_if = WhatIf::new(index, fleet);
            what_if.end(attempt);
            let request = Request { spares: self.policy.spares, ..Request::of(&spec) };
            let most = what_if.most(&request);
            what_if.undo();
            most
        });
        let most = u64::from(most.min(spec.nodes)).min(most_by_limit) as u32;
        let to = most / segment * segment;
        if to <= from {
            return None;
        }
        let won = (u64::from(to - from) * gpus).saturating_mul(left.0);
        let cost = (u64::from(to) * gpus).saturating_mul(start.0);
        (won > cost.saturating_mul(2)).then_some(EndReason::Grows { from, to })
    }
}
