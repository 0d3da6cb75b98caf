//! What the simulated platter holds, and what it would hold after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{Fault, Tail};

pub(super) type FileId = usize;

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub files: BTreeMap<FileId, FileState>,
    pub next_file: FileId,
    pub names: BTreeMap<String, FileId>,
    pub durable_names: BTreeMap<String, FileId>,
    pub pending_names: Vec<NameChange>,
    pub life: u64,
    pub locked: bool,
    pub capacity: Option<u64>,
    pub faults: BTreeMap<Fault, u32>,
    /// Changes to the disk that still go well before the power goes.
    pub power_left: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    /// What reads see.
    pub bytes: Vec<u8>,
    /// What the platter has.
    pub durable: Vec<u8>,
    pub pending: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link(String, FileId),
    Unlink(String),
    /// A name moves with the file that had it: folders name files, not names.
    Rename(String, String, FileId),
}

impl Change {
    /// In how many steps a crash can find it: a write may stop at any byte.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Write { bytes, .. } => bytes.len() as u64,
            Self::Truncate(_) => 1,
        }
    }

    pub fn apply(&self, to: &mut Vec<u8>, steps: u64) {
        match self {
            Self::Write { offset, bytes } => {
                let written = &bytes[..bytes.len().min(steps as usize)];
                let end = offset + written.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(written);
            }
            Self::Truncate(length) => to.truncate(*length),
        }
    }
}

impl NameChange {
    pub fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Link(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, id) => {
                if names.get(from) == Some(id) {
                    names.remove(from);
                }
                names.insert(to.clone(), *id);
            }
        }
    }
}

impl FileState {
    /// Keep an arbitrary part of what no sync covered.
    pub fn crash(&mut self, tail: Tail, pick: &mut dyn FnMut(u64) -> u64) {
        let steps_all = self.pending.iter().map(Change::steps).sum();
        let mut steps = match tail {
            Tail::Cut => pick(steps_all).min(steps_all),
            Tail::Garbled => steps_all,
        };
        let synced = self.durable.len();
        for change in std::mem::take(&mut self.pending) {
            if steps == 0 {
                break;
            }
            let now = steps.min(change.steps());
            change.apply(&mut self.durable, now);
            steps -= now;
        }
        if tail == Tail::Garbled && self.durable.len() > synced {
            let last = (self.durable.len() - synced - 1) as u64;
            let at = synced + pick(last).min(last) as usize;
            self.durable[at] ^= 1 << (pick(7) % 8);
        }
        self.bytes.clone_from(&self.durable);
    }
}

impl State {
    pub fn id(&self, name: &str) -> io::Result<FileId> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no file {name}")))
    }

    pub fn file(&mut self, id: FileId) -> &mut FileState {
        self.files.get_mut(&id).expect("ids come from the names")
    }

    pub fn new_file(&mut self, file: FileState) -> FileId {
        self.next_file += 1;
        self.files.insert(self.next_file, file);
        self.next_file
    }

    /// Forget the files that no name can bring back.
    pub fn forget_unnamed(&mut self) {
        let named: BTreeSet<_> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
    }

    pub fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    pub fn used(&self) -> u64 {
        let sizes = self.names.values().map(|id| self.files[id].bytes.len() as u64);
        sizes.sum()
    }

    pub fn free(&self) -> Option<u64> {
        Some(self.capacity?.saturating_sub(self.used()))
    }

    /// Count down to an injected fault.
    pub fn trip(&mut self, fault: Fault) -> bool {
        match self.faults.get_mut(&fault) {
            Some(0) => {
                self.faults.remove(&fault);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    pub fn write(&mut self, id: FileId, offset: usize, bytes: &[u8]) {
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        change.apply(&mut self.file(id).bytes, u64::MAX);
        self.file(id).pending.push(change);
    }

    pub fn truncate(&mut self, id: FileId, length: usize) {
        let change = Change::Truncate(length);
        change.apply(&mut self.file(id).bytes, 1);
        self.file(id).pending.push(change);
    }
}
