//! Fleet files: drawn, checked, imported, and started on this machine.

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Lab, wait_until};

const FLEET: &str = r#"
name = "lab"
gpus = 8
[[sites]]
name = "s"
[[sites.halls]]
name = "h"
[[sites.halls.nodes]]
platform = "pair"
racks = 2
nodes_per_rack = 1
racks_per_row = 1
racks_per_leaf = 2
leaves_per_spine = 1
name = "n{rack}"
labels = { pool = "a" }
[sites.halls.power]
feeds = 1
ups_per_feed = 1
pdus_per_ups = 1
racks_per_pdu = 2
[platforms.pair]
gpus_per_node = 4
nvlink_gpus = 8
"#;

#[test]
fn a_fleet_is_shown_and_checked() {
    let lab = Lab::new();
    let list = lab.json(["fleet", "list"]);
    let names: Vec<&Value> = list.as_array().unwrap().iter().map(|fleet| &fleet["name"]).collect();
    assert_eq!(names, ["laptop", "cluster-16k", "colossus-200k", "stargate-1m"]);
    assert!(lab.output(["fleet", "list"]).stdout.contains("stargate-1m"));

    lab.write("fleet.toml", FLEET);
    let shown = lab.output(["fleet", "show", "fleet.toml"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains("nvl-1") && shown.stdout.contains("h-feed-1"), "{shown:?}");
    let shown = lab.output(["fleet", "show", "fleet.toml", "--tree", "network", "--depth", "2"]);
    assert!(!shown.stdout.contains("leaf") && !shown.stdout.contains("feed"), "{shown:?}");
    let shown = lab.json(["fleet", "show", "fleet.toml"]);
    assert_eq!(
        (&shown["gpus"], &shown["network"]["children"][0]["first"]),
        (&json!(8), &json!("s"))
    );
    lab.output(["fleet", "show", "laptop", "--tree", "power"]).fails(2, &["power", "hint:"]);
    lab.output(["fleet", "show", "stargate"]).fails(2, &["hint:"]);

    let checked = lab.output(["fleet", "check", "fleet.toml"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (0, ""), "{checked:?}");
    lab.write("fleet.toml", FLEET.replace("gpus = 8\n[[", "gpus = 9\n[["));
    let checked = lab.output(["fleet", "check", "fleet.toml"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(
        checked.stdout.starts_with("error: fleet.toml:3: the fleet: `gpus = 9`"),
        "{checked:?}"
    );
    let checked = lab.output(["fleet", "check", "fleet.toml", "--json"]);
    let findings: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!((checked.code, &findings["findings"][0]["kind"]), (1, &json!("count")));
    lab.output(["up", "--fleet", "fleet.toml"]).fails(2, &["fleet.toml:3:1", "hint:"]);
    lab.write("fleet.toml", "[[nodez]]");
    let checked = lab.output(["fleet", "check", "fleet.toml"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.stdout.contains("hint: did you mean `nodes`?"), "{checked:?}");
}

#[test]
fn node_lists_become_fleet_files() {
    let lab = Lab::new();
    lab.write("slurm.conf", "ClusterName=c\nNodeName=n[01-16] Gres=gpu:h100:8\nNodeName=login\n");
    lab.write("topology.conf", "SwitchName=l1 Nodes=n[01-08]\nSwitchName=l2 Nodes=n[09-16]\n");
    let slurm = ["fleet", "import", "slurm.conf", "topology.conf", "--out", "fleet.toml"];
    let imported = lab.output(slurm);
    assert_eq!((imported.code, imported.stdout.as_str()), (0, ""), "{imported:?}");
    assert!(imported.stderr.contains("imported 16 nodes with 128 GPUs"), "{imported:?}");
    assert_eq!(lab.json(["fleet", "show", "fleet.toml"])["network"]["children"][0]["times"], 2);
    lab.output(slurm).fails(2, &["fleet.toml", "hint:"]);

    lab.write("nodes.csv", "name,gpus,rack\na,8,r1\nb,8,r1\n");
    let imported = lab.output(["fleet", "import", "nodes.csv"]);
    assert!(imported.stdout.contains("names = \"a,b\"\n"), "{imported:?}");
    lab.write("nodes.csv", "name,rack\na,r1\n");
    lab.output(["fleet", "import", "nodes.csv"]).fails(2, &["`gpus` is missing", "hint:"]);
    lab.write("nodes.txt", "[{\"name\": \"a\", \"gpus\": 2}]");
    lab.output(["fleet", "import", "nodes.txt"]).fails(2, &["--from json"]);
    assert_eq!(lab.output(["fleet", "import", "nodes.txt", "--from", "json"]).code, 0);
}

#[test]
fn places_and_labels_reach_the_control_plane_and_outlive_it() {
    let lab = Lab::new();
    let fleet = lab.write("fleet.toml", FLEET);
    let up = lab.up(&["--fleet", fleet.to_str().unwrap()]);
    let node = wait_until("both nodes have joined", || {
        let nodes = lab.json(["nodes"]).as_array().unwrap().clone();
        (nodes.len() == 2).then(|| nodes.into_iter().find(|node| node["name"] == "n2"))?
    });
    for (key, value) in [
        ("platform", json!("pair")),
        ("address", json!("127.0.0.1")),
        ("site", json!("s")),
        ("hall", json!("h")),
        ("row", json!("row-2")),
        ("spine", json!("spine-1")),
        ("leaf", json!("leaf-1")),
        ("rack", json!("rack-2")),
        ("nvlink", json!("nvl-1")),
        ("nvlink_spans_racks", json!(true)),
        ("pdu", json!("h-pdu-1")),
        ("labels", json!({"pool": "a"})),
    ] {
        assert_eq!(node[key], value, "{key} of {node}");
    }
    up.signal(Signal::INT);
    assert_eq!(up.end().code, 0);

    // Without the file, the nodes that the state folder knows are started as they were.
    let up = lab.up(&["--nodes", "2", "--gpus", "1"]);
    let after = lab.json(["nodes"]);
    assert_eq!(after.as_array().unwrap().len(), 2);
    let kept = after.as_array().unwrap().iter().find(|node| node["name"] == "n2").unwrap();
    for key in ["hall", "row", "nvlink", "nvlink_spans_racks", "pdu", "labels"] {
        assert_eq!(kept[key], node[key], "{key}");
    }
    up.signal(Signal::INT);
    assert_eq!(up.end().code, 0);
}
