//! The words of drivers and of the kernel, in order: the first rule that matches has the line.
//!
//! A rule has a needle, which is looked for in every line, and a pattern, which is compiled when
//! its needle turns up for the first time: a healthy machine compiles few. Named groups of the
//! pattern fill in the device (`pci`, `disk`, `port`, `cpu`, `named`) and the code (`code`); a line
//! without such a group is about the first PCI address that it names.
//!
//! A rule without a class says that the line is harmless, and stands before the one that it is an
//! exception of.

mod gpu;
mod memory;
mod nic;
mod pcie;
mod storage;
mod system;

use lindos_model::{Action, Device, Finding, FindingClass, FindingSource, Severity, Suspect};
use regex_lite::{Captures, Regex};
use std::sync::OnceLock;

/// All rules; numbers of the NVIDIA driver come before them ([`super::xid`]).
static TABLES: [&[Rule]; 6] =
    [gpu::RULES, pcie::RULES, nic::RULES, memory::RULES, storage::RULES, system::RULES];

#[derive(Debug)]
pub struct Rule {
    /// `None`: harmless.
    pub class: Option<&'static str>,
    pub severity: Severity,
    pub action: Action,
    pub suspect: Suspect,
    /// Some part of every line that the pattern matches.
    pub needle: &'static str,
    pub pattern: &'static str,
}

const fn rule(
    class: &'static str,
    (severity, action, suspect): (Severity, Action, Suspect),
    needle: &'static str,
    pattern: &'static str,
) -> Rule {
    Rule { class: Some(class), severity, action, suspect, needle, pattern }
}

const fn harmless(needle: &'static str, pattern: &'static str) -> Rule {
    Rule {
        class: None,
        severity: Severity::Info,
        action: Action::None,
        suspect: Suspect::Unclear,
        needle,
        pattern,
    }
}

/// The patterns that were needed so far, by the place of their rule.
static COMPILED: OnceLock<Box<[OnceLock<Regex>]>> = OnceLock::new();

fn captures<'a>(place: usize, rule: &Rule, text: &'a str) -> Option<Captures<'a>> {
    if !text.contains(rule.needle) {
        return None;
    }
    let cells = COMPILED.get_or_init(|| all().map(|_| OnceLock::new()).collect());
    let compiled = cells[place]
        .get_or_init(|| Regex::new(rule.pattern).expect("a test compiles every pattern"));
    compiled.captures(text)
}

/// Every rule, in order.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    TABLES.iter().copied().flatten()
}

/// What the line says; `None` where no rule knows it, or one knows it to be harmless.
pub fn read(text: &str) -> Option<Finding> {
    let (rule, found) =
        all().enumerate().find_map(|(place, rule)| Some((rule, captures(place, rule, text)?)))?;
    Some(Finding {
        class: FindingClass::known(rule.class?),
        severity: rule.severity,
        action: rule.action,
        suspect: rule.suspect,
        device: device(&found).or_else(|| first_pci(text)),
        code: found.name("code").and_then(|m| parse_code(m.as_str())),
        source: FindingSource::KernelLog,
        detail: text.trim().to_string(),
        cause: None,
    })
}

fn device(found: &Captures<'_>) -> Option<Device> {
    let group = |name: &str| found.name(name).map(|m| m.as_str());
    let named = |name: &str| group(name).map(ToString::to_string);
    group("pci")
        .and_then(|text| text.parse().ok())
        .map(Device::Pci)
        .or_else(|| named("disk").map(Device::Disk))
        .or_else(|| named("port").map(Device::Port))
        .or_else(|| group("cpu")?.parse().ok().map(Device::Cpu))
        .or_else(|| named("named").map(Device::Named))
}

/// Only whole addresses: `12:30:05` may be a clock.
fn first_pci(text: &str) -> Option<Device> {
    text.split([' ', ',', '(', ')', '[', ']', '='])
        .map(|word| word.trim_end_matches([':', '.']))
        .filter(|word| word.len() >= 12 && word.contains('.'))
        .find_map(|word| word.parse().ok())
        .map(Device::Pci)
}

fn parse_code(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Severity, action and suspect in the orders that come often.
mod means {
    use lindos_model::{Action, Severity, Suspect};

    pub type Means = (Severity, Action, Suspect);

    pub const NOISE: Means = (Severity::Info, Action::None, Suspect::Software);
    /// Hardware that corrected an error.
    pub const CORRECTED: Means = (Severity::Nonfatal, Action::None, Suspect::Hardware);
    pub const WARNING: Means = (Severity::Warning, Action::None, Suspect::Unclear);
    pub const LOOK_AT_IT: Means = (Severity::Warning, Action::Inspect, Suspect::Hardware);
    pub const TEST_IT: Means = (Severity::Warning, Action::RunDiagnostics, Suspect::Hardware);
    pub const REPLACE_IT: Means = (Severity::Fatal, Action::Replace, Suspect::Hardware);
    pub const LOST: Means = (Severity::Fatal, Action::Reboot, Suspect::Hardware);
    pub const LOST_BY_SOFTWARE: Means = (Severity::Fatal, Action::Reboot, Suspect::Software);
    pub const LOST_UNCLEAR: Means = (Severity::Fatal, Action::Reboot, Suspect::Unclear);
    pub const BY_USER: Means = (Severity::Warning, Action::RestartApp, Suspect::User);
    pub const SET_UP: Means = (Severity::Warning, Action::UpdateSoftware, Suspect::Software);
    pub const ELSEWHERE: Means = (Severity::Warning, Action::None, Suspect::Peer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_compiles_and_has_a_proper_class() {
        for rule in all() {
            Regex::new(rule.pattern).unwrap_or_else(|error| panic!("{error}"));
            assert!(rule.needle.len() >= 4, "too short to be rare: {}", rule.needle);
            if let Some(class) = rule.class {
                assert!(class.parse::<FindingClass>().is_ok(), "{class}");
            }
        }
    }

    #[test]
    fn a_loss_says_what_to_do() {
        for rule in all().filter(|rule| rule.severity.is_loss_of_hardware()) {
            assert_ne!(rule.action, Action::None, "{:?}", rule.class);
        }
    }

    #[test]
    fn there_are_classes_of_every_kind_of_part() {
        let parts: BTreeSet<&str> =
            all().filter_map(|rule| rule.class?.split('.').next()).collect();
        let wanted = [
            "app", "cpu", "disk", "fs", "gpu", "mem", "nfs", "nic", "nvme", "os", "pcie", "thermal",
        ];
        for part in wanted {
            assert!(parts.contains(part), "{part}");
        }
    }

    #[test]
    fn every_class_stands_in_the_documents() {
        let text = include_str!("../../../../../docs/health.md");
        let is_missing = |class: &&str| {
            let name = class.rsplit('.').next().unwrap_or_default();
            let short = name.trim_start_matches("machine_check");
            !text.contains(&format!("{name}`")) && !text.contains(&format!("`{short}`"))
        };
        let missing: Vec<&str> = all().filter_map(|rule| rule.class).filter(is_missing).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn clocks_and_versions_are_no_pci_addresses() {
        assert_eq!(first_pci("at 2025-01-21 12:30:05.5 version 12.0:01:02.3"), None);
        let found = first_pci("mlx5_core 0000:5c:00.0: poll_health").unwrap();
        assert_eq!(found.to_string(), "0000:5c:00.0");
    }
}
