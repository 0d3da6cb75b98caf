//! Between people (or their programs) and the control plane.

use lindos_model::blame::Blame;
use lindos_model::reason::Charge;
use lindos_model::trail::Span;
use lindos_model::{
    Columns, EndReason, Exit, JobSpec, JobState, Mended, Straggler, TrailEntry, WaitReason,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `POST /v1/jobs`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// 32 hexadecimal digits, chosen at random. Sent again with the same, nothing is submitted
    /// twice. The control plane chooses one when it is not given.
    pub request: Option<String>,
    /// Who asks.
    pub user: Option<String>,
    /// The job, with every default filled in: see `docs/job-file.md`.
    #[schema(value_type = Object)]
    pub spec: JobSpec,
}

/// It is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    pub job: u64,
}

/// `POST /v1/jobs/dry-run`: what would become of a job that was submitted now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema, Default)]
pub struct DryRun {
    /// Whether it would start at once.
    pub starts: bool,
    /// One plain sentence.
    pub answer: String,
    /// The first few nodes that it would start on, in rank order.
    pub nodes: Vec<String>,
    /// How far apart its nodes would be.
    #[schema(value_type = Option<Object>)]
    pub span: Option<Span>,
    #[schema(value_type = Option<Object>)]
    pub wait_reason: Option<WaitReason>,
    /// What would help, most helpful first.
    pub hints: Vec<String>,
    /// When it starts, in words, for a job that waits for room.
    pub when: Option<String>,
    /// As in `GET /v1/jobs/{id}/why`.
    pub likely_start: Option<u64>,
    /// As in `GET /v1/jobs/{id}/why`.
    pub latest_start: Option<u64>,
}

/// `POST /v1/nodes/{name}/mended`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MendedRequest {
    /// `repaired`, `replaced` or `released`: the last comes back at once, the others once they are
    /// proved.
    #[schema(value_type = String)]
    pub how: Mended,
}

/// `POST /v1/nodes/{name}/drain`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    #[serde(default)]
    pub reason: String,
}

/// `POST /v1/reservations`: nodes are set aside from a moment on, either for a team or for
/// maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct ReserveRequest {
    /// As in `POST /v1/jobs`.
    pub request: Option<String>,
    /// 1 to 64 letters, digits, `-`, `_` and `.`; no other that is not over has it.
    pub name: String,
    /// From then on only jobs of this team, and of those that are part of it, use the nodes.
    pub team: Option<String>,
    /// From then on no job uses them.
    #[serde(default)]
    pub maintenance: bool,
    /// Names of nodes, which are reserved whole. None of them may be part of another reservation.
    pub nodes: Vec<String>,
    /// Milliseconds since the Unix epoch. A moment that has passed is now.
    pub from: u64,
    pub until: u64,
}

/// One reservation of `GET /v1/reservations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct ReservationView {
    pub name: String,
    /// Nobody's if it is for maintenance.
    pub team: Option<String>,
    pub maintenance: bool,
    /// In the order of their numbers.
    pub nodes: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub from: u64,
    pub until: u64,
    /// `planned` until it begins, then `active`. One that is over is not kept.
    pub state: String,
}

/// The answer to a request that has nothing else to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    pub ok: bool,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// A stable word for programs: `invalid_job`, `no_such_job`, `disk_full`, …
    pub code: String,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// One job in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSummary {
    pub job: u64,
    pub name: String,
    pub user: String,
    #[schema(value_type = String)]
    pub state: JobState,
    /// The number of the newest launch: of an attempt, or of one replica of it; 0 before the first.
    pub epoch: u32,
    pub nodes: u32,
    pub gpus: u32,
    pub priority: i32,
    pub submitted_at: u64,
    /// The launch of the first attempt.
    pub started_at: Option<u64>,
    pub ended_at: Option<u64>,
    pub step: Option<u64>,
    pub total_steps: Option<u64>,
    pub loss: Option<f64>,
    /// In words, for a job that waits or has failed.
    pub reason: Option<String>,
    /// Whose share it takes; empty: nobody's in particular.
    #[serde(default)]
    pub team: String,
    /// Which job of its array it is, from 0.
    #[serde(default)]
    pub array_index: Option<u32>,
    /// Of its present attempt: an elastic job may run with fewer than `nodes`.
    #[serde(default)]
    pub nodes_running: u32,
    /// Nodes that are held for it while it waits.
    #[serde(default)]
    pub nodes_held: u32,
    /// When it starts on them at the latest.
    #[serde(default)]
    pub reserved_start: Option<u64>,
}

impl JobSummary {
    /// Its name, and its number in its array: `sweep[3]`.
    pub fn full_name(&self) -> String {
        match self.array_index {
            Some(index) => format!("{}[{index}]", self.name),
            None => self.name.clone(),
        }
    }
}

