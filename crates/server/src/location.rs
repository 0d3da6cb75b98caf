//! Where a control plane is to be found: the file `server.json` in the state folder.

use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What a client or an agent needs to speak to a control plane. Unknown keys are ignored: an
/// older client may meet a newer control plane.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    pub url: String,
    pub token: String,
    pub pid: u32,
    pub version: String,
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Location")
            .field("url", &self.url)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Location {
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("server.json")
    }

    /// `None` when there is no such file: no control plane runs on this state. The file of one
    /// that was killed is still there; nobody answers at its address then.
    pub fn read(state_dir: &Path) -> io::Result<Option<Location>> {
        match fs::read(Self::path(state_dir)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file whole, readable by its owner alone.
    pub(crate) fn write(&self, state_dir: &Path) -> io::Result<()> {
        let beside = state_dir.join(format!(".server.json.{}", std::process::id()));
        // A leftover would keep its own permissions.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&beside, Self::path(state_dir))
    }

    /// Removes the file if it still speaks of this control plane.
    pub(crate) fn remove(&self, state_dir: &Path) -> io::Result<()> {
        if Self::read(state_dir)?.as_ref() == Some(self) {
            fs::remove_file(Self::path(state_dir))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_file_is_private_and_only_its_own_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mine = Location {
            url: "http://127.0.0.1:1".into(),
            token: "secret".into(),
            pid: 1,
            version: "0".into(),
        };
        assert_eq!(Location::read(folder.path()).unwrap(), None);
        mine.write(folder.path()).unwrap();
        let mode = fs::metadata(Location::path(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Location::read(folder.path()).unwrap(), Some(mine.clone()));
        assert!(!format!("{mine:?}").contains("secret"));

        let other = Location { pid: 2, ..mine.clone() };
        other.remove(folder.path()).unwrap();
        assert!(Location::read(folder.path()).unwrap().is_some());
        mine.remove(folder.path()).unwrap();
        assert_eq!(Location::read(folder.path()).unwrap(), None);
        mine.remove(folder.path()).unwrap();
    }
}
