//! A folder in memory that remembers what a crash would leave of it.
//!
//! It is as unkind as POSIX allows where the journal could lean on kindness: a new file is not
//! there after a crash until the *folder* is synced, and a sync that failed has forgotten what
//! it did not write, as on Linux, so that the next one succeeds and the bytes are still not on
//! the disk. It is kind in one thing: bytes that are overwritten by the same bytes are not
//! harmed by a crash in between.

mod state;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, Locked};
use state::{FileState, NameChange, State};

/// A handle on a simulated folder. Clones see the same folder.
#[derive(Debug)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    folder: PathBuf,
    /// The machine's life that this handle belongs to; a crash begins the next.
    life: u64,
    holds_lock: bool,
}

/// What a crash leaves of the bytes that no sync had covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// An arbitrary prefix of what was written, in the order it was written.
    Cut,
    /// All the length, with one byte of it flipped: a disk that lies, or writes out of order.
    Garbled,
}

/// An operation that can be made to fail once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// [`Disk::create`].
    Create,
    /// [`Disk::write_at`]; half of the bytes are written.
    Write,
    /// [`Disk::truncate`].
    Truncate,
    /// [`Disk::sync`]; what was to be synced is forgotten.
    Sync,
    /// [`Disk::sync_folder`].
    SyncFolder,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
}

fn injected() -> io::Error {
    io::Error::other("input/output error (injected)")
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for MemoryDisk {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            folder: self.folder.clone(),
            life: self.life,
            holds_lock: false,
        }
    }
}

impl Drop for MemoryDisk {
    fn drop(&mut self) {
        let mut state = self.any_life();
        if self.holds_lock && state.life == self.life {
            state.locked = false;
        }
    }
}

impl MemoryDisk {
    /// An empty folder without bounds.
    pub fn new() -> Self {
        Self { state: Arc::default(), folder: PathBuf::from("memory"), life: 0, holds_lock: false }
    }

    /// A separate folder with the same bytes, durable and not.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.any_life().clone();
        state.locked = false;
        Self {
            life: state.life,
            state: Arc::new(Mutex::new(state)),
            folder: self.folder.clone(),
            holds_lock: false,
        }
    }

    /// The machine loses power. What was synced stays; of the rest, `pick(n)` chooses how much,
    /// a number from 0 to `n`: how many bytes of each file's writes, in their order, and whether
    /// each change of a name, in no order at all. Handles from before are dead, but for this one.
    pub fn crash(&mut self, tail: Tail, mut pick: impl FnMut(u64) -> u64) {
        let mut state = self.any_life();
        for file in state.files.values_mut() {
            file.crash(tail, &mut pick);
        }
        for change in std::mem::take(&mut state.pending_names) {
            if pick(1) > 0 {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        state.forget_unnamed();
        state.locked = false;
        state.faults.clear();
        state.power_left = None;
        state.life += 1;
        let life = state.life;
        drop(state);
        self.life = life;
        self.holds_lock = false;
    }

    /// Let all files together hold no more than this; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.any_life().capacity = bytes;
    }

    /// Let `fault` happen once, after it has gone well `after` times.
    pub fn fail(&self, fault: Fault, after: u32) {
        self.any_life().faults.insert(fault, after);
    }

    /// Let the power go after so many more changes (writes, syncs, renames, …): everything fails
    /// from then on, until [`Self::crash`] says what is left. With 0, the next change fails.
    pub fn power_off_after(&self, changes: u32) {
        self.any_life().power_left = Some(changes);
    }

    /// Whether the next change can succeed.
    pub fn has_power(&self) -> bool {
        self.any_life().power_left != Some(0)
    }

    /// Put a file there, durably: how a test damages one.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.any_life();
        let id = state.new_file(FileState {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            pending: Vec::new(),
        });
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }

    /// Every file and its bytes, as reads see them.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.any_life();
        let files = state.names.iter();
        files.map(|(name, id)| (name.clone(), state.files[id].bytes.clone())).collect()
    }

    fn any_life(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.any_life();
        if state.life != self.life {
            return Err(io::Error::other("this handle is from before the crash"));
        }
        Ok(state)
    }

    /// As [`Self::alive`], for a change to the disk.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        match state.power_left.as_mut() {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }

    fn changing_unless(&self, fault: Fault) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.changing()?;
        if state.trip(fault) { Err(injected()) } else { Ok(state) }
    }
}

impl Disk for MemoryDisk {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock(&mut self) -> io::Result<Locked> {
        let mut state = self.alive()?;
        if state.locked && !self.holds_lock {
            return Ok(Locked::InUse(None));
        }
        state.locked = true;
        drop(state);
        self.holds_lock = true;
        Ok(Locked::Held)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let state = self.alive()?;
        Ok(state.files[&state.id(name)?].bytes.len() as u64)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.alive()?;
        Ok(state.files[&state.id(name)?].bytes.clone())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.changing_unless(Fault::Create)?;
        if let Ok(id) = state.id(name) {
            state.truncate(id, 0);
        } else {
            let id = state.new_file(FileState::default());
            state.change_names(NameChange::Link(name.to_owned(), id));
        }
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.changing()?;
        let id = state.id(name)?;
        let start = offset as usize;
        if state.trip(Fault::Write) {
            state.write(id, start, &bytes[..bytes.len() / 2]);
            return Err(injected());
        }
        let growth = (start + bytes.len()).saturating_sub(state.files[&id].bytes.len()) as u64;
        let over = growth.saturating_sub(state.free().unwrap_or(u64::MAX)) as usize;
        state.write(id, start, &bytes[..bytes.len() - over.min(bytes.len())]);
        if over > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let mut state = self.changing_unless(Fault::Truncate)?;
        let id = state.id(name)?;
        state.truncate(id, length as usize);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        let fails = state.trip(Fault::Sync);
        let id = state.id(name)?;
        let pending = std::mem::take(&mut state.file(id).pending);
        if fails {
            return Err(injected());
        }
        for change in pending {
            change.apply(&mut state.file(id).durable, u64::MAX);
        }
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let mut state = self.changing_unless(Fault::SyncFolder)?;
        for change in std::mem::take(&mut state.pending_names) {
            change.apply(&mut state.durable_names);
        }
        state.forget_unnamed();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.changing_unless(Fault::Rename)?;
        let id = state.id(from)?;
        state.change_names(NameChange::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.changing_unless(Fault::Remove)?;
        state.id(name)?;
        state.change_names(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn available(&self) -> Option<u64> {
        self.alive().ok()?.free()
    }
}
