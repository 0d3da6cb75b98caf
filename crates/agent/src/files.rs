//! The node's folder, and files that are either as they were or as they should be.

use crate::plan::Key;
use anyhow::Context as _;
use lindos_model::EffectId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket, without the final zero byte.
const SOCKET_PATH_MAX: usize = 107;
/// `/r16000000.sock` is the longest name that we give one.
const SOCKET_NAME_MAX: usize = 16;

#[derive(Clone, Debug)]
pub struct NodeDir(pub PathBuf);

impl NodeDir {
    /// Makes what is missing. Nobody but this user can look inside: whoever can write to a
    /// rank's socket can invent its progress.
    pub fn create(&self) -> anyhow::Result<()> {
        for dir in [self.0.clone(), self.attempts(), self.logs(), self.works(), self.standbys()] {
            private_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(())
    }

    pub fn lock(&self) -> PathBuf {
        self.0.join("agent.lock")
    }

    pub fn incarnation(&self) -> PathBuf {
        self.0.join("incarnation")
    }

    pub fn floors(&self) -> PathBuf {
        self.0.join("floors.json")
    }

    pub fn attempts(&self) -> PathBuf {
        self.0.join("attempts")
    }

    pub fn attempt(&self, key: Key) -> PathBuf {
        self.attempts().join(key.to_string())
    }

    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub fn log(&self, key: Key) -> PathBuf {
        self.logs().join(key.to_string())
    }

    pub fn works(&self) -> PathBuf {
        self.0.join("works")
    }

    /// Processes that wait for a rank, a folder each; those that went on as ranks keep theirs until
    /// their attempt is forgotten.
    pub fn standbys(&self) -> PathBuf {
        self.0.join("standbys")
    }

    pub fn standby(&self, id: EffectId) -> PathBuf {
        self.standbys().join(id.to_string())
    }

    pub fn standby_ids(&self) -> Vec<EffectId> {
        let Ok(entries) = fs::read_dir(self.standbys()) else { return Vec::new() };
        let number =
            |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        let mut ids: Vec<EffectId> = entries.filter_map(number).collect();
        ids.sort_unstable();
        ids
    }

    /// The attempts that have a folder, in order.
    pub fn keys(&self) -> Vec<Key> {
        keys_in(&self.attempts())
    }
}

pub fn keys_in(dir: &Path) -> Vec<Key> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut keys: Vec<Key> =
        entries.filter_map(|entry| Key::parse(entry.ok()?.file_name().to_str()?)).collect();
    keys.sort_unstable();
    keys
}

pub fn spec_file(attempt: &Path) -> PathBuf {
    attempt.join("spec.json")
}

pub fn state_file(attempt: &Path) -> PathBuf {
    attempt.join("state.json")
}

pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} makes no sense", path.display()))
}

/// Whoever reads the file finds the old content or the new. With `durable`, also after the
/// machine has lost its power.
pub fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = (|| {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durable { sync_parent(path) } else { Ok(()) }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

pub fn replace_json<T: Serialize>(path: &Path, value: &T, durable: bool) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?, durable)
}

pub fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A folder for the sockets of an attempt: its own, or, where that makes paths that are too
/// long, a short one that only this user can enter.
pub fn socket_dir(attempt: &Path) -> io::Result<PathBuf> {
    let fits = |dir: &Path| dir.as_os_str().len() + SOCKET_NAME_MAX <= SOCKET_PATH_MAX;
    if fits(attempt) {
        return Ok(attempt.to_path_buf());
    }
    let name = short_name(attempt);
    for base in [std::env::temp_dir(), PathBuf::from("/tmp")] {
        // Somebody else may own the name: then the next.
        for number in 0..100 {
            let dir = base.join(format!("lindos-{name}-{number}"));
            if fits(&dir) && own_private_dir(&dir) {
                return Ok(dir);
            }
        }
    }
    Err(io::Error::other("no folder with a path short enough for sockets can be made"))
}

fn own_private_dir(dir: &Path) -> bool {
    let made = DirBuilder::new().mode(0o700).create(dir);
    if made.is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        return false;
    }
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(dir).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == own && metadata.mode() & 0o777 == 0o700
    })
}

/// The same for the same path: FNV-1a, which needs to be neither secret nor strong here.
fn short_name(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Takes away the sockets of an attempt, and their folder when it is not the attempt's own.
pub fn remove_sockets(socket_dir: &Path, attempt: &Path) {
    if socket_dir != attempt {
        let _ = fs::remove_dir_all(socket_dir);
        return;
    }
    let Ok(entries) = fs::read_dir(socket_dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.path().extension().is_some_and(|extension| extension == "sock") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_gets_a_short_folder_for_its_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let short = folder.path().join("1-1");
        assert_eq!(socket_dir(&short).unwrap(), short);
        let long = folder.path().join("x".repeat(120));
        let found = socket_dir(&long).unwrap();
        assert!(found.as_os_str().len() + SOCKET_NAME_MAX <= SOCKET_PATH_MAX);
        assert_eq!(socket_dir(&long).unwrap(), found);
        assert_eq!(fs::metadata(&found).unwrap().mode() & 0o777, 0o700);
        remove_sockets(&found, &long);
        assert!(!found.exists());
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"old", true).unwrap();
        fs::create_dir(path.with_extension("tmp")).unwrap();
        assert!(replace(&path, b"new", true).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
