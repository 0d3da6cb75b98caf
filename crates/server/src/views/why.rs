//! Why a job is where it is, in one plain sentence, and what would help.

use super::View;
use lindos_api::user::Why;
use lindos_core::explain::outlook::{Change, Outlook};
use lindos_core::gang::attempt::{MemberState, Phase};
use lindos_core::health::fleet::NodeState;
use lindos_core::job::Job;
use lindos_model::{JobId, JobSpec, JobState, Level, Millis, Time, WaitReason};

/// Hints of one kind: the first few help, a list of a fleet does not.
const HINTS_MAX: usize = 3;

pub fn why(view: &View<'_>, id: JobId) -> Option<Why> {
    let job = view.core.job(id)?;
    let state = job.state();
    let Some(outlook) = view.core.outlook(id) else {
        let (answer, hints) = (sentence(view, job), end_hints(job));
        return Some(Why { job: id.0, state, answer, hints, ..Why::default() });
    };
    let reason = &outlook.reason;
    let mut hints: Vec<String> = outlook.changes.iter().map(|c| change(&job.spec, c)).collect();
    hints.extend(wait_hints(view, job, reason));
    Some(Why {
        job: id.0,
        state,
        answer: wait_sentence(view, job, reason),
        hints,
        likely_start: outlook.likely.map(|at| at.0),
        latest_start: outlook.latest.map(|at| at.0),
        when: when(view, &outlook),
        wait_reason: Some(outlook.reason),
    })
}

/// When a job starts by itself, in a sentence.
pub fn when(view: &View<'_>, outlook: &Outlook) -> Option<String> {
    let span = |at: Time| coarse(at.since(view.now));
    if !outlook.reason.is_for_room() {
        return None;
    }
    Some(match (outlook.likely, outlook.latest) {
        (Some(likely), Some(latest)) if span(likely) != span(latest) => format!(
            "it starts in {} to {}: as jobs here use their time limits, and at the latest by them",
            span(likely),
            span(latest)
        ),
        (_, Some(latest)) => {
            format!(
                "it starts in {} at the latest, by the time limits of those before it",
                span(latest)
            )
        }
        (Some(likely), None) => format!(
            "it starts in {} if running jobs take as long as jobs here do; no time limit promises it",
            span(likely)
        ),
        (None, None) => {
            "nobody knows when it starts: the jobs in its way have no time limits".to_string()
        }
    })
}

/// A span as people say it of the future: one unit, and not a second too exact.
fn coarse(span: Millis) -> String {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    match span.0 {
        ms if ms < 2 * MINUTE => format!("{} s", ms / 1000),
        ms if ms < 2 * HOUR => format!("{} min", ms / MINUTE),
        ms if ms < 72 * HOUR => format!("{} h", ms / HOUR),
        ms => format!("{} days", ms / (24 * HOUR)),
    }
}

/// A change that would start the job now.
pub fn change(spec: &JobSpec, change: &Change) -> String {
    match change {
        Change::FewerNodes { nodes } => {
            format!("with gang.nodes = {nodes} (instead of {}) it starts now", spec.nodes)
        }
        Change::WiderSpan { within: Level::Fleet } => {
            format!("without gang.within = \"{}\" it starts now", spec.within)
        }
        Change::WiderSpan { within } => {
            format!(
                "with gang.within = \"{within}\" (instead of \"{}\") it starts now",
                spec.within
            )
        }
        Change::OtherPlatform { platform } => {
            format!("with \"{platform}\" among gang.platforms it starts now")
        }
        Change::NoLabels => "without gang.labels it starts now".to_string(),
        Change::NoExclusions => "without gang.exclude it starts now".to_string(),
        Change::ShorterLimit { limit } => format!(
            "with time_limit = \"{}\" it starts now: it would be over before the nodes are wanted \
             that are held for others",
            coarse(*limit)
        ),
        Change::TeamGivesBack { team, gpus } => format!(
            "it starts when jobs of team {team} give back {gpus} GPUs, or its limit is {gpus} higher"
        ),
    }
}

fn wait_sentence(view: &View<'_>, job: &Job, reason: &WaitReason) -> String {
    let id = job.id;
    match reason {
        WaitReason::Backoff { until, .. } => {
            format!("job {id} waits: {reason}; {} to go", until.since(view.now))
        }
        _ => format!("job {id} waits: {reason}"),
    }
}

