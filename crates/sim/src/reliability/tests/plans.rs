//! What a plan has, by its own statistics. Seeds are fixed; limits are four standard deviations, so
//! that a right plan of another seed would pass too.

use super::{cause, days, fleet, profile};
use crate::reliability::plan::{Effect, FaultPlan, PlanError, PlannedFault, Target};
use crate::reliability::profile::{Profile, RepairKind};
use crate::reliability::stats::poisson_interval;
use crate::reliability::unit::Unit;
use lindos_model::{Millis, NodeId, NodeSpec, Time};
use std::collections::BTreeSet;

fn plan(profile: &Profile, nodes: &[NodeSpec], to: u64) -> FaultPlan {
    FaultPlan::new(profile, nodes, 7, Time::ZERO, days(to)).unwrap()
}

fn of_cause<'a>(plan: &'a FaultPlan, name: &str) -> Vec<&'a PlannedFault> {
    let cause = plan.profile().cause(name).unwrap();
    plan.faults().iter().filter(|fault| usize::from(fault.cause) == cause).collect()
}

/// That the count is within what chance allows about what is expected: 0.9999 of all seeds.
fn assert_count(count: usize, expected: f64, what: &str) {
    let interval = poisson_interval(count as u64, 0.9999);
    assert!(interval.contains(expected), "{what}: {count} faults, {expected:.1} expected");
}

#[test]
fn each_kind_of_unit_has_faults_at_its_rate() {
    let nodes = fleet(800);
    for (per, units) in [
        ("gpu", 6400.0),
        ("link", 6400.0),
        ("node", 800.0),
        ("rack", 200.0),
        ("leaf", 50.0),
        ("pdu", 8.0),
        ("site", 1.0),
    ] {
        // A thousand events, whatever the unit.
        let rate = 1e6 / (units * 60.0);
        let profile =
            profile(&cause("c", &format!("per = \"{per}\"\nrate = {rate}\neffect = \"hang\"")));
        let plan = plan(&profile, &nodes, 60);
        assert!((plan.expected(0) - 1000.0).abs() < 1e-6);
        assert_count(plan.faults().len(), 1000.0, per);
    }
}

#[test]
fn every_unit_gets_its_share() {
    let profile = profile(&cause("c", "per = \"gpu\"\nrate = 100\neffect = \"hang\""));
    let plan = plan(&profile, &fleet(40), 300);
    for node in 0..40 {
        let of_node = |fault: &&PlannedFault| plan.nodes(&fault.target)[0] == NodeId(node);
        assert_count(plan.faults().iter().filter(of_node).count(), 240.0, "a node");
    }
    for index in 0..8 {
        let of_gpu =
            |fault: &&PlannedFault| matches!(fault.target, Target::Gpu { gpu, .. } if gpu == index);
        assert_count(plan.faults().iter().filter(of_gpu).count(), 1200.0, "a GPU");
    }
}

#[test]
fn faults_come_in_order_within_their_span() {
    let profile = profile(&cause("c", "per = \"gpu\"\nrate = 10\neffect = \"hang\""));
    let (from, to) = (Time(1_234_567), days(9) + Millis(43_200_055));
    let plan = FaultPlan::new(&profile, &fleet(200), 3, from, to).unwrap();
    assert_count(plan.faults().len(), plan.expected(0), "nine and a half days");
    assert!(plan.faults().is_sorted_by_key(|fault| fault.at));
    assert!(plan.faults().iter().all(|fault| (from..to).contains(&fault.at)));
}

#[test]
fn equal_seeds_give_equal_plans_and_others_others() {
    let profile = profile(&cause("c", "per = \"gpu\"\nrate = 10\neffect = \"hang\""));
    let nodes = fleet(100);
    let with = |seed| FaultPlan::new(&profile, &nodes, seed, Time::ZERO, days(30)).unwrap();
    assert_eq!(with(1).faults(), with(1).faults());
    assert_ne!(with(1).faults(), with(2).faults());
}

