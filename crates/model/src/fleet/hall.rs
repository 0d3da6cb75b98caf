//! One hall: its groups of nodes fill racks, and racks fill rows, leaves and spines in turn.

use super::file::{HallNodes, HallTable};
use super::pattern::{Counter, Pattern, Values};
use super::platform::{self, Platform};
use super::{FLEET_NODES_MAX, digits};
use crate::file::{FileError, Source};
use crate::node::{GPUS_PER_NODE_MAX, Location, NodeSpec};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;

/// Each rack as the range of its nodes, in order.
pub(super) type Racks = Vec<Range<usize>>;

const NODE_NAME: &str = "{site}-{hall}-r{rack}-n{node}";
const NODE_COUNTERS: [Counter; 6] =
    [Counter::Node, Counter::Rack, Counter::Row, Counter::Leaf, Counter::Spine, Counter::Index];

/// The names of the halls that one table stands for.
pub(super) fn names(source: &Source<'_>, table: &HallTable) -> Result<Vec<String>, FileError> {
    struct Number(u64, usize);
    impl Values for Number {
        fn site(&self) -> &'static str {
            ""
        }
        fn hall(&self) -> &'static str {
            ""
        }
        fn count(&self, _: Counter) -> (u64, usize) {
            (self.0, self.1)
        }
    }
    let count = table.count.map_or(1, |count| u64::from(count.get()));
    if count > FLEET_NODES_MAX {
        let message = format!("{count} halls; a fleet has at most {FLEET_NODES_MAX} nodes");
        return Err(source.error_at(&table.name, message, ""));
    }
    let pattern = pattern(source, &table.name, &[Counter::Number])?;
    if count > 1 && !pattern.has(Counter::Number) {
        let hint = "put {number} into the name: name = \"hall-{number}\"";
        let message = format!("{count} halls of one name");
        return Err(source.error_at(&table.name, message, hint));
    }
    Ok((1..=count).map(|number| pattern.fill(&Number(number, digits(count)))).collect())
}

fn pattern(
    source: &Source<'_>,
    text: &Spanned<String>,
    allowed: &[Counter],
) -> Result<Pattern, FileError> {
    Pattern::parse(text.get_ref(), allowed)
        .map_err(|(message, hint)| source.error_at(text, message, hint.unwrap_or_default()))
}

/// A group, with its counts worked out.
struct Group<'a> {
    table: &'a HallNodes,
    gpus: u16,
    nodes: u64,
    nodes_per_rack: u64,
    racks: u64,
    leaves: u64,
    spines: u64,
    rows: u64,
    /// Nodes of one NVLink domain, where it is larger than the node.
    domain: Option<u64>,
    name: Pattern,
    address: Option<Pattern>,
}

