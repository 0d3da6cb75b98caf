//! Memory is filled with patterns and read back.

use super::stream::word;
use super::{Expected, Faults, Limit, cpu, room, size, times};
use crate::system::Root;
use lindos_model::burnin::{Bound, TestResult, Verdict};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Smaller than this is smaller than caches, and tests those.
const LEAST: u64 = 32 << 20;
/// What a core surely gets through all patterns with in a second.
const PER_CORE_AND_SECOND: u64 = 256 << 20;
const NOTES_MAX: usize = 3;

/// What is written, by the place of the word. Walking bits find wires that are stuck or touch
/// each other, addresses find wires that lead to the wrong place, random ones find what depends on
/// the neighbours; each comes with its inverse, so that every bit was both.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Address { base: u64 },
    WalkingBit { shift: u32 },
    Random { seed: u64 },
}

impl Pattern {
    fn word(self, index: u64) -> u64 {
        match self {
            Pattern::Address { base } => base + index,
            Pattern::WalkingBit { shift } => 1_u64.rotate_left((index as u32).wrapping_add(shift)),
            Pattern::Random { seed } => word(seed, index),
        }
    }
}

/// What one core found in its part.
#[derive(Debug, Default)]
struct Found {
    bytes: u64,
    passes: u64,
    wrong: u64,
    notes: Vec<String>,
    written: u64,
    read: u64,
    write_time: Duration,
    read_time: Duration,
}

/// `share` of what is available, in percent, at most.
pub fn run(
    limit: Limit,
    share: u8,
    expected: &Expected,
    root: &Root,
    faults: &dyn Faults,
) -> Vec<TestResult> {
    let skipped = |why: String| {
        ["memory.bits", "memory.write", "memory.read"]
            .map(|name| TestResult::skipped(name, &why))
            .to_vec()
    };
    let available = match room::available(root) {
        Ok(available) => available,
        Err(why) => return skipped(why),
    };
    let threads = cpu::cores().len().max(1) as u64;
    let by_time = limit.span.as_secs_f64().max(0.1) * (threads * PER_CORE_AND_SECOND) as f64;
    let bytes = (available / 100 * u64::from(share.min(90))).min(by_time as u64);
    if bytes < LEAST {
        let least = size(LEAST);
        return skipped(format!("only {} may be taken; {least} at least are needed", size(bytes)));
    }
    over(bytes, threads, available, limit, expected, faults)
}

fn over(
    bytes: u64,
    threads: u64,
    available: u64,
    limit: Limit,
    expected: &Expected,
    faults: &dyn Faults,
) -> Vec<TestResult> {
    let words = bytes / 8 / threads;
    let parts: Vec<Result<Found, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|part| scope.spawn(move || part_of_memory(part, words, limit, faults)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_string())))
            .collect()
    });
    let found: Vec<&Found> = parts.iter().filter_map(|part| part.as_ref().ok()).collect();
    let refused = parts.iter().find_map(|part| part.as_ref().err());
    vec![
        bits(&found, available, refused),
        bandwidth(
            "memory.write",
            &found,
            |f| (f.written, f.write_time),
            expected.memory_write_gb_per_s,
        ),
        bandwidth("memory.read", &found, |f| (f.read, f.read_time), expected.memory_read_gb_per_s),
    ]
}

fn part_of_memory(
    part: u64,
    words: u64,
    limit: Limit,
    faults: &dyn Faults,
) -> Result<Found, String> {
    let mut memory: Vec<u64> = Vec::new();
    let refused = || format!("the system refused {}", size(words * 8));
    memory.try_reserve_exact(words as usize).map_err(|_| refused())?;
    // Touched here first, so that it lies near the core that uses it.
    memory.resize(words as usize, 0);
    let mut found = Found { bytes: words * 8, ..Found::default() };
    // All patterns at least once, however short the time.
    while found.passes == 0 || !limit.is_over() {
        let seed = word(part, found.passes);
        let shift = found.passes as u32;
        let patterns = [
            ("address", Pattern::Address { base: part * words }),
            ("walking bit", Pattern::WalkingBit { shift }),
            ("random", Pattern::Random { seed }),
        ];
        for (name, pattern) in patterns {
            for inverse in [0, u64::MAX] {
                found.pass(&mut memory, name, pattern, inverse, faults);
            }
        }
        found.passes += 1;
    }
    Ok(found)
}

impl Found {
    fn pass(
        &mut self,
        memory: &mut [u64],
        name: &str,
        pattern: Pattern,
        inverse: u64,
        faults: &dyn Faults,
    ) {
        let began = Instant::now();
        for (index, cell) in memory.iter_mut().enumerate() {
            *cell = pattern.word(index as u64) ^ inverse;
        }
        self.write_time += began.elapsed();
        self.written += self.bytes;
        faults.memory(memory);
        let began = Instant::now();
        for (index, cell) in memory.iter().enumerate() {
            let wanted = pattern.word(index as u64) ^ inverse;
            if *cell != wanted {
                self.note(name, index, wanted, *cell, inverse != 0);
            }
        }
        self.read_time += began.elapsed();
        self.read += self.bytes;
    }

