//! `lindos sim validate blame`: how often the right one is blamed.

use super::many;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::table::Builder;
use lindos_sim::validate::blame::{self, Options, Report, Tally};
use std::fmt::Write as _;

/// `seeds`: of the faults. Weeks of healthy jobs are played twice as many.
pub fn run(
    quick: bool,
    seeds: Option<u64>,
    threads: Option<usize>,
    is_json: bool,
) -> Result<(), Failure> {
    let usual = if quick { Options::QUICK } else { Options::USUAL };
    let options = match seeds {
        Some(seeds) => Options { seeds, job_weeks: seeds * 2 },
        None => usual,
    };
    let count = (options.seeds + options.job_weeks) as usize;
    let played = many::all(count, threads, is_json, |run, _| {
        let run = run as u64;
        Ok(match run.checked_sub(options.seeds) {
            None => blame::play_faults(run + 1),
            Some(week) => blame::play_week(week + 1),
        })
    });
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
    text
}
