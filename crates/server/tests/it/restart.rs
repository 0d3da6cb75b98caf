//! Control planes that die, stop, and come back.

use crate::bench::{BOUND, Bench, NotingFencer, config, soon};
use lindos_model::{Exit, JobState, Policy};
use lindos_server::{Location, read_offline};
use std::sync::Arc;

#[tokio::test]
async fn a_submission_that_was_answered_survives_a_kill() {
    let mut bench = Bench::new().await;
    let job = bench.submit(1, 1).await;
    bench.kill();
    bench.restart().await;
    let jobs = bench.client().jobs().await.unwrap();
    assert_eq!((jobs.len(), jobs[0].job, jobs[0].state), (1, job, JobState::Queued));
    assert_eq!(bench.submit(1, 1).await, job + 1, "an id is never used twice");
}

#[tokio::test]
async fn a_running_job_is_adopted_and_its_end_is_learnt() {
    let mut bench = Bench::new().await;
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    let job = bench.submit(1, 1).await;
    let launch = agent.launch().await;
    agent.runs(&launch);
    agent.say().await;
    let before = bench.client().job(job).await.unwrap().summary;

    bench.kill();
    bench.restart().await;
    let adopted = bench.client().job(job).await.unwrap().summary;
    assert_eq!((adopted.state, adopted.epoch), (JobState::Running, 1));
    assert_eq!(adopted.started_at, before.started_at);

    // It ends while there is no control plane to tell.
    bench.kill();
    agent.ended(&Exit::Code(0));
    bench.restart().await;
    let mut agent = agent.reconnect(bench.server()).await;
    agent.say().await;
    let over = bench.client().job(job).await.unwrap().summary;
    assert_eq!((over.state, over.epoch), (JobState::Completed, 1));
    assert_eq!(over.started_at, before.started_at);
}

#[tokio::test]
async fn a_clean_stop_leaves_a_snapshot_and_no_address() {
    let mut bench = Bench::new().await;
    let job = bench.submit(1, 1).await;
    let location = Location::read(bench.state.path()).unwrap().unwrap();
    assert_eq!((location.url.as_str(), location.pid), (bench.server().url(), std::process::id()));
    bench.server.take().unwrap().stop().await;
    assert_eq!(Location::read(bench.state.path()).unwrap(), None);
    let files = std::fs::read_dir(bench.state.path().join("journal")).unwrap();
    let names: Vec<String> =
        files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.contains("snapshot")), "{names:?}");

    let offline = read_offline(bench.state.path()).unwrap();
    assert_eq!(offline.jobs()[0].job, job);
    assert_eq!(offline.why(job).unwrap().state, JobState::Queued);
    assert!(offline.events(0, Some(job)).iter().any(|event| event.kind == "submitted"));

    bench.restart().await;
    assert_eq!(bench.client().jobs().await.unwrap()[0].job, job);
}

#[tokio::test]
async fn a_running_state_is_read_without_disturbing_it() {
    let bench = Bench::new().await;
    let job = bench.submit(1, 1).await;
    assert_eq!(read_offline(bench.state.path()).unwrap().jobs()[0].job, job);
    bench.submit(1, 1).await;
}

#[tokio::test]
async fn a_silent_node_is_fenced_and_its_job_goes_on_elsewhere() {
    let state = tempfile::tempdir().unwrap();
    let fencer = Arc::new(NotingFencer::default());
    let mut config = config(state.path());
    config.policy = Policy { node_silent_ms: 1500, ..Policy::default() };
    config.fencer = Arc::clone(&fencer) as _;
    let server = lindos_server::start(config).await.unwrap();
    let bench = Bench { state, server: Some(server) };
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    let job = bench.submit(1, 1).await;
    let launch = agent.launch().await;
    agent.runs(&launch);
    agent.say().await;

    let silent = bench.event(0, "node_silent").await;
    assert_eq!(silent.node.as_deref(), Some("n0"));
    bench.event(silent.seq, "node_fenced").await;
    assert_eq!(*fencer.fenced.lock().unwrap(), ["n0"]);

    let mut other = bench.agent("n1", 1).await;
    other.say().await;
    let again = other.launch().await;
    assert_eq!((again.job.0, again.epoch.0), (job, 2));
    assert!(bench.client().nodes().await.unwrap()[0].state == "fenced");
}

#[tokio::test]
async fn silence_counts_from_the_start_of_the_control_plane() {
    let mut bench = Bench::new().await;
    bench.agent("n0", 1).await.say().await;
    bench.kill();
    let mut config = config(bench.state.path());
    config.policy.node_silent_ms = 1200;
    let began = std::time::Instant::now();
    bench.server = Some(lindos_server::start(config).await.unwrap());
    let silent = bench.event(0, "node_silent").await;
    assert!(began.elapsed().as_millis() >= 1200, "{silent:?}");
    assert!(began.elapsed() < BOUND);
}

#[tokio::test]
async fn a_follower_is_told_that_the_control_plane_stops() {
    let mut bench = Bench::new().await;
    let mut events = bench.client().follow_events(0, None).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().kind, "control_plane_started");
    let server = bench.server.take().unwrap();
    let stop = tokio::spawn(server.stop());
    let end = soon("the end of the stream", events.next()).await.unwrap_err();
    assert_eq!(end.code(), Some("stopping"));
    soon("the stop", stop).await.unwrap();
}
