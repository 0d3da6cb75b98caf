//! Webhooks, to a receiver on this machine that fails as receivers do.

use crate::bench::{Bench, FakeAgent, config, soon};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lindos_model::Policy;
use lindos_server::ServerConfig;
use lindos_server::alerts::{Alerts, try_all};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const SECRET: &[u8] = b"a secret of enough bytes";

/// How the receiver answers once; afterwards with 200.
#[derive(Clone, Copy)]
enum Mood {
    Status(u16),
    RetryAfter(u64),
    Slow(Duration),
}

struct Received {
    at: Instant,
    headers: HeaderMap,
    body: Bytes,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).expect("it is there").to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// As a receiver checks it, by the words of docs/alerts.md.
    fn is_signed_with(&self, secret: &[u8]) -> bool {
        let (id, time) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let signed = [format!("{id}.{time}.").as_bytes(), &self.body].concat();
        let encoded = self.header("webhook-signature").strip_prefix("v1,").unwrap();
        let signature = BASE64_STANDARD.decode(encoded).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        ring::hmac::verify(&key, &signed, &signature).is_ok()
    }
}

struct Receiver {
    url: String,
    received: mpsc::UnboundedReceiver<Received>,
}

#[derive(Clone)]
struct Desk {
    moods: Arc<Mutex<VecDeque<Mood>>>,
    sender: mpsc::UnboundedSender<Received>,
}

async fn take(State(desk): State<Desk>, headers: HeaderMap, body: Bytes) -> Response {
    let mood = desk.moods.lock().unwrap().pop_front();
    let _ = desk.sender.send(Received { at: Instant::now(), headers, body });
    match mood {
        None => StatusCode::OK.into_response(),
        Some(Mood::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Mood::RetryAfter(seconds)) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
        }
        Some(Mood::Slow(span)) => {
            tokio::time::sleep(span).await;
            StatusCode::OK.into_response()
        }
    }
}

impl Receiver {
    async fn new(moods: impl IntoIterator<Item = Mood>) -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let moods = Arc::new(Mutex::new(moods.into_iter().collect()));
        let router = Router::new().route("/hook", post(take)).with_state(Desk { moods, sender });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { url, received }
    }

    async fn next(&mut self) -> Received {
        soon("a delivery", self.received.recv()).await.expect("the receiver lives")
    }

    /// Nothing comes for longer than a message takes.
    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(1_500), self.received.recv()).await.is_err()
    }
}

/// Alerts to `url`, with `keys` before the webhook's own.
fn alerts(url: &str, keys: &str) -> Alerts {
    let folder = tempfile::tempdir().unwrap();
    let (secret, file) = (folder.path().join("secret"), folder.path().join("alerts.toml"));
    std::fs::write(&secret, format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET))).unwrap();
    let text = format!(
        "{keys}\n[[webhooks]]\nname = \"oncall\"\nformat = \"json\"\nurl = \"{url}\"\n\
         secret_file = \"{}\"\n",
        secret.display()
    );
    std::fs::write(&file, text).unwrap();
    Alerts::load(&file).unwrap_or_else(|error| panic!("{error}"))
}

const QUICK: &str = "window_ms = 300\nhold_ms = 2000\n";

fn quick_config(state: &std::path::Path, alerts: Alerts) -> ServerConfig {
    let policy = Policy { node_silent_ms: 1_500, ..Policy::default() };
    ServerConfig { policy, alerts: Some(alerts), ..config(state) }
}

async fn bench(alerts: Alerts) -> Bench {
    let state = tempfile::tempdir().unwrap();
    let server = lindos_server::start(quick_config(state.path(), alerts)).await.unwrap();
    Bench { state, server: Some(server) }
}

/// A node that is heard once, and then no more.
async fn falls_silent(bench: &Bench, name: &str, leaf: &str) -> FakeAgent {
    let mut agent = bench.agent(name, 1).await;
    agent.report.node.location.leaf = leaf.into();
    agent.say().await;
    agent
}

async fn metric(bench: &Bench, name: &str) -> u64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/metrics", bench.server().url());
    let response = http.get(url).bearer_auth(bench.server().token()).send().await.unwrap();
    let text = response.text().await.unwrap();
    let start = format!("lindos_{name}{{webhook=\"oncall\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start)).expect("it is there");
    value.parse().unwrap()
}

