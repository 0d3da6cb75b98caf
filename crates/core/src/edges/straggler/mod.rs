//! Ranks that their peers wait for: what readings say of how each rank spends its time becomes at
//! most one edge at a time.
//!
//! Readings are cut into windows. In each, the slowest are looked for ([`slowest`]); who is that in
//! a few windows one after the other is told of, and again now and then while it lasts, and when it
//! is over. Windows in which the job saves, evaluates or starts count for nothing.

mod slowest;

pub use slowest::{ByWord, Measure, Slow, slowest};

use super::stall::{RankReading, trains};
use crate::Core;
use crate::event::Event;
use crate::gang::attempt::Attempt;
use lindos_model::pace::{RankPace, Straggler};
use lindos_model::{Epoch, JobId, Millis, Rank, Time};
use std::collections::BTreeMap;

/// A window is as long as this, unless another length is asked for, and longer until it has so many
/// steps.
const WINDOW: Millis = Millis::from_secs(15);
const STEPS_LEAST: u64 = 3;
/// A job that does not make so many steps in this time is not watched for stragglers.
const WINDOW_MAX: Millis = Millis::from_secs(1800);
/// Windows one after the other that show the same, before it is said or unsaid.
const WINDOWS: u32 = 3;
/// A window with a silence of this part of it, and of so many steps, has a pause in it.
const PAUSE_PART: u64 = 3;
const PAUSE_STEPS: u64 = 3;
/// Nobody waits for more than a hundred at once.
const WAITS_MAX: u64 = 100_000;
/// So many windows are waited for ranks that tell what they wait, until all have told something newer.
const UNTOLD_WINDOWS: u32 = 4;
/// While it lasts, it is told again so often: what it costs may have changed.
pub const STRAGGLER_AGAIN: Millis = Millis::from_secs(300);

/// How long a rank must be slow before it is told of, and as before until that is told, where steps
/// take so long and nothing else happens; `None`: the job is not watched.
pub fn straggler_told_after(step: Millis) -> Option<Millis> {
    let windows = step.times(STEPS_LEAST).0.div_ceil(WINDOW.0).max(1);
    let window = WINDOW.times(windows);
    (window <= WINDOW_MAX).then(|| window.times(u64::from(WINDOWS)))
}

#[derive(Clone, Debug)]
pub struct StragglerWatch {
    window: Millis,
    jobs: BTreeMap<JobId, JobWatch>,
}

impl Default for StragglerWatch {
    fn default() -> StragglerWatch {
        StragglerWatch::with_window(WINDOW)
    }
}

#[derive(Clone, Debug)]
struct JobWatch {
    /// How long its windows are, at least.
    length: Millis,
    /// Of the launch of the whole gang.
    attempt: Epoch,
    /// By number.
    ranks: Vec<RankSeen>,
    step: Option<u64>,
    checkpoint_step: Option<u64>,
    window: Option<Window>,
    told: ToldSpan,
    /// When a step was new last.
    moved_at: Time,
    streak: Option<Streak>,
    said: Option<Said>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    from: Time,
    until: Time,
    step: u64,
    checkpoint_step: Option<u64>,
    /// The longest time without a new step.
    silent: Millis,
}

/// Since when what ranks tell that they wait is summed: of a window, or of several, until all have told more.
#[derive(Clone, Copy, Debug)]
struct ToldSpan {
    from: Time,
    step: u64,
    windows: u32,
}

/// The same culprit, window after window.
#[derive(Clone, Copy, Debug)]
struct Streak {
    whose: Whose,
    windows: u32,
    since: Time,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    whose: Whose,
    rank: Rank,
    at: Time,
    since: Time,
    /// Windows since in which it was not slow.
    well: u32,
}

/// One member of the gang, or of a gang of one its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whose(u32);

/// What was read of one rank: now, and at the beginning of the window.
#[derive(Clone, Copy, Debug, Default)]
struct RankSeen {
    epoch: Epoch,
    newest: Option<Sample>,
    oldest: Option<Sample>,
    /// What it had told that it has waited when the span of that began.
    told: Option<Told>,
    /// What it told before that counts for nothing: what it waited while the job stood is in the next.
    told_before: Option<Told>,
}

/// Sums, of which only differences count: they may wrap.
#[derive(Clone, Copy, Debug)]
struct Sample {
    span: u32,
    ran: u32,
    delayed: u32,
    held: u32,
    slept: u32,
    late_us: u32,
    /// The newest step that it has told itself.
    step: Option<u32>,
    waited: Option<Told>,
}

