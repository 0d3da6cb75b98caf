//! From the tables of a fleet file to its nodes and its power tree.

use super::check::{Finding, place};
use super::file::{FleetTable, HostTable, OverrideTable, PlatformTable, SiteTable, UnitTable};
use super::hall::{self, Racks};
use super::platform::{self, GENERIC, Platform, catalogue};
use super::power::{PowerKind, PowerPattern, PowerTree, PowerUnit};
use super::watts::Watts;
use super::{FLEET_NODES_MAX, Fleet, group, hostlist};
use crate::file::{FileError, Source, nearest};
use crate::node::{GPUS_PER_NODE_MAX, Location, NodeSpec};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use toml::Spanned;

/// Everything that the tables say; what they say twice, or what does not add up, becomes findings.
pub(super) fn lay_out(source: &Source<'_>, table: FleetTable) -> Result<Fleet, FileError> {
    let mut layout = Layout {
        source,
        platforms: platforms(source, &table.platforms)?,
        nodes: Vec::new(),
        units: Vec::new(),
        findings: Vec::new(),
    };
    if !table.nodes.is_empty() {
        layout.nodes = group::expand(&table.nodes)
            .map_err(|message| source.error_at_key("nodes", message, None))?;
        for group in &table.nodes {
            layout
                .known(&group.platform)
                .map_err(|(message, hint)| source.error_at_key("nodes", message, Some(hint)))?;
        }
    }
    for (index, site) in table.sites.iter().enumerate() {
        let name = site.name.get_ref();
        if table.sites[..index].iter().any(|other| other.name.get_ref() == name) {
            layout.same_place("sites", "the fleet", &site.name, name);
        }
        layout.site(site)?;
    }
    layout.hosts(&table.hosts)?;
    if layout.nodes.is_empty() {
        let hint = "the smallest fleet file: [[nodes]] with `count` and `gpus`".to_string();
        return Err(source.error(None, "a fleet has at least one node", Some(hint)));
    }
    layout.overrides(&table.overrides)?;
    layout.single_units(&table.power)?;
    layout.total(table.gpus.as_ref(), 0, "the fleet".to_string());
    Ok(layout.finish(table.name, table.about))
}

/// The catalogue, and the file's own, which may build upon it.
fn platforms(
    source: &Source<'_>,
    tables: &BTreeMap<String, PlatformTable>,
) -> Result<BTreeMap<String, Platform>, FileError> {
    let mut known = catalogue().clone();
    for (name, table) in tables {
        let base = match &table.like {
            None => Platform::default(),
            Some(like) => catalogue().get(like.get_ref()).cloned().ok_or_else(|| {
                let names = catalogue().keys().map(String::as_str);
                let (message, hint) = platform::unknown(like.get_ref(), names);
                source.error_at(like, format!("{message} in the catalogue"), hint)
            })?,
        };
        let platform = table.figures().or(&base);
        if let Some(gpus) = platform.gpus_per_node.filter(|gpus| *gpus > GPUS_PER_NODE_MAX) {
            return Err(source.error_at_key(
                &format!("platforms.{name}.gpus_per_node"),
                format!("{gpus} GPUs in one node"),
                Some(format!("a node has 1 to {GPUS_PER_NODE_MAX} GPUs")),
            ));
        }
        known.insert(name.clone(), platform);
    }
    Ok(known)
}

struct Layout<'a> {
    source: &'a Source<'a>,
    platforms: BTreeMap<String, Platform>,
    nodes: Vec<NodeSpec>,
    units: Vec<PowerUnit>,
    findings: Vec<Finding>,
}

