//! The settings that the core decides by. They are part of the journal: a replay under another
//! policy is a question to the twin.

use crate::Millis;
use serde::{Deserialize, Serialize};

/// Spans in milliseconds where the name ends in `_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A node that has not been heard from for this long is silent.
    pub node_silent_ms: u64,
    /// Progress is recorded at most this often for one job.
    pub progress_interval_ms: u64,
    /// No hang is called before progress has stopped for this long. The other bounds are three
    /// step times and twice the longest pause that the attempt has shown.
    pub hang_floor_ms: u64,
    /// The first wait before an unanswered command is sent again; it doubles up to 16 times this.
    pub resend_ms: u64,
    /// Survivors of a fault get this long between SIGTERM and SIGKILL.
    pub fault_grace_ms: u64,
    /// Whole nodes kept free for gangs that lose one.
    pub spares: u32,
    /// A job whose attempts fail again and again without one new step waits this long before the
    /// second retry, then twice as long each time, up to `backoff_max_ms`.
    pub backoff_base_ms: u64,
    pub backoff_max_ms: u64,
    /// Rendezvous ports: `port_base` to `port_base + port_count - 1`, in turn. The default lies
    /// below Linux's ephemeral ports (32768 and up).
    pub port_base: u16,
    pub port_count: u16,
    /// Finished jobs remembered.
    pub finished_jobs_max: u32,
    /// Trail entries remembered.
    pub trail_max: u32,
    /// Requests remembered, so that one sent twice is carried out once.
    pub requests_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            node_silent_ms: 5_000,
            progress_interval_ms: 1_000,
            hang_floor_ms: 5_000,
            resend_ms: 1_000,
            fault_grace_ms: 1_000,
            spares: 0,
            backoff_base_ms: 1_000,
            backoff_max_ms: 60_000,
            port_base: 20_000,
            port_count: 10_000,
            finished_jobs_max: 10_000,
            trail_max: 20_000,
            requests_max: 100_000,
        }
    }
}

impl Policy {
    /// The wait before retry number `failures_without_progress` (from 1): none before the first.
    pub fn backoff(&self, failures_without_progress: u32) -> Millis {
        if failures_without_progress <= 1 {
            return Millis::ZERO;
        }
        let doublings = (failures_without_progress - 2).min(32);
        Millis(self.backoff_base_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_at_once_and_later_ones_double_up_to_the_cap() {
        let policy = Policy::default();
        let waits = [0, 1, 2, 3, 4, 8, 100].map(|n| policy.backoff(n).0);
        assert_eq!(waits, [0, 0, 1000, 2000, 4000, 60_000, 60_000]);
    }
}
