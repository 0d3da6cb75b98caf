//! Node lists from elsewhere: JSON, CSV, and Slurm's `slurm.conf` with `topology.conf`.

mod csv;
mod json;
mod slurm;

pub use csv::csv;
pub use json::json;
pub use slurm::slurm;

use super::platform::{self, GENERIC, catalogue};
use super::{FLEET_NODES_MAX, whole_line, write};
use crate::file::FileError;
use crate::node::{GPUS_PER_NODE_MAX, NodeSpec};
use std::collections::HashMap;
use std::path::Path;

/// What was read, and what a person should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub name: String,
    pub nodes: Vec<NodeSpec>,
    /// A sentence each.
    pub notes: Vec<String>,
}

impl Import {
    /// As a fleet file: nodes by name, those that share all else in one table.
    pub fn to_toml(&self) -> String {
        write::hosts(&self.name, &self.nodes)
    }
}

/// The columns of CSV and the keys of JSON, the necessary ones first.
const KEYS: [&str; 14] = [
    "name",
    "gpus",
    "platform",
    "address",
    "site",
    "hall",
    "row",
    "spine",
    "leaf",
    "rack",
    "nvlink",
    "nvlink_spans_racks",
    "pdu",
    "labels",
];

/// A file under import: its errors point at its lines.
#[derive(Clone, Copy, Debug)]
struct Input<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Input<'_> {
    fn error(&self, line: usize, message: impl Into<String>, hint: impl Into<String>) -> FileError {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        FileError {
            path: self.path.to_path_buf(),
            place: (line > 0).then(|| whole_line(self.text, line)),
            message: message.into(),
            hint,
        }
    }
}

/// Checks what was read, each node with its line, and fills in what was left empty.
fn collect(input: Input<'_>, read: Vec<(usize, NodeSpec)>) -> Result<Import, FileError> {
    if read.is_empty() {
        return Err(input.error(0, "there is no node in it", ""));
    }
    if read.len() as u64 > FLEET_NODES_MAX {
        return Err(input.error(0, format!("a fleet has at most {FLEET_NODES_MAX} nodes"), ""));
    }
    let mut lines: HashMap<String, (usize, String)> = HashMap::with_capacity(read.len());
    let mut nodes = Vec::with_capacity(read.len());
    for (line, mut node) in read {
        if node.platform.is_empty() {
            node.platform = GENERIC.to_string();
        }
        if !catalogue().contains_key(&node.platform) {
            let names = catalogue().keys().map(String::as_str);
            let (message, hint) = platform::unknown(&node.platform, names);
            return Err(input.error(line, format!("node {}: {message}", node.name), hint));
        }
        if node.gpus == 0 || node.gpus > GPUS_PER_NODE_MAX {
            let message = format!("node {}: {} GPUs", node.name, node.gpus);
            let hint = format!("a node has 1 to {GPUS_PER_NODE_MAX} GPUs");
            return Err(input.error(line, message, hint));
        }
        if node.address.is_empty() {
            node.address.clone_from(&node.name);
        }
        let place = (line, node.location.rack.clone());
        if let Some((first, rack)) = lines.insert(node.name.clone(), place) {
            let name = &node.name;
            // JSON is read without lines.
            let on = |line: usize, before: &str, after: &str| {
                if line == 0 { String::new() } else { format!("{before}line {line}{after}") }
            };
            return Err(if *rack == node.location.rack {
                let first = on(first, ", first on ", "");
                let message = format!("node {name} is listed twice{first}");
                input.error(line, message, "list each node once")
            } else {
                let message = format!(
                    "node {name} stands in two racks: `{rack}`{} and `{}`",
                    on(first, " (", ")"),
                    node.location.rack
                );
                input.error(line, message, "a node stands in one rack: list it once")
            });
        }
        nodes.push(node);
    }
    Ok(Import { name: String::new(), nodes, notes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::super::Fleet;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_imported_is_written_as_a_fleet_file_that_says_the_same() {
        let text = "name,gpus,platform,rack,leaf,address,labels\n\
                    n1,8,hgx-h100,r1,l1,10.0.0.1,pool=a;team=x\n\
                    n2,8,hgx-h100,r1,l1,10.0.0.2,pool=a;team=x\n\
                    n3,4,,r2,l1,n3,\n";
        let import = csv(Path::new("nodes.csv"), text).unwrap();
        let toml = import.to_toml();
        let fleet = Fleet::load(Path::new("fleet.toml"), &toml).unwrap();
        assert_eq!(fleet.nodes, import.nodes, "{toml}");
        assert!(toml.contains("names = \"n[1-2]\"\n"), "{toml}");
        assert!(toml.contains("address = \"10.0.0.[1-2]\"\n"), "{toml}");
    }

    proptest! {
        #[test]
        fn no_text_makes_an_import_panic(text in "[a-zG=,:0-9\\[\\]{}\"\\\\\n #-]{0,80}") {
            let path = Path::new("x");
            let _ = csv(path, &text);
            let _ = csv(path, &format!("name,gpus\n{text}"));
            let _ = json(path, &text);
            let _ = slurm(&[(path.to_path_buf(), format!("NodeName={text}"))]);
            let _ = Fleet::parse(path, &text);
        }
    }
}
