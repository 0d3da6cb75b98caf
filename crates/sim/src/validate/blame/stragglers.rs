//! Days of jobs in which now and then a node is slow, through the reducer that both drivers use
//! ([`StragglerWatch`]): is it named, and is anybody named who is not slow?
//!
//! Shims tell every five seconds how each rank has spent its time. What is ordinary is in it: ranks
//! wait for each other at every step, some always a little less than others; the first has more to do
//! beside; nodes are busy with something else for some seconds; the job evaluates, saves, waits for its
//! data, and starts slowly. In one job of five, ranks spin while they wait, which looks like work; half of
//! these tell themselves how long their collectives take.

use super::stage::Stage;
use crate::random::{Stream, scatter};
use lindos_core::Event;
use lindos_core::edges::{RankReading, StragglerWatch};
use lindos_model::{Epoch, JobId, Millis, NodeId, Rank, RankPace, Time, Waited};

/// Shims tell so often.
const TOLD_EVERY: u64 = 5_000;
const DAY: Millis = Millis::from_secs(86_400);
/// A slow node may be told of so long after it is as before: a window is cut where it was slow still.
const AFTER: Millis = Millis::from_secs(120);
/// By how much a step takes longer on a slow node, in percent.
pub const FACTORS: [u64; 5] = [110, 120, 135, 160, 200];
/// Ranks that spin cannot be told from ranks that work.
const SPINNING_PPM: u32 = 200_000;
const TELLING_PPM: u32 = 500_000;
/// How long collectives take is told so often, with the next step, each rank at its own time: so long does
/// PyTorch's flight recorder rest.
const WAITS_TOLD_EVERY: [u64; 2] = [10_000, 20_000];

/// What became of slow nodes of one kind.
#[derive(Clone, Debug, Default)]
pub struct Slowed {
    pub nodes: u64,
    /// How long after it began each was named that was, in milliseconds.
    pub named_after: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Days {
    pub played: u64,
    /// By how slow they were, in jobs whose ranks sleep while they wait …
    pub slowed: [Slowed; FACTORS.len()],
    /// … in those whose ranks spin, …
    pub spinning: Slowed,
    /// … and in those whose ranks spin and tell how long they wait.
    pub telling: Slowed,
    /// Somebody was named who was not slow.
    pub alarms: u64,
}

impl Slowed {
    pub fn add(&mut self, other: &Slowed) {
        self.nodes += other.nodes;
        self.named_after.extend(&other.named_after);
    }

    pub fn named(&self) -> u64 {
        self.named_after.len() as u64
    }

    pub fn median_ms(&self) -> Option<u64> {
        let mut spans = self.named_after.clone();
        spans.sort_unstable();
        spans.get(spans.len() / 2).copied()
    }
}

impl Days {
    pub fn add(&mut self, other: &Days) {
        self.played += other.played;
        for (mine, its) in self.slowed.iter_mut().zip(&other.slowed) {
            mine.add(its);
        }
        self.spinning.add(&other.spinning);
        self.telling.add(&other.telling);
        self.alarms += other.alarms;
    }
}

/// What a job is like. Parts are thousandths of the time.
struct Habits {
    step_ms: u64,
    /// What the slowest waits too, while messages are on their way …
    travels: u64,
    /// … and what others wait besides, because none is always the slowest.
    waits: u64,
    /// By how much that differs from report to report.
    jitter: u64,
    waiting: Waiting,
    /// Whether all ranks tell their steps, or the first alone.
    all_tell: bool,
    evaluates_every: u64,
    evaluates_for: u64,
    /// One rank evaluates, and the others wait for it.
    one_evaluates: bool,
    saves_every: u64,
    saves_for: u64,
}

/// What ranks do while they wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Sleep,
    Spin,
    SpinAndTell,
}

impl Waiting {
    fn draw(random: &mut Stream, telling: &mut Stream) -> Waiting {
        match (random.chance(SPINNING_PPM), telling.chance(TELLING_PPM)) {
            (false, _) => Waiting::Sleep,
            (true, false) => Waiting::Spin,
            (true, true) => Waiting::SpinAndTell,
        }
    }
}

