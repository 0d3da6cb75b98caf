//! One pass over the queue: every job that may start now is started, in order.
//!
//! The order: jobs that a fault has stopped; then, under the fair rule, those that have waited
//! longer than any job should; then by priority, and within one priority those for which nodes are
//! held already, and the others by the standing of their teams and by age. A job that cannot be placed because others are running is *blocked*: under the
//! FIFO rule the pass ends there; otherwise the foremost of the blocked get nodes held for them
//! ([`super::hold`]), and the pass goes on with those behind.
//!
//! Jobs alike fail alike, so a pass costs a look at each kind of job that waits, not at each job.

use super::order::{Bucket, Shape};
use super::teams::{Standing, TeamId};
use crate::Core;
use crate::effect::Effects;
use crate::placement::{self, Placement, Request};
use crate::timer::Timer;
use lindos_model::policy::QueueRule;
use lindos_model::{JobId, JobSpec, Millis, NodeId, Time, TrailKind, WaitReason};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// With more jobs than this waiting, passes are kept apart by a millisecond for each so many.
const READY_PER_MS: usize = 1000;
/// A pass that has set nodes free is followed by another, at most so often at one moment.
const PASSES_MAX: u32 = 3;

/// What a pass has found out so far.
#[derive(Debug, Default)]
pub struct Pass {
    /// Kinds of jobs that could not be placed, with the number of holds that they are over before.
    /// Starts only take, so it stays true until a hold is lifted.
    pub failed: BTreeMap<(Shape, usize), WaitReason>,
    /// Blocked jobs whose nodes are held.
    pub holding: BTreeSet<JobId>,
    /// Nobody further back gets a hold.
    pub is_full: bool,
    /// When running jobs end at the latest, the soonest first; made when first asked for.
    pub ends: Option<Vec<(Time, JobId)>>,
    is_blocked: bool,
    looked_at: u32,
    is_over: bool,
}

impl Core {
    /// Starts every job that may start now.
    pub(crate) fn schedule(&mut self, out: &mut Effects) {
        let apart = Millis((self.queue.ready() / READY_PER_MS) as u64);
        let next = self.passed_at + apart;
        let is_early = apart > Millis::ZERO && self.now < next;
        if is_early {
            self.timers.set(Timer::Pass, next);
            if self.queue.restarts().next().is_none() {
                return;
            }
        }
        for _ in 0..PASSES_MAX {
            let mut pass = Pass::default();
            self.queue.blocked_by = None;
            self.queue.first_wait = None;
            self.pass_restarts(&mut pass, out);
            if is_early {
                return;
            }
            self.passed_at = self.now;
            if self.policy.queue == QueueRule::Fair {
                self.pass_aged(&mut pass, out);
            }
            let mut below = None;
            while let Some(priority) = self.next_priority(below).filter(|_| !pass.is_over) {
                self.pass_priority(priority, &mut pass, out);
                below = Some(priority);
            }
            if !self.drop_holds_but(&pass) {
                return;
            }
        }
    }

    fn pass_restarts(&mut self, pass: &mut Pass, out: &mut Effects) {
        let restarts: Vec<JobId> = self.queue.restarts().collect();
        for id in restarts {
            if pass.is_over {
                return;
            }
            self.try_start(id, pass, out);
        }
    }

    fn pass_aged(&mut self, pass: &mut Pass, out: &mut Effects) {
        let Some(until) = self.now.0.checked_sub(self.policy.wait_max_ms).map(Time) else { return };
        let most = self.policy.backfill_max as usize;
        let aged: Vec<JobId> = self.queue.since_before(until).take(most).collect();
        for id in aged {
            if pass.is_over {
                return;
            }
            self.try_start(id, pass, out);
        }
    }

    /// The highest priority below another that jobs wait with.
    fn next_priority(&self, below: Option<i32>) -> Option<i32> {
        let mut buckets = self.queue.buckets_below(below);
        buckets.next().map(|(bucket, _)| bucket.priority.0)
    }

