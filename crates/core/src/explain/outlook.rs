//! Why a job does not start, what would start it now, and when it will start by itself.

use crate::Core;
use crate::effect::Rejection;
use crate::gang::attempt::Attempt;
use crate::job::Job;
use crate::placement::index::Index;
use crate::placement::{self, Request};
use crate::queue::forecast::WhatIf;
use crate::queue::limits;
use crate::queue::teams::{Promised, TeamId};
use crate::timer::Timer;
use lindos_model::trail::Span;
use lindos_model::{JobId, JobSpec, Level, Millis, NodeId, Time, WaitReason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One change of a job, or around it, that would start it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It asks for so many nodes.
    FewerNodes { nodes: u32 },
    /// It, or each of its segments, may lie within something larger.
    WiderSpan { within: Level },
    /// It takes this hardware design too.
    OtherPlatform { platform: String },
    /// It asks for no labels.
    NoLabels,
    /// It names no nodes that it keeps away from.
    NoExclusions,
    /// It is over before nodes are wanted that are held for others, or reserved.
    ShorterLimit { limit: Millis },
    /// The team gives back so many GPUs, or its limit is so much higher.
    TeamGivesBack { team: String, gpus: u64 },
}

/// What there is to say of a job that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// The one constraint that binds.
    pub reason: WaitReason,
    /// Each of these alone would start it now.
    pub changes: Vec<Change>,
    /// When it starts if nobody comes before it: as running jobs have used their limits so far …
    pub likely: Option<Time>,
    /// … and if all of them run to their limits.
    pub latest: Option<Time>,
}

/// What would become of a job that was submitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryRun {
    Refused(Rejection),
    Starts { nodes: Vec<NodeId>, span: Span },
    Waits(Box<Outlook>),
}

/// A job as its outlook is asked for: one that waits, or one that was not submitted.
struct Ask<'a> {
    /// All that it wants, as far as its team's limits let it.
    request: Request<'a>,
    spec: &'a JobSpec,
    team: Option<TeamId>,
    /// That waits.
    id: Option<JobId>,
}

impl<'a> Ask<'a> {
    /// As few nodes as it makes do with.
    fn least(&self) -> Request<'a> {
        Request { nodes: self.spec.min_nodes, ..self.request.clone() }
    }
}

impl Core {
    /// The one constraint that keeps a queued job from starting; `None` for any other job.
    pub fn why(&self, id: JobId) -> Option<WaitReason> {
        let job = self.jobs.get(&id).filter(|job| !job.is_over() && job.attempt.is_none())?;
        if let Some(reason) = self.wait_but_for_room(job) {
            return Some(reason);
        }
        let mut index = self.fleet.index().clone();
        let own = self.open_to(job);
        Some(self.room(&self.ask(job, &own), &mut index))
    }

    /// The same, in words that cost nothing: as the last pass over the queue left it.
    pub fn why_as_noted(&self, id: JobId) -> Option<WaitReason> {
        let job = self.jobs.get(&id).filter(|job| !job.is_over() && job.attempt.is_none())?;
        self.wait_but_for_room(job).or_else(|| job.wait.clone())
    }

    /// Why a queued job waits, what would start it, and when it will start.
    pub fn outlook(&self, id: JobId) -> Option<Outlook> {
        let job = self.jobs.get(&id).filter(|job| !job.is_over() && job.attempt.is_none())?;
        let mut index = self.fleet.index().clone();
        let own = self.open_to(job);
        let ask = self.ask(job, &own);
        let reason = self.wait_but_for_room(job).unwrap_or_else(|| self.room(&ask, &mut index));
        Some(self.outlook_for(&ask, reason, &mut index))
    }

