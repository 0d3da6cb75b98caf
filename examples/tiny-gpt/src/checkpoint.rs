//! Checkpoints that are whole or not there.
//!
//! In the folder stand:
//!
//! - `corpus`: the data as it was at the first start, since the files may change under a run;
//! - `run.json`: the flags that decide the losses, and the digest of `corpus`;
//! - `step-00000120.safetensors`: weights and both moments. The metadata carry the step, the
//!   flags, the digest of the corpus, and a checksum over all of these and the tensors.
//!
//! Where there are replicas, whichever of them leads writes them, and each to files of its own
//! name until they are whole: two that take each other for lost do not disturb each other.
//!
//! Every file is written beside its place, synced, renamed over it, and the folder synced: after
//! a crash at any moment there is the old file or the new one. A file that the disk spoiled
//! anyway is found by its checksum and skipped.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::config::Config;
use crate::corpus::digest;
use crate::failure::Failure;
use crate::model::Layout;
use crate::optimizer::State;

/// The newest may be the one that the disk spoils, so one more is kept.
const KEPT: usize = 2;

/// What the name of a file ends with until it is whole.
const PARTIAL: &str = ".partial";

/// The checkpoint folder of one run. Only rank 0, of each replica, has one.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    config: Config,
    /// As [`PARTIAL`], but told apart from what other writers have half-done.
    partial: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Run {
    config: serde_json::Value,
    corpus: String,
}

impl Store {
    /// Make the folder, and clear it of what a killed writer left half-done.
    pub fn open(folder: &Path, config: &Config) -> Result<Self, Failure> {
        Self::open_for(folder, config, PARTIAL.to_owned(), |name| name.ends_with(PARTIAL))
    }

    /// The same for a replica, while others may be writing: it clears away only what is its own.
    pub fn open_beside_others(
        folder: &Path,
        config: &Config,
        replica: usize,
        epoch: u64,
    ) -> Result<Self, Failure> {
        let own = format!(".replica-{replica}.epoch-");
        let partial = format!("{own}{epoch}{PARTIAL}");
        Self::open_for(folder, config, partial, |name| name.contains(&own))
    }

