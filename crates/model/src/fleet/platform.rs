//! Platforms: what a node of a hardware design has, with the source of each figure.

use super::watts::Watts;
use crate::file::nearest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The platform of machines that no catalogue knows.
pub const GENERIC: &str = "generic";

/// A hardware design. A figure that nobody vouches for is not there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    #[serde(default)]
    pub about: String,
    pub gpus_per_node: Option<u16>,
    /// Usable memory of one GPU, in GB (10^9 bytes).
    pub memory_gb: Option<u32>,
    /// Peak of one GPU in BF16 without sparsity, in TFLOP/s.
    pub bf16_tflops: Option<u32>,
    /// The most that one GPU may draw.
    pub gpu_power: Option<Watts>,
    /// GPUs of one NVLink domain: more than a node has where the domain is larger than the node.
    pub nvlink_gpus: Option<u32>,
    /// Network cards of a node for the GPUs' fabric: each is a rail.
    pub rails: Option<u16>,
    /// The most that a node draws.
    pub node_power: Option<Watts>,
    /// Where the rack is one machine: its nodes, and what it draws with its switches and fans.
    pub nodes_per_rack: Option<u32>,
    pub rack_power: Option<Watts>,
    /// Figure → the document that says so.
    #[serde(default)]
    pub sources: BTreeMap<String, String>,
}

impl Platform {
    /// What `nodes` nodes in one rack draw at most: their share of the rack where the rack is one
    /// machine (a watt begun is a watt), the sum of the nodes elsewhere. `None` without a figure.
    pub fn load(&self, nodes: u64) -> Option<Watts> {
        if let (Some(rack), Some(full)) = (self.rack_power, self.nodes_per_rack) {
            return Some(Watts((rack.0 * nodes).div_ceil(u64::from(full.max(1)))));
        }
        self.node_power.map(|power| Watts(power.0 * nodes))
    }

    /// What this table says, and what `base` says where this one is silent.
    pub fn or(self, base: &Platform) -> Platform {
        let mut sources = base.sources.clone();
        sources.extend(self.sources);
        Platform {
            about: if self.about.is_empty() { base.about.clone() } else { self.about },
            gpus_per_node: self.gpus_per_node.or(base.gpus_per_node),
            memory_gb: self.memory_gb.or(base.memory_gb),
            bf16_tflops: self.bf16_tflops.or(base.bf16_tflops),
            gpu_power: self.gpu_power.or(base.gpu_power),
            nvlink_gpus: self.nvlink_gpus.or(base.nvlink_gpus),
            rails: self.rails.or(base.rails),
            node_power: self.node_power.or(base.node_power),
            nodes_per_rack: self.nodes_per_rack.or(base.nodes_per_rack),
            rack_power: self.rack_power.or(base.rack_power),
            sources,
        }
    }
}

/// The platforms that ship with Lindos, by name: `platforms.toml`.
pub fn catalogue() -> &'static BTreeMap<String, Platform> {
    static CATALOGUE: LazyLock<BTreeMap<String, Platform>> = LazyLock::new(|| {
        toml::from_str(include_str!("platforms.toml")).expect("the catalogue is tested")
    });
    &CATALOGUE
}

/// What to say of a platform that nobody knows.
pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> (String, String) {
    let hint = match nearest(name, known.clone()) {
        Some(best) => format!("did you mean `{best}`?"),
        None => format!(
            "known are {}; describe another one in [platforms.{name}]",
            known.collect::<Vec<_>>().join(", ")
        ),
    };
    (format!("there is no platform `{name}`"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the figures that a platform has, as its TOML table has them.
    fn figures(platform: &Platform) -> Vec<String> {
        let table = toml::Table::try_from(platform).unwrap();
        table
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key != "about" && key != "sources")
            .collect()
    }

    #[test]
    fn every_figure_of_the_catalogue_has_its_source_and_no_source_is_idle() {
        assert!(catalogue().len() >= 8);
        for (name, platform) in catalogue() {
            let sources: Vec<String> = platform.sources.keys().cloned().collect();
            assert_eq!(figures(platform), sources, "{name}");
            assert!(platform.sources.values().all(|source| source.len() > 8), "{name}");
            assert!(!platform.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_figures_of_one_platform_fit_each_other() {
        for (name, platform) in catalogue() {
            let Some(gpus) = platform.gpus_per_node else { continue };
            let domain = platform.nvlink_gpus.unwrap();
            assert_eq!(domain % u32::from(gpus), 0, "{name}");
            if let Some(nodes) = platform.nodes_per_rack {
                assert_eq!(nodes * u32::from(gpus), domain, "{name}");
                let trays = platform.node_power.unwrap().0 * u64::from(nodes);
                assert!(trays < platform.rack_power.unwrap().0, "{name}");
            }
            if let (Some(gpu), Some(node)) = (platform.gpu_power, platform.node_power) {
                assert!(gpu.0 * u64::from(gpus) < node.0, "{name}");
            }
        }
    }

    #[test]
    fn a_rack_that_is_one_machine_draws_what_the_rack_draws() {
        let nvl72 = &catalogue()["gb200-nvl72"];
        assert_eq!(nvl72.load(18), nvl72.rack_power);
        assert_eq!(nvl72.load(9), Some(Watts(66_000)));
        assert_eq!(catalogue()["hgx-h100"].load(4), Some(Watts(40_800)));
        assert_eq!(catalogue()["generic"].load(4), None);
    }

    #[test]
    fn an_unknown_platform_is_answered_with_the_nearest() {
        let names = || catalogue().keys().map(String::as_str);
        assert_eq!(unknown("hgx-h10", names()).1, "did you mean `hgx-h100`?");
        assert!(unknown("a-toaster", names()).1.contains("[platforms.a-toaster]"));
    }
}
