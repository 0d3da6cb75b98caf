//! Blocks are written to the disk, synced, and read back past the cache.
//!
//! The file has no name from its first moment on: whatever becomes of this process, its space is
//! free again when it has gone.

use super::stream::{differences, fill};
use super::{Expected, Faults, Limit, size};
use lindos_model::burnin::{Bound, TestResult};
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl, fstatfs, fstatvfs};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

const BLOCK: usize = 4 << 20;
/// What is left alone of a disk: nine tenths of what is free.
const SHARE_OF_FREE: u64 = 10;
const FILE_MAX: u64 = 16 << 30;
/// Time goes to both, and writing is what takes longer.
const WRITING: f64 = 0.6;
/// The numbers by which Linux knows file systems that are memory.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58F6];
const NAMES: [&str; 3] = ["disk.bits", "disk.write", "disk.read"];

/// Aligned as the disk's own blocks are, for reading past the cache.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

struct Block(Vec<Page>);

impl Block {
    fn new() -> Block {
        Block(vec![Page([0; 4096]); BLOCK / 4096])
    }

    fn bytes(&mut self) -> &mut [u8] {
        let length = self.0.len() * 4096;
        // SAFETY: pages are bytes without gaps, one after the other, and borrowed as a whole.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), length) }
    }
}

#[derive(Debug, Default)]
struct Seen {
    blocks: u64,
    wrong_words: u64,
    first_wrong: Option<u64>,
    passes: u64,
    write_time: Duration,
    read_time: Duration,
    is_past_the_cache: bool,
}

pub fn run(
    limit: Limit,
    folder: &Path,
    expected: &Expected,
    faults: &dyn Faults,
) -> Vec<TestResult> {
    let place = folder.display();
    let skipped = |why: String| NAMES.map(|name| TestResult::skipped(name, &why)).to_vec();
    let file = match nameless(folder) {
        Ok(file) => file,
        Err(error) => return skipped(format!("no file can be made in {place}: {error}")),
    };
    match is_in_memory(&file) {
        Ok(false) => {}
        Ok(true) => return skipped(format!("{place} is memory, not a disk: name another --dir")),
        Err(error) => return skipped(format!("{place}: its file system is not known: {error}")),
    }
    let free = match fstatvfs(&file) {
        Ok(stat) => stat.f_bavail * stat.f_frsize,
        Err(error) => return skipped(format!("{place}: its free space is not known: {error}")),
    };
    let blocks = (free / SHARE_OF_FREE).min(FILE_MAX) / BLOCK as u64;
    if blocks == 0 {
        return skipped(format!("{place} has only {} free", size(free)));
    }
    match measure(file, blocks, limit, faults) {
        Ok(seen) => results(&seen, folder, expected),
        // What can be written and not read, or the other way round, is the disk's fault.
        Err(error) => {
            let mut results = skipped("the disk failed".to_string());
            results[0] = TestResult::failed(NAMES[0], format!("in {place}: {error}"));
            results
        }
    }
}

/// A file without a name. Where the file system cannot do that, its name is taken away at once.
fn nameless(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    let flags = OFlags::TMPFILE.bits().cast_signed();
    if let Ok(file) = options.clone().custom_flags(flags).open(folder) {
        return Ok(file);
    }
    let path = folder.join(format!(".lindos-burnin-{}", std::process::id()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn is_in_memory(file: &File) -> io::Result<bool> {
    let kind = fstatfs(file)?.f_type;
    Ok(IN_MEMORY.iter().any(|memory| i128::from(kind) == i128::from(*memory)))
}

fn measure(mut file: File, most: u64, limit: Limit, faults: &dyn Faults) -> io::Result<Seen> {
    let mut seen = Seen { is_past_the_cache: true, ..Seen::default() };
    let mut block = Block::new();
    while seen.passes == 0 || !limit.is_over() {
        // The first pass ends early, so that what it wrote can be read back in time.
        let writing = limit.part(WRITING);
        let seed = seen.passes << 32;
        let blocks = write(&mut file, &mut block, seed, most, writing, &mut seen.write_time)?;
        faults.disk(&file);
        seen.is_past_the_cache &= leave_the_cache(&file);
        read(&mut file, &mut block, seed, blocks, &mut seen)?;
        through_the_cache(&file)?;
        seen.passes += 1;
    }
    Ok(seen)
}

/// Blocks until the time is over or the most is reached; how many.
fn write(
    file: &mut File,
    block: &mut Block,
    seed: u64,
    most: u64,
    limit: Limit,
    took: &mut Duration,
) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut blocks = 0;
    while blocks < most && (blocks == 0 || !limit.is_over()) {
        fill(seed + blocks, block.bytes());
        let began = Instant::now();
        file.write_all(block.bytes())?;
        // In between as well, so that the end of the time is not the beginning of a long sync.
        if blocks % 64 == 63 {
            file.sync_data()?;
        }
        *took += began.elapsed();
        blocks += 1;
    }
    let began = Instant::now();
    file.sync_data()?;
    *took += began.elapsed();
    Ok(blocks)
}

fn read(
    file: &mut File,
    block: &mut Block,
    seed: u64,
    blocks: u64,
    seen: &mut Seen,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    for number in 0..blocks {
        let began = Instant::now();
        file.read_exact(block.bytes())?;
        seen.read_time += began.elapsed();
        let (wrong, first) = differences(seed + number, block.bytes());
        seen.wrong_words += wrong;
        let place = first.map(|place| number * BLOCK as u64 + place as u64);
        seen.first_wrong = seen.first_wrong.or(place);
        seen.blocks += 1;
    }
    Ok(())
}

/// From here on reads come from the disk. False where the file system reads through its cache
/// all the same.
fn leave_the_cache(file: &File) -> bool {
    let dropped = fadvise(file, 0, None::<NonZeroU64>, Advice::DontNeed).is_ok();
    let direct = fcntl_getfl(file).and_then(|flags| fcntl_setfl(file, flags | OFlags::DIRECT));
    direct.is_ok() && dropped
}

fn through_the_cache(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags - OFlags::DIRECT)?)
}