    /// What would become of a job, and nothing is changed.
    pub fn dry_run(&self, spec: &JobSpec) -> DryRun {
        if let Err(rejection) = self.acceptable(spec) {
            return DryRun::Refused(rejection);
        }
        let after = match self.after(spec) {
            Ok(open) => open.first().map(|&job| WaitReason::After { job }),
            Err(reason) => {
                let message = format!("it would be cancelled at once: {reason}");
                return DryRun::Refused(Rejection::InvalidJob { key: "after".into(), message });
            }
        };
        let mut index = self.fleet.index().clone();
        let (own, team) = (self.open_besides(spec), self.teams.find(&spec.team));
        let promised = self.promised();
        let left = team.map_or(u64::MAX, |team| self.teams.left_to(team, &promised));
        let (nodes, spares) = (limits::within(spec, left), self.policy.spares);
        let request = Request { nodes, spares, own: &own, ..Request::of(spec) };
        let ask = Ask { request, spec, team, id: None };
        let at_limit = team.and_then(|team| self.first_at_limit(team));
        let blocker = self.queue.blocked_by.or(at_limit).filter(|blocker| {
            self.jobs[blocker].priority >= crate::queue::priority(&self.policy, spec)
        });
        let blocker = blocker.map(|job| WaitReason::Behind { job });
        let waits = after.or(blocker).or_else(|| self.team_limit(spec, &promised));
        let waits = match waits {
            Some(reason) => reason,
            None => match self.would_start(&ask, &mut index) {
                Ok((nodes, span)) => return DryRun::Starts { nodes, span },
                Err(reason) => reason,
            },
        };
        DryRun::Waits(Box::new(self.outlook_for(&ask, waits, &mut index)))
    }

    /// Nodes that are not open to all and would be to this job: its team's, and those that are
    /// wanted only after it is over.
    fn open_besides(&self, spec: &JobSpec) -> Vec<NodeId> {
        let mut nodes = self.reserved_for_team(self.teams.find(&spec.team));
        nodes.retain(|&node| self.fleet.node(node).held_for.is_none());
        let Some(limit) = spec.time_limit else { return nodes };
        let end = self.now + limit + spec.stop_grace;
        nodes.extend(self.open_until(end, self.teams.find(&spec.team), None));
        nodes
    }

    /// Nodes that are not open to all and would be to this one that waits.
    fn open_to(&self, job: &Job) -> Vec<NodeId> {
        let mut nodes = self.open_to_team(job.id);
        nodes.extend(self.held_for(job.id));
        nodes.extend(self.open_before_others(job.id));
        nodes
    }

