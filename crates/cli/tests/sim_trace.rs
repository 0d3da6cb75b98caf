//! `lindos sim trace` as a person and as a program see it.

mod support;

use support::Lab;

const TRACE: &str = "timestamp,duration,num_gpus,cluster\n\
                     0,100,8,blue\n0,50,16,red\n10,30,4,blue\n20,-1,4,blue\n30,10,99,red\n";

#[test]
fn a_program_gets_the_figures() {
    let lab = Lab::new();
    lab.write("jobs.csv", TRACE);
    let words = ["sim", "trace", "jobs.csv", "--fleet", "2x8", "--policy", "fifo"];
    let told = lab.json(words);
    assert_eq!(
        (&told["jobs"], &told["rejected"], &told["completed"]),
        (&3.into(), &2.into(), &3.into())
    );
    assert_eq!((&told["policy"], &told["gpus"]), (&"fifo".into(), &16.into()));
    assert_eq!(told["wait_s"]["mean"], 80.0);
    assert_eq!(told["makespan_s"], 180.0);
    assert_eq!(told["wait_by_size"][1]["gpus"], "2-8");
    for key in ["utilisation", "slowdown_mean", "stranded_gpu_hours", "lost_gpu_hours", "wall_s"] {
        assert!(told[key].is_f64(), "{key}: {}", told[key]);
    }
    assert_eq!(told["digest"], lab.json(words)["digest"]);
}

#[test]
fn a_person_gets_a_table_that_fits_and_hears_what_was_left_out() {
    let lab = Lab::new();
    lab.write("jobs.csv", TRACE);
    let words =
        ["sim", "trace", "jobs.csv", "--fleet", "2x8", "--compare", "fifo,backfill,default"];
    let ended = lab.output(words.into_iter().chain(["--html", "page.html", "--jobs", "out.csv"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);
    assert!(ended.stdout.contains("1m 20s"), "{}", ended.stdout);
    assert!(ended.stderr.contains("1 row left out: it is larger than the fleet"));
    assert!(ended.stderr.contains("the duration is zero or negative (the first is line 5)"));
    let table = std::fs::read_to_string(lab.path("out.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 3 * 3);
    assert!(table.contains("\nfifo,4,,blue,trace,4,10000,150000,180000,completed,0\n"), "{table}");
    let page = std::fs::read_to_string(lab.path("page.html")).unwrap();
    assert_eq!(page.matches("<svg viewBox=\"0 0 900").count(), 3);
    assert!(page.contains("<th>backfill</th>"));
    assert!(!page.contains("<script") && !page.contains("http"), "it loads nothing");
    let runs = lab.json(words);
    assert_eq!(runs.as_array().map(Vec::len), Some(3));
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let lab = Lab::new();
    lab.write("jobs.csv", TRACE);
    lab.write("empty.csv", "");
    lab.write("other.csv", "when,how long\n1,2\n");
    lab.write("bad.csv.gz", [0x1f, 0x8b, 8, 0, 1, 2]);
    let trace = |file: &str, more: &[&str]| {
        let words = ["sim", "trace", file, "--fleet", "2x8"];
        lab.output(words.iter().chain(more))
    };
    trace("nowhere.csv", &[]).fails(2, &["nowhere.csv: ", "hint: "]);
    trace("empty.csv", &[]).fails(2, &["empty.csv: the file is empty", "hint: "]);
    trace("other.csv", &[])
        .fails(2, &["the header has when, how long", "hint: name it: --columns"]);
    trace("bad.csv.gz", &[]).fails(2, &["the gzip data is damaged", "hint: "]);
    trace("jobs.csv", &["--policy", "fiffo"]).fails(2, &["hint: did you mean `fifo`?"]);
    trace("jobs.csv", &["--columns", "sumbit=x"]).fails(2, &["did you mean `submit`?"]);
    trace("jobs.csv", &["--columns", "submit=x"]).fails(2, &["there is no column `x`"]);
    trace("jobs.csv", &["--limit", "soon"]).fails(2, &["given, exact, factor:F, classes, none"]);
    trace("jobs.csv", &["--html", "no/such/folder"]).fails(1, &["hint: give another --html FILE"]);
    lab.write("policy.toml", "spars = 1\n");
    trace("jobs.csv", &["--policy", "policy.toml"]).fails(2, &["did you mean `spares`?"]);
    let words = ["sim", "trace", "jobs.csv", "--fleet", "0x8"];
    lab.output(words).fails(2, &["--fleet 0x8: a fleet has at least one node", "hint: "]);
    lab.write("large.csv", "submit,duration,gpus\n1,1,99\n");
    trace("large.csv", &[]).fails(2, &["larger than the fleet", "hint: "]);
}
