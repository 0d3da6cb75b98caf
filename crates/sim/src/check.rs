//! The checkers: they look at the world's truth beside the core, and panic with `violation: …`.
//!
//! | checker | looks at |
//! |---|---|
//! | no GPU is given twice | the processes that live on a node, when new ones start there |
//! | what waits for a rank is in nobody's way | what waits on a node, when ranks start there |
//! | nothing waits for a rank for ever | all nodes, minutes after the last job is over (in `world`) |
//! | no two epochs of a job alive together | the processes of a job on all nodes, likewise |
//! | no acknowledged submission is lost | what users were told, after every restart and at the end |
//! | the ledger is exact | fleet size × time, summed here on its own |
//! | nobody is charged or failed without a cause | the scripts' own bugs, at the end (in `world`) |
//! | no hang is called of what gets on | the training, on a good network (in `world`) |
//! | completed is finished | the training's own end (in `world`) |
//! | no straggler is called on a gang without a slow node | the nodes that were made slow (in `world`) |
//! | a broken loss is not trained on | the script's own, once all is well (in `world`) |
//! | nobody goes on from a checkpoint known to be spoilt | the storage's truth, when a training begins (in `world`) |
//! | who is well is not found bad by a test | which nodes and links are weak, after every commit (in `world`) |
//! | every job ends when the faults stop | the time limit (in `world`) |
//! | reserved nodes are kept for whom they are reserved | every attempt on them, after every commit |
//! | replay gives the same digest | every recovery from the journal (in `control`) |
//! | a standby comes out the same | every takeover, and the end (in `control`) |
//! | an upgrade changes nothing | all records again as older ones, without a snapshot (in `control`) |
//! | time never goes back | every commit, whatever the wall clock does (in `control`) |
//! | nobody is called silent who was heard | the world's time since the last report that came |

use crate::agent::SimNode;
use lindos_core::Core;
use lindos_core::job::Job;
use lindos_model::reservation::{Purpose, Reservation};
use lindos_model::{Epoch, JobId, JobState, Millis, RequestId, Time};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Checker {
    submitted: BTreeMap<RequestId, JobId>,
    acknowledged: BTreeSet<RequestId>,
    joined: Vec<(Time, u64)>,
    /// When each reservation was first seen.
    reserved: BTreeMap<String, Time>,
    /// Of each node: the newest report that came to a control plane, and when that was.
    heard: BTreeMap<usize, ((u64, u64), Time)>,
    /// Since when the present control plane counts silence.
    listens_since: Time,
    /// A planted bug: nobody belongs in a reservation.
    pub misreads_reservations: bool,
}

impl Checker {
    /// New ranks run on a node: what else runs there, and where else does the job run?
    pub fn on_ranks_started(
        nodes: &[SimNode],
        job_nodes: &BTreeSet<usize>,
        node: usize,
        key: (JobId, Epoch),
    ) {
        let new = &nodes[node].attempts[&key];
        for (other, attempt) in &nodes[node].attempts {
            let overlaps = attempt.is_alive() && attempt.gpus.intersects(new.gpus);
            assert!(
                *other == key || other.0 == key.0 || !overlaps,
                "violation: a GPU of node {node} is given twice, to job {} and to job {}",
                other.0,
                key.0
            );
        }
        for (job, waiting) in &nodes[node].standbys {
            assert!(
                *job != key.0 && !waiting.gpus.intersects(new.gpus),
                "violation: what is to be a rank of job {job} waits on GPUs of job {} on node {node}",
                key.0
            );
        }
        for &place in job_nodes {
            for ((job, epoch), attempt) in &nodes[place].attempts {
                // Other replicas go on while one comes back.
                let is_other = new.has_replicas && attempt.replica != new.replica;
                assert!(
                    *job != key.0 || *epoch == key.1 || !attempt.is_alive() || is_other,
                    "violation: two epochs of job {job} alive together: {epoch} on node {place}, {} on node {node}",
                    key.1
                );
            }
        }
    }

    pub fn on_submitted(&mut self, request: RequestId, job: JobId) {
        let before = self.submitted.insert(request, job);
        assert!(
            before.is_none_or(|before| before == job),
            "violation: one acknowledged request became two jobs"
        );
    }