    fn open_for(
        folder: &Path,
        config: &Config,
        partial: String,
        is_left_over: impl Fn(&str) -> bool,
    ) -> Result<Self, Failure> {
        let failed = |error| failure("cannot use the checkpoint folder", folder, &error);
        fs::create_dir_all(folder).map_err(failed)?;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|name| is_left_over(&name.to_string_lossy())) {
                remove(&path)?;
            }
        }
        Ok(Self { folder: folder.to_owned(), config: config.clone(), partial })
    }

    /// The run that this folder belongs to: none at the first start.
    fn run(&self) -> Result<Option<Run>, Failure> {
        let path = self.folder.join("run.json");
        let run: Run = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failure("cannot read", &path, &error)),
            Ok(json) => serde_json::from_slice(&json)
                .map_err(|error| failure("cannot read", &path, &io::Error::from(error)))?,
        };
        if let Some(difference) = self.config.difference(&run.config.to_string()) {
            return Err(Failure::Usage(format!(
                "{} holds another run: {difference}\n\
                 hint: the same flags resume it; another --checkpoint-dir starts afresh",
                self.folder.display()
            )));
        }
        Ok(Some(run))
    }

    /// An error if the folder holds another run than these flags make.
    pub fn check(&self) -> Result<(), Failure> {
        self.run().map(drop)
    }

    /// The corpus of the run that this folder belongs to: none at the first start.
    pub fn stored_corpus(&self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(run) = self.run()? else {
            return Ok(None);
        };
        let path = self.folder.join("corpus");
        let corpus = fs::read(&path).map_err(|error| failure("cannot read", &path, &error))?;
        if digest(&corpus) != run.corpus {
            return Err(Failure::Checkpoint(format!(
                "{} is not what it was at the first start (its digest is {}, not {})\n\
                 hint: another --checkpoint-dir starts afresh",
                path.display(),
                digest(&corpus),
                run.corpus
            )));
        }
        Ok(Some(corpus))
    }

    /// At the first start. `run.json` comes last: with it, the corpus is there too.
    pub fn store_corpus(&self, corpus: &[u8]) -> Result<(), Failure> {
        self.write("corpus", corpus)?;
        let config = serde_json::to_value(&self.config).expect("a struct of numbers and a path");
        let run = Run { config, corpus: digest(corpus) };
        let json = serde_json::to_vec_pretty(&run).expect("strings and numbers");
        self.write("run.json", &json)?;
        Ok(())
    }

    /// Checkpoints after this step are spoilt. Gone, they are neither loaded nor kept instead of those
    /// that come now.
    pub fn drop_after(&self, step: u64) -> Result<(), Failure> {
        for (_, path) in self.numbered()?.into_iter().filter(|(saved, _)| *saved > step) {
            eprintln!("tiny-gpt: removed {}: it is spoilt", path.display());
            remove(&path)?;
        }
        Ok(())
    }

    /// The newest checkpoint that verifies. `skipped` hears of the others.
    pub fn load(
        &self,
        layout: &Layout,
        corpus: &str,
        mut skipped: impl FnMut(&Path, &str),
    ) -> Result<Option<(State, PathBuf)>, Failure> {
        for path in self.checkpoints()?.into_iter().rev() {
            let bytes = fs::read(&path).map_err(|error| failure("cannot read", &path, &error))?;
            match decode(&bytes, &self.config, layout, corpus) {
                Ok(state) => return Ok(Some((state, path))),
                Err(why) => skipped(&path, &why),
            }
        }
        Ok(None)
    }

    /// Returns when the checkpoint is on the disk to stay.
    pub fn save(&self, state: &State, layout: &Layout, corpus: &str) -> Result<PathBuf, Failure> {
        let path = self.write(&name(state.step), &encode(state, &self.config, layout, corpus))?;
        let checkpoints = self.checkpoints()?;
        for old in &checkpoints[..checkpoints.len().saturating_sub(KEPT)] {
            remove(old)?;
        }
        Ok(path)
    }

    /// Whether there is a checkpoint of this step; it is whole, whoever wrote it.
    pub fn has(&self, step: u64) -> bool {
        self.folder.join(name(step)).exists()
    }

    /// Oldest first.
    fn checkpoints(&self) -> Result<Vec<PathBuf>, Failure> {
        Ok(self.numbered()?.into_iter().map(|(_, path)| path).collect())
    }

    fn numbered(&self) -> Result<Vec<(u64, PathBuf)>, Failure> {
        let failed = |error| failure("cannot list", &self.folder, &error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let step = name.strip_prefix("step-").and_then(|n| n.strip_suffix(".safetensors"));
            if let Some(step) = step.and_then(|step| step.parse::<u64>().ok()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        let partial = self.folder.join(format!("{name}{}", self.partial));
        let written = || -> io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        written().map_err(|error| {
            // The space may be all that the next attempt needs.
            let _ = fs::remove_file(&partial);
            failure("cannot write", &path, &error)
        })?;
        Ok(path)
    }
}

fn name(step: u64) -> String {
    format!("step-{step:08}.safetensors")
}

/// Another writer may have been quicker.
fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure("cannot remove", path, &error))
        }
        _ => Ok(()),
    }
}

fn failure(what: &str, path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that disk",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a folder that can be written, with --checkpoint-dir"
        }
        _ => "look at that folder and its disk",
    };
    Failure::Checkpoint(format!("{what} {}: {error}\nhint: {hint}", path.display()))
}

const KINDS: [&str; 3] = ["weights", "first_moment", "second_moment"];

/// Their vectors in the order of `KINDS`.
fn vectors(state: &State) -> [&[f32]; 3] {
    [&state.weights, &state.first_moment, &state.second_moment]
}

fn encode(state: &State, config: &Config, layout: &Layout, corpus: &str) -> Vec<u8> {
    let bytes = vectors(state).map(to_bytes);
    let mut metadata = HashMap::from([
        ("step".to_owned(), state.step.to_string()),
        ("config".to_owned(), config.to_json()),
        ("corpus".to_owned(), corpus.to_owned()),
    ]);
    let checksum = checksum(&metadata, bytes.iter().map(Vec::as_slice));
    metadata.insert("checksum".to_owned(), checksum);
    let tensors = KINDS.iter().zip(&bytes).flat_map(|(kind, bytes)| {
        layout.parameters.iter().map(move |p| {
            let piece = &bytes[4 * p.offset..4 * (p.offset + p.len())];
            let view = TensorView::new(Dtype::F32, p.shape.clone(), piece);
            (format!("{kind}.{}", p.name), view.expect("the layout measured it"))
        })
    });
    serialize(tensors, Some(metadata)).expect("names are unique and sizes fit")
}