    fn ask<'a>(&'a self, job: &'a Job, own: &'a [NodeId]) -> Ask<'a> {
        let spares = if self.queue.is_restart(job.id) { 0 } else { self.policy.spares };
        let left = self.teams.left_to(job.team, &self.promised_to(|other, _| other != job.id));
        let nodes = limits::within(&job.spec, left);
        let request = Request { nodes, spares, own, ..Request::of(&job.spec) };
        Ask { request, spec: &job.spec, team: Some(job.team), id: Some(job.id) }
    }

    /// Why a job waits, if it is for something else than room.
    fn wait_but_for_room(&self, job: &Job) -> Option<WaitReason> {
        if self.queue.is_parked(job.id) {
            return self.waits_for(job.id).or_else(|| job.wait.clone());
        }
        // Under the FIFO rule, nobody overtakes the blocked one.
        let blocker = self.queue.blocked_by.filter(|&blocker| {
            let place = |job: &Job| (std::cmp::Reverse(job.priority), job.id);
            self.jobs.get(&blocker).is_some_and(|first| place(first) < place(job))
        });
        let behind = blocker.map(|job| WaitReason::Behind { job });
        behind
            .or_else(|| self.team_limit(&job.spec, &Promised::default()))
            .or_else(|| self.kept_as_noted(job))
    }

    /// What is promised to others of its team may keep a job within the limit, or somebody who comes
    /// first there: as the last pass found it.
    fn kept_as_noted(&self, job: &Job) -> Option<WaitReason> {
        let is_kept = match job.wait.as_ref()? {
            WaitReason::TeamLimit { .. } => true,
            WaitReason::Behind { job: first } => self.queue.contains(*first),
            _ => false,
        };
        is_kept.then(|| job.wait.clone()).flatten()
    }

    fn would_go(
        &self,
        request: &Request<'_>,
        index: &mut Index,
    ) -> Result<(Vec<NodeId>, Span), WaitReason> {
        placement::would_go(index, &self.fleet, request)
    }

    /// Where the job would start, with all that it wants or with what it makes do with.
    fn would_start(
        &self,
        ask: &Ask<'_>,
        index: &mut Index,
    ) -> Result<(Vec<NodeId>, Span), WaitReason> {
        let whole = self.would_go(&ask.request, index);
        match whole {
            Err(reason) if ask.request.nodes > ask.spec.min_nodes => {
                let nodes = self.fewer(ask, &reason, index).ok_or(reason)?;
                self.would_go(&Request { nodes, ..ask.request.clone() }, index)
            }
            whole => whole,
        }
    }

    /// With how many nodes an elastic job tries to start that does not have all, if it does.
    fn fewer(&self, ask: &Ask<'_>, reason: &WaitReason, index: &mut Index) -> Option<u32> {
        let is_restart = ask.id.is_some_and(|id| self.queue.is_restart(id));
        if !is_restart && !self.makes_do(reason) {
            return None;
        }
        let segment = ask.spec.segment.unwrap_or(1);
        let open = placement::most_open(index, &self.fleet, &ask.request);
        let nodes = open.min(ask.request.nodes - 1) / segment * segment;
        Some(nodes.max(ask.spec.min_nodes))
    }

    /// Why there is no place for the job; while there is one, it waits for the next pass over the
    /// queue.
    fn room(&self, ask: &Ask<'_>, index: &mut Index) -> WaitReason {
        self.would_start(ask, index).err().unwrap_or(WaitReason::New)
    }

    fn outlook_for(&self, ask: &Ask<'_>, reason: WaitReason, index: &mut Index) -> Outlook {
        let changes = self.changes(ask, &reason, index);
        let (mut likely, mut latest) = (None, None);
        if reason.is_for_room() {
            let held = ask.id.and_then(|id| self.holds.get(&id)).and_then(|hold| hold.from);
            latest = held.or_else(|| self.start(ask, index, |job| self.ends_by(job)));
            likely = self.start(ask, index, |job| self.likely_end(job));
            if let (Some(soon), Some(late)) = (likely, latest) {
                likely = Some(soon.min(late));
            }
        }
        Outlook { reason, changes, likely, latest }
    }

    /// When there is room for the job, if running jobs end when `end` says.
    fn start(
        &self,
        ask: &Ask<'_>,
        index: &mut Index,
        end: impl Fn(JobId) -> Option<Time>,
    ) -> Option<Time> {
        let mut ends: Vec<(Time, JobId)> =
            self.alive.iter().filter_map(|&job| Some((end(job)?, job))).collect();
        ends.sort_unstable();
        let ends: Vec<(Time, &Attempt)> = ends
            .into_iter()
            .filter_map(|(end, job)| Some((end, self.jobs[&job].attempt.as_ref()?)))
            .collect();
        let mut what_if = WhatIf::new(index, &self.fleet).open_to(ask.request.own);
        let start = what_if.sweep(&ask.least(), &ends).map(|(_, start)| start);
        what_if.undo();
        start
    }

    /// When a running job is over if it uses of its limit what jobs have used so far, or, without a
    /// limit, takes as long as those have.
    fn likely_end(&self, id: JobId) -> Option<Time> {
        let job = &self.jobs[&id];
        let attempt = job.attempt.as_ref()?;
        if attempt.is_stopping() {
            return self.ends_by(id);
        }
        let begun = Time(attempt.launched_at.0.saturating_sub(job.held_ms));
        let span = self.runtimes.likely(job.spec.time_limit)?;
        let end = (begun + span).max(self.now);
        Some(self.timers.get(Timer::TimeLimit(id)).map_or(end, |limit| end.min(limit)))
    }

    /// The smallest changes of each kind that would start the job now.
    fn changes(&self, ask: &Ask<'_>, reason: &WaitReason, index: &mut Index) -> Vec<Change> {
        let is_elastic = self.makes_do(reason) && ask.spec.min_nodes < ask.spec.nodes;
        let request = &if is_elastic { ask.least() } else { ask.request.clone() };
        let mut would = |changed: &Request<'_>| self.would_go(changed, index).is_ok();
        if let WaitReason::TeamLimit { team, limit, held, wanted } = reason {
            let (team, gpus) = (team.clone(), (held + wanted).saturating_sub(*limit));
            let would_do = would(&ask.least());
            return would_do.then_some(Change::TeamGivesBack { team, gpus }).into_iter().collect();
        }
        if !reason.is_for_room()
            && !matches!(reason, WaitReason::NeverFits { .. } | WaitReason::NodesOut { .. })
        {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for within in Level::ALL.into_iter().filter(|&level| level > request.within) {
            let segment = request.segment.filter(|_| within != Level::Fleet);
            if would(&Request { within, segment, ..request.clone() }) {
                changes.push(Change::WiderSpan { within });
                break;
            }
        }
        let designs = self.fleet.index().tree().pools().iter().map(|pool| &pool.platform);
        let others: std::collections::BTreeSet<&String> = designs
            .filter(|platform| {
                !request.platforms.is_empty() && !request.platforms.contains(platform)
            })
            .collect();
        for platform in others {
            let platforms = std::slice::from_ref(platform);
            if would(&Request { platforms, ..request.clone() }) {
                changes.push(Change::OtherPlatform { platform: platform.clone() });
            }
        }
        let (no_labels, no_names) = (BTreeMap::new(), std::collections::BTreeSet::new());
        if !request.labels.is_empty() && would(&Request { labels: &no_labels, ..request.clone() }) {
            changes.push(Change::NoLabels);
        }
        if !request.exclude.is_empty() && would(&Request { exclude: &no_names, ..request.clone() })
        {
            changes.push(Change::NoExclusions);
        }
        changes.extend(self.shorter_limit(ask, request, index));
        changes.extend(self.fewer_nodes(request, index));
        changes
    }

    /// The longest limit with which the job would start now: it is over before nodes are wanted that
    /// are held for others, or reserved.
    fn shorter_limit(
        &self,
        ask: &Ask<'_>,
        request: &Request<'_>,
        index: &mut Index,
    ) -> Option<Change> {
        let holds = self.holds.iter().filter(|&(&other, _)| Some(other) != ask.id);
        let held = holds.filter_map(|(_, hold)| hold.from);
        let reserved = self.reservations.iter().map(|(_, reservation)| reservation.from);
        let mut ends: Vec<Time> = held.chain(reserved).filter(|&from| from > self.now).collect();
        ends.sort_unstable();
        ends.dedup();
        ends.reverse();
        // The sooner it is over, the more nodes are open to it.
        let first = ends.partition_point(|&end| {
            let own = [request.own.to_vec(), self.open_until(end, ask.team, ask.id)];
            self.would_go(&Request { own: &own.concat(), ..request.clone() }, index).is_err()
        });
        let end = ends.get(first)?;
        // What it has held its nodes for counts.
        let held = ask.id.map_or(Millis::ZERO, |id| Millis(self.jobs[&id].held_ms));
        let limit = held + end.since(self.now + ask.spec.stop_grace);
        // In whole minutes, as people write it.
        let limit = Millis(limit.0 / 60_000 * 60_000);
        let is_shorter = ask.spec.time_limit.is_none_or(|present| limit < present);
        (limit > held && is_shorter).then_some(Change::ShorterLimit { limit })
    }

    fn fewer_nodes(&self, request: &Request<'_>, index: &mut Index) -> Option<Change> {
        let segment = request.segment.unwrap_or(1);
        let most = placement::most_open(index, &self.fleet, request).min(request.nodes - 1);
        let nodes = most / segment * segment;
        (nodes > 0 && self.would_go(&Request { nodes, ..request.clone() }, index).is_ok())
            .then_some(Change::FewerNodes { nodes })
    }
}