/// Up to this step it has waited so long for others, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    step: u32,
    ms: u32,
}

impl Told {
    /// Whether it goes on with the sum of the other, which may have wrapped.
    fn follows(self, other: Told) -> bool {
        let grown = |old: u32, new: u32| new.wrapping_sub(old) <= u32::MAX / 2;
        grown(other.step, self.step) && grown(other.ms, self.ms)
    }
}

impl Sample {
    #[expect(clippy::cast_possible_truncation, reason = "only differences count")]
    fn of(step: Option<u64>, pace: &RankPace) -> Sample {
        Sample {
            span: pace.span_ms as u32,
            ran: pace.ran_ms as u32,
            delayed: pace.delayed_ms as u32,
            held: pace.held_ms as u32,
            slept: pace.slept_ms as u32,
            late_us: pace.late_us as u32,
            step: step.map(|step| step as u32),
            waited: pace.waited.map(|it| Told { step: it.step as u32, ms: it.ms as u32 }),
        }
    }
}

impl StragglerWatch {
    /// With windows that are no shorter than this: readings come every five seconds, and one window
    /// wants some.
    pub fn with_window(window: Millis) -> StragglerWatch {
        StragglerWatch { window, jobs: BTreeMap::new() }
    }

    /// Takes a reading of a rank of a launch, which belongs to an attempt
    /// ([`crate::Core::attempt_of_epoch`]).
    pub fn on_reading(
        &mut self,
        now: Time,
        job: JobId,
        attempt: Epoch,
        epoch: Epoch,
        rank: Rank,
        reading: &RankReading,
    ) {
        let watch = self.jobs.entry(job).or_insert_with(|| JobWatch::new(attempt, self.window));
        if attempt > watch.attempt {
            *watch = JobWatch::new(attempt, self.window);
        } else if attempt < watch.attempt {
            return;
        }
        if reading.step > watch.step {
            watch.moves(now);
            watch.step = reading.step;
        }
        watch.checkpoint_step = watch.checkpoint_step.max(reading.checkpoint_step);
        if let Some(pace) = &reading.pace {
            watch.note(epoch, rank, reading.step, pace);
            if watch.window.is_none() {
                watch.open(now);
            }
        }
    }

    /// What the windows that are over show.
    pub fn due(&mut self, now: Time, core: &Core) -> Vec<Event> {
        let is_due = |watch: &JobWatch| watch.window.is_some_and(|window| window.until <= now);
        let mut events = Vec::new();
        for (&job, watch) in self.jobs.iter_mut().filter(|(_, watch)| is_due(watch)) {
            let attempt = core.job(job).and_then(|job| job.attempt.as_ref());
            match attempt.filter(|it| it.epoch == watch.attempt && !it.is_stopping()) {
                Some(attempt) => events.extend(watch.close(now, job, attempt)),
                None => watch.window = None,
            }
        }
        events
    }

    /// When [`StragglerWatch::due`] may next have something to say.
    pub fn next_deadline(&self) -> Option<Time> {
        self.jobs.values().filter_map(|watch| Some(watch.window?.until)).min()
    }

    /// The job is over, or its attempt is.
    pub fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }
}

impl JobWatch {
    fn new(attempt: Epoch, length: Millis) -> JobWatch {
        JobWatch {
            length,
            attempt,
            ranks: Vec::new(),
            step: None,
            checkpoint_step: None,
            window: None,
            told: ToldSpan { from: Time::ZERO, step: 0, windows: 0 },
            moved_at: Time::ZERO,
            streak: None,
            said: None,
        }
    }

    fn note(&mut self, epoch: Epoch, rank: Rank, step: Option<u64>, pace: &RankPace) {
        let index = rank.0 as usize;
        if self.ranks.len() <= index {
            self.ranks.resize(index + 1, RankSeen::default());
        }
        let seen = &mut self.ranks[index];
        if epoch < seen.epoch {
            return;
        }
        if epoch > seen.epoch {
            *seen = RankSeen { epoch, ..RankSeen::default() };
        }
        let sample = Sample::of(step, pace);
        seen.newest = Some(sample);
        seen.oldest.get_or_insert(sample);
        let is_new = sample.waited.filter(|_| sample.waited != seen.told_before);
        match (seen.told, is_new) {
            // Its program has begun to count anew.
            (Some(old), Some(new)) if !new.follows(old) => seen.told = is_new,
            (None, Some(_)) => seen.told = is_new,
            _ => {}
        }
    }

