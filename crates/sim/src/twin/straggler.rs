//! Who keeps a job waiting, as the core hears of it.
//!
//! In a real fleet windows of readings are looked at ([`lindos_core::edges::StragglerWatch`]). Here
//! all windows between two changes of a training are alike, so one is judged, by the same rule
//! ([`slowest`]), and told after as many as the watch wants. Nobody waits but for the slowest, and
//! there is no chance in it: what the watch sees through jitter says `sim validate blame`.

use super::life::Training;
use super::world::{Happening, World};
use lindos_core::Event;
use lindos_core::edges::{ByWord, Measure, STRAGGLER_AGAIN, Slow, slowest, straggler_told_after};
use lindos_model::{Epoch, JobId, Millis, NodeId, Rank, Straggler, Time};

/// What is known of who is slow in a training.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    slow: Option<Slow>,
    since: Time,
    /// Of whom the core was told.
    said: Option<Rank>,
    /// Grows with each change: what was to be told before it is void.
    turn: u64,
}

impl World<'_, '_> {
    /// Another node of a training may be the slowest from now on.
    pub(super) fn look_for_straggler(&mut self, job: JobId) {
        let Some(training) = self.lives[&job].training.as_ref() else { return };
        if training.slow.is_empty() && training.watch.slow.is_none() {
            return;
        }
        let slow = self.slowest_of(job, training);
        let told_after = straggler_told_after(self.step_of(job));
        let now = self.now;
        let Some(training) = self.trains(job) else { return };
        let (epoch, watch) = (training.epoch, &mut training.watch);
        if watch.slow == slow {
            return;
        }
        (watch.slow, watch.since) = (slow, now);
        watch.turn += 1;
        let turn = watch.turn;
        if slow.is_none() && watch.said.is_none() {
            return;
        }
        if let Some(after) = told_after {
            self.put(after, Happening::Straggles { job, epoch, turn });
        }
    }

    /// As long as a step of a training takes now.
    fn step_of(&self, job: JobId) -> Millis {
        let training = self.lives[&job].training.as_ref();
        training.map_or(Millis::ZERO, |training| Millis(training.step_us(self.work(job)) / 1000))
    }

    fn slowest_of(&self, job: JobId, training: &Training) -> Option<Slow> {
        let gang = self.gang_of(job)?;
        let factor = |node: &NodeId| training.slow.get(node).copied().unwrap_or(1.0);
        let there: Vec<(usize, f64)> = gang
            .members
            .iter()
            .enumerate()
            .filter(|&(member, _)| !training.away.contains(&(gang.replica_of(member) as u32)))
            .map(|(member, it)| (member, factor(&it.node)))
            .collect();
        let longest = there.iter().map(|&(_, factor)| factor).fold(1.0, f64::max);
        // The ranks of a node are alike, and so one stands for them.
        let measures: Vec<Measure> = there
            .into_iter()
            .map(|(member, factor)| {
                let works = (1000.0 * factor / longest) as u32;
                Measure {
                    rank: gang.first_rank(member),
                    member: member as u32,
                    ran: works,
                    delayed: 0,
                    held: 0,
                    sleeps: 1000 - works.min(1000),
                    told_waits: None,
                    late: 0,
                    steps: None,
                    rate: 0,
                }
            })
            .collect();
        let before = training.watch.slow.map(|slow| slow.member);
        let slow = slowest(&measures, ByWord::default(), before)?;
        Some(Slow { ranks: slow.ranks * u32::from(gang.ranks_per_node.max(1)), ..slow })
    }

    /// The same has been seen in as many windows as it takes.
    pub(super) fn on_straggles(&mut self, job: JobId, epoch: Epoch, turn: u64) {
        let now = self.now;
        if self.gang_of(job).is_none() || !self.twin_job(job).tells_steps {
            return;
        }
        let Some(training) =
            self.trains(job).filter(|it| (it.epoch, it.watch.turn) == (epoch, turn))
        else {
            return;
        };
        let step = training.steps_at(now);
        let Watch { slow, since, said, .. } = training.watch;
        training.watch.said = slow.map(|slow| slow.rank);
        if let Some(rank) = said.filter(|&rank| slow.is_none_or(|slow| slow.rank != rank)) {
            self.tell(&Event::StragglerGone { job, epoch, rank });
        }
        let Some(Slow { rank, ranks, sign, by, own, peers, cost_permille, .. }) = slow else {
            return;
        };
        let straggler = Straggler { rank, ranks, sign, by, since, step, own, peers, cost_permille };
        // It is told again and again; that has consequences only where a policy wants some.
        if self.core.policy().repair.straggler_cost_percent > 0 {
            self.put(STRAGGLER_AGAIN, Happening::Straggles { job, epoch, turn });
        }
        self.tell(&Event::StragglerSeen { job, epoch, straggler: Box::new(straggler) });
    }
}
