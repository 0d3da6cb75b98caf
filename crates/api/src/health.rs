//! What people see of health and repair.

use crate::user::{NodeJob, NodeView};
use lindos_model::finding::Finding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `GET /v1/repairs`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct Repairs {
    /// The nodes that are out, the longest first.
    pub open: Vec<TicketView>,
    /// Condemned nodes that something keeps in service.
    pub kept_in: Vec<KeptInView>,
}

/// A node that is out for repair or burn-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct TicketView {
    /// Counted from 1 over the whole fleet.
    pub ticket: u64,
    pub node: String,
    /// Milliseconds since the Unix epoch.
    pub since: u64,
    /// What was found, such as `gpu.xid.79`.
    pub class: String,
    pub device: Option<String>,
    pub detail: String,
    /// The remedy that is next or under way: `reset_gpu`, `reboot`, `power_cycle`, `diagnose`,
    /// `technician`, `replace`.
    pub remedy: String,
    /// `leaving` (jobs are still there), `mending`, `burn-in`
    pub stage: String,
    /// When the stage began; while jobs leave, that is `since`.
    pub stage_since: u64,
    /// Whether it waits for a person, who says so when it is mended.
    pub waits_for_person: bool,
    /// What is being done, in words.
    pub text: String,
    /// Jobs that have not left it.
    pub jobs: Vec<u64>,
}

/// A condemned node that stays in service all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct KeptInView {
    pub node: String,
    /// Since when it is known what is wrong with it, if that holds still.
    pub since: Option<u64>,
    pub class: String,
    pub severity: String,
    pub device: Option<String>,
    pub detail: String,
    /// What keeps it, in words.
    pub because: String,
}

/// `GET /v1/health`: the fleet at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct FleetHealth {
    pub nodes: u32,
    /// Up, not drained, not out, and nothing is found there.
    pub nodes_well: u32,
    /// Nodes where something is found and holds, in service or not.
    pub nodes_with_findings: u32,
    pub nodes_in_repair: u32,
    pub nodes_in_burn_in: u32,
    pub nodes_kept_in: u32,
    /// Of those in repair.
    pub waiting_for_person: u32,
    pub nodes_drained: u32,
    /// Nodes by `expected`, `up`, `silent`, `fenced`.
    pub by_state: BTreeMap<String, u32>,
    /// Findings that hold, by severity.
    pub by_severity: BTreeMap<String, u32>,
    /// Findings that hold, by class; the one on most nodes first.
    pub by_class: Vec<ClassHealth>,
    /// Nodes where something is found, worst first; as many as were asked for.
    pub worst: Vec<NodeFindings>,
    /// NVLink domains and racks of which not all nodes can take work.
    #[serde(default)]
    pub places_impaired: u32,
    /// Those that have lost most, as many as were asked for. Of a rack that is one NVLink domain, the
    /// domain is told alone.
    #[serde(default)]
    pub impaired: Vec<ImpairedPlace>,
    /// Checks that take nobody out for now, because they have condemned too many.
    pub breakers: Vec<BreakerView>,
}

/// A place that has lost nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct ImpairedPlace {
    /// `NVLink domain` or `rack`.
    pub kind: String,
    pub name: String,
    pub nodes: u32,
    /// In service, whether at work or free.
    pub nodes_left: u32,
    /// The largest segment, or gang within a rack, that it can serve when nobody else works there.
    pub segment_max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct ClassHealth {
    pub class: String,
    /// The worst that it has.
    pub severity: String,
    pub nodes: u32,
    /// One for each device.
    pub findings: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct NodeFindings {
    pub node: String,
    pub state: String,
    /// `repair`, `burn-in`, or nothing.
    pub out: Option<String>,
    pub kept_in: bool,
    /// Of the worst finding.
    pub severity: String,
    pub class: String,
    pub since: u64,
    pub findings: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct BreakerView {
    pub class: String,
    pub until: u64,
}

/// `GET /v1/nodes/{name}/health`: all that is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeHealth {
    #[serde(flatten)]
    pub node: NodeView,
    /// What is found and holds, the oldest first.
    pub findings: Vec<FindingView>,
    /// When it was to blame for a fault of a job, within the policy's window.
    pub strikes: Vec<u64>,
    /// Remedies that were begun, the oldest first.
    pub tried: Vec<TriedView>,
    pub ticket: Option<TicketView>,
    pub kept_in: Option<KeptInView>,
    /// What is remembered of its health, the oldest first.
    pub history: Vec<HistoryView>,
    /// The attempts on it.
    pub work: Vec<NodeJob>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingView {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub finding: Finding,
    pub since: u64,
    /// When it was told last, and how often.
    pub last: u64,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TriedView {
    /// As in [`TicketView::remedy`].
    pub remedy: String,
    pub at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    pub at: u64,
    /// As in `GET /v1/events`.
    pub kind: String,
    pub text: String,
}
