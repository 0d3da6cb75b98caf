//! Devices on the PCI bus: whether they are there, and how wide and fast their links are.

use super::root::Root;
use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use lindos_model::{Device, Finding, PciAddress};
use std::collections::BTreeMap;
use std::time::Duration;

const BUS: &str = "sys/bus/pci/devices";
const NVIDIA: u64 = 0x10de;
const AMD: u64 = 0x1002;

/// What matters to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Gpu,
    NvSwitch,
    Infiniband,
    Ethernet,
    Nvme,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::Gpu, Kind::NvSwitch, Kind::Infiniband, Kind::Ethernet, Kind::Nvme];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Gpu => "gpu",
            Kind::NvSwitch => "nvswitch",
            Kind::Infiniband => "infiniband",
            Kind::Ethernet => "ethernet",
            Kind::Nvme => "nvme",
        }
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// By vendor and class code (base class, subclass, interface).
    fn of(vendor: u64, class: u64) -> Option<Kind> {
        match (vendor, class >> 8) {
            (NVIDIA, 0x0300 | 0x0302) | (AMD, 0x0300 | 0x0302 | 0x0380 | 0x1200) => Some(Kind::Gpu),
            (NVIDIA, 0x0680) => Some(Kind::NvSwitch),
            (_, 0x0207) => Some(Kind::Infiniband),
            (_, 0x0200) => Some(Kind::Ethernet),
            (_, 0x0108) => Some(Kind::Nvme),
            _ => None,
        }
    }
}

fn devices(root: &Root) -> std::io::Result<BTreeMap<PciAddress, Kind>> {
    let mut found = BTreeMap::new();
    for name in root.names(BUS)? {
        let number = |file: &str| root.number(format!("{BUS}/{name}/{file}"));
        let kind = number("vendor").zip(number("class")).and_then(|(v, c)| Kind::of(v, c));
        if let (Some(kind), Ok(address)) = (kind, name.parse()) {
            found.insert(address, kind);
        }
    }
    Ok(found)
}

/// Whether what was there, or should be there, is there.
#[derive(Debug)]
pub struct Devices {
    root: Root,
    expected: BTreeMap<String, u64>,
    known: BTreeMap<PciAddress, Kind>,
}

impl Devices {
    pub fn new(root: Root, expected: BTreeMap<String, u64>) -> Devices {
        Devices { root, expected, known: BTreeMap::new() }
    }

    fn missing(&self, present: &BTreeMap<PciAddress, Kind>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, expected) in &self.expected {
            let there = count(present, name);
            if there < *expected {
                let detail = format!("{there} of {expected} {name} devices are on the PCI bus");
                let device = Some(Device::Named(name.clone()));
                findings.push(system_finding("pcie.device_missing", means::LOST, device, detail));
            }
        }
        for (address, kind) in &self.known {
            if !present.contains_key(address) {
                let detail = format!("{} {address} was on the PCI bus and is gone", kind.name());
                let device = Some(Device::Pci(*address));
                findings.push(system_finding("pcie.device_gone", means::LOST, device, detail));
            }
        }
        findings
    }

    /// A kind of which several were there, and none is.
    fn vanished(&self, present: &BTreeMap<PciAddress, Kind>) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| count(&self.known, kind.name()) > 1 && count(present, kind.name()) == 0)
    }
}

fn count(devices: &BTreeMap<PciAddress, Kind>, name: &str) -> u64 {
    devices.values().filter(|kind| kind.name() == name).count() as u64
}

impl Check for Devices {
    fn about(&self) -> About {
        About {
            name: "pcie.devices",
            meaning: "a GPU, switch, adapter or NVMe disk that was on the bus is gone, or fewer \
                      are there than expected",
            source: "/sys/bus/pci/devices",
            thresholds: "any; counts as expected in [devices]",
            interval: Duration::from_secs(30),
            confirmations: 1,
            may_wait: false,
            cost: "2 small files a device",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        let present = match devices(&self.root) {
            Ok(present) => present,
            Err(error) => return Reading::Unknown(format!("/{BUS}: {error}")),
        };
        if let Some(kind) = self.vanished(&present) {
            return Reading::Unknown(format!("all {} devices are gone at once", kind.name()));
        }
        if present.is_empty() && self.expected.is_empty() {
            return Reading::Absent("no device of a kind that jobs need".to_string());
        }
        let findings = self.missing(&present);
        let kinds = Kind::ALL.into_iter().filter(|kind| count(&present, kind.name()) > 0);
        let words: Vec<String> =
            kinds.map(|kind| format!("{} {}", count(&present, kind.name()), kind.name())).collect();
        self.known.extend(present);
        Reading::of(words.join(", "), findings)
    }
}

/// Whether links run as wide and as fast as both of their ends could.
#[derive(Debug)]
pub struct Links {
    root: Root,
}

impl Links {
    pub fn new(root: Root) -> Links {
        Links { root }
    }

