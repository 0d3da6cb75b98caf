//! `lindos nodes`

use super::Style;
use super::table::Builder;
use lindos_api::user::NodeView;

pub fn table(nodes: &[NodeView], style: &Style) -> String {
    let has_racks = nodes.iter().any(|node| !node.rack.is_empty());
    let has_drained = nodes.iter().any(|node| node.drained.is_some());
    let mut header = vec!["NODE", "STATE", "GPUS", "FREE", "PLATFORM"];
    if has_racks {
        header.push("RACK");
    }
    header.push("JOBS");
    if has_drained {
        header.push("DRAINED");
    }
    let mut table = Builder::new(style.width, &header).right(&[2, 3]);
    let mut nodes: Vec<&NodeView> = nodes.iter().collect();
    nodes.sort_by_key(|node| (by_number(&node.name), node.node));
    for node in nodes {
        let state = if node.drained.is_some() {
            format!("{}, drained", node.state)
        } else {
            node.state.clone()
        };
        let mut row = vec![
            node.name.clone(),
            state,
            node.gpus.to_string(),
            node.gpus_free.to_string(),
            node.platform.clone(),
        ];
        if has_racks {
            row.push(if node.rack.is_empty() { "-".to_string() } else { node.rack.clone() });
        }
        row.push(match node.jobs.as_slice() {
            [] => "-".to_string(),
            jobs => jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        });
        if has_drained {
            row.push(node.drained.clone().unwrap_or_default());
        }
        table.row(row);
    }
    table.finish()
}

/// `n2` before `n10`: people count.
fn by_number(name: &str) -> (&str, u64) {
    let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (prefix, number) = name.split_at(digits);
    (prefix, number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn nodes_stand_in_the_order_of_their_numbers() {
        let nodes = ["n10", "m3", "n2"].map(sample::node);
        let text = table(&nodes, &sample::style());
        let names: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["NODE", "m3", "n2", "n10"]);
    }

    #[test]
    fn a_drained_node_says_why() {
        let mut drained = sample::node("local-1");
        drained.drained = Some("fan 3 is loud".to_string());
        drained.jobs = Vec::new();
        drained.gpus_free = 2;
        let nodes = [sample::node("local-0"), drained];
        insta::assert_snapshot!(table(&nodes, &sample::style()), @"
        NODE     STATE        GPUS  FREE  PLATFORM  JOBS  DRAINED
        local-0  up              2     0  generic   3
        local-1  up, drained     2     2  generic   -     fan 3 is loud
        ");
        insta::assert_snapshot!(table(&nodes[..1], &sample::style()), @"
        NODE     STATE  GPUS  FREE  PLATFORM  JOBS
        local-0  up        2     0  generic   3
        ");
    }
}
