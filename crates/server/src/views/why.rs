//! Why a job is where it is, in one plain sentence, and what would help.

use super::{View, jobs, replicas};
use lindos_api::user::Why;
use lindos_core::explain::outlook::{Change, Outlook};
use lindos_core::gang::attempt::{MemberState, Phase};
use lindos_core::health::fleet::{Node, NodeState};
use lindos_core::job::Job;
use lindos_core::queue::hold::Hold;
use lindos_model::{EndReason, JobId, JobSpec, JobState, Level, Millis, Time, WaitReason};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Hints of one kind: the first few help, a list of a fleet does not.
const HINTS_MAX: usize = 3;

pub fn why(view: &View<'_>, id: JobId) -> Option<Why> {
    let job = view.core.job(id)?;
    let state = job.state();
    let Some(outlook) = view.core.outlook(id) else {
        let (answer, hints) = (sentence(view, job), end_hints(view, job));
        return Some(Why { job: id.0, state, answer, hints, ..Why::default() });
    };
    let hold = view.core.holds().get(&id);
    Some(Why {
        job: id.0,
        state,
        answer: wait_sentence(view, job, &outlook.reason),
        hints: hints(view, &Words::of(job), &outlook),
        likely_start: outlook.likely.map(|at| at.0),
        latest_start: outlook.latest.map(|at| at.0),
        when: when(view, &outlook, hold),
        nodes_held: hold.map_or(0, |hold| hold.nodes.len() as u32),
        reserved_start: hold.and_then(|hold| hold.from).map(|at| at.0),
        wait_reason: Some(outlook.reason),
    })
}

/// A job as hints speak of it: one that waits, or one that was not submitted.
pub struct Words<'a> {
    spec: &'a JobSpec,
    id: Option<JobId>,
    starts: &'static str,
}

