//! Nodes as a fleet file: what `lindos fleet import` writes.

use super::hostlist;
use crate::node::NodeSpec;
use std::fmt::Write as _;

/// `[[hosts]]` tables, one for each run of nodes that share all but name and address.
pub(super) fn hosts(name: &str, nodes: &[NodeSpec]) -> String {
    let mut text = String::new();
    if !name.is_empty() {
        let _ = writeln!(text, "name = {}", quoted(name));
    }
    let gpus: u64 = nodes.iter().map(|node| u64::from(node.gpus)).sum();
    let _ = writeln!(text, "gpus = {gpus}");
    for run in nodes.chunk_by(are_alike) {
        table(&mut text, run);
    }
    text
}

fn table(text: &mut String, run: &[NodeSpec]) {
    let first = &run[0];
    let at = &first.location;
    let names = hostlist::fold(run.iter().map(|node| node.name.as_str()));
    let _ = writeln!(text, "\n[[hosts]]\nnames = {}", quoted(&names));
    if run.iter().any(|node| node.address != node.name) {
        let addresses = hostlist::fold(run.iter().map(|node| node.address.as_str()));
        let _ = writeln!(text, "address = {}", quoted(&addresses));
    }
    let _ = writeln!(text, "platform = {}", quoted(&first.platform));
    let _ = writeln!(text, "gpus = {}", first.gpus);
    for (key, value) in [
        ("site", &at.site),
        ("hall", &at.hall),
        ("row", &at.row),
        ("spine", &at.spine),
        ("leaf", &at.leaf),
        ("rack", &at.rack),
        ("nvlink", &at.nvlink),
        ("pdu", &at.pdu),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "{key} = {}", quoted(value));
        }
    }
    if at.nvlink_spans_racks {
        text.push_str("nvlink_spans_racks = true\n");
    }
    if !first.labels.is_empty() {
        let labels: Vec<String> = first
            .labels
            .iter()
            .map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)))
            .collect();
        let _ = writeln!(text, "labels = {{ {} }}", labels.join(", "));
    }
}

fn are_alike(one: &NodeSpec, other: &NodeSpec) -> bool {
    one.gpus == other.gpus
        && one.platform == other.platform
        && one.location == other.location
        && one.labels == other.labels
}

/// As TOML writes it: a basic string is also a good key.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
