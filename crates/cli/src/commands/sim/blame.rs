//! `lindos sim validate blame`: how often the right one is blamed.

use super::many;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::table::Builder;
use lindos_sim::validate::blame::{Options, Report, Tally};
use std::fmt::Write as _;

/// `seeds`: of the faults. Weeks and days of jobs are played in the usual proportion to them.
pub fn run(
    quick: bool,
    seeds: Option<u64>,
    threads: Option<usize>,
    is_json: bool,
) -> Result<(), Failure> {
    let usual = if quick { Options::QUICK } else { Options::USUAL };
    let options = seeds.map_or(usual, Options::of_seeds);
    let count = options.count() as usize;
    let played = many::all(count, threads, is_json, |run, _| Ok(options.play(run as u64)));
    let played = played.map_err(|words| {
        Failure::new(Exit::Failed, words, "that is a bug of Lindos: please report it")
    })?;
    let mut tally = Tally::default();
    for one in &played {
        tally.add(one);
    }
    let report = tally.report();
    if is_json { output::json(&report) } else { output::data(&told(&report)) }
}

fn told(report: &Report) -> String {
    let header = ["fault", "faults", "right", "few", "wrong", "unsure", "precision", "recall"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3, 4, 5, 6, 7]);
    for kind in &report.kinds {
        let (score, could_be_named) = (&kind.score, kind.score.faults > kind.score.nameless);
        let was_named = score.right + score.among_few + score.wrong > 0;
        let percent = |share: f64, counts: bool| {
            if counts { format!("{:.1} %", share * 100.0) } else { "-".to_string() }
        };
        table.row([
            kind.kind.to_string(),
            score.faults.to_string(),
            score.right.to_string(),
            score.among_few.to_string(),
            score.wrong.to_string(),
            score.unsure.to_string(),
            percent(kind.precision, was_named),
            percent(kind.recall, could_be_named),
        ]);
    }
    let mut sure = Builder::new(output::width(), &["said to be so sure", "verdicts", "right"]);
    sure = sure.right(&[1, 2]);
    let bounds: Vec<u8> = report.sureness.iter().map(|bin| bin.from_percent).collect();
    for (index, bin) in report.sureness.iter().enumerate() {
        let up_to = bounds.get(index + 1).map_or(100, |&next| next);
        let right = bin.right as f64 / bin.verdicts.max(1) as f64;
        sure.row([
            format!("{} to {up_to} %", bin.from_percent),
            bin.verdicts.to_string(),
            format!("{:.1} %", right * 100.0),
        ]);
    }
    let mut text = format!("{}\n{}\n", table.finish(), sure.finish());
    let _ = writeln!(
        text,
        "{} faults: precision {:.2} %, recall {:.2} %; {:.2} % were charged to the right side",
        report.faults,
        report.precision * 100.0,
        report.recall * 100.0,
        report.charged_right * 100.0
    );
    let _ = writeln!(
        text,
        "{} job-weeks with {} pauses: {} false alarms",
        report.job_weeks, report.pauses, report.false_alarms
    );
    text.push_str(&stragglers(report));
    text
}

fn stragglers(report: &Report) -> String {
    let header = ["slow node", "nodes", "named", "recall", "after"];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3, 4]);
    for kind in &report.stragglers {
        table.row([
            match (kind.factor, kind.ranks) {
                (Some(factor), _) => format!("takes {factor:.2} times as long"),
                (None, "spin") => "in jobs whose ranks spin as they wait".to_string(),
                (None, _) => "in jobs whose ranks spin, and tell it".to_string(),
            },
            kind.slow_nodes.to_string(),
            kind.named.to_string(),
            if kind.slow_nodes > 0 { format!("{:.1} %", kind.recall * 100.0) } else { "-".into() },
            kind.named_after_s.map_or_else(|| "-".to_string(), |after| format!("{after:.0} s")),
        ]);
    }
    format!(
        "\n{}\n{} slow nodes in {:.0} job-weeks: recall {:.2} %, precision {:.2} %, {} false alarms \
         ({:.3} a job-week)\n",
        table.finish(),
        report.slow_nodes,
        report.straggler_job_weeks,
        report.straggler_recall * 100.0,
        report.straggler_precision * 100.0,
        report.straggler_false_alarms,
        report.straggler_false_alarms_per_job_week
    )
}
