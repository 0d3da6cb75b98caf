//! Slurm's `slurm.conf` (`NodeName=… Gres=gpu:8`) and `topology.conf` (`SwitchName=…`, and
//! `BlockName=…` for NVLink domains), in one file or several. As their manual pages describe them.

use super::{Import, Input, collect};
use crate::file::{FileError, nearest};
use crate::fleet::hostlist;
use crate::fleet::platform::{GENERIC, catalogue};
use crate::node::{Location, NodeSpec};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Words in the type of a `gpu` and the platform that has such GPUs; the first that fits counts.
const TYPES: [(&str, &str); 7] = [
    ("gb300", "gb300-nvl72"),
    ("gb200", "gb200-nvl72"),
    ("b200", "hgx-b200"),
    ("h200", "hgx-h200"),
    ("h100", "hgx-h100"),
    ("a100", "hgx-a100"),
    ("mi300x", "mi300x"),
];

/// Reads node lines and the topology from files that belong together. Nodes without GPUs are left
/// out. The switch of a node is its leaf, the one above its spine, the one above that its hall; a
/// single switch above all others is the whole, and has no name.
pub fn slurm(files: &[(PathBuf, String)]) -> Result<Import, FileError> {
    let mut config = Config::default();
    let inputs: Vec<Input<'_>> = files.iter().map(|(path, text)| Input { path, text }).collect();
    for &input in &inputs {
        for line in lines(input)? {
            config.line(&line)?;
        }
    }
    let Some(&first) = inputs.first() else { return Ok(empty()) };
    if config.nodes.is_empty() {
        let hint = "a node line looks like NodeName=n[001-128] Gres=gpu:8";
        return Err(first.error(0, "there is no NodeName line with GPUs", hint));
    }
    config.finish(first)
}

fn empty() -> Import {
    Import { name: String::new(), nodes: Vec::new(), notes: Vec::new() }
}

/// A logical line: its continuations joined, its comment gone.
struct Line<'a> {
    input: Input<'a>,
    number: usize,
    /// Keys in lower case.
    pairs: Vec<(String, String)>,
}

impl Line<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn error(&self, message: impl Into<String>, hint: impl Into<String>) -> FileError {
        self.input.error(self.number, message, hint)
    }

    fn hosts(&self, list: &str) -> Result<Vec<String>, FileError> {
        hostlist::expand(list)
            .map_err(|message| self.error(message, "a host list looks like n[001-128,200],login"))
    }
}

fn lines(input: Input<'_>) -> Result<Vec<Line<'_>>, FileError> {
    let mut lines = Vec::new();
    let mut text = String::new();
    let mut begin = 0;
    for (index, raw) in input.text.lines().enumerate() {
        if text.is_empty() {
            begin = index + 1;
        }
        let raw = raw.split('#').next().unwrap_or_default().trim_end();
        if let Some(part) = raw.strip_suffix('\\') {
            text.push_str(part);
            text.push(' ');
            continue;
        }
        text.push_str(raw);
        let pairs = pairs(&text).map_err(|message| input.error(begin, message, ""))?;
        lines.push(Line { input, number: begin, pairs });
        text.clear();
    }
    let pairs = pairs(&text).map_err(|message| input.error(begin, message, ""))?;
    lines.push(Line { input, number: begin, pairs });
    Ok(lines)
}

/// `Key=Value Key="a value"`; a word without `=` (such as `include FILE`) is a key alone.
fn pairs(line: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', '=']).unwrap_or(rest.len());
        let key = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            if let Some(quoted) = after.strip_prefix('"') {
                let close = quoted.find('"').ok_or("a quote is not closed")?;
                value = quoted[..close].to_string();
                rest = &quoted[close + 1..];
            } else {
                let end = after.find([' ', '\t']).unwrap_or(after.len());
                value = after[..end].to_string();
                rest = &after[end..];
            }
        }
        pairs.push((key, value));
        rest = rest.trim_start();
    }
    Ok(pairs)
}

