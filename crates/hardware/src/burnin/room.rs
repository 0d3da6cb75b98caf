//! How much memory may be taken without anybody being killed for it.

use crate::system::Root;
use std::path::Path;

/// Bytes that are to be had: what the kernel would give without swapping, and what the control
/// groups above this process leave, whichever is less.
pub fn available(root: &Root) -> Result<u64, String> {
    let text = root.text("proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    let kibibytes = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok()
        })
        .map(|kibibytes: u64| kibibytes << 10);
    let free = kibibytes.ok_or("/proc/meminfo has no MemAvailable")?;
    Ok(group_room(root).map_or(free, |room| room.min(free)))
}

/// What the tightest group leaves; `None` without a limit.
fn group_room(root: &Root) -> Option<u64> {
    let groups = root.text("proc/self/cgroup").ok()?;
    let rooms = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.is_empty() {
            tightest(root, "sys/fs/cgroup", path, &V2)
        } else if controllers.split(',').any(|name| name == "memory") {
            tightest(root, "sys/fs/cgroup/memory", path, &V1)
        } else {
            None
        }
    });
    rooms.min()
}

struct Names {
    limit: &'static str,
    used: &'static str,
    cache: &'static str,
}

const V2: Names = Names { limit: "memory.max", used: "memory.current", cache: "inactive_file " };
const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: "total_inactive_file ",
};

/// From the group of this process up to the root: a limit holds for all below it.
fn tightest(root: &Root, mount: &str, path: &str, names: &Names) -> Option<u64> {
    let mut rooms = Vec::new();
    for folder in Path::new(path.trim_start_matches('/')).ancestors() {
        let number = |file: &str| -> Option<u64> {
            let path = Path::new(mount).join(folder).join(file);
            root.text(path.to_str()?).ok()?.trim().parse().ok()
        };
        let Some(limit) = number(names.limit) else { continue };
        let Some(used) = number(names.used) else { continue };
        // Files that nobody has looked at lately give way before anybody is killed.
        let stat = Path::new(mount).join(folder).join("memory.stat");
        let stat = stat.to_str().and_then(|path| root.text(path).ok()).unwrap_or_default();
        let cache: u64 = stat
            .lines()
            .find_map(|line| line.strip_prefix(names.cache)?.trim().parse().ok())
            .unwrap_or(0);
        rooms.push(limit.saturating_sub(used.saturating_sub(cache)));
    }
    rooms.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            machine.write("proc/meminfo", "MemTotal: 64000 kB\nMemAvailable: 32000 kB\n");
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn available(&self) -> Result<u64, String> {
            available(&Root::at(self.0.path()))
        }
    }

    #[test]
    fn without_a_group_it_is_what_the_kernel_would_give() {
        let machine = Machine::new();
        assert_eq!(machine.available(), Ok(32000 << 10));
        machine.write("proc/self/cgroup", "0::/a/b\n");
        machine.write("sys/fs/cgroup/a/b/memory.max", "max\n");
        machine.write("sys/fs/cgroup/a/b/memory.current", "5\n");
        assert_eq!(machine.available(), Ok(32000 << 10));
    }

    #[test]
    fn the_tightest_of_the_groups_above_counts() {
        let machine = Machine::new();
        machine.write("proc/self/cgroup", "0::/a/b\n");
        machine.write("sys/fs/cgroup/a/memory.max", "10000000\n");
        machine.write("sys/fs/cgroup/a/memory.current", "9000000\n");
        machine.write("sys/fs/cgroup/a/b/memory.max", "8000000\n");
        machine.write("sys/fs/cgroup/a/b/memory.current", "1000000\n");
        assert_eq!(machine.available(), Ok(1_000_000));
        machine.write("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 500000\n");
        assert_eq!(machine.available(), Ok(1_500_000));
    }

    #[test]
    fn the_older_groups_are_read_as_well() {
        let machine = Machine::new();
        machine.write("proc/self/cgroup", "3:cpu:/x\n2:memory,hugetlb:/job\n");
        machine.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4000000\n");
        machine.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000000\n");
        assert_eq!(machine.available(), Ok(3_000_000));
    }

    #[test]
    fn a_kernel_that_does_not_say_is_not_guessed_at() {
        let machine = Machine::new();
        machine.write("proc/meminfo", "MemTotal: 64000 kB\n");
        assert!(machine.available().unwrap_err().contains("MemAvailable"));
    }
}
