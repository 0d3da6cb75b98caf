//! What is wrong with a fleet, or looks wrong: each finding says where, and what to do.

use super::Fleet;
use super::platform::{GENERIC, Platform};
use super::power::{PowerKind, PowerUnit};
use super::watts::Watts;
use crate::node::{GPUS_PER_NODE_MAX, NodeSpec};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Of one kind; the rest is counted. A list that nobody reads to its end helps nobody.
const PER_KIND_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The fleet cannot be as the file says.
    Error,
    /// It can, but somebody should look.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A stable word for programs: `two_racks`, `count`, `no_pdu`, …
    pub kind: &'static str,
    /// Where in the fleet: `site abilene, hall hall-1`.
    pub place: String,
    /// Where in the file, from 1, if it is of one line.
    pub line: Option<usize>,
    pub message: String,
    pub hint: String,
}

impl Finding {
    pub fn error(
        kind: &'static str,
        place: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        Finding {
            severity: Severity::Error,
            kind,
            place: place.into(),
            line: None,
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub fn warning(self) -> Finding {
        Finding { severity: Severity::Warning, ..self }
    }

    pub fn at_line(self, line: Option<usize>) -> Finding {
        Finding { line, ..self }
    }
}

/// Everything that is found, errors first; of each kind the first few.
pub fn check(fleet: &Fleet) -> Vec<Finding> {
    let mut findings = fleet.findings.clone();
    names(fleet, &mut findings);
    gpus(fleet, &mut findings);
    racks(fleet, &mut findings);
    nvlink(fleet, &mut findings);
    gaps(fleet, &mut findings);
    power(fleet, &mut findings);
    shorten(findings)
}

fn shorten(mut findings: Vec<Finding>) -> Vec<Finding> {
    // Stable: within a severity the order of finding stays.
    findings.sort_by_key(|finding| finding.severity);
    let mut seen: BTreeMap<(Severity, &str), usize> = BTreeMap::new();
    let mut last: BTreeMap<(Severity, &str), usize> = BTreeMap::new();
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let key = (finding.severity, finding.kind);
        let count = seen.entry(key).or_default();
        *count += 1;
        if *count <= PER_KIND_MAX {
            last.insert(key, kept.len());
            kept.push(finding);
        }
    }
    for (key, count) in seen {
        if count > PER_KIND_MAX {
            use std::fmt::Write as _;
            let left_out = count - PER_KIND_MAX;
            let _ = write!(kept[last[&key]].message, " (and {left_out} more like this)");
        }
    }
    kept
}

fn names(fleet: &Fleet, findings: &mut Vec<Finding>) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut seen: HashSet<&str> = HashSet::with_capacity(fleet.nodes.len());
    for node in &fleet.nodes {
        let name = node.name.as_str();
        if !seen.insert(name) {
            findings.push(Finding::error(
                "duplicate_name",
                place_of(node),
                format!("two nodes are named `{name}`"),
                "put {site}, {hall}, {rack} or {node} into the pattern of `name`",
            ));
        }
        if name.is_empty() || name.len() > 253 || !name.chars().all(is_plain) {
            findings.push(Finding::error(
                "name",
                place_of(node),
                format!("`{name}` is no name for a node"),
                "use 1 to 253 letters, digits, `-`, `_` and `.`",
            ));
        }
    }
}

fn gpus(fleet: &Fleet, findings: &mut Vec<Finding>) {
    let mut said: BTreeSet<(&str, u16)> = BTreeSet::new();
    for node in &fleet.nodes {
        if node.gpus == 0 || node.gpus > GPUS_PER_NODE_MAX {
            findings.push(Finding::error(
                "gpus",
                format!("node {}", node.name),
                format!("it has {} GPUs", node.gpus),
                format!("a node has 1 to {GPUS_PER_NODE_MAX} GPUs"),
            ));
        }
        let full = fleet.platforms.get(&node.platform).and_then(|known| known.gpus_per_node);
        if let Some(full) = full.filter(|full| *full != node.gpus)
            && said.insert((&node.platform, node.gpus))
        {
            let finding = Finding::error(
                "gpus_of_platform",
                format!("node {}", node.name),
                format!("it has {} GPUs, and a node of {} has {full}", node.gpus, node.platform),
                "if that is so, describe the design: [platforms.NAME] with `like` and \
                 `gpus_per_node`",
            );
            findings.push(finding.warning());
        }
    }
}

