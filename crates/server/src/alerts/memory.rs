//! What a webhook has been told, over restarts of the control plane.
//!
//! A small file of its own, `alerts/NAME.json` in the state folder: how far the trail was read, and
//! which entries before that are still to be told. It is written after each delivery, so that an
//! entry is told twice only if the control plane is lost between an answer and this.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// A name of this state folder, for the ids of deliveries.
    pub state: String,
    /// The last entry of the trail that was looked at.
    pub read_to: u64,
    /// Of those, the ones that are to be told, as first and last.
    pub pending: Vec<(u64, u64)>,
}

impl Memory {
    pub fn new(state: &str, read_to: u64, pending: impl IntoIterator<Item = u64>) -> Memory {
        let mut seqs: Vec<u64> = pending.into_iter().collect();
        seqs.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for seq in seqs {
            match ranges.last_mut() {
                Some((_, last)) if seq <= *last + 1 => *last = seq,
                _ => ranges.push((seq, seq)),
            }
        }
        Memory { state: state.to_string(), read_to, pending: ranges }
    }

    /// Whether nothing more is to be said of the entry.
    pub fn is_settled(&self, seq: u64) -> bool {
        let is_in = |&(first, last): &(u64, u64)| (first..=last).contains(&seq);
        seq <= self.read_to && !self.pending.iter().any(is_in)
    }

    pub fn path(state_dir: &Path, webhook: &str) -> PathBuf {
        state_dir.join("alerts").join(format!("{webhook}.json"))
    }

    /// `None`: this webhook has never been served.
    pub fn read(path: &Path) -> io::Result<Option<Memory>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file whole: a reader sees the old one or the new one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().expect("it stands in a folder");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let beside = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&beside, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_what_is_still_to_be_told() {
        let memory = Memory::new("s", 20, [7, 3, 4, 5, 5]);
        assert_eq!(memory.pending, [(3, 5), (7, 7)]);
        let open: Vec<u64> = (1..=22).filter(|&seq| !memory.is_settled(seq)).collect();
        assert_eq!(open, [3, 4, 5, 7, 21, 22]);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = Memory::path(folder.path(), "oncall");
        assert_eq!(Memory::read(&path).unwrap(), None);
        for memory in [Memory::new("s", 9, [4]), Memory::new("s", 12, [])] {
            memory.write(&path).unwrap();
            assert_eq!(Memory::read(&path).unwrap(), Some(memory));
        }
        fs::write(&path, "{").unwrap();
        assert!(Memory::read(&path).is_err());
    }
}
