//! `lindos run` on a terminal: a bar with where the job is, and above it what happened.

use super::follow::Watcher;
use crate::render::number::{counted, loss, rate};
use crate::render::{ledger, time};
use indicatif::{ProgressBar, ProgressStyle};
use lindos_api::user::{EventView, JobDetail, LedgerView};
use lindos_model::Millis;
use std::collections::VecDeque;
use std::time::Duration;

/// Checkpoints come often; the eye wants to know that they come at all.
const CHECKPOINT_EVERY_MS: u64 = 30_000;
/// The speed is taken over the last readings, so that it follows what the job does now.
const READINGS: usize = 120;

pub struct Bar {
    line: ProgressBar,
    has_total: bool,
    checkpoint_shown_at: Option<u64>,
    pace: Pace,
}

impl Bar {
    pub fn new() -> Bar {
        let line = ProgressBar::new_spinner().with_style(style(false));
        line.enable_steady_tick(Duration::from_millis(120));
        Bar { line, has_total: false, checkpoint_shown_at: None, pace: Pace::default() }
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{spinner} {prefix} [{bar:20}] {pos}/{len} {wide_msg}"
    } else {
        "{spinner} {prefix} {wide_msg}"
    };
    ProgressStyle::with_template(template).expect("the template is fixed").progress_chars("=> ")
}

impl Watcher for Bar {
    fn event(&mut self, event: &EventView) {
        if is_shown(event, &mut self.checkpoint_shown_at) {
            self.line.println(&event.text);
        }
    }

    fn progress(&mut self, job: &JobDetail, ledger: &LedgerView) {
        self.pace.read(job, time::now());
        if let (Some(total), false) = (job.summary.total_steps, self.has_total) {
            self.has_total = true;
            self.line.set_length(total);
            self.line.set_style(style(true));
        }
        self.line.set_position(job.summary.step.unwrap_or(0));
        self.line.set_prefix(job.summary.state.name());
        self.line.set_message(status(job, ledger, self.pace.time_left(job)));
    }

    fn say(&mut self, text: &str) {
        self.line.println(text);
    }

    fn finish(&mut self) {
        self.line.finish_and_clear();
    }
}

/// What goes above the bar: not every rank's start, and a checkpoint now and then.
fn is_shown(event: &EventView, checkpoint_shown_at: &mut Option<u64>) -> bool {
    match event.kind.as_str() {
        "rank_started" => false,
        "checkpoint" => {
            let is_due = checkpoint_shown_at
                .is_none_or(|shown_at| event.at >= shown_at.saturating_add(CHECKPOINT_EVERY_MS));
            if is_due {
                *checkpoint_shown_at = Some(event.at);
            }
            is_due
        }
        _ => true,
    }
}

/// What stands behind the bar, the most wanted first: a narrow terminal cuts the rest.
fn status(job: &JobDetail, so_far: &LedgerView, left: Option<Millis>) -> String {
    let mut parts = Vec::new();
    if let (None, Some(step)) = (job.summary.total_steps, job.summary.step) {
        parts.push(format!("step {step}"));
    }
    if job.summary.loss.is_some() {
        parts.push(format!("loss {}", loss(job.summary.loss)));
    }
    if let Some(left) = left {
        parts.push(format!("{left} left"));
    }
    if job.faults > 0 {
        parts.push(format!("{}, attempt {}", counted(job.faults, "fault"), job.attempt()));
    }
    if let Some(tokens) = job.tokens_per_second {
        parts.push(format!("{} tok/s", rate(tokens)));
    }
    if ledger::share(so_far).is_some_and(|share| share > 0.0) {
        parts.push(format!("goodput {}", ledger::percent(so_far)));
    }
    if let (None, Some(reason)) = (job.summary.step, &job.summary.reason) {
        parts.push(reason.clone());
    }
    parts.join("  ")
}

/// How fast the job goes, from what it reported lately.
#[derive(Default)]
struct Pace {
    attempt: u32,
    /// (when, step), a new one for each new step.
    readings: VecDeque<(u64, u64)>,
}

impl Pace {
    fn read(&mut self, job: &JobDetail, now: u64) {
        if self.attempt != job.attempt() {
            self.attempt = job.attempt();
            self.readings.clear();
        }
        let Some(step) = job.summary.step else { return };
        if self.readings.back().is_some_and(|&(_, last)| step <= last) {
            return;
        }
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back((now, step));
    }

    fn time_left(&self, job: &JobDetail) -> Option<Millis> {
        let (&(began, first), &(now, last)) = (self.readings.front()?, self.readings.back()?);
        let left = job.summary.total_steps?.saturating_sub(last);
        let steps = last.checked_sub(first).filter(|&steps| steps > 0)?;
        let ms = u128::from(now.saturating_sub(began)) * u128::from(left) / u128::from(steps);
        // To the second: more would only flicker.
        Some(Millis::from_secs(u64::try_from(ms).ok()?.div_ceil(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn the_status_names_loss_time_and_faults_first() {
        let job = sample::detail();
        let text = status(&job, &job.ledger, Some(Millis::from_secs(200)));
        insta::assert_snapshot!(text, @"loss 2.3104  3m 20s left  1 fault, attempt 2  41.2k tok/s  goodput 92.3%");
    }

    #[test]
    fn a_job_that_waits_says_why() {
        let mut job = sample::detail();
        (job.summary.step, job.summary.loss, job.summary.total_steps) = (None, None, None);
        (job.tokens_per_second, job.faults) = (None, 0);
        job.summary.reason = Some("job 2 is before it in the queue".into());
        assert_eq!(status(&job, &LedgerView::default(), None), "job 2 is before it in the queue");
    }

    #[test]
    fn time_left_follows_the_newest_attempt() {
        let mut pace = Pace::default();
        let mut job = sample::detail();
        job.summary.total_steps = Some(100);
        for (at, attempt, step) in [(0, 1, 0), (1000, 1, 50), (9000, 2, 40), (10_000, 2, 50)] {
            (job.attempts[1].epoch, job.summary.step) = (attempt, Some(step));
            pace.read(&job, at);
        }
        assert_eq!(pace.time_left(&job), Some(Millis::from_secs(5)));
    }

    #[test]
    fn checkpoints_are_shown_now_and_then() {
        let mut shown_at = None;
        let shown: Vec<bool> = [0, 1000, 29_999, 30_000, 59_999, 60_000]
            .into_iter()
            .map(|at| {
                let event = EventView { kind: "checkpoint".into(), at, ..sample::fault() };
                is_shown(&event, &mut shown_at)
            })
            .collect();
        assert_eq!(shown, [true, false, false, true, false, true]);
    }
}
