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
}

impl Task {
    pub const NAMES: [&'static str; 4] = ["burn_in", "diagnose", "reset_gpu", "command"];

    pub const fn name(&self) -> &'static str {
        match self {
            Task::BurnIn { .. } => Task::NAMES[0],
            Task::Diagnose { .. } => Task::NAMES[1],
            Task::ResetGpu { .. } => Task::NAMES[2],
            Task::Command(_) => Task::NAMES[3],
        }
    }
}

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
    /// `None`: it is under way.
    pub outcome: Option<Outcome>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_called_on_the_wire_what_an_agent_says_it_can() {
        let command = CommandLine { words: vec![], environment: BTreeMap::new(), restarts: false };
        let tasks = [
            Task::BurnIn { span: Millis(1) },
            Task::Diagnose { span: Millis(1) },
            Task::ResetGpu { device: None },
            Task::Command(command),
        ];
        assert_eq!(tasks.each_ref().map(Task::name), Task::NAMES);
        for task in tasks {
            let value = serde_json::to_value(&task).unwrap();
            assert_eq!(value.as_object().unwrap().keys().next().unwrap(), task.name());
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
    }
}
