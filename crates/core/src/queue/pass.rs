//! One pass over the queue: every job that may start now is started, in order.
//!
//! The order: jobs that a fault has stopped; then, under the fair rule, those that have waited
//! longer than any job should; then by priority, and within one priority those for which nodes are
//! held already, and the others by the standing of their teams and by age. A job that cannot be placed because others are running is *blocked*: under the
//! FIFO rule the pass ends there; otherwise the foremost of the blocked get nodes held for them
//! ([`super::hold`]), and the pass goes on with those behind.
//!
//! Jobs alike fail alike, so a pass costs a look at each kind of job that waits, not at each job.

use super::find::Kind;
use super::order::Bucket;
use super::preempt::Market;
use super::teams::{Promised, Standing, TeamId};
use crate::Core;
use crate::effect::Effects;
use crate::placement::Placement;
use crate::placement::index::{Index, View};
use crate::timer::Timer;
use lindos_model::policy::QueueRule;
use lindos_model::{JobId, Millis, Time, TrailKind, WaitReason};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;

/// With more jobs than this waiting, passes are kept apart by a millisecond for each so many.
const READY_PER_MS: usize = 1000;
/// A pass that has set nodes free is followed by another, at most so often at one moment.
const PASSES_MAX: u32 = 3;

/// What a pass has found out so far.
#[derive(Debug, Default)]
pub struct Pass {
    /// Kinds of jobs that could not be placed. Starts only take, so it stays true until a hold is
    /// lifted.
    pub failed: BTreeMap<Kind, WaitReason>,
    /// By team: what is open of the nodes that are reserved for it.
    pub opened: BTreeMap<TeamId, Index>,
    /// Blocked jobs whose nodes are held.
    pub holding: BTreeSet<JobId>,
    /// How many of them have their start reserved: the others have stopped somebody.
    pub reserved: u32,
    /// What is promised to the teams of holders that come first; made when first asked for.
    pub promised: Option<Promised>,
    /// Nobody further back gets a hold.
    pub is_full: bool,
    /// When running jobs end at the latest, the soonest first; made when first asked for.
    pub ends: Option<Vec<(Time, JobId)>>,
    /// Who could be stopped for others; made when first asked for.
    pub market: Option<Market>,
    is_blocked: bool,
    looked_at: u32,
    is_over: bool,
}

impl Pass {
    /// Nodes were let go: who could not be placed may have room now.
    pub fn look_anew(&mut self) {
        self.failed.clear();
        self.opened.clear();
        if let Some(market) = &mut self.market {
            market.in_vain.clear();
        }
    }
}

impl Core {
    /// Starts every job that may start now.
    pub(crate) fn schedule(&mut self, out: &mut Effects) {
        let apart = Millis((self.queue.ready() / READY_PER_MS) as u64);
        let next = self.passed_at + apart;
        let is_early = apart > Millis::ZERO && self.now < next;
        if is_early {
            self.wake_by(next);
            if self.queue.restarts().next().is_none() {
                return;
            }
        }
        for _ in 0..PASSES_MAX {
            let mut pass = Pass::default();
            self.queue.blocked_by = None;
            self.queue.first_wait = None;
            self.queue.at_limit.clear();
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
            self.queue.is_blocked = pass.is_blocked;
            if let Some(market) = &pass.market {
                self.next_askers(market.kinds);
            }
            if !self.drop_holds_but(&pass) {
                break;
            }
        }
        self.wake_for_the_next_of_age();
    }

    /// Nothing else may happen until a job has waited too long, and then it is its turn.
    fn wake_for_the_next_of_age(&mut self) {
        if self.policy.queue != QueueRule::Fair || !self.queue.is_blocked {
            return;
        }
        let of_age = self.now.0.checked_sub(self.policy.wait_max_ms).map(Time);
        let since = self.queue.first_since_after(of_age);
        let comes = since.and_then(|since| since.0.checked_add(self.policy.wait_max_ms));
        if let Some(at) = comes {
            self.wake_by(Time(at));
        }
    }

    /// Asks for a pass at this time at the latest.
    pub(crate) fn wake_by(&mut self, at: Time) {
        if self.timers.get(Timer::Pass).is_none_or(|before| before > at) {
            self.timers.set(Timer::Pass, at);
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
            if self.is_in_turn(id) && !pass.holding.contains(&id) {
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
            // Those alike are no better off, but for what one that has nodes held leaves to them.
            let has_hold = |pass: &Pass| pass.holding.contains(&id);
            if has_hold(pass) || self.try_start(id, pass, out) || has_hold(pass) {
                let later = self.queue.buckets().get(bucket);
                let after = (Bound::Excluded(id), Bound::Unbounded);
                if let Some(&next) = later.and_then(|jobs| jobs.range(after).next()) {
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
        let reason = match self.kept_by_limit(id, pass) {
            Some(reason) => reason,
            None => match self.find_place(id, pass) {
                Ok(placement) => {
                    self.start_in(pass, id, &placement, out);
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
            if self.reserve(id, pass, out) {
                return self.try_start(id, pass, out);
            }
            if self.policy.queue == QueueRule::Fifo {
                self.queue.blocked_by = Some(id);
                pass.is_over = true;
            }
        }
        false
    }

    fn start_in(&mut self, pass: &mut Pass, id: JobId, placement: &Placement, out: &mut Effects) {
        let hold = self.holds.get(&id);
        let has_stopped_others = hold.is_some_and(|hold| hold.preempts);
        if hold.is_some() {
            pass.promised = None;
        }
        self.dequeue(id);
        self.must_schedule = false;
        self.start_attempt(id, placement, out);
        if let (Some(ends), Some(end)) = (&mut pass.ends, self.ends_by(id)) {
            let at = ends.partition_point(|&before| before < (end, id));
            ends.insert(at, (end, id));
        }
        for index in pass.opened.values_mut() {
            for &(node, _) in &placement.nodes {
                if index.free_on(View::Open, node).is_some() {
                    index.set(node, self.fleet.node(node).room(), false);
                }
            }
        }
        if has_stopped_others {
            // What was promised to it is its own now.
            pass.market = None;
        } else if let Some(market) = &mut pass.market {
            let (team, gpus) = (self.jobs[&id].team, placement.gpus());
            market.claims.take(&self.teams, team, gpus);
        }
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
