//! Fleets: the nodes that there are, where they stand, and what feeds them.
//!
//! A person writes a fleet file ([`file`]; `docs/fleet-file.md`), takes a ready-made one
//! ([`ready`]), or imports a node list ([`import`]). All become a [`Fleet`]: the nodes with their
//! places in the network tree, the power tree ([`power`]), and the platforms ([`platform`]).
//! [`check`] says what is wrong with it, [`tree`] sums it up for people.

pub mod check;
pub mod file;
mod group;
mod hall;
pub mod hostlist;
pub mod import;
mod layout;
mod pattern;
pub mod platform;
pub mod power;
pub mod ready;
pub mod tree;
mod watts;
mod write;

#[cfg(test)]
mod tests;

pub use check::{Finding, Severity};
pub use group::{NodeGroup, expand};
pub use platform::Platform;
pub use power::{PowerKind, PowerTree, PowerUnit};
pub use tree::Branch;
pub use watts::Watts;

use crate::file::{FileError, Place, Source};
use crate::node::NodeSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// More nodes than any fleet that we design for.
pub const FLEET_NODES_MAX: u64 = 1_000_000;

/// All that a fleet file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// May be empty.
    pub name: String,
    pub about: String,
    /// In the order of the file: site by site, hall by hall, rack by rack.
    pub nodes: Vec<NodeSpec>,
    /// Those that the nodes are of, by name.
    pub platforms: BTreeMap<String, Platform>,
    pub power: PowerTree,
    /// What was found while the file was read.
    findings: Vec<Finding>,
}

impl Fleet {
    /// Of nodes whose places are known; `platforms` may hold more than they use.
    pub fn new(
        name: String,
        nodes: Vec<NodeSpec>,
        mut platforms: BTreeMap<String, Platform>,
    ) -> Fleet {
        let used: BTreeSet<&str> = nodes.iter().map(|node| node.platform.as_str()).collect();
        platforms.retain(|name, _| used.contains(name.as_str()));
        let power = PowerTree::new(Vec::new(), &nodes, &platforms);
        Fleet { name, about: String::new(), nodes, platforms, power, findings: Vec::new() }
    }

    /// Reads a fleet file. What the file says wrongly but readably is left to [`Fleet::check`].
    pub fn parse(path: &Path, text: &str) -> Result<Fleet, FileError> {
        let source = Source { path, text };
        let table: file::FleetTable = source.parse()?;
        layout::lay_out(&source, table)
    }

    /// Reads a fleet file, and refuses it for the first error that [`Fleet::check`] finds.
    pub fn load(path: &Path, text: &str) -> Result<Fleet, FileError> {
        let fleet = Fleet::parse(path, text)?;
        match fleet.check().into_iter().find(|finding| finding.severity == Severity::Error) {
            None => Ok(fleet),
            Some(finding) => Err(FileError {
                path: path.to_path_buf(),
                place: finding.line.map(|line| whole_line(text, line)),
                message: format!("{}: {}", finding.place, finding.message),
                hint: Some(finding.hint),
            }),
        }
    }

    /// What is wrong or looks wrong, errors first.
    pub fn check(&self) -> Vec<Finding> {
        check::check(self)
    }

    pub fn gpus(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.gpus)).sum()
    }
}

fn whole_line(text: &str, line: usize) -> Place {
    let text = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().to_string();
    Place { line, column: 1, width: text.chars().count(), text }
}

/// How many decimal digits a count has: names are filled with zeros to that, so that their order
/// as text is their order as numbers.
fn digits(count: u64) -> usize {
    count.max(1).ilog10() as usize + 1
}
