//! The report of a burn-in: what was tried on a node, what came of it, and what was expected.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the report's form.
pub const REPORT_VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was compared with something, and holds.
    Pass,
    /// A figure, and nothing that it could be compared with.
    Measured,
    /// Odd, but not proof of a fault.
    Warning,
    Fail,
    /// It was not tried; the detail says why.
    Skipped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Measured => "measured",
            Verdict::Warning => "warning",
            Verdict::Fail => "FAIL",
            Verdict::Skipped => "skipped",
        })
    }
}

/// What a figure must not cross.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    /// A figure that is no number holds nothing.
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtLeast(least) => figure >= least,
            Bound::AtMost(most) => figure <= most,
        }
    }
}

/// One test of a burn-in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct TestResult {
    /// `cpu.bits`, `disk.write`: the first word is the part.
    pub name: String,
    pub figure: Option<f64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    pub expected: Option<Bound>,
    pub verdict: Verdict,
    /// How it was measured, what was seen, or why it was not tried.
    pub detail: String,
}

impl TestResult {
    /// A figure against its bound, if there is one.
    pub fn judged(
        name: &str,
        figure: f64,
        unit: &str,
        expected: Option<Bound>,
        detail: String,
    ) -> TestResult {
        let figure = to_thousandths(figure);
        let verdict = match expected {
            None => Verdict::Measured,
            Some(bound) if bound.holds(figure) => Verdict::Pass,
            Some(_) => Verdict::Fail,
        };
        TestResult {
            name: name.to_string(),
            figure: Some(figure),
            unit: unit.to_string(),
            expected,
            verdict,
            detail,
        }
    }

    /// How often something came out wrong: never is the only number that passes.
    pub fn errors(name: &str, errors: u64, detail: String) -> TestResult {
        TestResult::judged(name, errors as f64, "errors", Some(Bound::AtMost(0.0)), detail)
    }

    pub fn skipped(name: &str, why: impl Into<String>) -> TestResult {
        TestResult::without_figure(name, Verdict::Skipped, why)
    }

    /// It could not be carried through, and that is itself the fault.
    pub fn failed(name: &str, why: impl Into<String>) -> TestResult {
        TestResult::without_figure(name, Verdict::Fail, why)
    }

    fn without_figure(name: &str, verdict: Verdict, why: impl Into<String>) -> TestResult {
        TestResult {
            name: name.to_string(),
            figure: None,
            unit: String::new(),
            expected: None,
            verdict,
            detail: why.into(),
        }
    }
}

/// Short decimals are read back as they were written, by every reader of JSON: a signature over
/// them holds.
fn to_thousandths(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

/// All that a burn-in found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct BurninReport {
    pub version: u32,
    pub node: String,
    /// Milliseconds since the Unix epoch.
    pub started_at: u64,
    pub took_ms: u64,
    pub lindos: String,
    pub kernel: String,
    pub cpu: String,
    /// What it was measured against, by name or file.
    pub platform: Option<String>,
    pub tests: Vec<TestResult>,
    pub verdict: Verdict,
}

/// What the tests come to: one that failed is enough, and a burn-in that compared nothing has
/// not passed.
pub fn overall(tests: &[TestResult]) -> Verdict {
    let has = |verdict| tests.iter().any(|test| test.verdict == verdict);
    [Verdict::Fail, Verdict::Warning, Verdict::Pass, Verdict::Measured]
        .into_iter()
        .find(|verdict| has(*verdict))
        .unwrap_or(Verdict::Skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_its_bound_and_no_number_fails_both() {
        let judge =
            |figure, bound| TestResult::judged("x", figure, "GB/s", bound, String::new()).verdict;
        assert_eq!(judge(2.0, None), Verdict::Measured);
        assert_eq!(judge(2.0, Some(Bound::AtLeast(2.0))), Verdict::Pass);
        assert_eq!(judge(1.9, Some(Bound::AtLeast(2.0))), Verdict::Fail);
        assert_eq!(judge(2.1, Some(Bound::AtMost(2.0))), Verdict::Fail);
        assert_eq!(judge(f64::NAN, Some(Bound::AtMost(2.0))), Verdict::Fail);
        assert_eq!(judge(f64::NAN, Some(Bound::AtLeast(2.0))), Verdict::Fail);
        assert_eq!(TestResult::errors("x", 1, String::new()).verdict, Verdict::Fail);
    }

    #[test]
    fn one_failure_is_enough_and_nothing_tested_is_no_pass() {
        let pass = TestResult::errors("a", 0, String::new());
        let skipped = TestResult::skipped("b", "no such thing");
        let failed = TestResult::failed("c", "it broke");
        assert_eq!(overall(&[pass.clone(), skipped.clone()]), Verdict::Pass);
        assert_eq!(overall(&[pass, skipped.clone(), failed]), Verdict::Fail);
        assert_eq!(overall(&[skipped]), Verdict::Skipped);
        assert_eq!(overall(&[]), Verdict::Skipped);
    }
}