    /// Begins a window; before the first step there is none.
    fn open(&mut self, now: Time) {
        if self.window.is_none() {
            self.begin_told(now, true);
        }
        self.window = self.step.map(|step| {
            let (until, checkpoint_step) = (now + self.length, self.checkpoint_step);
            Window { from: now, until, step, checkpoint_step, silent: Millis::ZERO }
        });
        for seen in &mut self.ranks {
            seen.oldest = seen.newest;
        }
    }

    /// What ranks tell that they wait counts from now on. `anew`: from what each tells next, for the job has
    /// stood, and what it waited then is in that.
    fn begin_told(&mut self, now: Time, anew: bool) {
        self.told = ToldSpan { from: now, step: self.step.unwrap_or(0), windows: 0 };
        for seen in &mut self.ranks {
            let newest = seen.newest.and_then(|newest| newest.waited);
            (seen.told, seen.told_before) = if anew { (None, newest) } else { (newest, None) };
        }
    }

    fn close(&mut self, now: Time, job: JobId, attempt: &Attempt) -> Option<Event> {
        let window = self.window.as_mut().expect("it is due");
        let span = now.since(window.from);
        let steps = self.step.unwrap_or(0).saturating_sub(window.step);
        if steps < STEPS_LEAST && span < WINDOW_MAX {
            window.until = now + self.length;
            return None;
        }
        self.moves(now);
        let window = self.window.expect("it is due");
        let has_saved = self.checkpoint_step != window.checkpoint_step;
        let pause = (span.0 / PAUSE_PART).max(span.0 / steps.max(1) * PAUSE_STEPS);
        let counts = steps >= STEPS_LEAST && !has_saved && window.silent.0 <= pause;
        let event = if counts {
            self.measures(span, now, attempt)
                .and_then(|(measures, by)| self.look(now, window.from, job, attempt, &measures, by))
        } else {
            self.begin_told(now, true);
            None
        };
        self.open(now);
        event
    }

    fn look(
        &mut self,
        now: Time,
        from: Time,
        job: JobId,
        attempt: &Attempt,
        measures: &[Measure],
        by: ByWord,
    ) -> Option<Event> {
        let from = if by.waits { self.told.from } else { from };
        if by.waits {
            self.begin_told(now, false);
        } else if by.waits_untold && self.told.windows < UNTOLD_WINDOWS {
            // Some have not told yet: this window says nothing, for or against anybody.
            self.told.windows += 1;
            return None;
        }
        let slow = slowest(measures, by, self.named(attempt));
        self.judge(now, from, job, attempt, slow)
    }

    /// A step is new, or the window is over: the silence before it is.
    fn moves(&mut self, now: Time) {
        if let Some(window) = &mut self.window {
            window.silent = window.silent.max(now.since(self.moved_at.max(window.from)));
        }
        self.moved_at = now;
    }

    /// What the ranks that train have done in a window, if nearly all have been heard; and what all have told
    /// themselves.
    fn measures(
        &self,
        span: Millis,
        now: Time,
        attempt: &Attempt,
    ) -> Option<(Vec<Measure>, ByWord)> {
        // What a rank has waited is told of whole steps, in each of which the job spends this time.
        let steps = self.step.unwrap_or(0).saturating_sub(self.told.step);
        let step_us = (now.since(self.told.from).0 * 1000).checked_div(steps).unwrap_or(0);
        let mut tell = 0;
        let mut measures = Vec::with_capacity(self.ranks.len());
        let mut here = 0;
        for (index, seen) in self.ranks.iter().enumerate() {
            let rank = Rank(index as u32);
            if !trains(attempt, rank, seen.epoch) {
                continue;
            }
            here += 1;
            let (Some(old), Some(new)) = (&seen.oldest, &seen.newest) else { continue };
            let looked = new.span.wrapping_sub(old.span);
            // One that was heard only at the end, or at the beginning, says nothing of the window.
            if u64::from(looked) * 2 < span.0 || u64::from(looked) > span.0 * 2 {
                continue;
            }
            let member = rank.0 / u32::from(attempt.ranks_per_node.max(1));
            let told_waits =
                seen.told.zip(new.waited).and_then(|(old, new)| waits(old, new, step_us));
            tell += usize::from(new.waited.is_some());
            measures.push(Measure { told_waits, ..measure(rank, member, old, new) });
        }
        let by = ByWord {
            steps: measures.iter().all(|measure| measure.steps.is_some()),
            waits: measures.iter().all(|measure| measure.told_waits.is_some()),
            waits_untold: tell * 2 > measures.len(),
        };
        let is_whole = measures.len() >= 2 && measures.len() * 10 >= here * 9;
        is_whole.then_some((measures, by))
    }