    /// Somebody was told that a request is safe, before anybody knows its job.
    pub fn on_acknowledged(&mut self, request: RequestId) {
        self.acknowledged.insert(request);
    }

    pub fn on_commit(&mut self, core: &Core) {
        for node in &core.nodes()[self.joined.len()..] {
            self.joined.push((core.now(), u64::from(node.spec.gpus)));
        }
        for (_, reservation) in core.reservations().iter() {
            let seen = self.reserved.entry(reservation.name.clone()).or_insert(core.now());
            let read = self
                .misreads_reservations
                .then(|| Reservation { purpose: Purpose::Maintenance, ..reservation.clone() });
            check_reservation(core, read.as_ref().unwrap_or(reservation), *seen);
        }
    }

    /// A report of a node has come to a control plane that listens.
    pub fn on_heard(&mut self, node: usize, said: (u64, u64), now: Time) {
        let before = self.heard.entry(node).or_insert((said, now));
        if said > before.0 {
            *before = (said, now);
        }
    }

    /// A control plane calls a node silent. Its clock may run faster than the world by a tenth.
    pub fn on_called_silent(&self, node: usize, now: Time, silent_after: Millis) {
        let heard = self.heard.get(&node).map_or(Time::ZERO, |&(_, at)| at);
        let unheard = now.since(heard.max(self.listens_since));
        assert!(
            unheard.0 + 2 >= silent_after.0 * 10 / 11,
            "violation: node {node} is called silent and was heard of late, {unheard} ago"
        );
    }

    pub fn on_restart(&mut self, core: &Core, now: Time) {
        self.listens_since = now;
        self.check_submissions(core);
        assert!(core.nodes().len() >= self.joined.len(), "violation: a node was forgotten");
        // What joined in records that were durable, and that nobody had stepped yet.
        self.on_commit(core);
    }

    fn check_submissions(&self, core: &Core) {
        for (request, job) in &self.submitted {
            assert!(
                core.job(*job).is_some(),
                "violation: job {job} (request {request}) was acknowledged and is lost"
            );
        }
        for request in &self.acknowledged {
            assert!(
                core.knows_request(*request),
                "violation: request {request} was acknowledged and is lost"
            );
        }
    }

    pub fn on_end(&self, core: &Core, now: Time, ledger_total: u64) {
        self.check_submissions(core);
        let expected: u64 = self.joined.iter().map(|(at, gpus)| gpus * now.since(*at).0).sum();
        assert_eq!(ledger_total, expected, "violation: the ledger is not fleet size times time");
    }
}

/// From its beginning on, whoever does not belong on the nodes of a reservation is being stopped. In
/// the time between `seen` and its beginning, only what is over by then has started there.
fn check_reservation(core: &Core, reservation: &Reservation, seen: Time) {
    let Reservation { name, nodes, from, .. } = reservation;
    for node in nodes {
        let node = core.node(*node).expect("it was reserved");
        for allocation in &node.allocations {
            let job = core.job(allocation.job).expect("it holds GPUs");
            let Some(attempt) = &job.attempt else { continue };
            if *from <= core.now() {
                assert!(
                    belongs(core, job, &reservation.purpose) || job.state() == JobState::Stopping,
                    "violation: job {} is {} on {}, which is reserved as {name}",
                    job.id,
                    job.state(),
                    node.spec.name
                );
            } else if attempt.launched_at > seen {
                let limit = job.spec.time_limit.map(|limit| limit + job.spec.stop_grace);
                // Earlier attempts have used up some of it.
                let is_over = |limit| job.epoch > Epoch(1) || attempt.launched_at + limit <= *from;
                assert!(
                    limit.is_some_and(is_over),
                    "violation: job {} has started on {}, and may not be over when {name} begins",
                    job.id,
                    node.spec.name
                );
            }
        }
    }
}

fn belongs(core: &Core, job: &Job, purpose: &Purpose) -> bool {
    let teams = core.teams();
    match purpose {
        Purpose::Maintenance => false,
        Purpose::Team(name) => teams.upwards(job.team).any(|id| teams.account(id).name == *name),
    }
}