/// `GET /v1/jobs/{id}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    #[serde(flatten)]
    pub summary: JobSummary,
    pub command: Vec<String>,
    pub checkpoint_step: Option<u64>,
    pub first_loss: Option<f64>,
    pub last_loss: Option<f64>,
    pub tokens_per_second: Option<f64>,
    pub faults: u32,
    pub retries_left_infrastructure: u32,
    pub retries_left_user: u32,
    #[schema(value_type = Option<Object>)]
    pub wait_reason: Option<WaitReason>,
    #[schema(value_type = Option<Object>)]
    pub end_reason: Option<EndReason>,
    pub attempts: Vec<AttemptSummary>,
    /// The ranks of the newest attempt.
    pub ranks: Vec<RankView>,
    pub ledger: LedgerView,
    /// The rank that the others wait for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub straggler: Option<StragglerView>,
}

/// A rank that is slower than its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StragglerView {
    pub node: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub straggler: Straggler,
    /// The same in a sentence.
    pub text: String,
}

impl JobDetail {
    /// The number of its newest attempt. A replica that was launched again since has a higher one.
    pub fn attempt(&self) -> u32 {
        self.attempts.last().map_or(self.summary.epoch, |newest| newest.epoch)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptSummary {
    /// Of the launch of the whole gang.
    pub epoch: u32,
    pub started_at: u64,
    pub first_step_at: Option<u64>,
    pub ended_at: Option<u64>,
    /// The checkpoint that it went on from.
    pub resumed_from: Option<u64>,
    pub last_step: Option<u64>,
    #[schema(value_type = Option<Object>)]
    pub end_reason: Option<EndReason>,
    #[schema(value_type = Option<String>)]
    pub charge: Option<Charge>,
    /// Of one that ended by a fault: who was to blame, how sure that is, and by what.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub blame: Option<Blame>,
    /// Of the present attempt of a job that has several; otherwise empty.
    #[serde(default)]
    pub replicas: Vec<ReplicaView>,
    /// Free nodes that are kept for it, should it lose some of its own.
    #[serde(default)]
    pub spares: Vec<String>,
    /// Processes of it that wait for a rank, so that its next start is a short one. Of the present
    /// attempt of a job that asks for such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<WarmView>,
}

/// Where processes of a job wait for a rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct WarmView {
    /// Whether its program has said that it can wait. Until then none is started.
    pub offered: bool,
    /// Of its spares, those on which they wait or are started.
    pub spares: Vec<WarmSpare>,
    /// On so many nodes of its gang they wait beside its ranks, or are started …
    pub beside: u32,
    /// … and on so many of these all of them wait.
    pub beside_ready: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct WarmSpare {
    pub node: String,
    /// Whether all of them wait.
    pub ready: bool,
}

/// A part of a gang that can be lost and come back while the others go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct ReplicaView {
    /// From 0, in the order of its ranks.
    pub replica: u32,
    /// Of its newest launch.
    pub epoch: u32,
    /// `launched` (it has told no step yet), `training`, `stopping`, `waiting` (nothing of it
    /// lives, and it waits for a node)
    pub state: String,
    /// When it came to be so, where that is known.
    pub since: Option<u64>,
    /// Why it is stopped.
    #[schema(value_type = Option<Object>)]
    pub reason: Option<EndReason>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RankView {
    pub rank: u32,
    /// 0 until it is known.
    pub pid: u32,
    pub node: String,
    /// Of its newest launch, which is that of its replica.
    pub epoch: u32,
    /// `launching`, `running`, `exited`, `failed`
    pub state: String,
    pub step: Option<u64>,
    /// Where its main thread stands, while the job does not get on and the rank's program says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub exit: Option<Exit>,
}

/// GPU-milliseconds by column; the columns sum to the total exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct LedgerView {
    pub total_gpu_ms: u64,
    pub columns: BTreeMap<String, u64>,
}

impl From<Columns> for LedgerView {
    fn from(columns: Columns) -> Self {
        LedgerView {
            total_gpu_ms: columns.total(),
            columns: columns.iter().map(|(column, ms)| (column.name().to_string(), ms)).collect(),
        }
    }
}

/// `GET /v1/goodput`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Goodput {
    #[serde(flatten)]
    pub ledger: LedgerView,
    /// Productive ÷ all, from 0 to 1.
    pub goodput: f64,
    /// Why GPU-time was stranded, in GPU-milliseconds by the kind of wait.
    pub stranded_by: BTreeMap<String, u64>,
    pub at: u64,
}

/// `GET /v1/nodes`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    pub node: u32,
    pub name: String,
    /// `expected`, `up`, `silent`, `fenced`
    pub state: String,
    pub drained: Option<String>,
    /// `repair` or `burn-in`, while Lindos itself keeps it out of service.
    #[serde(default)]
    pub out: Option<String>,
    pub gpus: u16,
    pub gpus_free: u16,
    pub platform: String,
    pub address: String,
    /// Where it stands; empty means unknown.
    pub site: String,
    pub hall: String,
    pub row: String,
    pub spine: String,
    pub leaf: String,
    pub rack: String,
    /// Only of a domain that is larger than the node.
    pub nvlink: String,
    pub nvlink_spans_racks: bool,
    pub pdu: String,
    /// What jobs may ask for.
    pub labels: BTreeMap<String, String>,
    /// Of attempts on it.
    pub jobs: Vec<u64>,
}

