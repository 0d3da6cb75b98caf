//! What the ranks' processes do while no step is told: samples of CPU time, disk traffic and state
//! of each rank's processes, children and all.
//!
//! While a rank on the node gets on, nothing is read here ([`super::pace`] looks then). A program
//! that waits by spinning, as CUDA and NCCL do unless told otherwise, uses the CPU: whether it works
//! is asked of its GPUs, where NVML tells which those are. Where it does not, it counts as busy.

use lindos_hardware::nvml::{GpuUse, GpuWork, NvmlSource, UseWatch, work_of};
use lindos_hardware::process::{self, ProcessId, Stat};
use lindos_model::Activity;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Between looks at what was told.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Ranks that have told steps are looked at once they are silent for so long, and for two steps.
const QUIET: Duration = Duration::from_secs(2);
/// Of ranks that tell no steps, one look in so many is a sample.
const UNTOLD_EVERY: u32 = 2;
/// Steps are not taken to be longer than this before two of them have come.
const FIRST_STEP_MAX: Duration = Duration::from_secs(60);
/// New children are looked for this often: it is a pass over all processes of the machine.
const LIST_INTERVAL: Duration = Duration::from_secs(10);
/// What they do is the difference between the newest and the oldest of so many samples.
const SAMPLES: usize = 3;
/// Less CPU time than this part of the span is what idle helper threads use.
const BUSY_PART: u32 = 20;
/// Less disk traffic than this in a span is a log.
const BUSY_BYTES: u64 = 256 << 10;

/// One look at the processes of a rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sample {
    processes: BTreeMap<ProcessId, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    state: char,
    cpu: Duration,
    disk_bytes: u64,
}

#[derive(Debug)]
struct Watched {
    leader: ProcessId,
    processes: Vec<ProcessId>,
    samples: VecDeque<(Instant, Sample)>,
    activity: Option<Activity>,
    /// What its GPUs did at the last two looks, if both times the same.
    gpu: Option<GpuWork>,
    gpu_before: Option<GpuWork>,
}

#[derive(Debug)]
pub struct Watch {
    next: Instant,
    looks: u32,
    listed_at: Option<Instant>,
    /// The sum of all steps that ranks here have told, and when it changed last.
    steps: Option<u64>,
    moved_at: Instant,
    step_time: Duration,
    ranks: BTreeMap<u32, Watched>,
    gpus: Gpus,
}

/// The driver is first asked in the first silence: most ranks never come to one.
#[derive(Debug, Default)]
enum Gpus {
    #[default]
    NotAsked,
    Asked(UseWatch),
    None,
}

impl Watch {
    pub fn new(now: Instant) -> Watch {
        Watch {
            next: now + INTERVAL,
            looks: 0,
            listed_at: None,
            steps: None,
            moved_at: now,
            step_time: Duration::ZERO,
            ranks: BTreeMap::new(),
            gpus: Gpus::default(),
        }
    }

    /// When [`Watch::look`] is to be called.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Whether ranks here that tell steps have told none for too long.
    pub fn is_silent(&self) -> bool {
        self.steps.is_some() && !self.ranks.is_empty()
    }

    pub fn activity(&self, process: ProcessId) -> Option<Activity> {
        self.ranks.get(&process.pid)?.activity
    }

    /// Takes the processes of the ranks that live, and the steps that any have told. Returns
    /// whether what they do has changed.
    pub fn look(
        &mut self,
        now: Instant,
        leaders: &[ProcessId],
        told: impl Iterator<Item = u64>,
    ) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + INTERVAL;
        self.looks = self.looks.wrapping_add(1);
        let before: Vec<Option<Activity>> = self.ranks.values().map(|it| it.activity).collect();
        self.note_steps(now, told);
        let is_quiet = now.duration_since(self.moved_at) >= QUIET.max(self.step_time * 2);
        match self.steps {
            Some(_) if !is_quiet => self.ranks.clear(),
            None if !self.looks.is_multiple_of(UNTOLD_EVERY) => {}
            _ => self.sample(now, leaders),
        }
        before != self.ranks.values().map(|it| it.activity).collect::<Vec<_>>()
    }

    fn note_steps(&mut self, now: Instant, told: impl Iterator<Item = u64>) {
        let (mut sum, mut count) = (0u64, 0);
        for step in told {
            sum = sum.wrapping_add(step);
            count += 1;
        }
        let steps = (count > 0).then_some(sum);
        if steps == self.steps {
            return;
        }
        if let (Some(before), Some(steps)) = (self.steps, steps) {
            let done = u32::try_from(steps.saturating_sub(before) / count).unwrap_or(u32::MAX);
            let each = now.duration_since(self.moved_at) / done.max(1);
            // A pause is not a step.
            self.step_time = match self.step_time {
                Duration::ZERO => each.min(FIRST_STEP_MAX),
                before => (before * 3 + each.min(before * 4)) / 4,
            };
        }
        self.steps = steps;
        self.moved_at = now;
    }

    fn sample(&mut self, now: Instant, leaders: &[ProcessId]) {
        self.ranks.retain(|_, watched| leaders.contains(&watched.leader));
        let is_old = |at: Instant| now.duration_since(at) >= LIST_INTERVAL;
        let is_new = leaders.iter().any(|leader| !self.ranks.contains_key(&leader.pid));
        if is_new || self.listed_at.is_none_or(is_old) {
            self.listed_at = Some(now);
            self.list(leaders);
        }
        let uses = self.gpus.look();
        for watched in self.ranks.values_mut() {
            let sample = Sample::take(&watched.processes);
            if let Some(uses) = &uses {
                watched.note_gpus(uses);
            }
            watched.samples.push_back((now, sample));
            if watched.samples.len() > SAMPLES {
                watched.samples.pop_front();
            }
            if let (Some((then, old)), Some((_, new))) =
                (watched.samples.front(), watched.samples.back())
                && watched.samples.len() > 1
            {
                let seen = activity(old, new, now.duration_since(*then));
                // Who writes works, whatever its GPU waits for.
                let gpu = watched.gpu.filter(|_| disk_traffic(old, new) < BUSY_BYTES);
                watched.activity = Some(with_gpus(seen, gpu));
            }
        }
    }

    /// Finds the processes of each rank: what descends from it, and what is of its session.
    fn list(&mut self, leaders: &[ProcessId]) {
        let all = process::all();
        for leader in leaders {
            let watched = self.ranks.entry(leader.pid).or_insert_with(|| Watched {
                leader: *leader,
                processes: Vec::new(),
                samples: VecDeque::new(),
                activity: None,
                gpu: None,
                gpu_before: None,
            });
            watched.processes = family(*leader, &all);
        }
    }
}

