//! A folder of the operating system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::{Disk, Locked};

const LOCK_FILE: &str = "LOCK";

/// A folder on a real disk.
///
/// Only one writer may have it: the `LOCK` file is held with `flock(2)`, which the kernel lets go
/// when the process ends, however it ends. The file itself stays; removing it would race.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    lock: Option<File>,
    /// The file last written to: a segment takes a hundred thousand writes before the next.
    open: Option<(String, File)>,
}

impl RealDisk {
    /// The folder at `folder`, made with its parents if it is not there.
    pub fn create(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        if !folder.is_dir() {
            fs::create_dir_all(&folder)?;
            // The new names must outlive a crash as surely as what is written under them.
            for parent in folder.ancestors().skip(1) {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                match File::open(parent).and_then(|parent| parent.sync_all()) {
                    Ok(()) => {}
                    // Folders above that this user may not read were not made by this call.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Self::existing(folder)
    }

    /// The folder at `folder`, which must be there.
    pub fn existing(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        if !fs::metadata(&folder)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { folder, lock: None, open: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn writable(&mut self, name: &str) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new().write(true).open(self.path(name))?;
            self.open = Some((name.to_owned(), file));
        }
        Ok(&self.open.as_ref().expect("set above").1)
    }

    /// Forget the open handle of a file that is about to lose its name.
    fn close(&mut self, name: &str) {
        if self.open.as_ref().is_some_and(|(open, _)| open == name) {
            self.open = None;
        }
    }
}

impl Disk for RealDisk {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock(&mut self) -> io::Result<Locked> {
        if self.lock.is_some() {
            return Ok(Locked::Held);
        }
        let path = self.path(LOCK_FILE);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let owner = fs::read_to_string(&path).ok();
                return Ok(Locked::InUse(owner.and_then(|pid| pid.trim().parse().ok())));
            }
            Err(error) => return Err(error.into()),
        }
        // The pid is a courtesy: a disk too full to hold it must not keep a journal from opening.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        self.lock = Some(file);
        Ok(Locked::Held)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Names that are not UTF-8 are not ours.
            if let (true, Ok(name)) =
                (entry.file_type()?.is_file(), entry.file_name().into_string())
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).open(self.path(name))?;
        self.open = Some((name.to_owned(), file));
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable(name)?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.writable(name)?.set_len(length)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        // fdatasync: a longer file's length is data to it, the time it was changed is not.
        self.writable(name)?.sync_data()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.close(from);
        self.close(to);
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.close(name);
        fs::remove_file(self.path(name))
    }

    fn available(&self) -> Option<u64> {
        let stat = statvfs(&self.folder).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
