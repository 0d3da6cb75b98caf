//! What is wrong in a profile is said at its line, with what to do.

use super::{REST, cause, days, fleet, parse, profile};
use crate::reliability::hazard::Shape;
use crate::reliability::plan::FaultPlan;
use crate::reliability::ready;
use lindos_model::Time;
use proptest::prelude::*;

const GOOD: &str = "per = \"gpu\"\nrate = 1\neffect = \"hang\"";

/// The error of a profile with these tables after the rest, in one line.
fn error(tables: &str) -> String {
    let error = parse(&format!("{REST}{tables}")).unwrap_err();
    assert!(error.place.is_some(), "no place: {error}");
    let hint = error.hint.unwrap_or_default();
    format!("{}: {} ({hint})", error.place.unwrap().text.trim(), error.message)
}

/// That a cause with these keys is refused at its name, with these words.
fn assert_refused(keys: &str, words: &str) {
    let error = error(&cause("c", keys));
    assert!(error.starts_with("name = \"c\": "), "{error}");
    assert!(error.contains(words), "{error}");
    assert!(!error.ends_with("()"), "no hint: {error}");
}

#[test]
fn rates_can_be_written_in_four_ways() {
    let total =
        "total = { rate = 8, gpus_per_node = 8, rails_per_node = 4, source = \"a test\" }\n";
    for (keys, per_day) in [
        ("per = \"node\"\nrate = 2.5", 0.0025),
        ("per = \"node\"\nmtbf = \"400d\"", 0.0025),
        ("per = \"node\"\nobserved = { events = 50, units = 1000, over = \"20d\" }", 0.0025),
    ] {
        let profile = profile(&cause("c", &format!("{keys}\neffect = \"hang\"")));
        assert!((profile.causes[0].hazard.per_day - per_day).abs() < 1e-12, "{keys}");
    }
    let shares =
        [("a", "node", 0.5), ("b", "gpu", 0.3), ("c", "link", 0.2)].map(|(name, per, share)| {
            cause(name, &format!("per = \"{per}\"\nshare = {share}\neffect = \"hang\""))
        });
    let profile = profile(&(total.to_string() + &shares.concat()));
    let rates: Vec<f64> = profile.causes.iter().map(|cause| cause.hazard.per_day).collect();
    for (rate, expected) in rates.iter().zip([0.004, 0.0003, 0.0004]) {
        assert!((rate - expected).abs() < 1e-12, "{rates:?}");
    }
}

#[test]
fn the_age_of_the_fleet_is_each_causes_unless_it_has_its_own() {
    let wear = "per = \"gpu\"\neffect = \"hang\"\nshape = { wear = { k = 2, life = \"100d\" } }";
    let text = cause("a", GOOD) + &cause("b", &format!("{wear}\nage = \"5d\""));
    let profile = profile(&format!("age = \"90d\"\n{text}"));
    let ages: Vec<f64> = profile.causes.iter().map(|cause| cause.hazard.age_days).collect();
    assert_eq!(ages, [90.0, 5.0]);
    assert_eq!(profile.causes[1].hazard.shape, Shape::Wear { k: 2.0, life_days: 100.0 });
}

#[test]
fn an_unknown_key_is_shown_with_the_nearest_known_one() {
    let error = error(&cause("c", "per = \"gpu\"\nrat = 1\neffect = \"hang\""));
    assert!(error.starts_with("rat = 1: unknown field `rat`"), "{error}");
    assert!(error.contains("did you mean `rate`?"), "{error}");
}

#[test]
fn a_rate_that_is_missing_double_or_wild_is_refused() {
    assert_refused("per = \"gpu\"\neffect = \"hang\"", "0 rates (exactly one of");
    assert_refused(&format!("{GOOD}\nmtbf = \"1d\""), "2 rates (exactly one of");
    assert_refused("per = \"gpu\"\nrate = -1\neffect = \"hang\"", "a number from 0");
    assert_refused("per = \"gpu\"\nrate = 1e9\neffect = \"hang\"", "a number from 0");
    assert_refused("per = \"gpu\"\nrate = nan\neffect = \"hang\"", "is NaN");
    assert_refused("per = \"gpu\"\nmtbf = \"0s\"\neffect = \"hang\"", "the mtbf is nothing");
    assert_refused("per = \"gpu\"\nshare = 1\neffect = \"hang\"", "add a table [total]");
    assert_refused(
        &format!("{GOOD}\nshape = {{ wear = {{ k = 2, life = \"9d\" }} }}"),
        "`wear` has its rate",
    );
}

