//! The fleet file as a person writes it: `docs/fleet-file.md` describes each key.

use super::group::NodeGroup;
use super::platform::Platform;
use super::power::{PowerKind, PowerPattern};
use super::watts::Watts;
use crate::file::{FileError, Source};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::Range;
use toml::Spanned;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetTable {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub about: String,
    /// What all groups must add up to.
    pub gpus: Option<Spanned<u64>>,
    #[serde(default)]
    pub platforms: BTreeMap<String, PlatformTable>,
    #[serde(default)]
    pub nodes: Vec<NodeGroup>,
    #[serde(default)]
    pub sites: Vec<SiteTable>,
    #[serde(default)]
    pub hosts: Vec<HostTable>,
    #[serde(default, rename = "override")]
    pub overrides: Vec<OverrideTable>,
    #[serde(default)]
    pub power: Vec<UnitTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformTable {
    /// The platform whose figures hold where this table is silent.
    pub like: Option<Spanned<String>>,
    #[serde(default)]
    pub about: String,
    pub gpus_per_node: Option<NonZeroU16>,
    pub memory_gb: Option<u32>,
    pub bf16_tflops: Option<u32>,
    pub gpu_power: Option<Watts>,
    pub nvlink_gpus: Option<NonZeroU32>,
    pub rails: Option<u16>,
    pub node_power: Option<Watts>,
    pub nodes_per_rack: Option<NonZeroU32>,
    pub rack_power: Option<Watts>,
    /// Of the figures in this table.
    pub source: Option<String>,
}

impl PlatformTable {
    /// This table's own figures, each with its source.
    pub fn figures(&self) -> Platform {
        let source = self.source.clone().unwrap_or_else(|| "the fleet file".to_string());
        let given = [
            ("gpus_per_node", self.gpus_per_node.is_some()),
            ("memory_gb", self.memory_gb.is_some()),
            ("bf16_tflops", self.bf16_tflops.is_some()),
            ("gpu_power", self.gpu_power.is_some()),
            ("nvlink_gpus", self.nvlink_gpus.is_some()),
            ("rails", self.rails.is_some()),
            ("node_power", self.node_power.is_some()),
            ("nodes_per_rack", self.nodes_per_rack.is_some()),
            ("rack_power", self.rack_power.is_some()),
        ];
        let sources = given.into_iter().filter(|(_, is_given)| *is_given);
        Platform {
            about: self.about.clone(),
            gpus_per_node: self.gpus_per_node.map(NonZeroU16::get),
            memory_gb: self.memory_gb,
            bf16_tflops: self.bf16_tflops,
            gpu_power: self.gpu_power,
            nvlink_gpus: self.nvlink_gpus.map(NonZeroU32::get),
            rails: self.rails,
            node_power: self.node_power,
            nodes_per_rack: self.nodes_per_rack.map(NonZeroU32::get),
            rack_power: self.rack_power,
            sources: sources.map(|(figure, _)| (figure.to_string(), source.clone())).collect(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteTable {
    pub name: Spanned<String>,
    pub gpus: Option<Spanned<u64>>,
    /// For the racks of all halls that have none of their own.
    pub power: Option<Spanned<PowerPattern>>,
    #[serde(default)]
    pub halls: Vec<HallTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HallTable {
    /// A pattern with `{number}` where `count` is more than one.
    pub name: Spanned<String>,
    /// Halls that are all alike.
    pub count: Option<NonZeroU32>,
    /// Of one hall.
    pub gpus: Option<Spanned<u64>>,
    pub power: Option<Spanned<PowerPattern>>,
    pub nodes: Vec<HallNodes>,
}

/// Nodes of one platform in a hall: they fill racks, rows, leaves and spines in turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HallNodes {
    pub platform: Spanned<String>,
    pub racks: Option<Spanned<NonZeroU32>>,
    /// Nodes, in place of `racks`: the last rack may be partly filled.
    pub count: Option<Spanned<NonZeroU32>>,
    pub nodes_per_rack: Option<NonZeroU32>,
    pub racks_per_row: Option<NonZeroU32>,
    pub racks_per_leaf: Option<NonZeroU32>,
    pub leaves_per_spine: Option<NonZeroU32>,
    pub gpus_per_node: Option<NonZeroU16>,
    pub name: Option<Spanned<String>>,
    pub address: Option<Spanned<String>>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Nodes by their names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostTable {
    /// A host list: `n[001-128]`.
    pub names: Spanned<String>,
    pub platform: Option<Spanned<String>>,
    pub gpus: Option<NonZeroU16>,
    /// A host list, one for each name; the names themselves when not given.
    pub address: Option<Spanned<String>>,
    #[serde(default)]
    pub site: String,
    #[serde(default)]
    pub hall: String,
    #[serde(default)]
    pub row: String,
    #[serde(default)]
    pub spine: String,
    #[serde(default)]
    pub leaf: String,
    #[serde(default)]
    pub rack: String,
    #[serde(default)]
    pub nvlink: String,
    #[serde(default)]
    pub nvlink_spans_racks: bool,
    #[serde(default)]
    pub pdu: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What is different of some nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideTable {
    pub nodes: Spanned<String>,
    pub platform: Option<Spanned<String>>,
    pub gpus: Option<NonZeroU16>,
    pub address: Option<String>,
    pub row: Option<String>,
    pub spine: Option<String>,
    pub leaf: Option<String>,
    pub rack: Option<String>,
    pub nvlink: Option<String>,
    pub pdu: Option<String>,
    /// Added to those that the nodes have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Single feeds, UPSes or PDUs, where no pattern fits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitTable {
    #[serde(default)]
    pub site: String,
    /// A host list: `pdu-[01-16]`.
    pub names: Spanned<String>,
    pub kind: Spanned<PowerKind>,
    #[serde(default)]
    pub parent: String,
    pub capacity: Option<Watts>,
    #[serde(default)]
    pub oversubscribed: bool,
}

impl Source<'_> {
    /// The error of a value that parsed but cannot be, where it stands.
    pub(super) fn error_at<T>(
        &self,
        value: &Spanned<T>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> FileError {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self.error(Some(value.span()), message, hint)
    }

    /// The line, from 1, on which something stands.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.text[..span.start.min(self.text.len())].matches('\n').count() + 1
    }
}
