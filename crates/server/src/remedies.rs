//! The file of remedies: which command of the operators' carries out which, and where.
//!
//! It is no part of the policy, which is journalled: what a command is called differs from control
//! plane to control plane, and no replay runs one.

use crate::mender::{AgentsAlone, Case, Way};
use lindos_api::work::{CommandLine, Task, Work};
use lindos_model::file::{FileError, Source};
use lindos_model::finding::Device;
use lindos_model::{Millis, Remedy};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The label of a node that says where its BMC answers.
pub const BMC_LABEL: &str = "bmc";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the node, by its agent.
    Node,
    /// Beside the control plane.
    Control,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    command: Vec<String>,
    on: Place,
    #[serde(default = "limit_default")]
    limit_ms: u64,
    /// The command is over before the machine starts anew, which is to be waited for.
    restarts: Option<bool>,
}

const fn limit_default() -> u64 {
    10 * 60 * 1000
}

/// What a file says; an empty one says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remedies {
    reset_gpu: Option<Tool>,
    reboot: Option<Tool>,
    power_cycle: Option<Tool>,
    diagnose: Option<Tool>,
}

impl Remedies {
    pub fn load(path: &Path) -> Result<Remedies, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError {
            path: path.to_path_buf(),
            place: None,
            message: error.to_string(),
            hint: Some("the keys of this file: docs/repair.md".into()),
        })?;
        Remedies::parse(path, &text)
    }

    pub fn parse(path: &Path, text: &str) -> Result<Remedies, FileError> {
        let source = Source { path, text };
        let remedies: Remedies = source.parse()?;
        for remedy in Remedy::ALL {
            let Some(tool) = remedies.tool(remedy) else { continue };
            let at = |key: &str, message: &str, hint: &str| {
                let key = format!("{}.{key}", remedy.name());
                let message = format!("{key}: {message}");
                Err(source.error_at_key(&key, message, Some(hint.to_string())))
            };
            if tool.command.first().is_none_or(String::is_empty) {
                return at(
                    "command",
                    "it names no program",
                    "command = [\"PROGRAM\", \"ARGUMENT\"]",
                );
            }
            if tool.limit_ms == 0 {
                return at("limit_ms", "no command is over in no time", "leave it out for 10 min");
            }
            if tool.restarts == Some(true) && tool.on == Place::Control {
                let hint = "let the command return when the machine is back, or on its way down";
                return at("restarts", "only an agent waits for its own machine", hint);
            }
        }
        Ok(remedies)
    }

    fn tool(&self, remedy: Remedy) -> Option<&Tool> {
        match remedy {
            Remedy::ResetGpu => self.reset_gpu.as_ref(),
            Remedy::Reboot => self.reboot.as_ref(),
            Remedy::PowerCycle => self.power_cycle.as_ref(),
            Remedy::Diagnose => self.diagnose.as_ref(),
            Remedy::Technician | Remedy::Replace => None,
        }
    }

    /// Where a remedy is carried out. What the file says nothing of, agents do if they can.
    pub fn way(&self, case: &Case) -> Way {
        match self.tool(case.remedy) {
            None => AgentsAlone::way(case),
            Some(Tool { on: Place::Control, .. }) => Way::Here,
            Some(tool) => Way::Node(tool.work(case)),
        }
    }

    /// The command for a remedy, and how long it may take.
    pub fn work(&self, case: &Case) -> Option<Work> {
        self.tool(case.remedy).map(|tool| tool.work(case))
    }
}

impl Tool {
    fn work(&self, case: &Case) -> Work {
        let starts_machine = matches!(case.remedy, Remedy::Reboot | Remedy::PowerCycle);
        let restarts = self.restarts.unwrap_or(starts_machine && self.on == Place::Node);
        let (words, environment) = (self.command.clone(), environment(case));
        let task = Task::Command(CommandLine { words, environment, restarts });
        Work { task, limit: Millis(self.limit_ms).min(case.limit) }
    }
}

