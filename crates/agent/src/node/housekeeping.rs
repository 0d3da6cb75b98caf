//! Old logs: kept after their attempts are forgotten, up to a total.

use crate::files::{self, NodeDir};
use crate::plan::Key;
use std::collections::BTreeSet;
use std::path::Path;

/// All logs of a node together, without those of attempts that are not forgotten.
pub const LOG_BYTES_MAX: u64 = 16 << 30;
/// Folders of logs, whatever their size.
const LOG_FOLDERS_MAX: usize = 1000;

/// Removes the logs of the oldest attempts until the others fit. `keep` are never removed.
pub fn prune_logs(dir: &NodeDir, keep: &BTreeSet<Key>, bytes_max: u64) {
    let mut old: Vec<(Key, u64)> = files::keys_in(&dir.logs())
        .into_iter()
        .filter(|key| !keep.contains(key))
        .map(|key| (key, folder_bytes(&dir.log(key))))
        .collect();
    let mut total: u64 = old.iter().map(|(_, bytes)| bytes).sum();
    old.reverse(); // The oldest last.
    while total > bytes_max || old.len() > LOG_FOLDERS_MAX {
        let Some((key, bytes)) = old.pop() else { break };
        let _ = std::fs::remove_dir_all(dir.log(key));
        total -= bytes;
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::{Epoch, JobId};

    #[test]
    fn the_oldest_logs_go_first_and_living_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dir = NodeDir(folder.path().to_path_buf());
        for name in ["1-1", "2-9", "2-10", "3-1"] {
            let log = dir.logs().join(name);
            std::fs::create_dir_all(&log).unwrap();
            std::fs::write(log.join("rank-0.log"), [b'x'; 100]).unwrap();
        }
        let keep = BTreeSet::from([Key { job: JobId(1), epoch: Epoch(1) }]);
        prune_logs(&dir, &keep, 200);
        let left: Vec<String> =
            files::keys_in(&dir.logs()).iter().map(ToString::to_string).collect();
        assert_eq!(left, ["1-1", "2-10", "3-1"]);
    }
}
