//! The power tree: feed → UPS → PDU → rack, with what each may carry and what hangs on it.

use super::platform::Platform;
use super::watts::Watts;
use crate::node::NodeSpec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// A level of the power tree, the highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerKind {
    Feed,
    Ups,
    Pdu,
    Rack,
}

impl PowerKind {
    pub fn name(self) -> &'static str {
        match self {
            PowerKind::Feed => "feed",
            PowerKind::Ups => "UPS",
            PowerKind::Pdu => "PDU",
            PowerKind::Rack => "rack",
        }
    }

    /// What it must hang on.
    pub fn above(self) -> Option<PowerKind> {
        match self {
            PowerKind::Feed => None,
            PowerKind::Ups => Some(PowerKind::Feed),
            PowerKind::Pdu => Some(PowerKind::Ups),
            PowerKind::Rack => Some(PowerKind::Pdu),
        }
    }
}

/// One feed, UPS, PDU or rack. Feeds, UPSes and PDUs have names that are unique in their site;
/// racks, in their hall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerUnit {
    pub kind: PowerKind,
    pub site: String,
    /// Of racks only.
    pub hall: String,
    pub name: String,
    /// What the file says that it hangs on.
    pub parent_name: String,
    /// That, if it is there and of the right kind.
    pub parent: Option<usize>,
    pub capacity: Option<Watts>,
    /// More may hang on it than it can carry at once: something else keeps the draw down.
    pub oversubscribed: bool,
    /// What everything below it draws at most; platforms without a figure count as nothing.
    pub load: Watts,
}

/// All units: those of the file in its order, then the racks in the order of their first nodes.
/// Empty when the file says nothing about power.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PowerTree {
    pub units: Vec<PowerUnit>,
}

impl PowerTree {
    /// Hangs the racks of `nodes` on `units`, as their locations say, and sums the load up.
    pub fn new(
        mut units: Vec<PowerUnit>,
        nodes: &[NodeSpec],
        platforms: &BTreeMap<String, Platform>,
    ) -> PowerTree {
        if units.is_empty() && nodes.iter().all(|node| node.location.pdu.is_empty()) {
            return PowerTree::default();
        }
        units.extend(racks(nodes, platforms));
        let by_name: HashMap<(&str, &str), usize> = units
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, unit)| unit.kind != PowerKind::Rack)
            .map(|(index, unit)| ((unit.site.as_str(), unit.name.as_str()), index))
            .collect();
        let parents: Vec<Option<usize>> = units
            .iter()
            .map(|unit| {
                let parent = *by_name.get(&(unit.site.as_str(), unit.parent_name.as_str()))?;
                (Some(units[parent].kind) == unit.kind.above()).then_some(parent)
            })
            .collect();
        for (unit, parent) in units.iter_mut().zip(parents) {
            unit.parent = parent;
        }
        for kind in [PowerKind::Rack, PowerKind::Pdu, PowerKind::Ups] {
            for index in 0..units.len() {
                if let (true, Some(parent)) = (units[index].kind == kind, units[index].parent) {
                    units[parent].load.0 += units[index].load.0;
                }
            }
        }
        PowerTree { units }
    }

    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The children of each unit, by index.
    pub fn children(&self) -> Vec<Vec<usize>> {
        let mut children = vec![Vec::new(); self.units.len()];
        for (index, unit) in self.units.iter().enumerate() {
            if let Some(parent) = unit.parent {
                children[parent].push(index);
            }
        }
        children
    }
}

/// The racks that the nodes stand in, each with its load; nodes in no rack, by their PDU.
fn racks(nodes: &[NodeSpec], platforms: &BTreeMap<String, Platform>) -> Vec<PowerUnit> {
    let mut units: Vec<PowerUnit> = Vec::new();
    let mut counts: Vec<BTreeMap<&str, u64>> = Vec::new();
    let mut by_key: HashMap<[&str; 4], usize> = HashMap::new();
    for node in nodes {
        let at = &node.location;
        let rackless = if at.rack.is_empty() { at.pdu.as_str() } else { "" };
        let key = [at.site.as_str(), at.hall.as_str(), at.rack.as_str(), rackless];
        let index = *by_key.entry(key).or_insert_with(|| {
            units.push(PowerUnit {
                kind: PowerKind::Rack,
                site: at.site.clone(),
                hall: at.hall.clone(),
                name: at.rack.clone(),
                parent_name: at.pdu.clone(),
                parent: None,
                capacity: None,
                oversubscribed: false,
                load: Watts(0),
            });
            counts.push(BTreeMap::new());
            units.len() - 1
        });
        *counts[index].entry(node.platform.as_str()).or_default() += 1;
    }
    for (unit, counts) in units.iter_mut().zip(counts) {
        let load = |(name, count): (&str, u64)| platforms.get(name)?.load(count);
        unit.load = Watts(counts.into_iter().filter_map(load).map(|watts| watts.0).sum());
    }
    units
}

