//! What a machine of its kind should have: counted and compared, never guessed.

use lindos_model::file::{FileError, Source};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is not named here is not checked: a machine is not at fault for what nobody expects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expectations {
    /// Devices on the PCI bus by kind: `gpu`, `nvswitch`, `infiniband`, `ethernet`, `nvme`.
    pub devices: BTreeMap<String, u64>,
    /// What the operating system should have of memory, at least.
    pub memory_bytes: Option<u64>,
    /// Processors (hardware threads) that should be on.
    pub cpus: Option<u64>,
    /// Whether only Lindos may use the GPUs.
    pub exclusive: bool,
    /// Names that must resolve.
    pub names: Vec<String>,
    /// Folders that must answer, and be writable: checkpoints, data.
    pub folders: Vec<PathBuf>,
    /// The recipe: driver and firmware versions by what they are of, as `lindos health check`
    /// prints them.
    pub versions: BTreeMap<String, String>,
}

impl Expectations {
    pub fn parse(path: &Path, text: &str) -> Result<Expectations, FileError> {
        let source = Source { path, text };
        let expected: Expectations = source.parse()?;
        for kind in expected.devices.keys() {
            if super::pci::Kind::from_name(kind).is_none() {
                let message = format!("no kind of device is called `{kind}`");
                let hint = "the kinds are gpu, nvswitch, infiniband, ethernet and nvme";
                return Err(source.error_at_key(
                    &format!("devices.{kind}"),
                    message,
                    Some(hint.into()),
                ));
            }
        }
        Ok(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expectations, FileError> {
        Expectations::parse(Path::new("node.toml"), text)
    }

    #[test]
    fn expectations_are_read_and_nonsense_is_pointed_at() {
        let text = "memory_bytes = 1024\n[devices]\ngpu = 8\n[versions]\nnvidia_driver = \"550\"\n";
        let expected = parse(text).unwrap();
        assert_eq!((expected.devices["gpu"], expected.memory_bytes), (8, Some(1024)));
        let error = parse("memory_byte = 1\n").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean `memory_bytes`?"));
        let error = parse("[devices]\ntoaster = 1\n").unwrap_err().to_string();
        assert!(error.contains("node.toml:2") && error.contains("toaster"), "{error}");
    }
}
