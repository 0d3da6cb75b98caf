//! Memory and processors: how much is there, and what the memory controllers have counted.

use super::root::Root;
use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use lindos_model::{Device, Finding};
use std::collections::BTreeMap;
use std::time::Duration;

/// Corrected errors of one controller an hour, from which on a module wears out. Field studies
/// see most modules with none in a year.
const CORRECTED_AN_HOUR: u64 = 100;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Memory {
    root: Root,
    expected_bytes: Option<u64>,
}

impl Memory {
    pub fn new(root: Root, expected_bytes: Option<u64>) -> Memory {
        Memory { root, expected_bytes }
    }
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Check for Memory {
    fn about(&self) -> About {
        About {
            name: "mem.total",
            meaning: "less memory than expected, memory that the kernel has given up as broken, \
                      or hardly any that is free",
            source: "/proc/meminfo",
            thresholds: "memory_bytes of the expectations; any broken page; 1% available",
            interval: Duration::from_secs(30),
            confirmations: 2,
            may_wait: false,
            cost: "one small file",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        let text = match self.root.text("proc/meminfo") {
            Ok(text) => text,
            Err(error) => return Reading::Unknown(format!("/proc/meminfo: {error}")),
        };
        let Some(total) = kibibytes(&text, "MemTotal") else {
            return Reading::Unknown("/proc/meminfo has no MemTotal".to_string());
        };
        let mut open = Vec::new();
        let bytes = total << 10;
        if let Some(expected) = self.expected_bytes.filter(|expected| bytes < *expected) {
            let detail = format!("{bytes} bytes of memory, and {expected} are expected");
            open.push(system_finding("mem.less_than_expected", means::INSPECT, None, detail));
        }
        let broken = kibibytes(&text, "HardwareCorrupted").unwrap_or(0);
        if broken > 0 {
            let detail = format!("{broken} KiB were taken out of use for memory errors");
            open.push(system_finding("mem.hardware_corrupted", means::DIAGNOSE, None, detail));
        }
        let available = kibibytes(&text, "MemAvailable").unwrap_or(total);
        if available < total / 100 {
            let detail = format!("{available} KiB of {total} KiB are available");
            open.push(system_finding("mem.nearly_full", means::CROWDED, None, detail));
        }
        Reading::of(format!("{} GiB", total >> 20), open)
    }
}

/// Memory controllers that count errors.
#[derive(Debug)]
pub struct Edac {
    root: Root,
    /// What each controller had counted when its hour began.
    hours: BTreeMap<String, (Duration, u64)>,
}

impl Edac {
    pub fn new(root: Root) -> Edac {
        Edac { root, hours: BTreeMap::new() }
    }

    fn judge(
        &mut self,
        name: &str,
        uncorrected: u64,
        corrected: u64,
        now: Duration,
    ) -> Vec<Finding> {
        let mut open = Vec::new();
        let device = || Some(Device::Named(name.to_string()));
        if uncorrected > 0 {
            let detail = format!("{name} counted {uncorrected} uncorrected errors since the boot");
            open.push(system_finding("mem.edac_uncorrected", means::REPLACE, device(), detail));
        }
        let hour = self.hours.entry(name.to_string()).or_insert((now, corrected));
        let rise = corrected.saturating_sub(hour.1);
        if rise >= CORRECTED_AN_HOUR {
            let detail = format!("{name} corrected {rise} errors within an hour");
            open.push(system_finding("mem.edac_corrected", means::DIAGNOSE, device(), detail));
        }
        if now.saturating_sub(hour.0) >= HOUR {
            *hour = (now, corrected);
        }
        open
    }
}

impl Check for Edac {
    fn about(&self) -> About {
        About {
            name: "mem.edac",
            meaning: "uncorrected memory errors, or corrected ones that come often",
            source: "/sys/devices/system/edac/mc",
            thresholds: "1 uncorrected; 100 corrected an hour and controller",
            interval: Duration::from_secs(60),
            confirmations: 1,
            may_wait: false,
            cost: "2 small files a memory controller",
        }
    }

    fn read(&mut self, now: Duration) -> Reading {
        const FOLDER: &str = "sys/devices/system/edac/mc";
        let controllers = match self.root.names(FOLDER) {
            Ok(names) => names,
            Err(error) => return Reading::Unknown(format!("/{FOLDER}: {error}")),
        };
        let (mut open, mut seen) = (Vec::new(), 0);
        for name in controllers {
            let count = |file: &str| self.root.number(format!("{FOLDER}/{name}/{file}"));
            if let (Some(uncorrected), Some(corrected)) = (count("ue_count"), count("ce_count")) {
                seen += 1;
                open.extend(self.judge(&name, uncorrected, corrected, now));
            }
        }
        if seen == 0 {
            return Reading::Absent("no memory controller that counts errors".to_string());
        }
        Reading::of(format!("{seen} memory controllers"), open)
    }
}

#[derive(Debug)]
pub struct Processors {
    root: Root,
    expected: Option<u64>,
    most: u64,
}

impl Processors {
    pub fn new(root: Root, expected: Option<u64>) -> Processors {
        Processors { root, expected, most: 0 }
    }
}

/// How many numbers are in `0-31,33`.
fn count_list(text: &str) -> Option<u64> {
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            Some((last + 1).saturating_sub(first))
        })
        .sum()
}

