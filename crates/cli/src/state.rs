//! The state folder of a control plane on this machine: where it is, and who serves from it.

use crate::failure::Failure;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `--state`, else `$LINDOS_STATE` (clap reads both), else the user's own state folder.
pub fn folder(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let xdg = std::env::var_os("XDG_STATE_HOME").filter(|xdg| !xdg.is_empty());
    let path = match (given, xdg, home) {
        (Some(given), _, _) if given.as_os_str().is_empty() => {
            return Err(Failure::bad_input(
                "the state folder's name is empty",
                "give --state a folder, or unset LINDOS_STATE",
            ));
        }
        (Some(given), _, _) => given.to_path_buf(),
        (None, Some(xdg), _) => Path::new(&xdg).join("lindos"),
        (None, None, Some(home)) => Path::new(&home).join(".local/state/lindos"),
        (None, None, None) => {
            return Err(Failure::bad_input(
                "there is no place for the state: neither HOME nor XDG_STATE_HOME is set",
                "name one with --state DIR or LINDOS_STATE",
            ));
        }
    };
    std::path::absolute(&path).map_err(|error| {
        Failure::state(format!("{}: {error}", path.display()), "name a folder with --state DIR")
    })
}

/// The folder, made if it is not there.
pub fn create(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::state(
            format!("the state folder {} cannot be made: {error}", folder.display()),
            "name a folder that you may write to with --state DIR",
        )
    })
}

/// What a control plane writes into STATE/server.json.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerFile {
    pub url: String,
    pub token: String,
    pub pid: u32,
}

pub fn server_path(folder: &Path) -> PathBuf {
    folder.join("server.json")
}

/// The control plane that served from here last; it need not live any more.
pub fn server_file(folder: &Path) -> Option<ServerFile> {
    let text = std::fs::read_to_string(server_path(folder)).ok()?;
    serde_json::from_str(&text).ok()
}

pub fn node_folder(state: &Path, node: &str) -> PathBuf {
    state.join("nodes").join(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_absolute_and_an_empty_name_is_refused() {
        assert!(folder(Some(Path::new("x"))).unwrap().is_absolute());
        assert!(folder(Some(Path::new(""))).is_err());
    }

    #[test]
    fn a_server_file_with_more_keys_than_we_know_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(server_file(folder.path()), None);
        let text = r#"{"url":"http://127.0.0.1:1","token":"ab","pid":7,"version":"0.1.0","x":1}"#;
        std::fs::write(folder.path().join("server.json"), text).unwrap();
        assert_eq!(server_file(folder.path()).unwrap().pid, 7);
    }
}
