//! A living kernel log: `/dev/kmsg`, or a file that somebody else writes.
//!
//! Nothing here waits: [`LogSource::next`] gives the next line or says that there is none yet.
//! What was overwritten before it was read is counted, not passed over.

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A record of `/dev/kmsg` is at most this long.
const RECORD_BYTES_MAX: usize = 8192;
/// Longer lines of a file are cut there: no driver writes such.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a file that are read at once.
const CHUNK: usize = 16 << 10;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Line(String),
    /// So many records were overwritten before they were read; 0 where nobody knows how many.
    Lost(u64),
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What the log still holds, mostly since the boot.
    Boot,
    /// What is written from now on.
    Now,
}

pub trait LogSource: std::fmt::Debug + Send {
    /// The next line; `None` when there is none yet. An error means that the log cannot be read.
    fn next(&mut self) -> io::Result<Option<Input>>;
}

/// `/dev/kmsg`: a read gives one record.
#[derive(Debug)]
pub struct Kmsg {
    file: OwnedFd,
    expected: Option<u64>,
    waiting: Option<String>,
}

impl Kmsg {
    pub fn open(path: &Path, from: From) -> io::Result<Kmsg> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        if from == From::Now {
            rustix::fs::seek(&file, SeekFrom::End(0))?;
        }
        Ok(Kmsg { file, expected: None, waiting: None })
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; RECORD_BYTES_MAX];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.file, &mut buffer));
        match read {
            Ok(0) | Err(Errno::AGAIN) => Ok(None),
            Ok(bytes) => {
                buffer.truncate(bytes);
                Ok(Some(buffer))
            }
            // Overwritten under us: the next read goes on with the oldest that is left, and its
            // number says how many are gone.
            Err(Errno::PIPE) => self.read(),
            Err(error) => Err(error.into()),
        }
    }
}

impl LogSource for Kmsg {
    fn next(&mut self) -> io::Result<Option<Input>> {
        if let Some(line) = self.waiting.take() {
            return Ok(Some(Input::Line(line)));
        }
        let Some(bytes) = self.read()? else { return Ok(None) };
        let line = first_line(&bytes);
        let sequence = super::record::Record::parse(&line).sequence;
        let lost = gap(self.expected, sequence);
        self.expected = sequence.map(|sequence| sequence + 1).or(self.expected);
        if lost > 0 {
            self.waiting = Some(line);
            return Ok(Some(Input::Lost(lost)));
        }
        Ok(Some(Input::Line(line)))
    }
}

/// The record itself; the lines after it are a dictionary of its device.
fn first_line(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn gap(expected: Option<u64>, sequence: Option<u64>) -> u64 {
    match (expected, sequence) {
        (Some(expected), Some(sequence)) => sequence.saturating_sub(expected),
        _ => 0,
    }
}

/// A file that grows, and may be replaced by a new one of the same name.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: File,
    inode: u64,
    offset: u64,
    partial: Vec<u8>,
    ready: std::collections::VecDeque<String>,
}

impl Follow {
    pub fn open(path: &Path, from: From) -> io::Result<Follow> {
        let mut file = File::open(path)?;
        let offset = if from == From::Now { file.seek(io::SeekFrom::End(0))? } else { 0 };
        let inode = file.metadata()?.ino();
        let path = path.to_path_buf();
        Ok(Follow {
            path,
            file,
            inode,
            offset,
            partial: Vec::new(),
            ready: std::collections::VecDeque::new(),
        })
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        let bytes = self.file.read(&mut chunk)?;
        self.offset += bytes as u64;
        for piece in chunk[..bytes].split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.ready.push_back(String::from_utf8_lossy(&line).trim_end().to_string());
            }
        }
        Ok(())
    }

    /// Whether the file was cut, or another one stands in its place; goes to its beginning then.
    fn was_replaced(&mut self) -> io::Result<bool> {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            // Between two files of a rotation there may be none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if metadata.ino() == self.inode && metadata.len() >= self.offset {
            return Ok(false);
        }
        self.file = File::open(&self.path)?;
        self.inode = self.file.metadata()?.ino();
        self.offset = 0;
        self.partial.clear();
        Ok(true)
    }
}

impl LogSource for Follow {
    fn next(&mut self) -> io::Result<Option<Input>> {
        if self.ready.is_empty() {
            self.read_more()?;
        }
        if self.ready.is_empty() && self.was_replaced()? {
            // What stood at the end of the old file may not have been read.
            return Ok(Some(Input::Lost(0)));
        }
        Ok(self.ready.pop_front().map(Input::Line))
    }
}

/// Opens whatever the path is: the kernel's device, or a file of lines.
pub fn open(path: &Path, from: From) -> io::Result<Box<dyn LogSource>> {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::metadata(path)?.file_type().is_char_device() {
        Ok(Box::new(Kmsg::open(path, from)?))
    } else {
        Ok(Box::new(Follow::open(path, from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(source: &mut dyn LogSource) -> Vec<Input> {
        std::iter::from_fn(|| source.next().unwrap()).collect()
    }

    #[test]
    fn a_file_is_followed_line_by_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "one\ntwo\nthr").unwrap();
        let mut source = open(file.path(), From::Boot).unwrap();
        let line = |text: &str| Input::Line(text.into());
        assert_eq!(lines(source.as_mut()), [line("one"), line("two")]);
        writeln!(file, "ee").unwrap();
        assert_eq!(lines(source.as_mut()), [line("three")]);
        let mut late = open(file.path(), From::Now).unwrap();
        assert_eq!(lines(late.as_mut()), []);
        writeln!(file, "four").unwrap();
        assert_eq!(lines(late.as_mut()), [line("four")]);
    }

    #[test]
    fn a_file_that_was_replaced_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kern.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut source = open(&path, From::Boot).unwrap();
        assert_eq!(lines(source.as_mut()), [Input::Line("old".into())]);
        let next = folder.path().join("next");
        std::fs::write(&next, "new\n").unwrap();
        std::fs::rename(next, &path).unwrap();
        assert_eq!(lines(source.as_mut()), [Input::Lost(0), Input::Line("new".into())]);
    }

    #[test]
    fn what_was_overwritten_is_counted() {
        assert_eq!(gap(Some(7), Some(7)), 0);
        assert_eq!(gap(Some(7), Some(10)), 3);
        assert_eq!(gap(None, Some(10)), 0);
        assert_eq!(gap(Some(7), None), 0);
    }

    #[test]
    fn the_log_of_this_kernel_is_read_where_that_is_allowed() {
        let path = Path::new("/dev/kmsg");
        let Ok(mut source) = Kmsg::open(path, From::Boot) else { return };
        for input in lines(&mut source).into_iter().take(100) {
            if let Input::Line(line) = input {
                let record = super::super::record::Record::parse(&line);
                assert!(record.sequence.is_some(), "{line}");
            }
        }
    }

    #[test]
    fn no_such_log_is_an_error() {
        assert!(open(Path::new("/nonexistent/kmsg"), From::Now).is_err());
    }
}
