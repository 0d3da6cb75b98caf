use super::*;
use lindos_model::Column;
use std::io;

const GOOD: &str = r#"about = "a small one"
until = "5d"
seed = 3

[fleet]
nodes = 32
gpus = 8
racks_per_pdu = 2

[faults]
profile = "rsc-1"
scale = 20

[prices]
gpu_hour = 2.0

[[jobs]]
name = "main"
nodes = 24
replicas = 4
min_replicas = 2
checkpoint = { every = "20m" }

[[jobs]]
name = "small"
count = 20
spread = "4d"
nodes = [1, 4]
gpus_per_node = [1, 8]
days = [0.05, 0.5]
time_limit = "1d"
checkpoint = { every = 200, blocks = "5s" }
"#;

fn no_files(_: &str) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn parse(text: &str) -> Result<FleetScenario, String> {
    FleetScenario::parse(Path::new("s.toml"), text, &no_files).map_err(|error| error.to_string())
}

#[test]
fn a_fleet_scenario_is_told_from_the_other_kind() {
    assert!(FleetScenario::is_one(GOOD));
    assert!(!FleetScenario::is_one("about = \"a\"\nlimit = \"1h\"\n[[nodes]]\ncount = 3\n"));
    assert!(!FleetScenario::is_one("[fleet"));
}

#[test]
fn a_scenario_plays_and_its_figures_agree_with_each_other() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!((scenario.nodes(), scenario.gpus()), (32, 256));
    let figures = scenario.play(3, &mut |_| {}).unwrap();
    assert_eq!(figures.refused, Vec::<String>::new());
    assert_eq!(figures.ledger.total(), 256 * figures.ended.0, "every GPU in every millisecond");
    assert_eq!((figures.jobs.len(), figures.groups[0].jobs, figures.groups[1].jobs), (21, 1, 20));
    let main = figures.jobs.iter().find(|job| job.name == "main").unwrap();
    assert_eq!(main.outcome.tally.interruptions, figures.groups[0].interruptions);
    assert_eq!(main.outcome.ettr(), figures.groups[0].ettr());
    let on_jobs: u64 = figures.groups.iter().map(|group| group.ledger.total()).sum();
    let in_ledger = Column::ALL.iter().filter(|c| c.is_on_a_job()).map(|&c| figures.ledger[c]);
    assert_eq!(on_jobs, in_ledger.sum::<u64>());
    let (struck, hit) = figures.faults.iter().fold((0, 0), |(s, h), c| (s + c.struck, h + c.hit));
    assert!(struck > 10 && hit > 0, "{struck} struck, {hit} hit a job");
    let again = scenario.play(3, &mut |_| {}).unwrap();
    assert_eq!(figures.digest, again.digest);
    assert_ne!(figures.digest, scenario.play(4, &mut |_| {}).unwrap().digest);
}

#[test]
fn many_jobs_are_drawn_within_their_ranges_and_more_of_them_leave_the_first_as_they_were() {
    let jobs = |text: &str| parse(text).unwrap().setup(9).unwrap().jobs;
    let few = jobs(GOOD);
    for job in &few[1..] {
        assert!((1..=4).contains(&job.spec.nodes) && (1..=8).contains(&job.spec.gpus_per_node));
        assert!((432..=4320).contains(&job.work.steps), "{}", job.work.steps);
        assert!(job.at.0 <= 4 * 86_400_000);
    }
    let sizes: std::collections::BTreeSet<u32> = few[1..].iter().map(|j| j.spec.nodes).collect();
    assert_eq!(sizes.len(), 4, "of 20 jobs some have each size");
    let more = jobs(&GOOD.replace("count = 20", "count = 30"));
    assert_eq!(more.len(), 31);
    for (one, other) in few.iter().zip(&more) {
        assert_eq!((one.at, &one.spec, &one.work), (other.at, &other.spec, &other.work));
    }
}

