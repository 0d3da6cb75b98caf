//! The quick cases that take seconds without optimisation, and what all of them have.

use super::*;
use std::collections::BTreeSet;

fn played(name: &str) -> Vec<Check> {
    let cases = cases(Options { seeds: 2, ..Options::quick() });
    let chosen: Vec<&Case> = cases.iter().filter(|case| case.name == name).collect();
    assert_eq!(chosen.len(), 1, "{name}");
    chosen[0].play()
}

#[test]
fn cases_have_names_of_their_own_that_begin_with_their_group() {
    let cases = cases(Options::full());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    for group in Group::ALL {
        let word = format!("{group:?}").to_lowercase();
        let begins = |case: &&Case| case.name.starts_with(&format!("{word} "));
        assert!(cases.iter().any(|case| begins(&case)), "{word}");
    }
    assert!(cases.iter().all(|case| case.cost > 0.0));
    assert!(cases.iter().any(|case| case.is_named("RSC-1")));
}

#[test]
fn a_job_of_1024_gpus_runs_as_long_between_failures_as_the_rate_says() {
    for check in played("mttf 1,024 GPUs, rsc-1") {
        assert!(check.ok && check.low < check.high, "{check:?}");
        assert!(check.note.contains("7.9 h"), "the contradiction is said");
    }
}

#[test]
fn as_many_nodes_are_out_at_once_as_the_binomial_distribution_says() {
    for check in played("spares 1024 of 12 h each") {
        assert!(check.ok && check.ours > 0.98, "{check:?}");
    }
}

#[test]
fn a_recorded_run_of_the_training_example_is_lived_again_within_two_points() {
    let checks = played("itself tiny-gpt, ranks killed");
    assert_eq!(checks.len(), 2);
    for check in checks {
        assert!(check.ok && check.published > 0.5 && check.published < 0.99, "{check:?}");
    }
}
