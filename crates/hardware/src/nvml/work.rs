//! Whether a GPU works, or only spins in a collective that the others have not come to.
//!
//! A kernel of NCCL that waits for its peers keeps the GPU at 100 % by its own account, and its
//! process spins on the CPU beside it. But it moves nothing: memory, power and the bus are nearly as
//! idle as without any work. The driver is asked on a thread of its own, because one that waits for a
//! dead GPU may not answer for minutes.

use super::library::Library;
use super::shared::NvmlSource;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// From here on a GPU says that it is busy …
const BUSY_PERCENT: u32 = 90;
/// … and below this that it is not.
const IDLE_PERCENT: u32 = 5;
/// A GPU that computes reads and writes its memory for more of the time than this …
const MEMORY_PERCENT: u32 = 1;
/// … draws more than this part of its limit …
const POWER_PERCENT: u64 = 45;
/// … or sends or gets more than this over the bus.
const BUS_KIB_PER_S: u32 = 50 << 10;

/// What one GPU does; a field is `None` where the driver does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuUse {
    pub busy_percent: Option<u32>,
    pub memory_percent: Option<u32>,
    pub milliwatts: Option<u32>,
    pub limit_milliwatts: Option<u32>,
    /// Sent and received over PCIe in the last moments.
    pub bus_kib_per_s: Option<u32>,
    /// Processes that compute on it, by the numbers of the machine.
    pub pids: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuWork {
    Idle,
    /// It runs a kernel that moves nothing.
    Spins,
    Works,
}

impl GpuUse {
    /// `None` when the driver tells too little. What is not known of the bus speaks for neither.
    pub fn work(&self) -> Option<GpuWork> {
        let busy = self.busy_percent?;
        if busy < IDLE_PERCENT {
            return Some(GpuWork::Idle);
        }
        let memory = self.memory_percent?;
        let (power, limit) = (u64::from(self.milliwatts?), u64::from(self.limit_milliwatts?));
        let is_cool = power * 100 <= limit * POWER_PERCENT;
        let is_bus_idle = self.bus_kib_per_s.is_none_or(|moved| moved <= BUS_KIB_PER_S);
        let spins = busy >= BUSY_PERCENT && memory <= MEMORY_PERCENT && is_cool && is_bus_idle;
        Some(if spins { GpuWork::Spins } else { GpuWork::Works })
    }
}

/// What the GPUs do that any of these processes computes on: the most that one does.
pub fn work_of(uses: &[GpuUse], is_ours: impl Fn(u32) -> bool) -> Option<GpuWork> {
    let ours = uses.iter().filter(|one| one.pids.iter().any(|pid| is_ours(*pid)));
    // Of one that does not tell, nobody knows whether it works.
    ours.map(GpuUse::work).try_fold(None, |most, work| Some(most.max(Some(work?))))?
}

/// Asks the driver now and then, and never waits for it.
#[derive(Debug)]
pub struct UseWatch {
    ask: SyncSender<()>,
    answers: Receiver<Vec<GpuUse>>,
}

impl UseWatch {
    /// `None` when no thread can be had.
    pub fn start(source: NvmlSource) -> Option<UseWatch> {
        let (ask, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let run = move || {
            // Without a driver there is nothing to ask: the channel closes.
            let Ok(library) = Library::open(source.path()) else { return };
            while asked.recv().is_ok() {
                let Ok(uses) = library.uses() else { return };
                if answer.send(uses).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("gpus".to_string()).spawn(run).ok()?;
        Some(UseWatch { ask, answers })
    }

    /// The answer to the question before, if it is there, and asks again.
    pub fn look(&self) -> Option<Vec<GpuUse>> {
        let answer = self.answers.try_recv().ok();
        // A question that was not taken yet, or a thread that has ended, leaves nothing to do.
        let _ = self.ask.try_send(());
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(busy: u32, memory: u32, watts: u32, bus_mib: u32, pids: &[u32]) -> GpuUse {
        GpuUse {
            busy_percent: Some(busy),
            memory_percent: Some(memory),
            milliwatts: Some(watts * 1000),
            limit_milliwatts: Some(700_000),
            bus_kib_per_s: Some(bus_mib << 10),
            pids: pids.to_vec(),
        }
    }

    #[test]
    fn a_gpu_that_is_busy_and_moves_nothing_spins() {
        use GpuWork::{Idle, Spins, Works};
        for (gpu, expected) in [
            (at(100, 0, 180, 0, &[]), Spins),
            (at(0, 0, 70, 0, &[]), Idle),
            (at(100, 40, 650, 100, &[]), Works),
            (at(100, 0, 600, 0, &[]), Works),
            (at(100, 0, 180, 900, &[]), Works),
            (at(50, 0, 180, 0, &[]), Works),
        ] {
            assert_eq!(gpu.work(), Some(expected), "{gpu:?}");
        }
        let silent = GpuUse { bus_kib_per_s: None, ..at(100, 0, 180, 0, &[]) };
        assert_eq!(silent.work(), Some(Spins));
        let old = GpuUse { memory_percent: None, ..at(100, 0, 180, 0, &[]) };
        assert_eq!(old.work(), None);
    }

    #[test]
    fn a_rank_with_several_gpus_does_the_most_that_one_of_them_does() {
        let uses = [at(100, 0, 180, 0, &[7]), at(100, 50, 600, 0, &[8]), at(0, 0, 70, 0, &[7, 9])];
        assert_eq!(work_of(&uses, |pid| pid == 7), Some(GpuWork::Spins));
        assert_eq!(work_of(&uses, |pid| pid == 7 || pid == 8), Some(GpuWork::Works));
        assert_eq!(work_of(&uses, |pid| pid == 9), Some(GpuWork::Idle));
        assert_eq!(work_of(&uses, |_| false), None, "it computes on none that we see");
        let dumb = [GpuUse { pids: vec![7], ..GpuUse::default() }];
        assert_eq!(work_of(&dumb, |pid| pid == 7), None);
    }
}
