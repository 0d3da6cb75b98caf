//! Every file of `scenarios/` with the transcript beside it.
//!
//! After a change that is meant: `LINDOS_UPDATE_TRANSCRIPTS=1 cargo test -p lindos-sim`, and read
//! the difference.

use lindos_sim::scenario::{Scenario, transcript};
use std::path::Path;

#[test]
fn every_scenario_plays_as_its_transcript_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let update = std::env::var_os("LINDOS_UPDATE_TRANSCRIPTS").is_some();
    let mut played = 0;
    let mut differing = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the scenarios are there") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let (scenario, setup) = Scenario::parse(&path, &text).unwrap_or_else(|e| panic!("{e}"));
        let said = transcript(&scenario.about, &lindos_sim::run(setup));
        let beside = path.with_extension("out");
        if update {
            std::fs::write(&beside, &said).expect("a writable folder");
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        if said != expected {
            let line = said.lines().zip(expected.lines()).position(|(a, b)| a != b);
            differing.push(format!("{}: first at line {line:?}", beside.display()));
        }
        played += 1;
    }
    assert!(played >= 10, "only {played} scenarios");
    assert!(differing.is_empty(), "transcripts differ:\n{}", differing.join("\n"));
}

#[test]
fn a_scenario_that_makes_no_sense_is_pointed_at() {
    let good = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/rank-killed.toml"),
    )
    .expect("it is there");
    for (from, to, expected) in [
        ("kind = \"kill_rank\"", "kind = \"kill_rnk\"", "did you mean `kill_rank`?"),
        ("rank = 11\n", "", "wants the key `rank`"),
        ("job = \"train\"\n", "job = \"trains\"\n", "there is no job `trains`"),
        ("step = \"1s\"", "step = \"0s\"", "a step takes time"),
        ("spares = 1", "spare = 1", "did you mean `spares`?"),
        ("limit = \"1h\"", "limit = 3600", "rank-killed.toml:5:9"),
    ] {
        let text = good.replace(from, to);
        let error = Scenario::parse(Path::new("rank-killed.toml"), &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{to} gave\n{error}");
    }
}

#[test]
fn a_reservation_that_would_be_refused_is_pointed_at() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/reservation.toml");
    let good = std::fs::read_to_string(path).expect("it is there");
    let again = |name: &str, nodes: &str, at: &str| {
        format!(
            "[[reservations]]\nname = \"{name}\"\nat = \"{at}\"\nmaintenance = true\nnodes = \
             [{nodes}]\nfrom = \"55m\"\nlasts = \"1m\"\n"
        )
    };
    let parse = |text: &str| Scenario::parse(Path::new("reservation.toml"), text);
    for (from, to, expected) in [
        ("\"n3\"]", "\"n9\"]", "demo: there is no node `n9`"),
        ("[\"n2\", \"n3\"]", "[\"n2\", \"n2\"]", "demo: it names no node, or one twice"),
        ("team = \"vision\"\nnodes", "nodes", "it is for a `team`, or `maintenance = true`"),
        ("team = \"vision\"\nnodes", "team = \"audio\"\nnodes", "there is no team `audio`"),
        ("lasts = \"30m\"", "lasts = \"0s\"", "it is over before it begins"),
        ("lasts = \"30m\"", "last = \"30m\"", "did you mean `lasts`?"),
    ] {
        let error = parse(&good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{to} gave\n{error}");
    }
    for (name, nodes, at, expected) in [
        ("psu", "\"n3\"", "40m", Some("psu: n3 is reserved already, by `demo`")),
        ("demo", "\"n0\"", "40m", Some("two reservations have this name")),
        ("psu", "\"n0\"", "40m", None),
        ("psu", "\"n3\"", "50m", None),
    ] {
        let outcome = parse(&format!("{good}\n{}", again(name, nodes, at)));
        match (outcome, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) if error.to_string().contains(expected) => {}
            (outcome, _) => panic!("{name} {nodes} {at} gave {outcome:?}"),
        }
    }
}
