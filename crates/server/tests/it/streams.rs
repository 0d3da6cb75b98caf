//! Events that are followed, and logs that are read through the agents.

use crate::bench::{Bench, soon};
use lindos_api::agent::LogChunk;
use lindos_api::client::LogQuery;
use lindos_model::Epoch;

#[tokio::test]
async fn a_follower_gets_the_history_and_then_what_comes() {
    let bench = Bench::new().await;
    let first = bench.submit(1, 1).await;
    let mut all = bench.client().follow_events(0, None).await.unwrap();
    let mut kinds = Vec::new();
    while !kinds.contains(&"waiting".to_string()) {
        kinds.push(soon("history", all.next()).await.unwrap().unwrap().kind);
    }
    assert_eq!(kinds, ["control_plane_started", "submitted", "waiting"]);

    let second = bench.submit(1, 1).await;
    let live = soon("a new event", all.next()).await.unwrap().unwrap();
    assert_eq!((live.kind.as_str(), live.job, live.seq), ("submitted", Some(second), 4));
    assert!(live.text.contains("submitted gpt"), "{}", live.text);
    assert_eq!(live.detail["nodes"], 1);

    let of_first = bench.client().events(0, Some(first)).await.unwrap();
    assert!(of_first.iter().all(|event| event.job == Some(first)));
    assert_eq!(of_first.len(), 2);
    let rest = bench.client().events(2, None).await.unwrap();
    assert_eq!(rest[0].seq, 3);
}

#[tokio::test]
async fn a_follower_with_nothing_to_tell_is_kept_alive() {
    let bench = Bench::new().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/events?after=1000&follow=true", bench.server().url());
    let mut answer = http.get(url).bearer_auth(bench.server().token()).send().await.unwrap();
    for _ in 0..2 {
        let chunk = soon("an empty line", answer.chunk()).await.unwrap().unwrap();
        assert_eq!(&chunk[..], b"\n");
    }
}

#[tokio::test]
async fn what_is_forgotten_is_said_to_be() {
    let state = tempfile::tempdir().unwrap();
    let mut config = crate::bench::config(state.path());
    config.policy.trail_max = 5;
    let server = lindos_server::start(config).await.unwrap();
    let bench = Bench { state, server: Some(server) };
    for _ in 0..10 {
        bench.submit(1, 1).await;
    }
    let error = bench.client().events(2, None).await.unwrap_err();
    assert_eq!(error.code(), Some("events_forgotten"));
    assert_eq!(bench.client().events(0, None).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_log_is_read_from_the_node_that_has_the_rank() {
    let bench = Bench::new().await;
    let mut agent = bench.agent("n0", 2).await;
    agent.say().await;
    let job = bench.submit(1, 2).await;
    let launch = agent.launch().await;
    agent.runs(&launch);
    agent.say().await;

    let client = bench.client();
    let query = LogQuery { rank: 1, offset: Some(5), bytes_max: Some(100), epoch: None };
    let reading = tokio::spawn(async move { client.logs(job, &query).await });
    let ask = soon("the question", agent.read_log()).await;
    assert_eq!((ask.job.0, ask.rank.0, ask.offset, ask.bytes_max), (job, 1, Some(5), 100));
    let chunk = LogChunk {
        request: ask.request,
        epoch: Some(Epoch(1)),
        offset: 5,
        end: 10,
        text: "hello".into(),
        open: true,
        error: None,
    };
    agent.answer_log(&chunk).await;
    assert_eq!(reading.await.unwrap().unwrap(), chunk);
    agent.answer_log(&chunk).await; // Nobody waits for it any more.

    let client = bench.client();
    for (query, code) in [
        (LogQuery { rank: 2, ..LogQuery::default() }, "no_such_rank"),
        (LogQuery { epoch: Some(2), ..LogQuery::default() }, "no_such_attempt"),
        (LogQuery::default(), "log_timeout"),
    ] {
        let error = client.logs(job, &query).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{query:?}");
    }
    drop(agent);
    let queued = bench.submit(9, 9).await;
    let error = client.logs(queued, &LogQuery::default()).await.unwrap_err();
    assert_eq!(error.code(), Some("not_started"));
}

#[tokio::test]
async fn a_log_of_a_node_that_is_not_connected_is_refused_at_once() {
    let mut bench = Bench::new().await;
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    let job = bench.submit(1, 1).await;
    agent.launch().await;
    bench.kill();
    bench.restart().await;
    let error = bench.client().logs(job, &LogQuery::default()).await.unwrap_err();
    assert_eq!(error.code(), Some("node_not_connected"));
}