    fn judge(&self, address: PciAddress, kind: Kind) -> Option<Vec<Finding>> {
        let folder = format!("{BUS}/{address}");
        let width = self.root.number(format!("{folder}/current_link_width"))?;
        let widest = self.most(&folder, "max_link_width", |text| text.parse::<f64>().ok())?;
        let mut findings = Vec::new();
        let device = || Some(Device::Pci(address));
        if width > 0 && (width as f64) < widest {
            let detail = format!("{} {address} has {width} of {widest} lanes", kind.name());
            findings.push(system_finding("pcie.link_narrow", means::INSPECT, device(), detail));
        }
        // Idle GPUs slow their links down to save power: that says nothing.
        if kind != Kind::Gpu
            && let (Ok(text), Some(fastest)) = (
                self.root.text(format!("{folder}/current_link_speed")),
                self.most(&folder, "max_link_speed", gigatransfers),
            )
            && let Some(speed) = gigatransfers(&text)
            && speed < fastest
        {
            let detail = format!("{} {address} runs at {speed} of {fastest} GT/s", kind.name());
            findings.push(system_finding("pcie.link_slow", means::INSPECT, device(), detail));
        }
        Some(findings)
    }

    /// What both ends can: the device, and the port above it where there is one.
    fn most(&self, folder: &str, file: &str, read: fn(&str) -> Option<f64>) -> Option<f64> {
        let own = read(&self.root.text(format!("{folder}/{file}")).ok()?)?;
        let above = std::fs::canonicalize(self.root.path(folder))
            .ok()
            .and_then(|device| std::fs::read_to_string(device.parent()?.join(file)).ok())
            .and_then(|text| read(text.trim()));
        Some(above.map_or(own, |above| own.min(above)))
    }
}

/// `16.0 GT/s PCIe`
fn gigatransfers(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

impl Check for Links {
    fn about(&self) -> About {
        About {
            name: "pcie.links",
            meaning: "a link with fewer lanes, or at a lower speed, than both of its ends could",
            source: "/sys/bus/pci/devices/*/current_link_*",
            thresholds: "any loss of lanes; of speed for all but GPUs, which slow down when idle",
            interval: Duration::from_secs(60),
            confirmations: 2,
            may_wait: false,
            cost: "6 small files a device",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        let present = match devices(&self.root) {
            Ok(present) => present,
            Err(error) => return Reading::Unknown(format!("/{BUS}: {error}")),
        };
        let judged: Vec<Vec<Finding>> =
            present.iter().filter_map(|(address, kind)| self.judge(*address, *kind)).collect();
        if judged.is_empty() {
            return Reading::Absent("no device with a PCIe link".to_string());
        }
        Reading::of(format!("{} links", judged.len()), judged.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::root::tests::Tree;

    fn gpu(tree: &Tree, address: &str) {
        let real = format!("sys/devices/pci0000:00/0000:00:01.0/{address}");
        for (file, text) in [
            ("vendor", "0x10de"),
            ("class", "0x030200"),
            ("current_link_width", "16"),
            ("max_link_width", "16"),
            ("current_link_speed", "2.5 GT/s PCIe"),
            ("max_link_speed", "32.0 GT/s PCIe"),
        ] {
            tree.write(&format!("{real}/{file}"), text);
        }
        tree.link(&format!("{BUS}/{address}"), &real);
    }

    fn classes(reading: &Reading) -> Vec<String> {
        let Reading::Seen { open, .. } = reading else { panic!("{reading:?}") };
        open.iter().map(|finding| finding.class.to_string()).collect()
    }

    #[test]
    fn one_gpu_that_is_gone_is_found_and_all_gone_are_unknown() {
        let tree = Tree::new();
        gpu(&tree, "0000:17:00.0");
        gpu(&tree, "0000:18:00.0");
        let mut check = Devices::new(tree.root(), BTreeMap::new());
        assert_eq!(check.read(Duration::ZERO), Reading::of("2 gpu", vec![]));
        std::fs::remove_file(tree.root().path(format!("{BUS}/0000:18:00.0"))).unwrap();
        assert_eq!(classes(&check.read(Duration::ZERO)), ["pcie.device_gone"]);
        std::fs::remove_file(tree.root().path(format!("{BUS}/0000:17:00.0"))).unwrap();
        assert!(matches!(check.read(Duration::ZERO), Reading::Unknown(_)));
    }

    #[test]
    fn fewer_than_expected_is_found() {
        let tree = Tree::new();
        gpu(&tree, "0000:17:00.0");
        let mut check = Devices::new(tree.root(), BTreeMap::from([("gpu".into(), 8)]));
        let reading = check.read(Duration::ZERO);
        assert_eq!(classes(&reading), ["pcie.device_missing"]);
    }

    #[test]
    fn a_narrow_link_is_found_and_a_sleeping_gpu_is_not() {
        let tree = Tree::new();
        gpu(&tree, "0000:17:00.0");
        let mut check = Links::new(tree.root());
        assert_eq!(check.read(Duration::ZERO), Reading::of("1 links", vec![]));
        tree.write(&format!("{BUS}/0000:17:00.0/current_link_width"), "8");
        assert_eq!(classes(&check.read(Duration::ZERO)), ["pcie.link_narrow"]);
        // A slot of eight lanes has no more to give.
        tree.write("sys/devices/pci0000:00/0000:00:01.0/max_link_width", "8");
        assert_eq!(classes(&check.read(Duration::ZERO)), Vec::<String>::new());
    }
}
