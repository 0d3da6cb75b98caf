//! What a report says of the machine.

use crate::system::Root;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: String,
    pub kernel: String,
    pub cpu: String,
}

impl Machine {
    pub fn of(root: &Root) -> Machine {
        let text = |path: &str| {
            let text = root.text(path).unwrap_or_default();
            if text.is_empty() { "unknown".to_string() } else { text }
        };
        Machine {
            name: text("proc/sys/kernel/hostname"),
            kernel: text("proc/sys/kernel/osrelease"),
            cpu: cpu(&text("proc/cpuinfo")),
        }
    }
}

/// The name that x86 processors give themselves; Arm ones have numbers only.
fn cpu(cpuinfo: &str) -> String {
    let value = |key: &str| {
        cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_string())
        })
    };
    if let Some(name) = value("model name") {
        return name;
    }
    match value("CPU implementer").zip(value("CPU part")) {
        Some((implementer, part)) => format!("Arm implementer {implementer}, part {part}"),
        None => "unknown".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named_as_they_name_themselves() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: Xeon: a kind\n"), "Xeon: a kind");
        let arm = cpu("processor : 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n");
        assert_eq!(arm, "Arm implementer 0x41, part 0xd4f");
        assert_eq!(cpu(""), "unknown");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Machine::of(&Root::at(folder.path())).kernel, "unknown");
    }
}