impl Check for Processors {
    fn about(&self) -> About {
        About {
            name: "cpu.online",
            meaning: "fewer processors than expected, or than there have been",
            source: "/sys/devices/system/cpu/online",
            thresholds: "cpus of the expectations; any that went",
            interval: Duration::from_secs(60),
            confirmations: 2,
            may_wait: false,
            cost: "one small file",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        const FILE: &str = "sys/devices/system/cpu/online";
        let online = match self.root.text(FILE) {
            Ok(text) => count_list(&text),
            Err(error) => return Reading::Unknown(format!("/{FILE}: {error}")),
        };
        let Some(online) = online else {
            return Reading::Unknown(format!("/{FILE} is not a list of numbers"));
        };
        self.most = self.most.max(online);
        let wanted = self.expected.unwrap_or(0).max(self.most);
        let mut open = Vec::new();
        if online < wanted {
            let detail = format!("{online} of {wanted} processors are on");
            open.push(system_finding("cpu.fewer_than_expected", means::DIAGNOSE, None, detail));
        }
        Reading::of(format!("{online} processors"), open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::root::tests::Tree;

    fn classes(reading: &Reading) -> Vec<String> {
        let Reading::Seen { open, .. } = reading else { panic!("{reading:?}") };
        open.iter().map(|finding| finding.class.to_string()).collect()
    }

    #[test]
    fn memory_that_is_missing_broken_or_full_is_found() {
        let tree = Tree::new();
        let text = "MemTotal: 1048576 kB\nMemAvailable: 10 kB\nHardwareCorrupted: 4 kB\n";
        tree.write("proc/meminfo", text);
        let mut check = Memory::new(tree.root(), Some(2 << 30));
        let found = ["mem.less_than_expected", "mem.hardware_corrupted", "mem.nearly_full"];
        assert_eq!(classes(&check.read(Duration::ZERO)), found);
        tree.write("proc/meminfo", "nothing");
        assert!(matches!(check.read(Duration::ZERO), Reading::Unknown(_)));
    }

    #[test]
    fn corrected_errors_are_found_when_they_come_often() {
        let tree = Tree::new();
        let folder = "sys/devices/system/edac/mc/mc0";
        let count =
            |file: &str, count: u64| tree.write(&format!("{folder}/{file}"), &count.to_string());
        count("ue_count", 0);
        count("ce_count", 5000);
        let mut check = Edac::new(tree.root());
        assert_eq!(classes(&check.read(Duration::ZERO)), Vec::<String>::new());
        count("ce_count", 5099);
        assert_eq!(classes(&check.read(HOUR / 2)), Vec::<String>::new());
        count("ce_count", 5100);
        assert_eq!(classes(&check.read(HOUR)), ["mem.edac_corrected"]);
        count("ue_count", 1);
        assert_eq!(classes(&check.read(HOUR * 2)), ["mem.edac_uncorrected"]);
    }

    #[test]
    fn a_processor_that_goes_is_found() {
        let tree = Tree::new();
        tree.write("sys/devices/system/cpu/online", "0-7");
        let mut check = Processors::new(tree.root(), None);
        assert_eq!(check.read(Duration::ZERO), Reading::of("8 processors", vec![]));
        tree.write("sys/devices/system/cpu/online", "0-2,4-7");
        assert_eq!(classes(&check.read(Duration::ZERO)), ["cpu.fewer_than_expected"]);
        assert_eq!(count_list("0"), Some(1));
        assert_eq!(count_list("all"), None);
    }
}
