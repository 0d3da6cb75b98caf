//! How the ranks spend their time while they make steps: who waits, and who is waited for.
//!
//! Once a second two small files are read of each process of a rank: the CPU time of all of them,
//! and of the one that uses most, how long its main thread ran, wanted a processor, or slept. What
//! is told is sums, every few seconds. No script is changed for it, and nothing is traced or stopped.

use super::activity::family;
use lindos_hardware::process::{self, ProcessId, Stat, ThreadTime};
use lindos_model::RankPace;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two looks. Whether a process is stopped is known only of this very moment.
const INTERVAL: Duration = Duration::from_secs(1);
/// The sums are told this often.
const TELL: u32 = 5;
/// New children are looked for this often: it is a pass over all processes of the machine.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// Processes of one rank that are looked at; more are the helpers of helpers.
const PROCESSES_MAX: usize = 64;
/// A process that uses this part of what the busiest does is no mere shell around it.
const WORKER_PART: u64 = 4;
/// Steps of which the first message is remembered.
const STEPS_MAX: usize = 64;

#[derive(Debug)]
pub struct Watch {
    next: Instant,
    looks: u32,
    listed_at: Option<Instant>,
    ranks: BTreeMap<u32, Watched>,
    arrivals: Arrivals,
}

#[derive(Debug)]
struct Watched {
    leader: ProcessId,
    /// The one that is looked at closely first.
    processes: Vec<ProcessId>,
    before: Option<Look>,
    sums: Sums,
    /// As it is told.
    told: Option<RankPace>,
}

#[derive(Clone, Debug)]
struct Look {
    at: Instant,
    cpu: BTreeMap<ProcessId, Duration>,
    worker: ProcessId,
    /// Of the worker's main thread.
    thread: ThreadTime,
}

/// As exact as they are read: told in milliseconds, they are not rounded again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    span: Duration,
    ran: Duration,
    delayed: Duration,
    held: Duration,
    slept: Duration,
    late: Duration,
}

/// When the first message of each of the last steps came.
#[derive(Debug, Default)]
struct Arrivals {
    first: BTreeMap<u64, Instant>,
}

impl Watch {
    pub fn new(now: Instant) -> Watch {
        Watch {
            next: now + INTERVAL,
            looks: 0,
            listed_at: None,
            ranks: BTreeMap::new(),
            arrivals: Arrivals::default(),
        }
    }

    /// When [`Watch::look`] is to be called.
    pub fn due(&self) -> Instant {
        self.next
    }

    pub fn pace(&self, process: ProcessId) -> Option<RankPace> {
        self.ranks.get(&process.pid)?.told
    }

    /// A rank has told a step.
    pub fn on_step(&mut self, now: Instant, process: ProcessId, step: u64) {
        let late = self.arrivals.late(now, step);
        if let Some(watched) = self.ranks.get_mut(&process.pid) {
            watched.sums.late += late;
        }
    }

    /// Looks at the processes of the ranks that live, if it is time. Returns whether there is
    /// something to tell. Ranks that tell no steps are looked at as well: those on other nodes may.
    pub fn look(&mut self, now: Instant, leaders: &[ProcessId]) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + INTERVAL;
        self.looks = self.looks.wrapping_add(1);
        self.ranks.retain(|_, watched| leaders.contains(&watched.leader));
        let is_old = |at: Instant| now.duration_since(at) >= LIST_INTERVAL;
        let is_new = leaders.iter().any(|leader| !self.ranks.contains_key(&leader.pid));
        if is_new || self.listed_at.is_none_or(is_old) {
            self.listed_at = Some(now);
            self.list(leaders);
        }
        let is_told = self.looks.is_multiple_of(TELL);
        for watched in self.ranks.values_mut() {
            watched.look(now);
            if is_told {
                watched.told = Some(watched.sums.told());
            }
        }
        is_told
    }

    /// Finds the processes of each rank.
    fn list(&mut self, leaders: &[ProcessId]) {
        let all = process::all();
        for leader in leaders {
            let watched = self.ranks.entry(leader.pid).or_insert_with(|| Watched {
                leader: *leader,
                processes: Vec::new(),
                before: None,
                sums: Sums::default(),
                told: None,
            });
            let mut processes = family(*leader, &all);
            processes.truncate(PROCESSES_MAX);
            let cpu = |id: &ProcessId| {
                all.iter().find(|stat| stat.id == *id).map_or(0, |stat| stat.cpu_ticks)
            };
            if let Some(worker) = worker(&processes, cpu) {
                processes.swap(0, worker);
            }
            watched.processes = processes;
        }
    }
}

