//! A node list as JSON: an array of objects, or an object with `nodes`.

use super::{Import, Input, collect};
use crate::file::{FileError, did_you_mean};
use crate::node::{Location, NodeSpec};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::Path;

/// One node. Its place stands beside its name, or in `location`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    name: String,
    gpus: u16,
    #[serde(default)]
    platform: String,
    #[serde(default)]
    address: String,
    location: Option<Location>,
    #[serde(default)]
    site: String,
    #[serde(default)]
    hall: String,
    #[serde(default)]
    row: String,
    #[serde(default)]
    spine: String,
    #[serde(default)]
    leaf: String,
    #[serde(default)]
    rack: String,
    #[serde(default)]
    nvlink: String,
    #[serde(default)]
    nvlink_spans_racks: bool,
    #[serde(default)]
    pdu: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    // What `lindos nodes --json` says besides, and a fleet does not keep.
    #[serde(default, rename = "node")]
    _node: IgnoredAny,
    #[serde(default, rename = "state")]
    _state: IgnoredAny,
    #[serde(default, rename = "drained")]
    _drained: IgnoredAny,
    #[serde(default, rename = "gpus_free")]
    _gpus_free: IgnoredAny,
    #[serde(default, rename = "jobs")]
    _jobs: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[serde(default)]
    name: String,
    nodes: Vec<Item>,
}

/// Reads a JSON node list: the objects have the keys of `[[hosts]]` in a fleet file, with `name`
/// in place of `names`. What `lindos nodes --json` prints is one.
pub fn json(path: &Path, text: &str) -> Result<Import, FileError> {
    let input = Input { path, text };
    let is_object = text.trim_start().starts_with('{');
    let parsed = if is_object {
        serde_json::from_str::<Object>(text)
    } else {
        serde_json::from_str(text).map(|nodes| Object { name: String::new(), nodes })
    };
    let object = parsed.map_err(|error| {
        let message = error.to_string();
        let hint = did_you_mean(&message)
            .unwrap_or_else(|| "an array of objects with at least `name` and `gpus`".into());
        let message = message.split(" at line ").next().unwrap_or_default().to_string();
        input.error(error.line(), message, hint)
    })?;
    // The parser keeps no lines of what it accepts: errors after it name the node.
    let read = object.nodes.into_iter().map(|item| (0, item.node())).collect();
    Ok(Import { name: object.name, ..collect(input, read)? })
}

impl Item {
    fn node(self) -> NodeSpec {
        let place = self.location.unwrap_or_default();
        let or = |own: String, other: String| if own.is_empty() { other } else { own };
        NodeSpec {
            name: self.name,
            gpus: self.gpus,
            platform: self.platform,
            address: self.address,
            location: Location {
                site: or(self.site, place.site),
                hall: or(self.hall, place.hall),
                spine: or(self.spine, place.spine),
                leaf: or(self.leaf, place.leaf),
                rack: or(self.rack, place.rack),
                nvlink: or(self.nvlink, place.nvlink),
                nvlink_spans_racks: self.nvlink_spans_racks || place.nvlink_spans_racks,
                row: or(self.row, place.row),
                pdu: or(self.pdu, place.pdu),
            },
            labels: self.labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Import, String> {
        json(Path::new("nodes.json"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn places_may_be_flat_or_nested() {
        let import = read(
            r#"{"name": "lab", "nodes": [
                {"name": "a", "gpus": 8, "rack": "r1", "labels": {"pool": "x"}},
                {"name": "b", "gpus": 8, "location": {"rack": "r2", "leaf": "l1"}, "state": "up",
                 "jobs": [3], "drained": null, "gpus_free": 0, "node": 7}
            ]}"#,
        )
        .unwrap();
        assert_eq!(import.name, "lab");
        assert_eq!(import.nodes[0].labels["pool"], "x");
        assert_eq!(import.nodes[1].location.leaf, "l1");
    }

    #[test]
    fn what_was_exported_comes_back() {
        let import = read(r#"[{"name": "a", "gpus": 8, "site": "s", "pdu": "p"}]"#).unwrap();
        let again = read(&serde_json::to_string(&import.nodes).unwrap()).unwrap();
        assert_eq!(again, import);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        insta::assert_snapshot!(read("[\n {\"name\": \"a\", \"gpu\": 8}\n]").unwrap_err(), @r#"
        nodes.json:2:1: unknown field `gpu`, expected one of `name`, `gpus`, `platform`, `address`, `location`, `site`, `hall`, `row`, `spine`, `leaf`, `rack`, `nvlink`, `nvlink_spans_racks`, `pdu`, `labels`, `node`, `state`, `drained`, `gpus_free`, `jobs`
          |
        2 |  {"name": "a", "gpu": 8}
          | ^^^^^^^^^^^^^^^^^^^^^^^^
        hint: did you mean `gpus`?
        "#);
        for (text, expected) in [
            ("[]", "no node"),
            ("[{\"name\": \"a\"}]", "missing field `gpus`"),
            ("[{\"name\": \"a\", \"gpus\": -1}]", "nodes.json:1"),
            ("{", "nodes.json:1"),
            (
                "[{\"name\":\"a\",\"gpus\":8,\"rack\":\"r1\"},{\"name\":\"a\",\"gpus\":8,\"rack\":\"r2\"}]",
                "node a stands in two racks: `r1` and `r2`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text} gave {error}");
        }
    }
}