/// For a job that does not wait.
fn sentence(view: &View<'_>, job: &Job) -> String {
    let id = job.id;
    let since = |at: Option<lindos_model::Time>| view.now.since(at.unwrap_or(view.now));
    match (job.state(), &job.attempt) {
        (JobState::Completed, _) => format!("job {id} is completed: every rank finished"),
        (JobState::Cancelled, _) => format!("job {id} was cancelled"),
        (JobState::Failed, _) => match &job.ended {
            Some((_, reason)) => format!("job {id} failed: {reason}"),
            None => format!("job {id} failed"),
        },
        (JobState::Starting, Some(attempt)) => {
            let up = attempt.members.iter().filter(|m| m.state != MemberState::Launching).count();
            let all = attempt.members.len();
            let for_span = since(Some(attempt.launched_at));
            format!("job {id} is starting for {for_span}: {up} of {all} nodes run its ranks")
        }
        (JobState::Stopping, Some(attempt)) => {
            let gone = attempt.members.iter().filter(|m| m.state == MemberState::Gone).count();
            let all = attempt.members.len();
            match &attempt.phase {
                Phase::Stopping { reason, .. } => format!(
                    "job {id} is being stopped, because {reason}; {gone} of {all} nodes are done"
                ),
                _ => format!("job {id} is being stopped; {gone} of {all} nodes are done"),
            }
        }
        (_, Some(attempt)) => {
            let for_span = since(attempt.all_up_at);
            attempt.pace.step.map_or_else(
                || format!("job {id} is running for {for_span}, and has not told a step yet"),
                |step| format!("job {id} is running, and has reached step {step}"),
            )
        }
        (state, None) => format!("job {id} is {state}"),
    }
}

fn wait_hints(view: &View<'_>, job: &Job, reason: &WaitReason) -> Vec<String> {
    let gpus = job.spec.gpus_per_node;
    match reason {
        WaitReason::New => Vec::new(),
        WaitReason::NeverFits { nodes_that_could: 0, .. } => {
            let most = view.core.nodes().iter().map(|node| node.spec.gpus).max().unwrap_or(0);
            if most == 0 {
                return vec!["the fleet has no nodes yet: start agents on some".to_string()];
            }
            vec![format!("lower gang.gpus_per_node to {most}, the most that a node here has")]
        }
        WaitReason::NeverFits { within: Level::Fleet, nodes_that_could, .. } => vec![
            format!("lower gang.nodes to {nodes_that_could}"),
            format!("or add nodes with {gpus} GPUs or more"),
        ],
        WaitReason::NeverFits { nodes_that_could, .. } => {
            vec![format!("lower gang.nodes to {nodes_that_could}, or widen gang.within")]
        }
        WaitReason::Busy { .. } => holders(view, job),
        WaitReason::Scattered { .. } | WaitReason::Held { .. } | WaitReason::TeamLimit { .. } => {
            Vec::new()
        }
        WaitReason::After { job: first } => {
            vec![format!("`lindos why {first}` tells how job {first} gets on")]
        }
        WaitReason::NodesOut { .. } => nodes_out(view, gpus),
        WaitReason::Behind { job: first } => vec![
            format!("`lindos why {first}` tells what job {first} waits for"),
            format!("a priority above that of job {first} puts this one before it"),
        ],
        WaitReason::Backoff { .. } => {
            vec![format!("`lindos logs {}` shows how the last attempt ended", job.id)]
        }
    }
}

/// The running jobs that are least important, and hold most.
fn holders(view: &View<'_>, job: &Job) -> Vec<String> {
    let mut running: Vec<&Job> =
        view.core.jobs().filter(|other| !other.is_over() && other.attempt.is_some()).collect();
    running.sort_by_key(|other| (other.priority, std::cmp::Reverse(other.gpus()), other.id));
    let no_more_important = |other: &&&Job| other.priority <= job.priority;
    let shown = running.iter().filter(no_more_important).take(HINTS_MAX);
    shown
        .map(|other| {
            let (id, nodes, gpus) = (other.id, other.spec.nodes, other.spec.gpus_per_node);
            format!(
                "cancelling job {id} ({}) would free {gpus} GPUs on {nodes} nodes",
                other.spec.name
            )
        })
        .collect()
}

fn nodes_out(view: &View<'_>, gpus: u16) -> Vec<String> {
    let out = view.core.nodes().iter().filter(|node| !node.in_service() && node.spec.gpus >= gpus);
    out.take(HINTS_MAX)
        .map(|node| {
            let name = &node.spec.name;
            match (node.state, &node.drained) {
                (NodeState::Up, Some(reason)) if !reason.is_empty() => {
                    format!("`lindos undrain {name}` puts it back in service (drained: {reason})")
                }
                (NodeState::Up, _) => format!("`lindos undrain {name}` puts it back in service"),
                (NodeState::Expected, _) => format!("start the agent on {name}: it never reported"),
                (state, _) => {
                    format!("{name} is {}: it is back as soon as its agent reports", state.name())
                }
            }
        })
        .collect()
}

fn end_hints(job: &Job) -> Vec<String> {
    match job.state() {
        JobState::Failed => {
            vec![format!("`lindos logs {}` shows the end of its output", job.id)]
        }
        JobState::Running if job.attempt.as_ref().is_some_and(|a| a.pace.step.is_none()) => {
            vec!["a job tells its steps over LINDOS_SOCKET or by `progress.pattern`".to_string()]
        }
        _ => Vec::new(),
    }
}