/// A rack stands in one row, under one leaf, and hangs on one PDU.
fn racks(fleet: &Fleet, findings: &mut Vec<Finding>) {
    let mut firsts: HashMap<[&str; 3], &NodeSpec> = HashMap::new();
    let mut said: HashSet<([&str; 3], &str)> = HashSet::new();
    for node in fleet.nodes.iter().filter(|node| !node.location.rack.is_empty()) {
        let at = &node.location;
        let key = [at.site.as_str(), at.hall.as_str(), at.rack.as_str()];
        let first = &firsts.entry(key).or_insert(node).location;
        for (what, one, other, hint) in [
            ("row", &first.row, &at.row, "a rack stands in one row"),
            ("PDU", &first.pdu, &at.pdu, "the power tree is a tree: name one PDU for a rack"),
            ("leaf", &first.leaf, &at.leaf, "placement would take it for two racks"),
            ("spine", &first.spine, &at.spine, "placement would take it for two racks"),
        ] {
            if one != other && said.insert((key, what)) {
                let name = |text: &str| {
                    if text.is_empty() { "none".to_string() } else { format!("`{text}`") }
                };
                findings.push(Finding::error(
                    "split_rack",
                    format!("{}, rack {}", place_of(node), at.rack),
                    format!(
                        "its nodes have two {what} names: {} of {}, and {} of {}",
                        name(one),
                        firsts[&key].name,
                        name(other),
                        node.name
                    ),
                    hint,
                ));
            }
        }
    }
}

fn nvlink(fleet: &Fleet, findings: &mut Vec<Finding>) {
    struct Domain<'a> {
        first: &'a NodeSpec,
        gpus: u64,
        is_mixed: bool,
    }
    let mut domains: BTreeMap<[&str; 6], Domain<'_>> = BTreeMap::new();
    for node in fleet.nodes.iter().filter(|node| !node.location.nvlink.is_empty()) {
        let at = &node.location;
        let rack = if at.nvlink_spans_racks { "" } else { at.rack.as_str() };
        let key = [&at.site, &at.hall, &at.spine, &at.leaf].map(String::as_str);
        let key = [key[0], key[1], key[2], key[3], rack, at.nvlink.as_str()];
        let domain = domains.entry(key).or_insert(Domain { first: node, gpus: 0, is_mixed: false });
        domain.gpus += u64::from(node.gpus);
        domain.is_mixed |= node.platform != domain.first.platform;
    }
    for domain in domains.values() {
        let node = domain.first;
        let place = format!("{}, NVLink domain {}", place_of(node), node.location.nvlink);
        if domain.is_mixed {
            findings.push(Finding::error(
                "mixed_domain",
                place,
                "its nodes are of more than one platform",
                "an NVLink domain is one machine: give each platform domains of its own",
            ));
            continue;
        }
        let most = fleet.platforms.get(&node.platform).and_then(|known| known.nvlink_gpus);
        if let Some(most) = most.filter(|most| domain.gpus > u64::from(*most)) {
            findings.push(Finding::error(
                "large_domain",
                place,
                format!("it has {} GPUs, and {} joins at most {most}", domain.gpus, node.platform),
                "use a name of its own for each domain, or set `nvlink_gpus` in [platforms.NAME]",
            ));
        }
    }
}

/// A level that some nodes of a hall have, and others not.
fn gaps(fleet: &Fleet, findings: &mut Vec<Finding>) {
    let mut halls: BTreeMap<[&str; 2], [u64; 4]> = BTreeMap::new();
    for node in &fleet.nodes {
        let at = &node.location;
        let counts = halls.entry([&at.site, &at.hall]).or_default();
        counts[0] += 1;
        for (slot, name) in [&at.spine, &at.leaf, &at.rack].into_iter().enumerate() {
            counts[slot + 1] += u64::from(!name.is_empty());
        }
    }
    for ([site, hall], [nodes, known @ ..]) in halls {
        for (level, known) in ["spine", "leaf", "rack"].into_iter().zip(known) {
            if known > 0 && known < nodes {
                let finding = Finding::error(
                    "gap",
                    place(site, hall),
                    format!("{} of {nodes} nodes have no {level}", nodes - known),
                    format!("name the {level} of every node of a hall, or of none"),
                );
                findings.push(finding.warning());
            }
        }
    }
}

fn power(fleet: &Fleet, findings: &mut Vec<Finding>) {
    let units = &fleet.power.units;
    let powered: BTreeSet<&str> = units
        .iter()
        .filter(|unit| unit.kind != PowerKind::Rack || !unit.parent_name.is_empty())
        .map(|unit| unit.site.as_str())
        .collect();
    let by_name: HashMap<(&str, &str), &PowerUnit> = units
        .iter()
        .filter(|unit| unit.kind != PowerKind::Rack)
        .map(|unit| ((unit.site.as_str(), unit.name.as_str()), unit))
        .collect();
    let mut seen = HashSet::new();
    let mut hanging: BTreeMap<[&str; 2], (u64, &str)> = BTreeMap::new();
    for unit in units.iter().filter(|unit| powered.contains(unit.site.as_str())) {
        if unit.kind != PowerKind::Rack && !seen.insert((unit.site.as_str(), unit.name.as_str())) {
            findings.push(Finding::error(
                "duplicate_power",
                place(&unit.site, ""),
                format!("two units of the power tree are named `{}`", unit.name),
                "names of feeds, UPSes and PDUs are unique in their site",
            ));
        }
        if unit.kind == PowerKind::Rack && unit.parent_name.is_empty() {
            let (count, _) = hanging.entry([&unit.site, &unit.hall]).or_insert((0, &unit.name));
            *count += 1;
        } else {
            findings.extend(open_end(unit, &by_name));
        }
    }
    for ([site, hall], (count, first)) in hanging {
        findings.push(Finding::error(
            "no_pdu",
            place(site, hall),
            format!(
                "the power tree does not close: {count} racks hang on no PDU, the first is \
                     {first}"
            ),
            "raise `feeds`, `ups_per_feed`, `pdus_per_ups` or `racks_per_pdu`, or name the `pdu` \
             of these racks",
        ));
    }
    capacities(fleet, findings);
}

