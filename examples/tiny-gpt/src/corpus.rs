//! What is learned from: one run of bytes, whose tail is held out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::Config;
use crate::failure::Failure;
use crate::random::Random;

/// More would only be read and sent to every rank, since a run of the default length sees
/// 1.2 MB of it.
const BYTES_MAX: usize = 4 << 20;

const EXTENSIONS: [&str; 4] = ["rs", "md", "toml", "py"];
const SKIPPED_FOLDERS: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// The held-out share of the corpus, as its reciprocal.
const HELD_OUT: usize = 20;

/// Sequences of the validation loss, at most.
const VALIDATION_SEQUENCES_MAX: usize = 64;

/// The text, and where its held-out tail begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    pub bytes: Vec<u8>,
    held_out_start: usize,
    context: usize,
}

impl Corpus {
    /// Refuses what is too short for one training and one validation sequence.
    pub fn new(bytes: Vec<u8>, context: usize) -> Result<Self, Failure> {
        let sequence = context + 1;
        let held_out = (bytes.len() / HELD_OUT).max(sequence);
        if bytes.len() < held_out + sequence {
            return Err(Failure::Usage(format!(
                "the data is {} bytes; with --context {context} it must be at least {}\n\
                 hint: a smaller --context, or more text with --data",
                bytes.len(),
                2 * sequence
            )));
        }
        Ok(Self { held_out_start: bytes.len() - held_out, bytes, context })
    }

    /// Read the files that `--data` names, or the sources and docs under the working folder.
    pub fn collect(config: &Config) -> Result<Vec<u8>> {
        let root = config.data.clone().unwrap_or_else(|| PathBuf::from("."));
        let read = |path: &Path| {
            fs::read(path).with_context(|| format!("cannot read the data in {}", path.display()))
        };
        if root.is_file() {
            let mut bytes = read(&root)?;
            bytes.truncate(BYTES_MAX);
            return Ok(bytes);
        }
        let mut paths = Vec::new();
        walk(&root, config.data.is_some(), &mut paths)
            .with_context(|| format!("cannot read the data in {}", root.display()))?;
        let mut bytes = Vec::new();
        for path in &paths {
            bytes.extend(read(path)?);
            if bytes.len() >= BYTES_MAX {
                bytes.truncate(BYTES_MAX);
                eprintln!("tiny-gpt: the data is cut off at {BYTES_MAX} bytes");
                break;
            }
        }
        Ok(bytes)
    }

    /// The sequence at `index` of the batch of `step`: a function of these and the seed, so
    /// that it does not matter which rank asks, or in which attempt.
    pub fn sequence(&self, config: &Config, step: u64, index: usize) -> &[u8] {
        let starts = self.held_out_start - self.context;
        let mut random = Random::new(&[config.seed, step, index as u64]);
        let start = random.below(starts as u64) as usize;
        &self.bytes[start..=start + self.context]
    }

    /// Evenly spaced sequences of the held-out tail.
    pub fn validation(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let tail = &self.bytes[self.held_out_start..];
        let sequence = self.context + 1;
        let count = (tail.len() / sequence).min(VALIDATION_SEQUENCES_MAX);
        let apart = (tail.len() - sequence) / count.saturating_sub(1).max(1);
        (0..count).map(move |i| &tail[i * apart..i * apart + sequence])
    }
}

pub fn digest(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// Sorted by name within each folder. A folder given by `--data` is read whole but for what is
/// hidden; the working folder only where there are sources and docs.
fn walk(folder: &Path, everything: bool, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // Links are not followed: they may lead in a circle.
        let kind = entry.file_type()?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_ref()) {
            walk(&path, everything, found)?;
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if kind.is_file() && (everything || EXTENSIONS.contains(&extension)) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_is_sorted_and_skips_what_is_built_or_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for path in
            ["b.rs", "a/c.md", "a.toml", "target/t.rs", ".git/g.md", "a/.h.md", "a/x.bin", "z.py"]
        {
            write(path);
        }
        let mut found = Vec::new();
        walk(folder.path(), false, &mut found).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|p| p.strip_prefix(folder.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a/c.md", "a.toml", "b.rs", "z.py"]);
    }

    #[test]
    fn no_training_sequence_reaches_into_the_held_out_tail() {
        let config = Config { context: 4, ..Config::default() };
        let bytes: Vec<u8> = (0..40).collect();
        let corpus = Corpus::new(bytes, 4).unwrap();
        assert_eq!(corpus.held_out_start, 35);
        let mut last = 0;
        for step in 0..500 {
            let sequence = corpus.sequence(&config, step, 3);
            assert_eq!(sequence.len(), 5);
            last = last.max(sequence[4]);
        }
        assert_eq!(last, 34, "all of the training part is used, and no more");
        assert_eq!(corpus.validation().collect::<Vec<_>>(), [[35, 36, 37, 38, 39]]);
    }

    #[test]
    fn validation_covers_the_tail() {
        let bytes: Vec<u8> = (0..=255).cycle().take(20 * 300).collect();
        let corpus = Corpus::new(bytes, 9).unwrap();
        let sequences: Vec<_> = corpus.validation().collect();
        assert_eq!(sequences.len(), 30);
        assert_eq!(sequences[29], &corpus.bytes[corpus.bytes.len() - 10..]);
    }

    #[test]
    fn too_little_data_is_refused() {
        let error = Corpus::new(vec![0; 9], 4).unwrap_err().to_string();
        assert!(error.contains("9 bytes") && error.contains("at least 10"), "{error}");
        assert!(Corpus::new(vec![0; 10], 4).is_ok());
    }
}