/// The error says why this is not a checkpoint of this run.
fn decode(bytes: &[u8], config: &Config, layout: &Layout, corpus: &str) -> Result<State, String> {
    let unreadable = |error| format!("it is torn or no checkpoint ({error})");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let get = |name: &str| metadata.get(name).ok_or_else(|| format!("it has no {name}"));

    // The order of the layout, which is that of the checksum, whatever the order in the file.
    let mut kinds = Vec::new();
    for kind in KINDS {
        let mut flat = Vec::with_capacity(4 * layout.len);
        for p in &layout.parameters {
            let name = format!("{kind}.{}", p.name);
            let view = tensors.tensor(&name).map_err(|_| format!("it has no {name}"))?;
            if view.dtype() != Dtype::F32 || view.shape() != p.shape {
                return Err(format!("{name} is {:?}, not {:?}", view.shape(), p.shape));
            }
            flat.extend_from_slice(view.data());
        }
        kinds.push(flat);
    }
    if *get("checksum")? != checksum(&metadata, kinds.iter().map(Vec::as_slice)) {
        return Err("its checksum does not match its contents".to_owned());
    }
    if let Some(difference) = config.difference(get("config")?) {
        return Err(format!("it is of another run: {difference}"));
    }
    if get("corpus")? != corpus {
        return Err("it is of another run: its data was different".to_owned());
    }
    let step = get("step")?.parse().map_err(|_| "its step is no number".to_owned())?;
    let mut kinds = kinds.into_iter().map(|bytes| from_bytes(&bytes));
    let mut next = || kinds.next().expect("one of each kind");
    Ok(State { step, weights: next(), first_moment: next(), second_moment: next() })
}

/// Over everything that is read back, the checksum itself apart.
fn checksum<'a>(
    metadata: &HashMap<String, String>,
    tensors: impl Iterator<Item = &'a [u8]>,
) -> String {
    let mut hasher = Xxh3::new();
    for name in ["step", "config", "corpus"] {
        let value = metadata.get(name).map_or("", String::as_str);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value.as_bytes());
    }
    tensors.for_each(|bytes| hasher.update(bytes));
    format!("{:032x}", hasher.digest128())
}