    #[cold]
    fn note(&mut self, name: &str, index: usize, wanted: u64, got: u64, is_inverse: bool) {
        self.wrong += 1;
        if self.notes.len() < NOTES_MAX {
            let inverse = if is_inverse { ", inverse" } else { "" };
            self.notes.push(format!(
                "word {index} of {} ({name}{inverse}): wrote {wanted:016x}, read {got:016x}",
                self.bytes / 8
            ));
        }
    }
}

fn bits(found: &[&Found], available: u64, refused: Option<&String>) -> TestResult {
    if found.is_empty() {
        let why = refused.map_or("no thread could be started", String::as_str);
        return TestResult::skipped("memory.bits", why);
    }
    let bytes: u64 = found.iter().map(|part| part.bytes).sum();
    let passes = found.iter().map(|part| part.passes).min().unwrap_or(0);
    let mut detail = format!(
        "{} of the {} to be had, {} through 6 patterns",
        size(bytes),
        size(available),
        times(passes)
    );
    for note in found.iter().flat_map(|part| &part.notes).take(NOTES_MAX) {
        let _ = write!(detail, "; {note}");
    }
    if let Some(refused) = refused {
        let _ = write!(detail, "; {refused}");
    }
    let wrong = found.iter().map(|part| part.wrong).sum();
    let mut result = TestResult::errors("memory.bits", wrong, detail);
    if refused.is_some() && result.verdict == Verdict::Pass {
        result.verdict = Verdict::Warning;
    }
    result
}

/// Of all cores together, each with its own time.
fn bandwidth(
    name: &str,
    found: &[&Found],
    of: impl Fn(&Found) -> (u64, Duration),
    expected: Option<f64>,
) -> TestResult {
    if found.is_empty() {
        return TestResult::skipped(name, "no memory was tested");
    }
    let bytes_per_second: f64 = found
        .iter()
        .map(|part| of(part))
        .map(|(bytes, time)| bytes as f64 / time.as_secs_f64().max(1e-9))
        .sum();
    let detail = format!("{} cores at once, with making and comparing the patterns", found.len());
    TestResult::judged(name, bytes_per_second / 1e9, "GB/s", expected.map(Bound::AtLeast), detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burnin::NoFaults;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Flips one bit of one word, in one of the passes.
    #[derive(Debug, Default)]
    struct FlipsInPass {
        wanted: u32,
        seen: AtomicU32,
    }

    impl Faults for FlipsInPass {
        fn memory(&self, words: &mut [u64]) {
            if self.seen.fetch_add(1, Ordering::Relaxed) == self.wanted {
                let middle = words.len() / 2;
                words[middle] ^= 1 << 63;
            }
        }
    }

    /// A wire that is stuck: the bit is 0, whatever is written.
    #[derive(Debug)]
    struct Stuck;

    impl Faults for Stuck {
        fn memory(&self, words: &mut [u64]) {
            words[5] &= !(1 << 9);
        }
    }

    fn tested(faults: &dyn Faults) -> TestResult {
        let limit = Limit::of(Duration::ZERO);
        let results = over(64 << 10, 2, 1 << 30, limit, &Expected::default(), faults);
        results.into_iter().next().unwrap()
    }

    #[test]
    fn a_bit_flipped_in_any_of_the_patterns_is_found() {
        assert_eq!(tested(&NoFaults).verdict, Verdict::Pass);
        for wanted in 0..12 {
            let result = tested(&FlipsInPass { wanted, seen: AtomicU32::new(0) });
            assert_eq!(result.figure, Some(1.0), "pass {wanted}: {result:?}");
            assert!(result.detail.contains("word 2048 of 4096"), "{result:?}");
        }
    }

    #[test]
    fn a_bit_that_is_stuck_is_found_by_each_pattern_or_its_inverse() {
        let result = tested(&Stuck);
        // Three pairs in two parts: of a pattern and its inverse exactly one has the bit set.
        assert_eq!(result.figure, Some(6.0), "{result:?}");
    }

    #[test]
    fn what_may_not_be_taken_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("proc")).unwrap();
        std::fs::write(folder.path().join("proc/meminfo"), "MemAvailable: 50000 kB\n").unwrap();
        let root = Root::at(folder.path());
        let limit = Limit::of(Duration::from_secs(1));
        let results = run(limit, 50, &Expected::default(), &root, &NoFaults);
        assert!(results.iter().all(|result| result.verdict == Verdict::Skipped), "{results:?}");
        assert!(results[0].detail.contains("only 24 MiB may be taken"), "{results:?}");
    }
}
