//! Jobs in trouble, from the trouble to the verdict: real processes.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};
use support::{Lab, kill};

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
