//! Network ports: InfiniBand (and RoCE) adapters, and Ethernet interfaces with hardware behind them.

use super::root::Root;
use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use lindos_model::{Device, Finding};
use std::collections::BTreeMap;
use std::time::Duration;

/// Errors of the wire a minute that foretell trouble: one a second is a bit error rate above
/// 1e-12 on links of hundreds of gigabits.
const ERRORS_A_MINUTE: u64 = 60;
/// Counters of an InfiniBand port that only errors of the wire raise.
const WIRE_ERRORS: [&str; 5] = [
    "symbol_error",
    "link_error_recovery",
    "local_link_integrity_errors",
    "port_rcv_errors",
    "excessive_buffer_overrun_errors",
];
/// `hardware address type` of Ethernet.
const ETHERNET: u64 = 1;

/// What a port was like at the last reading.
#[derive(Clone, Debug, Default)]
struct Port {
    /// It has carried traffic: a port that never did may have no cable, on purpose.
    was_up: bool,
    /// The fastest that it was.
    rate: u64,
    downs: Option<u64>,
    errors: Option<u64>,
    at: Duration,
}

/// How a port is now.
#[derive(Clone, Debug, Default)]
struct Now {
    is_up: bool,
    /// In megabits a second; 0 where nobody says.
    rate: u64,
    /// How often its link has gone down.
    downs: Option<u64>,
    errors: Option<u64>,
    /// For a person: `Down`, `Polling`.
    words: String,
}

#[derive(Debug, Default)]
struct Ports {
    known: BTreeMap<String, Port>,
}

impl Ports {
    /// What is wrong with one port, given what it was before.
    fn judge(&mut self, name: &str, now: &Now, at: Duration) -> (Vec<Finding>, Vec<Finding>) {
        let device = || Some(Device::Port(name.to_string()));
        let known = self.known.entry(name.to_string()).or_default();
        let (mut open, mut happened) = (Vec::new(), Vec::new());
        if !now.is_up && known.was_up {
            let detail = format!("{name} has carried traffic and is down: {}", now.words);
            open.push(system_finding("nic.port_down", means::LOST, device(), detail));
        }
        if now.is_up && now.rate > 0 && now.rate < known.rate {
            let detail =
                format!("{name} runs at {} Mbit/s and has run at {}", now.rate, known.rate);
            open.push(system_finding("nic.port_slow", means::INSPECT, device(), detail));
        }
        if let Some(downs) = rise(known.downs, now.downs) {
            let detail = format!("the link of {name} went down {downs} times since the last look");
            happened.push(system_finding("nic.port_flapped", means::INSPECT, device(), detail));
        }
        let minutes = at.saturating_sub(known.at).as_secs_f64() / 60.0;
        if let Some(errors) = rise(known.errors, now.errors)
            && minutes > 0.0
            && errors as f64 / minutes >= ERRORS_A_MINUTE as f64
        {
            let detail = format!("{name} counted {errors} errors of the wire since the last look");
            open.push(system_finding("nic.port_errors", means::INSPECT, device(), detail));
        }
        known.was_up |= now.is_up;
        known.rate = known.rate.max(now.rate);
        known.downs = now.downs.or(known.downs);
        known.errors = now.errors.or(known.errors);
        known.at = at;
        (open, happened)
    }

    /// A port that is gone while others of its kind are there.
    fn vanished(&self, present: &[String]) -> Vec<Finding> {
        let gone = self.known.keys().filter(|name| !present.contains(name));
        gone.map(|name| {
            let detail = format!("{name} was there and is gone");
            system_finding("nic.port_gone", means::LOST, Some(Device::Port(name.clone())), detail)
        })
        .collect()
    }

    fn reading(&mut self, ports: &[(String, Now)], at: Duration, kind: &str) -> Reading {
        if ports.is_empty() {
            return Reading::Absent(format!("no {kind} port"));
        }
        let names: Vec<String> = ports.iter().map(|(name, _)| name.clone()).collect();
        let (mut open, mut happened) = (self.vanished(&names), Vec::new());
        for (name, now) in ports {
            let (more_open, more_happened) = self.judge(name, now, at);
            open.extend(more_open);
            happened.extend(more_happened);
        }
        let up = ports.iter().filter(|(_, now)| now.is_up).count();
        let words = format!("{up} of {} ports up", ports.len());
        Reading::Seen { words, open, happened }
    }
}

/// By how much a counter has grown; one that went back was reset.
fn rise(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    now?.checked_sub(before?).filter(|rise| *rise > 0)
}

