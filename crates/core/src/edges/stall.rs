//! Jobs that do not get on: what each rank said last, and a look at all of them when a job has been
//! silent for too long.
//!
//! Every reading of every rank is fed in, and costs the same however large the job is; only a look
//! is a pass over its ranks. A driver asks [`StallWatch::due`] now and then. A rank's step counts
//! only while its launch is the newest and its replica trains with the others. Of a job of replicas
//! that gets on, each replica is looked at now and then: one may stand still by itself, or have come to
//! no first step while the others began without it.

use crate::Core;
use crate::blame::evidence::look_after;
use crate::event::Event;
use crate::gang::attempt::{Attempt, ReplicaState};
use lindos_model::{
    Activity, Apart, Epoch, JobId, Millis, Rank, RankPace, StackPlace, Stacks, Stall, Time,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// Between two looks at one silence, or at the replicas of a job; and how often one is told of.
const LOOK_AGAIN: Millis = Millis::from_secs(5);
const TOLD_MAX: u32 = 8;
/// A pause this many times as long as a step says little of how long steps are.
const PAUSE: u64 = 4;
/// A first step is not taken to be longer than this.
const FIRST_STEP_MAX: Millis = Millis::from_secs(60);
/// A loss that is no number for so many steps does not become one again by itself.
pub const BROKEN_STEPS: u64 = 10;

/// The newest of one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankReading {
    pub step: Option<u64>,
    /// A checkpoint is a sign of life, too.
    pub checkpoint_step: Option<u64>,
    pub activity: Option<Activity>,
    /// The first of the steps up to `step` without a loss that is a number.
    pub loss_broken_from: Option<u64>,
    /// Where it stands in the program, in a silence.
    pub place: Option<StackPlace>,
    /// How it spends its time: for [`super::StragglerWatch`].
    pub pace: Option<RankPace>,
}

#[derive(Clone, Debug, Default)]
pub struct StallWatch {
    jobs: BTreeMap<JobId, JobWatch>,
}

#[derive(Clone, Debug)]
struct JobWatch {
    /// Of the launch of the whole gang.
    attempt: Epoch,
    began_at: Time,
    /// By number.
    ranks: Vec<RankSeen>,
    /// The highest that was told, and when it or a checkpoint was new.
    step: Option<u64>,
    checkpoint_step: Option<u64>,
    got_on_at: Time,
    /// Smoothed time between two steps.
    step_ms: Option<u64>,
    look_at: Option<Time>,
    /// What was told of this silence last, when, and how often it was told of.
    said: Option<Stall>,
    said_stacks: Option<Stacks>,
    said_at: Time,
    told: u32,
    has_said_broken: bool,
    replicas: Replicas,
    /// Since when a replica stood still that was told of, and when it may be told of again.
    said_replicas: BTreeMap<usize, (Time, Time)>,
}

/// When the replicas of a job are looked at one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replicas {
    Unknown,
    /// There is but one.
    Never,
    At(Time),
}

/// What the ranks of a replica that trains have said in their present launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    NoStep,
    /// When the newest was new.
    StepAt(Time),
}

#[derive(Clone, Copy, Debug, Default)]
struct RankSeen {
    epoch: Epoch,
    step: Option<u64>,
    /// When it was new.
    step_at: Time,
    activity: Option<Activity>,
    place: Option<StackPlace>,
}

impl StallWatch {
    /// Takes a reading of a rank of a launch, which belongs to an attempt
    /// ([`crate::Core::attempt_of_epoch`]); the event, if its loss has been broken for long enough.
    pub fn on_reading(
        &mut self,
        now: Time,
        job: JobId,
        attempt: Epoch,
        epoch: Epoch,
        rank: Rank,
        reading: &RankReading,
    ) -> Option<Event> {
        let watch = self.jobs.entry(job).or_insert_with(|| JobWatch::new(attempt, now));
        if attempt > watch.attempt {
            *watch = JobWatch::new(attempt, now);
        } else if attempt < watch.attempt {
            return None;
        }
        watch.note(now, epoch, rank, reading);
        let step = watch.broken_from(reading)?;
        watch.has_said_broken = true;
        Some(Event::LossBroken { job, epoch, rank, step })
    }

