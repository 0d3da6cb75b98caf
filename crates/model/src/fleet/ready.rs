//! Ready-made fleets, by name: the files of the folder `fleets/`.

use super::Fleet;
use crate::file::FileError;
use std::path::PathBuf;

/// Name and text of each, the smallest first.
pub const ALL: [(&str, &str); 4] = [
    ("laptop", include_str!("../../../../fleets/laptop.toml")),
    ("cluster-16k", include_str!("../../../../fleets/cluster-16k.toml")),
    ("colossus-200k", include_str!("../../../../fleets/colossus-200k.toml")),
    ("stargate-1m", include_str!("../../../../fleets/stargate-1m.toml")),
];

/// The text of the fleet of this name.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The fleet of this name; `None` when there is none.
pub fn load(name: &str) -> Option<Result<Fleet, FileError>> {
    text(name).map(|text| Fleet::load(&PathBuf::from(format!("fleets/{name}.toml")), text))
}