#[derive(Debug)]
pub struct InfinibandPorts {
    root: Root,
    ports: Ports,
}

impl InfinibandPorts {
    pub fn new(root: Root) -> InfinibandPorts {
        InfinibandPorts { root, ports: Ports::default() }
    }

    fn port(&self, folder: &str) -> Now {
        let counter = |name: &str| self.root.number(format!("{folder}/counters/{name}"));
        // `4: ACTIVE`, `1: DOWN`; `5: LinkUp`, `2: Polling`; `400 Gb/sec (4X NDR)`
        let state = self.root.text(format!("{folder}/state")).unwrap_or_default();
        let physical = self.root.text(format!("{folder}/phys_state")).unwrap_or_default();
        let rate = self.root.text(format!("{folder}/rate")).unwrap_or_default();
        let gigabits: f64 =
            rate.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        let errors: Vec<u64> = WIRE_ERRORS.iter().filter_map(|name| counter(name)).collect();
        Now {
            is_up: state.starts_with("4:"),
            rate: if state.starts_with("4:") { (gigabits * 1000.0) as u64 } else { 0 },
            downs: counter("link_downed"),
            errors: (!errors.is_empty()).then(|| errors.iter().sum()),
            words: format!("{state}, {physical}"),
        }
    }
}

impl Check for InfinibandPorts {
    fn about(&self) -> About {
        About {
            name: "nic.infiniband",
            meaning: "a port that carried traffic is down, gone, slower than it was, flaps, or \
                      counts errors of the wire",
            source: "/sys/class/infiniband",
            thresholds: "60 errors a minute; any drop of the link",
            interval: Duration::from_secs(10),
            confirmations: 1,
            may_wait: false,
            cost: "10 files a port",
        }
    }

    fn read(&mut self, now: Duration) -> Reading {
        const CLASS: &str = "sys/class/infiniband";
        let mut ports = Vec::new();
        let adapters = match self.root.names(CLASS) {
            Ok(adapters) => adapters,
            Err(error) => return Reading::Unknown(format!("/{CLASS}: {error}")),
        };
        for adapter in adapters {
            for port in self.root.names(format!("{CLASS}/{adapter}/ports")).unwrap_or_default() {
                let folder = format!("{CLASS}/{adapter}/ports/{port}");
                ports.push((format!("{adapter}/{port}"), self.port(&folder)));
            }
        }
        self.ports.reading(&ports, now, "InfiniBand")
    }
}

#[derive(Debug)]
pub struct EthernetPorts {
    root: Root,
    ports: Ports,
}

impl EthernetPorts {
    pub fn new(root: Root) -> EthernetPorts {
        EthernetPorts { root, ports: Ports::default() }
    }

    fn port(&self, folder: &str) -> Now {
        let number = |name: &str| self.root.number(format!("{folder}/{name}"));
        let state = self.root.text(format!("{folder}/operstate")).unwrap_or_default();
        let is_up = state == "up";
        let errors = ["rx_crc_errors", "rx_frame_errors", "tx_carrier_errors"];
        let errors: Vec<u64> =
            errors.iter().filter_map(|name| number(&format!("statistics/{name}"))).collect();
        Now {
            is_up,
            rate: if is_up { number("speed").unwrap_or(0) } else { 0 },
            downs: number("carrier_down_count"),
            errors: (!errors.is_empty()).then(|| errors.iter().sum()),
            words: state,
        }
    }
}

impl Check for EthernetPorts {
    fn about(&self) -> About {
        About {
            name: "nic.ethernet",
            meaning: "an interface with hardware behind it that carried traffic is down, gone, \
                      slower than it was, flaps, or counts errors of the wire",
            source: "/sys/class/net",
            thresholds: "60 errors a minute; any loss of the carrier",
            interval: Duration::from_secs(10),
            confirmations: 1,
            may_wait: false,
            cost: "7 files an interface",
        }
    }