    /// The jobs of one priority: the team that stands first gives its oldest job, and so on.
    fn pass_priority(&mut self, priority: i32, pass: &mut Pass, out: &mut Effects) {
        // What was promised is kept, whatever has become of the order since.
        let holding = self.holds.keys().filter(|&&job| self.jobs[&job].priority == priority);
        let promised: Vec<JobId> = holding.copied().collect();
        for id in promised {
            if pass.is_over {
                return;
            }
            if !self.queue.is_parked(id) && !pass.holding.contains(&id) {
                self.try_start(id, pass, out);
            }
        }
        let mut turns = self.turns(priority);
        let mut order: BinaryHeap<Reverse<(Standing, JobId, TeamId)>> = turns
            .iter()
            .map(|(&team, turn)| {
                let Reverse((first, _)) = *turn.heads.peek().expect("a team that waits has a job");
                Reverse((self.standing(team, first), first, team))
            })
            .collect();
        while let Some(Reverse((standing, first, team))) = order.pop() {
            if pass.is_over {
                return;
            }
            // Those before it may have started jobs of a team that both are a part of.
            let now = self.standing(team, first);
            if now > standing {
                order.push(Reverse((now, first, team)));
                continue;
            }
            let turn = turns.get_mut(&team).expect("it was put in order");
            let Reverse((id, at)) = turn.heads.pop().expect("it was put in order with a head");
            let bucket = &turn.buckets[at];
            // Who has nodes held was looked at before; those alike are no better off.
            if !pass.holding.contains(&id) && self.try_start(id, pass, out) {
                let later = self.queue.buckets().get(bucket);
                if let Some(&next) = later.and_then(|jobs| jobs.range(id..).next()) {
                    turn.heads.push(Reverse((next, at)));
                }
            }
            if let Some(&Reverse((next, _))) = turn.heads.peek() {
                order.push(Reverse((self.standing(team, next), next, team)));
            }
        }
    }

    fn turns(&self, priority: i32) -> BTreeMap<TeamId, Turn> {
        let mut turns: BTreeMap<TeamId, Turn> = BTreeMap::new();
        let above = priority.checked_add(1);
        let those = self.queue.buckets_below(above).take_while(|(b, _)| b.priority.0 == priority);
        for (bucket, jobs) in those {
            let turn = turns.entry(bucket.team).or_default();
            let first = *jobs.first().expect("a bucket is not empty");
            turn.heads.push(Reverse((first, turn.buckets.len())));
            turn.buckets.push(bucket.clone());
        }
        turns
    }

    fn standing(&self, team: TeamId, job: JobId) -> Standing {
        match self.policy.queue {
            QueueRule::Fair => self.teams.standing(team, self.jobs[&job].gpus(), self.now),
            QueueRule::Fifo | QueueRule::Backfill => Standing::equal(),
        }
    }

    /// Starts a job if it may start now; whether it did.
    fn try_start(&mut self, id: JobId, pass: &mut Pass, out: &mut Effects) -> bool {
        if pass.is_blocked {
            pass.looked_at += 1;
            pass.is_over = pass.looked_at > self.policy.backfill_max;
        }
        let reason = match self.team_limit(&self.jobs[&id].spec) {
            Some(reason) => reason,
            None => match self.find_place(id, pass) {
                Ok(placement) => {
                    self.dequeue(id);
                    self.must_schedule = false;
                    self.start_attempt(id, &placement, out);
                    if let (Some(ends), Some(end)) = (&mut pass.ends, self.ends_by(id)) {
                        let at = ends.partition_point(|&before| before < (end, id));
                        ends.insert(at, (end, id));
                    }
                    return true;
                }
                Err(reason) => reason,
            },
        };
        let is_blocked = reason.is_for_room();
        self.queue.first_wait.get_or_insert_with(|| reason.name().to_string());
        self.note_wait(id, reason, out);
        if is_blocked {
            pass.is_blocked = true;
            if self.policy.queue == QueueRule::Fifo {
                self.queue.blocked_by = Some(id);
                pass.is_over = true;
            } else if self.reserve(id, pass, out) {
                return self.try_start(id, pass, out);
            }
        }
        false
    }

    /// The limit that the job's team would break, though the job were as small as may be.
    pub(crate) fn team_limit(&self, spec: &JobSpec) -> Option<WaitReason> {
        let wanted = u64::from(spec.min_nodes) * u64::from(spec.gpus_per_node);
        let (team, limit) = self.teams.over_limit(self.teams.find(&spec.team)?, wanted)?;
        let account = self.teams.account(team);
        let (team, held) = (account.name.clone(), account.held);
        Some(WaitReason::TeamLimit { team, limit, held, wanted })
    }