/// What a command is told of its case; every name is set, to nothing if there is nothing to say.
fn environment(case: &Case) -> BTreeMap<String, String> {
    let said = [
        ("LINDOS_REMEDY", case.remedy.name().to_string()),
        ("LINDOS_NODE", case.node.name.clone()),
        ("LINDOS_ADDRESS", case.node.address.clone()),
        ("LINDOS_BMC", case.node.labels.get(BMC_LABEL).cloned().unwrap_or_default()),
        ("LINDOS_DEVICE", case.device.as_ref().map_or(String::new(), Device::to_string)),
        ("LINDOS_ID", case.id.0.to_string()),
    ];
    said.map(|(name, value)| (name.to_string(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::{EffectId, Location, NodeSpec};

    fn parse(text: &str) -> Result<Remedies, String> {
        Remedies::parse(Path::new("remedies.toml"), text).map_err(|error| error.to_string())
    }

    fn case(remedy: Remedy) -> Case {
        let node = NodeSpec {
            name: "n17".into(),
            gpus: 8,
            platform: "generic".into(),
            address: "10.0.0.17".into(),
            location: Location::default(),
            labels: [(BMC_LABEL.to_string(), "10.1.0.17".to_string())].into(),
        };
        Case {
            id: EffectId(12),
            node,
            remedy,
            device: Some(Device::Gpu(3)),
            limit: Millis(900_000),
        }
    }

    #[test]
    fn each_remedy_goes_where_the_file_says_and_else_to_the_agent_if_it_can() {
        let file = parse(
            "[reboot]\ncommand = [\"systemctl\", \"reboot\"]\non = \"node\"\n\
             [power_cycle]\ncommand = [\"cycle\"]\non = \"control\"\nlimit_ms = 5000\n",
        )
        .unwrap();
        let command = |way: Option<Work>| match way {
            Some(Work { task: Task::Command(line), limit }) => (line, limit),
            other => panic!("{other:?}"),
        };
        let Way::Node(work) = file.way(&case(Remedy::Reboot)) else { panic!("on the node") };
        let (reboot, _) = command(Some(work));
        assert!(reboot.restarts, "the machine goes down after it");
        assert_eq!(reboot.words, ["systemctl", "reboot"]);
        assert_eq!(file.way(&case(Remedy::PowerCycle)), Way::Here);
        let (cycle, limit) = command(file.work(&case(Remedy::PowerCycle)));
        assert_eq!((limit, cycle.restarts), (Millis(5000), false));
        let said = |name: &str| cycle.environment[name].as_str();
        assert_eq!(said("LINDOS_NODE"), "n17");
        assert_eq!(said("LINDOS_BMC"), "10.1.0.17");
        assert_eq!(said("LINDOS_REMEDY"), "power_cycle");
        assert_eq!(said("LINDOS_ID"), "12");
        assert!(!said("LINDOS_DEVICE").is_empty());
        let by_agent = |remedy| match file.way(&case(remedy)) {
            Way::Node(work) => work.task,
            other => panic!("{other:?}"),
        };
        let device = Some(Device::Gpu(3));
        assert_eq!(by_agent(Remedy::ResetGpu), Task::ResetGpu { device });
        assert!(matches!(by_agent(Remedy::Diagnose), Task::Diagnose { .. }));
        assert_eq!(Remedies::default().way(&case(Remedy::Reboot)), Way::Nowhere);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_pointed_at() {
        let fails = |text: &str, parts: &[&str]| {
            let error = parse(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        };
        fails("[rebot]\ncommand = [\"x\"]\non = \"node\"\n", &["remedies.toml:1", "`reboot`"]);
        fails("[reboot]\ncomand = [\"x\"]\non = \"node\"\n", &["did you mean `command`?"]);
        fails("[reboot]\ncommand = [\"x\"]\non = \"bmc\"\n", &["bmc", "control"]);
        fails("[reboot]\ncommand = []\non = \"node\"\n", &["2:", "names no program"]);
        fails("[reboot]\ncommand = [\"x\"]\non = \"node\"\nlimit_ms = 0\n", &["4:", "no time"]);
        let both = "[reboot]\ncommand = [\"x\"]\non = \"control\"\nrestarts = true\n";
        fails(both, &["4:", "only an agent"]);
        fails("[technician]\ncommand = [\"x\"]\non = \"node\"\n", &["technician"]);
        assert_eq!(parse("").unwrap(), Remedies::default());
    }
}