#[test]
fn scales_change_rates_and_repairs_of_all_causes_or_of_one() {
    let profile = |faults: &str| parse(&GOOD.replace("scale = 20\n", faults)).unwrap().profile;
    let (plain, scaled) = (profile(""), profile("scale = 2\nrepair_scale = 3\n"));
    for (one, other) in plain.causes.iter().zip(&scaled.causes) {
        assert!((other.hazard.per_day / one.hazard.per_day - 2.0).abs() < 1e-9);
        for (one, other) in one.repair.iter().zip(&other.repair) {
            let (one, other) = (one.takes.mean(), other.takes.mean());
            assert!((other - 3.0 * one).abs() <= 1e-6 * other, "{one} {other}");
        }
    }
    let one = profile("[faults.causes.host]\nscale = 5\n");
    for (plain, one) in plain.causes.iter().zip(&one.causes) {
        let times = if plain.name == "host" { 5.0 } else { 1.0 };
        assert!((one.hazard.per_day / plain.hazard.per_day - times).abs() < 1e-9);
    }
}

#[test]
fn an_outage_takes_the_nodes_of_its_power_down_each_time_and_no_others() {
    let outage = "[[outages]]\nname = \"storm\"\nat = \"1d\"\nevery = \"2d\"\nlasts = \"6h\"\n\
                  power = [\"pdu00001\", \"pdu00003\"]\n";
    let quiet = GOOD.replace("profile = \"rsc-1\"\nscale = 20", "profile = \"none\"");
    let scenario = parse(&format!("{quiet}\n{outage}")).unwrap();
    let setup = scenario.setup(1).unwrap();
    let faults = setup.faults.faults();
    let days: Vec<u64> = faults.iter().map(|fault| fault.at.0 / 86_400_000).collect();
    assert_eq!(days, [1, 1, 3, 3]);
    let nodes: Vec<u32> =
        faults[..2].iter().flat_map(|f| setup.faults.nodes(&f.target)).map(|n| n.0).collect();
    assert_eq!(nodes, [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31]);
    let figures = scenario.play(1, &mut |_| {}).unwrap();
    assert_eq!(
        figures.faults.last().map(|cause| (cause.name.as_str(), cause.struck)),
        Some(("storm", 4))
    );
    let out = figures.ledger[Column::Repair] + figures.ledger[Column::Unpowered];
    let six_hours_twice = 2 * 16 * 8 * 6 * 3_600_000;
    assert!(out <= six_hours_twice && out > six_hours_twice * 95 / 100, "{out}");
}

#[test]
fn a_share_of_the_fleet_is_cut_to_whole_replicas() {
    let nodes = |line: &str| {
        parse(&GOOD.replace("nodes = 24", line)).unwrap().setup(1).unwrap().jobs[0].spec.nodes
    };
    assert_eq!((nodes("share = 0.9"), nodes("share = 1.0"), nodes("share = 0.26")), (28, 32, 8));
}