/// Why this unit hangs on nothing, if it does.
fn open_end(unit: &PowerUnit, by_name: &HashMap<(&str, &str), &PowerUnit>) -> Option<Finding> {
    let above = match unit.kind.above() {
        None if unit.parent_name.is_empty() => return None,
        None => {
            return Some(Finding::error(
                "power_parent",
                place(&unit.site, &unit.hall),
                format!("feed {} hangs on `{}`", unit.name, unit.parent_name),
                "a feed is where power comes in: it has no parent",
            ));
        }
        Some(_) if unit.parent.is_some() => return None,
        Some(above) => above,
    };
    let (kind, name) = (unit.kind.name(), &unit.name);
    let problem = match by_name.get(&(unit.site.as_str(), unit.parent_name.as_str())) {
        _ if unit.parent_name.is_empty() => format!("{kind} {name} hangs on no {}", above.name()),
        None => format!("{kind} {name} hangs on `{}`, which is not there", unit.parent_name),
        Some(parent) => format!(
            "{kind} {name} hangs on {}, which is a {}",
            unit.parent_name,
            parent.kind.name()
        ),
    };
    let known = by_name.values().filter(|known| known.kind == above && known.site == unit.site);
    let nearest = crate::file::nearest(&unit.parent_name, known.map(|unit| unit.name.as_str()));
    let hint = match nearest.filter(|_| !unit.parent_name.is_empty()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("a {kind} hangs on a {} of its site", above.name()),
    };
    let message = format!("the power tree does not close: {problem}");
    Some(Finding::error("power_parent", place(&unit.site, &unit.hall), message, hint))
}

fn capacities(fleet: &Fleet, findings: &mut Vec<Finding>) {
    let units = &fleet.power.units;
    let mut has_capacity = false;
    for (unit, children) in units.iter().zip(fleet.power.children()) {
        if unit.kind == PowerKind::Rack {
            continue;
        }
        let at = format!("{}, {} {}", place(&unit.site, ""), unit.kind.name(), unit.name);
        if children.is_empty() {
            let finding = Finding::error(
                "power_unused",
                at,
                "nothing hangs on it",
                "lower the counts of the power tree, or hang something on it",
            );
            findings.push(finding.warning());
            continue;
        }
        let Some(capacity) = unit.capacity else { continue };
        has_capacity = true;
        let below: u64 =
            children.iter().filter_map(|&child| units[child].capacity).map(|watts| watts.0).sum();
        if below > capacity.0 && !unit.oversubscribed {
            findings.push(Finding::error(
                "capacity",
                at.clone(),
                format!("it carries {capacity}, and what hangs on it may carry {}", Watts(below)),
                "raise its capacity, or set `oversubscribed = true`",
            ));
        }
        if unit.load > capacity {
            let finding = Finding::error(
                "overload",
                at,
                format!("it carries {capacity}, and the nodes below it draw up to {}", unit.load),
                "hang fewer racks on it, or set `oversubscribed = true` and hold the draw down by \
                 power caps",
            );
            findings.push(if unit.oversubscribed { finding.warning() } else { finding });
        }
    }
    if has_capacity {
        unmeasured(fleet, findings);
    }
}

/// Capacities mean little where nobody knows the load.
fn unmeasured(fleet: &Fleet, findings: &mut Vec<Finding>) {
    let is_unknown =
        |(name, platform): &(&String, &Platform)| *name == GENERIC || platform.load(1).is_none();
    for (name, _) in fleet.platforms.iter().filter(is_unknown) {
        let finding = Finding::error(
            "no_power_figure",
            format!("platform {name}"),
            "what its nodes draw is not known, and counts as nothing",
            "describe it: [platforms.NAME] with `like`, `node_power` and its source",
        );
        findings.push(finding.warning());
    }
}

fn place_of(node: &NodeSpec) -> String {
    place(&node.location.site, &node.location.hall)
}

pub(super) fn place(site: &str, hall: &str) -> String {
    match (site, hall) {
        ("", "") => "the fleet".to_string(),
        ("", hall) => format!("hall {hall}"),
        (site, "") => format!("site {site}"),
        (site, hall) => format!("site {site}, hall {hall}"),
    }
}
