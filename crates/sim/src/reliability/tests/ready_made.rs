//! The profiles that ship, against the figures that they are made from.

use super::{days, fleet};
use crate::reliability::plan::FaultPlan;
use crate::reliability::profile::{EffectRule, Profile};
use crate::reliability::{ready, unit::Unit};
use lindos_model::{NodeSpec, Time};

fn load(name: &str) -> Profile {
    ready::load(name).unwrap().unwrap_or_else(|error| panic!("{error}"))
}

/// Faults expected in so many days on so many nodes of 8 GPUs, planned ones left out.
fn expected(profile: &Profile, nodes: &[NodeSpec], to: u64) -> f64 {
    let plan = FaultPlan::new(profile, nodes, 1, Time::ZERO, days(to)).unwrap();
    let is_planned = |effect: &EffectRule| matches!(effect, EffectRule::Maintenance { .. });
    (0..profile.causes.len())
        .filter(|&cause| !is_planned(&profile.causes[cause].effect))
        .map(|cause| plan.expected(cause))
        .sum()
}

#[test]
fn each_is_read_and_says_what_it_is() {
    for (name, _) in ready::ALL {
        let profile = load(name);
        assert!(!profile.about.is_empty(), "{name}");
        // Published rates have in them what came again.
        assert!(profile.causes.iter().all(|cause| cause.recurs.is_none()), "{name}");
    }
    assert!(ready::load("nobody").is_none());
    assert!(load("none").causes.is_empty());
}

#[test]
fn llama3_has_419_unexpected_and_47_planned_interruptions_in_54_days() {
    let profile = load("llama3-2024");
    let nodes = fleet(2048);
    assert!((expected(&profile, &nodes, 54) - 419.0).abs() < 1e-6);
    let plan = FaultPlan::new(&profile, &nodes, 1, Time::ZERO, days(54)).unwrap();
    assert!((plan.expected(profile.cause("planned").unwrap()) - 47.0).abs() < 1e-6);
    // 148 is 35.3 % of 419, and not the 30.1 % that were printed.
    let share = plan.expected(profile.cause("faulty_gpu").unwrap()) / 419.0;
    assert!((share - 0.3532).abs() < 0.0001, "{share}");
    let gpu = (0..profile.causes.len())
        .filter(|&cause| profile.causes[cause].per == Unit::Gpu)
        .map(|cause| plan.expected(cause))
        .sum::<f64>();
    // GPUs are 58.7 % of the text's, and 64 % by the table's counts.
    assert!((gpu / 419.0 - 0.6396).abs() < 0.0001, "{gpu}");
    let rate = profile.causes[0].hazard.per_day * 8.0 * 1000.0;
    assert!((rate - 1.3383).abs() < 0.0001, "{rate} in 1,000 node-days");
}

#[test]
fn rsc_has_its_rates_with_its_lemons() {
    for (name, rate) in [("rsc-1", 6.5), ("rsc-2", 2.34)] {
        let profile = load(name);
        // The mean over draws of lemons is the rate; one draw is within a few percent.
        let nodes = fleet(2000);
        let mean = (0..200)
            .map(|seed| {
                let plan = FaultPlan::new(&profile, &nodes, seed, Time::ZERO, days(10)).unwrap();
                (0..profile.causes.len()).map(|cause| plan.expected(cause)).sum::<f64>()
            })
            .sum::<f64>()
            / 200.0;
        assert!((mean / (rate * 20.0) - 1.0).abs() < 0.012, "{name}: {mean}");
    }
}

#[test]
fn byterobust_has_a_failure_every_2_78_hours_on_16384_gpus() {
    let expected = expected(&load("byterobust-2025"), &fleet(2048), 30);
    assert!((30.0 * 24.0 / expected - 2.78).abs() < 0.002, "{expected} in 30 days");
}

#[test]
fn delta_has_an_error_every_two_hours_on_608_gpus() {
    // 76 nodes of 8 here, 152 of 4 there: the rates are of GPUs.
    let profile = load("delta-h100");
    let expected = expected(&profile, &fleet(76), 146);
    assert!((expected - (1737.0 + 24.0 + 3.0)).abs() < 0.1, "{expected}");
    assert!((146.0 * 24.0 / expected - 1.9).abs() < 0.1);
}