impl Layout<'_> {
    fn known(&self, name: &str) -> Result<&Platform, (String, String)> {
        let names = self.platforms.keys().map(String::as_str);
        self.platforms.get(name).ok_or_else(|| platform::unknown(name, names))
    }

    fn platform(&self, name: &Spanned<String>) -> Result<&Platform, FileError> {
        self.known(name.get_ref())
            .map_err(|(message, hint)| self.source.error_at(name, message, hint))
    }

    fn site(&mut self, site: &SiteTable) -> Result<(), FileError> {
        let first_node = self.nodes.len();
        let name = site.name.get_ref();
        let mut racks_of_site: Racks = Vec::new();
        let mut seen = BTreeSet::new();
        for table in &site.halls {
            for hall in hall::names(self.source, table)? {
                if !seen.insert(hall.clone()) {
                    self.same_place("halls", &place(name, ""), &table.name, &hall);
                }
                let first = self.nodes.len();
                let racks = hall::lay_out(
                    self.source,
                    &self.platforms,
                    name,
                    &hall,
                    table,
                    &mut self.nodes,
                )?;
                match &table.power {
                    Some(power) => self.hang(power, name, &format!("{hall}-"), &racks)?,
                    None => racks_of_site.extend(racks),
                }
                self.total(table.gpus.as_ref(), first, place(name, &hall));
            }
        }
        if let Some(power) = &site.power {
            self.hang(power, name, "", &racks_of_site)?;
        }
        self.total(site.gpus.as_ref(), first_node, place(name, ""));
        Ok(())
    }

    /// Two sites, or two halls of a site, of one name: their racks would be taken for the same.
    fn same_place(&mut self, what: &str, place: &str, at: &Spanned<String>, name: &str) {
        let finding = Finding::error(
            "duplicate_place",
            place,
            format!("two {what} are named `{name}`"),
            "give each its own name, or put all groups of nodes into one",
        );
        self.findings.push(finding.at_line(Some(self.source.line(&at.span()))));
    }

    /// Hangs racks on the PDUs of a pattern, in their order.
    fn hang(
        &mut self,
        power: &Spanned<PowerPattern>,
        site: &str,
        prefix: &str,
        racks: &Racks,
    ) -> Result<(), FileError> {
        let pattern = power.get_ref();
        pattern.check().map_err(|message| self.source.error_at(power, message, ""))?;
        self.units.extend(pattern.units(site, prefix));
        for (index, rack) in racks.iter().enumerate() {
            let pdu = pattern.pdu_of_rack(prefix, index);
            for node in &mut self.nodes[rack.clone()] {
                node.location.pdu.clone_from(&pdu);
            }
        }
        Ok(())
    }

    fn hosts(&mut self, tables: &[HostTable]) -> Result<(), FileError> {
        let mut at: HashMap<String, (usize, usize)> = HashMap::new();
        for table in tables {
            let line = self.source.line(&table.names.span());
            let names = self.host_list(&table.names)?;
            if self.nodes.len() + names.len() > FLEET_NODES_MAX as usize {
                let message = format!("a fleet has at most {FLEET_NODES_MAX} nodes");
                return Err(self.source.error_at(&table.names, message, ""));
            }
            let addresses = self.addresses(table, &names)?;
            let name = table.platform.as_ref().map_or(GENERIC, |name| name.get_ref());
            let platform = match &table.platform {
                Some(name) => self.platform(name)?,
                None => &self.platforms[GENERIC],
            };
            let gpus = table.gpus.map(std::num::NonZero::get).or(platform.gpus_per_node);
            let gpus = gpus.filter(|gpus| *gpus <= GPUS_PER_NODE_MAX).ok_or_else(|| {
                let hint = format!("say how many: gpus = 1 to {GPUS_PER_NODE_MAX}");
                self.source.error_at(&table.names, "these nodes have no number of GPUs", hint)
            })?;
            let name = name.to_string();
            for (host, address) in names.into_iter().zip(addresses) {
                if let Some(&(index, first_line)) = at.get(&host) {
                    self.twice(index, first_line, line, &host, &table.rack);
                    continue;
                }
                at.insert(host.clone(), (self.nodes.len(), line));
                self.nodes.push(NodeSpec {
                    name: host,
                    gpus,
                    platform: name.clone(),
                    address,
                    location: table.location(),
                    labels: table.labels.clone(),
                });
            }
        }
        Ok(())
    }

    /// A host that stands in the file a second time.
    fn twice(&mut self, index: usize, first_line: usize, line: usize, host: &str, rack: &str) {
        let first = &self.nodes[index].location.rack;
        let finding = if first == rack {
            Finding::error(
                "duplicate_name",
                format!("node {host}"),
                format!("it stands in the file twice, on lines {first_line} and {line}"),
                "name each node once",
            )
        } else {
            two_racks(host, first, first_line, rack, line)
        };
        self.findings.push(finding.at_line(Some(line)));
    }

    fn host_list(&self, list: &Spanned<String>) -> Result<Vec<String>, FileError> {
        hostlist::expand(list.get_ref()).map_err(|message| {
            let hint = "a host list looks like n[001-128,200],login";
            self.source.error_at(list, message, hint)
        })
    }

    fn addresses(&self, table: &HostTable, names: &[String]) -> Result<Vec<String>, FileError> {
        let Some(list) = &table.address else { return Ok(names.to_vec()) };
        let addresses = self.host_list(list)?;
        if addresses.len() != names.len() {
            let message = format!("{} addresses for {} names", addresses.len(), names.len());
            return Err(self.source.error_at(list, message, "give one address for each name"));
        }
        Ok(addresses)
    }

    fn overrides(&mut self, tables: &[OverrideTable]) -> Result<(), FileError> {
        if tables.is_empty() {
            return Ok(());
        }
        let by_name: HashMap<String, usize> =
            self.nodes.iter().enumerate().map(|(index, node)| (node.name.clone(), index)).collect();
        let by_rack = self.first_of_racks();
        let mut moved: HashMap<usize, usize> = HashMap::new();
        for table in tables {
            let line = self.source.line(&table.nodes.span());
            let gpus_of_platform = match &table.platform {
                Some(name) => self.platform(name)?.gpus_per_node,
                None => None,
            };
            for name in self.host_list(&table.nodes)? {
                let Some(&index) = by_name.get(&name) else {
                    let known = by_name.keys().map(String::as_str);
                    let hint = nearest(&name, known).map(|best| format!("did you mean `{best}`?"));
                    let hint = hint.unwrap_or_else(|| "name nodes that the groups have".into());
                    let message = format!("there is no node `{name}` to override");
                    return Err(self.source.error_at(&table.nodes, message, hint));
                };
                if let Some(rack) = &table.rack {
                    let before = moved.insert(index, line);
                    let now = &self.nodes[index].location.rack;
                    if let Some(before) = before.filter(|_| now != rack) {
                        let finding = two_racks(&name, now, before, rack, line);
                        self.findings.push(finding.at_line(Some(line)));
                        continue;
                    }
                }
                let node = &mut self.nodes[index];
                if let Some(rack) = &table.rack {
                    move_to(&mut node.location, rack, &by_rack);
                }
                change(node, table, gpus_of_platform);
            }
        }
        Ok(())
    }

    /// Where the first node of each rack stands, by site, hall and rack.
    fn first_of_racks(&self) -> HashMap<[String; 3], Location> {
        let mut racks = HashMap::new();
        for node in self.nodes.iter().filter(|node| !node.location.rack.is_empty()) {
            let at = &node.location;
            racks
                .entry([at.site.clone(), at.hall.clone(), at.rack.clone()])
                .or_insert_with(|| at.clone());
        }
        racks
    }

    fn single_units(&mut self, tables: &[UnitTable]) -> Result<(), FileError> {
        for table in tables {
            if *table.kind.get_ref() == PowerKind::Rack {
                let hint = "racks come from the nodes: name their `pdu` there";
                return Err(self.source.error_at(
                    &table.kind,
                    "a rack is no unit of its own",
                    hint,
                ));
            }
            for name in self.host_list(&table.names)? {
                self.units.push(PowerUnit {
                    kind: *table.kind.get_ref(),
                    site: table.site.clone(),
                    hall: String::new(),
                    name,
                    parent_name: table.parent.clone(),
                    parent: None,
                    capacity: table.capacity,
                    oversubscribed: table.oversubscribed,
                    load: Watts(0),
                });
            }
        }
        Ok(())
    }

    /// Whether the nodes from `first` on have as many GPUs as the file says.
    fn total(&mut self, stated: Option<&Spanned<u64>>, first: usize, place: String) {
        let Some(stated) = stated else { return };
        let gpus: u64 = self.nodes[first..].iter().map(|node| u64::from(node.gpus)).sum();
        if gpus != *stated.get_ref() {
            let finding = Finding::error(
                "count",
                place,
                format!("`gpus = {}`, but its groups add up to {gpus}", stated.get_ref()),
                "correct `gpus`, or the counts of racks and nodes",
            );
            let line = self.source.line(&stated.span());
            self.findings.push(finding.at_line(Some(line)));
        }
    }

    fn finish(self, name: String, about: String) -> Fleet {
        let power = PowerTree::new(self.units, &self.nodes, &self.platforms);
        let mut fleet = Fleet::new(name, self.nodes, self.platforms);
        fleet.about = about;
        fleet.power = power;
        fleet.findings = self.findings;
        fleet
    }
}

