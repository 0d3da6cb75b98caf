//! Jobs in trouble, from the trouble to the verdict: real processes.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::{Lab, Running, kill, repository, steps};

/// Four ranks that step one after the other, as a token goes round; whoever waits for it sleeps.
const RING: &str = "r=$LINDOS_RANK; d=$LINDOS_CHECKPOINT_DIR/$LINDOS_EPOCH; mkdir -p $d; \
                    mkfifo $d/$r; exec 3<>$d/$r; next=$d/$(((r + 1) % LINDOS_WORLD_SIZE)); \
                    while ! [ -p $next ]; do sleep 0.05; done; exec 4<>$next; \
                    if [ $r = 0 ]; then echo go >&3; fi; i=0; \
                    while read t <&3; do i=$((i+1)); echo step $i loss 1.5; sleep 0.02; \
                    echo go >&4; done";

#[test]
fn a_rank_that_is_stopped_is_a_hang_within_seconds() {
    let lab = Lab::new();
    let job = lab.job("ring", 4, RING, "");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 2);
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(20));
    kill(i32::try_from(rank["pid"].as_i64().unwrap()).unwrap(), Signal::STOP);
    let stopped = Instant::now();
    let fault = run.wait_for("fault", |_| true);
    let took = stopped.elapsed();
    println!("the hang was called {took:?} after the rank was stopped: {fault}");
    assert!(fault["reason"]["hang"].is_object(), "{fault}");
    // Five seconds, the interval of progress, and what a machine under tests takes.
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(12), "{took:?}");
    run.wait_for("progress", |line| line["epoch"] == 2);
    run.signal(Signal::INT);
    assert_eq!(run.end().code, 130);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

/// The same, with a rank that has more to do in each step than the others, by itself.
fn ring_with_slow(rank: u32) -> String {
    let busy =
        format!("if [ $r = {rank} ]; then j=0; while [ $j -lt 100000 ]; do j=$((j+1)); done; fi; ");
    RING.replace("sleep 0.02; ", &format!("sleep 0.02; {busy}"))
}

#[test]
fn the_rank_that_the_others_wait_for_is_named_and_no_other() {
    let lab = Lab::new();
    let job = lab.job("ring", 4, &ring_with_slow(2), "");
    let mut command = lab.lindos(["run", job.to_str().unwrap(), "--json"]);
    // Two readings: shorter windows would say it sooner, of nothing.
    command.env("LINDOS_STRAGGLER_WINDOW_MS", "8000");
    let mut run = Running::start(command);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 2);
    // Three windows, and those in which this machine had no time for any rank.
    let seen = run.wait_for_long("straggler_seen", |_| true);
    assert_eq!((&seen["straggler"]["rank"], &seen["node"]), (&2.into(), &rank["node"]), "{seen}");
    assert_eq!(seen["straggler"]["sign"], "waits_least", "{seen}");
    assert!(seen["text"].as_str().unwrap().contains("slows its job down"), "{seen}");
    // It is shown, and stays the only one.
    let job = lab.json(["job", "1"]);
    assert_eq!(job["straggler"]["node"], rank["node"], "{job}");
    let step = job["step"].as_u64().unwrap();
    run.wait_for("progress", |line| line["step"].as_u64() > Some(step));
    run.signal(Signal::INT);
    let ended = run.end();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(ended.stdout.matches("\"straggler_seen\"").count(), 1, "{}", ended.stdout);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

/// Four ranks that meet in each step.
const MEET: &str = r#"
import os, time
import lindos

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
folder = os.environ["LINDOS_CHECKPOINT_DIR"]

def at(other):
    try:
        with open(f"{folder}/{lindos.epoch()}-{other}") as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0

def all_reduce(step, wait):
    mine = f"{folder}/{lindos.epoch()}-{rank}"
    with open(mine + ".new", "w") as file:
        file.write(str(step))
    os.replace(mine + ".new", mine)
    while any(at(other) < step for other in range(world)):
        wait()
"#;

/// After the tenth step one does not come, and all of them sleep.
const HANG: &str = r"
def nap():
    time.sleep(0.02)

def shuffle(step):
    while rank == 2 and step == 11 and lindos.epoch() == 1:
        nap()

for step in range(1, 1000):
    shuffle(step)
    all_reduce(step, nap)
    lindos.step(step, loss=1.5)
    time.sleep(0.05)
";

