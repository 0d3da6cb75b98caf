//! Plain data for the tests of what people read.

use super::Style;
use lindos_api::user::{
    AttemptSummary, EventView, JobDetail, JobSummary, LedgerView, NodeView, RankView, Why,
};
use lindos_model::blame::{Blame, Clue, Culprit, Sign};
use lindos_model::reason::Charge;
use lindos_model::{Columns, EndReason, Exit, JobState, Rank};

const START: u64 = 1_800_000_000_000;

pub fn style() -> Style {
    Style { width: 80, now: START + 200_000, zone: jiff::tz::TimeZone::UTC }
}

pub fn job() -> JobSummary {
    JobSummary {
        job: 3,
        name: "tiny-gpt".to_string(),
        user: "ada".to_string(),
        state: JobState::Running,
        epoch: 2,
        nodes: 2,
        gpus: 4,
        priority: 0,
        submitted_at: START,
        started_at: Some(START + 300),
        ended_at: None,
        step: Some(1200),
        total_steps: Some(5000),
        loss: Some(2.310_44),
        reason: None,
        team: String::new(),
        array_index: None,
        nodes_running: 2,
        nodes_held: 0,
        reserved_start: None,
    }
}

pub fn end_reason() -> EndReason {
    EndReason::RankExited { rank: Rank(1), node: "local-0".to_string(), exit: Exit::Signal(9) }
}

pub fn detail() -> JobDetail {
    let mut columns = Columns::default();
    columns.0[0] = 600_000;
    columns.0[1] = 30_000;
    columns.0[3] = 20_000;
    JobDetail {
        summary: job(),
        command: ["python3", "train.py", "--steps", "5000"].map(String::from).to_vec(),
        checkpoint_step: Some(1000),
        first_loss: Some(4.17),
        last_loss: Some(2.310_44),
        tokens_per_second: Some(41_200.0),
        faults: 1,
        retries_left_infrastructure: 999,
        retries_left_user: 1,
        wait_reason: None,
        end_reason: None,
        attempts: vec![
            AttemptSummary {
                epoch: 1,
                started_at: START + 300,
                first_step_at: Some(START + 4000),
                ended_at: Some(START + 60_000),
                resumed_from: None,
                last_step: Some(1040),
                end_reason: Some(end_reason()),
                charge: Some(Charge::Infrastructure),
                blame: Some(blame()),
                replicas: Vec::new(),
                spares: Vec::new(),
                warm: None,
            },
            AttemptSummary {
                epoch: 2,
                started_at: START + 61_000,
                first_step_at: Some(START + 65_000),
                ended_at: None,
                resumed_from: Some(1000),
                last_step: Some(1200),
                end_reason: None,
                charge: None,
                blame: None,
                replicas: Vec::new(),
                spares: Vec::new(),
                warm: None,
            },
        ],
        ranks: (0..4)
            .map(|rank| RankView {
                rank,
                pid: 4711 + rank,
                node: format!("local-{}", rank / 2),
                epoch: 2,
                state: "running".to_string(),
                step: Some(1200),
                at: None,
                exit: None,
            })
            .collect(),
        ledger: LedgerView::from(columns),
        straggler: None,
    }
}

pub fn node(name: &str) -> NodeView {
    NodeView {
        node: 0,
        name: name.to_string(),
        state: "up".to_string(),
        drained: None,
        out: None,
        gpus: 2,
        gpus_free: 0,
        platform: "generic".to_string(),
        address: "127.0.0.1".to_string(),
        site: String::new(),
        hall: String::new(),
        row: String::new(),
        spine: String::new(),
        leaf: String::new(),
        rack: String::new(),
        nvlink: String::new(),
        nvlink_spans_racks: false,
        pdu: String::new(),
        labels: std::collections::BTreeMap::new(),
        jobs: vec![3],
    }
}

pub fn fault() -> EventView {
    let reason = serde_json::to_value(end_reason()).unwrap();
    EventView {
        seq: 9,
        at: START + 59_000,
        kind: "fault".to_string(),
        job: Some(3),
        epoch: Some(1),
        node: None,
        text: format!("job 3/1 fault at step 1040: {}", end_reason()),
        detail: serde_json::json!({ "reason": reason, "step": 1040 }),
    }
}

pub fn why() -> Why {
    Why {
        job: 4,
        state: JobState::Queued,
        answer: "job 4 waits: it can never start on this fleet: it wants 9 nodes with 2 GPUs each, and the \
                 fleet has 3 such nodes"
            .to_string(),
        wait_reason: None,
        hints: vec!["ask for 3 nodes or fewer".to_string()],
        ..Why::default()
    }
}

fn blame() -> Blame {
    let exit = Exit::Signal(9);
    let rank = Rank(1);
    let first = Sign::EndedFirst { rank, exit };
    let before = Sign::Struck { times: 2 };
    let clue = |sign, weight| Clue { node: Some("local-0".into()), sign, weight };
    Blame {
        culprit: Culprit::Node("local-0".into()),
        percent: 97,
        clues: vec![clue(first, 24), clue(before, 10)],
    }
}
