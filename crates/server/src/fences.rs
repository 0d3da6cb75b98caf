//! Carrying out fences: slow, from outside the node, and asked for again until they succeed.

use crate::Fencer;
use lindos_model::NodeId;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Fences under way at once. A fence that finds no room is asked for again by the core's timer.
const FENCES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Fences {
    under_way: BTreeSet<NodeId>,
}

impl Fences {
    /// Fences `node` on a thread of its own, which hands the outcome to `done`.
    pub(crate) fn begin(
        &mut self,
        node: NodeId,
        name: String,
        fencer: Arc<dyn Fencer>,
        done: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        if self.under_way.len() >= FENCES_MAX || !self.under_way.insert(node) {
            return;
        }
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| fencer.fence(&name)));
            done(outcome.unwrap_or_else(|_| Err("the fencer panicked".to_string())));
        };
        if let Err(error) = std::thread::Builder::new().name("fence".into()).spawn(work) {
            tracing::error!(%node, %error, "no thread for a fence");
            self.under_way.remove(&node);
        }
    }

    pub(crate) fn ended(&mut self, node: NodeId) {
        self.under_way.remove(&node);
    }
}
