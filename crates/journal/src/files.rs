//! The names of the journal's files, and the one way a file comes to its name.

use std::io;

use crate::Seq;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{FORMAT_VERSION, HeaderError};

const UNFINISHED: &str = ".tmp";

/// The two kinds of files; both are named by a record's number, so that names sort as records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment,
    Snapshot,
}

impl FileKind {
    fn extension(self) -> &'static str {
        match self {
            Self::Segment => ".journal",
            Self::Snapshot => ".snapshot",
        }
    }

    pub fn name(self, seq: Seq) -> String {
        format!("{:020}{}", seq.0, self.extension())
    }

    fn parse(self, name: &str) -> Option<Seq> {
        let digits = name.strip_suffix(self.extension())?;
        let ours = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
        // The last number of all has no successor, and so names nothing.
        let seq = digits.parse().ok().filter(|seq| *seq < u64::MAX);
        seq.filter(|_| ours).map(Seq)
    }
}

/// What a folder holds, by name. Files that are not ours are left alone.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub segments: Vec<Seq>,
    pub snapshots: Vec<Seq>,
    /// Files that a crash left without their name.
    pub unfinished: Vec<String>,
}

impl Listing {
    pub fn of<D: Disk>(disk: &D) -> Result<Self> {
        let mut listing = Self::default();
        let names = disk.list().map_err(|source| Error::Io {
            action: "list",
            path: disk.folder().to_owned(),
            source,
        })?;
        for name in names {
            if let Some(seq) = FileKind::Segment.parse(&name) {
                listing.segments.push(seq);
            } else if let Some(seq) = FileKind::Snapshot.parse(&name) {
                listing.snapshots.push(seq);
            } else if let Some(stem) = name.strip_suffix(UNFINISHED) {
                let kinds = [FileKind::Segment, FileKind::Snapshot];
                if kinds.iter().any(|kind| kind.parse(stem).is_some()) {
                    listing.unfinished.push(name);
                }
            }
        }
        listing.segments.sort_unstable();
        listing.snapshots.sort_unstable();
        Ok(listing)
    }
}

/// Why [`publish`] failed.
pub(crate) enum PublishError {
    /// The file does not have its name; it is as if nothing had happened.
    NotNamed(Error),
    /// It has its name, but perhaps not after a crash.
    NameNotSynced(io::Error),
}

/// Write a file beside its name, make it durable, and give it its name: under a name there is
/// never half a file.
pub(crate) fn publish<D: Disk>(
    disk: &mut D,
    name: &str,
    parts: &[&[u8]],
) -> std::result::Result<(), PublishError> {
    let unfinished = format!("{name}{UNFINISHED}");
    let needed = parts.iter().map(|part| part.len() as u64).sum();
    let mut write = || {
        disk.create(&unfinished)?;
        let mut offset = 0;
        for part in parts {
            disk.write_at(&unfinished, offset, part)?;
            offset += part.len() as u64;
        }
        disk.sync(&unfinished)?;
        disk.rename(&unfinished, name)
    };
    if let Err(source) = write() {
        // At the next opening it is removed anyway; here it may make room.
        let _ = disk.remove(&unfinished);
        let error = write_error(disk, name, needed, source);
        return Err(PublishError::NotNamed(error));
    }
    disk.sync_folder().map_err(PublishError::NameNotSynced)
}

pub(crate) fn io_error<D: Disk>(
    disk: &D,
    action: &'static str,
    name: &str,
    source: io::Error,
) -> Error {
    Error::Io { action, path: disk.folder().join(name), source }
}

/// The error of a write that needed room for `needed` bytes.
pub(crate) fn write_error<D: Disk>(disk: &D, name: &str, needed: u64, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
            folder: disk.folder().to_owned(),
            needed,
            available: disk.available(),
        },
        _ => io_error(disk, "write", name, source),
    }
}

/// The error for a header of a newer version; `None` when the header is merely damaged.
pub(crate) fn refused_header<D: Disk>(disk: &D, name: &str, error: &HeaderError) -> Option<Error> {
    match error {
        HeaderError::Newer(found) => Some(Error::NewerFormat {
            file: disk.folder().join(name),
            found: *found,
            supported: FORMAT_VERSION,
        }),
        HeaderError::Bad(_) => None,
    }
}
