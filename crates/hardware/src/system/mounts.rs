//! Local file systems: free space, and whether they can still be written.

use super::root::Root;
use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use lindos_model::{Action, Device, Finding, Severity, Suspect};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const SPACE_LEFT_PERCENT: u64 = 5;
const INODES_LEFT_PERCENT: u64 = 2;
/// File systems that live on a disk of this machine.
const LOCAL: [&str; 8] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs"];
/// Collectives pass their data through it.
const SHARED_MEMORY: &str = "/dev/shm";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    folder: String,
    is_read_only: bool,
}

#[derive(Debug)]
pub struct Space {
    root: Root,
    /// Where something could be written once.
    was_writable: BTreeSet<String>,
}

impl Space {
    pub fn new(root: Root) -> Space {
        Space { root, was_writable: BTreeSet::new() }
    }

    fn judge(&mut self, mount: &Mount) -> Vec<Finding> {
        let mut open = Vec::new();
        let device = || Some(Device::Mount(mount.folder.clone()));
        if !mount.is_read_only {
            self.was_writable.insert(mount.folder.clone());
        } else if self.was_writable.contains(&mount.folder) {
            let detail = format!("{} on {} became read-only", mount.folder, mount.device);
            let means = (Severity::Fatal, Action::RunDiagnostics, Suspect::Hardware);
            open.push(system_finding("fs.read_only", means, device(), detail));
        }
        if mount.is_read_only {
            return open;
        }
        let Ok(space) = rustix::fs::statvfs(self.root.path(mount.folder.trim_start_matches('/')))
        else {
            return open;
        };
        let percent = |left: u64, all: u64| (left * 100).checked_div(all).unwrap_or(100);
        let left = percent(space.f_bavail, space.f_blocks);
        if left < SPACE_LEFT_PERCENT {
            let detail = format!("{} has {left}% of its space left", mount.folder);
            open.push(system_finding("disk.space_low", means::CROWDED, device(), detail));
        }
        let left = percent(space.f_favail, space.f_files);
        if left < INODES_LEFT_PERCENT {
            let detail = format!("{} has {left}% of its file numbers left", mount.folder);
            open.push(system_finding("disk.inodes_low", means::CROWDED, device(), detail));
        }
        open
    }
}

/// Each file system once, at the first folder that it is mounted on.
fn local_mounts(text: &str) -> Vec<Mount> {
    let mut devices = BTreeSet::new();
    let mut mounts = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [device, folder, kind, options, ..] = fields.as_slice() else { continue };
        let folder = unescape(folder);
        let is_shared_memory = *kind == "tmpfs" && folder == SHARED_MEMORY;
        if !LOCAL.contains(kind) && !is_shared_memory {
            continue;
        }
        let is_new = devices.insert(*device);
        if is_new || is_shared_memory {
            let is_read_only = options.split(',').any(|o| o == "ro" || o == "emergency_ro");
            mounts.push(Mount { device: unescape(device), folder, is_read_only });
        }
    }
    mounts
}

/// `\040` is a blank.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            out.push(code as char);
            rest = &rest[at + 4..];
        } else {
            out.push('\\');
            rest = &rest[at + 1..];
        }
    }
    out + rest
}

impl Check for Space {
    fn about(&self) -> About {
        About {
            name: "disk.mounts",
            meaning: "a local file system that is nearly full, or that became read-only",
            source: "/proc/self/mounts, statvfs",
            thresholds: "5% of the space, 2% of the file numbers",
            interval: Duration::from_secs(30),
            confirmations: 1,
            // A dead disk never answers.
            may_wait: true,
            cost: "one system call a file system, and a short thread",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        // Not text(): mounts may have names that end in blanks.
        let file = self.root.path(Path::new("proc/self/mounts"));
        let text = match std::fs::read(&file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return Reading::Unknown(format!("/proc/self/mounts: {error}")),
        };
        let mounts = local_mounts(&text);
        if mounts.is_empty() {
            return Reading::Absent("no local file system".to_string());
        }
        let open = mounts.iter().flat_map(|mount| self.judge(mount)).collect();
        Reading::of(format!("{} file systems", mounts.len()), open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::root::tests::Tree;

    #[test]
    fn local_file_systems_are_told_from_others() {
        let text = "/dev/vda1 / ext4 rw,relatime 0 0\n\
                    /dev/vda1 /var/lib ext4 rw 0 0\n\
                    proc /proc proc rw 0 0\n\
                    tmpfs /dev/shm tmpfs rw 0 0\n\
                    tmpfs /run tmpfs rw 0 0\n\
                    fs01:/x /home nfs4 rw 0 0\n\
                    /dev/md0 /mnt/my\\040data xfs ro,noatime 0 0\n";
        let mounts: Vec<(String, bool)> =
            local_mounts(text).into_iter().map(|m| (m.folder, m.is_read_only)).collect();
        let wanted = [("/", false), ("/dev/shm", false), ("/mnt/my data", true)];
        assert_eq!(mounts, wanted.map(|(folder, ro)| (folder.to_string(), ro)));
    }

    #[test]
    fn a_mount_that_becomes_read_only_is_found_and_one_that_always_was_is_not() {
        let tree = Tree::new();
        tree.write("data/file", "");
        let mounts = |options: &str| {
            tree.write("proc/self/mounts", &format!("/dev/md0 /data xfs {options} 0 0\n"));
        };
        let mut check = Space::new(tree.root());
        let is_found = |reading: Reading| {
            let Reading::Seen { open, .. } = reading else { panic!("{reading:?}") };
            open.iter().any(|finding| finding.class.as_str() == "fs.read_only")
        };
        mounts("ro");
        assert!(!is_found(check.read(Duration::ZERO)));
        mounts("rw");
        assert!(!is_found(check.read(Duration::ZERO)));
        mounts("ro");
        assert!(is_found(check.read(Duration::ZERO)));
    }
}
