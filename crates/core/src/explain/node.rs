//! What a node is doing, and why the GPUs of it that do nothing are idle.

use crate::Core;
use crate::gang::standby::Standby;
use crate::health::fleet::{Node, NodeState, Out};
use crate::job::Job;
use crate::queue::order::Shape;
use crate::queue::teams::Standing;
use lindos_model::reservation::Purpose;
use lindos_model::{GpuSet, JobId, NodeId, Time, WaitReason};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Waiting jobs that are named: the foremost, each of another shape.
const PASSED_MAX: usize = 3;

/// All there is to say of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOutlook {
    /// The attempts that hold GPUs of it.
    pub work: Vec<NodeWork>,
    pub free: GpuSet,
    /// Why its free GPUs do nothing; `None` when none is free.
    pub idle: Option<NodeIdle>,
}

/// An attempt's part of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWork {
    pub job: JobId,
    pub gpus: GpuSet,
    /// When the attempt was placed.
    pub since: Time,
    /// When it is over at the latest, where a time limit tells.
    pub until: Option<Time>,
    pub is_stopping: bool,
}

/// Why free GPUs do nothing: the first of these that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeIdle {
    /// It is out for repair or burn-in, whatever else it is: its ticket says more.
    Out(Out),
    /// It never reported.
    Expected,
    Silent,
    Fenced,
    Drained {
        reason: String,
    },
    /// It is set aside from a moment on, for a team (`Some`) or for maintenance. Jobs that are over
    /// by then start there, and those of the team from then on.
    Reserved {
        name: String,
        team: Option<String>,
        from: Time,
        until: Time,
    },
    /// They are kept for a gang that comes first, which wants them from then on at the latest.
    Held {
        job: JobId,
        from: Option<Time>,
        preempts: bool,
    },
    /// No more nodes than these are whole and free, and so many are kept for gangs that lose one.
    Spare {
        spares: u32,
    },
    /// It is kept for this gang, should it lose a node.
    SpareOf {
        job: JobId,
        /// The job's processes wait there for a rank, or are to.
        standby: Option<Standby>,
    },
    NoDemand,
    /// Jobs wait, and none of them starts here.
    Unwanted {
        jobs: u32,
        gpus: u64,
        foremost: Vec<Passed>,
    },
}

/// A waiting job that does not take the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub job: JobId,
    pub because: NotHere,
}

/// Why a waiting job does not start on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHere {
    /// It waits for something else than nodes, or for more of them than this one.
    Waits(WaitReason),
    /// It takes none of this design.
    Platform,
    /// It asks for a label that the node does not have.
    Label { key: String, value: String },
    /// It names this node among those that it keeps away from.
    Excluded,
    /// It wants so many GPUs of each node.
    Gpus { wanted: u16 },
}

impl Core {
    /// What a node is doing, and why its free GPUs are idle; `None` for an unknown node.
    pub fn why_node(&self, id: NodeId) -> Option<NodeOutlook> {
        let node = self.fleet.get(id)?;
        let work = node.allocations.iter().map(|allocation| {
            let attempt = self.jobs[&allocation.job].attempt.as_ref();
            let attempt = attempt.expect("whoever holds GPUs has an attempt");
            NodeWork {
                job: allocation.job,
                gpus: allocation.gpus,
                since: attempt.launched_at,
                until: self.ends_by(allocation.job),
                is_stopping: attempt.is_stopping(),
            }
        });
        let (work, free) = (work.collect(), node.free());
        let idle = (!free.is_empty()).then(|| self.idle(id, node));
        Some(NodeOutlook { work, free, idle })
    }