#[test]
fn a_longer_plan_begins_with_the_shorter_one() {
    let profile = profile(&cause(
        "c",
        "per = \"gpu\"\nrate = 10\neffect = \"hang\"\n\
         shape = { infant = { factor = 5, time_constant = \"10d\" } }",
    ));
    let nodes = fleet(100);
    let (short, long) = (plan(&profile, &nodes, 10), plan(&profile, &nodes, 40));
    assert_eq!(short.faults(), &long.faults()[..short.faults().len()]);
    assert!(long.faults()[short.faults().len()].at >= days(10));
}

#[test]
fn infant_mortality_falls_as_its_formula_says() {
    let keys = "per = \"node\"\nrate = 5\neffect = \"hang\"\nage = \"20d\"\n\
                shape = { infant = { factor = 10, time_constant = \"30d\" } }";
    let profile = profile(&cause("c", keys));
    let plan = plan(&profile, &fleet(2000), 120);
    let hazard = profile.causes[0].hazard;
    for week in 0..17_u32 {
        let (from, to) = (f64::from(week) * 7.0, f64::from(week + 1) * 7.0);
        let expected = 2000.0 * hazard.expected(from, to);
        let span = days(u64::from(week) * 7)..days(u64::from(week + 1) * 7);
        let count = plan.faults().iter().filter(|fault| span.contains(&fault.at)).count();
        assert_count(count, expected, &format!("week {week}"));
    }
    let first = 2000.0 * hazard.expected(0.0, 7.0);
    assert!(first > 4.0 * 2000.0 * 0.005 * 7.0, "{first} in the first week");
}

#[test]
fn wear_grows_as_its_formula_says() {
    let keys = "per = \"node\"\neffect = \"hang\"\nage = \"900d\"\n\
                shape = { wear = { k = 4, life = \"1000d\" } }";
    let profile = profile(&cause("c", keys));
    let plan = plan(&profile, &fleet(1000), 300);
    let hazard = profile.causes[0].hazard;
    for from in [0_u64, 100, 200] {
        let expected = 1000.0 * hazard.expected(from as f64, from as f64 + 100.0);
        let span = days(from)..days(from + 100);
        let count = plan.faults().iter().filter(|fault| span.contains(&fault.at)).count();
        assert_count(count, expected, &format!("from day {from}"));
    }
}

#[test]
fn a_pdu_takes_exactly_the_nodes_of_its_racks() {
    let nodes = fleet(128);
    let profile = profile(
        &(cause("pdu", "per = \"pdu\"\nrate = 200\neffect = \"node_down\"")
            + &cause("leaf", "per = \"leaf\"\nrate = 200\neffect = \"node_down\"")
            + &cause(
                "leak",
                "per = \"node\"\nreach = \"rack\"\nrate = 20\neffect = \"node_down\"",
            )),
    );
    let plan = plan(&profile, &nodes, 100);
    let mut seen = BTreeSet::new();
    for fault in plan.faults() {
        let Target::Group { kind, group } = fault.target else { panic!("{fault:?}") };
        let name_of = |node: &NodeSpec| match kind {
            Unit::Pdu => node.location.pdu.clone(),
            Unit::Leaf => node.location.leaf.clone(),
            Unit::Rack => node.location.rack.clone(),
            _ => panic!("{fault:?}"),
        };
        let taken = plan.nodes(&fault.target);
        let name = name_of(&nodes[taken[0].0 as usize]);
        let expected: Vec<NodeId> = (0_u32..)
            .zip(&nodes)
            .filter(|(_, node)| name_of(node) == name)
            .map(|(index, _)| NodeId(index))
            .collect();
        assert_eq!(taken, expected, "{kind} {name}");
        assert_eq!(plan.name_of(&fault.target, &nodes), format!("{kind} {name}"));
        seen.insert((kind, group));
    }
    // 8 PDUs, 8 leaves, 32 racks: all are hit in 100 days.
    assert_eq!(seen.iter().filter(|(kind, _)| *kind == Unit::Pdu).count(), 8);
    assert_eq!(seen.iter().filter(|(kind, _)| *kind == Unit::Leaf).count(), 8);
    assert_eq!(seen.iter().filter(|(kind, _)| *kind == Unit::Rack).count(), 32);
}