/// A power tree by counts, of a site or a hall.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerPattern {
    pub feeds: u32,
    pub ups_per_feed: u32,
    pub pdus_per_ups: u32,
    pub racks_per_pdu: u32,
    pub feed_capacity: Option<Watts>,
    pub ups_capacity: Option<Watts>,
    pub pdu_capacity: Option<Watts>,
    /// Of every unit of this pattern: see [`PowerUnit::oversubscribed`].
    #[serde(default)]
    pub oversubscribed: bool,
}

/// More units of one pattern than any site has.
const UNITS_MAX: u64 = 1_000_000;

impl PowerPattern {
    pub fn pdus(&self) -> u64 {
        u64::from(self.feeds) * u64::from(self.ups_per_feed) * u64::from(self.pdus_per_ups)
    }

    pub fn check(&self) -> Result<(), String> {
        for (key, count) in [
            ("feeds", self.feeds),
            ("ups_per_feed", self.ups_per_feed),
            ("pdus_per_ups", self.pdus_per_ups),
            ("racks_per_pdu", self.racks_per_pdu),
        ] {
            if count == 0 {
                return Err(format!("`{key}` is 0: there is at least one"));
            }
            if u64::from(count) > UNITS_MAX {
                return Err(format!("`{key}` is {count}: at most {UNITS_MAX}"));
            }
        }
        if self.pdus() > UNITS_MAX {
            return Err(format!("{} PDUs; at most {UNITS_MAX}", self.pdus()));
        }
        Ok(())
    }

    /// Its feeds, UPSes and PDUs. `prefix` begins the names: empty, or the hall's and a hyphen.
    pub fn units(&self, site: &str, prefix: &str) -> Vec<PowerUnit> {
        let upses = self.feeds * self.ups_per_feed;
        let unit = |kind, name, parent_name, capacity| PowerUnit {
            kind,
            site: site.to_string(),
            hall: String::new(),
            name,
            parent_name,
            parent: None,
            capacity,
            oversubscribed: self.oversubscribed,
            load: Watts(0),
        };
        let mut units = Vec::new();
        for feed in 1..=self.feeds {
            let name = self.name(prefix, PowerKind::Feed, feed);
            units.push(unit(PowerKind::Feed, name, String::new(), self.feed_capacity));
        }
        for ups in 1..=upses {
            let feed = self.name(prefix, PowerKind::Feed, (ups - 1) / self.ups_per_feed + 1);
            let name = self.name(prefix, PowerKind::Ups, ups);
            units.push(unit(PowerKind::Ups, name, feed, self.ups_capacity));
        }
        for pdu in 1..=self.pdus() as u32 {
            let ups = self.name(prefix, PowerKind::Ups, (pdu - 1) / self.pdus_per_ups + 1);
            let name = self.name(prefix, PowerKind::Pdu, pdu);
            units.push(unit(PowerKind::Pdu, name, ups, self.pdu_capacity));
        }
        units
    }

    /// The PDU of the rack at this place in the order, from 0; empty past the last PDU.
    pub fn pdu_of_rack(&self, prefix: &str, rack: usize) -> String {
        let pdu = rack as u64 / u64::from(self.racks_per_pdu);
        if pdu < self.pdus() {
            self.name(prefix, PowerKind::Pdu, pdu as u32 + 1)
        } else {
            String::new()
        }
    }

    fn name(&self, prefix: &str, kind: PowerKind, number: u32) -> String {
        let (word, count) = match kind {
            PowerKind::Feed => ("feed", u64::from(self.feeds)),
            PowerKind::Ups => ("ups", u64::from(self.feeds) * u64::from(self.ups_per_feed)),
            _ => ("pdu", self.pdus()),
        };
        let width = super::digits(count);
        format!("{prefix}{word}-{number:0width$}")
    }
}