/// Which of the processes does the rank's own work: the first that was started of those that use a
/// good part of the CPU time. What it starts may use more, to feed it; a shell around it uses none.
fn worker(processes: &[ProcessId], cpu: impl Fn(&ProcessId) -> u64) -> Option<usize> {
    let most = processes.iter().map(&cpu).max()?;
    let works = processes.iter().enumerate().filter(|(_, id)| cpu(id) * WORKER_PART >= most);
    works.min_by_key(|(_, id)| (id.start_time, id.pid)).map(|(index, _)| index)
}

impl Watched {
    fn look(&mut self, now: Instant) {
        let alive = |id: &ProcessId| process::stat(id.pid).filter(|stat| stat.id == *id);
        let stats: Vec<Stat> = self.processes.iter().filter_map(alive).collect();
        let Some(worker) = stats.first().filter(|stat| stat.is_alive()) else {
            self.before = None;
            return;
        };
        let Some(thread) = process::main_thread_time(worker.id.pid) else {
            self.before = None;
            return;
        };
        let cpu = stats.iter().map(|stat| (stat.id, stat.cpu_time())).collect();
        let look = Look { at: now, cpu, worker: worker.id, thread };
        if let Some(before) = self.before.as_ref().filter(|old| old.worker == look.worker) {
            self.sums.add(before, &look, matches!(worker.state, 'T' | 't' | 'D'));
        }
        self.before = Some(look);
    }
}

impl Sums {
    /// `is_held`: at the end the worker is stopped, or waits and cannot be interrupted.
    fn add(&mut self, old: &Look, new: &Look, is_held: bool) {
        let span = new.at.duration_since(old.at);
        let thread_ran = new.thread.ran.saturating_sub(old.thread.ran).min(span);
        let awake = span.saturating_sub(thread_ran);
        let delayed = new.thread.delayed.saturating_sub(old.thread.delayed).min(awake);
        let rest = awake.saturating_sub(delayed);
        self.span += span;
        self.delayed += delayed;
        if is_held {
            self.held += rest;
        } else {
            self.slept += rest;
        }
        for (id, cpu) in &new.cpu {
            if let Some(before) = old.cpu.get(id) {
                self.ran += cpu.saturating_sub(*before);
            }
        }
    }

    fn told(&self) -> RankPace {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        RankPace {
            span_ms: ms(self.span),
            ran_ms: ms(self.ran),
            delayed_ms: ms(self.delayed),
            held_ms: ms(self.held),
            slept_ms: ms(self.slept),
            late_us: u64::try_from(self.late.as_micros()).unwrap_or(u64::MAX),
            waited: None,
        }
    }
}

