//! Profiles, plans and the ready-made profiles together.

mod files;
mod plans;
mod ready_made;

use super::profile::Profile;
use lindos_model::file::FileError;
use lindos_model::{Location, NodeSpec, Time};
use std::collections::BTreeMap;
use std::path::Path;

pub fn location(leaf: &str, rack: &str, pdu: &str) -> Location {
    Location {
        site: "s".into(),
        leaf: leaf.into(),
        rack: rack.into(),
        pdu: pdu.into(),
        ..Location::default()
    }
}

/// Nodes of 8 GPUs, 4 in a rack; 4 racks on a leaf; a PDU feeds racks that are not neighbours.
pub fn fleet(count: usize) -> Vec<NodeSpec> {
    let node = |index: usize| NodeSpec {
        name: format!("n{index}"),
        gpus: 8,
        platform: "generic".into(),
        address: "127.0.0.1".into(),
        location: location(
            &format!("leaf{}", index / 16),
            &format!("rack{}", index / 4),
            &format!("pdu{}", index / 4 % 8),
        ),
        labels: BTreeMap::new(),
    };
    (0..count).map(node).collect()
}

pub fn days(count: u64) -> Time {
    Time(count * 86_400_000)
}

pub fn parse(text: &str) -> Result<Profile, FileError> {
    Profile::parse(Path::new("faults.toml"), text)
}

/// A detection and a repair for the causes of a test.
pub const REST: &str = r#"
about = "a test"
detections = [{ name = "d", after = { fixed = "1m" }, seen = 0.7, source = "a test" }]
repairs = [{ name = "r", source = "a test", by = [
    { kind = "process_restart", chance = 0.2 },
    { kind = "reboot", chance = 0.8, takes = { exponential = "20m" } },
] }]
"#;

/// A profile with these tables after the rest.
pub fn profile(tables: &str) -> Profile {
    parse(&format!("{REST}{tables}")).unwrap_or_else(|error| panic!("{error}"))
}

pub fn cause(name: &str, keys: &str) -> String {
    format!(
        "[[causes]]\nname = \"{name}\"\nsource = \"a test\"\ndetect = \"d\"\nrepair = \"r\"\n{keys}\n"
    )
}
