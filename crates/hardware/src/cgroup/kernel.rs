//! The kernel's own control groups, through their files.

use super::Cgroup;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Rounds of killing members one by one, where the kernel has no `cgroup.kill`. Each round gets
/// all that were there at its start, so that only a fork bomb needs more than two or three.
const KILL_ROUNDS: u32 = 100;

/// Where this process stands in the hierarchies that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 2, or else the freezer of version 1: it holds the processes together.
    tracking: PathBuf,
    /// Version 1's memory controller, when memory is not in `tracking`.
    memory: Option<PathBuf>,
}

/// Where the group of one attempt stands. To be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub tracking: PathBuf,
    pub memory: Option<PathBuf>,
}

#[derive(Debug)]
pub struct KernelCgroup {
    place: Place,
}

impl Hierarchies {
    /// What is mounted, and where this process is in it. `None`: no control groups.
    pub fn detect() -> Option<Hierarchies> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Hierarchies::parse(&mounts, &own)
    }

    fn parse(mounts: &str, own: &str) -> Option<Hierarchies> {
        let v2 = find(mounts, own, None);
        let v1_memory = find(mounts, own, Some("memory"));
        let tracking = v2.or_else(|| find(mounts, own, Some("freezer")))?;
        Some(Hierarchies { tracking, memory: v1_memory })
    }

    /// The place for a group of this name below this process's own.
    pub fn place(&self, name: &str) -> Place {
        Place {
            tracking: self.tracking.join(name),
            memory: self.memory.as_ref().map(|folder| folder.join(name)),
        }
    }
}

/// This process's folder in version 2 (`controller` is `None`) or in a controller of version 1.
fn find(mounts: &str, own: &str, controller: Option<&str>) -> Option<PathBuf> {
    let (root, point) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let mut fields = after.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let fits = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        fits.then_some((root, point))
    })?;
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = match controller {
            None => number == "0" && controllers.is_empty(),
            Some(name) => controllers.split(',').any(|controller| controller == name),
        };
        fits.then_some(path)
    })?;
    let inside = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    let folder = Path::new(point).join(inside);
    Some(if folder.is_dir() { folder } else { PathBuf::from(point) })
}