#[test]
fn a_fleet_that_says_nothing_of_pdus_has_no_fault_of_one() {
    let mut nodes = fleet(16);
    for node in &mut nodes {
        node.location = lindos_model::Location::default();
    }
    let profile = profile(
        &(cause("pdu", "per = \"pdu\"\nrate = 20\neffect = \"node_down\"")
            + &cause(
                "leak",
                "per = \"node\"\nreach = \"rack\"\nrate = 20\neffect = \"node_down\"",
            )),
    );
    let plan = plan(&profile, &nodes, 100);
    assert_eq!(plan.causes_without_units(), [0]);
    assert!(plan.expected(0) <= 0.0);
    assert!(!plan.faults().is_empty());
    // A rack that is not known is the node alone.
    assert!(plan.faults().iter().all(|fault| matches!(fault.target, Target::Node(_))));
}

#[test]
fn lemons_fail_so_many_times_as_often_and_the_fleet_as_often_as_without() {
    let keys = "per = \"gpu\"\nrate = 1\neffect = \"hang\"";
    let lemons = "lemons = { share = 0.05, factor = 20, source = \"a test\" }\n";
    let profile = profile(&(lemons.to_string() + &cause("c", keys)));
    let nodes = fleet(4000);
    let plan = plan(&profile, &nodes, 90);
    let lemons = (0..4000).filter(|&node| plan.is_lemon(NodeId(node))).count();
    // 200, and four standard deviations.
    assert!((145..=255).contains(&lemons), "{lemons} lemons");
    let on_lemons =
        plan.faults().iter().filter(|fault| plan.is_lemon(plan.nodes(&fault.target)[0])).count();
    // An ordinary node: 8 GPUs, 90 days, 1 in 1,000, less what the lemons get of it.
    let ordinary = 8.0 * 90.0 * 0.001 / (1.0 + 0.05 * 19.0);
    assert_count(on_lemons, 20.0 * ordinary * lemons as f64, "lemons");
    let others = plan.faults().len() - on_lemons;
    assert_count(others, ordinary * (4000 - lemons) as f64, "others");
    let said = ordinary * (4000.0 + 19.0 * lemons as f64);
    assert!((plan.expected(0) / said - 1.0).abs() < 1e-9);
}

#[test]
fn a_bad_lot_is_of_whole_racks_and_fails_more_of_its_cause_alone() {
    let keys = "per = \"node\"\nrate = 10\neffect = \"hang\"";
    let lots = "[[lots]]\nname = \"optics\"\nshare = 0.2\nfactor = 8\ncauses = [\"bad\"]\n\
                source = \"a test\"\n";
    let profile = profile(&(cause("bad", keys) + &cause("good", keys) + lots));
    let nodes = fleet(2000);
    let plan = plan(&profile, &nodes, 60);
    let is_of_lot = |node: u32| plan.is_of_lot(NodeId(node), 0);
    assert!((0..2000).all(|node| is_of_lot(node) == is_of_lot(node / 4 * 4)));
    let size = (0..2000).filter(|&node| is_of_lot(node)).count();
    assert!((256..=544).contains(&size), "{size} nodes in the lot");
    for (name, factor) in [("bad", 8.0), ("good", 1.0)] {
        let faults = of_cause(&plan, name);
        let of_lot = faults.iter().filter(|f| plan.is_of_lot(plan.nodes(&f.target)[0], 0)).count();
        assert_count(of_lot, 0.6 * factor * size as f64, name);
        assert_count(faults.len() - of_lot, 0.6 * (2000 - size) as f64, name);
    }
}