/// The error of a node that is said to stand in two places.
pub(super) fn two_racks(
    node: &str,
    one: &str,
    line: usize,
    other: &str,
    other_line: usize,
) -> Finding {
    let rack = |name: &str| {
        if name.is_empty() { "in none".to_string() } else { format!("in rack `{name}`") }
    };
    Finding::error(
        "two_racks",
        format!("node {node}"),
        format!("it stands {} (line {line}) and {} (line {other_line})", rack(one), rack(other)),
        "a node stands in one rack: name it once",
    )
}

/// Into another rack; with it under that rack's leaf and on its PDU, if the rack is known.
fn move_to(location: &mut Location, rack: &str, by_rack: &HashMap<[String; 3], Location>) {
    let key = [location.site.clone(), location.hall.clone(), rack.to_string()];
    match by_rack.get(&key) {
        Some(there) => *location = there.clone(),
        None => location.rack = rack.to_string(),
    }
}

fn change(node: &mut NodeSpec, table: &OverrideTable, gpus_of_platform: Option<u16>) {
    if let Some(platform) = &table.platform {
        node.platform.clone_from(platform.get_ref());
        node.gpus = gpus_of_platform.unwrap_or(node.gpus);
    }
    if let Some(gpus) = table.gpus {
        node.gpus = gpus.get();
    }
    let location = &mut node.location;
    for (name, slot) in [
        (&table.address, &mut node.address),
        (&table.row, &mut location.row),
        (&table.spine, &mut location.spine),
        (&table.leaf, &mut location.leaf),
        (&table.nvlink, &mut location.nvlink),
        (&table.pdu, &mut location.pdu),
    ] {
        if let Some(name) = name {
            slot.clone_from(name);
        }
    }
    node.labels.extend(table.labels.clone());
}

impl HostTable {
    fn location(&self) -> Location {
        Location {
            site: self.site.clone(),
            hall: self.hall.clone(),
            spine: self.spine.clone(),
            leaf: self.leaf.clone(),
            rack: self.rack.clone(),
            nvlink: self.nvlink.clone(),
            nvlink_spans_racks: self.nvlink_spans_racks,
            row: self.row.clone(),
            pdu: self.pdu.clone(),
        }
    }
}
