//! Ready-made profiles, by name: the files of the folder `profiles/`.

use super::profile::Profile;
use lindos_model::file::FileError;
use std::path::PathBuf;

/// Name and text of each.
pub const ALL: [(&str, &str); 6] = [
    ("none", include_str!("../../../../profiles/none.toml")),
    ("llama3-2024", include_str!("../../../../profiles/llama3-2024.toml")),
    ("rsc-1", include_str!("../../../../profiles/rsc-1.toml")),
    ("rsc-2", include_str!("../../../../profiles/rsc-2.toml")),
    ("byterobust-2025", include_str!("../../../../profiles/byterobust-2025.toml")),
    ("delta-h100", include_str!("../../../../profiles/delta-h100.toml")),
];

/// The text of the profile of this name.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The profile of this name; `None` when there is none.
pub fn load(name: &str) -> Option<Result<Profile, FileError>> {
    text(name).map(|text| Profile::parse(&PathBuf::from(format!("profiles/{name}.toml")), text))
}