    /// The most nodes that the job may have by its team's limits.
    fn nodes_within_limit(&self, id: JobId) -> u32 {
        let job = &self.jobs[&id];
        let segment = job.spec.segment.unwrap_or(1);
        let left = self.teams.left_to(job.team) / u64::from(job.spec.gpus_per_node);
        let nodes = job.spec.nodes.min(u32::try_from(left).unwrap_or(u32::MAX));
        (nodes / segment * segment).max(job.spec.min_nodes)
    }

    /// Where the job goes now: on nodes that are open or held for it; on nodes that are held for
    /// others only if it is over before they are wanted.
    fn find_place(&mut self, id: JobId, pass: &mut Pass) -> Result<Placement, WaitReason> {
        let job = &self.jobs[&id];
        let is_first = !self.queue.is_restart(id) && job.last_nodes().is_empty();
        let mut own = self.reserved_for_team(Some(job.team));
        let is_plain = is_first && own.is_empty() && !self.holds.contains_key(&id);
        let shape = Shape::of(&job.spec);
        let wanted_after = self.wanted_after(id);
        let key = (shape, wanted_after.len());
        if let Some(reason) = pass.failed.get(&key).filter(|_| is_plain) {
            return Err(reason.clone());
        }
        let others: Vec<NodeId> = wanted_after.concat();
        own.extend(self.holds.get(&id).iter().flat_map(|hold| &hold.nodes));
        let mut found = self.place(id, &own);
        if matches!(found, Err(WaitReason::Held { .. })) {
            if self.lift_holds_behind(pass) {
                pass.failed.clear();
                found = self.place(id, &own);
            }
            if found.is_err() && !others.is_empty() {
                let nodes = [own.clone(), others].concat();
                found = self.place(id, &nodes);
            }
        }
        if is_plain && let Err(reason) = &found {
            pass.failed.insert(key, reason.clone());
        }
        found
    }

    /// Where the job would go now, or why it cannot: on open nodes, and on held ones of these. An
    /// elastic job makes do with fewer nodes than it wants, as many as there are.
    fn place(&mut self, id: JobId, own: &[NodeId]) -> Result<Placement, WaitReason> {
        let job = &self.jobs[&id];
        let is_restart = self.queue.is_restart(id);
        let spec = Arc::clone(&job.spec);
        let mut prefer = job.last_nodes().to_vec();
        prefer.sort_unstable();
        let request = Request {
            nodes: self.nodes_within_limit(id),
            spares: if is_restart { 0 } else { self.policy.spares },
            prefer: &prefer,
            own,
            ..Request::of(&spec)
        };
        let whole = placement::place(&mut self.fleet, &request);
        // A first start waits for nodes that are not there yet, and makes do with fewer only when
        // others have them.
        let makes_do = |reason: &WaitReason| is_restart || reason.is_for_room();
        if spec.min_nodes == request.nodes || !whole.as_ref().is_err_and(makes_do) {
            return whole;
        }
        let most =
            self.fleet.with_index(|index, fleet| placement::most_open(index, fleet, &request));
        let segment = spec.segment.unwrap_or(1);
        let nodes = most.min(request.nodes - 1) / segment * segment;
        if nodes < spec.min_nodes {
            return whole;
        }
        placement::place(&mut self.fleet, &Request { nodes, ..request }).or(whole)
    }

    pub(crate) fn note_wait(&mut self, id: JobId, reason: WaitReason, out: &mut Effects) {
        let job = self.jobs.get_mut(&id).expect("it is queued");
        let is_news = job.wait.as_ref().is_none_or(|before| before.name() != reason.name());
        let epoch = (job.epoch.0 > 0).then_some(job.epoch);
        job.wait = Some(reason.clone());
        if is_news {
            self.say(Some((id, epoch)), None, TrailKind::Waiting { reason }, out);
        }
    }
}

/// The jobs of one team, by kind.
#[derive(Debug, Default)]
struct Turn {
    buckets: Vec<Bucket>,
    /// The oldest job of each bucket that may still start.
    heads: BinaryHeap<Reverse<(JobId, usize)>>,
}