    /// The silences that are due to be told of.
    pub fn due(&mut self, now: Time, core: &Core) -> Vec<Event> {
        let mut events = self.silent_replicas(now, core);
        let is_due = |watch: &JobWatch| watch.look_at.is_some_and(|at| at <= now);
        for (&job, watch) in self.jobs.iter_mut().filter(|(_, watch)| is_due(watch)) {
            watch.look_at = None;
            let attempt = core.job(job).and_then(|job| job.attempt.as_ref());
            let Some(attempt) = attempt.filter(|it| it.epoch == watch.attempt && !it.is_stopping())
            else {
                continue;
            };
            let counts = |rank, epoch| trains(attempt, rank, epoch);
            if let Some(stacks) = watch.stacks(counts) {
                let (epoch, stacks) = (watch.attempt, Box::new(stacks));
                events.push(Event::StacksSeen { job, epoch, stacks });
            }
            let stall = watch.look(now, counts);
            if let Some(stall) = stall {
                let (epoch, stall) = (watch.attempt, Box::new(stall));
                events.push(Event::StallSeen { job, epoch, stall });
            }
        }
        events
    }

    /// The replicas that stand still while the others get on.
    fn silent_replicas(&mut self, now: Time, core: &Core) -> Vec<Event> {
        let is_due = |watch: &JobWatch| match watch.replicas {
            Replicas::Unknown => true,
            Replicas::Never => false,
            Replicas::At(at) => at <= now,
        };
        let mut events = Vec::new();
        for (&id, watch) in self.jobs.iter_mut().filter(|(_, watch)| is_due(watch)) {
            // A deadline that is past is never left standing.
            watch.replicas = Replicas::Unknown;
            let Some(job) = core.job(id) else { continue };
            let Some(attempt) = job.attempt.as_ref().filter(|it| it.epoch == watch.attempt) else {
                continue;
            };
            if attempt.replicas.len() == 1 {
                watch.replicas = Replicas::Never;
                continue;
            }
            watch.replicas = Replicas::At(now + LOOK_AGAIN);
            if attempt.is_stopping() {
                continue;
            }
            let silence_max = core.silence_max(job, attempt);
            if now.since(watch.got_on_at) >= silence_max {
                continue;
            }
            let said: Vec<Said> =
                (0..attempt.replicas.len()).map(|it| watch.said_by(attempt, it)).collect();
            let those_that =
                |wanted: fn(&Said) -> bool| said.iter().filter(|it| wanted(it)).count();
            let silent = those_that(|it| *it == Said::NoStep);
            let first_step_max = job.first_step_within().map(|wait| wait.max(silence_max));
            // Where only some replicas ever tell steps, one that tells none says nothing.
            let first_step_max = first_step_max
                .filter(|_| those_that(|it| matches!(it, Said::StepAt(_))) >= 2 * silent);
            for (replica, said) in said.into_iter().enumerate() {
                let (since, wait) = match said {
                    Said::Nothing => continue,
                    Said::StepAt(at) => (at, silence_max),
                    Said::NoStep => {
                        let Some(wait) = first_step_max else { continue };
                        (attempt.replicas[replica].launched_at.max(watch.began_at), wait)
                    }
                };
                if now.since(since) < wait {
                    continue;
                }
                let of_it = watch.replica_stands(now, attempt, replica, since, silence_max);
                events.extend(of_it.map(|stall| Event::ReplicaSilent {
                    job: id,
                    epoch: attempt.replicas[replica].epoch,
                    replica: replica as u32,
                    stall: Box::new(stall),
                }));
            }
        }
        events
    }

    /// When [`StallWatch::due`] may next have something to say.
    pub fn next_deadline(&self) -> Option<Time> {
        let of_job = |watch: &JobWatch| match watch.replicas {
            Replicas::At(at) => Some(watch.look_at.map_or(at, |look_at| look_at.min(at))),
            Replicas::Unknown | Replicas::Never => watch.look_at,
        };
        self.jobs.values().filter_map(of_job).min()
    }

    /// The job is over, or its attempt is.
    pub fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }
}

