//! Between agent and control plane.
//!
//! An agent posts [`Report`]s to `/v1/agent/report`: one when something changed, one every
//! heartbeat, and again until one is answered. Each is the whole state of the node, so a lost,
//! repeated or late one does no harm. It reads [`Message`]s, one JSON object a line, from
//! `/v1/agent/messages?node=NAME&incarnation=N`; an empty line comes every second, so that it
//! notices a control plane that is gone. Both sides ignore keys that they do not know: agent and
//! control plane differ in version during an upgrade.

use crate::work::{WorkOrder, WorkReport};
use lindos_model::Finding;
use lindos_model::report::AttemptReport;
use lindos_model::{
    Activity, EffectId, Epoch, GpuSet, JobId, JobSpec, Millis, NodeSpec, Rank, RankPace, RankStack,
    StandbyReport, Symptom,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

pub const REPORT_PATH: &str = "/v1/agent/report";
pub const MESSAGES_PATH: &str = "/v1/agent/messages";
pub const LOG_CHUNK_PATH: &str = "/v1/agent/log-chunk";

/// All that an agent knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub node: NodeSpec,
    /// Version of the agent's program.
    pub version: String,
    /// Grows with every start of this node's agent.
    pub incarnation: u64,
    /// Grows with every report of one incarnation; a report sent again keeps its number.
    pub seq: u64,
    pub attempts: Vec<AttemptReport>,
    pub progress: Vec<RankProgress>,
    /// The last words of ranks that have failed, for as long as their attempts are told of. An
    /// older agent does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symptoms: Vec<RankSymptom>,
    /// All that checks on the node find now, at most [`FINDINGS_MAX`]. An older agent does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Names of the tasks ([`crate::work::Task::name`]) that this agent can carry out. An older
    /// agent does not say: it can none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub can: Vec<String>,
    /// Works that were begun here and are not forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub works: Vec<WorkReport>,
    /// Processes here that wait for a rank. An older agent does not say: it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<StandbyReport>,
}

/// Findings of one report; of more, the first are told.
pub const FINDINGS_MAX: usize = 64;

/// The newest readings of one rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankProgress {
    pub job: JobId,
    pub epoch: Epoch,
    pub rank: Rank,
    pub step: Option<u64>,
    pub loss: Option<f64>,
    /// Tokens that the whole job has consumed up to `step`.
    pub tokens: Option<u64>,
    pub total_steps: Option<u64>,
    pub checkpoint: Option<CheckpointNote>,
    /// How long checkpoints have blocked this rank in this attempt, in all.
    pub checkpoint_blocked_ms: u64,
    /// The first of the steps up to `step` whose losses, as far as they were told, were all no
    /// number, or infinite. An older agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_broken_from: Option<u64>,
    /// What its processes do, while it tells no step. An older agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// Where it stands in a silence, if its program says so. An older agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<RankStack>,
    /// How it spends its time. An older agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<RankPace>,
    /// Its program can be started before its rank is known, and wait for it. An older agent does not
    /// say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stands_by: bool,
}

/// What the end of a rank's output says of why it failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankSymptom {
    pub job: JobId,
    pub epoch: Epoch,
    pub rank: Rank,
    pub symptom: Symptom,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointNote {
    pub step: u64,
    pub path: String,
}

/// The answer to a report: it is durable, as far as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAck {
    pub seq: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Command(Command),
    /// Read a piece of a rank's log; the answer goes to [`LOG_CHUNK_PATH`].
    ReadLog(ReadLog),
    /// Something that the node does to itself. Sent only to agents that say they can.
    Work(WorkOrder),
}

/// An order of the core. One whose `incarnation` is not the agent's own is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub id: u64,
    pub incarnation: u64,
    pub job: JobId,
    pub epoch: Epoch,
    pub order: Order,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Launch(Box<Launch>),
    Stop {
        grace: Millis,
    },
    Forget,
    /// Start the job's processes, which then wait for a rank. An older agent ignores it.
    StandBy(Box<StandBy>),
    /// End those of this number, if they wait still, and report them no more.
    StandDown {
        standby: EffectId,
    },
}

/// What processes that wait for a rank can be told before they have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandBy {
    pub id: EffectId,
    pub spec: Arc<JobSpec>,
    /// What they will have.
    pub gpus: GpuSet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_index: Option<u32>,
    /// Ranks of the job have these GPUs meanwhile.
    #[serde(default)]
    pub beside: bool,
}

