//! What a fleet has been through before anything is measured on it: jobs of every size that came,
//! ran and ended, until what is free lies scattered.

use super::topology::GPUS_PER_NODE;
use super::world::{TEAMS, World, team_name};
use crate::random::Stream;
use lindos_model::{JobId, JobSpec, Millis, Time, job};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The part of the GPUs that is in use when measuring begins …
pub const OCCUPANCY: f64 = 0.85;
/// … and before that, in turns: demand comes in waves, and what ends in a trough leaves holes.
const CREST: f64 = 0.97;
/// Jobs that held so many times the whole fleet have ended by then.
pub const CHURN: u64 = 2;
/// A job is drawn only when one design has so many times its nodes free, or it takes one GPU.
const ROOM: u32 = 2;

const MINUTE: u64 = 60_000;
const LIMITS: [u64; 6] = [60, 240, 720, 1_440, 4_320, 10_080];

/// How many in a thousand jobs ask for what: part of a node by its GPUs, whole nodes by a range.
const PARTS: [(u64, u16); 6] =
    [(450, 1), (150, 2), (15, 3), (120, 4), (15, 6), (160, GPUS_PER_NODE)];
const GANGS: [(u64, (u64, u64)); 3] = [(70, (2, 8)), (17, (16, 64)), (3, (128, 512))];

#[derive(Clone, Debug)]
pub struct History {
    stream: Stream,
    ends: BinaryHeap<Reverse<(Time, JobId)>>,
    /// GPUs of the jobs that have ended.
    churned: u64,
    drawn: u64,
}

impl History {
    pub fn new(seed: u64) -> History {
        let stream = Stream::new(seed, "bench history");
        History { stream, ends: BinaryHeap::new(), churned: 0, drawn: 0 }
    }

    /// Lets jobs come and end until the fleet has been turned over. `tell` is told GPUs that were
    /// churned, and all that are to be.
    pub fn age(&mut self, world: &mut World, tell: &mut dyn FnMut(u64, u64)) {
        let wanted = world.gpus() * CHURN;
        while self.churned < wanted {
            self.fill(world, CREST);
            while world.occupancy() > OCCUPANCY {
                self.end_one(world);
            }
            tell(self.churned.min(wanted), wanted);
        }
    }

    /// Jobs come until so much of the fleet is in use.
    pub fn fill(&mut self, world: &mut World, occupancy: f64) {
        while world.occupancy() < occupancy {
            let left = (occupancy - world.occupancy()) * world.gpus() as f64;
            let (spec, duration) = self.draw(world, left.ceil() as u64);
            let job = world.submit(spec);
            world.settle();
            assert!(world.is_running(job), "a job that there is room for was not started");
            self.ends.push(Reverse((world.now + duration, job)));
            world.after(self.stream.between(1, 20));
        }
    }

    /// The job that is the next to be over is over.
    fn end_one(&mut self, world: &mut World) {
        let Some(Reverse((at, job))) = self.ends.pop() else { return };
        world.now = world.now.max(at);
        if world.is_running(job) {
            self.churned += world.core.job(job).map_or(0, lindos_core::job::Job::gpus);
            world.complete(job);
            world.settle();
            world.tick();
        }
    }

    /// Every job ends.
    pub fn end_all(&mut self, world: &mut World, tell: &mut dyn FnMut(u64, u64)) {
        let all = self.ends.len() as u64;
        while !self.ends.is_empty() {
            self.end_one(world);
            let left = self.ends.len() as u64;
            if left.is_multiple_of(256) {
                tell(all - left, all);
            }
        }
        // Those that were stopped for others wait, or run for longer than was planned.
        let others = world.core.jobs().filter(|job| !job.is_over());
        for job in others.map(|job| job.id).collect::<Vec<JobId>>() {
            world.cancel(job);
            world.settle();
        }
        assert_eq!(world.in_use().gpus, 0, "a job runs that nobody knows");
    }

    /// A job on one node that runs; which one is drawn.
    pub fn pick(&mut self, world: &World) -> Option<JobId> {
        let known: Vec<JobId> = self.ends.iter().map(|Reverse((_, job))| *job).collect();
        let is_small = |job: JobId| world.core.job(job).is_some_and(|job| job.spec.nodes == 1);
        // Some of them have been preempted, or are large.
        let drawn = (0..1_000).map(|_| *self.stream.pick(&known));
        let mut drawn = drawn.filter(|&job| is_small(job));
        drawn.find(|&job| world.is_running(job))
    }

    /// The next job and how long it runs: there is room for it.
    fn draw(&mut self, world: &World, gpus_left: u64) -> (JobSpec, Millis) {
        self.drawn += 1;
        let whole_free = world.in_use().whole_free.into_iter().max().unwrap_or(0) / ROOM;
        let largest = (world.nodes() / 50).max(2).min(whole_free);
        let (nodes, gpus) = loop {
            let (nodes, gpus) = self.shape();
            // A gang that overshoots the occupancy by a little is welcome, one by much is not.
            let is_small = u64::from(nodes) * u64::from(gpus) <= gpus_left + 64;
            if is_small && (gpus == 1 || nodes <= largest) {
                break (nodes, gpus);
            }
        };
        // From ten minutes to seven days, each order of magnitude as likely as the next.
        let doublings = self.stream.between(0, 9);
        let minutes = (10 << doublings) + self.stream.between(0, 10 << doublings);
        let mut spec = self.spec(nodes, gpus);
        let limit = LIMITS.into_iter().find(|&limit| limit > minutes);
        spec.time_limit = limit.filter(|_| self.stream.chance(800_000)).map(minutes_of);
        (spec, minutes_of(minutes))
    }

    fn shape(&mut self) -> (u32, u16) {
        let mut drawn = self.stream.between(0, 999);
        for (parts, gpus) in PARTS {
            match drawn.checked_sub(parts) {
                None => return (1, gpus),
                Some(left) => drawn = left,
            }
        }
        for (parts, (low, high)) in GANGS {
            match drawn.checked_sub(parts) {
                None => return (self.stream.between(low, high) as u32, GPUS_PER_NODE),
                Some(left) => drawn = left,
            }
        }
        unreachable!("the parts sum to a thousand")
    }

    /// A job as people write them, of a team: some teams have many more jobs than others.
    pub fn spec(&mut self, nodes: u32, gpus: u16) -> JobSpec {
        let last = u64::from(TEAMS - 1);
        let team = self.stream.between(0, last).min(self.stream.between(0, last));
        let mut spec = job::sample("train", nodes, gpus);
        spec.command =
            ["python", "train.py", "--config", "configs/base.yaml"].map(String::from).into();
        spec.workdir = "/home/user/experiment".to_string();
        spec.team = team_name(team as u32);
        spec
    }

    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

pub fn minutes_of(minutes: u64) -> Millis {
    Millis(minutes * MINUTE)
}
