//! Making sure, without a shim, that nothing of an attempt lives.

use crate::environment::COOKIE;
use crate::plan::{Plan, State};
use lindos_hardware::cgroup::{Cgroup as _, Place};
use lindos_hardware::process::{self, ProcessId};
use std::collections::BTreeSet;

/// Sends SIGKILL to all that is left of an attempt, and returns what was still alive then. Called
/// again until it returns nothing: a killed process takes its time to end.
///
/// Three nets, because none holds everything: the control group (where there is one, nothing
/// escapes it), the ranks that are written down, and the cookie in the environment of everything
/// that they started.
pub fn sweep(plan: Option<&Plan>, state: Option<&State>) -> BTreeSet<ProcessId> {
    let mut left = BTreeSet::new();
    if let Some(group) = plan.and_then(|plan| plan.cgroup.as_ref()).and_then(Place::open) {
        let members = group.pids().unwrap_or_default();
        left.extend(members.into_iter().filter_map(ProcessId::of).filter(|id| id.is_alive()));
        if !left.is_empty() {
            let _ = group.kill();
        }
    }
    if let Some(state) = state.filter(|state| state.boot == process::boot_id()) {
        let ranks = state.ranks.iter().filter(|rank| rank.exit.is_none());
        left.extend(ranks.filter_map(|rank| rank.process).filter(|id| id.is_alive()));
    }
    if let Some(plan) = plan {
        left.extend(process::with_variable(&format!("{COOKIE}={}", plan.cookie)));
    }
    // An agent or a shim that was itself started below this attempt is still not its rank.
    left.remove(&ProcessId::current());
    for &id in &left {
        let _ = process::kill_verified(id);
    }
    left
}

/// What the attempt leaves in the system once nothing of it lives.
pub fn remove_cgroup(plan: &Plan) {
    if let Some(group) = plan.cgroup.as_ref().and_then(Place::open) {
        let _ = group.remove();
    }
}
