//! `lindos fleet`: trees that a person can read at a million GPUs.

use super::number::or_dash;
use super::table::Builder;
use lindos_model::fleet::check::Finding;
use lindos_model::fleet::{Branch, Fleet, Severity, Watts};
use std::fmt::Write as _;

/// Children of one place that are drawn; the rest is counted.
const CHILDREN_MAX: usize = 12;
/// The narrowest that the drawing itself may get, beside its figures.
const TREE_WIDTH_MIN: usize = 16;

/// The platforms, and the trees that are given, at most so many columns wide.
pub fn show(
    fleet: &Fleet,
    network: Option<&Branch>,
    power: Option<&Branch>,
    width: usize,
) -> String {
    let mut text = String::new();
    if !fleet.about.is_empty() {
        let _ = writeln!(text, "{}\n", fleet.about);
    }
    text.push_str(&platforms(fleet, width));
    if let Some(network) = network {
        text.push_str("\nNetwork. ×N: so many alike, and the figures are of one.\n");
        text.push_str(&draw(network, width, &["LEVEL", "NODES", "GPUS", "LOAD"], |branch| {
            vec![
                branch.level.to_string(),
                branch.nodes.to_string(),
                branch.gpus.to_string(),
                load(branch.load_w),
            ]
        }));
    }
    if let Some(power) = power {
        text.push_str("\nPower. LOAD is the most that the nodes below draw.\n");
        text.push_str(&draw(power, width, &["LEVEL", "LOAD", "CAPACITY", "USED"], |branch| {
            let used = branch.capacity_w.filter(|capacity| capacity.0 > 0).map(|capacity| {
                let percent = u128::from(branch.load_w.0) * 100 / u128::from(capacity.0);
                format!("{percent}%")
            });
            vec![
                branch.level.to_string(),
                load(branch.load_w),
                or_dash(branch.capacity_w),
                or_dash(used),
            ]
        }));
    }
    text
}

/// A load; `-` where nobody knows.
pub fn load(load: Watts) -> String {
    if load.0 == 0 { "-".to_string() } else { load.to_string() }
}

fn platforms(fleet: &Fleet, width: usize) -> String {
    let header = ["PLATFORM", "NODES", "GPUS", "OF A NODE", "NVLINK", "RAILS", "MEMORY", "BF16"];
    let mut table = Builder::new(width as u16, &header).right(&[1, 2, 3, 4, 5, 6, 7]);
    for (name, platform) in &fleet.platforms {
        let of_it = || fleet.nodes.iter().filter(|node| node.platform == *name);
        let gpus: u64 = of_it().map(|node| u64::from(node.gpus)).sum();
        table.row([
            name.clone(),
            of_it().count().to_string(),
            gpus.to_string(),
            or_dash(platform.gpus_per_node),
            or_dash(platform.nvlink_gpus),
            or_dash(platform.rails),
            or_dash(platform.memory_gb.map(|gb| format!("{gb} GB"))),
            or_dash(platform.bf16_tflops.map(|tflops| format!("{tflops} TFLOP/s"))),
        ]);
    }
    table.finish()
}

