//! What a job does with its nodes, as a function of time.

use lindos_model::Millis;

/// As in `lindos sim validate blame`, where one rank stands still.
pub const HANG_SHOWS: f64 = 0.85;

/// How a job behaves once its ranks run.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub steps: u64,
    /// With all replicas there and no slow node.
    pub step: Millis,
    /// From the start of the last rank to the first step …
    pub startup: Millis,
    /// … and so much more each time that the gang has twice as many nodes.
    pub startup_per_doubling: Millis,
    /// What is left of `startup` where all ranks have waited for theirs; `None`: its program cannot.
    pub startup_warm: Option<Millis>,
    /// To read a checkpoint, if there is one to go on from.
    pub restore: Millis,
    /// For a replica that comes back: to take over the state from one that trains.
    pub join: Millis,
    /// For those that go on, when a replica is lost or comes back: all stand still.
    pub regroup: Millis,
    /// Of its hangs, the part in which a look at the ranks shows who stands still.
    pub hang_shows: f64,
    pub checkpoints: Checkpoints,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoints {
    pub every: Every,
    /// Training stands still for so long …
    pub blocks: Millis,
    /// … and the copy is durable so much later.
    pub durable_after: Millis,
}

/// How much work lies between two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    Never,
    Steps(u64),
    Span(Millis),
    /// As Lindos advises.
    Advised,
}

impl Work {
    /// Steps alone: no start-up, no checkpoints.
    pub fn of(steps: u64, step: Millis) -> Work {
        Work {
            steps,
            step,
            startup: Millis::ZERO,
            startup_per_doubling: Millis::ZERO,
            startup_warm: None,
            restore: Millis::ZERO,
            join: Millis::ZERO,
            regroup: Millis::ZERO,
            hang_shows: HANG_SHOWS,
            checkpoints: Checkpoints {
                every: Every::Never,
                blocks: Millis::ZERO,
                durable_after: Millis::ZERO,
            },
        }
    }

    /// From when all ranks of a gang of so many nodes run to its first step.
    pub fn starts_in(&self, nodes: usize, is_resumed: bool, is_warm: bool) -> Millis {
        let doublings = nodes.max(1).ilog2();
        let restore = if is_resumed { self.restore } else { Millis::ZERO };
        let startup = self.startup_warm.filter(|_| is_warm).unwrap_or(self.startup);
        startup + self.startup_per_doubling.times(u64::from(doublings)) + restore
    }

    /// Steps between two checkpoints; `None`: there are none.
    pub fn steps_a_save(&self, advised: Option<Millis>) -> Option<u64> {
        let span = |span: Millis| (span.0 / self.step.0.max(1)).max(1);
        match self.checkpoints.every {
            Every::Never => None,
            Every::Steps(steps) => Some(steps.max(1)),
            Every::Span(every) => Some(span(every)),
            Every::Advised => advised.map(span),
        }
    }
}

/// A training that gets on at one speed since a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Whole steps done at `since_us`, and the microseconds of the next one that are behind it.
    done: u64,
    into_us: u64,
    since_us: u64,
    /// Microseconds a step.
    step_us: u64,
}

impl Pace {
    pub fn new(done: u64, since: Millis, step_us: u64) -> Pace {
        Pace { done, into_us: 0, since_us: since.0 * 1000, step_us: step_us.max(1) }
    }

    /// Steps done, and the microseconds since.
    fn at(&self, now: Millis) -> (u64, u64) {
        let span = (now.0 * 1000).saturating_sub(self.since_us) + self.into_us;
        (self.done + span / self.step_us, span % self.step_us)
    }

    /// Whole steps done.
    pub fn steps_at(&self, now: Millis) -> u64 {
        self.at(now).0
    }

    /// The first whole millisecond at which so many steps are done.
    pub fn reaches(&self, steps: u64) -> Millis {
        let left = u128::from(steps.saturating_sub(self.done)) * u128::from(self.step_us);
        let left = left.saturating_sub(u128::from(self.into_us)) as u64;
        Millis((self.since_us + left).div_ceil(1000))
    }

    fn settle(&mut self, now: Millis) {
        if now.0 * 1000 > self.since_us {
            (self.done, self.into_us) = self.at(now);
            self.since_us = now.0 * 1000;
        }
    }

    /// Stands still from `now` for a while.
    pub fn pause(&mut self, now: Millis, span: Millis) {
        self.settle(now);
        self.since_us = self.since_us.max((now.0 + span.0) * 1000);
    }

    /// The step under way is lost.
    pub fn drop_step(&mut self, now: Millis) {
        self.settle(now);
        self.into_us = 0;
    }

    /// Goes on from where it was, with nothing done in all the time until `now`.
    pub fn go_on(&mut self, now: Millis) {
        self.since_us = self.since_us.max(now.0 * 1000);
    }

    pub fn step_ms(&self) -> u64 {
        self.step_us / 1000
    }

    /// Gets on at another speed from `now`.
    pub fn change(&mut self, now: Millis, step_us: u64) {
        self.settle(now);
        let step_us = step_us.max(1);
        let into = u128::from(self.into_us) * u128::from(step_us) / u128::from(self.step_us);
        (self.into_us, self.step_us) = (into as u64, step_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_counts_whole_steps_through_pauses_and_changes() {
        let mut pace = Pace::new(10, Millis(1000), 2_500_000);
        assert_eq!(pace.steps_at(Millis(3499)), 10);
        assert_eq!(pace.steps_at(Millis(3500)), 11);
        assert_eq!(pace.reaches(14), Millis(11_000));
        pace.pause(Millis(6000), Millis(4000));
        assert_eq!((pace.steps_at(Millis(9999)), pace.reaches(14)), (12, Millis(15_000)));
        pace.change(Millis(10_000), 5_000_000);
        assert_eq!(pace.reaches(13), Millis(15_000));
        pace.drop_step(Millis(13_000));
        assert_eq!(pace.reaches(13), Millis(18_000));
    }

    #[test]
    fn what_a_pace_reaches_it_has_done() {
        for step_us in [1, 999, 1000, 333_333, 7_000_001] {
            let pace = Pace::new(3, Millis(17), step_us);
            for steps in [4, 5, 100, 12_345] {
                assert!(pace.steps_at(pace.reaches(steps)) >= steps, "{step_us} {steps}");
            }
        }
    }

    #[test]
    fn a_larger_gang_takes_longer_to_start() {
        let work =
            Work { startup: Millis(10), startup_per_doubling: Millis(5), ..Work::of(1, Millis(1)) };
        assert_eq!(work.starts_in(1, false, true), Millis(10));
        assert_eq!(work.starts_in(1024, false, false), Millis(60));
        let warm = Work { startup_warm: Some(Millis(3)), ..work };
        assert_eq!(warm.starts_in(1024, false, true), Millis(53));
        assert_eq!(warm.starts_in(1024, false, false), Millis(60));
    }
}