/// `GET /v1/jobs/{id}/why`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema, Default)]
pub struct Why {
    pub job: u64,
    #[schema(value_type = String)]
    pub state: JobState,
    /// One plain sentence.
    pub answer: String,
    #[schema(value_type = Option<Object>)]
    pub wait_reason: Option<WaitReason>,
    /// What would help, most helpful first.
    pub hints: Vec<String>,
    /// When it starts, in words, for a job that waits for room.
    pub when: Option<String>,
    /// If nobody comes before it, and running jobs use of their limits what jobs have used so far.
    pub likely_start: Option<u64>,
    /// If nobody comes before it, and running jobs run to their limits.
    pub latest_start: Option<u64>,
    /// Nodes that are held for it.
    #[serde(default)]
    pub nodes_held: u32,
    /// When it starts on them at the latest.
    #[serde(default)]
    pub reserved_start: Option<u64>,
}

/// `GET /v1/nodes/{name}/why`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
pub struct NodeWhy {
    pub node: u32,
    pub name: String,
    /// `expected`, `up`, `silent`, `fenced`
    pub state: String,
    pub drained: Option<String>,
    /// `repair` or `burn-in`, while Lindos itself keeps it out of service.
    #[serde(default)]
    pub out: Option<String>,
    pub gpus: u16,
    /// That no attempt holds.
    pub gpus_free: u16,
    /// One plain sentence.
    pub answer: String,
    pub jobs: Vec<NodeJob>,
    /// Why its free GPUs do nothing: `expected`, `silent`, `fenced`, `repair`, `burn-in`, `drained`,
    /// `reserved`, `held`, `spare`, `no_demand`, `unwanted`; nothing when none is free.
    pub idle: Option<String>,
    /// The job that it is held for.
    pub held_for: Option<u64>,
    /// When that job wants it at the latest.
    pub held_from: Option<u64>,
    /// Of the whole queue, where jobs wait and none of them starts here.
    pub waiting_jobs: u32,
    pub waiting_gpus: u64,
    /// Why the foremost of them do not start here.
    pub foremost: Vec<NotHere>,
    /// What would help.
    pub hints: Vec<String>,
}

/// A job on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeJob {
    pub job: u64,
    pub name: String,
    /// By number: `0,1,2,3`.
    pub gpus: String,
    /// When it was placed here.
    pub since: u64,
    /// When it is over at the latest, where a time limit tells.
    pub until: Option<u64>,
    pub stopping: bool,
}

/// Why a waiting job does not start on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotHere {
    pub job: u64,
    pub name: String,
    /// `platform`, `label`, `excluded`, `gpus`, or a kind of wait such as `busy`.
    pub kind: String,
    pub text: String,
}

/// One team of `GET /v1/teams`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeamView {
    /// Empty: jobs that name no team.
    pub name: String,
    /// The team that it is a part of; empty: none.
    pub parent: String,
    /// GPUs that it can have back whenever it wants them.
    pub share: u64,
    /// GPUs that it never holds more of.
    pub limit: Option<u64>,
    /// GPUs that it holds, with those of its parts.
    pub held: u64,
    /// Those above its share.
    pub borrowed: u64,
    /// GPU-milliseconds with those of its parts; what was used a half-life ago counts half.
    pub used_gpu_ms: u64,
    /// Its own jobs that wait, and those of its parts.
    pub waiting_jobs: u32,
    pub waiting_gpus: u64,
}

/// One line of `GET /v1/events`: a trail entry, with its kind and its words beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    pub seq: u64,
    pub at: u64,
    pub kind: String,
    pub job: Option<u64>,
    pub epoch: Option<u32>,
    pub node: Option<String>,
    pub text: String,
    /// The fields of this kind.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

impl From<&TrailEntry> for EventView {
    fn from(entry: &TrailEntry) -> Self {
        let detail = match serde_json::to_value(&entry.what) {
            Ok(serde_json::Value::Object(fields)) => {
                fields.into_iter().next().map_or(serde_json::Value::Null, |(_, inner)| inner)
            }
            _ => serde_json::Value::Null,
        };
        EventView {
            seq: entry.seq,
            at: entry.at.0,
            kind: entry.what.name().to_string(),
            job: entry.job.map(|job| job.0),
            epoch: entry.epoch.map(|epoch| epoch.0),
            node: entry.node.clone(),
            text: entry.to_string(),
            detail,
        }
    }
}

/// `GET /v1/status`: what `lindos` looks at first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub nodes: u32,
    pub nodes_up: u32,
    pub gpus: u64,
    pub jobs_alive: u32,
    pub jobs_queued: u32,
    pub events: u64,
}