impl Place {
    /// Makes the group, or takes the one that is there.
    pub fn create(&self) -> io::Result<KernelCgroup> {
        make_dir(&self.tracking)?;
        // Memory is not needed to hold processes together: it only tells why one was killed. In
        // version 2 the controller must be handed down, which needs a parent without processes.
        if let Some(parent) = self.tracking.parent() {
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        let memory = self.memory.clone().filter(|path| make_dir(path).is_ok());
        let group = KernelCgroup { place: Place { tracking: self.tracking.clone(), memory } };
        if let Err(error) = group.entrances() {
            let _ = group.remove();
            return Err(error);
        }
        Ok(group)
    }

    /// The group that stands here, if it does.
    pub fn open(&self) -> Option<KernelCgroup> {
        let exists = self.tracking.is_dir() || self.memory.as_deref().is_some_and(Path::is_dir);
        exists.then(|| KernelCgroup { place: self.clone() })
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

impl KernelCgroup {
    /// Where it stands: without the memory part, if that could not be made.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.place.tracking.as_path()).chain(self.place.memory.as_deref())
    }
}

impl Cgroup for KernelCgroup {
    fn entrances(&self) -> io::Result<Vec<File>> {
        self.folders()
            .map(|folder| OpenOptions::new().write(true).open(folder.join("cgroup.procs")))
            .collect()
    }

    fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for folder in self.folders().filter(|folder| folder.is_dir()) {
            collect_pids(folder, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    fn kill(&self) -> io::Result<()> {
        if fs::write(self.place.tracking.join("cgroup.kill"), "1").is_err() {
            // Version 1, or a kernel before 5.14: frozen processes cannot fork while we kill.
            let freezer = self.place.tracking.join("freezer.state");
            let _ = fs::write(&freezer, "FROZEN");
            kill_each(&self.pids()?);
            let _ = fs::write(&freezer, "THAWED");
        }
        // Whoever is only in the memory part, or came too late to be frozen.
        for _ in 0..KILL_ROUNDS {
            if !kill_each(&self.pids()?) {
                break;
            }
        }
        Ok(())
    }

    fn oom_kills(&self) -> u64 {
        if let Some(memory) = &self.place.memory {
            return count_in(&memory.join("memory.oom_control"), "oom_kill").unwrap_or(0);
        }
        // Without a memory controller of its own, its members are charged to the nearest group
        // above that has one.
        self.place
            .tracking
            .ancestors()
            .take_while(|folder| folder.join("cgroup.procs").exists())
            .find_map(|folder| count_in(&folder.join("memory.events"), "oom_kill"))
            .unwrap_or(0)
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        match &self.place.memory {
            Some(memory) => fs::write(memory.join("memory.limit_in_bytes"), bytes.to_string()),
            None => fs::write(self.place.tracking.join("memory.max"), bytes.to_string()),
        }
    }

    fn remove(&self) -> io::Result<()> {
        self.folders().filter(|folder| folder.is_dir()).try_for_each(remove_tree)
    }
}

/// Whether any of them was still alive.
fn kill_each(pids: &[u32]) -> bool {
    let mut any = false;
    for &pid in pids {
        if crate::process::stat(pid).is_some_and(|stat| stat.is_alive()) {
            any = true;
            if let Some(pid) = crate::process::rustix_pid(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
    any
}

fn collect_pids(folder: &Path, pids: &mut Vec<u32>) -> io::Result<()> {
    let text = fs::read_to_string(folder.join("cgroup.procs"))?;
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for below in subfolders(folder) {
        collect_pids(&below, pids)?;
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for below in subfolders(folder) {
        remove_tree(&below)?;
    }
    fs::remove_dir(folder)
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The number beside a word in one of the kernel's tables.
fn count_in(file: &Path, word: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn version_2_and_the_hybrid_are_told_apart() {
        let v2 = "30 23 0:26 / /nowhere/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let found = Hierarchies::parse(v2, "0::/system.slice/lindos.service\n").unwrap();
        // The folder does not exist on this machine: the mount point stands in for it.
        assert_eq!(found, Hierarchies { tracking: "/nowhere/cgroup".into(), memory: None });

        let hybrid = "30 23 0:26 / /nowhere/memory rw - cgroup cgroup rw,memory\n\
                      31 23 0:27 / /nowhere/freezer rw - cgroup cgroup rw,freezer\n\
                      32 23 0:28 / /nowhere/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/x\n3:freezer:/\n0::/\n";
        let found = Hierarchies::parse(hybrid, own).unwrap();
        assert_eq!(found.tracking, Path::new("/nowhere/unified"));
        assert_eq!(found.memory.as_deref(), Some(Path::new("/nowhere/memory")));

        let v1 = &hybrid[..hybrid.find("32 23").unwrap()];
        assert_eq!(Hierarchies::parse(v1, own).unwrap().tracking, Path::new("/nowhere/freezer"));
        assert_eq!(Hierarchies::parse("", own), None);
    }

    /// Runs only where this user may make control groups; elsewhere there is nothing to test.
    #[test]
    fn the_kernel_keeps_a_group_together_and_kills_it() {
        let name = format!("lindos-test-{}", std::process::id());
        let Some(place) = Hierarchies::detect().map(|found| found.place(&name)) else { return };
        let Ok(group) = place.create() else { return };
        let mut command = Command::new("sh");
        // A grandchild that leaves its session and its parent.
        command.args(["-c", "setsid sleep 1000 & echo ready; exec sleep 1000"]);
        command.stdout(Stdio::piped());
        crate::child::prepare(&mut command, group.entrances().unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = [0; 6];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        assert!(group.pids().unwrap().contains(&child.id()));
        assert!(group.remove().is_err(), "a group with members was removed");
        assert_eq!(group.oom_kills(), 0);
        group.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        let removed = (0..1_000_000).any(|_| place.open().is_none_or(|it| it.remove().is_ok()));
        assert!(removed, "members: {:?}", group.pids());
        assert!(place.open().is_none());
    }
}
