//! Versions of drivers and firmware, against the recipe of the platform.

use super::root::Root;
use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use lindos_model::{Device, Finding};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What has one version, and the file that tells it.
const SINGLE: [(&str, &str); 5] = [
    ("kernel", "proc/sys/kernel/osrelease"),
    ("bios", "sys/class/dmi/id/bios_version"),
    ("nvidia_driver", "sys/module/nvidia/version"),
    ("mlx5_driver", "sys/module/mlx5_core/version"),
    ("amdgpu_driver", "sys/module/amdgpu/version"),
];
/// What is there several times: a folder of devices, and the file in each.
const SEVERAL: [(&str, &str, &str); 2] = [
    ("infiniband_firmware", "sys/class/infiniband", "fw_ver"),
    ("nvme_firmware", "sys/class/nvme", "firmware_rev"),
];

#[derive(Debug)]
pub struct Versions {
    root: Root,
    recipe: BTreeMap<String, String>,
}

impl Versions {
    pub fn new(root: Root, recipe: BTreeMap<String, String>) -> Versions {
        Versions { root, recipe }
    }

    /// By what they are of; more than one where devices differ.
    fn found(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mut found: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        for (name, file) in SINGLE {
            if let Ok(version) = self.root.text(file) {
                found.entry(name).or_default().insert(version);
            }
        }
        for (name, folder, file) in SEVERAL {
            for device in self.root.names(folder).unwrap_or_default() {
                if let Ok(version) = self.root.text(format!("{folder}/{device}/{file}")) {
                    found.entry(name).or_default().insert(version);
                }
            }
        }
        found
    }
}

fn compare(name: &str, wanted: &str, there: Option<&BTreeSet<String>>) -> Option<Finding> {
    let device = Some(Device::Named(name.to_string()));
    let Some(there) = there else {
        let detail = format!("{name} is not there, and the recipe wants {wanted}");
        return Some(system_finding("software.missing", means::SET_UP, device, detail));
    };
    let wrong: Vec<&str> = there.iter().map(String::as_str).filter(|v| *v != wanted).collect();
    if wrong.is_empty() {
        return None;
    }
    let detail = format!("{name} is {}, and the recipe wants {wanted}", wrong.join(", "));
    Some(system_finding("software.version_mismatch", means::SET_UP, device, detail))
}

impl Check for Versions {
    fn about(&self) -> About {
        About {
            name: "software.versions",
            meaning: "a driver or firmware that is not the one of the recipe, or devices of one \
                      kind that differ",
            source: "/sys/module, /sys/class, /proc/sys/kernel",
            thresholds: "versions of the expectations, compared letter by letter",
            interval: Duration::from_secs(300),
            confirmations: 1,
            may_wait: false,
            cost: "5 small files, and one a device",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        let found = self.found();
        if found.is_empty() {
            return Reading::Unknown("no version of anything can be read".to_string());
        }
        let mut open: Vec<Finding> = self
            .recipe
            .iter()
            .filter_map(|(name, wanted)| compare(name, wanted, found.get(name.as_str())))
            .collect();
        for (name, versions) in found.iter().filter(|(_, versions)| versions.len() > 1) {
            // Disks differ in make; adapters of one node should not.
            if *name == "infiniband_firmware" && !self.recipe.contains_key(*name) {
                let list: Vec<&str> = versions.iter().map(String::as_str).collect();
                let detail = format!("adapters differ: {}", list.join(", "));
                let device = Some(Device::Named((*name).to_string()));
                open.push(system_finding(
                    "software.versions_differ",
                    means::SET_UP,
                    device,
                    detail,
                ));
            }
        }
        let words: Vec<String> = found
            .iter()
            .map(|(name, versions)| {
                let list: Vec<&str> = versions.iter().map(String::as_str).collect();
                format!("{name} {}", list.join(" "))
            })
            .collect();
        Reading::of(words.join(", "), open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::root::tests::Tree;

    #[test]
    fn the_recipe_is_compared_letter_by_letter() {
        let tree = Tree::new();
        tree.write("proc/sys/kernel/osrelease", "6.8.0-45-generic\n");
        tree.write("sys/class/infiniband/mlx5_0/fw_ver", "28.39.1002\n");
        tree.write("sys/class/infiniband/mlx5_1/fw_ver", "28.40.1000\n");
        let recipe = [("kernel", "6.8.0-45-generic"), ("nvidia_driver", "550.54.15")];
        let classes = |recipe: &[(&str, &str)]| {
            let recipe = recipe.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
            let reading = Versions::new(tree.root(), recipe).read(Duration::ZERO);
            let Reading::Seen { open, .. } = reading else { panic!("{reading:?}") };
            open.iter().map(|finding| finding.class.to_string()).collect::<Vec<String>>()
        };
        assert_eq!(classes(&recipe), ["software.missing", "software.versions_differ"]);
        let firmware = [("infiniband_firmware", "28.39.1002")];
        assert_eq!(classes(&firmware), ["software.version_mismatch"]);
    }
}