#[test]
fn shares_that_do_not_add_up_are_refused_at_the_total() {
    let total = "total = { rate = 8, gpus_per_node = 8, source = \"a test\" }\n";
    let half = cause("c", "per = \"node\"\nshare = 0.5\neffect = \"hang\"");
    assert!(error(&(total.to_string() + &half)).contains("add up to 0.500 (they are shares"));
    let of_pdu = cause("c", "per = \"pdu\"\nshare = 1\neffect = \"hang\"");
    assert!(error(&(total.to_string() + &of_pdu)).contains("a pdu is more than that"));
    assert!(error(&(total.to_string() + &cause("c", GOOD))).contains("no cause has a share"));
}

#[test]
fn shapes_and_effects_out_of_bounds_are_refused() {
    let shape =
        |shape: &str, words: &str| assert_refused(&format!("{GOOD}\nshape = {shape}"), words);
    shape("{ infant = { factor = 0.5, time_constant = \"9d\" } }", "the factor of `infant` is 0.5");
    shape("{ infant = { factor = 5, time_constant = \"0d\" } }", "a time constant of nothing");
    let effect = |effect: &str, words: &str| {
        assert_refused(&format!("per = \"gpu\"\nrate = 1\neffect = {effect}"), words);
    };
    effect("{ slow = { factor = [0.9, 1.2] } }", "the factor of `slow` is 0.9");
    effect("{ slow = { factor = [1.5, 1.2] } }", "the factor of `slow` is 1.2");
    effect("{ crash = { code = 0 } }", "exit status 0 is no crash");
    effect("{ crash = { signal = 99 } }", "there is no signal 99");
    effect("{ crash = \"lost\" }", "write `crash = { code = 1 }`");
    effect("{ link_flap = { pause = { fixed = \"1s\" } } }", "a link_flap needs no repair");
    assert_refused(
        "per = \"gpu\"\neffect = \"hang\"\nshape = { wear = { k = 1, life = \"9d\" } }",
        "nothing wears out so",
    );
    assert_refused(&format!("{GOOD}\nreach = \"link\""), "a gpu does not reach a link");
    assert_refused(
        &format!("{GOOD}\nrecurs = {{ chance = 0.95, within = \"7d\" }}"),
        "the chance of `recurs` is 0.95",
    );
}

#[test]
fn names_that_are_not_there_or_twice_are_refused() {
    let with = |detect: &str, repair: &str| {
        error(&format!(
            "[[causes]]\nname = \"c\"\nsource = \"a test\"\n{GOOD}\n{detect}\n{repair}\n"
        ))
    };
    assert!(with("detect = \"dd\"", "repair = \"r\"").contains("did you mean `d`?"));
    assert!(with("detect = \"d\"", "repair = \"zzzzzz\"").contains("add a table [[repairs]]"));
    assert!(with("", "repair = \"r\"").contains("does not say how it is noticed"));
    assert!(with("detect = \"d\"", "").contains("does not say what mends it"));
    let twice = cause("c", GOOD) + &cause("c", GOOD);
    assert!(error(&twice).contains("two entries are named `c`"));
    assert!(error(&cause(" ", GOOD)).contains("a name is empty"));
}

#[test]
fn every_rate_needs_a_source() {
    let text = cause("c", GOOD).replace("a test", " ");
    assert!(error(&text).contains("write `assumed: ` and the reason"));
    let missing = cause("c", GOOD).replace("source = \"a test\"\n", "");
    assert!(error(&missing).contains("missing field `source`"));
}

#[test]
fn detections_repairs_and_delays_out_of_bounds_are_refused() {
    for (text, words) in [
        (
            "detections = [{ name = \"x\", after = { fixed = \"1m\" }, seen = 1.5, source = \"s\" }]",
            "`seen` is 1.5",
        ),
        (
            "detections = [{ name = \"x\", after = { uniform = [\"2m\", \"1m\"] }, seen = 1, source = \"s\" }]",
            "write the shorter span first",
        ),
        (
            "detections = [{ name = \"x\", after = { exponential = \"0s\" }, seen = 1, source = \"s\" }]",
            "write `fixed = \"0s\"`",
        ),
        (
            "detections = [{ name = \"x\", after = { lognormal = { median = \"2m\", p95 = \"1m\" } }, seen = 1, source = \"s\" }]",
            "a p95 above the median",
        ),
        (
            "repairs = [{ name = \"x\", source = \"s\", by = [{ kind = \"reboot\", chance = 1.0 }] }]",
            "a reboot takes time",
        ),
        (
            "repairs = [{ name = \"x\", source = \"s\", by = [{ kind = \"process_restart\", chance = 0.9 }] }]",
            "add up to 0.9",
        ),
        ("repairs = [{ name = \"x\", source = \"s\", by = [] }]", "nothing mends it"),
    ] {
        let error = parse(&format!("about = \"a test\"\n{text}\n")).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.place.is_some() && error.hint.is_some(), "{error}");
    }
}

