//! Weeks of a job that is well: every silence in them that is called a hang is a false alarm.
//!
//! Steps jitter; now and then the job evaluates, saves, or waits for its data; once a day it starts
//! again, slowly, and its first steps are slow too. Time without a pause is passed over.

use super::stage::Stage;
use crate::random::Stream;
use lindos_core::Event;
use lindos_core::blame::evidence::look_after;
use lindos_core::event::GangWord;
use lindos_model::{Activity, Apart, JobState, Millis, Rank, Stall};

/// A job that needs longer than the usual `startup_timeout` (10 minutes) has to say so.
const SLOW_START_S: u64 = 500;
const WEEK: Millis = Millis::from_secs(7 * 86_400);

/// What a job is like.
struct Habits {
    step: Millis,
    jitter_percent: u64,
    evaluates_every: Millis,
    evaluates_for: Millis,
    /// Whether one rank evaluates, and the others wait for it.
    one_evaluates: bool,
    saves_every: Millis,
    saves_for: Millis,
}

impl Habits {
    fn draw(random: &mut Stream) -> Habits {
        Habits {
            step: Millis(random.between(300, 30_000)),
            jitter_percent: random.between(2, 25),
            evaluates_every: Millis::from_secs(random.between(1800, 14_400)),
            evaluates_for: Millis::from_secs(random.between(10, 240)),
            one_evaluates: random.chance(300_000),
            saves_every: Millis::from_secs(random.between(300, 3600)),
            saves_for: Millis(random.between(200, 60_000)),
        }
    }

    fn one_step(&self, random: &mut Stream) -> Millis {
        let most = self.step.0 * self.jitter_percent / 100;
        Millis(self.step.0 + random.between(0, most))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weeks {
    pub played: u64,
    pub pauses: u64,
    pub alarms: u64,
}

/// One week of one job.
pub fn week(seed: u64) -> Weeks {
    let mut random = Stream::new(seed, "pauses");
    let habits = Habits::draw(&mut random);
    let mut stage = Stage::new(16);
    let mut seen = Weeks { played: 1, ..Weeks::default() };
    let begun = stage.now;
    while stage.now.since(begun) < WEEK {
        day(&mut stage, &habits, &mut random, &mut seen);
    }
    seen
}

/// From one start to the next.
fn day(stage: &mut Stage, habits: &Habits, random: &mut Stream, seen: &mut Weeks) {
    while stage.the_job().state() != JobState::Starting {
        stage.after(Millis::from_secs(1));
    }
    stage.all_say(GangWord::Running, Vec::new());
    stage.after(Millis::from_secs(random.between(20, SLOW_START_S)));
    let mut step = stage.the_job().checkpoint_step.unwrap_or(0);
    // The first steps compile and warm up.
    for _ in 0..3 {
        step += 1;
        stage.after(Millis(habits.step.0 * random.between(1, 3)));
        stage.steps(step, false);
    }
    let end = stage.now + Millis::from_secs(86_400);
    let (mut evaluates, mut saves) =
        (stage.now + habits.evaluates_every, stage.now + habits.saves_every);
    while stage.now < end {
        if stage.the_job().state() == JobState::Stopping {
            seen.alarms += 1;
            break;
        }
        let next = evaluates.min(saves).min(end);
        step = trains_until(stage, habits, random, step, next);
        seen.pauses += 1;
        if next == saves {
            pauses(stage, habits.saves_for, &saving(random));
            computes(stage, habits.one_step(random));
            if stage.the_job().state() == JobState::Running {
                step += 1;
                stage.steps(step, false);
                stage.saves(step, habits.saves_for.0);
            }
            saves = stage.now + habits.saves_every;
        } else if next == evaluates {
            pauses(stage, habits.evaluates_for, &evaluating(habits));
            evaluates = stage.now + habits.evaluates_every;
        }
    }
    starts_again(stage);
}

/// Ordinary steps: the first few and the last few are told one by one.
fn trains_until(
    stage: &mut Stage,
    habits: &Habits,
    random: &mut Stream,
    step: u64,
    until: lindos_model::Time,
) -> u64 {
    let mut step = step;
    for _ in 0..3 {
        step += 1;
        computes(stage, habits.one_step(random));
        stage.steps(step, false);
    }
    let left = until.since(stage.now);
    let each = habits.step.0 + habits.step.0 * habits.jitter_percent / 200;
    let steps = left.0 / each;
    if steps > 4 {
        // Watched, so that only the steps and not the silence between two readings count.
        step += 1;
        stage.after(habits.one_step(random));
        stage.steps(step, true);
        step += steps - 2;
        stage.after(Millis(each * (steps - 2)));
        stage.steps(step, true);
        step += 1;
        stage.after(habits.one_step(random));
        stage.steps(step, false);
    }
    step
}

/// What the ranks do in a pause: most of them, and some.
struct Look {
    most: Activity,
    apart: Option<Activity>,
}

fn evaluating(habits: &Habits) -> Look {
    if habits.one_evaluates {
        Look { most: Activity::Idle, apart: Some(Activity::Busy) }
    } else {
        Look { most: Activity::Busy, apart: None }
    }
}

fn saving(random: &mut Stream) -> Look {
    match random.between(0, 2) {
        0 => Look { most: Activity::Busy, apart: None },
        1 => Look { most: Activity::Idle, apart: Some(Activity::Busy) },
        _ => Look { most: Activity::Blocked, apart: None },
    }
}

fn pauses(stage: &mut Stage, span: Millis, look: &Look) {
    let Some(attempt) = stage.attempt().filter(|attempt| !attempt.is_stopping()) else { return };
    let wait = look_after(attempt.pace.step_ms);
    if span > wait {
        stage.after(wait);
        is_looked_at(stage, look);
        stage.after(Millis(span.0 - wait.0));
    } else {
        stage.after(span);
    }
}

/// The next step, all of them at work. The silence of the pause before it goes on, and may become
/// long enough for a look only now.
fn computes(stage: &mut Stage, span: Millis) {
    let Some(attempt) = stage.attempt().filter(|attempt| !attempt.is_stopping()) else { return };
    // What a look shows is told again when it changes.
    let look_at = (attempt.pace.step_at + look_after(attempt.pace.step_ms)).max(stage.now);
    let end = stage.now + span;
    if attempt.pace.step.is_some() && look_at < end {
        stage.after(look_at.since(stage.now));
        is_looked_at(stage, &Look { most: Activity::Busy, apart: None });
    }
    stage.after(end.since(stage.now));
}

fn is_looked_at(stage: &mut Stage, look: &Look) {
    let Some(attempt) = stage.attempt().filter(|attempt| !attempt.is_stopping()) else { return };
    let (told, since) = (attempt.world_size(), attempt.pace.step_at);
    let step = attempt.pace.step.unwrap_or(0);
    let apart = look.apart.map(|activity| Apart {
        rank: Rank(0),
        step: Some(step),
        activity: Some(activity),
    });
    let (most, apart) = (Some(look.most), apart.into_iter().collect());
    let stall = Box::new(Stall { since, step, told, at_step: told, most, apart });
    let (job, epoch) = (stage.job, stage.epoch());
    stage.tell(&Event::StallSeen { job, epoch, stall });
}

/// A node is lost, or the attempt was stopped for a false alarm: it starts anew.
fn starts_again(stage: &mut Stage) {
    if stage.the_job().state() != JobState::Stopping {
        let node = stage.gang()[0];
        stage.falls_silent(node);
    }
    stage.fault();
}
