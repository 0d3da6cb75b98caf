//! What people see: pure functions from the core, and the newest readings, to the types of the
//! API. The server and offline reading show the same.

mod dry_run;
mod health;
mod jobs;
mod metrics;
mod replicas;
mod reservations;
mod teams;
mod why;
mod why_node;

#[cfg(test)]
mod tests;

pub(crate) use dry_run::dry_run;
pub use dry_run::meant;
pub use health::{fleet_health, node_health, repairs};
pub use jobs::{RANKS_MAX, job, job_with_ranks, jobs};
pub(crate) use metrics::metrics;
pub use reservations::reservations;
pub use teams::teams;
pub use why::why;
pub use why_node::why_node;

use crate::telemetry::Telemetry;
use lindos_api::user::{EventView, Goodput, NodeView, Status};
use lindos_core::Core;
use lindos_core::health::fleet::{Node, NodeState};
use lindos_model::{Column, JobId, JobState, NodeId, Time};

/// What there is to see, and when.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub core: &'a Core,
    pub telemetry: &'a Telemetry,
    /// Not before the core's last step.
    pub now: Time,
}

/// At most `limit` nodes, those after node `after`.
pub fn nodes(view: &View<'_>, after: Option<NodeId>, limit: usize) -> Vec<NodeView> {
    let skip = after.map_or(0, |after| after.index() + 1);
    let page = view.core.nodes().iter().enumerate().skip(skip).take(limit);
    page.map(|(index, node)| node_view(index, node)).collect()
}

fn node_view(index: usize, node: &Node) -> NodeView {
    NodeView {
        node: index as u32,
        name: node.spec.name.clone(),
        state: node.state.name().to_string(),
        drained: node.drained.clone(),
        out: node.out.map(|out| out.name().to_string()),
        gpus: node.spec.gpus,
        gpus_free: if node.state == NodeState::Up { node.free().len() } else { 0 },
        platform: node.spec.platform.clone(),
        address: node.spec.address.clone(),
        site: node.spec.location.site.clone(),
        hall: node.spec.location.hall.clone(),
        row: node.spec.location.row.clone(),
        spine: node.spec.location.spine.clone(),
        leaf: node.spec.location.leaf.clone(),
        rack: node.spec.location.rack.clone(),
        nvlink: node.spec.location.nvlink.clone(),
        nvlink_spans_racks: node.spec.location.nvlink_spans_racks,
        pdu: node.spec.location.pdu.clone(),
        labels: node.spec.labels.clone(),
        jobs: node.allocations.iter().map(|allocation| allocation.job.0).collect(),
    }
}

pub fn goodput(view: &View<'_>) -> Goodput {
    let columns = view.core.ledger_at(view.now);
    let total = columns.total();
    let productive = columns[Column::Productive];
    Goodput {
        ledger: columns.into(),
        goodput: if total == 0 { 0.0 } else { productive as f64 / total as f64 },
        stranded_by: view.core.stranded_by().clone(),
        at: view.now.0,
    }
}

/// `events`: records in the journal.
pub fn status(view: &View<'_>, version: &str, events: u64) -> Status {
    let nodes = view.core.nodes();
    let alive = |state: &JobState| {
        matches!(state, JobState::Starting | JobState::Running | JobState::Stopping)
    };
    let states = || view.core.jobs().map(lindos_core::job::Job::state);
    Status {
        version: version.to_string(),
        pid: std::process::id(),
        nodes: nodes.len() as u32,
        nodes_up: nodes.iter().filter(|node| node.state == NodeState::Up).count() as u32,
        gpus: nodes.iter().map(|node| u64::from(node.spec.gpus)).sum(),
        jobs_alive: states().filter(alive).count() as u32,
        jobs_queued: states().filter(|state| *state == JobState::Queued).count() as u32,
        events,
    }
}

/// A piece of the trail.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    pub events: Vec<EventView>,
    /// Where the next piece begins.
    pub next_after: u64,
    /// The first entry that was not yet seen is not kept any more.
    pub has_gap: bool,
    /// The trail has nothing more now.
    pub is_last: bool,
}

/// At most `limit` trail entries after number `after`, of one job if it is given.
pub fn events(view: &View<'_>, after: u64, job: Option<JobId>, limit: usize) -> EventPage {
    let mut page =
        EventPage { events: Vec::new(), next_after: after, has_gap: false, is_last: true };
    for entry in view.core.trail_after(after) {
        if page.events.len() == limit {
            page.is_last = false;
            break;
        }
        page.has_gap |= page.next_after == after && after > 0 && entry.seq > after + 1;
        page.next_after = entry.seq;
        if job.is_none() || entry.job == job {
            page.events.push(EventView::from(entry));
        }
    }
    page
}
