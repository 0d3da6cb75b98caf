use crate::failure::Failure;
use crate::output;
use crate::render::table::Builder;
use clap::Args;
use lindos_hardware::kernel_log::score::{Score, Tally, read_cases};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// A CSV file with the columns `line` and `expected_class`
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn score(args: &ScoreArgs) -> Result<(), Failure> {
    let name = args.file.display();
    let hint = "the first row names the columns: line, expected_class, and id if you like";
    let file = File::open(&args.file)
        .map_err(|error| Failure::bad_input(format!("{name} cannot be read: {error}"), hint))?;
    let cases = read_cases(file).map_err(|error| {
        let words = error.split("\nhint:").next().unwrap_or_default();
        Failure::bad_input(format!("{name}: {words}"), hint)
    })?;
    let score = Score::of(cases);
    if args.json { output::json(&report(&score)) } else { output::data(&table(&score)) }
}

#[derive(Serialize)]
struct Report<'a> {
    lines: u64,
    right: u64,
    precision: Option<f64>,
    recall: Option<f64>,
    classes: BTreeMap<&'a str, ClassReport>,
    misses: Vec<MissReport<'a>>,
}

#[derive(Serialize)]
struct ClassReport {
    lines: u64,
    precision: Option<f64>,
    recall: Option<f64>,
}

#[derive(Serialize)]
struct MissReport<'a> {
    id: &'a str,
    line: &'a str,
    expected_class: &'a str,
    class: &'a str,
}

fn report(score: &Score) -> Report<'_> {
    let total = score.total();
    let class = |tally: &Tally| ClassReport {
        lines: tally.expected,
        precision: tally.precision(),
        recall: tally.recall(),
    };
    Report {
        lines: score.by_class.values().map(|tally| tally.expected).sum(),
        right: score.by_class.values().map(|tally| tally.right).sum(),
        precision: total.precision(),
        recall: total.recall(),
        classes: score.by_class.iter().map(|(name, tally)| (name.as_str(), class(tally))).collect(),
        misses: score
            .misses
            .iter()
            .map(|miss| MissReport {
                id: &miss.case.id,
                line: &miss.case.line,
                expected_class: &miss.case.expected_class,
                class: &miss.found_class,
            })
            .collect(),
    }
}

fn table(score: &Score) -> String {
    let mut table =
        Builder::new(output::width(), &["CLASS", "LINES", "PRECISION", "RECALL"]).right(&[1, 2, 3]);
    let mut row = |name: &str, tally: &Tally| {
        table.row([
            name.to_string(),
            tally.expected.to_string(),
            percent(tally.precision()),
            percent(tally.recall()),
        ]);
    };
    for (name, tally) in &score.by_class {
        row(name, tally);
    }
    row("all but none", &score.total());
    let mut text = table.finish();
    for miss in &score.misses {
        let case = &miss.case;
        let (expected, found) = (&case.expected_class, &miss.found_class);
        let _ = writeln!(text, "\n{}: {expected} was read as {found}\n  {}", case.id, case.line);
    }
    text
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_string(), |share| format!("{:.1}%", share * 100.0))
}
