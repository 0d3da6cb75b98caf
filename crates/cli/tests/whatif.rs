//! `lindos whatif`: on a recording of the twin, on the journal of a real run, and on nonsense.

mod support;

use support::Lab;

const SCENARIO: &str = r#"
about = "a test"
until = "10d"
[fleet]
nodes = 24
gpus = 8
nodes_per_rack = 4
[faults]
profile = "rsc-1"
scale = 12.0
[[jobs]]
name = "main"
nodes = 18
priority = 5
checkpoint = { every = "30m" }
[[jobs]]
name = "small"
count = 20
spread = "8d"
nodes = [1, 4]
days = [0.2, 0.9]
checkpoint = { every = "1h" }
"#;

fn recorded() -> Lab {
    let lab = Lab::new();
    lab.write("fleet.toml", SCENARIO);
    let ended = lab.output(["sim", "run", "fleet.toml", "--record", "rec", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    lab
}

#[test]
fn a_recording_is_proved_and_a_change_answered_in_a_table_json_and_a_page() {
    let lab = recorded();
    let run = lab.json(["sim", "run", "fleet.toml"]);
    let same = lab.json(["whatif", "rec"]);
    assert_eq!(same["digest"], run["digest"]);
    assert_eq!(same["proved"].as_array().unwrap().len(), 2);
    assert_eq!(same["twin_distance"], 0.0);
    let hours = run["columns"]["productive"].as_f64().unwrap() / 3_600_000.0;
    let told = same["columns"]["productive"]["recorded"].as_f64().unwrap();
    assert!((hours - told).abs() < 1e-6, "{hours} and {told}");

    let ended = lab.output([
        "whatif",
        "rec",
        "--spares",
        "2",
        "--seeds",
        "3",
        "--gpu-hour-price",
        "2.5",
        "--html",
        "page.html",
    ]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for line in ended.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for words in ["change    spares = 2", "USD AT 2.5 A GPU-HOUR", "assumptions", "3 lives"] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
    let page = std::fs::read_to_string(lab.path("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<h2>Assumptions</h2>"));
    for outside in ["http://", "https://", "<script", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }

    let json = lab.json(["whatif", "rec", "--fault-rate", "2", "--seeds", "4"]);
    let figure = &json["figures"]["interruptions"];
    let of = |key: &str| figure[key].as_f64().unwrap();
    assert!(of("after") > of("before"), "{figure}");
    assert!(of("low") <= of("difference") && of("difference") <= of("high"), "{figure}");
    assert!(json["on_record"].as_object().unwrap().is_empty(), "other faults than those on record");
    let again = lab.json(["whatif", "rec", "--fault-rate", "2", "--seeds", "4"]);
    assert_eq!(json, again, "the same question has the same answer");
}

#[test]
fn the_journal_of_a_real_run_with_a_killed_rank_is_lived_again() {
    let lab = Lab::new();
    let script = "once=$LINDOS_CHECKPOINT_DIR/once; s=0; while [ $s -lt 30 ]; do s=$((s+1)); \
                  sleep 0.1; echo \"step $s loss 1.0\"; \
                  if [ $s = 15 ] && [ $RANK = 1 ] && [ ! -e $once ]; then touch $once; \
                  kill -9 $$; fi; done";
    lab.job("steps", 2, script, "");
    let ended = lab.output(["run", "steps.toml", "--nodes", "3"]);
    assert_eq!(ended.code, 0, "{} {}", ended.stdout, ended.stderr);
    let told = lab.json(["whatif"]);
    assert!(!told["proved"].as_array().unwrap().is_empty());
    assert_eq!(told["incidents"]["rank ended"], 1, "{told}");
    for tale in ["recorded", "before"] {
        assert_eq!(told["figures"]["interruptions"][tale], 1.0, "{tale}");
    }
    // The run is seconds long and the machine may be busy: a tenth is within a second of it.
    assert!(told["twin_distance"].as_f64().unwrap() < 0.1, "{told}");
    let fewer = lab.json(["whatif", "--fault-rate", "0", "--seeds", "2"]);
    assert_eq!(fewer["figures"]["interruptions"]["after"], 0.0);
}

#[test]
fn another_fleet_is_answered_for_and_jobs_without_a_place_are_named() {
    let lab = recorded();
    let json = lab.json(["whatif", "rec", "--fleet", "32x8", "--seeds", "2"]);
    assert_eq!(json["change"][0], "the fleet 32x8 (32 nodes, 256 GPUs)");
    let total = |when: &str| json["total"][when].as_f64().unwrap();
    assert!((total("after") / total("before") - 32.0 / 24.0).abs() < 1e-9, "{json}");
    assert!(json["on_record"].as_object().unwrap().is_empty());
    let said = json["assumptions"].to_string();
    assert!(said.contains("of faults on record none is played under the change"), "{said}");
    for (fleet, what) in [
        ("16x8", "main could never start there"),
        ("cluster-16", "did you mean the ready-made fleet `cluster-16k`?"),
        ("0x8", "--fleet 0x8: "),
        ("99999999999x8", "hint: "),
        ("4x99", "--fleet 4x99: "),
    ] {
        let ended = lab.output(["whatif", "rec", "--fleet", fleet]);
        assert_eq!(ended.code, 2, "{fleet}: {}", ended.stderr);
        assert!(ended.stderr.contains(what) && ended.stderr.contains("hint: "), "{}", ended.stderr);
    }
    let ended = lab.output(["whatif", "rec", "--fleet", "32x8", "--seeds", "0"]);
    assert!(
        ended.code == 2 && ended.stderr.contains("--fleet: there is nothing"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_cannot_be_played_is_refused_with_a_hint() {
    let lab = recorded();
    let refused = |words: &[&str], code: i32, said: &str| {
        let ended = lab.output(words);
        assert_eq!(ended.code, code, "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("hint: "), "{words:?}: {}", ended.stderr);
    };
    refused(&["whatif", "nowhere"], 5, "there is no journal in");
    refused(&["whatif", "rec", "--set", "spare=2"], 2, "did you mean `spares`?");
    refused(&["whatif", "rec", "--nodes", "-24"], 2, "the fleet has 24 nodes");
    refused(&["whatif", "rec", "--fault-rate", "2", "--seeds", "0"], 2, "nothing to play");
    refused(&["whatif", "rec", "--add-job", "none.toml@2h"], 2, "none.toml");
    refused(&["whatif", "rec", "--gpu-hour-price=-1"], 2, "a price is 0 or above");
    refused(&["sim", "run", "fleet.toml", "--record", "rec"], 1, "has a journal already");
    refused(&["sim", "run", "fleet.toml", "--record", "r", "--seeds", "2"], 2, "for one seed");

    let segment = lab.path("rec/journal/00000000000000000001.journal");
    let whole = std::fs::read(&segment).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    refused(&["whatif", "rec"], 5, "is damaged at byte");
    bytes = whole.clone();
    bytes[8] = 9;
    std::fs::write(&segment, &bytes).unwrap();
    refused(&["whatif", "rec"], 5, "hint: ");
    std::fs::write(&segment, &whole[..whole.len() - 40]).unwrap();
    let ended = lab.output(["whatif", "rec"]);
    // What a crash leaves is cut off; a snapshot of what is gone now is no journal's.
    assert!(ended.code == 5 || ended.stderr.contains("never finished"), "{}", ended.stderr);
}
