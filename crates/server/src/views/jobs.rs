//! One job, and all of them.

use super::View;
use super::replicas::replicas;
use crate::telemetry::JobReadings;
use lindos_api::user::{
    AttemptSummary, JobDetail, JobSummary, RankView, StragglerView, WarmSpare, WarmView,
};
use lindos_core::Core;
use lindos_core::gang::attempt::{Attempt, MemberState};
use lindos_core::job::{Job, PastAttempt};
use lindos_core::queue::order::Shape;
use lindos_model::{JobId, JobState, Millis, WaitReason};
use std::collections::BTreeMap;

/// Ranks shown of one job, unless more are asked for.
pub const RANKS_MAX: usize = 65_536;

/// At most `limit` jobs, those after job `after`, by id.
pub fn jobs(view: &View<'_>, after: u64, limit: usize) -> Vec<JobSummary> {
    let later = view.core.jobs().skip_while(|job| job.id.0 <= after);
    let mut reasons = Reasons::new(view.core);
    later.take(limit).map(|job| summary(view, job, &mut reasons)).collect()
}

/// Why jobs wait, at the cost of a look at each, not of a search for each.
///
/// A pass over the queue notes the reason at the first of jobs alike, so the others have it from
/// there.
struct Reasons<'a> {
    core: &'a Core,
    alike: BTreeMap<(Shape, Option<Millis>), WaitReason>,
    /// Jobs whose reason may still be searched for.
    searches_left: u32,
}

/// A search costs a copy of the index.
const SEARCHES_MAX: u32 = 16;

impl<'a> Reasons<'a> {
    fn new(core: &'a Core) -> Reasons<'a> {
        Reasons { core, alike: BTreeMap::new(), searches_left: SEARCHES_MAX }
    }

    fn of(&mut self, job: &Job) -> Option<WaitReason> {
        let noted = self.core.why_as_noted(job.id)?;
        let key = (Shape::of(&job.spec), job.spec.time_limit);
        if noted != WaitReason::New {
            if noted.is_for_room() {
                self.alike.insert(key, noted.clone());
            }
            return Some(noted);
        }
        if let Some(reason) = self.alike.get(&key) {
            return Some(reason.clone());
        }
        if self.searches_left == 0 {
            return Some(noted);
        }
        self.searches_left -= 1;
        let reason = self.core.why(job.id)?;
        self.alike.insert(key, reason.clone());
        Some(reason)
    }
}

/// Those of its newest attempt.
fn readings<'a>(view: &View<'a>, job: &Job) -> Option<&'a JobReadings> {
    let newest = match &job.attempt {
        Some(attempt) => attempt.epoch,
        None => job.history.last()?.epoch,
    };
    view.telemetry.job(job.id).filter(|readings| readings.attempt == newest)
}

fn summary(view: &View<'_>, job: &Job, reasons: &mut Reasons<'_>) -> JobSummary {
    let readings = readings(view, job);
    let state = job.state();
    let hold = view.core.holds().get(&job.id);
    JobSummary {
        job: job.id.0,
        name: job.spec.name.clone(),
        user: job.user.clone(),
        state,
        epoch: job.epoch.0,
        nodes: job.spec.nodes,
        gpus: u32::try_from(job.gpus()).unwrap_or(u32::MAX),
        priority: job.priority,
        submitted_at: job.submitted_at.0,
        started_at: job.started_at.map(|at| at.0),
        ended_at: job.ended_at.map(|at| at.0),
        step: readings.and_then(|readings| readings.step).or_else(|| recorded_step(job)),
        total_steps: readings.and_then(|readings| readings.total_steps).or(job.total_steps),
        loss: readings.and_then(|readings| readings.loss).or(from_micro(job.last_loss_micro)),
        reason: match &job.ended {
            Some((JobState::Completed, _)) => None,
            Some((_, reason)) => Some(reason.to_string()),
            None => reasons.of(job).map(|reason| reason.to_string()),
        },
        team: job.spec.team.clone(),
        array_index: job.array_index,
        nodes_running: if job.is_over() {
            0
        } else {
            job.attempt.as_ref().map_or(0, |attempt| attempt.members.len() as u32)
        },
        nodes_held: hold.map_or(0, |hold| hold.nodes.len() as u32),
        reserved_start: hold.and_then(|hold| hold.from).map(|at| at.0),
    }
}

/// The newest step that the journal knows of the newest attempt.
fn recorded_step(job: &Job) -> Option<u64> {
    match &job.attempt {
        Some(attempt) => attempt.pace.step,
        None => job.history.last().and_then(|past| past.last_step),
    }
}

fn from_micro(micro: Option<i64>) -> Option<f64> {
    micro.map(|micro| micro as f64 / 1e6)
}

/// All about one job.
pub fn job(view: &View<'_>, id: JobId) -> Option<JobDetail> {
    job_with_ranks(view, id, RANKS_MAX)
}