/// A line a branch: the drawing, then the figures in columns.
fn draw(
    root: &Branch,
    width: usize,
    header: &[&str],
    figures: impl Fn(&Branch) -> Vec<String>,
) -> String {
    let mut rows: Vec<(String, Vec<String>)> =
        vec![(String::new(), header.iter().map(ToString::to_string).collect())];
    rows.push((root.first.clone(), figures(root)));
    lines(root, "", &figures, &mut rows);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|(_, row)| count(row.get(column))).max().unwrap_or(0))
        .collect();
    let beside: usize = widths.iter().map(|width| width + 2).sum();
    let widest = rows.iter().map(|(tree, _)| tree.chars().count()).max().unwrap_or(0);
    let tree_width = widest.min(width.saturating_sub(beside).max(TREE_WIDTH_MIN));
    let mut text = String::new();
    for (tree, row) in rows {
        let mut line = format!("{:<tree_width$}", shorten(&tree, tree_width));
        for (column, (value, width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, figures to the right.
            let _ = match column {
                0 => write!(line, "  {value:<width$}"),
                _ => write!(line, "  {value:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn count(value: Option<&String>) -> usize {
    value.map_or(0, |value| value.chars().count())
}

fn lines(
    branch: &Branch,
    indent: &str,
    figures: &impl Fn(&Branch) -> Vec<String>,
    rows: &mut Vec<(String, Vec<String>)>,
) {
    let shown = branch.children.len().min(CHILDREN_MAX);
    let left_out: u64 = branch.children[shown..].iter().map(|child| child.times).sum();
    for (index, child) in branch.children[..shown].iter().enumerate() {
        let is_last = index + 1 == shown && left_out == 0;
        let (corner, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        rows.push((format!("{indent}{corner}{}", label(child)), figures(child)));
        lines(child, &format!("{indent}{below}"), figures, rows);
    }
    if left_out > 0 {
        rows.push((format!("{indent}└─ … and {left_out} more"), Vec::new()));
    }
}

/// `hall-1 … hall-8 ×8`; nodes by their platform, because there are too many names.
fn label(branch: &Branch) -> String {
    let name = match (&branch.platform, branch.times) {
        (Some(platform), 2..) => platform.clone(),
        (_, 1) => return branch.first.clone(),
        _ => format!("{} … {}", branch.first, branch.last),
    };
    format!("{name} ×{}", branch.times)
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// As errors are written elsewhere: what and where, then what to do.
pub fn findings(path: &str, findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        let word = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let at = finding.line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}"));
        let _ = writeln!(text, "{word}: {at}: {}: {}", finding.place, finding.message);
        let _ = writeln!(text, "hint: {}", finding.hint);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::fleet::{ready, tree};

    fn shown(name: &str, width: usize) -> String {
        let fleet = ready::load(name).unwrap().unwrap();
        show(&fleet, Some(&tree::network(&fleet)), tree::power(&fleet).as_ref(), width)
    }

    #[test]
    fn a_million_gpus_fit_a_page() {
        let text = shown("stargate-1m", 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().count() < 80, "{} lines", text.lines().count());
        insta::assert_snapshot!(shown("cluster-16k", 80), @"
        16,384 H100 in 2,048 nodes, one hall

        PLATFORM  NODES   GPUS  OF A NODE  NVLINK  RAILS  MEMORY         BF16
        hgx-h100   2048  16384          8       8      8   80 GB  989 TFLOP/s

        Network. ×N: so many alike, and the figures are of one.
                                                LEVEL  NODES   GPUS     LOAD
        cluster-16k                             fleet   2048  16384  20.9 MW
        └─ main                                 site    2048  16384  20.9 MW
           └─ hall-1                            hall    2048  16384  20.9 MW
              ├─ spine-1 … spine-5 ×5           spine    384   3072  3.92 MW
              │  └─ leaf-0001 … leaf-0192 ×192  leaf       2     16  20.4 kW
              │     └─ rack-0001                rack       2     16  20.4 kW
              │        └─ hgx-h100 ×2           node       1      8  10.2 kW
              └─ spine-6                        spine    128   1024  1.31 MW
                 └─ leaf-0961 … leaf-1024 ×64   leaf       2     16  20.4 kW
                    └─ rack-0961                rack       2     16  20.4 kW
                       └─ hgx-h100 ×2           node       1      8  10.2 kW

        Power. LOAD is the most that the nodes below draw.
                                                      LEVEL     LOAD  CAPACITY  USED
        cluster-16k                                   fleet  20.9 MW         -     -
        └─ main                                       site   20.9 MW         -     -
           └─ hall-1-feed-1 … hall-1-feed-2 ×2        feed   10.4 MW   12.8 MW   81%
              └─ hall-1-ups-01 … hall-1-ups-08 ×8     UPS    1.31 MW    1.6 MW   81%
                 └─ hall-1-pdu-01 … hall-1-pdu-04 ×4  PDU     326 kW    400 kW   81%
                    └─ rack-0001 … rack-0016 ×16      rack   20.4 kW         -     -
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_names_and_keeps_figures() {
        let text = shown("stargate-1m", 60);
        let network = text.split("\nNetwork").nth(1).unwrap();
        assert!(network.lines().skip(1).all(|line| line.chars().count() <= 60), "{text}");
        assert!(network.contains("403200"), "{text}");
    }

    #[test]
    fn what_there_is_too_much_of_is_counted() {
        let mut root = Branch {
            level: "fleet",
            first: "f".to_string(),
            last: "f".to_string(),
            times: 1,
            nodes: 0,
            gpus: 0,
            load_w: Watts(0),
            capacity_w: None,
            platform: None,
            children: Vec::new(),
        };
        root.children = vec![root.clone(); 15];
        root.children[14].times = 5;
        let text = draw(&root, 80, &["LEVEL"], |branch| vec![branch.level.to_string()]);
        assert!(text.ends_with("└─ … and 7 more\n"), "{text}");
    }
}