impl<'a> Words<'a> {
    fn of(job: &'a Job) -> Words<'a> {
        Words { spec: &job.spec, id: Some(job.id), starts: "it starts now" }
    }

    /// Of a job that was not submitted.
    pub fn would(spec: &'a JobSpec) -> Words<'a> {
        Words { spec, id: None, starts: "it would start now" }
    }

    fn priority(&self, view: &View<'_>) -> i32 {
        let classes = &view.core.policy().classes;
        let class = classes.iter().find(|class| class.name == self.spec.class);
        class.map_or(self.spec.priority, |class| class.priority)
    }
}

/// What would help: first the changes of which each alone starts the job.
pub fn hints(view: &View<'_>, words: &Words<'_>, outlook: &Outlook) -> Vec<String> {
    if let WaitReason::TeamLimit { limit, wanted, .. } = outlook.reason
        && wanted > limit
    {
        return over_limit(words.spec, limit, wanted);
    }
    let mut hints: Vec<String> = outlook.changes.iter().map(|c| change(words, c)).collect();
    hints.extend(wait_hints(view, words, outlook));
    hints
}

/// For a job that alone is more than its team may ever hold.
fn over_limit(spec: &JobSpec, limit: u64, wanted: u64) -> Vec<String> {
    let segment = spec.segment.unwrap_or(1);
    let most = (limit / u64::from(spec.gpus_per_node)) as u32 / segment * segment;
    let mut hints = Vec::new();
    if most > 0 {
        hints.push(format!(
            "with gang.nodes = {most} (instead of {}) the limit allows it",
            spec.nodes
        ));
    }
    hints.push(format!("the team's limit must be {} GPUs higher", wanted - limit));
    hints
}

/// When a job starts by itself, in a sentence.
pub fn when(view: &View<'_>, outlook: &Outlook, hold: Option<&Hold>) -> Option<String> {
    if !outlook.reason.is_for_room() {
        return None;
    }
    let held = hold.filter(|hold| !hold.nodes.is_empty());
    if held.is_some_and(|hold| hold.preempts) {
        return Some("it starts when the jobs that are being stopped for it are gone".to_string());
    }
    if matches!(outlook.reason, WaitReason::Held { .. }) && outlook.latest.is_none() {
        let text = "it starts once the gangs that come first have started and left room";
        return Some(text.to_string());
    }
    let span = |at: Time| coarse(at.since(view.now));
    let mut text = match (outlook.likely, outlook.latest) {
        (Some(likely), Some(latest)) if span(likely) != span(latest) => format!(
            "it starts in {} if running jobs use as much of their time limits as jobs here have, \
             and in {} at the latest, unless others come before it",
            span(likely),
            span(latest)
        ),
        (_, Some(latest)) => format!(
            "it starts in {} at the latest, by the time limits of running jobs, unless others come \
             before it",
            span(latest)
        ),
        (Some(likely), None) => format!(
            "it starts in about {} if running jobs take as long as jobs here have; they have no \
             time limits that promise it",
            span(likely)
        ),
        (None, None) => {
            "nobody can tell when it starts: jobs in its way have no time limits".to_string()
        }
    };
    if let Some(hold) = held {
        let (nodes, are) = counted(hold.nodes.len(), "node", "nodes");
        let _ = write!(text, "; {nodes} {are} held for it");
    }
    Some(text)
}

/// So many of something, and the verb that goes with it.
fn counted(count: usize, one: &str, many: &str) -> (String, &'static str) {
    if count == 1 { (format!("1 {one}"), "is") } else { (format!("{count} {many}"), "are") }
}

/// A span as people say it of the future: one unit, and not a second too exact.
pub fn coarse(span: Millis) -> String {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    match span.0 {
        ms if ms < 1000 => "moments".to_string(),
        ms if ms < 2 * MINUTE => format!("{} s", ms / 1000),
        ms if ms < 2 * HOUR => format!("{} min", ms / MINUTE),
        ms if ms < 72 * HOUR => format!("{} h", ms / HOUR),
        ms => format!("{} days", ms / (24 * HOUR)),
    }
}

/// A change that would start the job now.
fn change(words: &Words<'_>, change: &Change) -> String {
    let (spec, starts) = (words.spec, words.starts);
    match change {
        Change::FewerNodes { nodes } => {
            format!("with gang.nodes = {nodes} (instead of {}) {starts}", spec.nodes)
        }
        Change::WiderSpan { within: Level::Fleet } => {
            format!("without gang.within = \"{}\" {starts}", spec.within)
        }
        Change::WiderSpan { within } => {
            format!("with gang.within = \"{within}\" (instead of \"{}\") {starts}", spec.within)
        }
        Change::OtherPlatform { platform } => {
            format!("with \"{platform}\" among gang.platforms {starts}")
        }
        Change::NoLabels => format!("without gang.labels {starts}"),
        Change::NoExclusions => format!("without gang.exclude {starts}"),
        Change::ShorterLimit { limit } => format!(
            "with time_limit = \"{}\" {starts}: it is over before the nodes that are held for \
             others are wanted",
            coarse(*limit)
        ),
        Change::TeamGivesBack { team, gpus } => format!(
            "team {team} must give back {gpus} GPUs, or have a limit that is {gpus} GPUs higher"
        ),
    }
}

fn wait_sentence(view: &View<'_>, job: &Job, reason: &WaitReason) -> String {
    let id = job.id;
    match reason {
        WaitReason::Backoff { until, .. } => {
            format!("job {id} waits: {reason}; {} to go", until.since(view.now))
        }
        _ => format!("job {id} waits: {reason}{}", only(&job.spec, reason)),
    }
}

/// Which nodes count for the job at all, where it says so and it matters.
pub fn only(spec: &JobSpec, reason: &WaitReason) -> String {
    let matters = reason.is_for_room()
        || matches!(reason, WaitReason::NeverFits { .. } | WaitReason::NodesOut { .. });
    let mut of = Vec::new();
    if !spec.platforms.is_empty() {
        of.push(format!("of platform {}", spec.platforms.join(" or ")));
    }
    if !spec.labels.is_empty() {
        let labels: Vec<String> =
            spec.labels.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        of.push(format!("with {}", labels.join(", ")));
    }
    if !spec.exclude.is_empty() {
        let mut names: Vec<&str> = spec.exclude.iter().map(String::as_str).collect();
        let more = names.len().saturating_sub(HINTS_MAX);
        names.truncate(HINTS_MAX);
        let more = if more > 0 { format!(" and {more} others") } else { String::new() };
        of.push(format!("other than {}{more}", names.join(", ")));
    }
    if of.is_empty() || !matters {
        return String::new();
    }
    format!(" (only nodes {} count)", of.join(" "))
}

/// For a job that does not wait.
fn sentence(view: &View<'_>, job: &Job) -> String {
    let id = job.id;
    let since = |at: Option<lindos_model::Time>| view.now.since(at.unwrap_or(view.now));
    match (job.state(), &job.attempt) {
        (JobState::Completed, _) => format!("job {id} is completed: every rank finished"),
        (JobState::Cancelled, _) => match &job.ended {
            Some((_, reason @ EndReason::AfterFailed { .. })) => {
                format!("job {id} was cancelled: {reason}")
            }
            _ => format!("job {id} was cancelled"),
        },
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
            let Some(step) = attempt.pace.step else {
                let for_span = since(attempt.all_up_at);
                return format!("job {id} is running for {for_span}, and has not told a step yet");
            };
            let replicas = replicas::sentence(attempt, view.now);
            let replicas = replicas.map(|said| format!(": {said}")).unwrap_or_default();
            let slow = jobs::straggler(view, job)
                .map(|slow| format!("; {} slows it down: {}", slow.node, slow.text));
            let slow = slow.unwrap_or_default();
            format!("job {id} is running, and has reached step {step}{replicas}{slow}")
        }
        (state, None) => format!("job {id} is {state}"),
    }
}

fn wait_hints(view: &View<'_>, words: &Words<'_>, outlook: &Outlook) -> Vec<String> {
    let fewer = |nodes: u32| {
        let is_said = outlook.changes.contains(&Change::FewerNodes { nodes });
        (!is_said).then(|| format!("with gang.nodes = {nodes} it could start some day"))
    };
    match &outlook.reason {
        WaitReason::NeverFits { nodes_that_could: 0, .. } => no_such_node(view, words.spec),
        WaitReason::NeverFits { within: Level::Fleet, nodes_that_could, .. } => {
            let gpus = words.spec.gpus_per_node;
            let mut hints: Vec<String> = fewer(*nodes_that_could).into_iter().collect();
            hints.push(format!("or the fleet needs more nodes with {gpus} GPUs"));
            hints.extend(spares(view));
            hints
        }
        WaitReason::NeverFits { nodes_that_could, .. } => {
            let mut hints: Vec<String> = fewer(*nodes_that_could).into_iter().collect();
            let is_said = |change: &Change| matches!(change, Change::WiderSpan { .. });
            if !outlook.changes.iter().any(is_said) {
                hints.push("or gang.within must be something larger".to_string());
            }
            hints
        }
        WaitReason::Busy { .. } => holders(view, words),
        WaitReason::Held { .. } => holds(view, words),
        WaitReason::New | WaitReason::Scattered { .. } | WaitReason::TeamLimit { .. } => Vec::new(),
        WaitReason::After { job: first } => {
            vec![format!("`lindos why {first}` tells how job {first} gets on")]
        }
        WaitReason::NodesOut { .. } => nodes_out(view, words.spec.gpus_per_node),
        WaitReason::Behind { job: first } => vec![
            format!("`lindos why {first}` tells what job {first} waits for"),
            format!("a priority above that of job {first} puts this one before it"),
        ],
        WaitReason::Backoff { .. } => words
            .id
            .map(|id| format!("`lindos logs {id}` shows how the last attempt ended"))
            .into_iter()
            .collect(),
    }
}

/// What no node here has of what the job asks for.
fn no_such_node(view: &View<'_>, spec: &JobSpec) -> Vec<String> {
    let nodes = view.core.nodes();
    if nodes.is_empty() {
        return vec!["the fleet has no nodes yet: start agents on some".to_string()];
    }
    let mut hints = Vec::new();
    let platforms: BTreeSet<&str> = nodes.iter().map(|node| node.spec.platform.as_str()).collect();
    if !spec.platforms.is_empty()
        && !spec.platforms.iter().any(|wanted| platforms.contains(wanted.as_str()))
    {
        let here: Vec<&str> = platforms.into_iter().collect();
        hints.push(format!("the platforms here are: {}", here.join(", ")));
    }
    for (key, value) in &spec.labels {
        if !nodes.iter().any(|node| node.spec.labels.get(key) == Some(value)) {
            hints.push(format!("no node here has the label {key} = {value}"));
        }
    }
    let most = nodes.iter().map(|node| node.spec.gpus).max().unwrap_or(0);
    if most < spec.gpus_per_node {
        hints.push(format!("lower gang.gpus_per_node to {most}, the most that a node here has"));
    }
    if hints.is_empty() {
        hints.push("no one node here has all of it: ask for less of it".to_string());
    }
    hints
}

fn spares(view: &View<'_>) -> Option<String> {
    let spares = view.core.policy().spares;
    match spares {
        0 => None,
        1 => Some("1 node is kept as a spare, by the policy".to_string()),
        many => Some(format!("{many} nodes are kept as spares, by the policy")),
    }
}

/// For whom nodes are held, the largest holds first.
fn holds(view: &View<'_>, words: &Words<'_>) -> Vec<String> {
    let others = view.core.holds().iter().filter(|(job, _)| Some(**job) != words.id);
    let mut holds: Vec<(&JobId, &Hold)> = others.collect();
    holds.sort_by_key(|(job, hold)| (std::cmp::Reverse(hold.nodes.len()), **job));
    let one = |(job, hold): &(&JobId, &Hold)| {
        let (nodes, are) = counted(hold.nodes.len(), "node", "nodes");
        let starts = match hold.from {
            Some(from) => {
                format!("starts in {} at the latest", coarse(from.since(view.now)))
            }
            None => "starts when the rest of its nodes are free".to_string(),
        };
        format!("{nodes} {are} held for job {job}, which {starts}")
    };
    holds.iter().take(HINTS_MAX).map(one).collect()
}

/// The running jobs that are least important, and hold most.
fn holders(view: &View<'_>, words: &Words<'_>) -> Vec<String> {
    let is_running = |other: &&Job| {
        !other.is_over() && other.attempt.as_ref().is_some_and(|attempt| !attempt.is_stopping())
    };
    let mut running: Vec<&Job> = view.core.jobs().filter(is_running).collect();
    running.sort_by_key(|other| (other.priority, std::cmp::Reverse(other.gpus()), other.id));
    let priority = words.priority(view);
    let no_more_important = |other: &&&Job| other.priority <= priority;
    let shown = running.iter().filter(no_more_important).take(HINTS_MAX);
    shown
        .map(|other| {
            let (id, gpus) = (other.id, other.spec.gpus_per_node);
            let (nodes, _) = counted(other.spec.nodes as usize, "node", "nodes");
            let name = &other.spec.name;
            format!("cancelling job {id} ({name}) would free {gpus} GPUs on {nodes}")
        })
        .collect()
}

fn nodes_out(view: &View<'_>, gpus: u16) -> Vec<String> {
    let out = view.core.nodes().iter().filter(|node| !node.in_service() && node.spec.gpus >= gpus);
    out.take(HINTS_MAX).map(how_it_comes_back).collect()
}

/// Of a node that is out.
fn how_it_comes_back(node: &Node) -> String {
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
}

/// For a job that does not wait.
fn end_hints(view: &View<'_>, job: &Job) -> Vec<String> {
    match (job.state(), &job.attempt) {
        (JobState::Failed, _) => {
            vec![format!("`lindos logs {}` shows the end of its output", job.id)]
        }
        (JobState::Running, Some(attempt)) if attempt.pace.step.is_none() => {
            vec!["a job tells its steps over LINDOS_SOCKET or by `progress.pattern`".to_string()]
        }
        (JobState::Running, Some(attempt)) => {
            let nodes = replicas::waited_for(attempt).filter_map(|node| view.core.node(node));
            nodes.filter(|node| !node.in_service()).take(HINTS_MAX).map(how_it_comes_back).collect()
        }
        _ => Vec::new(),
    }
}