/// Adds the nodes of a hall to `nodes`.
pub(super) fn lay_out(
    source: &Source<'_>,
    platforms: &BTreeMap<String, Platform>,
    site: &str,
    hall: &str,
    table: &HallTable,
    nodes: &mut Vec<NodeSpec>,
) -> Result<Racks, FileError> {
    let mut groups = Vec::new();
    let mut total = nodes.len() as u64;
    for table in &table.nodes {
        let group = Group::new(source, platforms, table)?;
        total += group.nodes;
        if total > FLEET_NODES_MAX {
            let message = format!("more than {FLEET_NODES_MAX} nodes");
            let hint = format!("a fleet has at most {FLEET_NODES_MAX} nodes");
            return Err(source.error_at(&table.platform, message, hint));
        }
        groups.push(group);
    }
    let all = |count: fn(&Group<'_>) -> u64| digits(groups.iter().map(count).sum());
    let mut at = Place {
        site,
        hall,
        widths: Numbers {
            node: digits(groups.iter().map(|group| group.nodes_per_rack).max().unwrap_or(0)) as u64,
            rack: all(|group| group.racks) as u64,
            row: all(|group| group.rows) as u64,
            leaf: all(|group| group.leaves) as u64,
            spine: all(|group| group.spines) as u64,
            domain: all(|group| group.domain.map_or(0, |domain| group.nodes.div_ceil(domain)))
                as u64,
            index: all(|group| group.nodes) as u64,
        },
        numbers: Numbers::default(),
    };
    let mut racks = Vec::new();
    for group in &groups {
        group.fill(&mut at, nodes, &mut racks);
    }
    Ok(racks)
}

impl<'a> Group<'a> {
    fn new(
        source: &Source<'_>,
        platforms: &BTreeMap<String, Platform>,
        table: &'a HallNodes,
    ) -> Result<Group<'a>, FileError> {
        let name = table.platform.get_ref();
        let names = platforms.keys().map(String::as_str);
        let platform = platforms.get(name).ok_or_else(|| {
            let (message, hint) = platform::unknown(name, names);
            source.error_at(&table.platform, message, hint)
        })?;
        let missing = |what: &str, key: &str| {
            let hint = format!("say it here: `{key}`");
            source.error_at(&table.platform, format!("{name} has no {what}"), hint)
        };
        let gpus = table.gpus_per_node.map(std::num::NonZero::get).or(platform.gpus_per_node);
        let gpus = gpus.ok_or_else(|| missing("number of GPUs", "gpus_per_node"))?;
        if gpus > GPUS_PER_NODE_MAX {
            let hint = format!("a node has 1 to {GPUS_PER_NODE_MAX} GPUs");
            let message = format!("{gpus} GPUs in one node");
            return Err(source.error_at(&table.platform, message, hint));
        }
        let nodes_per_rack = table.nodes_per_rack.map(std::num::NonZero::get);
        let nodes_per_rack = nodes_per_rack.or(platform.nodes_per_rack).map(u64::from);
        let nodes_per_rack =
            nodes_per_rack.ok_or_else(|| missing("number of nodes in a rack", "nodes_per_rack"))?;
        let given = |count: &Spanned<std::num::NonZeroU32>| u64::from(count.get_ref().get());
        let nodes = match (&table.racks, &table.count) {
            (Some(racks), None) => given(racks) * nodes_per_rack,
            (None, Some(count)) => given(count),
            _ => {
                let hint = "`racks` counts full racks, `count` counts nodes";
                let message = "give either `racks` or `count`";
                return Err(source.error_at(&table.platform, message, hint));
            }
        };
        let racks = nodes.div_ceil(nodes_per_rack);
        let per = |count: u64, per: Option<std::num::NonZeroU32>| {
            per.map_or(0, |per| count.div_ceil(u64::from(per.get())))
        };
        let leaves = per(racks, table.racks_per_leaf);
        if table.leaves_per_spine.is_some() && leaves == 0 {
            let hint = "leaves are counted by `racks_per_leaf`";
            let message = "`leaves_per_spine` without `racks_per_leaf`";
            return Err(source.error_at(&table.platform, message, hint));
        }
        let domain = domain(source, table, platform, gpus, nodes_per_rack)?;
        let default_name = Spanned::new(table.platform.span(), NODE_NAME.to_string());
        let name = table.name.as_ref().unwrap_or(&default_name);
        let address = table.address.as_ref();
        Ok(Group {
            table,
            gpus,
            nodes,
            nodes_per_rack,
            racks,
            leaves,
            spines: per(leaves, table.leaves_per_spine),
            rows: per(racks, table.racks_per_row),
            domain,
            name: pattern(source, name, &NODE_COUNTERS)?,
            address: address.map(|text| pattern(source, text, &NODE_COUNTERS)).transpose()?,
        })
    }

    fn fill(&self, at: &mut Place<'_>, nodes: &mut Vec<NodeSpec>, racks: &mut Racks) {
        let begins = |index: u64, per: Option<std::num::NonZeroU32>| {
            per.is_some_and(|per| index.is_multiple_of(u64::from(per.get())))
        };
        let mut in_leaf = 0;
        for index in 0..self.nodes {
            let in_rack = index % self.nodes_per_rack;
            if in_rack == 0 {
                let rack = index / self.nodes_per_rack;
                at.numbers.rack += 1;
                at.numbers.row += u64::from(begins(rack, self.table.racks_per_row));
                if begins(rack, self.table.racks_per_leaf) {
                    at.numbers.leaf += 1;
                    at.numbers.spine += u64::from(begins(in_leaf, self.table.leaves_per_spine));
                    in_leaf += 1;
                }
                racks.push(nodes.len()..nodes.len());
            }
            at.numbers.domain +=
                u64::from(self.domain.is_some_and(|domain| index.is_multiple_of(domain)));
            at.numbers.node = in_rack + 1;
            at.numbers.index += 1;
            nodes.push(self.node(at));
            if let Some(rack) = racks.last_mut() {
                rack.end = nodes.len();
            }
        }
    }

    fn node(&self, at: &Place<'_>) -> NodeSpec {
        let name = self.name.fill(at);
        let address = match &self.address {
            Some(address) => address.fill(at),
            None => name.clone(),
        };
        NodeSpec {
            name,
            gpus: self.gpus,
            platform: self.table.platform.get_ref().clone(),
            address,
            location: self.location(at),
            labels: self.table.labels.clone(),
        }
    }

    fn location(&self, at: &Place<'_>) -> Location {
        let name = |is_there: bool, word: &str, number: u64, width: u64| {
            let width = width as usize;
            if is_there { format!("{word}{number:0width$}") } else { String::new() }
        };
        let (numbers, widths) = (&at.numbers, &at.widths);
        Location {
            site: at.site.to_string(),
            hall: at.hall.to_string(),
            spine: name(self.spines > 0, "spine-", numbers.spine, widths.spine),
            leaf: name(self.leaves > 0, "leaf-", numbers.leaf, widths.leaf),
            rack: name(true, "rack-", numbers.rack, widths.rack),
            nvlink: name(self.domain.is_some(), "nvl-", numbers.domain, widths.domain),
            nvlink_spans_racks: self.domain.is_some_and(|domain| domain > self.nodes_per_rack),
            row: name(self.rows > 0, "row-", numbers.row, widths.row),
            pdu: String::new(),
        }
    }
}