/// Little-endian, as safetensors and the wire have them.
pub fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty(), "whole numbers");
    chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        config: Config,
        layout: Layout,
    }

    impl Fixture {
        fn new() -> Self {
            let config = Config { layers: 1, width: 4, heads: 1, context: 2, ..Config::default() };
            let layout = Layout::new(&config);
            Self { folder: tempfile::tempdir().unwrap(), config, layout }
        }

        fn store(&self) -> Store {
            Store::open(self.folder.path(), &self.config).unwrap()
        }

        fn state(&self, step: u64) -> State {
            State { step, ..State::new(&self.config, &self.layout) }
        }

        fn save(&self, step: u64) -> PathBuf {
            self.store().save(&self.state(step), &self.layout, "text").unwrap()
        }

        fn load(&self) -> (Option<u64>, Vec<String>) {
            let mut skipped = Vec::new();
            let loaded = self
                .store()
                .load(&self.layout, "text", |path, why| {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    skipped.push(format!("{name}: {why}"));
                })
                .unwrap();
            (loaded.map(|(state, _)| state.step), skipped)
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let fixture = Fixture::new();
        let mut state = fixture.state(0);
        let mut gradient: Vec<f32> = (0..fixture.layout.len).map(|i| i as f32).collect();
        state.update(&fixture.config, &fixture.layout, &mut gradient);
        fixture.store().save(&state, &fixture.layout, "text").unwrap();
        let loaded = fixture.store().load(&fixture.layout, "text", |_, why| panic!("{why}"));
        assert_eq!(loaded.unwrap().unwrap().0, state);
    }

    #[test]
    fn the_last_two_are_kept() {
        let fixture = Fixture::new();
        for step in [5, 90_000_000, 1_000_000_000] {
            fixture.save(step);
        }
        let names: Vec<_> = fixture.store().checkpoints().unwrap();
        let names: Vec<_> = names.iter().map(|p| p.file_name().unwrap()).collect();
        assert_eq!(names, ["step-90000000.safetensors", "step-1000000000.safetensors"]);
    }

    #[test]
    fn spoilt_ones_are_gone_before_anything_is_loaded() {
        let fixture = Fixture::new();
        for step in [10, 20] {
            fixture.save(step);
        }
        fixture.store().drop_after(20).unwrap();
        assert_eq!(fixture.load().0, Some(20));
        fixture.store().drop_after(15).unwrap();
        assert_eq!(fixture.load().0, Some(10));
        fixture.save(15);
        assert_eq!(fixture.load().0, Some(15));
        fixture.store().drop_after(0).unwrap();
        assert_eq!(fixture.load().0, None);
    }

    /// Every byte of the header, many of the tensors, and many lengths short of the whole.
    #[test]
    fn no_spoiled_checkpoint_is_ever_loaded() {
        let fixture = Fixture::new();
        let whole = encode(&fixture.state(3), &fixture.config, &fixture.layout, "text");
        let decode = |bytes: &[u8]| decode(bytes, &fixture.config, &fixture.layout, "text");
        let expected = decode(&whole).unwrap();
        for length in (0..whole.len()).step_by(211) {
            assert!(decode(&whole[..length]).is_err(), "cut at {length}");
        }
        let header = 8 + usize::from(whole[0]) + 256 * usize::from(whole[1]);
        for place in (0..header).chain((header..whole.len()).step_by(53)) {
            let mut spoiled = whole.clone();
            spoiled[place] ^= 1 << (place % 8);
            // A flip may be harmless (a space in the header) but never unnoticed in the state.
            if let Ok(state) = decode(&spoiled) {
                assert_eq!(state, expected, "flipped at {place}");
            }
        }
    }

    #[test]
    fn a_torn_newest_is_skipped_for_the_one_before() {
        let fixture = Fixture::new();
        fixture.save(10);
        let newest = fixture.save(20);
        let length = fs::metadata(&newest).unwrap().len();
        File::options().write(true).open(&newest).unwrap().set_len(length / 2).unwrap();
        fs::write(fixture.folder.path().join("step-00000030.safetensors.partial"), "x").unwrap();
        let (step, skipped) = fixture.load();
        assert_eq!(step, Some(10));
        assert!(skipped[0].starts_with("step-00000020.safetensors: it is torn"), "{skipped:?}");
        assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn a_replica_that_comes_back_clears_away_only_its_own_leftovers() {
        let fixture = Fixture::new();
        for replica in [1, 11] {
            let name = format!("step-00000030.safetensors.replica-{replica}.epoch-2.partial");
            fs::write(fixture.folder.path().join(name), "x").unwrap();
        }
        let store =
            Store::open_beside_others(fixture.folder.path(), &fixture.config, 1, 3).unwrap();
        store.save(&fixture.state(30), &fixture.layout, "text").unwrap();
        assert!(store.has(30) && !store.has(31));
        let mut names: Vec<_> = fs::read_dir(fixture.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let other = "step-00000030.safetensors.replica-11.epoch-2.partial";
        assert_eq!(names, ["step-00000030.safetensors", other]);
        // Whoever begins an attempt of its own finds nobody else at work.
        fixture.store();
        assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_checkpoint_of_another_run_is_not_loaded() {
        let mut fixture = Fixture::new();
        fixture.save(10);
        fixture.config.seed += 1;
        let (step, skipped) = fixture.load();
        assert_eq!(step, None);
        assert!(skipped[0].contains("--seed is 1 there and 2 here"), "{skipped:?}");
    }

    #[test]
    fn the_corpus_of_the_first_start_stays() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.store().stored_corpus().unwrap(), None);
        fixture.store().store_corpus(b"first").unwrap();
        assert_eq!(fixture.store().stored_corpus().unwrap().unwrap(), b"first");
        fs::write(fixture.folder.path().join("corpus"), "spoiled").unwrap();
        let error = fixture.store().stored_corpus().unwrap_err();
        assert!(matches!(error, Failure::Checkpoint(_)), "{error}");
        fixture.config.width = 8;
        let error = fixture.store().stored_corpus().unwrap_err().to_string();
        assert!(error.contains("another run: --width is 4 there and 8 here"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_one_clear_error() {
        let fixture = Fixture::new();
        let file = fixture.folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = Store::open(&file.join("sub"), &fixture.config).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("file/sub"), "{error}");
    }
}
