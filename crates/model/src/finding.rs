//! What a check on a node reports: that something is, or may be, wrong with a part of it.
//!
//! A finding is a fact about one device with a name that programs can rely on ([`FindingClass`]).
//! It suggests an action and says whom to suspect; it decides nothing. Weighing findings against
//! each other is the core's work.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// What was found, as a dotted name: `gpu.xid.79`, `nic.link_down`, `disk.raid_failure`.
///
/// The first word is the kind of part. Names are lower-case words, digits and underscores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingClass(Cow<'static, str>);

impl FindingClass {
    /// For names that stand in the code.
    pub const fn known(name: &'static str) -> FindingClass {
        FindingClass(Cow::Borrowed(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind of part: `gpu` of `gpu.xid.79`.
    pub fn part(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

impl FromStr for FindingClass {
    type Err = String;

    fn from_str(name: &str) -> Result<FindingClass, String> {
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if name.split('.').all(is_word) {
            Ok(FindingClass(Cow::Owned(name.to_string())))
        } else {
            Err(format!("{name:?} is no class of a finding; they look like gpu.xid.79"))
        }
    }
}

impl fmt::Display for FindingClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for FindingClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FindingClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FindingClass, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// As it stands in files and in `--json`.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            pub fn from_word(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// How much is lost by it.
    Severity {
        /// Known, and harmless.
        Info = "info",
        /// An error that was survived: nothing is lost beyond what reported it.
        Nonfatal = "nonfatal",
        /// It works, but less well, or not for long.
        Warning = "warning",
        /// A program is lost; the device is well.
        AppFatal = "app-fatal",
        /// The GPU cannot be used until it was reset.
        GpuFatal = "gpu-fatal",
        /// The node cannot be used until it was restarted.
        NodeFatal = "node-fatal",
        /// The device, or what depends on it, is lost.
        Fatal = "fatal",
        /// Nobody knows what it means.
        Unknown = "unknown",
    }
}

impl Severity {
    /// Whether a device cannot be used any more, whatever becomes of the programs on it.
    pub const fn is_loss_of_hardware(self) -> bool {
        matches!(self, Severity::GpuFatal | Severity::NodeFatal | Severity::Fatal)
    }
}

words! {
    /// What it suggests should be done first.
    Action {
        None = "none",
        /// Start the program again; the hardware may be used at once.
        RestartApp = "restart_app",
        ResetGpu = "reset_gpu",
        /// Reset all GPUs and switches that are linked together, at once.
        ResetFabric = "reset_fabric",
        Reboot = "reboot",
        PowerCycle = "power_cycle",
        RunDiagnostics = "run_diagnostics",
        /// Another version, or another setting, of driver or firmware.
        UpdateSoftware = "update_software",
        /// A hand at the machine: cables, seating, cooling, power.
        Inspect = "inspect",
        Replace = "replace",
        ContactSupport = "contact_support",
    }
}

words! {
    /// Who is most likely the cause.
    Suspect {
        Hardware = "hardware",
        /// Driver, firmware or settings of the node.
        Software = "software",
        /// The program that ran.
        User = "user",
        /// The device at the other end of a link, or a service elsewhere.
        Peer = "peer",
        /// It may be any of them.
        Unclear = "unclear",
    }
}

words! {
    /// Who says so.
    FindingSource {
        KernelLog = "kernel_log",
        Nvml = "nvml",
        /// Files of the kernel and calls to it.
        System = "system",
        /// The ranks of a job.
        Job = "job",
        /// The monitor itself, of its own sources.
        Monitor = "monitor",
    }
}

/// An address on the PCI bus. Drivers leave out the function where it does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    pub domain: u32,
    pub bus: u8,
    pub device: u8,
    pub function: Option<u8>,
}

impl PciAddress {
    /// Whether both name the same device: one without a function is any of them.
    pub fn is_same_device(&self, other: &PciAddress) -> bool {
        (self.domain, self.bus, self.device) == (other.domain, other.bus, other.device)
    }
}

impl FromStr for PciAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<PciAddress, String> {
        let wrong = || format!("{text:?} is no PCI address; they look like 0000:17:00.0");
        let (rest, function) = match text.split_once('.') {
            Some((rest, function)) => (rest, Some(function)),
            None => (text, None),
        };
        let parts: Vec<&str> = rest.split(':').collect();
        let (domain, bus, device) = match parts.as_slice() {
            [domain, bus, device] => (*domain, *bus, *device),
            [bus, device] => ("0", *bus, *device),
            _ => return Err(wrong()),
        };
        let hex = |digits: &str, longest: usize, below: u32| {
            let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let value = u32::from_str_radix(digits, 16).ok().filter(|value| *value < below);
            value.filter(|_| is_hex && digits.len() <= longest).ok_or_else(wrong)
        };
        Ok(PciAddress {
            domain: hex(domain, 8, u32::MAX)?,
            bus: hex(bus, 2, 256)? as u8,
            device: hex(device, 2, 32)? as u8,
            function: function.map(|digits| hex(digits, 1, 8)).transpose()?.map(|f| f as u8),
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}", self.domain, self.bus, self.device)?;
        match self.function {
            Some(function) => write!(f, ".{function:x}"),
            None => Ok(()),
        }
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PciAddress, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The part of the node that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    Pci(PciAddress),
    /// By its number on the node.
    Gpu(u16),
    Cpu(u32),
    /// A network interface or the port of an adapter: `eth0`, `mlx5_0/1`.
    Port(String),
    /// A disk, an array or a partition: `nvme0n1`, `md0`.
    Disk(String),
    /// A mounted folder.
    Mount(String),
    /// Anything else that has a name: a server, a host.
    Named(String),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Pci(address) => write!(f, "{address}"),
            Device::Gpu(number) => write!(f, "gpu{number}"),
            Device::Cpu(number) => write!(f, "cpu{number}"),
            Device::Port(name) | Device::Disk(name) | Device::Mount(name) | Device::Named(name) => {
                f.write_str(name)
            }
        }
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub class: FindingClass,
    pub severity: Severity,
    pub action: Action,
    pub suspect: Suspect,
    /// `None`: the node as a whole, or a part that the source did not name.
    pub device: Option<Device>,
    /// The number that the driver gives it: of an Xid, of an SXid.
    pub code: Option<u32>,
    pub source: FindingSource,
    /// What was seen, in words for a person; at most [`Finding::DETAIL_MAX`] bytes.
    pub detail: String,
    /// The class of the earlier finding that this one only repeats, or follows from.
    pub cause: Option<FindingClass>,
}

impl Finding {
    /// Longer texts are cut: a finding travels in every report.
    pub const DETAIL_MAX: usize = 256;

    /// Of a node's hardware as a whole; what else is known of it is set by whoever knows.
    pub fn new(
        class: FindingClass,
        severity: Severity,
        action: Action,
        source: FindingSource,
        detail: impl Into<String>,
    ) -> Finding {
        let (suspect, device, code, cause) = (Suspect::Hardware, None, None, None);
        let detail = detail.into();
        let mut new =
            Finding { class, severity, action, suspect, device, code, source, detail, cause };
        new.cut_detail();
        new
    }

    /// Cuts a text that is too long.
    pub fn cut_detail(&mut self) {
        if self.detail.len() > Finding::DETAIL_MAX {
            let mut end = Finding::DETAIL_MAX;
            while !self.detail.is_char_boundary(end) {
                end -= 1;
            }
            self.detail.truncate(end);
        }
    }

    /// Whether its node is to be taken out: the hardware is lost, or it still works and something else
    /// than a look by a person can be done. What a program did to itself condemns nobody, and neither
    /// does what only repeats an earlier finding, or follows from it: that is answered there.
    pub fn condemns(&self) -> bool {
        if self.cause.is_some() || self.suspect == Suspect::User {
            return false;
        }
        let can_be_mended = matches!(
            self.action,
            Action::ResetGpu
                | Action::ResetFabric
                | Action::Reboot
                | Action::PowerCycle
                | Action::RunDiagnostics
                | Action::Replace
        );
        self.severity.is_loss_of_hardware() || self.severity == Severity::Warning && can_be_mended
    }

    /// Whether both say the same of the same part.
    pub fn is_about_the_same(&self, other: &Finding) -> bool {
        self.class == other.class && self.device == other.device
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pci_address_is_printed_as_drivers_do() {
        for text in ["0000:17:00", "0000:17:00.0", "0018:01:00", "10000:5c:1f.7"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
        assert_eq!("00000000:9B:00.0".parse::<PciAddress>().unwrap().to_string(), "0000:9b:00.0");
        assert_eq!("17:00.1".parse::<PciAddress>().unwrap().to_string(), "0000:17:00.1");
    }

    #[test]
    fn what_is_no_pci_address_is_refused() {
        for text in ["", "invalid", "0000:17", "0000:17:20.0", "0000:17:00.8", "0000:+7:00.0"] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_without_a_function_is_the_same_device() {
        let whole: PciAddress = "0000:17:00".parse().unwrap();
        assert!(whole.is_same_device(&"0000:17:00.0".parse().unwrap()));
        assert!(!whole.is_same_device(&"0000:18:00.0".parse().unwrap()));
    }

    #[test]
    fn classes_are_dotted_words() {
        let class: FindingClass = "gpu.xid.79".parse().unwrap();
        assert_eq!(class.part(), "gpu");
        for wrong in ["", "gpu.", ".gpu", "gpu xid", "GPU.xid"] {
            assert!(wrong.parse::<FindingClass>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_finding_goes_through_json_unchanged() {
        let finding = Finding {
            class: FindingClass::known("gpu.xid.79"),
            severity: Severity::NodeFatal,
            action: Action::Reboot,
            suspect: Suspect::Hardware,
            device: Some(Device::Pci("0000:17:00".parse().unwrap())),
            code: Some(79),
            source: FindingSource::KernelLog,
            detail: "GPU has fallen off the bus.".into(),
            cause: None,
        };
        let text = serde_json::to_string(&finding).unwrap();
        assert!(text.contains(r#""severity":"node-fatal","action":"reboot""#), "{text}");
        assert_eq!(serde_json::from_str::<Finding>(&text).unwrap(), finding);
    }
}
