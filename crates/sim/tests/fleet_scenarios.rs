//! Every file of `scenarios/fleet/`: it reads, it plays, and what its `about` says to type is so.

use lindos_sim::twin::metric::Metric;
use lindos_sim::twin::scenario::{FleetScenario, edit};
use lindos_sim::twin::sweep::{Sweep, Vary};
use std::path::{Path, PathBuf};

fn all() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/fleet");
    let entries = std::fs::read_dir(&folder).expect("the scenarios are there");
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            (path, text)
        })
        .collect()
}

fn no_files(_: &str) -> std::io::Result<String> {
    Err(std::io::ErrorKind::NotFound.into())
}

/// The same with a day of a small fleet of its own, and every job cut to it.
fn small(text: &str) -> FleetScenario {
    let mut table: toml::Table = text.parse().expect("it is TOML");
    let fleet = "nodes = 64\ngpus = 8\nnodes_per_rack = 4\nracks_per_pdu = 4\n";
    table.insert("fleet".into(), fleet.parse::<toml::Table>().unwrap().into());
    edit::set(&mut table, "until", "1d".into()).unwrap();
    edit::set(&mut table, "faults.scale", 20.0.into()).unwrap();
    if let Some(outages) = table.get_mut("outages").and_then(toml::Value::as_array_mut) {
        for outage in outages {
            outage["at"] = "6h".into();
            outage["power"] = vec!["pdu00001"].into();
        }
    }
    for job in table["jobs"].as_array_mut().expect("there are jobs") {
        let job = job.as_table_mut().expect("jobs are tables");
        if job.contains_key("count") {
            job.insert("count".into(), 20.into());
            job.insert("spread".into(), "20h".into());
        } else if job.contains_key("nodes") {
            job.insert(
                "nodes".into(),
                if job.contains_key("replicas") { 32.into() } else { 48.into() },
            );
        }
    }
    FleetScenario::of_table(table, &no_files).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn every_fleet_scenario_reads_as_it_stands_and_plays_on_a_small_fleet() {
    let all = all();
    assert!(all.len() >= 5, "only {} scenarios", all.len());
    for (path, text) in all {
        FleetScenario::parse(&path, &text, &no_files).unwrap_or_else(|error| panic!("{error}"));
        let figures = small(&text).play(1, &mut |_| {}).expect("a plan of a day");
        let goodput = figures.goodput();
        assert!((0.1..1.0).contains(&goodput), "{}: goodput {goodput}", path.display());
        assert!(figures.refused.is_empty(), "{}: {:?}", path.display(), figures.refused);
    }
}

#[test]
fn what_a_scenario_says_to_type_is_a_sweep_of_it() {
    for (path, text) in all() {
        let table: toml::Table = text.parse().expect("it is TOML");
        let about = table["about"].as_str().expect("a text");
        let name = format!("scenarios/fleet/{}", path.file_name().unwrap().to_string_lossy());
        assert!(about.contains(&format!("lindos sim sweep {name}")), "{name} says how to ask");
        let words: Vec<&str> = about.split(|c: char| c.is_whitespace() || c == '`').collect();
        let after = |flag: &str| -> Vec<String> {
            let at = words.iter().enumerate().filter(|(_, word)| **word == flag);
            let next = at.map(|(index, _)| words[index + 1].trim_end_matches(['.', ':']));
            next.map(ToString::to_string).collect()
        };
        let varied = after("--vary");
        assert!(!varied.is_empty(), "{name} varies something");
        for vary in varied {
            let vary: Vary = vary.parse().unwrap_or_else(|error| panic!("{name}: {vary}: {error}"));
            // The ends will do: a fleet of a million is not read a dozen times.
            let ends = [vary.values.first(), vary.values.last()];
            let values = ends.into_iter().flatten().cloned().collect();
            let vary = Vary { values, ..vary };
            Sweep::new(&text, vec![vary], vec![1], &no_files)
                .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        let scenario = FleetScenario::parse(&path, &text, &no_files).unwrap();
        for metric in after("--of") {
            Metric::parse(&metric, &scenario).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
    }
}