/// The nodes of an NVLink domain that is larger than a node. It fills whole racks, or whole parts
/// of one, and does not reach over a leaf.
fn domain(
    source: &Source<'_>,
    table: &HallNodes,
    platform: &Platform,
    gpus: u16,
    nodes_per_rack: u64,
) -> Result<Option<u64>, FileError> {
    let Some(joined) = platform.nvlink_gpus.map(u64::from) else { return Ok(None) };
    if joined <= u64::from(gpus) {
        return Ok(None);
    }
    let wrong = |message: String, hint: &str| Err(source.error_at(&table.platform, message, hint));
    if !joined.is_multiple_of(u64::from(gpus)) {
        return wrong(
            format!("an NVLink domain of {joined} GPUs is no number of nodes with {gpus} each"),
            "describe the design in [platforms.NAME]: `nvlink_gpus` and `gpus_per_node`",
        );
    }
    let nodes = joined / u64::from(gpus);
    if !nodes.is_multiple_of(nodes_per_rack) && !nodes_per_rack.is_multiple_of(nodes) {
        return wrong(
            format!(
                "an NVLink domain of {nodes} nodes fills no whole racks of {nodes_per_rack} nodes"
            ),
            "a domain fills whole racks, or a rack holds whole domains: see `nodes_per_rack`",
        );
    }
    let racks = nodes / nodes_per_rack;
    let racks_per_leaf = table.racks_per_leaf.map_or(0, |racks| u64::from(racks.get()));
    if racks > 1 && racks_per_leaf > 0 && !racks_per_leaf.is_multiple_of(racks) {
        return wrong(
            format!(
                "an NVLink domain of {racks} racks would reach over a leaf of {racks_per_leaf}"
            ),
            "make `racks_per_leaf` a multiple of the racks of a domain",
        );
    }
    Ok(Some(nodes))
}

#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    node: u64,
    rack: u64,
    row: u64,
    leaf: u64,
    spine: u64,
    domain: u64,
    index: u64,
}

/// Where the next node stands.
struct Place<'a> {
    site: &'a str,
    hall: &'a str,
    /// Digits of the largest of each kind.
    widths: Numbers,
    numbers: Numbers,
}

impl Values for Place<'_> {
    fn site(&self) -> &str {
        self.site
    }

    fn hall(&self) -> &str {
        self.hall
    }

    fn count(&self, counter: Counter) -> (u64, usize) {
        let of = |numbers: &Numbers| match counter {
            Counter::Node => numbers.node,
            Counter::Rack => numbers.rack,
            Counter::Row => numbers.row,
            Counter::Leaf => numbers.leaf,
            Counter::Spine => numbers.spine,
            Counter::Index | Counter::Number => numbers.index,
        };
        (of(&self.numbers), of(&self.widths) as usize)
    }
}