async fn becomes(bench: &Bench, name: &str, wanted: u64) {
    let reached = async {
        while metric(bench, name).await != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(name, reached).await;
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_same_delivery_again() {
    let mut receiver = Receiver::new([Mood::Status(500), Mood::Status(503)]).await;
    let bench = bench(alerts(&receiver.url, QUICK)).await;
    let _agent = falls_silent(&bench, "n0", "").await;
    let tries = [receiver.next().await, receiver.next().await, receiver.next().await];
    for one in &tries {
        assert_eq!(one.header("webhook-id"), tries[0].header("webhook-id"));
        assert_eq!(one.body, tries[0].body);
        assert!(one.is_signed_with(SECRET));
        assert!(!one.is_signed_with(b"another secret of bytes."), "the secret matters");
    }
    let message = tries[0].json();
    assert_eq!(message["text"], "WARNING: n0 went silent");
    assert_eq!(message["kind"], "node_silent");
    assert!(tries[2].at - tries[0].at > Duration::from_millis(1_400), "it waits in between");
    becomes(&bench, "alerts_sent_total", 1).await;
    assert_eq!(metric(&bench, "alerts_failed_tries_total").await, 2);
    assert_eq!(metric(&bench, "alerts_queued").await, 0);
    assert!(receiver.is_quiet().await, "it was taken");
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let mut receiver = Receiver::new([Mood::RetryAfter(3)]).await;
    let bench = bench(alerts(&receiver.url, QUICK)).await;
    let _agent = falls_silent(&bench, "n0", "").await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    let waited = second.at - first.at;
    assert!(waited >= Duration::from_millis(2_950), "{waited:?}");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_given_up_and_the_next_message_says_so() {
    let keys = format!("{QUICK}give_up_ms = 400\n");
    let mut receiver = Receiver::new([Mood::Status(502), Mood::Status(404)]).await;
    let bench = bench(alerts(&receiver.url, &keys)).await;
    let mut agent = falls_silent(&bench, "n0", "").await;
    receiver.next().await;
    becomes(&bench, "alerts_given_up_total", 1).await;
    agent.say().await;
    assert_eq!(receiver.next().await.json()["over"], true, "refused for good at the first try");
    becomes(&bench, "alerts_given_up_total", 2).await;
    let _other = falls_silent(&bench, "m0", "").await;
    let told = loop {
        let told = receiver.next().await.json();
        if told["nodes"]["first"] == serde_json::json!(["m0"]) {
            break told;
        }
    };
    assert!(told["given_up_before"]["messages"].as_u64() >= Some(1), "{told}");
}

#[tokio::test]
async fn a_slow_receiver_and_a_dead_one_keep_nobody_waiting() {
    let keys = format!("{QUICK}timeout_ms = 400\n");
    let mut receiver = Receiver::new([Mood::Slow(Duration::from_secs(30))]).await;
    let slow = bench(alerts(&receiver.url, &keys)).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let dead = bench(alerts(&closed, &format!("{keys}give_up_ms = 200\n"))).await;
    let _agents = [falls_silent(&slow, "n0", "").await, falls_silent(&dead, "n0", "").await];
    let first = receiver.next().await;
    let asked = Instant::now();
    slow.client().nodes().await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(350), "{:?}", asked.elapsed());
    let second = receiver.next().await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    becomes(&slow, "alerts_sent_total", 1).await;
    becomes(&dead, "alerts_given_up_total", 1).await;
}

#[tokio::test]
async fn one_bad_leaf_of_thirty_nodes_is_one_message_and_its_end_another() {
    let mut receiver = Receiver::new([]).await;
    let keys = "window_ms = 2000\nhold_ms = 10000\n";
    let bench = bench(alerts(&receiver.url, keys)).await;
    let mut well = falls_silent(&bench, "well", "l2").await;
    let mut agents = Vec::new();
    for number in 0..30 {
        agents.push(falls_silent(&bench, &format!("n{number:02}"), "l1").await);
    }
    let told = loop {
        well.say().await;
        let next = tokio::time::timeout(Duration::from_millis(300), receiver.received.recv());
        if let Ok(told) = next.await {
            break told.unwrap().json();
        }
    };
    assert_eq!(told["nodes"]["count"], 30, "{told}");
    assert_eq!(told["count"], 30);
    let line = "CRITICAL: 30 of 30 nodes of leaf l1 (n00, n01, n02 and 27 more) went silent";
    assert_eq!(told["text"], line);
    for agent in &mut agents {
        agent.say().await;
    }
    let over = receiver.next().await.json();
    assert_eq!(over["over"], true, "{over}");
    let line = "RESOLVED: 30 of 30 nodes of leaf l1 (n00, n01, n02 and 27 more) are up again";
    assert_eq!(over["text"], line);
}

#[tokio::test]
async fn a_restart_tells_what_was_not_told_and_nothing_twice() {
    let mut receiver = Receiver::new([]).await;
    let mut bench = bench(alerts(&receiver.url, QUICK)).await;
    let first = falls_silent(&bench, "n0", "").await;
    assert_eq!(receiver.next().await.json()["nodes"]["first"][0], "n0");
    becomes(&bench, "alerts_sent_total", 1).await;

    // Killed before its message was complete.
    let _second = falls_silent(&bench, "n1", "").await;
    let silent = bench.event(0, "node_silent").await;
    bench.event(silent.seq, "node_silent").await;
    bench.kill();
    assert!(receiver.is_quiet().await);
    let again = quick_config(bench.state.path(), alerts(&receiver.url, QUICK));
    bench.server = Some(lindos_server::start(again).await.unwrap());
    let told = receiver.next().await.json();
    assert_eq!(told["nodes"]["first"], serde_json::json!(["n1"]), "{told}");

    // The end of what the one before has told.
    let mut first = first.reconnect(bench.server()).await;
    first.say().await;
    let told = receiver.next().await.json();
    assert_eq!((&told["over"], &told["nodes"]["first"][0]), (&true.into(), &"n0".into()));

    // Stopped in order, with nothing left to tell.
    becomes(&bench, "alerts_sent_total", 2).await;
    bench.server.take().unwrap().stop().await;
    let again = quick_config(bench.state.path(), alerts(&receiver.url, QUICK));
    bench.server = Some(lindos_server::start(again).await.unwrap());
    let quiet_for_known = receiver.received.try_recv().is_err();
    assert!(quiet_for_known);
}

#[tokio::test]
async fn a_sample_says_what_came_back() {
    let mut receiver = Receiver::new([Mood::Status(403)]).await;
    let file = alerts(&receiver.url, QUICK);
    let test = |file: Alerts| tokio::task::spawn_blocking(move || try_all(&file));
    let refused = test(file.clone()).await.unwrap();
    assert!(!refused[0].ok && refused[0].said.starts_with("403"), "{refused:?}");
    let taken = test(file).await.unwrap();
    assert!(taken[0].ok && taken[0].signed && taken[0].said == "200", "{taken:?}");
    assert!(receiver.next().await.is_signed_with(SECRET));
    assert_eq!(receiver.next().await.json()["text"], "INFO: This is a test of Lindos's alerts");
}
