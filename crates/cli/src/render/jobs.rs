//! `lindos jobs`

use super::Style;
use super::number::{loss, steps};
use super::table::Builder;
use super::time::span;
use lindos_api::user::JobSummary;

/// The jobs, and below them one line for each that waits or has failed.
pub fn table(jobs: &[JobSummary], style: &Style) -> String {
    let header = ["JOB", "NAME", "STATE", "GPUS", "TRY", "STEP", "LOSS", "TIME"];
    let mut table = Builder::new(style.width, &header).right(&[0, 3, 4, 5, 6, 7]);
    for job in jobs {
        table.row([
            job.job.to_string(),
            job.full_name(),
            job.state.to_string(),
            job.gpus.to_string(),
            if job.epoch == 0 { "-".to_string() } else { job.epoch.to_string() },
            steps(job.step, job.total_steps),
            loss(job.loss),
            span(job.submitted_at, job.ended_at.unwrap_or(style.now)).to_string(),
        ]);
    }
    let mut text = table.finish();
    let reasons = jobs.iter().filter_map(|job| Some((job, job.reason.as_ref()?)));
    for (index, (job, reason)) in reasons.enumerate() {
        if index == 0 {
            text.push('\n');
        }
        let line = format!("job {}{}: {reason}", job.job, reserved(job, style));
        text.push_str(&cut(&line, usize::from(style.width)));
        text.push('\n');
    }
    text
}

/// When its reserved start is, for a job that has one.
fn reserved(job: &JobSummary, style: &Style) -> String {
    match job.reserved_start {
        Some(at) if at > style.now => format!(" (starts within {})", span(style.now, at)),
        _ => String::new(),
    }
}

/// The whole reason is in `lindos why`.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use lindos_model::JobState;

    #[test]
    fn jobs_fit_eighty_columns() {
        let mut waiting = sample::job();
        waiting.job = 12;
        waiting.name = "a-rather-long-name-of-a-job".to_string();
        waiting.state = JobState::Queued;
        waiting.epoch = 0;
        (waiting.step, waiting.total_steps, waiting.loss) = (None, None, None);
        waiting.reason = Some(
            "it wants 4 nodes with 2 free GPUs each, and 1 have them now; it starts when running \
             jobs free the rest"
                .to_string(),
        );
        let text = table(&[sample::job(), waiting], &sample::style());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @"
        JOB  NAME                        STATE    GPUS  TRY       STEP    LOSS    TIME
          3  tiny-gpt                    running     4    2  1200/5000  2.3104  3m 20s
         12  a-rather-long-name-of-a-jo  queued      4    -          -       -  3m 20s
             b

        job 12: it wants 4 nodes with 2 free GPUs each, and 1 have them now; it starts …
        ");
    }

    #[test]
    fn a_job_of_an_array_has_its_number_and_a_held_one_its_start() {
        let mut waiting = sample::job();
        waiting.state = JobState::Queued;
        waiting.array_index = Some(3);
        waiting.reserved_start = Some(sample::style().now + 2_520_000);
        waiting.reason = Some("it wants 4 nodes".to_string());
        insta::assert_snapshot!(table(&[waiting], &sample::style()), @"
        JOB  NAME         STATE   GPUS  TRY       STEP    LOSS    TIME
          3  tiny-gpt[3]  queued     4    2  1200/5000  2.3104  3m 20s

        job 3 (starts within 42m): it wants 4 nodes
        ");
    }

    #[test]
    fn no_reason_no_column() {
        insta::assert_snapshot!(table(&[sample::job()], &sample::style()), @"
        JOB  NAME      STATE    GPUS  TRY       STEP    LOSS    TIME
          3  tiny-gpt  running     4    2  1200/5000  2.3104  3m 20s
        ");
    }
}
