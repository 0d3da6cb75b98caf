//! `lindos bench schedule` as a person and as a program see it, on the smallest fleet.

mod support;

use support::Lab;

#[test]
fn a_program_gets_every_figure() {
    let lab = Lab::new();
    let told = lab.json(["bench", "schedule", "--gpus", "800", "--quick"]);
    assert_eq!((&told["gpus"], &told["nodes"]), (&800.into(), &100.into()));
    let occupancy = told["occupancy"].as_f64().unwrap();
    assert!((0.75..=0.95).contains(&occupancy), "{occupancy}");
    let figures = [
        "one_node_us",
        "whole_fleet_ms",
        "unplaceable_ms",
        "pass_100k_ms",
        "durable_jobs_per_s",
        "state_mb",
    ];
    for key in figures {
        assert!(told[key].as_f64().is_some_and(|median| median > 0.0), "{key}: {}", told[key]);
        assert!(told["met"][key].is_boolean(), "{key}: {}", told["met"]);
    }
    for key in ["gang_1250_ms", "gang_10000_ms"] {
        assert!(told[key].is_null(), "{key} on a fleet of 100 nodes: {}", told[key]);
    }
}

#[test]
fn a_person_gets_a_table_that_fits() {
    let lab = Lab::new();
    let ended = lab.output(["bench", "schedule", "--gpus", "800", "--quick", "--verbose"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);
    assert!(ended.stdout.contains("place one node"), "{}", ended.stdout);
    assert!(ended.stdout.contains("100.0k/s"), "{}", ended.stdout);
}