/// Whether a rank of this launch is one of those that train together.
pub(super) fn trains(attempt: &Attempt, rank: Rank, epoch: Epoch) -> bool {
    let Some(member) = rank.0.checked_div(u32::from(attempt.ranks_per_node)) else { return false };
    let member = member as usize;
    if member >= attempt.members.len() {
        return false;
    }
    let index = attempt.replica_of(member);
    let replica = &attempt.replicas[index];
    let is_back = !attempt.rejoining.contains(&(index as u32));
    replica.epoch == epoch && replica.state == ReplicaState::Launched && is_back
}

impl JobWatch {
    fn new(attempt: Epoch, now: Time) -> JobWatch {
        JobWatch {
            attempt,
            began_at: now,
            ranks: Vec::new(),
            step: None,
            checkpoint_step: None,
            got_on_at: now,
            step_ms: None,
            look_at: None,
            said: None,
            said_stacks: None,
            said_at: Time::ZERO,
            told: 0,
            has_said_broken: false,
            replicas: Replicas::Unknown,
            said_replicas: BTreeMap::new(),
        }
    }

    fn note(&mut self, now: Time, epoch: Epoch, rank: Rank, reading: &RankReading) {
        let index = rank.0 as usize;
        if self.ranks.len() <= index {
            self.ranks.resize(index + 1, RankSeen::default());
        }
        let seen = &mut self.ranks[index];
        if epoch < seen.epoch {
            return;
        }
        let before = *seen;
        let (step, activity, place) = (reading.step, reading.activity, reading.place);
        let is_step_new = epoch > seen.epoch || step > seen.step;
        let step_at = if is_step_new { now } else { seen.step_at };
        *seen = RankSeen { epoch, step, step_at, activity, place };
        let of = |seen: &RankSeen| (seen.step, seen.activity, seen.place);
        let is_new = of(&before) != of(seen);
        let has_saved = reading.checkpoint_step > self.checkpoint_step;
        if reading.step > self.step {
            self.pace(now, reading.step);
            self.step = reading.step;
            self.gets_on(now);
        } else if has_saved {
            self.gets_on(now);
        } else if is_new && self.said.is_some() && self.told < TOLD_MAX {
            let at = (self.said_at + LOOK_AGAIN).max(now);
            self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
        }
        self.checkpoint_step = self.checkpoint_step.max(reading.checkpoint_step);
    }

    fn gets_on(&mut self, now: Time) {
        self.got_on_at = now;
        self.said = None;
        self.said_stacks = None;
        self.told = 0;
        // Before the first step nobody knows how long the start may take.
        self.look_at = self.step.map(|_| now + look_after(self.step_ms));
    }

    /// Learns how long steps are from the time between two readings.
    fn pace(&mut self, now: Time, step: Option<u64>) {
        let (Some(before), Some(step)) = (self.step, step) else { return };
        let each = now.since(self.got_on_at).0 / (step - before);
        self.step_ms = Some(match self.step_ms {
            None => each.min(FIRST_STEP_MAX.0),
            Some(old) => (old * 3 + each.min(old.max(1) * PAUSE)) / 4,
        });
    }

    /// What there is to see of the silence, if it was not told before.
    fn look(&mut self, now: Time, counts: impl Fn(Rank, Epoch) -> bool) -> Option<Stall> {
        let stall = self.stall(counts, None)?;
        if self.said.as_ref() == Some(&stall) {
            return None;
        }
        self.said = Some(stall.clone());
        self.said_at = now;
        self.told += 1;
        Some(stall)
    }

    /// The ranks of a replica, as far as any is known.
    fn ranks_of(&self, attempt: &Attempt, replica: usize) -> Range<usize> {
        let each = usize::from(attempt.ranks_per_node);
        let members = attempt.members_of(replica);
        members.start * each..(members.end * each).min(self.ranks.len())
    }