#[test]
fn lemons_and_lots_out_of_bounds_are_refused() {
    let lemons = "lemons = { share = 2, factor = 5, source = \"a test\" }\n";
    assert!(error(&(lemons.to_string() + &cause("c", GOOD))).contains("the share of lemons is 2"));
    let lot = |keys: &str| {
        let pdu = cause("p", "per = \"pdu\"\nrate = 1\neffect = \"hang\"");
        let lot = "[[lots]]\nname = \"l\"\nsource = \"a test\"\n";
        error(&(cause("c", GOOD) + &pdu + lot + keys))
    };
    assert!(lot("share = 0.1\nfactor = 2\ncauses = [\"cc\"]").contains("did you mean `c`?"));
    assert!(lot("share = 0.1\nfactor = 2\ncauses = []").contains("a lot of no cause"));
    assert!(lot("share = 0.1\nfactor = 2\ncauses = [\"p\"]").contains("a lot is of nodes"));
    assert!(lot("share = 0.1\nfactor = 0\ncauses = [\"c\"]").contains("the factor of a lot is 0"));
    assert!(lot("share = 0.1\nfactor = 2\nby = \"leaf\"\ncauses = [\"c\"]").contains("by leaf"));
}

proptest! {
    /// However a ready-made profile is spoiled, reading it ends in a profile or in an error that
    /// says where.
    #[test]
    fn a_spoiled_profile_is_an_error_and_no_panic(
        which in 1..ready::ALL.len(),
        at in any::<prop::sample::Index>(),
        gone in 0_usize..40,
        put in "[a-z0-9=\\[\\]{}\", .-]{0,8}",
    ) {
        let text = ready::ALL[which].1;
        let at = at.index(text.len());
        let start = (0..=at).rev().find(|&i| text.is_char_boundary(i)).unwrap();
        let end = (start + gone..text.len()).find(|&i| text.is_char_boundary(i));
        let end = end.unwrap_or(text.len());
        let spoiled = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Err(error) = parse(&spoiled) {
            prop_assert!(!error.message.is_empty());
            let text = error.to_string();
            prop_assert!(text.starts_with("faults.toml:"), "{}", text);
        }
    }

    /// Numbers of any size are a rate or an error.
    #[test]
    fn any_number_is_a_rate_or_refused(rate in any::<f64>(), factor in any::<f64>()) {
        let keys = format!(
            "per = \"gpu\"\nrate = {rate:?}\neffect = \"hang\"\n\
             shape = {{ infant = {{ factor = {factor:?}, time_constant = \"9d\" }} }}"
        );
        let text = format!("{REST}{}", cause("c", &keys)).replace("NaN", "nan");
        match parse(&text) {
            Ok(profile) => {
                let hazard = profile.causes[0].hazard;
                prop_assert!((0.0..=100.0).contains(&hazard.per_day));
                prop_assert!(hazard.at(0.0).is_finite());
            }
            Err(error) => prop_assert!(error.place.is_some()),
        }
    }
}

#[test]
fn the_example_of_the_manual_is_a_profile_and_has_faults() {
    let manual = include_str!("../../../../../docs/fault-profile.md");
    let text = manual.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let profile = parse(text).unwrap_or_else(|error| panic!("{error}"));
    let plan = FaultPlan::new(&profile, &fleet(1024), 1, Time::ZERO, days(365)).unwrap();
    assert_eq!(plan.causes_without_units(), [0_usize; 0]);
    for (index, cause) in profile.causes.iter().enumerate() {
        let has_one = plan.faults().iter().any(|fault| usize::from(fault.cause) == index);
        assert!(has_one || plan.expected(index) < 5.0, "no {} in a year", cause.name);
    }
    // Every profile that ships stands in its table.
    assert!(ready::ALL.iter().all(|(name, _)| manual.contains(&format!("| `{name}` |"))));
}