impl Habits {
    fn draw(random: &mut Stream, telling: &mut Stream) -> Habits {
        Habits {
            step_ms: random.between(300, 30_000),
            travels: random.between(10, 150),
            waits: random.between(20, 250),
            jitter: random.between(10, 80),
            waiting: Waiting::draw(random, telling),
            all_tell: random.chance(500_000),
            evaluates_every: random.between(1_800_000, 14_400_000),
            evaluates_for: random.between(10_000, 240_000),
            one_evaluates: random.chance(300_000),
            saves_every: random.between(300_000, 3_600_000),
            saves_for: random.between(200, 60_000),
        }
    }
}

/// What all ranks do for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starts,
    Trains,
    Evaluates,
    /// Who writes, writes to a disk: all, or the first for all others.
    Saves {
        all: bool,
    },
    /// The data is late: everybody waits.
    Starves,
}

/// A node that is slow for a while.
#[derive(Clone, Copy, Debug)]
struct Slow {
    node: usize,
    /// Of [`FACTORS`].
    kind: usize,
    from: Time,
    until: Time,
    is_named: bool,
}

struct Play {
    habits: Habits,
    random: Stream,
    now: Time,
    phase: Phase,
    phase_until: Time,
    evaluates_at: Time,
    saves_at: Time,
    /// Thousandths of a step, summed.
    done: u64,
    saved: u64,
    nodes: usize,
    per_node: usize,
    paces: Vec<RankPace>,
    /// What each rank has waited in collectives, in microseconds, and thousandths of its time that it does now.
    waited_us: Vec<u64>,
    waits_now: Vec<u64>,
    /// When each rank tells it next.
    tells_at: Vec<Time>,
    waits_told_every: Millis,
    /// By how much a rank always waits less than others, in thousandths.
    bias: Vec<u64>,
    slow: Option<Slow>,
    next_slow_at: Time,
    /// A node does something else until then.
    hiccup: Option<(usize, Time)>,
}

/// One day of one job.
pub fn day(seed: u64) -> Days {
    let mut random = Stream::new(seed, "stragglers");
    let nodes = *random.pick(&[4_u32, 8, 16, 32]);
    let mut stage = Stage::with_gpus(nodes, *random.pick(&[1, 2, 4]));
    stage.trains_to(0, Millis(1));
    let mut telling = Stream::new(seed, "stragglers that tell");
    let habits = Habits::draw(&mut random, &mut telling);
    let mut play = Play::new(&stage, habits, random, &mut telling);
    let begun = play.now;
    let (job, epoch) = (stage.job, stage.epoch());
    let gang = stage.gang();
    let mut watch = StragglerWatch::default();
    let mut days = Days { played: 1, ..Days::default() };
    while play.now.since(begun) < DAY {
        play.draws_what_comes(&mut days);
        play.spends(TOLD_EVERY);
        play.tells(&mut watch, job, epoch);
        for event in watch.due(play.now, &stage.core) {
            if let Event::StragglerSeen { straggler, .. } = event {
                let named = stage.attempt().and_then(|it| it.node_of_rank(straggler.rank));
                play.is_named(named, &gang, &mut days);
            }
        }
    }
    play.counts(&mut days);
    days
}

impl Play {
    fn new(stage: &Stage, habits: Habits, mut random: Stream, telling: &mut Stream) -> Play {
        let [least, most] = WAITS_TOLD_EVERY;
        let waits_told_every = Millis(telling.between(least, most));
        let now = stage.now;
        let ranks = stage.attempt().expect("it is launched").world_size() as usize;
        let nodes = stage.gang().len();
        let starts = Millis::from_secs(random.between(20, 500));
        let mut bias: Vec<u64> = (0..ranks).map(|_| random.between(0, 30)).collect();
        // It writes the log.
        bias[0] += random.between(0, 50);
        let evaluates_at = now + Millis(habits.evaluates_every);
        let saves_at = now + Millis(habits.saves_every);
        let next_slow_at = now + Millis(random.between(1_800_000, 36_000_000));
        Play {
            habits,
            random,
            now,
            phase: Phase::Starts,
            phase_until: now + starts,
            evaluates_at,
            saves_at,
            done: 0,
            saved: 0,
            nodes,
            per_node: ranks / nodes,
            paces: vec![RankPace::default(); ranks],
            waited_us: vec![0; ranks],
            waits_now: vec![0; ranks],
            tells_at: (0..ranks as u64).map(|rank| now + Millis(scatter(rank) % 20_000)).collect(),
            waits_told_every,
            bias,
            slow: None,
            next_slow_at,
            hiccup: None,
        }
    }

