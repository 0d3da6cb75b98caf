//! `lindos nodes` and `lindos why NODE`

use super::Style;
use super::table::Builder;
use super::time::span;
use lindos_api::user::{NodeView, NodeWhy};
use std::fmt::Write as _;

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
        let mut state = node.state.clone();
        if let Some(out) = &node.out {
            let _ = write!(state, ", {out}");
        }
        if node.drained.is_some() {
            state.push_str(", drained");
        }
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

/// `lindos why NODE`
pub fn why(why: &NodeWhy, style: &Style) -> String {
    let mut text = format!("{}\n", why.answer);
    for job in &why.jobs {
        let what = if job.stopping { "is being stopped on" } else { "runs on" };
        let _ = write!(text, "job {} ({}) {what} GPUs {}", job.job, job.name, job.gpus);
        let _ = write!(text, ", since {}", style.local_and_ago(job.since));
        if let Some(until) = job.until.filter(|&until| until > style.now) {
            let _ = write!(text, ", for {} more at most", span(style.now, until));
        }
        text.push('\n');
    }
    for passed in &why.foremost {
        let _ = writeln!(text, "job {} ({}): {}", passed.job, passed.name, passed.text);
    }
    for hint in &why.hints {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
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
    fn a_node_says_what_it_does_and_whom_it_passes() {
        let style = sample::style();
        let why = NodeWhy {
            answer: "local-1 is partly idle: 2 of its 8 GPUs are free, and none starts there"
                .to_string(),
            jobs: vec![lindos_api::user::NodeJob {
                job: 3,
                name: "sweep[2]".to_string(),
                gpus: "0,1,2,3,4,5".to_string(),
                since: style.now - 200_000,
                until: Some(style.now + 600_000),
                stopping: false,
            }],
            foremost: vec![lindos_api::user::NotHere {
                job: 5,
                name: "large".to_string(),
                kind: "gpus".to_string(),
                text: "it wants 8 free GPUs of each node, and here are 2".to_string(),
            }],
            hints: vec!["`lindos why 5` tells what would start it".to_string()],
            ..NodeWhy::default()
        };
        insta::assert_snapshot!(super::why(&why, &style), @"
        local-1 is partly idle: 2 of its 8 GPUs are free, and none starts there
        job 3 (sweep[2]) runs on GPUs 0,1,2,3,4,5, since 2027-01-15T08:00:00+00:00 (3m 20s ago), for 10m more at most
        job 5 (large): it wants 8 free GPUs of each node, and here are 2
        hint: `lindos why 5` tells what would start it
        ");
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
