//! What is refused, and in which words.

use crate::bench::{Bench, config, request};
use lindos_api::client::{Client, ClientError};
use lindos_api::user::ApiError;
use lindos_server::StartError;
use serde_json::{Value, json};

struct Raw {
    http: reqwest::Client,
    bench: Bench,
}

impl Raw {
    async fn new() -> Raw {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Raw { http, bench: Bench::new().await }
    }

    async fn send(&self, method: &str, path: &str, body: Option<String>) -> (u16, ApiError) {
        let url = format!("{}{path}", self.bench.server().url());
        let mut request = self.http.request(method.parse().unwrap(), url);
        request = request.bearer_auth(self.bench.server().token());
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}")))
    }

    async fn submit(&self, change: impl FnOnce(&mut Value)) -> (u16, ApiError) {
        let mut value = serde_json::to_value(request(1, 1)).unwrap();
        change(&mut value);
        self.send("POST", "/v1/jobs", Some(value.to_string())).await
    }
}

#[tokio::test]
async fn bad_requests_are_told_where_they_are_wrong() {
    let raw = Raw::new().await;
    let (status, error) = raw.submit(|value| value["spec"]["nodse"] = json!(1)).await;
    assert_eq!((status, error.code.as_str()), (422, "unknown_key"));
    assert_eq!(error.message, "unknown key `spec.nodse`");
    let (status, error) = raw.submit(|value| value["spec"]["nodes"] = json!("two")).await;
    assert_eq!((status, error.code.as_str()), (422, "invalid_body"));
    assert!(error.message.starts_with("spec.nodes:"), "{}", error.message);
    let (status, error) = raw.submit(|value| value["spec"]["nodes"] = json!(0)).await;
    assert_eq!((status, error.code.as_str()), (422, "invalid_job"));
    assert!(error.message.starts_with("gang.nodes:"), "{}", error.message);
    let (status, error) = raw.submit(|value| value["request"] = json!("7")).await;
    assert_eq!((status, error.code.as_str()), (400, "invalid_request_id"));

    let cases: [(&str, &str, Option<String>, u16, &str); 10] = [
        ("POST", "/v1/jobs", Some("{".into()), 400, "not_json"),
        ("POST", "/v1/jobs", Some("x".repeat(2 << 20)), 413, "too_large"),
        ("GET", "/v1/jobs/99", None, 404, "no_such_job"),
        ("GET", "/v1/jobs/abc", None, 404, "no_such_job"),
        ("POST", "/v1/jobs/99/cancel", None, 404, "no_such_job"),
        ("POST", "/v1/nodes/nowhere/drain", None, 404, "no_such_node"),
        ("GET", "/v1/jobs?limti=3", None, 400, "invalid_query"),
        ("GET", "/v1/nothing", None, 404, "no_such_endpoint"),
        ("PUT", "/v1/jobs", None, 405, "wrong_method"),
        ("GET", "/v1/jobs/99/logs", None, 404, "no_such_job"),
    ];
    for (method, path, body, status, code) in cases {
        let (answer, error) = raw.send(method, path, body).await;
        assert_eq!((answer, error.code.as_str()), (status, code), "{method} {path}: {error:?}");
    }
    assert!(raw.bench.client().jobs().await.unwrap().is_empty(), "nothing was submitted");
}

#[tokio::test]
async fn a_reservation_that_cannot_be_is_told_why() {
    let raw = Raw::new().await;
    let client = raw.bench.client();
    raw.bench.agent("n0", 1).await.say().await;
    let good = json!({
        "name": "psu", "maintenance": true, "nodes": ["n0"], "from": 0, "until": 9_000_000_000_000_u64,
    });
    let cases: [(&str, Value, u16, &str, &str); 9] = [
        ("name", json!("a/b"), 422, "invalid_reservation", "name: `a/b` is no name"),
        ("nodes", json!([]), 422, "invalid_reservation", "nodes: it names no node"),
        ("nodes", json!(["n0", "n0"]), 422, "invalid_reservation", "nodes: n0 is named twice"),
        ("nodes", json!(["n0", "n9"]), 404, "no_such_node", "there is no node `n9`"),
        ("maintenance", json!(false), 422, "invalid_reservation", "team: it is for no team"),
        ("team", json!("a"), 422, "invalid_reservation", "team: no team uses nodes in"),
        ("until", json!(1), 422, "invalid_reservation", "until: it is over before it begins"),
        ("form", json!(1), 422, "invalid_body", "form: unknown field `form`"),
        ("request", json!("7"), 400, "invalid_request_id", "request: `7` is not 32"),
    ];
    for (key, value, status, code, message) in cases {
        let mut body = good.clone();
        body[key] = value;
        let (answer, error) = raw.send("POST", "/v1/reservations", Some(body.to_string())).await;
        assert_eq!((answer, error.code.as_str()), (status, code), "{body}: {error:?}");
        assert!(error.message.starts_with(message), "{body}: {error:?}");
    }
    assert!(client.reservations().await.unwrap().is_empty(), "nothing was reserved");
    let (status, error) = raw.send("DELETE", "/v1/reservations/psu", None).await;
    assert_eq!((status, error.code.as_str()), (404, "no_such_reservation"));
}