    /// Slow nodes and hiccups of the next five seconds.
    fn draws_what_comes(&mut self, days: &mut Days) {
        if self.slow.is_some_and(|slow| slow.until + AFTER <= self.now) {
            self.counts(days);
            self.next_slow_at = self.now + Millis(self.random.between(3_600_000, 36_000_000));
        }
        if self.slow.is_none() && self.now >= self.next_slow_at {
            let lasts = Millis(self.random.between(300_000, 3_600_000));
            self.slow = Some(Slow {
                node: self.random.between(0, self.nodes as u64 - 1) as usize,
                kind: self.random.between(0, FACTORS.len() as u64 - 1) as usize,
                from: self.now,
                until: self.now + lasts,
                is_named: false,
            });
        }
        if self.hiccup.is_some_and(|(_, until)| until <= self.now) {
            self.hiccup = None;
        }
        // Some thirty a day: a scan, a collector of logs, a rotation.
        if self.hiccup.is_none() && self.random.chance(1_800) {
            let node = self.random.between(0, self.nodes as u64 - 1) as usize;
            let lasts = Millis(self.random.between(5_000, 30_000));
            self.hiccup = Some((node, self.now + lasts));
        }
    }

    /// The slow node of this moment, and by how much.
    fn slow_now(&self) -> Option<(usize, u64)> {
        let slow = self.slow.filter(|slow| self.now < slow.until)?;
        Some((slow.node, FACTORS[slow.kind]))
    }

    /// So many milliseconds pass, in the phases that they are.
    fn spends(&mut self, span: u64) {
        let end = self.now + Millis(span);
        while self.now < end {
            let until = match self.phase {
                Phase::Trains => end.min(self.saves_at).min(self.evaluates_at),
                _ => end.min(self.phase_until),
            };
            let part = until.since(self.now).0;
            if part > 0 {
                self.spends_alike(part);
            }
            self.now = self.now.max(until);
            self.turns();
        }
    }

    /// The next phase, if this one is over.
    fn turns(&mut self) {
        let now = self.now;
        let next = match self.phase {
            Phase::Trains if now >= self.saves_at => {
                let all = self.random.chance(500_000);
                Some((Phase::Saves { all }, self.habits.saves_for))
            }
            Phase::Trains if now >= self.evaluates_at => {
                Some((Phase::Evaluates, self.habits.evaluates_for))
            }
            // Data is late some ten times a day.
            Phase::Trains if self.random.chance(600) => {
                Some((Phase::Starves, self.random.between(2_000, 60_000)))
            }
            Phase::Trains => None,
            phase if now >= self.phase_until => {
                match phase {
                    Phase::Saves { .. } => {
                        self.saves_at = now + Millis(self.habits.saves_every);
                        self.saved = self.done / 1000;
                    }
                    Phase::Evaluates => {
                        self.evaluates_at = now + Millis(self.habits.evaluates_every);
                    }
                    _ => {}
                }
                Some((Phase::Trains, 0))
            }
            _ => None,
        };
        if let Some((phase, span)) = next {
            (self.phase, self.phase_until) = (phase, now + Millis(span));
        }
    }

    /// A step as it is now, in thousandths of an ordinary one.
    fn longest(&self) -> u64 {
        let habits = &self.habits;
        let works = 1000 - habits.travels - habits.waits;
        let longest =
            |(_, percent): (usize, u64)| (works * percent / 100 + habits.travels).max(1000);
        self.slow_now().map_or(1000, longest)
    }

