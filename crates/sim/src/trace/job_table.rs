//! What became of each job, as CSV: for whoever wants other figures than ours.

use super::report::Run;
use super::shape::TraceJob;
use super::world::End;
use lindos_model::Time;

const HEADER: [&str; 11] = [
    "policy",
    "line",
    "id",
    "team",
    "user",
    "gpus",
    "submit_ms",
    "start_ms",
    "end_ms",
    "end",
    "preemptions",
];

/// One line for each job of each run. Times are on the trace's clock; empty where there is none.
pub fn csv(jobs: &[TraceJob], runs: &[Run]) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let written = "a vector takes all that is written";
    writer.write_record(HEADER).expect(written);
    let time = |at: Option<Time>| at.map_or_else(String::new, |at| at.0.to_string());
    for run in runs {
        for (job, became) in jobs.iter().zip(&run.outcome.jobs) {
            let end = match became.end {
                End::None => "unfinished",
                End::Completed => "completed",
                End::Failed => "failed",
                End::Refused => "refused",
            };
            let fields = [
                run.measures.policy.clone(),
                job.line.to_string(),
                job.id.clone(),
                job.spec.team.clone(),
                job.user.clone(),
                job.gpus.to_string(),
                job.submit.0.to_string(),
                time(became.started),
                time(became.ended),
                end.to_string(),
                became.preempted.to_string(),
            ];
            writer.write_record(&fields).expect(written);
        }
    }
    writer.into_inner().expect(written)
}
