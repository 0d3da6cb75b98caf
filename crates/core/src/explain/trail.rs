//! The trail of what happened, kept so far back that people find what they look for.

use lindos_model::{Epoch, JobId, Time, TrailEntry, TrailKind};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Trail {
    entries: VecDeque<Arc<TrailEntry>>,
    next: u64,
}

impl Trail {
    pub fn push(
        &mut self,
        at: Time,
        job: Option<(JobId, Option<Epoch>)>,
        node: Option<&str>,
        what: TrailKind,
        kept: usize,
    ) -> Arc<TrailEntry> {
        self.next += 1;
        let entry = Arc::new(TrailEntry {
            seq: self.next,
            at,
            job: job.map(|(job, _)| job),
            epoch: job.and_then(|(_, epoch)| epoch),
            node: node.map(str::to_string),
            what,
        });
        self.entries.push_back(Arc::clone(&entry));
        while self.entries.len() > kept {
            self.entries.pop_front();
        }
        entry
    }

    /// The entries after number `seq` that are still kept.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &TrailEntry> {
        let skip = self.entries.partition_point(|entry| entry.seq <= seq);
        self.entries.iter().skip(skip).map(|entry| &**entry)
    }

    pub fn last_seq(&self) -> u64 {
        self.next
    }
}