    /// The member that is said to be slow, or that was in the window before.
    fn named(&self, attempt: &Attempt) -> Option<u32> {
        let said = self.said.map(|said| said.whose);
        let whose = said.or(self.streak.map(|streak| streak.whose));
        whose.filter(|_| attempt.members.len() > 1).map(|Whose(member)| member)
    }

    fn judge(
        &mut self,
        now: Time,
        from: Time,
        job: JobId,
        attempt: &Attempt,
        slow: Option<Slow>,
    ) -> Option<Event> {
        let is_one = attempt.members.len() == 1;
        let whose = |slow: &Slow| Whose(if is_one { slow.rank.0 } else { slow.member });
        self.streak = slow.as_ref().map(|slow| match self.streak {
            Some(streak) if streak.whose == whose(slow) => {
                Streak { windows: streak.windows + 1, ..streak }
            }
            _ => Streak { whose: whose(slow), windows: 1, since: from },
        });
        let epoch = self.attempt;
        if let Some(said) = &mut self.said {
            let is_slow = slow.as_ref().is_some_and(|slow| whose(slow) == said.whose);
            said.well = if is_slow { 0 } else { said.well + 1 };
            if said.well >= WINDOWS {
                let rank = said.rank;
                self.said = None;
                return Some(Event::StragglerGone { job, epoch, rank });
            }
            if !is_slow || now.since(said.at) < STRAGGLER_AGAIN {
                return None;
            }
        }
        let (slow, streak) = (slow?, self.streak?);
        if streak.windows < WINDOWS {
            return None;
        }
        let before = self.said.filter(|said| said.whose == streak.whose);
        let (rank, since) = before.map_or((slow.rank, streak.since), |it| (it.rank, it.since));
        self.said = Some(Said { whose: streak.whose, rank, at: now, since, well: 0 });
        let straggler = Straggler {
            rank,
            ranks: slow.ranks,
            sign: slow.sign,
            by: slow.by,
            since,
            step: self.step.unwrap_or(0),
            own: slow.own,
            peers: slow.peers,
            cost_permille: slow.cost_permille,
        };
        Some(Event::StragglerSeen { job, epoch, straggler: Box::new(straggler) })
    }
}

/// What a rank did between two samples, but for what it tells that it waited.
fn measure(rank: Rank, member: u32, old: &Sample, new: &Sample) -> Measure {
    let span = u64::from(new.span.wrapping_sub(old.span)).max(1);
    let permille = |old: u32, new: u32| {
        let part = u64::from(new.wrapping_sub(old)) * 1000 / span;
        u32::try_from(part).unwrap_or(u32::MAX)
    };
    let steps = old.step.zip(new.step).map(|(old, new)| new.wrapping_sub(old));
    Measure {
        rank,
        member,
        ran: permille(old.ran, new.ran),
        delayed: permille(old.delayed, new.delayed).min(1000),
        held: permille(old.held, new.held).min(1000),
        sleeps: permille(old.slept, new.slept).min(1000),
        told_waits: None,
        // Of a span in milliseconds, thousandths are microseconds.
        late: u32::try_from(u64::from(new.late_us.wrapping_sub(old.late_us)) / span)
            .unwrap_or(u32::MAX),
        steps,
        rate: steps.map_or(0, |steps| u64::from(steps) * 1_000_000 / span),
    }
}

/// Thousandths of the time in which a rank has waited, by its own word: more than 1,000 where it waits for
/// several at once. `None`: it has told nothing new, or has begun to count anew.
fn waits(old: Told, new: Told, step_us: u64) -> Option<u32> {
    let (steps, ms) = (new.step.wrapping_sub(old.step), new.ms.wrapping_sub(old.ms));
    if steps == 0 || !new.follows(old) {
        return None;
    }
    // Microseconds of milliseconds, in thousandths.
    let span_us = u64::from(steps).saturating_mul(step_us);
    let part = (u64::from(ms) * 1_000_000).checked_div(span_us)?;
    Some(part.min(WAITS_MAX) as u32)
}

#[cfg(test)]
mod tests;