/// One has more to do, and the others never sleep as they wait for it.
const SPIN: &str = r"
def work(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass

for step in range(1, 100_000):
    work(0.3 if rank == 1 else 0.05)
    with lindos.waiting():
        all_reduce(step, lambda: None)
    lindos.step(step, loss=1.5)
";

/// A job of so many ranks of a script that tells its steps itself.
fn job_with_package(lab: &Lab, ranks: u32, script: &str) -> PathBuf {
    let script = lab.write("script.py", format!("{MEET}{script}"));
    let package = repository().join("python");
    let command = format!("PYTHONPATH={} exec python3 {}", package.display(), script.display());
    let job = lab.job("meets", ranks, &command, "");
    // The package tells steps; there is no pattern.
    let text = std::fs::read_to_string(&job).unwrap();
    lab.write("meets.toml", text.split("[progress]").next().unwrap())
}

#[test]
fn of_ranks_that_spin_as_they_wait_the_slow_one_is_named_where_they_tell_it() {
    let lab = Lab::new();
    let job = job_with_package(&lab, 2, SPIN);
    let mut command = lab.lindos(["run", job.to_str().unwrap(), "--json"]);
    command.env("LINDOS_STRAGGLER_WINDOW_MS", "8000");
    let mut run = Running::start(command);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 1);
    let seen = run.wait_for_long("straggler_seen", |_| true);
    assert_eq!((&seen["straggler"]["rank"], &seen["node"]), (&1.into(), &rank["node"]), "{seen}");
    assert!(seen["straggler"]["peers"].as_u64() > Some(500), "{seen}");
    run.signal(Signal::INT);
    assert_eq!(run.end().code, 130);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

#[test]
fn in_a_hang_the_rank_that_is_not_where_the_others_are_is_blamed() {
    let lab = Lab::new();
    let job = job_with_package(&lab, 4, HANG);
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 2);
    let fault = run.wait_for_long("fault", |_| true);
    assert!(fault["reason"]["hang"].is_object(), "{fault}");
    run.wait_for("progress", |line| line["epoch"] == 2);
    let job = lab.json(["job", "1"]);
    let blame = &job["attempts"][0]["blame"];
    assert_eq!(blame["culprit"]["node"], rank["node"], "{blame}");
    let clues = blame["clues"].as_array().unwrap();
    let outside = clues.iter().find_map(|clue| clue["sign"].get("outside_collective"));
    let outside = outside.unwrap_or_else(|| panic!("no word of stacks: {blame}"));
    assert_eq!((&outside["rank"], &outside["place"]), (&2.into(), &"elsewhere".into()), "{blame}");
    run.signal(Signal::INT);
    assert_eq!(run.end().code, 130);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

/// Replicas in step with each other, but for those whose process is gone: one that stands still holds up
/// the others until then.
const TOGETHER: &str = r#"
import os, time

mine, count = int(os.environ["LINDOS_REPLICA"]), int(os.environ["LINDOS_REPLICAS"])
folder = os.environ["LINDOS_CHECKPOINT_DIR"]

def at(other):
    try:
        with open(f"{folder}/{other}") as file:
            pid, step = map(int, file.read().split())
        os.kill(pid, 0)
        return step
    except OSError:
        return None

def others():
    return [at(other) for other in range(count) if other != mine]

def reach(step):
    with open(f"{folder}/{mine}.new", "w") as file:
        file.write(f"{os.getpid()} {step}")
    os.replace(f"{folder}/{mine}.new", f"{folder}/{mine}")

step = max((step for step in others() if step is not None), default=0)
reach(step)
while os.environ["LINDOS_EPOCH"] == "1" and None in others():
    time.sleep(0.02)
while True:
    step += 1
    reach(step)
    print(f"step {step} loss 1.5", flush=True)
    time.sleep(0.05)
    while any(other is not None and other < step for other in others()):
        time.sleep(0.02)
"#;

#[test]
fn a_replica_that_keeps_the_others_waiting_is_lost_alone() {
    let lab = Lab::new();
    let script = lab.write("together.py", TOGETHER);
    let command = format!("exec python3 {}", script.display());
    let job = lab.job_of_replicas("together", 3, &command, "");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 1);
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(20));
    let before = lab.json(["job", "1"]);
    kill(i32::try_from(rank["pid"].as_i64().unwrap()).unwrap(), Signal::STOP);
    let stopped = Instant::now();
    let lost = run.wait_for("replica_lost", |_| true);
    println!("the replica was dropped {:?} after it was stopped: {lost}", stopped.elapsed());
    assert_eq!((&lost["replica"], &lost["left"]), (&1.into(), &2.into()), "{lost}");
    assert!(lost["reason"]["hang"].is_object(), "{lost}");
    run.wait_for("replica_back", |line| line["replica"] == 1);
    let after = lab.json(["job", "1"]);
    others_went_on(&before, &after);
    assert_eq!(after["attempts"].as_array().map(Vec::len), Some(1), "no attempt is over: {after}");
    run.signal(Signal::INT);
    let ended = run.end();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(!ended.stdout.contains("\"fault\""), "{}", ended.stdout);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

