//! What `lindos run` says when the job is over.

use crate::job_file::Job;
use crate::render::ledger::{self, difference, percent, table};
use crate::render::number::{counted, loss, steps};
use crate::render::table::pairs;
use crate::render::time::span;
use lindos_api::user::{JobDetail, LedgerView};
use serde::Serialize;
use std::path::Path;

/// Where to look further. Of a control plane elsewhere we know only what the job says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Places {
    logs: Option<String>,
    checkpoints: Option<String>,
    state: Option<String>,
}

impl Places {
    pub fn of(job: &Job, id: u64, state: Option<&Path>) -> Places {
        let in_state = |path: String| state.map(|state| state.join(path).display().to_string());
        Places {
            logs: in_state(format!("nodes/*/logs/{id}-*/")),
            checkpoints: job
                .spec
                .checkpoint_dir
                .clone()
                .or_else(|| in_state(format!("checkpoints/{}-{id}", job.spec.name))),
            state: state.map(|state| state.display().to_string()),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    r#type: &'static str,
    result: &'static str,
    job: u64,
    name: String,
    reason: Option<String>,
    attempts: u32,
    faults: u32,
    steps: Option<u64>,
    total_steps: Option<u64>,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    wall_ms: u64,
    goodput: Option<f64>,
    /// The fleet's GPU-time from the submission to the end.
    ledger: LedgerView,
    #[serde(flatten)]
    places: Places,
}

impl Summary {
    pub fn new(job: &JobDetail, before: &LedgerView, after: &LedgerView, places: Places) -> Self {
        let ledger = difference(before, after);
        let of_job = &job.summary;
        let ended_at = of_job.ended_at.unwrap_or(of_job.submitted_at);
        Summary {
            r#type: "summary",
            result: of_job.state.name(),
            job: of_job.job,
            name: of_job.name.clone(),
            reason: of_job.reason.clone(),
            attempts: attempts(job),
            faults: job.faults,
            steps: of_job.step,
            total_steps: of_job.total_steps,
            first_loss: job.first_loss,
            last_loss: job.last_loss,
            wall_ms: span(of_job.submitted_at, ended_at).0,
            goodput: ledger::share(&ledger),
            ledger,
            places,
        }
    }

    pub fn text(&self, width: u16) -> String {
        let faults = match self.faults {
            0 => "no faults".to_string(),
            some => counted(some, "fault"),
        };
        let mut rows = vec![
            ("attempts", format!("{} ({faults})", self.attempts)),
            ("steps", steps(self.steps, self.total_steps)),
            ("loss", format!("{} → {}", loss(self.first_loss), loss(self.last_loss))),
            ("wall time", lindos_model::Millis(self.wall_ms).to_string()),
            ("goodput", percent(&self.ledger)),
        ];
        let places = [
            ("logs", &self.places.logs),
            ("checkpoints", &self.places.checkpoints),
            ("state", &self.places.state),
        ];
        rows.extend(places.into_iter().filter_map(|(name, place)| Some((name, place.clone()?))));
        let ledger = table(&self.ledger, width);
        let head = format!("job {} ({}) {}", self.job, self.name, self.result);
        format!("{head}\n\n{}\n{ledger}", pairs(&rows))
    }

    /// For a job that did not complete.
    pub fn why(&self) -> String {
        match &self.reason {
            Some(reason) => format!("job {} {}: {reason}", self.job, self.result),
            None => format!("job {} was {}", self.job, self.result),
        }
    }

    pub fn logs(&self) -> String {
        match &self.places.logs {
            Some(logs) => logs.clone(),
            None => format!("`lindos logs {} --rank N`", self.job),
        }
    }
}

/// How many there were; the oldest of very many are not listed any more.
fn attempts(job: &JobDetail) -> u32 {
    let forgotten = job.attempts.first().map_or(0, |oldest| oldest.epoch.saturating_sub(1));
    forgotten + job.attempts.len() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use lindos_model::JobState;

    fn summary() -> Summary {
        let mut job = sample::detail();
        job.summary.state = JobState::Completed;
        job.summary.step = Some(5000);
        job.summary.ended_at = Some(job.summary.submitted_at + 200_000);
        let places = Places {
            logs: Some("/s/nodes/*/logs/3-*/".into()),
            checkpoints: Some("/s/checkpoints/tiny-gpt-3".into()),
            state: Some("/s".into()),
        };
        Summary::new(&job, &LedgerView::default(), &job.ledger, places)
    }

    #[test]
    fn a_run_ends_with_what_it_did_and_where_the_time_went() {
        insta::assert_snapshot!(summary().text(80), @"
        job 3 (tiny-gpt) completed

        attempts     2 (1 fault)
        steps        5000/5000
        loss         4.1700 → 2.3104
        wall time    3m 20s
        goodput      92.3%
        logs         /s/nodes/*/logs/3-*/
        checkpoints  /s/checkpoints/tiny-gpt-3
        state        /s

        COLUMN      GPU-MINUTES      %
        productive        10.00   92.3
        lost               0.50    4.6
        startup            0.33    3.1
        total             10.83  100.0
        ");
    }

    #[test]
    fn programs_get_the_same_as_one_line() {
        insta::assert_json_snapshot!(summary(), @r#"
        {
          "type": "summary",
          "result": "completed",
          "job": 3,
          "name": "tiny-gpt",
          "reason": null,
          "attempts": 2,
          "faults": 1,
          "steps": 5000,
          "total_steps": 5000,
          "first_loss": 4.17,
          "last_loss": 2.31044,
          "wall_ms": 200000,
          "goodput": 0.9230769230769231,
          "ledger": {
            "total_gpu_ms": 650000,
            "columns": {
              "burn-in": 0,
              "checkpoint": 0,
              "detect": 0,
              "idle": 0,
              "lost": 30000,
              "maintenance": 0,
              "productive": 600000,
              "repair": 0,
              "spare": 0,
              "startup": 20000,
              "stranded": 0,
              "unpowered": 0,
              "waiting": 0
            }
          },
          "logs": "/s/nodes/*/logs/3-*/",
          "checkpoints": "/s/checkpoints/tiny-gpt-3",
          "state": "/s"
        }
        "#);
    }

    #[test]
    fn a_failed_job_says_why() {
        let mut failed = summary();
        failed.result = "failed";
        failed.reason = Some("rank 1 on local-0 ended first: exit status 3".into());
        assert_eq!(failed.why(), "job 3 failed: rank 1 on local-0 ended first: exit status 3");
    }
}