impl Gpus {
    fn look(&mut self) -> Option<Vec<GpuUse>> {
        if matches!(self, Gpus::NotAsked) {
            let watch = UseWatch::start(NvmlSource::of_the_environment());
            *self = watch.map_or(Gpus::None, Gpus::Asked);
        }
        match self {
            Gpus::Asked(watch) => watch.look(),
            Gpus::NotAsked | Gpus::None => None,
        }
    }
}

impl Watched {
    fn note_gpus(&mut self, uses: &[GpuUse]) {
        let work = work_of(uses, |pid| self.processes.iter().any(|id| id.pid == pid));
        self.gpu = work.filter(|_| work == self.gpu_before);
        self.gpu_before = work;
    }
}

/// What a rank does, when its GPUs are known as well: one that only spins waits, whatever its CPU
/// does, and one whose GPU works is busy, though its processes sleep until that is done.
fn with_gpus(seen: Activity, gpus: Option<GpuWork>) -> Activity {
    match (seen, gpus) {
        (Activity::Busy, Some(GpuWork::Spins)) => Activity::Idle,
        (Activity::Idle, Some(GpuWork::Works)) => Activity::Busy,
        (seen, _) => seen,
    }
}

pub fn family(leader: ProcessId, all: &[Stat]) -> Vec<ProcessId> {
    let of_session = all.iter().filter(|stat| stat.session == leader.pid);
    let mut found: Vec<ProcessId> = of_session.map(|stat| stat.id).collect();
    if !found.contains(&leader) {
        found.push(leader);
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = all.iter().filter(|stat| stat.parent == parent.pid);
        let fresh: Vec<ProcessId> =
            children.map(|stat| stat.id).filter(|id| !found.contains(id)).collect();
        found.extend(fresh);
    }
    found
}

impl Sample {
    /// Those that have ended meanwhile are left out.
    fn take(processes: &[ProcessId]) -> Sample {
        let seen = |id: &ProcessId| {
            let stat = process::stat(id.pid).filter(|stat| stat.id == *id && stat.is_alive())?;
            let disk_bytes = process::disk_bytes(id.pid).unwrap_or(0);
            Some((*id, Seen { state: stat.state, cpu: stat.cpu_time(), disk_bytes }))
        };
        Sample { processes: processes.iter().filter_map(seen).collect() }
    }
}

/// Read and written between two samples, by those that are in both.
fn disk_traffic(old: &Sample, new: &Sample) -> u64 {
    let both = new.processes.iter().filter_map(|(id, seen)| Some((seen, old.processes.get(id)?)));
    both.map(|(seen, before)| seen.disk_bytes.saturating_sub(before.disk_bytes)).sum()
}

