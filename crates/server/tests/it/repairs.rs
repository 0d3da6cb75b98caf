//! What an agent finds takes its node out, and a person brings it back.

use crate::bench::{Bench, FakeAgent, request};
use lindos_api::agent::Order;
use lindos_api::work::{Task, WorkStep};
use lindos_model::{Action, Exit, Finding, FindingClass, FindingSource, Mended, Outcome, Severity};

fn fallen_off() -> Finding {
    Finding {
        code: Some(79),
        ..Finding::new(
            FindingClass::known("gpu.xid.79"),
            Severity::NodeFatal,
            Action::Reboot,
            FindingSource::KernelLog,
            "GPU has fallen off the bus",
        )
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

/// An agent that can do all that there is, on whose node a GPU wants to be reset, and a second one.
async fn to_reset(bench: &Bench) -> FakeAgent {
    bench.agent("n1", 2).await.say().await;
    let mut agent = bench.agent("n0", 2).await;
    agent.report.can = Task::NAMES.map(String::from).into();
    agent.report.findings = vec![Finding { action: Action::ResetGpu, ..fallen_off() }];
    agent.say().await;
    agent
}

async fn count(bench: &Bench, kind: &str) -> usize {
    let events = bench.client().events(0, None).await.unwrap();
    events.iter().filter(|event| event.kind == kind).count()
}

#[tokio::test]
async fn a_remedy_and_a_burn_in_are_each_over_once_whatever_is_killed_meanwhile() {
    let mut bench = Bench::new().await;
    let mut agent = to_reset(&bench).await;
    let (reset, task) = agent.begins().await;
    assert_eq!(task, Task::ResetGpu { device: None });
    bench.kill();
    bench.restart().await;
    agent = agent.reconnect(bench.server()).await;
    agent.say().await;
    agent.report.findings.clear();
    agent.work_ends(reset, Outcome::Done).await;
    agent.say().await;
    let forgotten = agent.work(|step| *step == WorkStep::Forget);
    assert_eq!(forgotten.await.id, reset);

    // The agent is killed before it has begun the burn-in: it is asked for again.
    let is_burn_in = |step: &WorkStep| match step {
        WorkStep::Begin(work) => matches!(work.task, Task::BurnIn { .. }),
        _ => false,
    };
    let first = agent.work(is_burn_in).await;
    agent = FakeAgent::connect(bench.server(), "n0", 2, 2).await;
    agent.report.can = Task::NAMES.map(String::from).into();
    agent.say().await;
    let (burn_in, task) = agent.begins().await;
    assert_eq!((burn_in, matches!(task, Task::BurnIn { .. })), (first.id, true));
    bench.kill();
    // It ends while nobody listens.
    agent.report.works[0].outcome = Some(Outcome::Done);
    bench.restart().await;
    agent = agent.reconnect(bench.server()).await;
    agent.say().await;
    bench.event(0, "back_in_service").await;
    agent.say().await;
    assert_eq!(count(&bench, "remedy_over").await, 1);
    assert_eq!(count(&bench, "burn_in_over").await, 1);
}

#[tokio::test]
async fn a_burn_in_that_fails_leads_to_the_next_remedy_and_a_release_calls_a_work_off() {
    let bench = Bench::new().await;
    let mut agent = to_reset(&bench).await;
    let (reset, _) = agent.begins().await;
    agent.report.findings.clear();
    agent.work_ends(reset, Outcome::Done).await;
    let (burn_in, _) = agent.begins().await;
    agent.work_ends(burn_in, Outcome::Failed { reason: "cpu.bits: core 3".into() }).await;
    let failed = bench.event(0, "burn_in_over").await;
    assert!(failed.text.contains("cpu.bits: core 3"), "{failed:?}");
    // Nobody here can reboot it, or reach its power.
    let (diagnose, task) = agent.begins().await;
    assert!(matches!(task, Task::Diagnose { .. }), "{task:?}");
    bench.client().mended("n0", Mended::Released).await.unwrap();
    let stop = agent.work(|step| *step == WorkStep::Stop).await;
    assert_eq!(stop.id, diagnose);
    agent.work_ends(diagnose, Outcome::Failed { reason: "killed".into() }).await;
    agent.work(|step| *step == WorkStep::Forget).await;
}

#[tokio::test]
async fn an_older_agent_is_asked_for_nothing_that_it_does_not_know() {
    let bench = Bench::new().await;
    let mut agent = to_reset(&bench).await;
    agent.report.can = vec!["reset_gpu".into(), "something_new".into()];
    agent.say().await;
    let (reset, _) = agent.begins().await;
    agent.report.findings.clear();
    agent.work_ends(reset, Outcome::Done).await;
    let over = bench.event(0, "burn_in_over").await;
    assert!(over.text.contains("was not burnt in"), "{over:?}");
    bench.event(0, "back_in_service").await;
}