#[derive(Default)]
struct Config<'a> {
    cluster: String,
    /// Of `NodeName=DEFAULT`, which holds for the lines after it.
    defaults: BTreeMap<String, String>,
    nodes: Vec<(Input<'a>, usize, NodeSpec)>,
    by_name: HashMap<String, usize>,
    without_gpus: usize,
    /// Types of GPUs for which there is no platform.
    strange: BTreeMap<String, usize>,
    /// Switch or node → the switch above it, and the place that says so.
    above: HashMap<String, (String, Input<'a>, usize)>,
    /// Switches in the order of the file.
    switches: Vec<String>,
    /// Nodes of the topology, with where they stand.
    wired: Vec<(String, Input<'a>, usize)>,
    blocks: Vec<(String, String, Input<'a>, usize)>,
}

impl<'a> Config<'a> {
    fn line(&mut self, line: &Line<'a>) -> Result<(), FileError> {
        if let Some(name) = line.get("clustername") {
            self.cluster = name.to_string();
        } else if let Some(names) = line.get("nodename") {
            self.node_line(line, names)?;
        } else if let Some(name) = line.get("switchname") {
            self.switch_line(line, name)?;
        } else if let (Some(name), Some(nodes)) = (line.get("blockname"), line.get("nodes")) {
            for node in line.hosts(nodes)? {
                self.blocks.push((name.to_string(), node, line.input, line.number));
            }
        }
        Ok(())
    }

    fn node_line(&mut self, line: &Line<'a>, names: &str) -> Result<(), FileError> {
        if names.eq_ignore_ascii_case("default") {
            self.defaults.extend(line.pairs.iter().cloned());
            return Ok(());
        }
        let get = |key: &str| line.get(key).or_else(|| self.defaults.get(key).map(String::as_str));
        let names = line.hosts(names)?;
        let addresses = match get("nodeaddr") {
            Some(list) => line.hosts(list)?,
            None => names.clone(),
        };
        if addresses.len() != names.len() {
            let message = format!("{} addresses for {} names", addresses.len(), names.len());
            return Err(line.error(message, "NodeAddr has one address for each name"));
        }
        let (gpus, kind) = gpus_of(get("gres").unwrap_or_default())
            .map_err(|message| line.error(message, "GPUs look like Gres=gpu:8 or gpu:h100:8"))?;
        if gpus == 0 {
            self.without_gpus += names.len();
            return Ok(());
        }
        let platform = platform_of(&kind, gpus);
        let labels: BTreeMap<String, String> = ["features", "feature"]
            .iter()
            .filter_map(|key| get(key))
            .flat_map(|list| list.split(','))
            .filter(|feature| !feature.is_empty())
            .map(|feature| (feature.to_string(), "true".to_string()))
            .collect();
        if platform == GENERIC && !kind.is_empty() {
            *self.strange.entry(kind).or_default() += names.len();
        }
        for (name, address) in names.into_iter().zip(addresses) {
            self.by_name.insert(name.clone(), self.nodes.len());
            let node = NodeSpec {
                name,
                gpus,
                platform: platform.to_string(),
                address,
                location: Location::default(),
                labels: labels.clone(),
            };
            self.nodes.push((line.input, line.number, node));
        }
        Ok(())
    }

    fn switch_line(&mut self, line: &Line<'a>, name: &str) -> Result<(), FileError> {
        self.switches.push(name.to_string());
        for (key, is_node) in [("nodes", true), ("switches", false)] {
            for child in line.get(key).map(|list| line.hosts(list)).transpose()?.unwrap_or_default()
            {
                // Nodes and switches may share names; a switch's is marked.
                let mark = if is_node { child.clone() } else { format!("={child}") };
                let place = (name.to_string(), line.input, line.number);
                if let Some((other, _, at)) = self.above.insert(mark, place)
                    && other != name
                {
                    let what = if is_node { "node" } else { "switch" };
                    let message = format!(
                        "{what} {child} is under two switches: {other} (line {at}) and {name}"
                    );
                    return Err(line.error(message, "a topology is a tree: name each child once"));
                }
                if is_node {
                    self.wired.push((child, line.input, line.number));
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, first: Input<'a>) -> Result<Import, FileError> {
        self.place_all()?;
        let mut notes = Vec::new();
        if self.without_gpus > 0 {
            notes.push(format!("nodes without GPUs, left out: {}", self.without_gpus));
        }
        for (kind, count) in &self.strange {
            notes.push(format!(
                "no platform has GPUs of type `{kind}`, so `{GENERIC}`: {count} nodes"
            ));
        }
        let unwired =
            self.nodes.iter().filter(|(_, _, node)| node.location.leaf.is_empty()).count();
        if !self.switches.is_empty() && unwired > 0 {
            notes.push(format!("nodes under no switch: {unwired}"));
        }
        let read = self.nodes.into_iter().map(|(_, line, node)| (line, node)).collect();
        Ok(Import { name: self.cluster, notes, ..collect(first, read)? })
    }

    /// Leaf, spine and hall from the switches, NVLink domain from the blocks.
    fn place_all(&mut self) -> Result<(), FileError> {
        let roots: Vec<&String> = self
            .switches
            .iter()
            .filter(|name| !self.above.contains_key(&format!("={name}")))
            .collect();
        let root = match roots.as_slice() {
            [only] => Some((*only).clone()),
            _ => None,
        };
        for (name, input, line) in &self.wired {
            let Some(&index) = self.by_name.get(name) else {
                return Err(self.no_such_node(name, *input, *line));
            };
            let mut path = Vec::new();
            let mut at = self.above.get(name);
            while let Some((switch, input, line)) = at {
                if path.contains(switch) {
                    let message = format!("switch {switch} is above itself");
                    return Err(input.error(*line, message, "a topology is a tree"));
                }
                path.push(switch.clone());
                at = self.above.get(&format!("={switch}"));
            }
            // The one root of all is the fleet itself, unless the nodes hang right below it.
            if path.len() > 1 && path.last() == root.as_ref() {
                path.pop();
            }
            if path.len() > 4 {
                let message = format!("node {name} is under {} switches", path.len());
                let hint = "leaf, spine, hall and site are told apart, and one switch above all";
                return Err(input.error(*line, message, hint));
            }
            let mut levels = path.into_iter();
            let location = &mut self.nodes[index].2.location;
            location.leaf = levels.next().unwrap_or_default();
            location.spine = levels.next().unwrap_or_default();
            location.hall = levels.next().unwrap_or_default();
            location.site = levels.next().unwrap_or_default();
        }
        for (block, name, input, line) in &self.blocks {
            let Some(&index) = self.by_name.get(name) else {
                return Err(self.no_such_node(name, *input, *line));
            };
            let nvlink = &mut self.nodes[index].2.location.nvlink;
            if !nvlink.is_empty() && nvlink != block {
                let message = format!("node {name} is in two blocks: {nvlink} and {block}");
                return Err(input.error(*line, message, "name each node in one block"));
            }
            nvlink.clone_from(block);
        }
        Ok(())
    }

    fn no_such_node(&self, name: &str, input: Input<'_>, line: usize) -> FileError {
        let hint = match nearest(name, self.by_name.keys().map(String::as_str)) {
            Some(best) => format!("did you mean `{best}`?"),
            None => "give slurm.conf, too: it has the NodeName lines".to_string(),
        };
        input.error(line, format!("there is no NodeName line with GPUs for {name}"), hint)
    }
}

/// GPUs of a `Gres` list, and their type if it is given: `gpu:h100:8(S:0-1),nic:2`.
fn gpus_of(gres: &str) -> Result<(u16, String), String> {
    let mut depth = 0_u32;
    let bare: String = gres
        .chars()
        .filter(|c| {
            depth += u32::from(*c == '(');
            let keep = depth == 0;
            depth = depth.saturating_sub(u32::from(*c == ')'));
            keep
        })
        .collect();
    let (mut gpus, mut kind) = (0_u16, String::new());
    for item in bare.split(',').map(str::trim) {
        let parts: Vec<&str> = item.split(':').collect();
        if !parts[0].eq_ignore_ascii_case("gpu") {
            continue;
        }
        let is_count = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
        let count = parts[1..].iter().rev().copied().find(is_count);
        let count = match count {
            None => 1,
            Some(text) => text.parse().map_err(|_| format!("`{item}`: no count of GPUs"))?,
        };
        gpus = gpus.checked_add(count).ok_or_else(|| format!("`{gres}`: too many GPUs"))?;
        if let Some(name) = parts.get(1).filter(|name| !is_count(name)) {
            kind = name.to_ascii_lowercase();
        }
    }
    Ok((gpus, kind))
}

fn platform_of(kind: &str, gpus: u16) -> &'static str {
    let fits = |name: &str| catalogue().get(name).is_some_and(|p| p.gpus_per_node == Some(gpus));
    TYPES
        .iter()
        .find(|(word, _)| kind.contains(word))
        .map(|(_, platform)| *platform)
        .filter(|platform| fits(platform))
        .unwrap_or(GENERIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Import, String> {
        let names = ["slurm.conf", "topology.conf"];
        let files: Vec<(PathBuf, String)> = names
            .iter()
            .zip(texts)
            .map(|(name, text)| (PathBuf::from(name), (*text).to_string()))
            .collect();
        slurm(&files).map_err(|error| error.to_string())
    }

    const NODES: &str = "ClusterName=lab\n\
        NodeName=DEFAULT CPUs=96 RealMemory=2000000\n\
        NodeName=n[001-128] NodeAddr=10.0.0.[1-128] Gres=gpu:h100:8(S:0,1),nic:2 \\\n\
        \x20   Feature=ib,fast State=UNKNOWN # the first hall\n\
        NodeName=login[1-2] CPUs=8\n\
        PartitionName=all Nodes=ALL Default=YES\n";

    #[test]
    fn node_lines_and_switches_become_nodes_with_places() {
        let topology = "SwitchName=leaf[1] Nodes=n[001-064]\nswitchname=leaf2 nodes=n[065-128]\n\
                        SwitchName=spine1 Switches=leaf2\nSwitchName=spine0 Switches=leaf[1]\n\
                        SwitchName=core Switches=spine[0-1]\n";
        let topology = topology.replace("leaf[1] ", "leaf1 ");
        let import = read(&[NODES, &topology]).unwrap();
        assert_eq!((import.name.as_str(), import.nodes.len()), ("lab", 128));
        let node = &import.nodes[64];
        assert_eq!(
            (node.name.as_str(), node.address.as_str(), node.gpus),
            ("n065", "10.0.0.65", 8)
        );
        assert_eq!(node.platform, "hgx-h100");
        assert_eq!(node.labels.keys().collect::<Vec<_>>(), ["fast", "ib"]);
        let at = &node.location;
        assert_eq!(
            (at.leaf.as_str(), at.spine.as_str(), at.hall.as_str()),
            ("leaf2", "spine1", "")
        );
        assert_eq!(import.notes, ["nodes without GPUs, left out: 2"]);
    }

    #[test]
    fn two_trees_of_three_levels_are_two_halls() {
        let import = read(&[
            "NodeName=a,b Gres=gpu:4",
            "SwitchName=l1 Nodes=a\nSwitchName=l2 Nodes=b\nSwitchName=s1 Switches=l1\n\
             SwitchName=s2 Switches=l2\nSwitchName=h1 Switches=s1\nSwitchName=h2 Switches=s2",
        ])
        .unwrap();
        assert_eq!(import.nodes[1].location.hall, "h2");
        assert_eq!(import.nodes[1].platform, "generic");
    }

    #[test]
    fn blocks_are_nvlink_domains() {
        let import = read(&[
            "NodeName=t[1-36] Gres=gpu:gb200:4",
            "BlockName=b1 Nodes=t[1-18]\nBlockName=b2 Nodes=t[19-36]\nBlockSizes=18",
        ])
        .unwrap();
        assert_eq!(import.nodes[18].location.nvlink, "b2");
        assert_eq!(import.nodes[18].platform, "gb200-nvl72");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (texts, expected) in [
            (["NodeName=n[1-", ""], "slurm.conf:1:1: `n[1-` has a `[` without its `]`"),
            (["NodeName=n[1-4] Gres=gpu:99999999", ""], "no count of GPUs"),
            (["NodeName=n[1-4] NodeAddr=a[1-3] Gres=gpu:8", ""], "3 addresses for 4 names"),
            (["NodeName=n1 CPUs=8", ""], "no NodeName line with GPUs"),
            (
                ["NodeName=n1 Gres=gpu:8\nNodeName=n1 Gres=gpu:8", ""],
                "listed twice, first on line 1",
            ),
            (
                ["NodeName=n1 Gres=gpu:8", "SwitchName=a Nodes=n1\nSwitchName=b Nodes=n1"],
                "topology.conf:2:1: node n1 is under two switches: a (line 1) and b",
            ),
            (["NodeName=node1 Gres=gpu:8", "SwitchName=a Nodes=nod1"], "did you mean `node1`?"),
            (
                ["NodeName=n1 Gres=gpu:8", "SwitchName=a Switches=a Nodes=n1"],
                "switch a is above itself",
            ),
            (["NodeName=n1 Reason=\"open", ""], "a quote is not closed"),
        ] {
            let error = read(&texts).unwrap_err();
            assert!(error.contains(expected), "{texts:?} gave {error}");
        }
    }

    #[test]
    fn gres_lists_are_read_as_slurm_writes_them() {
        for (gres, expected) in [
            ("gpu:8", (8, "")),
            ("gpu", (1, "")),
            ("gpu:A100:4", (4, "a100")),
            ("gpu:tesla:2,gpu:kepler:2", (4, "kepler")),
            ("nic:2,gpu:h100:8(S:0,1)", (8, "h100")),
            ("", (0, "")),
        ] {
            assert_eq!(gpus_of(gres).unwrap(), (expected.0, expected.1.to_string()), "{gres}");
        }
    }
}
