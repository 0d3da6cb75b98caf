//! How deliveries go, for metrics.

use super::config::Webhook;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Of all webhooks, since this control plane started.
#[derive(Debug, Default)]
pub struct Figures(Vec<(String, Counts)>);

/// Of one.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    /// Messages that were given up, after however many tries.
    pub given_up: AtomicU64,
    /// Tries that failed.
    pub failed_tries: AtomicU64,
    /// Messages that became part of another, because too many waited.
    pub merged: AtomicU64,
    /// Messages that wait now, with the one that is under way.
    pub queued: AtomicU64,
}

impl Figures {
    pub fn of(webhooks: &[Webhook]) -> Figures {
        let named = |webhook: &Webhook| (webhook.name.clone(), Counts::default());
        Figures(webhooks.iter().map(named).collect())
    }

    pub fn counts(&self, index: usize) -> &Counts {
        &self.0[index].1
    }

    /// One figure of every webhook.
    pub fn rows(
        &self,
        figure: impl Fn(&Counts) -> &AtomicU64,
    ) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(move |(name, counts)| (name.as_str(), figure(counts).load(Relaxed)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
