//! Fleet scenarios as a person and as a program see them: `sim run`, `sim sweep`, `bench sim`.

mod support;

use support::Lab;

const SMALL: &str = r#"about = "a small one"
until = "4d"
seed = 3

[fleet]
nodes = 16
gpus = 8

[faults]
profile = "rsc-1"
scale = 30

[prices]
gpu_hour = 2.5
currency = "EUR"

[[jobs]]
name = "main"
nodes = 12
checkpoint = { every = "20m" }

[[jobs]]
name = "small"
count = 10
spread = "2d"
nodes = [1, 2]
days = [0.1, 0.4]
checkpoint = { every = "30m" }
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("small.toml", SMALL);
    lab
}

#[test]
fn a_program_gets_the_ledger_as_goodput_has_it_and_every_job() {
    let lab = lab();
    let told = lab.json(["sim", "run", "small.toml"]);
    let four_days_ms = 4 * 86_400_000_u64;
    assert_eq!(told["total_gpu_ms"], 128 * four_days_ms);
    let columns = told["columns"].as_object().unwrap();
    let sum: u64 = columns.values().map(|ms| ms.as_u64().unwrap()).sum();
    assert_eq!(sum, 128 * four_days_ms);
    assert!(told["goodput"].as_f64().is_some_and(|share| share > 0.3 && share < 1.0));
    assert!(told["stranded_by"].is_object());
    assert_eq!(told["at"], four_days_ms);
    assert_eq!(
        (&told["nodes"], &told["gpus"], &told["seed"]),
        (&16.into(), &128.into(), &3.into())
    );
    let jobs = told["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 11);
    let main = jobs.iter().find(|job| job["name"] == "main").unwrap();
    assert!(main["ettr"].is_f64() && main["interruptions"].as_u64().is_some_and(|n| n > 0));
    for key in ["replicas_lost", "steps_saved", "submitted_ms", "total_gpu_ms", "gpus"] {
        assert!(main[key].is_u64(), "{key}: {}", main[key]);
    }
    let total = told["cost"]["total"].as_f64().unwrap();
    assert!((total - 128.0 * 96.0 * 2.5).abs() < 1e-6, "{total}");
    let faults = told["faults"].as_array().unwrap();
    assert!(faults.iter().any(|fault| fault["struck"].as_u64() > Some(0)));
    let again = lab.json(["sim", "run", "small.toml"]);
    assert_eq!(told["digest"], again["digest"]);
    assert_ne!(told["digest"], lab.json(["sim", "run", "small.toml", "--seed", "4"])["digest"]);
}

#[test]
fn a_person_gets_tables_that_fit_and_the_speed_on_stderr() {
    let lab = lab();
    let ended = lab.output(["sim", "run", "small.toml"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);
    for words in ["16x8: 16 nodes, 128 GPUs", "EUR", "30,720", "small: 10 jobs: ", "HIT A JOB"] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("events, "), "{}", ended.stderr);
}

#[test]
fn several_seeds_give_means_with_intervals() {
    let lab = lab();
    let told = lab.json(["sim", "run", "small.toml", "--seeds", "3"]);
    assert_eq!(told["seeds"], serde_json::json!([3, 4, 5]));
    let goodput = |key: &str| told["goodput"][key].as_f64().unwrap();
    assert!(goodput("low") < goodput("mean") && goodput("mean") < goodput("high"));
    let runs = told["runs"].as_array().unwrap();
    let sum: f64 = runs.iter().map(|run| run["goodput"].as_f64().unwrap()).sum();
    assert!((sum / 3.0 - goodput("mean")).abs() < 1e-12);
    assert_eq!(told["jobs"][1]["jobs"], 10);
    assert!(told["columns"]["lost"]["mean"].is_f64());
    let one_thread = ["sim", "run", "small.toml", "--seeds", "3", "--threads", "1"];
    assert_eq!(told["runs"], lab.json(one_thread)["runs"]);
    let ended = lab.output(["sim", "run", "small.toml", "--seeds", "3"]);
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);
}

#[test]
fn a_sweep_gives_a_curve_a_table_and_a_page() {
    let lab = lab();
    let words = "sim sweep small.toml --vary jobs.main.checkpoint.every=10m..4h*6 --seeds 3 \
                 --of ettr --html page.html --csv points.csv";
    let words: Vec<&str> = words.split_whitespace().collect();
    let told = lab.output(words.iter().copied().chain(["--json"]));
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let points = told["points"].as_array().unwrap();
    assert_eq!(points.len(), 2);
    assert_eq!(points[0]["values"]["jobs.main.checkpoint.every"]["ms"], 600_000);
    for key in ["mean", "low", "high"] {
        assert!(points[0][key].is_f64(), "{key}: {}", points[0]);
    }
    assert_eq!(points[0]["by_seed"].as_array().map(Vec::len), Some(3));
    assert_eq!((&told["best"], &told["of"]), (&0.into(), &"ettr.main".into()));
    let ended = lab.output(words);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.lines().take(3).all(|line| line.chars().count() <= 80));
    assert!(ended.stdout.contains("The highest ettr.main is at jobs.main.checkpoint.every=10m"));
    let page = std::fs::read_to_string(lab.path("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("lindos sim sweep small.toml --vary"));
    assert_eq!(std::fs::read_to_string(lab.path("points.csv")).unwrap().lines().count(), 3);
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let lab = lab();
    lab.write("bad.toml", SMALL.replace("nodes = 12", "nodes = 120"));
    lab.output(["sim", "run", "bad.toml"])
        .fails(2, &["bad.toml:18:8: main: it wants 120 nodes", "hint: "]);
    let sweep = |words: &str| {
        lab.output(format!("sim sweep small.toml {words}").split_whitespace().map(String::from))
    };
    sweep("--vary policy.spares=0..4 --of ettrs").fails(2, &["did you mean `ettr`?"]);
    sweep("--vary policy.spares=0..4 --of ettr.mian").fails(2, &["its jobs: main, small"]);
    sweep("--vary policy.spars=0..4").fails(2, &["unknown field `spars`", "hint: "]);
    sweep("--vary policy.spares=4..0").fails(2, &["FROM is the smaller one"]);
    sweep("--vary a=1,2 --vary b=1,2 --vary c=1,2").fails(2, &["more than twice"]);
    lab.write("old.toml", "about = \"a\"\nlimit = \"1h\"\n");
    lab.output(["sim", "run", "old.toml"]).fails(2, &["missing field `jobs`"]);
}

#[test]
fn the_bench_of_the_twin_has_its_figures() {
    let told = Lab::new().json(["bench", "sim", "--quick", "--case", "16k"]);
    let keys: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected =
        ["name", "gpus", "days", "wall_s", "events_per_s", "gpu_hours_per_s", "rss_mb", "goodput"];
    expected.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&told["name"], &told["gpus"]), (&"16k".into(), &16_384.into()));
    for key in ["wall_s", "events_per_s", "gpu_hours_per_s", "rss_mb", "goodput"] {
        assert!(told[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {}", told[key]);
    }
}