#[tokio::test]
async fn nobody_is_let_in_without_the_token() {
    let bench = Bench::new().await;
    for token in ["", "wrong", &"0".repeat(32)] {
        let stranger = Client::new(bench.server().url(), token);
        let error = stranger.status().await.unwrap_err();
        assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
        assert!(stranger.submit(&request(1, 1)).await.is_err());
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let agents = ["/v1/agent/messages?node=n0&incarnation=1", "/v1/openapi.json", "/v1/nothing"];
    for path in agents {
        let answer = http.get(format!("{}{path}", bench.server().url())).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    assert!(bench.client().jobs().await.unwrap().is_empty());
    assert!(bench.client().openapi().await.unwrap()["paths"].is_object());
}

#[tokio::test]
async fn a_job_that_is_over_is_not_cancelled_again() {
    let bench = Bench::new().await;
    let job = bench.submit(1, 1).await;
    bench.client().cancel(job).await.unwrap();
    let error = bench.client().cancel(job).await.unwrap_err();
    assert_eq!(error.code(), Some("job_is_over"));
}

#[tokio::test]
async fn a_node_that_cannot_be_is_not_let_in() {
    let bench = Bench::new().await;
    for (name, gpus) in [("n0", 0), ("n0", 65), ("", 1), ("a/b", 1)] {
        let mut agent = bench.agent("fine", 1).await;
        agent.report.node.name = name.to_string();
        agent.report.node.gpus = gpus;
        let (status, error) = agent.send(&agent.report).await.unwrap_err();
        assert_eq!((status, error.code.as_str()), (422, "invalid_node"), "{name} {gpus}");
    }
    assert!(bench.client().nodes().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_older_agent_does_not_replace_a_newer_one() {
    let bench = Bench::new().await;
    let newer = crate::bench::FakeAgent::connect(bench.server(), "n0", 1, 2).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/agent/messages?node=n0&incarnation=1", bench.server().url());
    let answer = http.get(url).bearer_auth(bench.server().token()).send().await.unwrap();
    assert_eq!(answer.status(), 409);
    drop(newer);
}

#[tokio::test]
async fn a_second_control_plane_on_the_state_is_refused() {
    let bench = Bench::new().await;
    let error = lindos_server::start(config(bench.state.path())).await.unwrap_err();
    let StartError::StateInUse { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    bench.client().status().await.expect("the first one is not disturbed");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let state = tempfile::tempdir().unwrap();
    let mut config = config(state.path());
    config.listen = taken.local_addr().unwrap();
    let error = lindos_server::start(config).await.unwrap_err();
    assert!(matches!(error, StartError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains("hint:"), "{error}");
}

/// The segment of the state's journal, and its bytes.
fn segment(bench: &Bench) -> (std::path::PathBuf, Vec<u8>) {
    let files = std::fs::read_dir(bench.state.path().join("journal")).unwrap();
    let magic = b"LINDOSJL";
    let (path, bytes) = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .find(|(_, bytes)| bytes.starts_with(magic))
        .expect("there is a segment");
    (path, bytes)
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_and_nothing_is_changed() {
    let mut bench = Bench::new().await;
    for _ in 0..20 {
        bench.submit(1, 1).await;
    }
    bench.kill();
    let (path, mut bytes) = segment(&bench);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();
    let error = lindos_server::start(config(bench.state.path())).await.unwrap_err();
    assert!(matches!(error, StartError::CorruptJournal { .. }), "{error}");
    assert!(error.to_string().contains("hint:"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(lindos_server::read_offline(bench.state.path()).is_err());
}

#[tokio::test]
async fn a_state_of_a_newer_lindos_is_left_alone() {
    let mut bench = Bench::new().await;
    bench.kill();
    let (path, mut bytes) = segment(&bench);
    bytes[8] = 99;
    let crc = crc32fast::hash(&bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let error = lindos_server::start(config(bench.state.path())).await.unwrap_err();
    assert!(matches!(error, StartError::NewerState { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_folder_without_a_state_is_told_from_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = lindos_server::read_offline(folder.path()).unwrap_err();
    assert!(matches!(error, lindos_server::OfflineError::NoState { .. }), "{error}");
}
