//! `lindos sim validate`: the twin, held against what has been published.

use super::{blame, many};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::table::Builder;
use clap::Args;
use lindos_sim::validate::{Case, Check, Group, Options, SEEDS_QUICK, SEEDS_USUAL, cases};
use std::time::Instant;

#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// Which cases: a group (ettr, months, mttf, interval, spares, itself), or a part of a case's
    /// name such as 16384 or rsc-1 [default: all]; or, alone, blame: faults with known culprits
    names: Vec<String>,
    /// Small sizes and few seeds: a minute in place of many
    #[arg(long)]
    quick: bool,
    /// Seeds of the 54 days [default: 20, or 3 with --quick], or of blame [default: 500, or 40]
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    seeds: Option<u64>,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ValidateArgs) -> Result<(), Failure> {
    if args.names == ["blame"] {
        return blame::run(args.quick, args.seeds, args.threads, args.json);
    }
    let usual = if args.quick { SEEDS_QUICK } else { SEEDS_USUAL };
    let options = Options { is_quick: args.quick, seeds: args.seeds.unwrap_or(usual) };
    let cases = chosen(cases(options), &args.names)?;
    let began = Instant::now();
    let checks = play(&cases, args)?;
    if args.json {
        output::json(&checks)?;
    } else {
        let wall_s = began.elapsed().as_secs_f64();
        output::message(format!("{} cases, {wall_s:.1} s", cases.len()));
        output::data(&told(&checks))?;
    }
    if checks.iter().all(|check| check.ok) { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn chosen(all: Vec<Case>, names: &[String]) -> Result<Vec<Case>, Failure> {
    for name in names {
        if !all.iter().any(|case| case.is_named(name)) {
            let known: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
            return Err(Failure::bad_input(
                format!("no case has {name:?} in its name"),
                format!("the cases are: {}", known.join(", ")),
            ));
        }
    }
    let is_chosen = |case: &Case| names.is_empty() || names.iter().any(|name| case.is_named(name));
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// The longest cases begin first; what they say is in the order of the cases.
fn play(cases: &[Case], args: &ValidateArgs) -> Result<Vec<Check>, Failure> {
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by(|&a, &b| cases[b].cost.total_cmp(&cases[a].cost).then(a.cmp(&b)));
    let played = many::all(cases.len(), args.threads, args.json, |run, _| {
        Ok((order[run], cases[order[run]].play()))
    });
    let mut played = played.map_err(|words| {
        Failure::new(Exit::Failed, words, "that is a bug of Lindos: please report it")
    })?;
    played.sort_by_key(|(place, _)| *place);
    Ok(played.into_iter().flat_map(|(_, checks)| checks).collect())
}

fn told(checks: &[Check]) -> String {
    let groups = Group::ALL.into_iter().map(|group| {
        let its: Vec<&Check> = checks.iter().filter(|check| check.group == group).collect();
        if its.is_empty() { String::new() } else { told_of(group, &its) }
    });
    let good = checks.iter().filter(|check| check.ok).count();
    let text: String = groups.collect();
    format!("{text}{good} of {} agree with what was published\n", checks.len())
}

fn told_of(group: Group, checks: &[&Check]) -> String {
    let header = [group.title(), "published", "ours", "95% interval", ""];
    let mut table = Builder::new(output::width(), &header).right(&[1, 2, 3]);
    for check in checks {
        let digits = digits(check);
        let figure = |figure: f64| format!("{figure:.digits$}");
        let unit = if check.unit.is_empty() { "" } else { " " };
        table.row([
            check.name.clone(),
            format!("{}{unit}{}", figure(check.published), check.unit),
            figure(check.ours),
            format!("{} to {}", figure(check.low), figure(check.high)),
            if check.ok { "ok" } else { "NO" }.to_string(),
        ]);
    }
    format!("{}\n{}", table.finish(), notes(group, checks))
}

/// What was assumed and what does not fit. The worked rows are alike: of them, only what is wrong.
fn notes(group: Group, checks: &[&Check]) -> String {
    let is_told = |check: &&&Check| !check.ok || (group != Group::Ettr && !check.note.is_empty());
    let told: Vec<String> = checks.iter().filter(is_told).map(|check| note(check)).collect();
    if told.is_empty() {
        return String::new();
    }
    let mut table = Builder::new(output::width(), &["notes"]);
    for note in told {
        table.row([note]);
    }
    format!("{}\n", table.finish())
}

fn note(check: &Check) -> String {
    let wrong = if check.ok { String::new() } else { format!("ok would be: {}. ", check.rule) };
    format!("{}: {wrong}{}", check.name, check.note)
}

/// After the point: shares have four, counts none, seconds and hours what their size asks for.
fn digits(check: &Check) -> usize {
    match check.published.abs() {
        size if size <= 1.0 && check.unit.is_empty() => 4,
        size if size < 1.0 => 3,
        size if size < 100.0 => 2,
        _ => 1,
    }
}