/// One node's part of a launch: all that its ranks need to know.
///
/// A *world* is what is launched together and meets at one port: the whole gang, or one replica of
/// it. Ranks are numbered over the whole job, because reports, logs and people speak of them; within
/// a world a program counts from 0 ([`Launch::rank_in_world`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub spec: Arc<JobSpec>,
    pub gpus: GpuSet,
    /// The first on this node, counted over the whole job.
    pub first_rank: Rank,
    /// On this node, and on every other of the job.
    pub rank_count: u32,
    /// Ranks of the world.
    pub world_size: u32,
    /// This node's number in `gang`, which is in rank order.
    pub node_rank: u32,
    /// Nodes of the world.
    pub gang: Arc<Vec<GangNode>>,
    /// Where the ranks of the world meet, on the first node of `gang`.
    pub master_port: u16,
    pub resume_step: Option<u64>,
    /// How often the program should save its work. An older control plane does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_every: Option<Millis>,
    /// Which job of its array it is. An older control plane does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_index: Option<u32>,
    /// Only of a job that has several. An older agent does not know it: there, ranks of all
    /// replicas but the first have numbers beyond their world, and fail at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<LaunchReplica>,
}

/// Which of a job's replicas is launched, and where all of them meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchReplica {
    pub index: u32,
    /// How many the job has.
    pub count: u32,
    /// The fewest that go on without the others.
    pub replicas_min: u32,
    /// By replica: where its first rank listens for those of the others, as of this launch.
    pub peers: Arc<Vec<Peer>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub address: String,
    pub port: u16,
}

impl Launch {
    /// Which job of its array it is, and how many there are; `None` for a job of its own.
    pub fn array(&self) -> Option<(u32, u32)> {
        Some((self.array_index?, self.spec.array?))
    }

    /// The number of this node's rank number `local` in its world.
    pub fn rank_in_world(&self, local: u32) -> u32 {
        self.node_rank * self.rank_count + local
    }

    /// Ranks of the whole job.
    pub fn job_world_size(&self) -> u32 {
        self.world_size * self.worlds()
    }

    /// Nodes of the whole job.
    pub fn job_nodes(&self) -> u32 {
        self.gang.len() as u32 * self.worlds()
    }

    /// This node's number among them.
    pub fn job_node_rank(&self) -> u32 {
        let before = self.replica.as_ref().map_or(0, |replica| replica.index);
        before * self.gang.len() as u32 + self.node_rank
    }

    fn worlds(&self) -> u32 {
        self.replica.as_ref().map_or(1, |replica| replica.count)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GangNode {
    pub name: String,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLog {
    /// Repeated in the answer.
    pub request: u64,
    pub job: JobId,
    /// The newest epoch when not given.
    pub epoch: Option<Epoch>,
    /// The rank's newest log from this epoch to `epoch` will do: the replica that it is part of may
    /// have been launched earlier than another. An older control plane does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_min: Option<Epoch>,
    pub rank: Rank,
    /// From this byte of the rank's whole output of that epoch; `None`: the last `bytes_max`.
    pub offset: Option<u64>,
    pub bytes_max: u64,
}

/// A piece of a rank's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
pub struct LogChunk {
    pub request: u64,
    /// The epoch that it is from.
    #[schema(value_type = Option<u32>)]
    pub epoch: Option<Epoch>,
    /// Where `text` begins and ends in the rank's whole output. The beginning may have been
    /// rotated away: then `offset` is larger than asked for.
    pub offset: u64,
    pub end: u64,
    /// Bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether more may still come.
    pub open: bool,
    /// Why there is nothing.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The third of a replica's four nodes, with two ranks on each.
    fn launch() -> Launch {
        let node = |index| GangNode { name: format!("n{index}"), address: "127.0.0.1".into() };
        Launch {
            spec: Arc::new(lindos_model::job::sample("demo", 12, 2)),
            gpus: GpuSet::first(2),
            first_rank: Rank(12),
            rank_count: 2,
            world_size: 8,
            node_rank: 2,
            gang: Arc::new((0..4).map(node).collect()),
            master_port: 20_000,
            resume_step: None,
            save_every: None,
            array_index: None,
            replica: Some(LaunchReplica {
                index: 1,
                count: 3,
                replicas_min: 2,
                peers: Arc::new(vec![Peer { address: "127.0.0.1".into(), port: 20_001 }]),
            }),
        }
    }

    #[test]
    fn a_rank_has_a_number_in_its_world_and_one_in_the_job() {
        let of_replica = launch();
        assert_eq!((of_replica.rank_in_world(1), of_replica.first_rank.0 + 1), (5, 13));
        assert_eq!((of_replica.job_world_size(), of_replica.job_nodes()), (24, 12));
        assert_eq!(of_replica.job_node_rank(), 6);
        let whole = Launch { replica: None, first_rank: Rank(4), ..launch() };
        assert_eq!((whole.rank_in_world(1), whole.first_rank.0 + 1), (5, 5));
        assert_eq!((whole.job_world_size(), whole.job_nodes(), whole.job_node_rank()), (8, 4, 2));
    }

    #[test]
    fn a_launch_without_replicas_reads_as_it_did_before_there_were_any() {
        let text = serde_json::to_string(&launch()).unwrap();
        assert_eq!(serde_json::from_str::<Launch>(&text).unwrap(), launch());
        let whole = Launch { replica: None, ..launch() };
        let value = serde_json::to_value(&whole).unwrap();
        assert!(value.get("replica").is_none(), "{value}");
        assert_eq!(serde_json::from_value::<Launch>(value).unwrap(), whole);
    }
}