    fn spends_alike(&mut self, part: u64) {
        let slow = self.slow_now();
        let habits = &self.habits;
        let works = 1000 - habits.travels - habits.waits;
        let longest = self.longest();
        let hiccup = self.hiccup.map(|(node, _)| node);
        for rank in 0..self.paces.len() {
            let node = rank / self.per_node;
            // Some of it changes from report to report, some lasts a minute.
            let [now, minute] = [self.now.0, self.now.0 / 60_000]
                .map(|at| scatter(rank as u64 ^ at << 8) % (habits.jitter / 2 + 1));
            let noise = now + minute;
            let is_slow = slow.is_some_and(|(slow, _)| slow == node);
            let (mut waits, mut held) = match self.phase {
                Phase::Trains => {
                    let own =
                        if is_slow { works * slow.map_or(100, |it| it.1) / 100 } else { works };
                    // Of its own step; the noise is of all that it does.
                    let left = longest.saturating_sub(own) * 1000 / longest;
                    let left = (left + habits.jitter / 2).saturating_sub(noise + self.bias[rank]);
                    (left.min(1000), 0)
                }
                Phase::Starves => (1000, 0),
                Phase::Starts => (if rank % 7 == 0 { 0 } else { 900 }, 0),
                Phase::Evaluates if habits.one_evaluates => (if rank == 0 { 0 } else { 1000 }, 0),
                Phase::Evaluates => (noise, 0),
                Phase::Saves { all: true } => (0, 1000),
                Phase::Saves { all: false } => {
                    if rank == 0 {
                        (0, 1000)
                    } else {
                        (1000, 0)
                    }
                }
            };
            let mut delayed = 0;
            if hiccup == Some(node) {
                delayed = waits * 8 / 10;
                waits -= delayed;
            }
            // Of late data, no collective knows.
            let in_collectives = match self.phase {
                Phase::Trains => waits + habits.travels * 1000 / longest,
                Phase::Starves => 0,
                _ => waits,
            };
            self.waits_now[rank] = in_collectives;
            self.waited_us[rank] += part * in_collectives;
            if habits.waiting != Waiting::Sleep {
                waits = 0;
            }
            held = held.min(1000 - waits - delayed);
            let pace = &mut self.paces[rank];
            pace.span_ms += part;
            pace.slept_ms += part * waits / 1000;
            pace.delayed_ms += part * delayed / 1000;
            pace.held_ms += part * held / 1000;
            // The first has threads that write the log.
            let beside = if rank == 0 { 200 } else { 0 };
            pace.ran_ms += part * (1000 - waits - delayed - held + beside) / 1000;
        }
        if self.phase == Phase::Trains {
            self.done += part * 1_000_000 / longest / self.habits.step_ms;
        }
    }

    fn tells(&mut self, watch: &mut StragglerWatch, job: JobId, epoch: Epoch) {
        let step = (self.phase != Phase::Starts || self.done > 0).then_some(self.done / 1000);
        if self.habits.waiting == Waiting::SpinAndTell
            && let Some(step) = step
        {
            self.tells_waits(step);
        }
        for (rank, pace) in self.paces.iter().enumerate() {
            let tells = rank == 0 || self.habits.all_tell;
            let reading = RankReading {
                step: step.filter(|_| tells),
                checkpoint_step: Some(self.saved),
                pace: Some(*pace),
                ..RankReading::default()
            };
            watch.on_reading(self.now, job, epoch, epoch, Rank(rank as u32), &reading);
        }
    }

    /// Up to the end of the last step.
    fn tells_waits(&mut self, step: u64) {
        let begun_ms = self.done % 1000 * self.longest() * self.habits.step_ms / 1_000_000;
        for (rank, pace) in self.paces.iter_mut().enumerate() {
            if self.now < self.tells_at[rank] {
                continue;
            }
            self.tells_at[rank] = self.now + self.waits_told_every;
            let us = self.waited_us[rank].saturating_sub(begun_ms * self.waits_now[rank]);
            pace.waited = Some(Waited { step, ms: us / 1000 });
        }
    }

    fn is_named(&mut self, named: Option<NodeId>, gang: &[NodeId], days: &mut Days) {
        let now = self.now;
        let slow = self.slow.as_mut().filter(|slow| named == Some(gang[slow.node]));
        let Some(slow) = slow else {
            days.alarms += 1;
            return;
        };
        if !slow.is_named {
            slow.is_named = true;
            days.of(self.habits.waiting, slow.kind).named_after.push(now.since(slow.from).0);
        }
    }

    /// A slow node is over.
    fn counts(&mut self, days: &mut Days) {
        if let Some(slow) = self.slow.take() {
            days.of(self.habits.waiting, slow.kind).nodes += 1;
        }
    }
}

impl Days {
    fn of(&mut self, waiting: Waiting, kind: usize) -> &mut Slowed {
        match waiting {
            Waiting::Sleep => &mut self.slowed[kind],
            Waiting::Spin => &mut self.spinning,
            Waiting::SpinAndTell => &mut self.telling,
        }
    }
}
