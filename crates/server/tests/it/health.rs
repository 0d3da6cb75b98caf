//! From a finding in a report to what people see and say, over the wire.

use crate::bench::{Bench, FakeAgent};
use lindos_model::Mended;
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity};
use lindos_server::read_offline;

fn lost() -> Finding {
    Finding::new(
        FindingClass::known("gpu.missing"),
        Severity::Fatal,
        Action::Inspect,
        FindingSource::Nvml,
        "7 of 8 GPUs are there",
    )
}

async fn sick(bench: &Bench, name: &str) -> FakeAgent {
    let mut agent = bench.agent(name, 8).await;
    agent.report.findings = vec![lost()];
    agent.say().await;
    agent
}

#[tokio::test]
async fn a_lost_device_is_shown_until_a_person_has_mended_it() {
    let mut bench = Bench::new().await;
    let mut well = bench.agent("n0", 8).await;
    well.say().await;
    let mut agent = sick(&bench, "n1").await;
    bench.event(0, "taken_out").await;
    let client = bench.client();
    let repairs = client.repairs().await.unwrap();
    assert_eq!((repairs.open[0].node.as_str(), repairs.open[0].ticket), ("n1", 1));
    assert_eq!(repairs.open[0].text, "it waits for a technician");
    let health = client.fleet_health(10).await.unwrap();
    assert_eq!((health.nodes, health.nodes_well, health.waiting_for_person), (2, 1, 1));
    assert_eq!(client.fleet_health(0).await.unwrap().worst, []);
    let node = client.node_health("n1").await.unwrap();
    assert_eq!(node.node.out.as_deref(), Some("repair"));
    assert_eq!(node.findings[0].finding, lost());
    let nodes = client.nodes().await.unwrap();
    assert_eq!(nodes[0].out, None);
    assert_eq!(nodes[1].out.as_deref(), Some("repair"));

    let unknown = client.node_health("n9").await.unwrap_err();
    assert_eq!(unknown.code(), Some("no_such_node"));
    let twice = client.mended("n0", Mended::Repaired).await.unwrap_err();
    assert_eq!(twice.code(), Some("not_in_repair"));

    agent.report.findings.clear();
    agent.say().await;
    client.mended("n1", Mended::Repaired).await.unwrap();
    bench.event(0, "back_in_service").await;
    assert_eq!(client.repairs().await.unwrap().open, []);
    bench.kill();
    let offline = read_offline(bench.state.path()).unwrap();
    assert_eq!(offline.repairs().open, []);
    assert_eq!(offline.fleet_health(1).nodes_in_repair, 0);
    let said = offline.node_health("n1").unwrap().history;
    assert_eq!(said.last().unwrap().kind, "back_in_service");
    assert!(offline.node_health("n9").is_none());
}

#[tokio::test]
async fn numbers_are_for_those_with_the_token() {
    let bench = Bench::new().await;
    let _agent = sick(&bench, "n0").await;
    bench.event(0, "kept_in").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/metrics", bench.server().url());
    assert_eq!(http.get(&url).send().await.unwrap().status(), 401);
    let answer = http.get(&url).bearer_auth(bench.server().token()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_string();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.text().await.unwrap();
    for line in ["lindos_nodes_kept_in 1", "lindos_kept_in_total 1", "lindos_nodes_in_service 1"] {
        assert!(text.lines().any(|other| other == line), "no {line} in {text}");
    }
}