/// What was done between two samples, by those that are in both.
fn activity(old: &Sample, new: &Sample, span: Duration) -> Activity {
    let mut cpu = Duration::ZERO;
    let bytes = disk_traffic(old, new);
    let (mut is_stopped, mut is_blocked) = (false, false);
    for (id, seen) in &new.processes {
        let Some(before) = old.processes.get(id) else { continue };
        let used = seen.cpu.saturating_sub(before.cpu);
        cpu += used;
        let still = |state: char| seen.state == state && before.state == state && used.is_zero();
        is_stopped |= still('T');
        is_blocked |= still('D');
    }
    if is_stopped {
        Activity::Stopped
    } else if cpu * BUSY_PART >= span || bytes >= BUSY_BYTES {
        Activity::Busy
    } else if is_blocked {
        Activity::Blocked
    } else {
        Activity::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn seen(state: char, cpu_ms: u64, disk_bytes: u64) -> Seen {
        Seen { state, cpu: Duration::from_millis(cpu_ms), disk_bytes }
    }

    fn sample(seen: &[Seen]) -> Sample {
        let id = |index: usize| ProcessId { pid: index as u32 + 10, start_time: 1 };
        Sample { processes: seen.iter().enumerate().map(|(i, seen)| (id(i), *seen)).collect() }
    }

    #[test]
    fn a_gpu_that_spins_waits_and_one_that_works_is_at_work() {
        use Activity::{Blocked, Busy, Idle, Stopped};
        for (seen, gpus, expected) in [
            (Busy, Some(GpuWork::Spins), Idle),
            (Busy, Some(GpuWork::Works), Busy),
            (Busy, Some(GpuWork::Idle), Busy),
            (Busy, None, Busy),
            (Idle, Some(GpuWork::Works), Busy),
            (Idle, Some(GpuWork::Spins), Idle),
            (Stopped, Some(GpuWork::Works), Stopped),
            (Blocked, Some(GpuWork::Spins), Blocked),
        ] {
            assert_eq!(with_gpus(seen, gpus), expected, "{seen:?} {gpus:?}");
        }
    }

    #[test]
    fn what_a_rank_does_is_told_by_all_its_processes() {
        let span = Duration::from_secs(2);
        for (old, new, expected) in [
            (vec![seen('S', 500, 0)], vec![seen('S', 510, 0)], Activity::Idle),
            (vec![seen('S', 500, 0)], vec![seen('S', 600, 0)], Activity::Busy),
            (vec![seen('R', 500, 0)], vec![seen('S', 500, 1 << 20)], Activity::Busy),
            (vec![seen('D', 5, 0)], vec![seen('D', 5, 0)], Activity::Blocked),
            (vec![seen('D', 5, 0)], vec![seen('S', 5, 0)], Activity::Idle),
            (vec![seen('D', 5, 0)], vec![seen('D', 15, 0)], Activity::Idle),
            (vec![seen('T', 5, 0)], vec![seen('T', 5, 0)], Activity::Stopped),
            (
                vec![seen('S', 0, 0), seen('T', 5, 0)],
                vec![seen('S', 900, 0), seen('T', 5, 0)],
                Activity::Stopped,
            ),
            (
                vec![seen('S', 0, 0), seen('D', 5, 0)],
                vec![seen('S', 900, 0), seen('D', 5, 0)],
                Activity::Busy,
            ),
            // One that was not there before has done nothing that we know of.
            (
                vec![seen('S', 0, 0)],
                vec![seen('S', 0, 0), seen('R', 9000, 1 << 30)],
                Activity::Idle,
            ),
            (vec![], vec![], Activity::Idle),
        ] {
            assert_eq!(activity(&sample(&old), &sample(&new), span), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn children_count_wherever_they_went() {
        let stat = |pid, parent, session| Stat {
            id: ProcessId { pid, start_time: 1 },
            state: 'S',
            parent,
            group: session,
            session,
            cpu_ticks: 0,
        };
        // 11 is a child, 12 its child in a session of its own, 13 an orphan of the session.
        let all =
            [stat(10, 1, 10), stat(11, 10, 10), stat(12, 11, 12), stat(13, 1, 10), stat(14, 1, 14)];
        let mut pids: Vec<u32> =
            family(all[0].id, &all).into_iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [10, 11, 12, 13]);
    }

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn run(script: &str) -> Running {
        Running(Command::new("sh").args(["-c", script]).spawn().unwrap())
    }

    #[test]
    fn real_processes_are_told_apart_and_nothing_is_read_while_steps_come() {
        let children = [run("exec sleep 100"), run("while :; do :; done"), run("kill -STOP $$")];
        let leaders: Vec<ProcessId> =
            children.iter().map(|child| ProcessId::of(child.0.id()).unwrap()).collect();
        let mut watch = Watch::new(Instant::now());
        let mut step = 0;
        let mut look = |watch: &mut Watch, gets_on: bool| {
            while Instant::now() < watch.due() {
                std::thread::sleep(Duration::from_millis(5));
            }
            step += u64::from(gets_on);
            watch.look(Instant::now(), &leaders, [step].into_iter())
        };
        for _ in 0..2 {
            assert!(!look(&mut watch, true));
            assert!(watch.ranks.is_empty() && watch.listed_at.is_none());
        }
        let mut looks = 0;
        while !look(&mut watch, false) {
            looks += 1;
            assert!(looks < 5, "silent for 2 s, and two samples");
        }
        // Another sample, so that none is of the start.
        look(&mut watch, false);
        look(&mut watch, false);
        let done: Vec<Option<Activity>> =
            leaders.iter().map(|leader| watch.activity(*leader)).collect();
        let expected = [Activity::Idle, Activity::Busy, Activity::Stopped].map(Some);
        assert_eq!(done, expected);
        assert!(look(&mut watch, true), "it gets on");
        assert_eq!(watch.activity(leaders[0]), None);
    }
}
