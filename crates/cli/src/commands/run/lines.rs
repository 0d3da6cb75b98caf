//! `lindos run --json`: what happens, one JSON object a line.

use super::follow::Watcher;
use crate::output;
use lindos_api::user::{EventView, JobDetail, LedgerView};
use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Default)]
pub struct Lines {
    shown: Option<(u32, u64)>,
}

impl Watcher for Lines {
    fn event(&mut self, event: &EventView) {
        print(&event_line(event));
    }

    fn progress(&mut self, job: &JobDetail, _ledger: &LedgerView) {
        let Some(step) = job.summary.step else { return };
        if self.shown != Some((job.attempt(), step)) {
            self.shown = Some((job.attempt(), step));
            print(&progress_line(job, step));
        }
    }
}

/// The job goes on though nobody reads of it any more.
fn print(line: &impl Serialize) {
    let _ = output::json_line(line);
}

/// The event's kind as `type`, where it belongs, and its own fields.
#[derive(Serialize)]
struct EventLine<'a> {
    r#type: &'a str,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(flatten)]
    fields: Option<&'a Map<String, Value>>,
    text: &'a str,
    seq: u64,
}

fn event_line(event: &EventView) -> EventLine<'_> {
    EventLine {
        r#type: &event.kind,
        at: event.at,
        job: event.job,
        epoch: event.epoch,
        node: event.node.as_deref(),
        fields: event.detail.as_object(),
        text: &event.text,
        seq: event.seq,
    }
}

#[derive(Serialize)]
struct ProgressLine {
    r#type: &'static str,
    job: u64,
    epoch: u32,
    step: u64,
    total_steps: Option<u64>,
    loss: Option<f64>,
    tokens_per_second: Option<f64>,
}

fn progress_line(job: &JobDetail, step: u64) -> ProgressLine {
    ProgressLine {
        r#type: "progress",
        job: job.summary.job,
        epoch: job.attempt(),
        step,
        total_steps: job.summary.total_steps,
        loss: job.summary.loss,
        tokens_per_second: job.tokens_per_second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use serde_json::json;

    #[test]
    fn a_fault_is_a_line_with_its_reason() {
        insta::assert_json_snapshot!(event_line(&sample::fault()), @r#"
        {
          "type": "fault",
          "at": 1800000059000,
          "job": 3,
          "epoch": 1,
          "reason": {
            "rank_exited": {
              "exit": {
                "signal": 9
              },
              "node": "local-0",
              "rank": 1
            }
          },
          "step": 1040,
          "text": "job 3/1 fault at step 1040: rank 1 on local-0 ended first: SIGKILL",
          "seq": 9
        }
        "#);
    }

    #[test]
    fn a_rank_that_starts_says_where_and_as_what() {
        let event = EventView {
            kind: "rank_started".into(),
            node: Some("local-0".into()),
            text: "job 3/1 local-0 rank 0 started, pid 4711".into(),
            detail: json!({ "rank": 0, "pid": 4711 }),
            ..sample::fault()
        };
        let line = serde_json::to_value(event_line(&event)).unwrap();
        for (key, value) in [
            ("rank", json!(0)),
            ("pid", json!(4711)),
            ("node", json!("local-0")),
            ("epoch", json!(1)),
        ] {
            assert_eq!(line[key], value);
        }
    }

    #[test]
    fn progress_is_a_line() {
        insta::assert_json_snapshot!(progress_line(&sample::detail(), 1200), @r#"
        {
          "type": "progress",
          "job": 3,
          "epoch": 2,
          "step": 1200,
          "total_steps": 5000,
          "loss": 2.31044,
          "tokens_per_second": 41200.0
        }
        "#);
    }
}