impl Arrivals {
    /// By how much this message of a step comes later than the first of it.
    fn late(&mut self, now: Instant, step: u64) -> Duration {
        if let Some(first) = self.first.get(&step) {
            return now.duration_since(*first);
        }
        // A step that is older than all that are remembered: it began anew, or is very late.
        if self.first.len() >= STEPS_MAX
            && self.first.first_key_value().is_some_and(|(oldest, _)| step < *oldest)
        {
            self.first.clear();
        }
        self.first.insert(step, now);
        if self.first.len() > STEPS_MAX {
            self.first.pop_first();
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn look(at: Instant, cpu_ms: &[u64], ran_ms: u64, delayed_ms: u64) -> Look {
        let id = |index: usize| ProcessId { pid: index as u32 + 10, start_time: 1 };
        let ms = Duration::from_millis;
        Look {
            at,
            cpu: cpu_ms.iter().enumerate().map(|(index, cpu)| (id(index), ms(*cpu))).collect(),
            worker: id(0),
            thread: ThreadTime { ran: ms(ran_ms), delayed: ms(delayed_ms) },
        }
    }

    #[test]
    fn the_time_of_a_rank_is_split_without_a_rest() {
        let began = Instant::now();
        let second = began + Duration::from_secs(1);
        let mut sums = Sums::default();
        sums.add(&look(began, &[0, 50], 0, 0), &look(second, &[300, 450], 300, 100), false);
        let expected = RankPace {
            span_ms: 1000,
            ran_ms: 700,
            delayed_ms: 100,
            held_ms: 0,
            slept_ms: 600,
            late_us: 0,
            waited: None,
        };
        assert_eq!(sums.told(), expected);
        let third = second + Duration::from_secs(1);
        sums.add(&look(second, &[300], 300, 100), &look(third, &[400, 9000], 400, 100), true);
        // A child that was not there before has done nothing that we know of.
        assert_eq!(sums.told(), RankPace { span_ms: 2000, ran_ms: 800, held_ms: 900, ..expected });
        // Counters that were read a little later than the clock do not make more of the time.
        let mut odd = Sums::default();
        odd.add(&look(began, &[0], 0, 0), &look(second, &[1100], 1100, 500), false);
        assert_eq!((odd.delayed, odd.slept), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn messages_are_late_by_the_first_of_their_step() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let mut arrivals = Arrivals::default();
        let late = |arrivals: &mut Arrivals, ms, step| arrivals.late(at(ms), step).as_millis();
        assert_eq!(late(&mut arrivals, 0, 1), 0);
        assert_eq!(late(&mut arrivals, 7, 1), 7);
        assert_eq!(late(&mut arrivals, 10, 2), 0);
        assert_eq!(late(&mut arrivals, 11, 1), 11);
        for step in 3..200 {
            late(&mut arrivals, step * 10, step);
        }
        assert!(arrivals.first.len() <= STEPS_MAX);
        assert_eq!(late(&mut arrivals, 3000, 5), 0, "its steps began anew");
        assert_eq!(late(&mut arrivals, 3003, 5), 3);
    }

    #[test]
    fn the_rank_itself_is_looked_at_and_neither_its_shell_nor_who_feeds_it() {
        let id = |pid, start_time| ProcessId { pid, start_time };
        let processes = [id(9, 40), id(5, 10), id(7, 20), id(8, 30)];
        // A shell, the rank, and two that load its data.
        let cpu = |id: &ProcessId| [1, 300, 800, 900][(id.start_time / 10 - 1) as usize];
        assert_eq!(worker(&processes, cpu), Some(2));
        assert_eq!(worker(&processes, |_| 0), Some(1));
        assert_eq!(worker(&[], cpu), None);
    }

    fn shell(script: &str) -> Child {
        Command::new("/bin/sh").args(["-c", script]).spawn().unwrap()
    }

    #[test]
    fn a_rank_behind_a_shell_that_works_and_one_that_sleeps_differ() {
        let mut children =
            [shell("(while :; do :; done) & wait"), shell("sleep 100 & wait"), shell("sleep 100")];
        let leaders: Vec<ProcessId> =
            children.iter().map(|child| ProcessId::of(child.id()).unwrap()).collect();
        // Children are found at once, and the one that works is known by what it has used.
        let bound = Instant::now() + Duration::from_secs(30);
        let worker = |of: u32| process::descendants(of).iter().any(|stat| stat.cpu_ticks > 5);
        while !worker(leaders[0].pid) || process::descendants(leaders[1].pid).is_empty() {
            assert!(Instant::now() < bound);
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut watch = Watch::new(Instant::now());
        let mut told = 0;
        while told < 1 {
            std::thread::sleep(watch.due().saturating_duration_since(Instant::now()));
            told += u32::from(watch.look(Instant::now(), &leaders));
        }
        let paces: Vec<RankPace> = leaders.iter().map(|it| watch.pace(*it).unwrap()).collect();
        for child in &mut children {
            for stat in process::descendants(child.id()) {
                process::kill_verified(stat.id).unwrap();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let [works, sleeps, alone] = paces[..] else { unreachable!() };
        for pace in [works, sleeps, alone] {
            assert!((3500..8000).contains(&pace.span_ms), "{pace:?}");
        }
        // It may have to share its processor with other tests: then it waits for one.
        let busy = works.span_ms - works.slept_ms - works.held_ms;
        assert!(busy * 10 >= works.span_ms * 9, "{works:?}");
        for idle in [sleeps, alone] {
            assert!(idle.slept_ms * 10 >= idle.span_ms * 9 && idle.ran_ms < 500, "{idle:?}");
        }
    }
}