    fn said_by(&self, attempt: &Attempt, replica: usize) -> Said {
        let own = self.ranks_of(attempt, replica).map(|it| (Rank(it as u32), &self.ranks[it]));
        let heard = own.filter(|(rank, seen)| trains(attempt, *rank, seen.epoch));
        let said = heard.map(|(_, seen)| match seen.step {
            Some(_) => Said::StepAt(seen.step_at),
            None => Said::NoStep,
        });
        said.fold(Said::Nothing, |all, it| match (all, it) {
            (Said::StepAt(all), Said::StepAt(it)) => Said::StepAt(all.max(it)),
            (Said::StepAt(_), _) => all,
            _ => it,
        })
    }

    /// What there is to see of one replica that has told no new step since then, if the others are ahead
    /// of it and it was not told of lately.
    fn replica_stands(
        &mut self,
        now: Time,
        attempt: &Attempt,
        replica: usize,
        since: Time,
        again_after: Millis,
    ) -> Option<Stall> {
        if self.got_on_at <= since {
            return None;
        }
        let ranks = self.ranks_of(attempt, replica);
        let is_of_it = |rank: Rank| ranks.contains(&(rank.0 as usize));
        let said = self.said_replicas.get(&replica);
        if said.is_some_and(|&(before, again_at)| before == since && now < again_at) {
            return None;
        }
        let counts = |rank: Rank, epoch| is_of_it(rank) && trains(attempt, rank, epoch);
        let stall = Stall { since, ..self.stall(counts, Some(0))? };
        if self.step <= Some(stall.step) {
            return None;
        }
        self.said_replicas.insert(replica, (since, now + again_after));
        Some(stall)
    }

    /// `before`: the step where none of them has told one.
    fn stall(&self, counts: impl Fn(Rank, Epoch) -> bool, before: Option<u64>) -> Option<Stall> {
        let ranks = self.ranks.iter().enumerate().map(|(index, seen)| (Rank(index as u32), seen));
        let here: Vec<(Rank, &RankSeen)> =
            ranks.filter(|(rank, seen)| counts(*rank, seen.epoch)).collect();
        // The highest of those that are here: who was ahead may be gone.
        let step = here.iter().filter_map(|(_, seen)| seen.step).max().or(before)?;
        let told = here.iter().filter(|(_, seen)| seen.step.is_some()).count();
        let at_step = here.iter().filter(|(_, seen)| seen.step == Some(step)).count();
        let most = most(here.iter().filter_map(|(_, seen)| seen.activity));
        let is_behind = |seen: &RankSeen| seen.step.is_some_and(|own| own < step);
        let is_odd = |seen: &RankSeen| seen.activity.is_some() && seen.activity != most;
        let mut apart: Vec<Apart> = here
            .iter()
            .filter(|(_, seen)| is_behind(seen) || is_odd(seen))
            .map(|(rank, seen)| Apart { rank: *rank, step: seen.step, activity: seen.activity })
            .collect();
        apart
            .sort_by_key(|apart| (apart.step.unwrap_or(step), Reverse(apart.activity), apart.rank));
        apart.truncate(Stall::APART_MAX);
        let since = self.got_on_at;
        Some(Stall { since, step, told: told as u32, at_step: at_step as u32, most, apart })
    }

    /// Where the ranks stand, as far as they have said, if it was not told before.
    fn stacks(&mut self, counts: impl Fn(Rank, Epoch) -> bool) -> Option<Stacks> {
        let ranks = self.ranks.iter().enumerate().map(|(index, seen)| (Rank(index as u32), seen));
        let here: Vec<(Rank, &RankSeen)> =
            ranks.filter(|(rank, seen)| counts(*rank, seen.epoch)).collect();
        let step = here.iter().filter_map(|(_, seen)| seen.step).max()?;
        let known: Vec<(Rank, StackPlace)> =
            here.iter().filter_map(|(rank, seen)| Some((*rank, seen.place?))).collect();
        let is_in = |place: StackPlace| place == StackPlace::Collective;
        let in_collective = known.iter().filter(|(_, place)| is_in(*place)).count() as u32;
        let outside = known.iter().filter(|(_, place)| !is_in(*place)).copied();
        let outside = outside.take(Stall::APART_MAX).collect();
        let stacks = Stacks { step, known: known.len() as u32, in_collective, outside };
        if known.is_empty() || self.said_stacks.as_ref() == Some(&stacks) {
            return None;
        }
        self.said_stacks = Some(stacks.clone());
        Some(stacks)
    }