/// All about one job, and at most `ranks_max` of its ranks.
pub fn job_with_ranks(view: &View<'_>, id: JobId, ranks_max: usize) -> Option<JobDetail> {
    let job = view.core.job(id)?;
    let readings = readings(view, job);
    let summary = summary(view, job, &mut Reasons::new(view.core));
    Some(JobDetail {
        command: job.spec.command.clone(),
        checkpoint_step: job.checkpoint_step,
        first_loss: from_micro(job.first_loss_micro)
            .or(readings.and_then(|readings| readings.first_loss)),
        last_loss: summary.loss,
        tokens_per_second: readings.and_then(|readings| readings.tokens_per_second(view.now)),
        faults: job.faults,
        retries_left_infrastructure: job
            .spec
            .retry_infrastructure
            .saturating_sub(job.infrastructure_used),
        retries_left_user: job.spec.retry_user.saturating_sub(job.user_used),
        wait_reason: view.core.why(id),
        end_reason: job.ended.as_ref().map(|(_, reason)| reason.clone()),
        attempts: attempts(view, job),
        ranks: job
            .attempt
            .as_ref()
            .map(|attempt| ranks(view, id, attempt).take(ranks_max).collect())
            .unwrap_or_default(),
        ledger: job.ledger.at(view.now).into(),
        straggler: straggler(view, job),
        summary,
    })
}

/// The rank that the others wait for now.
pub(super) fn straggler(view: &View<'_>, job: &Job) -> Option<StragglerView> {
    let attempt = job.attempt.as_ref().filter(|_| !job.is_over())?;
    let straggler = attempt.evidence.straggler?;
    let node = view.core.node(attempt.node_of_rank(straggler.rank)?)?;
    let (node, text) = (node.spec.name.clone(), straggler.to_string());
    Some(StragglerView { node, straggler, text })
}

fn attempts(view: &View<'_>, job: &Job) -> Vec<AttemptSummary> {
    let mut attempts: Vec<AttemptSummary> = job.history.iter().map(past).collect();
    let present = job
        .attempt
        .as_ref()
        .filter(|attempt| job.history.last().is_none_or(|newest| newest.epoch < attempt.epoch));
    attempts.extend(present.map(|attempt| AttemptSummary {
        epoch: attempt.epoch.0,
        started_at: attempt.launched_at.0,
        first_step_at: attempt.first_step_at.map(|at| at.0),
        ended_at: None,
        resumed_from: attempt.resumed_from,
        last_step: attempt.pace.step,
        end_reason: None,
        charge: None,
        blame: None,
        replicas: replicas(attempt),
        spares: spares(view, attempt),
        warm: warm(view, job, attempt),
    }));
    attempts
}

fn spares(view: &View<'_>, attempt: &Attempt) -> Vec<String> {
    let nodes = attempt.spares.iter().filter_map(|&node| view.core.node(node));
    nodes.map(|node| node.spec.name.clone()).collect()
}

/// What waits for its next start, of a job that asks for that.
fn warm(view: &View<'_>, job: &Job, attempt: &Attempt) -> Option<WarmView> {
    if job.spec.warm_spares == 0 && !job.spec.warm_restarts {
        return None;
    }
    let (on_spares, beside): (Vec<_>, Vec<_>) =
        attempt.standbys.iter().partition(|(node, _)| attempt.spares.contains(node));
    let spares = on_spares.into_iter().filter_map(|(&node, standby)| {
        let node = view.core.node(node)?.spec.name.clone();
        Some(WarmSpare { node, ready: standby.ready_at.is_some() })
    });
    Some(WarmView {
        offered: job.stands_by,
        spares: spares.collect(),
        beside: beside.len() as u32,
        beside_ready: beside.iter().filter(|(_, it)| it.ready_at.is_some()).count() as u32,
    })
}

fn past(past: &PastAttempt) -> AttemptSummary {
    AttemptSummary {
        epoch: past.epoch.0,
        started_at: past.launched_at.0,
        first_step_at: past.first_step_at.map(|at| at.0),
        ended_at: Some(past.ended_at.0),
        resumed_from: past.resumed_from,
        last_step: past.last_step,
        end_reason: Some(past.reason.clone()),
        charge: Some(past.charge),
        blame: past.blame.clone(),
        replicas: Vec::new(),
        spares: Vec::new(),
        warm: None,
    }
}

fn ranks<'a>(
    view: &View<'a>,
    job: JobId,
    attempt: &'a Attempt,
) -> impl Iterator<Item = RankView> + 'a {
    let telemetry = view.telemetry.job(job);
    let readings = telemetry.filter(|readings| readings.attempt == attempt.epoch);
    let core = view.core;
    attempt.ranks().map(move |(rank, node, member, state)| {
        let exit = state.exit.as_ref().map(|exit| exit.exit.clone());
        let word = match (&exit, member) {
            (Some(exit), _) if exit.is_success() => "exited",
            (Some(_), _) | (None, MemberState::Gone) => "failed",
            (None, _) if state.pid == 0 => "launching",
            (None, _) => "running",
        };
        let epoch = attempt.epoch_of((rank.0 / u32::from(attempt.ranks_per_node)) as usize);
        RankView {
            rank: rank.0,
            pid: state.pid,
            node: core.node(node).map(|node| node.spec.name.clone()).unwrap_or_default(),
            epoch: epoch.0,
            state: word.to_string(),
            step: readings.and_then(|readings| readings.rank_step(rank, epoch)),
            at: readings
                .and_then(|readings| readings.rank_stack(rank, epoch))
                .map(|stack| stack.at.clone()),
            exit,
        }
    })
}
