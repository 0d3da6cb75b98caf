//! What a training script does, as a function of time: no event a step.

use lindos_model::{Millis, Time};

/// How a job behaves once all of its ranks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// From the start of the last rank to the first step.
    pub startup: Millis,
    /// So much of it needs no rank: processes that waited for theirs have done it.
    pub saved_warm: Millis,
    /// Whether its program can wait for its rank.
    pub stands_by: bool,
    pub steps: u64,
    pub step: Millis,
    /// A checkpoint after every so many steps; 0 for none.
    pub checkpoint_every: u64,
    /// For which training is blocked.
    pub checkpoint: Millis,
    /// Whether it tells its steps.
    pub reports: bool,
    /// A bug of its own: it exits with status 1 at this step, in its first so many attempts.
    pub bug: Option<Bug>,
    /// Its loss is no number from this step on, in its first so many attempts, and it goes on.
    pub loss_breaks: Option<Bug>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    pub step: u64,
    pub attempts: u32,
}

/// One attempt's training, from when all ranks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Training {
    pub began: Time,
    pub from_step: u64,
    /// When it stopped getting on: a rank died or hangs.
    pub ended: Option<Time>,
    /// What it went on from was saved with a broken loss.
    pub is_spoilt: bool,
    /// All its ranks had waited for theirs.
    pub is_warm: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    pub step: Option<u64>,
    pub checkpoint: Option<u64>,
    pub blocked: Millis,
}

impl Script {
    /// A checkpoint's steps and the checkpoint itself.
    fn cycle(&self) -> Option<u64> {
        (self.checkpoint_every > 0).then(|| self.checkpoint_every * self.step.0 + self.checkpoint.0)
    }

    fn starts_in(&self, training: &Training) -> Millis {
        self.startup_of(training.is_warm)
    }

    /// From the last rank's start to the first step.
    pub fn startup_of(&self, is_warm: bool) -> Millis {
        if is_warm { self.startup - self.saved_warm } else { self.startup }
    }

    /// How far the training is at `now`.
    pub fn at(&self, training: &Training, now: Time) -> Position {
        let now = training.ended.map_or(now, |ended| ended.min(now));
        let first_step = training.began + self.starts_in(training);
        if now < first_step {
            return Position::default();
        }
        let left = self.steps - training.from_step.min(self.steps);
        let span = now.since(first_step).0;
        let (done, checkpoints) = match self.cycle() {
            None => (span / self.step.0, 0),
            Some(cycle) => {
                let into = (span % cycle / self.step.0).min(self.checkpoint_every);
                (span / cycle * self.checkpoint_every + into, span / cycle)
            }
        };
        // The last checkpoint that belongs to the run; none comes after the last step.
        let checkpoints = match self.checkpoint_every {
            0 => 0,
            every => checkpoints.min(left / every),
        };
        let saved = checkpoints * self.checkpoint_every;
        Position {
            step: Some(training.from_step + done.min(left)),
            checkpoint: (checkpoints > 0).then_some(training.from_step + saved),
            blocked: self.checkpoint.times(checkpoints),
        }
    }

    /// The first step without a loss that is a number, of the attempt of this number.
    pub fn loss_broken_from(&self, training: &Training, attempt: u32) -> Option<u64> {
        if training.is_spoilt {
            return Some(training.from_step + 1);
        }
        let breaks = self.loss_breaks.filter(|breaks| attempt <= breaks.attempts)?;
        Some(breaks.step.max(training.from_step + 1))
    }

    /// The checkpoints that it has saved by `now`, and whether each is spoilt.
    pub fn saved(&self, training: &Training, attempt: u32, now: Time) -> Vec<(u64, bool)> {
        let newest = self.at(training, now).checkpoint.unwrap_or(training.from_step);
        let broken_from = self.loss_broken_from(training, attempt);
        let is_spoilt = |step| broken_from.is_some_and(|from| step >= from);
        let all = (training.from_step..=newest).step_by(self.checkpoint_every.max(1) as usize);
        all.skip(1).map(|step| (step, is_spoilt(step))).collect()
    }

    /// When the training reaches `step`, with the checkpoints before it, if nothing stops it.
    pub fn reaches(&self, training: &Training, step: u64) -> Time {
        let steps = step.saturating_sub(training.from_step);
        let checkpoints = steps.checked_div(self.checkpoint_every).unwrap_or(0);
        let first_step = training.began + self.starts_in(training);
        first_step + self.step.times(steps) + self.checkpoint.times(checkpoints)
    }

    /// When all is done, the last checkpoint too.
    pub fn finishes(&self, training: &Training) -> Time {
        self.reaches(training, self.steps)
    }

    /// From its start to its end, if nothing stops it.
    pub fn alone(&self) -> Millis {
        let training = Training {
            began: Time::ZERO,
            from_step: 0,
            ended: None,
            is_spoilt: false,
            is_warm: false,
        };
        Millis(self.finishes(&training).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        Script {
            startup: Millis(1000),
            saved_warm: Millis(600),
            stands_by: true,
            steps: 25,
            step: Millis(100),
            checkpoint_every: 10,
            checkpoint: Millis(500),
            reports: true,
            bug: None,
            loss_breaks: None,
        }
    }

    #[test]
    fn steps_and_checkpoints_follow_the_clock() {
        let script = script();
        let training = Training {
            began: Time(0),
            from_step: 0,
            ended: None,
            is_spoilt: false,
            is_warm: false,
        };
        assert_eq!(script.at(&training, Time(999)), Position::default());
        assert_eq!(script.at(&training, Time(1000)).step, Some(0));
        assert_eq!(script.at(&training, Time(1950)).step, Some(9));
        let blocked = script.at(&training, Time(2300));
        assert_eq!((blocked.step, blocked.checkpoint), (Some(10), None));
        let saved = script.at(&training, Time(2500));
        assert_eq!(
            (saved.step, saved.checkpoint, saved.blocked),
            (Some(10), Some(10), Millis(500))
        );
        assert_eq!(script.finishes(&training), Time(1000 + 2500 + 1000));
        let end = script.at(&training, script.finishes(&training));
        assert_eq!((end.step, end.checkpoint), (Some(25), Some(20)));
    }

    #[test]
    fn what_was_done_while_it_waited_is_saved() {
        let training =
            Training { began: Time(0), from_step: 0, ended: None, is_spoilt: false, is_warm: true };
        assert_eq!(script().at(&training, Time(399)), Position::default());
        assert_eq!(script().at(&training, Time(400)).step, Some(0));
    }

    #[test]
    fn a_training_that_ended_stays_where_it_was() {
        let ended = Some(Time(1250));
        let training =
            Training { began: Time(0), from_step: 10, ended, is_spoilt: false, is_warm: false };
        assert_eq!(script().at(&training, Time(99_000)).step, Some(12));
    }
}