#[test]
fn what_makes_no_sense_is_pointed_at() {
    for (from, to, expected) in [
        ("until = \"5d\"", "until = \"0s\"", "s.toml:2:9: a run takes some time"),
        ("until = \"5d\"", "until = 5", "s.toml:2:9"),
        ("gpus = 8\n", "", "s.toml:5:1: a fleet has a `name`, or `nodes` and `gpus`"),
        ("nodes = 32\n", "nods = 32\n", "did you mean `nodes`?"),
        (
            "nodes = 32\ngpus = 8\nracks_per_pdu = 2",
            "name = \"cluster-16\"",
            "did you mean the ready-made fleet `cluster-16k`?",
        ),
        ("racks_per_pdu = 2", "racks_per_pdu = 0", "s.toml:8:17: it must be 1 or more"),
        ("\"rsc-1\"", "\"rsc-3\"", "did you mean the ready-made profile `rsc-1`?"),
        ("scale = 20", "scale = -1", "s.toml:12:9: a rate is multiplied by 0 or more"),
        ("scale = 20", "repair_scale = 0", "a time is multiplied by more than 0"),
        ("scale = 20", "[faults.causes.hots]", "did you mean `host`?"),
        ("gpu_hour = 2.0", "gpu_hour = -2.0", "a price is 0 or above"),
        ("nodes = 24", "nodes = 48", "s.toml:18:8: main: it wants 48 nodes, and the fleet has 32"),
        ("nodes = 24", "nodes = 23", "23 nodes cannot be shared by 4 replicas evenly"),
        ("nodes = 24", "nodes = [20, 24]", "a range of nodes cannot be cut into replicas"),
        ("nodes = 24", "share = 1.5", "above 0 and at most 1"),
        ("nodes = 24\n", "", "main: a job has `nodes`, or a `share` of the fleet"),
        ("nodes = [1, 4]", "nodes = [4, 1]", "the first of a range is the smaller one"),
        ("nodes = [1, 4]", "nodes = [1]", "a range is two numbers, such as [1, 32]"),
        ("nodes = [1, 4]", "nodes = \"many\"", "a number, or two of them such as [1, 32]"),
        ("nodes = [1, 4]", "nodes = -4", "s.toml:28:9"),
        ("every = \"20m\"", "every = \"soon\"", "nor \"auto\", nor \"never\""),
        ("every = 200", "every = 0", "after one step or more"),
        ("every = \"20m\"", "every = true", "a span of time such as \"20m\", a number of steps"),
        ("time_limit = \"1d\"", "class = \"gold\"", "small: the policy has no class `gold`"),
        ("days = [0.05, 0.5]", "days = 0.0", "`days` of work are more than 0"),
        ("days = [0.05, 0.5]", "days = 1\nsteps = 5", "give `steps` or `days`, not both"),
        ("count = 20\n", "", "`spread` is for a `count` of jobs"),
        ("name = \"main\"", "name = \"small-7\"", "two jobs are named `small-7`"),
        ("checkpoint = { every = \"20m\" }", "", "missing field `checkpoint`"),
        ("[prices]", "[policy]\nspars = 2\n[prices]", "did you mean `spares`?"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from} is not in it");
        let error = parse(&text).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{to} gave\n{error}");
    }
    let outage = |line: &str| {
        let table = "[[outages]]\nname = \"storm\"\nat = \"1d\"\nlasts = \"6h\"\n";
        parse(&format!("{GOOD}\n{table}{line}\n")).map(|_| ()).unwrap_err()
    };
    assert!(outage("power = [\"pdu1\"]").contains("storm: no PDU is called `pdu1`"));
    assert!(outage("power = [\"pdu1\"]").contains("hint: such as `pdu0000"));
    assert!(outage("power = [\"pdu00001\"]\nevery = \"1h\"").contains("before it is over"));
}

#[test]
fn a_value_is_changed_by_its_path() {
    let mut table: toml::Table = GOOD.parse().unwrap();
    for (path, value) in [
        ("policy.spares", toml::Value::Integer(4)),
        ("jobs.main.checkpoint.every", toml::Value::String("1h".into())),
        ("faults.scale", toml::Value::Float(0.5)),
    ] {
        edit::set(&mut table, path, value.clone()).unwrap();
        assert_eq!(edit::get(&table, path).unwrap(), Some(&value));
    }
    let scenario = FleetScenario::of_table(table.clone(), &no_files).unwrap();
    assert_eq!(scenario.table.policy.spares, 4);
    let setup = scenario.setup(1).unwrap();
    let every = setup.jobs[0].work.checkpoints.every;
    assert_eq!(every, crate::twin::work::Every::Span(Millis(3_600_000)));
    assert_eq!(edit::get(&table, "policy.queue"), Ok(None));
    let error = edit::get(&table, "jobs.mian.nodes").unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("did you mean `jobs.main`?"));
    for path in ["jobs", "jobs.main", "fleet", "until.x"] {
        let error = edit::get(&table, path).unwrap_err();
        assert!(error.message.contains("is no number and no time"), "{path}: {error:?}");
    }
}
