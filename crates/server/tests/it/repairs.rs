//! What an agent finds takes its node out, and a person brings it back.

use crate::bench::{Bench, request};
use lindos_api::agent::Order;
use lindos_model::{Action, Exit, Finding, FindingClass, FindingSource, Mended, Severity, Suspect};

fn fallen_off() -> Finding {
    Finding {
        class: FindingClass::known("gpu.xid.79"),
        severity: Severity::NodeFatal,
        action: Action::Reboot,
        suspect: Suspect::Hardware,
        device: None,
        code: Some(79),
        source: FindingSource::KernelLog,
        detail: "GPU has fallen off the bus".into(),
        cause: None,
    }
}

#[tokio::test]
async fn a_lost_gpu_moves_the_job_and_its_node_waits_for_a_technician() {
    let bench = Bench::new().await;
    let mut agents = [bench.agent("n0", 2).await, bench.agent("n1", 2).await];
    for agent in &mut agents {
        agent.say().await;
    }
    bench.client().submit(&request(1, 2)).await.unwrap();
    let [first, second] = &mut agents;
    let command = first.launch().await;
    first.runs(&command);
    first.say().await;
    first.report.findings = vec![fallen_off()];
    first.say().await;
    first.command(|order| matches!(order, Order::Stop { .. })).await;
    first.ended(&Exit::Signal(15));
    first.say().await;
    assert_eq!(second.launch().await.epoch.0, 2, "it goes on elsewhere");

    // Nobody here can reboot a machine, or reach its power.
    let taken_out = bench.event(0, "taken_out").await;
    let mut told = Vec::new();
    let mut after = taken_out.seq;
    while !told.iter().any(|text: &String| text.contains("waits for a technician")) {
        let event = bench.event(after, "remedy_begun").await;
        after = event.seq;
        told.push(event.text);
    }
    assert!(told[0].contains("tries a reboot"), "{told:?}");
    first.report.findings.clear();
    first.say().await;
    bench.client().mended("n0", Mended::Repaired).await.unwrap();
    let back = bench.event(after, "back_in_service").await;
    assert_eq!(back.node.as_deref(), Some("n0"));
    let again = bench.client().mended("n0", Mended::Repaired).await.unwrap_err();
    assert!(again.to_string().contains("not out for repair"), "{again}");
}