    fn idle(&self, id: NodeId, node: &Node) -> NodeIdle {
        // While it is mended it falls silent and comes back: that is no news.
        if let Some(out) = node.out {
            return NodeIdle::Out(out);
        }
        let kept = self.reservations.of(id).filter(|_| node.is_reserved);
        let reserved = kept.map(|kept| NodeIdle::Reserved {
            name: kept.name.clone(),
            team: match &kept.purpose {
                Purpose::Team(team) => Some(team.clone()),
                Purpose::Maintenance => None,
            },
            from: kept.from,
            until: kept.until,
        });
        // A maintenance window drains its nodes: the window is the reason, and ends by itself.
        let in_window =
            kept.is_some_and(|k| k.purpose == Purpose::Maintenance && k.from <= self.now);
        match (node.state, &node.drained) {
            (NodeState::Expected, _) => return NodeIdle::Expected,
            (NodeState::Silent, _) => return NodeIdle::Silent,
            (NodeState::Fenced, _) => return NodeIdle::Fenced,
            (NodeState::Up, Some(reason)) if !in_window => {
                return NodeIdle::Drained { reason: reason.clone() };
            }
            (NodeState::Up, _) => {}
        }
        if let Some(reserved) = reserved {
            return reserved;
        }
        if let Some((job, hold)) = node.held_for.and_then(|job| Some((job, self.holds.get(&job)?)))
        {
            return NodeIdle::Held { job, from: hold.from, preempts: hold.preempts };
        }
        if let Some(job) = node.spare_of {
            return NodeIdle::SpareOf { job, standby: self.standby_on(job, id).copied() };
        }
        let spares = self.policy.spares;
        if node.is_whole() && self.fleet.whole_free() <= spares {
            return NodeIdle::Spare { spares };
        }
        if self.queue.is_empty() {
            return NodeIdle::NoDemand;
        }
        let foremost = self.foremost().into_iter().filter_map(|job| {
            let because = self.not_here(node, job)?;
            Some(Passed { job: job.id, because })
        });
        NodeIdle::Unwanted {
            jobs: self.queue.len() as u32,
            gpus: self.queue.demand_gpus(),
            foremost: foremost.collect(),
        }
    }

    /// The waiting jobs that a pass looks at first, one of each shape; after them those that wait
    /// for no node. A look at each kind of job, not at each job.
    fn foremost(&self) -> Vec<&Job> {
        let job = |id: JobId| self.jobs[&id].as_ref();
        let buckets = self.queue.buckets().values();
        let first_of_each = buckets.filter_map(|jobs| jobs.first().copied());
        let promised = self.holds.keys().copied().filter(|&id| self.is_in_turn(id));
        let mut ready: Vec<&Job> =
            self.queue.restarts().chain(promised).chain(first_of_each).map(job).collect();
        let mut standings: BTreeMap<_, Standing> = BTreeMap::new();
        for job in &ready {
            standings
                .entry(job.team)
                .or_insert_with(|| self.teams.standing(job.team, job.gpus(), self.now));
        }
        ready.sort_by_cached_key(|job| {
            let is_first = self.queue.is_restart(job.id);
            let is_promised = self.holds.contains_key(&job.id);
            let standing = standings[&job.team].clone();
            (!is_first, Reverse(job.priority), !is_promised, standing, job.id)
        });
        let parked = self.queue.iter().filter(|&id| self.queue.is_parked(id)).map(job);
        let mut shapes: Vec<Shape> = Vec::new();
        let is_new = |job: &&Job| {
            let shape = Shape::of(&job.spec);
            let is_new = !shapes.contains(&shape);
            shapes.extend(is_new.then_some(shape));
            is_new
        };
        ready.into_iter().chain(parked.take(PASSED_MAX)).filter(is_new).take(PASSED_MAX).collect()
    }

    /// Why a waiting job does not start on a node that is in service.
    fn not_here(&self, node: &Node, job: &Job) -> Option<NotHere> {
        let spec = &job.spec;
        if self.queue.is_parked(job.id) {
            return self.why(job.id).map(NotHere::Waits);
        }
        if !spec.platforms.is_empty() && !spec.platforms.contains(&node.spec.platform) {
            return Some(NotHere::Platform);
        }
        let missing =
            spec.labels.iter().find(|&(key, value)| node.spec.labels.get(key) != Some(value));
        if let Some((key, value)) = missing {
            return Some(NotHere::Label { key: key.clone(), value: value.clone() });
        }
        if spec.exclude.contains(&node.spec.name) {
            return Some(NotHere::Excluded);
        }
        if spec.gpus_per_node > node.free().len() {
            return Some(NotHere::Gpus { wanted: spec.gpus_per_node });
        }
        self.why(job.id).map(NotHere::Waits)
    }
}
