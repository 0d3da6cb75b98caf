//! The fleet of a scenario: a ready-made one, a file's, or so many nodes.

use super::{Files, FleetTable, Invalid};
use lindos_model::NodeSpec;
use lindos_model::file::nearest;
use lindos_model::fleet::{Fleet, NodeGroup, PowerKind, PowerTree, expand, ready};
use std::collections::BTreeSet;
use std::path::Path;

/// A fleet that is named by its size alone has racks of so many nodes, and so on.
const NODES_PER_RACK: u32 = 4;
const RACKS_PER_LEAF: u32 = 8;
const LEAVES_PER_SPINE: u32 = 8;

#[derive(Clone, Debug)]
pub(super) struct Grounds {
    pub name: String,
    pub nodes: Vec<NodeSpec>,
    power: PowerTree,
}

impl Grounds {
    pub fn new(table: &FleetTable, files: Files) -> Result<Grounds, Invalid> {
        match (&table.name, table.nodes, table.gpus) {
            (Some(name), None, None) if !table.has_shape() => named(name, files),
            (None, Some(nodes), Some(gpus)) => counted(table, nodes, gpus),
            _ => Err(Invalid::new("fleet", "a fleet has a `name`, or `nodes` and `gpus`")
                .hint("`gpus` are those of one node: nodes = 2048, gpus = 8")),
        }
    }

    /// The site and the name of every PDU that hangs on what is called so, or is it.
    pub fn pdus_of(&self, name: &str) -> BTreeSet<(&str, &str)> {
        let units = &self.power.units;
        let is_below = |mut at: usize| loop {
            if units[at].kind != PowerKind::Rack && units[at].name == name {
                return true;
            }
            match units[at].parent {
                Some(parent) => at = parent,
                None => return false,
            }
        };
        let pdus = (0..units.len()).filter(|&index| units[index].kind == PowerKind::Pdu);
        let below = pdus.filter(|&index| is_below(index));
        let mut found: BTreeSet<(&str, &str)> =
            below.map(|index| (units[index].site.as_str(), units[index].name.as_str())).collect();
        let places = self.nodes.iter().map(|node| &node.location);
        let named = places.filter(|at| !at.pdu.is_empty() && at.pdu == name);
        found.extend(named.map(|at| (at.site.as_str(), at.pdu.as_str())));
        found
    }

    /// The name of a unit of the power tree that is nearest to this one.
    pub fn power_like(&self, name: &str) -> Option<&str> {
        let units = self.power.units.iter().filter(|unit| unit.kind != PowerKind::Rack);
        let pdus = self.nodes.iter().map(|node| node.location.pdu.as_str());
        let known: BTreeSet<&str> =
            units.map(|unit| unit.name.as_str()).chain(pdus).filter(|n| !n.is_empty()).collect();
        nearest(name, known.iter().copied()).or_else(|| known.iter().next().copied())
    }
}

impl FleetTable {
    fn has_shape(&self) -> bool {
        self.platform.is_some()
            || [self.nodes_per_rack, self.racks_per_leaf, self.leaves_per_spine, self.racks_per_pdu]
                .iter()
                .any(Option::is_some)
    }
}

fn named(name: &str, files: Files) -> Result<Grounds, Invalid> {
    let (path, text) = match ready::text(name) {
        Some(text) => (format!("fleets/{name}.toml"), text.to_string()),
        None => (name.to_string(), files(name).map_err(|error| unread(name, &error))?),
    };
    let fleet = Fleet::load(Path::new(&path), &text)
        .map_err(|error| Invalid::new("fleet.name", error.to_string()))?;
    let stem = Path::new(name).file_stem().map_or(name.into(), |stem| stem.to_string_lossy());
    let called = if fleet.name.is_empty() { stem.into_owned() } else { fleet.name.clone() };
    Ok(Grounds { name: called, nodes: fleet.nodes, power: fleet.power })
}

fn unread(name: &str, error: &std::io::Error) -> Invalid {
    let known = ready::ALL.iter().map(|(known, _)| *known);
    let hint = match nearest(name, known) {
        Some(best) => format!("did you mean the ready-made fleet `{best}`?"),
        None => "name a fleet file, or a ready-made fleet: `lindos fleet list`".to_string(),
    };
    Invalid::new("fleet.name", format!("{name}: {error}")).hint(hint)
}

fn counted(table: &FleetTable, count: u32, gpus: u16) -> Result<Grounds, Invalid> {
    let shape = [
        ("fleet.nodes_per_rack", table.nodes_per_rack, NODES_PER_RACK),
        ("fleet.racks_per_leaf", table.racks_per_leaf, RACKS_PER_LEAF),
        ("fleet.leaves_per_spine", table.leaves_per_spine, LEAVES_PER_SPINE),
        ("fleet.racks_per_pdu", table.racks_per_pdu, 1),
    ];
    if let Some((key, ..)) = shape.iter().find(|(_, given, _)| *given == Some(0)) {
        return Err(Invalid::new(key, "it must be 1 or more"));
    }
    let [nodes_per_rack, racks_per_leaf, leaves_per_spine, racks_per_pdu] =
        shape.map(|(_, given, default)| given.unwrap_or(default));
    let group = NodeGroup {
        name: "n".to_string(),
        count,
        gpus,
        platform: table.platform.clone().unwrap_or_else(|| "generic".to_string()),
        address: "127.0.0.1".to_string(),
        site: String::new(),
        nodes_per_rack: Some(nodes_per_rack),
        racks_per_leaf: Some(racks_per_leaf),
        leaves_per_spine: Some(leaves_per_spine),
    };
    let mut nodes = expand(&[group]).map_err(|message| Invalid::new("fleet.nodes", message))?;
    if table.racks_per_pdu.is_some() {
        for (index, node) in nodes.iter_mut().enumerate() {
            let pdu = index as u32 / nodes_per_rack / racks_per_pdu;
            node.location.pdu = format!("pdu{pdu:05}");
        }
    }
    let name = format!("{count}x{gpus}");
    Ok(Grounds { name, nodes, power: PowerTree::default() })
}
