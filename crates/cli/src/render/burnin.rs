//! `lindos burnin`

use super::number::grouped;
use super::table::{Builder, pairs};
use lindos_model::burnin::{Bound, BurninReport, TestResult};

pub fn report(report: &BurninReport, width: u16) -> String {
    let took = report.took_ms.div_ceil(1000);
    let mut rows = vec![
        ("node", report.node.clone()),
        ("processor", report.cpu.clone()),
        ("kernel", report.kernel.clone()),
    ];
    rows.extend(report.platform.iter().map(|platform| ("platform", platform.clone())));
    rows.push(("took", format!("{took} s")));
    rows.push(("verdict", report.verdict.to_string()));
    let mut table = Builder::new(width, &["TEST", "FIGURE", "EXPECTED", "VERDICT", "SEEN"]);
    for test in &report.tests {
        table.row([
            test.name.clone(),
            figure(test),
            expected(test),
            test.verdict.to_string(),
            test.detail.clone(),
        ]);
    }
    format!("{}\n{}", pairs(&rows), table.finish())
}

fn figure(test: &TestResult) -> String {
    match test.figure {
        Some(figure) => format!("{} {}", number(figure), test.unit).trim_end().to_string(),
        None => "-".to_string(),
    }
}

fn expected(test: &TestResult) -> String {
    match test.expected {
        Some(Bound::AtLeast(least)) => format!("≥ {}", number(least)),
        Some(Bound::AtMost(0.0)) => "none".to_string(),
        Some(Bound::AtMost(most)) => format!("≤ {}", number(most)),
        None => "-".to_string(),
    }
}

/// Three digits that mean something, and no more of them behind the point than needed.
fn number(value: f64) -> String {
    match value.abs() {
        size if size.fract() == 0.0 && size < 1e15 => grouped(size as u64),
        size if size >= 100.0 => grouped(size.round() as u64),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::burnin::{REPORT_VERSION, overall};

    fn sample() -> BurninReport {
        let tests = vec![
            TestResult::errors(
                "cpu.bits",
                3,
                "2048 rounds on 96 cores (AVX-512) against the reference; core 17 computed 3 of 21 \
                 rounds wrongly, first 0123456789abcdef for fedcba9876543210"
                    .to_string(),
            ),
            TestResult::judged("memory.read", 212.4, "GB/s", None, "96 cores at once".into()),
            TestResult::judged(
                "gpu.speed",
                712.25,
                "TFLOP/s",
                Some(Bound::AtLeast(593.4)),
                "BF16, the slowest, GPU 3 (0000:4d:00.0)".to_string(),
            ),
            TestResult::skipped("network.bits", "no peer: name one with --peer"),
        ];
        BurninReport {
            version: REPORT_VERSION,
            node: "n17".to_string(),
            started_at: 1_800_000_000_000,
            took_ms: 600_400,
            lindos: "0.1.0".to_string(),
            kernel: "6.8.0".to_string(),
            cpu: "Some Processor".to_string(),
            platform: Some("hgx-h100".to_string()),
            verdict: overall(&tests),
            tests,
        }
    }

    #[test]
    fn a_report_fits_eighty_columns_and_names_the_fault() {
        let text = report(&sample(), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @"
        node       n17
        processor  Some Processor
        kernel     6.8.0
        platform   hgx-h100
        took       601 s
        verdict    FAIL

        TEST          FIGURE       EXPECTED  VERDICT   SEEN
        cpu.bits      3 errors     none      FAIL      2048 rounds on 96 cores
                                                       (AVX-512) against the
                                                       reference; core 17 computed 3
                                                       of 21 rounds wrongly, first
                                                       0123456789abcdef for
                                                       fedcba9876543210
        memory.read   212 GB/s     -         measured  96 cores at once
        gpu.speed     712 TFLOP/s  ≥ 593     pass      BF16, the slowest, GPU 3
                                                       (0000:4d:00.0)
        network.bits  -            -         skipped   no peer: name one with --peer
        ");
    }

    #[test]
    fn numbers_are_as_long_as_they_mean_something() {
        let said = [0.0, 3.0, 0.25, 12.34, 593.4, 48_211.7].map(number);
        assert_eq!(said, ["0", "3", "0.25", "12.3", "593", "48,212"]);
    }
}
