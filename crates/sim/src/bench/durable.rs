//! Small jobs through the core and the journal, as the server's driver takes them: what waits is
//! encoded, written and synced in one batch; then the core is stepped through it, event by event.
//!
//! Only that is timed. The nodes' own work and the network's is done elsewhere in life, and here
//! between two batches.

use super::samples::{Figure, Unit};
use super::world::{BENCH_TEAM, World};
use super::{Effort, Machine};
use lindos_core::effect::Effects;
use lindos_core::{Effect, Event};
use lindos_journal::{Disk, Error, EventRecord, Journal};
use lindos_model::{JobId, Time, TrailKind, job};

/// The most that the server takes into one batch.
const BATCH_MAX: usize = 4_096;
/// Jobs that are submitted in one batch: with the reports of those before them it is full.
const SUBMITTED_MAX: usize = 2_048;
/// Rates are taken over so many jobs each.
const SLICE: u64 = 10_000;

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    journal: u64,
    core: u64,
    jobs: u64,
    events: u64,
}

/// Small jobs submitted, started and finished; medians over slices.
pub fn figures<D: Disk>(
    world: &mut World,
    journal: &mut Journal<D>,
    machine: &dyn Machine,
    effort: &Effort,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<[Figure; 4], Error> {
    let slice_jobs = SLICE.min(effort.durable_jobs / 4).max(1);
    let mut slices: Vec<Spent> = Vec::new();
    let mut slice = Spent::default();
    let (mut done, mut submitted) = (0, 0);
    let mut running: Vec<JobId> = Vec::new();
    let began = (machine.nanos(), world.now);
    while done < effort.durable_jobs {
        let since = machine.nanos() - began.0;
        world.now = world.now.max(Time(began.1.0 + since / 1_000_000));
        // Those that were said to run in the batch before have ended since.
        for job in std::mem::take(&mut running) {
            world.complete(job);
        }
        let mut events = world.reports();
        let room = BATCH_MAX.saturating_sub(events.len()).min(SUBMITTED_MAX) as u64;
        // None of them waits: that is measured elsewhere.
        let free = world.gpus() - world.in_use().gpus;
        let left = (effort.durable_jobs - submitted).min(room).min(free);
        for _ in 0..left {
            let mut spec = job::sample("small", 1, 1);
            spec.team = BENCH_TEAM.to_string();
            events.push(world.submission(spec));
        }
        submitted += left;
        for batch in events.chunks(BATCH_MAX) {
            let (finished, started) = commit(world, journal, machine, batch, &mut slice)?;
            done += finished;
            running.extend(started);
        }
        tell(done, effort.durable_jobs);
        if slice.jobs >= slice_jobs {
            slices.push(std::mem::take(&mut slice));
        }
    }
    world.settle();
    let per_job = |of: fn(&Spent) -> u64| {
        slices.iter().map(move |slice| of(slice) as f64 / slice.jobs as f64).collect::<Vec<f64>>()
    };
    let rates = per_job(|slice| slice.journal + slice.core);
    let rates = rates.into_iter().map(|nanos| 1e9 / nanos).collect();
    let micros = |values: Vec<f64>| values.into_iter().map(|nanos| nanos / 1e3).collect();
    Ok([
        Figure::new("durable_jobs_per_s", Unit::PerSecond, Some(100_000.0), rates),
        Figure::new("durable_core_us", Unit::Micros, None, micros(per_job(|slice| slice.core))),
        Figure::new(
            "durable_journal_us",
            Unit::Micros,
            None,
            micros(per_job(|slice| slice.journal)),
        ),
        Figure::new("durable_events", Unit::Count, None, per_job(|slice| slice.events)),
    ])
}

/// One batch: how many jobs it finished, and those that run since.
fn commit<D: Disk>(
    world: &mut World,
    journal: &mut Journal<D>,
    machine: &dyn Machine,
    batch: &[Event],
    spent: &mut Spent,
) -> Result<(u64, Vec<JobId>), Error> {
    let records: Vec<EventRecord> =
        batch.iter().map(|event| EventRecord::new(world.now, event.clone())).collect();
    let began = machine.nanos();
    for record in &records {
        journal.append_record(record)?;
    }
    journal.commit()?;
    spent.journal += machine.nanos() - began;
    spent.events += batch.len() as u64;
    let mut finished = 0;
    let mut running = Vec::new();
    for (at, event) in records.iter().map(EventRecord::parts) {
        let mut effects = Effects::new();
        let began = machine.nanos();
        world.core.step(at, event, &mut effects);
        spent.core += machine.nanos() - began;
        for effect in &effects {
            if let Effect::Trail(entry) = effect {
                finished += u64::from(entry.what == TrailKind::Completed);
                let is_up = matches!(entry.what, TrailKind::RankStarted { .. });
                running.extend(entry.job.filter(|_| is_up));
            }
        }
        world.carry_out(&effects);
        let began = machine.nanos();
        drop(effects);
        spent.core += machine.nanos() - began;
    }
    spent.jobs += finished;
    Ok((finished, running))
}