fn results(seen: &Seen, folder: &Path, expected: &Expected) -> Vec<TestResult> {
    let bytes = seen.blocks * BLOCK as u64;
    let mut detail = format!("{} in {}, compared as read back", size(bytes), folder.display());
    if let Some(place) = seen.first_wrong {
        let _ = write!(detail, "; first at byte {place} of the file");
    }
    let cache = if seen.is_past_the_cache {
        "past the cache"
    } else {
        "perhaps from the cache: this file system does not read past it"
    };
    let rate = |name: &str, time: Duration, expected: Option<f64>, detail: &str| {
        let rate = bytes as f64 / time.as_secs_f64().max(1e-9) / 1e6;
        TestResult::judged(name, rate, "MB/s", expected.map(Bound::AtLeast), detail.to_string())
    };
    let written = "in blocks of 4 MiB, with their sync";
    vec![
        TestResult::errors(NAMES[0], seen.wrong_words, detail),
        rate(NAMES[1], seen.write_time, expected.disk_write_mb_per_s, written),
        rate(NAMES[2], seen.read_time, expected.disk_read_mb_per_s, cache),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burnin::NoFaults;
    use lindos_model::burnin::Verdict;
    use std::os::unix::fs::FileExt;

    #[derive(Debug)]
    struct FlipsAt(u64);

    impl Faults for FlipsAt {
        fn disk(&self, file: &File) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, self.0).unwrap();
            byte[0] ^= 1;
            file.write_all_at(&byte, self.0).unwrap();
            file.sync_data().unwrap();
        }
    }

    #[derive(Debug)]
    struct Truncates;

    impl Faults for Truncates {
        fn disk(&self, file: &File) {
            file.set_len(1000).unwrap();
        }
    }

    fn tested(faults: &dyn Faults) -> io::Result<Seen> {
        let folder = tempfile::tempdir().unwrap();
        let file = nameless(folder.path()).unwrap();
        let seen = measure(file, 2, Limit::of(Duration::ZERO), faults);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        seen
    }

    #[test]
    fn a_bit_that_changed_on_the_disk_is_found_where_it_is() {
        let place = 123_456;
        let seen = tested(&FlipsAt(place)).unwrap();
        assert_eq!((seen.wrong_words, seen.first_wrong), (1, Some(place / 8 * 8)));
        let result = &results(&seen, Path::new("/x"), &Expected::default())[0];
        assert_eq!(result.verdict, Verdict::Fail);
        let seen = tested(&NoFaults).unwrap();
        assert_eq!((seen.wrong_words, seen.blocks, seen.passes), (0, 1, 1));
    }

    #[test]
    fn what_cannot_be_read_back_is_an_error_and_leaves_no_file() {
        assert!(tested(&Truncates).is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_is_skipped_with_the_reason() {
        let limit = Limit::of(Duration::ZERO);
        let results = run(limit, Path::new("/nonexistent"), &Expected::default(), &NoFaults);
        assert!(results.iter().all(|result| result.verdict == Verdict::Skipped));
        assert!(results[0].detail.contains("/nonexistent: No such file"), "{results:?}");
    }

    #[test]
    fn memory_that_looks_like_a_folder_is_no_disk() {
        let Ok(file) = nameless(Path::new("/dev/shm")) else { return };
        assert!(is_in_memory(&file).unwrap());
    }
}