#[test]
fn a_replica_that_stands_still_while_the_others_go_on_is_lost_alone() {
    let lab = Lab::new();
    let more = "hang_timeout = \"3s\"\n";
    let job = lab.job_of_replicas("apart", 3, &steps(100_000, "0.1"), more);
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    let rank = run.wait_for("rank_started", |line| line["rank"] == 1);
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(20));
    let before = lab.json(["job", "1"]);
    kill(i32::try_from(rank["pid"].as_i64().unwrap()).unwrap(), Signal::STOP);
    let lost = run.wait_for("replica_lost", |_| true);
    assert_eq!((&lost["replica"], &lost["left"]), (&1.into(), &2.into()), "{lost}");
    let hang = &lost["reason"]["hang"];
    assert!(hang["silent"].as_u64() >= Some(3000), "{lost}");
    run.wait_for("replica_back", |line| line["replica"] == 1);
    let after = lab.json(["job", "1"]);
    others_went_on(&before, &after);
    let step = |job: &Value| job["step"].as_u64().unwrap();
    assert!(step(&after) >= step(&before) + 20, "it did not wait: {after}");
    run.signal(Signal::INT);
    let ended = run.end();
    assert!(!ended.stdout.contains("\"fault\""), "{}", ended.stdout);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

#[test]
fn a_replica_that_comes_to_no_first_step_while_the_others_train_is_launched_again() {
    let lab = Lab::new();
    let script = format!(
        "tried=$LINDOS_CHECKPOINT_DIR/tried; \
         if [ $LINDOS_REPLICA = 1 ] && ! [ -e $tried ]; then touch $tried; exec sleep 1000; fi; {}",
        steps(100_000, "0.1")
    );
    let job = lab.job_of_replicas("late", 3, &script, "startup_timeout = \"3s\"\n");
    let mut run = lab.start(["run", job.to_str().unwrap(), "--json"]);
    run.wait_for("progress", |line| line["step"].as_u64() >= Some(10));
    let before = lab.json(["job", "1"]);
    let lost = run.wait_for("replica_lost", |_| true);
    assert_eq!((&lost["replica"], &lost["left"]), (&1.into(), &2.into()), "{lost}");
    assert!(lost["reason"]["no_first_step"].is_object(), "{lost}");
    run.wait_for("replica_back", |line| line["replica"] == 1);
    others_went_on(&before, &lab.json(["job", "1"]));
    run.signal(Signal::INT);
    let ended = run.end();
    assert!(!ended.stdout.contains("\"fault\""), "{}", ended.stdout);
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

/// All replicas but the second.
fn others_went_on(before: &Value, after: &Value) {
    for other in [0, 2] {
        assert_eq!(before["ranks"][other]["pid"], after["ranks"][other]["pid"], "it went on");
    }
}

#[test]
fn a_loss_that_turns_to_nan_ends_the_attempt() {
    let lab = Lab::new();
    let script = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); \
                  if [ $i -gt 5 ]; then loss=nan; else loss=2.5; fi; \
                  echo step $i loss $loss; sleep 0.1; done";
    let job = lab.job("nan", 1, script, "[retry]\nuser = 0\n");
    let text = std::fs::read_to_string(&job).unwrap();
    let job = lab.write("nan.toml", text.replace("[0-9.]+)'", "[0-9.]+|nan)'"));
    let ended = lab.output(["run", job.to_str().unwrap(), "--json"]);
    let lines: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fault = lines.iter().find(|line| line["reason"]["loss_broken"].is_object());
    let fault = fault.unwrap_or_else(|| panic!("{ended:?}"));
    assert_eq!(fault["reason"]["loss_broken"]["step"], 6, "{fault}");
}
