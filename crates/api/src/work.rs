//! What a node does to itself when it is out of service: remedies and burn-ins.
//!
//! A work has the number of the effect that it answers. It is asked for until it shows in the agent's
//! reports, asked for again it is begun once, and it is told of until it is forgotten. An agent says
//! by name which tasks it can carry out, and is asked for no others: a new kind of task, or a new
//! step, does not leave an older agent and its control plane waiting for each other.

use lindos_model::finding::Device;
use lindos_model::{Millis, Outcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One whose `incarnation` is not the agent's own is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkOrder {
    /// Of the effect; grows over the life of a fleet.
    pub id: u64,
    pub incarnation: u64,
    pub step: WorkStep,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkStep {
    /// Nothing happens while ranks or another work live there; it is asked for again.
    Begin(Work),
    /// Kill what lives of it. It is over then, and told of so.
    Stop,
    /// Its end is known. One that still lives is not forgotten.
    Forget,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub task: Task,
    /// All that lives of it is killed after this long, and it has failed.
    pub limit: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Try cores, memory, disk and GPUs for so long.
    BurnIn { span: Millis },
    /// Every check of the machine once, and a burn-in of this length.
    Diagnose { span: Millis },
    /// Of the device, or of all GPUs.
    ResetGpu { device: Option<Device> },
    /// A program of the operators'.
    Command(CommandLine),
    /// Of two nodes that are tested together: be the other end of the network's test on a port of this
    /// address, told of in [`WorkReport::answers_at`], until the peer is done with it; then what a burn-in
    /// tries besides, in what is left of the span.
    AnswerPeer { span: Millis, address: String },
    /// It was mended by somebody else: what had been found there before is answered. Nothing is done.
    Mended,
    /// The other of the two: try what is between them, and what a burn-in tries besides.
    MeetPeer { span: Millis, peer: Peer },
}

/// Whom a node is tested with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The node's name.
    pub name: String,
    /// Where it answers, as `HOST:PORT`.
    pub address: String,
}

impl Task {
    pub const NAMES: [&'static str; 7] =
        ["burn_in", "diagnose", "reset_gpu", "command", ANSWER_PEER, MEET_PEER, "mended"];

    pub const fn name(&self) -> &'static str {
        match self {
            Task::BurnIn { .. } => Task::NAMES[0],
            Task::Diagnose { .. } => Task::NAMES[1],
            Task::ResetGpu { .. } => Task::NAMES[2],
            Task::Command(_) => Task::NAMES[3],
            Task::AnswerPeer { .. } => ANSWER_PEER,
            Task::MeetPeer { .. } => MEET_PEER,
            Task::Mended => Task::NAMES[6],
        }
    }
}

pub const ANSWER_PEER: &str = "answer_peer";
pub const MEET_PEER: &str = "meet_peer";

/// Ends with status 0: done; 75 (`EX_TEMPFAIL`): it cannot be done here; else: it has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The program and its arguments; no shell reads them.
    pub words: Vec<String>,
    /// Set beside what the agent's own environment has.
    pub environment: BTreeMap<String, String>,
    /// The machine starts anew in the course of it: when it has, that is the end of it.
    #[serde(default)]
    pub restarts: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkReport {
    pub id: u64,
    /// `None`: it is under way. Of a test of two, what the node came to by itself.
    pub outcome: Option<Outcome>,
    /// Of [`Task::AnswerPeer`]: where it does, as `HOST:PORT`, from when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_at: Option<String>,
    /// Of [`Task::MeetPeer`], when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<Met>,
}

impl WorkReport {
    pub fn new(id: u64, outcome: Option<Outcome>) -> WorkReport {
        WorkReport { id, outcome, answers_at: None, met: None }
    }
}

/// What a node has seen of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// What the other one computed.
    pub peer: Outcome,
    /// What was carried between the two, how fast and how late.
    pub link: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { name: "n1".into(), address: "10.0.0.1:7171".into() }
    }

    #[test]
    fn a_task_is_called_on_the_wire_what_an_agent_says_it_can() {
        let command = CommandLine { words: vec![], environment: BTreeMap::new(), restarts: false };
        let tasks = [
            Task::BurnIn { span: Millis(1) },
            Task::Diagnose { span: Millis(1) },
            Task::ResetGpu { device: None },
            Task::Command(command),
            Task::AnswerPeer { span: Millis(1), address: "10.0.0.1".into() },
            Task::MeetPeer { span: Millis(1), peer: peer() },
            Task::Mended,
        ];
        assert_eq!(tasks.each_ref().map(Task::name), Task::NAMES);
        for task in tasks {
            let value = serde_json::to_value(&task).unwrap();
            let name =
                value.as_str().or_else(|| value.as_object()?.keys().next().map(String::as_str));
            assert_eq!(name, Some(task.name()));
            assert_eq!(serde_json::from_value::<Task>(value).unwrap(), task);
        }
    }

    #[test]
    fn a_report_of_an_older_agent_says_that_it_can_do_nothing() {
        let text = r#"{"node":{"name":"n0","gpus":1,"platform":"generic","address":"127.0.0.1",
            "location":{},"labels":{}},
            "version":"0","incarnation":1,"seq":1,"attempts":[],"progress":[]}"#;
        let report: crate::agent::Report = serde_json::from_str(text).unwrap();
        assert!(report.can.is_empty() && report.works.is_empty());
        let work: WorkReport = serde_json::from_str(r#"{"id":7,"outcome":"done"}"#).unwrap();
        assert_eq!(work, WorkReport::new(7, Some(Outcome::Done)));
        assert_eq!(serde_json::to_string(&work).unwrap(), r#"{"id":7,"outcome":"done"}"#);
    }
}