    fn read(&mut self, now: Duration) -> Reading {
        const CLASS: &str = "sys/class/net";
        let interfaces = match self.root.names(CLASS) {
            Ok(interfaces) => interfaces,
            Err(error) => return Reading::Unknown(format!("/{CLASS}: {error}")),
        };
        let mut ports = Vec::new();
        for interface in interfaces {
            let folder = format!("{CLASS}/{interface}");
            let is_hardware = self.root.exists(format!("{folder}/device"))
                && self.root.number(format!("{folder}/type")) == Some(ETHERNET);
            if is_hardware {
                ports.push((interface, self.port(&folder)));
            }
        }
        self.ports.reading(&ports, now, "Ethernet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::root::tests::Tree;

    const PORT: &str = "sys/class/infiniband/mlx5_0/ports/1";

    fn tree() -> Tree {
        let tree = Tree::new();
        tree.write(&format!("{PORT}/state"), "4: ACTIVE\n");
        tree.write(&format!("{PORT}/phys_state"), "5: LinkUp\n");
        tree.write(&format!("{PORT}/rate"), "400 Gb/sec (4X NDR)\n");
        tree.write(&format!("{PORT}/counters/link_downed"), "3\n");
        tree.write(&format!("{PORT}/counters/symbol_error"), "100\n");
        tree
    }

    fn classes(reading: Reading) -> Vec<String> {
        let Reading::Seen { open, happened, .. } = reading else { panic!("{reading:?}") };
        open.iter().chain(&happened).map(|finding| finding.class.to_string()).collect()
    }

    fn minute(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn counters_that_were_there_before_are_no_finding() {
        let tree = tree();
        let mut check = InfinibandPorts::new(tree.root());
        assert_eq!(check.read(minute(0)), Reading::of("1 of 1 ports up", vec![]));
    }

    #[test]
    fn a_port_that_goes_down_flaps_or_errs_is_found() {
        let tree = tree();
        let mut check = InfinibandPorts::new(tree.root());
        check.read(minute(0));
        tree.write(&format!("{PORT}/counters/symbol_error"), "159\n");
        assert_eq!(classes(check.read(minute(1))), Vec::<String>::new());
        tree.write(&format!("{PORT}/counters/symbol_error"), "219\n");
        assert_eq!(classes(check.read(minute(2))), ["nic.port_errors"]);
        tree.write(&format!("{PORT}/counters/link_downed"), "4\n");
        tree.write(&format!("{PORT}/rate"), "200 Gb/sec (2X NDR)\n");
        assert_eq!(classes(check.read(minute(3))), ["nic.port_slow", "nic.port_flapped"]);
        tree.write(&format!("{PORT}/state"), "1: DOWN\n");
        assert_eq!(classes(check.read(minute(4))), ["nic.port_down"]);
    }

    #[test]
    fn a_port_without_a_cable_is_no_fault() {
        let tree = tree();
        tree.write(&format!("{PORT}/state"), "1: DOWN\n");
        let mut check = InfinibandPorts::new(tree.root());
        assert_eq!(check.read(minute(0)), Reading::of("0 of 1 ports up", vec![]));
        assert_eq!(check.read(minute(1)), Reading::of("0 of 1 ports up", vec![]));
    }

    #[test]
    fn a_counter_that_was_reset_is_no_finding() {
        let tree = tree();
        let mut check = InfinibandPorts::new(tree.root());
        check.read(minute(0));
        tree.write(&format!("{PORT}/counters/link_downed"), "0\n");
        tree.write(&format!("{PORT}/counters/symbol_error"), "0\n");
        assert_eq!(classes(check.read(minute(1))), Vec::<String>::new());
    }

    #[test]
    fn one_adapter_of_two_that_is_gone_is_found_and_all_gone_are_absent() {
        let tree = tree();
        tree.write("sys/class/infiniband/mlx5_1/ports/1/state", "4: ACTIVE\n");
        let mut check = InfinibandPorts::new(tree.root());
        check.read(minute(0));
        tree.remove("sys/class/infiniband/mlx5_1");
        assert_eq!(classes(check.read(minute(1))), ["nic.port_gone"]);
        tree.remove("sys/class/infiniband");
        assert!(matches!(check.read(minute(2)), Reading::Absent(_)));
    }

    #[test]
    fn only_interfaces_with_hardware_count() {
        let tree = Tree::new();
        for name in ["eth0", "lo"] {
            tree.write(&format!("sys/class/net/{name}/operstate"), "up");
            tree.write(&format!("sys/class/net/{name}/type"), "1");
            tree.write(&format!("sys/class/net/{name}/speed"), "100000");
            tree.write(&format!("sys/class/net/{name}/carrier_down_count"), "1");
        }
        tree.write("sys/class/net/eth0/device/vendor", "0x15b3");
        let mut check = EthernetPorts::new(tree.root());
        assert_eq!(check.read(minute(0)), Reading::of("1 of 1 ports up", vec![]));
        tree.write("sys/class/net/eth0/carrier_down_count", "2");
        assert_eq!(classes(check.read(minute(1))), ["nic.port_flapped"]);
    }
}