    /// The first step of a loss that has been broken for long enough, once an attempt.
    fn broken_from(&self, reading: &RankReading) -> Option<u64> {
        let (from, step) = (reading.loss_broken_from?, reading.step?);
        let is_long = step.checked_sub(from)? + 1 >= BROKEN_STEPS;
        (is_long && !self.has_said_broken).then_some(from)
    }
}

/// What most do; of as many, what is worse.
fn most(activities: impl Iterator<Item = Activity>) -> Option<Activity> {
    let mut counts: BTreeMap<Activity, u32> = BTreeMap::new();
    for activity in activities {
        *counts.entry(activity).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(activity, count)| (count, activity)).map(|(it, _)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(1);
    const EPOCH: Epoch = Epoch(1);

    fn at(step: u64) -> RankReading {
        RankReading { step: Some(step), ..RankReading::default() }
    }

    fn does(step: impl Into<Option<u64>>, activity: Activity) -> RankReading {
        RankReading { step: step.into(), activity: Some(activity), ..RankReading::default() }
    }

    fn read(watch: &mut StallWatch, ms: u64, rank: u32, reading: RankReading) -> Option<Event> {
        watch.on_reading(Time(ms), JOB, EPOCH, EPOCH, Rank(rank), &reading)
    }

    fn look(watch: &mut StallWatch, ms: u64) -> Option<Stall> {
        let job = watch.jobs.get_mut(&JOB).unwrap();
        if job.look_at.is_none_or(|at| at > Time(ms)) {
            return None;
        }
        job.look_at = None;
        job.look(Time(ms), |_, _| true)
    }

    #[test]
    fn a_silence_is_told_once_after_five_seconds_or_three_steps() {
        let mut watch = StallWatch::default();
        for step in 0..10 {
            read(&mut watch, step * 100, 0, at(step));
        }
        assert_eq!(watch.next_deadline(), Some(Time(900 + 5000)));
        let stall = look(&mut watch, 5900).unwrap();
        assert_eq!((stall.since, stall.step, stall.told, stall.at_step), (Time(900), 9, 1, 1));
        assert_eq!((stall.most, stall.apart), (None, Vec::new()));
        assert_eq!(watch.next_deadline(), None);
        read(&mut watch, 9000, 0, at(9));
        assert_eq!(watch.next_deadline(), None, "nothing new");

        let mut slow = StallWatch::default();
        for step in 0..10 {
            read(&mut slow, step * 4000, 0, at(step));
        }
        assert_eq!(slow.next_deadline(), Some(Time(36_000 + 12_000)));
        // A pause of a minute does not make it patient for long.
        read(&mut slow, 100_000, 0, at(10));
        assert_eq!(slow.jobs[&JOB].step_ms, Some(7000));
    }

    #[test]
    fn who_is_behind_and_who_does_something_else_stand_apart() {
        let mut watch = StallWatch::default();
        for rank in 0..6 {
            read(&mut watch, 0, rank, at(7));
        }
        read(&mut watch, 100, 2, does(5, Activity::Busy));
        read(&mut watch, 100, 3, does(7, Activity::Stopped));
        for rank in [0, 1, 4] {
            read(&mut watch, 100, rank, does(7, Activity::Idle));
        }
        read(&mut watch, 100, 6, does(None, Activity::Blocked));
        let stall = look(&mut watch, 5000).unwrap();
        assert_eq!((stall.step, stall.told, stall.at_step), (7, 6, 5));
        assert_eq!(stall.most, Some(Activity::Idle));
        let apart: Vec<(u32, Option<u64>)> =
            stall.apart.iter().map(|a| (a.rank.0, a.step)).collect();
        assert_eq!(apart, [(2, Some(5)), (3, Some(7)), (6, None)]);
    }

    #[test]
    fn a_silence_that_shows_something_else_is_told_again_and_not_for_ever() {
        let mut watch = StallWatch::default();
        read(&mut watch, 0, 0, at(0));
        read(&mut watch, 100, 0, at(1));
        let mut said = Vec::new();
        for ms in (0..200_000).step_by(500) {
            let activity = if ms % 1000 == 0 { Activity::Busy } else { Activity::Idle };
            read(&mut watch, ms, 1, does(None, activity));
            said.extend(look(&mut watch, ms).map(|_| ms));
        }
        assert!(said.len() as u32 <= TOLD_MAX && said.len() > 1, "{said:?}");
        assert!(said.windows(2).all(|pair| pair[1] - pair[0] >= 5000), "{said:?}");
        read(&mut watch, 300_000, 0, at(2));
        assert!(look(&mut watch, 305_000).is_some(), "another silence");
    }

    #[test]
    fn a_checkpoint_is_a_sign_of_life_and_a_start_without_a_step_is_no_silence() {
        let mut watch = StallWatch::default();
        read(&mut watch, 0, 0, does(None, Activity::Busy));
        assert_eq!(watch.next_deadline(), None);
        read(&mut watch, 1000, 0, at(1));
        read(&mut watch, 4000, 0, RankReading { checkpoint_step: Some(1), ..at(1) });
        assert_eq!(watch.next_deadline(), Some(Time(9000)));
    }

    #[test]
    fn only_ranks_that_are_there_count() {
        let mut watch = StallWatch::default();
        read(&mut watch, 0, 0, at(9));
        read(&mut watch, 0, 1, at(3));
        let here = |rank: Rank, _| rank == Rank(0);
        let stall = watch.jobs[&JOB].stall(here, None).unwrap();
        assert_eq!((stall.told, stall.at_step, stall.apart.len()), (1, 1, 0));
        assert_eq!(watch.jobs[&JOB].stall(|_, _| false, None), None);
        // A replica that is launched anew has told nothing, and what is late of the old is dropped.
        let later = Epoch(2);
        watch.on_reading(Time(1), JOB, EPOCH, later, Rank(1), &RankReading::default());
        watch.on_reading(Time(2), JOB, EPOCH, EPOCH, Rank(1), &at(4));
        assert_eq!(watch.jobs[&JOB].stall(|_, _| true, None).unwrap().told, 1);
    }

    #[test]
    fn where_ranks_stand_is_told_as_far_as_they_say_and_once_a_silence() {
        let mut watch = StallWatch::default();
        let stands = |place| RankReading { place: Some(place), ..at(7) };
        for rank in 0..4 {
            read(&mut watch, 0, rank, at(7));
        }
        let seen = |watch: &mut StallWatch| {
            let job = watch.jobs.get_mut(&JOB).unwrap();
            job.stacks(|_, _| true).map(|it| (it.known, it.in_collective, it.outside))
        };
        assert_eq!(seen(&mut watch), None, "nobody says");
        for rank in [0, 1] {
            read(&mut watch, 10, rank, stands(StackPlace::Collective));
        }
        read(&mut watch, 10, 3, stands(StackPlace::Data));
        let outside = vec![(Rank(3), StackPlace::Data)];
        assert_eq!(seen(&mut watch), Some((3, 2, outside)));
        assert_eq!(seen(&mut watch), None, "it was told");
        read(&mut watch, 20, 0, at(8));
        read(&mut watch, 20, 0, RankReading { place: Some(StackPlace::Storage), ..at(8) });
        assert!(seen(&mut watch).is_some(), "another silence");
    }

    #[test]
    fn a_loss_that_stays_broken_is_told_once_an_attempt() {
        let mut watch = StallWatch::default();
        let broken = |step, from| RankReading { loss_broken_from: Some(from), ..at(step) };
        assert_eq!(read(&mut watch, 0, 3, broken(8, 0)), None);
        let event = read(&mut watch, 1, 3, broken(9, 0));
        let expected = Event::LossBroken { job: JOB, epoch: EPOCH, rank: Rank(3), step: 0 };
        assert_eq!(event, Some(expected));
        assert_eq!(read(&mut watch, 2, 3, broken(10, 0)), None);
        assert_eq!(read(&mut watch, 2, 4, broken(3, 9)), None, "steps that began anew");
        let again = watch.on_reading(Time(9), JOB, Epoch(2), Epoch(2), Rank(0), &broken(30, 5));
        assert!(matches!(again, Some(Event::LossBroken { step: 5, .. })));
    }
}
