//! What the bench says.

use super::kind::Kind;
use super::phases::{Phases, Recovery, quantile};
use serde::Serialize;
use std::fmt::Write as _;

/// The keys before `kinds` are of killed ranks, and absent when none were killed.
#[derive(Serialize)]
pub struct RecoverResult {
    runs: u32,
    ranks: u32,
    #[serde(flatten)]
    rank_killed: Option<RankKilled>,
    kinds: Vec<KindResult>,
    ok: bool,
}

/// `decide` includes that the survivors are stopped, and the total ends when every new rank runs.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys in JSON end in their unit")]
struct RankKilled {
    detect_ms: f64,
    decide_ms: f64,
    launch_ms: f64,
    total_ms: f64,
    total_p95_ms: f64,
    total_max_ms: f64,
}

#[derive(Serialize)]
pub struct KindResult {
    kind: &'static str,
    runs: usize,
    /// Milliseconds by phase.
    median_ms: Phases,
    p95_ms: Phases,
    budget_ms: Phases,
    total_median_ms: f64,
    total_p95_ms: f64,
    total_max_ms: f64,
    /// Phases whose p95 is over the budget.
    over: Vec<&'static str>,
    ok: bool,
    #[serde(skip)]
    rank_killed: Option<RankKilled>,
}

impl KindResult {
    pub fn of(kind: Kind, recoveries: &[Recovery]) -> KindResult {
        let by_phase = |part: f64| {
            let each = [0, 1, 2, 3, 4];
            Phases::of(each.map(|phase| quantile(recoveries.iter().map(|r| r.each()[phase]), part)))
        };
        let (median_ms, p95_ms, budget_ms) = (by_phase(0.5), by_phase(0.95), kind.budget());
        let each = p95_ms.each().into_iter().zip(budget_ms.each()).zip(Phases::NAMES);
        let over: Vec<&str> =
            each.filter(|((took, most), _)| took > most).map(|(_, name)| name).collect();
        let total = |part| quantile(recoveries.iter().map(Recovery::total), part);
        let until_launched = |part| quantile(recoveries.iter().map(|r| r.total() - r.resume), part);
        let rank_killed = (kind == Kind::RankKilled).then(|| RankKilled {
            detect_ms: median_ms.detect,
            decide_ms: quantile(recoveries.iter().map(|r| r.stop + r.decide), 0.5),
            launch_ms: median_ms.launch,
            total_ms: until_launched(0.5),
            total_p95_ms: until_launched(0.95),
            total_max_ms: until_launched(1.0),
        });
        KindResult {
            kind: kind.name(),
            runs: recoveries.len(),
            median_ms,
            p95_ms,
            budget_ms,
            total_median_ms: total(0.5),
            total_p95_ms: total(0.95),
            total_max_ms: total(1.0),
            ok: over.is_empty(),
            over,
            rank_killed,
        }
    }
}

impl RecoverResult {
    pub fn of(runs: u32, ranks: u32, mut kinds: Vec<KindResult>) -> RecoverResult {
        let rank_killed = kinds.iter_mut().find_map(|kind| kind.rank_killed.take());
        let ok = kinds.iter().all(|kind| kind.ok);
        RecoverResult { runs, ranks, rank_killed, kinds, ok }
    }
}

pub fn text(result: &RecoverResult) -> String {
    let mut text = format!(
        "{} of each fault on a job of {} ranks; milliseconds, median and p95\n\n",
        result.runs, result.ranks
    );
    let header = ["DETECT", "STOP", "DECIDE", "LAUNCH", "RESUME", "TOTAL"];
    text.push_str(&line("FAULT", header.map(String::from), ""));
    for kind in &result.kinds {
        let cells = |phases: &Phases, total: f64| {
            let [detect, stop, decide, launch, resume] = phases.each();
            [detect, stop, decide, launch, resume, total].map(|ms| format!("{ms:.0}"))
        };
        text.push_str(&line(kind.kind, cells(&kind.median_ms, kind.total_median_ms), ""));
        let verdict = if kind.ok { "ok" } else { "over" };
        text.push_str(&line("  p95", cells(&kind.p95_ms, kind.total_p95_ms), verdict));
        if !kind.ok {
            let _ = writeln!(text, "  over its budget: {}", kind.over.join(", "));
        }
    }
    text
}

fn line(name: &str, cells: [String; 6], verdict: &str) -> String {
    let mut line = format!("{name:<20}");
    for cell in cells {
        let _ = write!(line, " {cell:>7}");
    }
    let _ = write!(line, "  {verdict}");
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_over_its_budget_is_named_and_the_keys_of_before_are_there() {
        let quick = Phases { detect: 9.0, stop: 20.0, decide: 0.0, launch: 30.0, resume: 60.0 };
        let late = Phases { resume: 1900.0, ..quick };
        let well = KindResult::of(Kind::RankKilled, &[quick, quick, quick]);
        let over = KindResult::of(Kind::ShimKilled, &[quick, late]);
        assert_eq!((well.ok, &over.over), (true, &vec!["resume"]));
        let result = RecoverResult::of(2, 4, vec![well, over]);
        let text = text(&result);
        let p95 = "  p95                      9      20       0      30    1900    1959  over";
        assert!(text.contains(&format!("{p95}\n  over its budget: resume\n")), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        let json = serde_json::to_value(&result).unwrap();
        assert_eq!((&json["decide_ms"], &json["total_ms"]), (&20.0.into(), &59.0.into()));
        assert_eq!((&json["kinds"][1]["ok"], &json["ok"]), (&false.into(), &false.into()));
        assert_eq!(json["kinds"][0]["median_ms"]["launch"], 30.0);
    }
}