#[test]
fn another_rate_of_one_cause_leaves_the_others_as_they_were() {
    let keys = |rate: f64| format!("per = \"gpu\"\nrate = {rate}\neffect = \"hang\"");
    let nodes = fleet(100);
    let with = |first: f64| {
        let profile = profile(&(cause("first", &keys(first)) + &cause("second", &keys(2.0))));
        of_cause(&plan(&profile, &nodes, 60), "second").into_iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!(with(0.5), with(9.0));
    // Nor does it matter which causes there are besides.
    let alone = profile(&(cause("other", &keys(1.0)) + &cause("second", &keys(2.0))));
    let alone = plan(&alone, &nodes, 60);
    let second = of_cause(&alone, "second");
    assert!(second.into_iter().eq(with(0.5).iter()));
}

#[test]
fn causes_strike_apart_from_each_other_and_so_do_their_detections_and_repairs() {
    let keys = "per = \"gpu\"\nrate = 10\neffect = \"hang\"";
    let profile = profile(&(cause("a", keys) + &cause("b", keys)));
    let plan = plan(&profile, &fleet(200), 125);
    let moments = |name: &str| -> BTreeSet<Time> {
        of_cause(&plan, name).iter().map(|fault| fault.at).collect()
    };
    // 2,000 moments of 10 billion: two are alike in one run of 2,500.
    assert!(moments("a").is_disjoint(&moments("b")));
    let (seen, unseen): (Vec<_>, Vec<_>) =
        plan.faults().iter().partition(|fault| fault.seen_after.is_some());
    for faults in [seen, unseen] {
        let reboots =
            faults.iter().filter(|f| f.repair.is_some_and(|r| r.kind == RepairKind::Reboot));
        let share = reboots.count() as f64 / faults.len() as f64;
        // Four standard deviations of a share of 1,200.
        assert!((share - 0.8).abs() < 0.046, "{share} of {}", faults.len());
    }
}

#[test]
fn a_higher_rate_keeps_every_fault_and_adds_some() {
    let nodes = fleet(100);
    let with = |keys: &str| plan(&profile(&cause("c", keys)), &nodes, 60).faults().to_vec();
    let base = with("per = \"gpu\"\nrate = 1\neffect = \"hang\"");
    for more in [
        "per = \"gpu\"\nrate = 1.1\neffect = \"hang\"",
        "per = \"gpu\"\nrate = 4\neffect = \"hang\"",
        "per = \"gpu\"\nrate = 1\neffect = \"hang\"\nage = \"0s\"\n\
         shape = { infant = { factor = 3, time_constant = \"20d\" } }",
    ] {
        let more = with(more);
        assert!(more.len() > base.len());
        assert!(base.iter().all(|fault| more.contains(fault)));
    }
}

#[test]
fn lemons_change_the_faults_of_lemons_and_thin_out_the_others() {
    let nodes = fleet(400);
    let keys = "per = \"gpu\"\nrate = 1\neffect = \"hang\"";
    let with = |share: f64| {
        let lemons = format!("lemons = {{ share = {share}, factor = 10, source = \"a test\" }}\n");
        plan(&profile(&(lemons + &cause("c", keys))), &nodes, 90)
    };
    let (none, few, more) = (with(0.0), with(0.02), with(0.04));
    for node in (0..400).map(NodeId) {
        assert!(!few.is_lemon(node) || more.is_lemon(node), "more lemons are the same and others");
    }
    let is_kept = |fault: &&PlannedFault| none.faults().contains(fault);
    let ordinary: Vec<&PlannedFault> =
        few.faults().iter().filter(|f| !few.is_lemon(few.nodes(&f.target)[0])).collect();
    assert!(ordinary.iter().all(is_kept));
}

#[test]
fn detection_and_repair_have_their_chances() {
    let keys = "per = \"gpu\"\nrate = 10\neffect = \"hang\"\n\
                recurs = { chance = 0.3, within = \"10d\" }";
    let profile = profile(&cause("c", keys));
    let plan = plan(&profile, &fleet(200), 250);
    let faults = plan.faults();
    let count = faults.len() as f64;
    assert_count(faults.len(), 4000.0, "all");
    // Four standard deviations of a share of 4,000 are below 0.032.
    let share = |number: usize, expected: f64| {
        assert!((number as f64 / count - expected).abs() < 0.032, "{number} of {count}");
    };
    share(faults.iter().filter(|fault| fault.seen_after.is_some()).count(), 0.7);
    assert!(faults.iter().all(|f| f.seen_after.is_none_or(|after| after == Millis(60_000))));
    let kinds = |kind| move |f: &&PlannedFault| f.repair.is_some_and(|r| r.kind == kind);
    share(faults.iter().filter(kinds(RepairKind::Reboot)).count(), 0.8);
    share(faults.iter().filter(kinds(RepairKind::ProcessRestart)).count(), 0.2);
    share(faults.iter().filter(|fault| fault.again_after.is_some()).count(), 0.3);
    let again: Vec<u64> = faults.iter().filter_map(|f| f.again_after).map(|a| a.0).collect();
    let mean = again.iter().sum::<u64>() as f64 / again.len() as f64 / 86_400_000.0;
    assert!(again.iter().all(|&after| after <= 864_000_000) && (mean - 5.0).abs() < 0.4);
}

#[test]
fn what_was_not_really_mended_comes_again_on_the_same_unit_and_not_for_ever() {
    let keys = "per = \"gpu\"\nrate = 10\neffect = \"hang\"\n\
                recurs = { chance = 0.9, within = \"1d\" }";
    let profile = profile(&cause("c", keys));
    let plan = plan(&profile, &fleet(50), 50);
    let mut lengths = Vec::new();
    for first in plan.faults() {
        let mut fault = first.clone();
        while let Some(next) = plan.again(&fault, fault.at + Millis(500)) {
            assert_eq!((next.target, next.cause), (first.target, first.cause));
            assert_eq!(next.at, fault.at + Millis(500) + fault.again_after.unwrap());
            assert_eq!(next.key.times_again(), fault.key.times_again() + 1);
            fault = next;
        }
        lengths.push(fault.key.times_again());
    }
    assert!(lengths.contains(&0) && lengths.iter().all(|&length| length < 15));
    let mean = lengths.iter().map(|&length| f64::from(length)).sum::<f64>() / lengths.len() as f64;
    // 0.9 + 0.9² + … + 0.9¹⁴ = 6.94; about 200 faults.
    assert!((mean - 6.94).abs() < 1.6, "{mean} times again");
    assert_eq!(plan.again(&plan.faults()[0], Time(9)), plan.again(&plan.faults()[0], Time(9)));
}

#[test]
fn effects_are_drawn_within_their_bounds() {
    let with = |effect: &str| {
        let keys = format!(
            "[[causes]]\nname = \"c\"\nsource = \"a test\"\nper = \"node\"\nrate = 10\n{effect}\n"
        );
        plan(&profile(&keys), &fleet(100), 100).faults().to_vec()
    };
    let slow = with(
        "detect = \"d\"\nrepair = \"r\"\n\
         effect = { slow = { factor = [1.1, 1.5], lasts = { exponential = \"1h\" } } }",
    );
    assert!(slow.iter().all(|fault| matches!(
        fault.effect,
        Effect::Slow { factor, lasts: Some(_) } if (1.1..1.5).contains(&factor)
    )));
    let flaps = with("effect = { link_flap = { pause = { uniform = [\"1s\", \"9s\"] } } }");
    assert!(flaps.iter().all(|fault| fault.repair.is_none()
        && matches!(fault.effect, Effect::LinkFlap { pause } if (1000..9000).contains(&pause.0))));
    let planned =
        with("effect = { maintenance = { notice = \"1h\", takes = { fixed = \"2h\" } } }");
    let expected = Effect::Maintenance { notice: Millis(3_600_000), takes: Millis(7_200_000) };
    assert!(planned.iter().all(|fault| fault.effect == expected && fault.repair.is_none()));
}

#[test]
fn too_many_faults_and_too_long_a_time_are_refused() {
    let profile = profile(&cause("c", "per = \"gpu\"\nrate = 100000\neffect = \"hang\""));
    let nodes = fleet(1000);
    let many = FaultPlan::new(&profile, &nodes, 0, Time::ZERO, days(30)).unwrap_err();
    assert!(matches!(many, PlanError::TooMany { .. }) && many.to_string().contains("hint: "));
    let long = FaultPlan::new(&profile, &nodes, 0, Time::ZERO, Time(u64::MAX)).unwrap_err();
    assert!(matches!(long, PlanError::TooLong { .. }) && long.to_string().contains("hint: "));
    let none = FaultPlan::new(&profile, &[], 0, Time::ZERO, days(30)).unwrap();
    assert!(none.faults().is_empty());
    let past = FaultPlan::new(&profile, &nodes, 0, days(30), Time::ZERO).unwrap();
    assert!(past.faults().is_empty());
}
