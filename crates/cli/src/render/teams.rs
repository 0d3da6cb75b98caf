//! `lindos teams`

use super::Style;
use super::number::{or_dash, rate};
use super::table::Builder;
use lindos_api::user::TeamView;
use std::collections::BTreeMap;

const HOUR_MS: f64 = 3_600_000.0;

/// The teams, each below the one that it is a part of. Numbers are GPUs, but for what was used:
/// GPU-hours, of which those of a half-life ago count half.
pub fn table(teams: &[TeamView], style: &Style) -> String {
    let header = ["TEAM", "SHARE", "LIMIT", "HELD", "BORROWED", "GPU-HOURS", "WAITING", "FOR GPUS"];
    let mut table = Builder::new(style.width, &header).right(&[1, 2, 3, 4, 5, 6, 7]);
    for (depth, team) in in_order(teams) {
        let name = if team.name.is_empty() { "(no team)" } else { &team.name };
        table.row([
            format!("{}{name}", "  ".repeat(depth)),
            team.share.to_string(),
            or_dash(team.limit),
            team.held.to_string(),
            team.borrowed.to_string(),
            rate(team.used_gpu_ms as f64 / HOUR_MS),
            team.waiting_jobs.to_string(),
            team.waiting_gpus.to_string(),
        ]);
    }
    table.finish()
}

/// Each team after the one that it is a part of, with its depth; those of one parent by name.
fn in_order(teams: &[TeamView]) -> Vec<(usize, &TeamView)> {
    let mut parts: BTreeMap<&str, Vec<&TeamView>> = BTreeMap::new();
    let mut roots = Vec::new();
    for team in teams {
        match team.parent.as_str() {
            "" => roots.push(team),
            parent => parts.entry(parent).or_default().push(team),
        }
    }
    let by_name = |team: &&TeamView| team.name.clone();
    let mut order = Vec::new();
    roots.sort_by_key(by_name);
    let mut stack: Vec<(usize, &TeamView)> = roots.into_iter().rev().map(|t| (0, t)).collect();
    while let Some((depth, team)) = stack.pop() {
        order.push((depth, team));
        let mut below = parts.remove(team.name.as_str()).unwrap_or_default();
        below.sort_by_key(by_name);
        stack.extend(below.into_iter().rev().map(|team| (depth + 1, team)));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn parts_stand_below_their_whole() {
        let team = |name: &str, parent: &str, share, held: u64| TeamView {
            name: name.into(),
            parent: parent.into(),
            share,
            limit: (parent.is_empty() && share > 0).then_some(2 * share),
            held,
            borrowed: held.saturating_sub(share),
            used_gpu_ms: held * 43_200_000,
            waiting_jobs: 2,
            waiting_gpus: 16,
        };
        let teams = [
            team("", "", 0, 0),
            team("vision", "lab", 8, 16),
            team("lab", "", 128, 40),
            team("audio", "lab", 64, 24),
            team("products", "", 2048, 1024),
        ];
        let text = table(&teams, &sample::style());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @"
        TEAM       SHARE  LIMIT  HELD  BORROWED  GPU-HOURS  WAITING  FOR GPUS
        (no team)      0      -     0         0        0.0        2        16
        lab          128    256    40         0        480        2        16
          audio       64      -    24         0        288        2        16
          vision       8      -    16         8        192        2        16
        products    2048   4096  1024         0      12.3k        2        16
        ");
    }
}
