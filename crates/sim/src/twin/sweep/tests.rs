use super::*;
use crate::reliability::FaultPlan;
use std::io;

const TEXT: &str = r#"about = "a small one"
until = "6d"

[fleet]
nodes = 24
gpus = 8

[faults]
profile = "rsc-1"
scale = 30

[[jobs]]
name = "main"
nodes = 16
checkpoint = { every = "20m" }
"#;

fn no_files(_: &str) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn sweep(keys: &[&str], seeds: &[u64]) -> Result<Sweep, Invalid> {
    let keys = keys.iter().map(|key| key.parse().unwrap()).collect();
    Sweep::new(TEXT, keys, seeds.to_vec(), &no_files)
}

fn play(sweep: &Sweep, metric: &str) -> Curve {
    let scenario = sweep.scenario(&sweep.points[0], &no_files).unwrap();
    let metric = Metric::parse(metric, &scenario).unwrap();
    let play = |run| sweep.play(run, &metric, &no_files, &mut |_| {}).unwrap();
    let played = (0..sweep.runs()).map(play).collect();
    Curve::new(sweep, metric, played)
}

fn plan(sweep: &Sweep, point: usize, seed: u64) -> FaultPlan {
    let scenario = sweep.scenario(&sweep.points[point], &no_files).unwrap();
    scenario.setup(seed).unwrap().faults
}

#[test]
fn points_share_their_faults_and_a_higher_rate_only_adds_some() {
    let spares = sweep(&["policy.spares=0,2,4"], &[5]).unwrap();
    let first = plan(&spares, 0, 5);
    assert!(first.faults().len() > 10);
    for point in 1..3 {
        assert_eq!(plan(&spares, point, 5).faults(), first.faults());
    }
    let rates = sweep(&["faults.scale=10..40*2"], &[5]).unwrap();
    let (few, many) = (plan(&rates, 0, 5), plan(&rates, 1, 5));
    assert!(few.faults().len() < many.faults().len());
    assert!(few.faults().iter().all(|fault| many.faults().contains(fault)));
}

#[test]
fn the_curve_is_in_the_order_of_the_points_and_knows_its_best() {
    let sweep = sweep(&["jobs.main.checkpoint.every=5m,20m,4h"], &[1, 2, 3, 4]).unwrap();
    let curve = play(&sweep, "ettr");
    let means: Vec<f64> = curve.points.iter().map(|point| point.mean.unwrap()).collect();
    assert!(means[2] < means[0].min(means[1]), "four hours are lost at each fault: {means:?}");
    assert_eq!(curve.points[2].standing, curve::Standing::Worse);
    let best = curve.best().unwrap();
    assert!((best.mean.unwrap() - means.iter().copied().fold(0.0, f64::max)).abs() < 1e-12);
    for point in &curve.points {
        let interval = point.interval.unwrap();
        assert!(interval.contains(point.mean.unwrap()) && point.runs.len() == 4);
        assert!((point.shares.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
    }
    let csv = String::from_utf8(curve.csv()).unwrap();
    assert_eq!(csv.lines().count(), 4);
    assert!(csv.starts_with("jobs.main.checkpoint.every,ettr.main,low,high,seeds,standing,"));
    assert!(csv.lines().nth(1).unwrap().starts_with("300,0."), "{csv}");
}

#[test]
fn two_keys_make_a_line_for_each_value_of_the_second_on_a_page_that_loads_nothing() {
    let sweep = sweep(&["policy.spares=0,2", "faults.scale=10,30"], &[1, 2]).unwrap();
    let names: Vec<String> = sweep.points.iter().map(|point| sweep.name_of(point)).collect();
    assert_eq!(
        names,
        [
            "policy.spares=0, faults.scale=10",
            "policy.spares=2, faults.scale=10",
            "policy.spares=0, faults.scale=30",
            "policy.spares=2, faults.scale=30"
        ]
    );
    let curve = play(&sweep, "goodput");
    let scenario = sweep.scenario(&sweep.points[0], &no_files).unwrap();
    let about =
        page::About { name: "s<1>.toml", text: TEXT, scenario: &scenario, command: "lindos …" };
    let page = page::page(&about, &curve);
    assert_eq!(page.matches("<path class=\"error series-").count(), 4, "{page}");
    assert_eq!(page.matches("<path class=\"line series-").count(), 4, "two lines and two keys");
    assert!(page.contains("s&lt;1&gt;.toml") && page.contains("arXiv:2410.21680"), "its sources");
    assert!(page.contains("profile = &quot;rsc-1&quot;"), "the scenario, as it stands");
    assert!(!page.contains("<script") && !page.contains("src="), "it loads nothing");
}

#[test]
fn fractions_become_whole_where_a_key_counts_and_stay_where_it_does_not() {
    let values = |key: &str| {
        let sweep = sweep(&[key], &[1]).unwrap();
        sweep.points.iter().map(|point| point.0[0].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(values("policy.spares=0..5:5"), ["0", "1", "3", "4", "5"]);
    assert_eq!(values("policy.spares=1..2:4"), ["1", "2"], "each once");
    assert_eq!(values("faults.scale=1..2:3"), ["1", "1.5", "2"]);
}

#[test]
fn what_cannot_be_varied_is_told_before_anything_is_played() {
    for (keys, expected) in [
        (vec!["jobs.mian.nodes=1..4"], "`jobs` has no entry `mian`"),
        (vec!["policy.spars=1..4"], "unknown field `spars`"),
        (vec!["fleet=1..4"], "is no number and no time"),
        (vec!["jobs.main.nodes=8..64*2"], "jobs.main.nodes=32: main: it wants 32 nodes"),
        (vec!["faults.scale=1,2", "faults.scale=3,4"], "is varied twice"),
        (vec!["until=1..4"], "until=1: "),
    ] {
        let error = sweep(&keys, &[1]).unwrap_err();
        assert!(error.message.contains(expected), "{keys:?}: {error:?}");
    }
}
