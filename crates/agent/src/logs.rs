//! The output of ranks on disk: written by shims in pieces of bounded size, read back by byte of
//! the rank's whole output.
//!
//! `rank-R.log` grows; when it is full it becomes `rank-R.log.END`, where END counts the bytes of
//! the whole output up to its end. So every piece says by its name and length where it belongs,
//! and no second file can disagree with it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Tries to find a set of files that no rotation changed under our hands.
const READ_TRIES: u32 = 16;
/// Tries to open a new file while the disk is full: one a write.
const LOST_NOTE: &str = "[lindos: output was lost here, the log could not be written]\n";

/// Writes one rank's output. What cannot be written is dropped and counted: a full disk never
/// holds up a rank.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of output before the current file.
    start: u64,
    /// Bytes in the current file.
    length: u64,
    bytes_max: u64,
    files_max: u32,
    lost_bytes: u64,
    /// The last write failed.
    failing: bool,
}

pub fn log_name(rank: lindos_model::Rank) -> String {
    format!("rank-{rank}.log")
}

impl LogWriter {
    /// At most `files_max` files of at most `bytes_max` bytes.
    pub fn new(dir: &Path, rank: lindos_model::Rank, bytes_max: u64, files_max: u32) -> LogWriter {
        let mut writer = LogWriter {
            path: dir.join(log_name(rank)),
            file: None,
            start: 0,
            length: 0,
            bytes_max: bytes_max.max(1),
            files_max: files_max.max(1),
            lost_bytes: 0,
            failing: false,
        };
        // Also a rank that says nothing has a log.
        let _ = writer.open();
        writer
    }

    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    pub fn write(&mut self, bytes: &[u8]) {
        if self.failing {
            if self.write_pieces(LOST_NOTE.as_bytes()) > 0 {
                self.lost_bytes += bytes.len() as u64;
                return;
            }
            self.failing = false;
        }
        let lost = self.write_pieces(bytes);
        if lost > 0 {
            self.failing = true;
            self.lost_bytes += lost as u64;
        }
    }

    /// Returns how many bytes at the end could not be written.
    fn write_pieces(&mut self, mut bytes: &[u8]) -> usize {
        while !bytes.is_empty() {
            let room = usize::try_from(self.bytes_max - self.length).unwrap_or(usize::MAX);
            let piece = self.piece(bytes, room);
            if piece == 0 {
                if self.rotate().is_err() {
                    return bytes.len();
                }
                continue;
            }
            match self.write_once(&bytes[..piece]) {
                Ok(0) | Err(_) => return bytes.len(),
                Ok(written) => {
                    self.length += written as u64;
                    bytes = &bytes[written..];
                }
            }
        }
        0
    }

    /// How much of `bytes` goes into the current file: all, or up to the end of the last line
    /// that fits, or, for a line longer than a file, what fits.
    fn piece(&self, bytes: &[u8], room: usize) -> usize {
        if bytes.len() <= room {
            return bytes.len();
        }
        match bytes[..room].iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.length > 0 && (bytes.len() as u64) <= self.bytes_max => 0,
            None => room,
        }
    }

    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.open()?;
        loop {
            match file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(File::options().create(true).append(true).open(&self.path)?);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let end = self.start + self.length;
        let rotated = self.path.with_extension(format!("log.{end}"));
        fs::rename(&self.path, &rotated)?;
        self.file = None;
        self.start = end;
        self.length = 0;
        // The newest must stay, if only as an empty file, because its name says where we are.
        if self.files_max == 1 {
            let _ = File::options().write(true).truncate(true).open(&rotated);
        }
        let keep = self.files_max.saturating_sub(1).max(1) as usize;
        let mut ends = rotated_ends(&self.path);
        let surplus = ends.len().saturating_sub(keep);
        for end in ends.drain(..surplus) {
            let _ = fs::remove_file(self.path.with_extension(format!("log.{end}")));
        }
        Ok(())
    }
}

/// The ends of the older pieces, in order.
fn rotated_ends(path: &Path) -> Vec<u64> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut ends: Vec<u64> = entries
        .filter_map(|entry| {
            let file = entry.ok()?.file_name();
            file.to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse().ok()
        })
        .collect();
    ends.sort_unstable();
    ends
}

/// A piece of a rank's output, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The end of all that there is now.
    pub total: u64,
}

/// Reads from byte `offset` on, or the last `bytes_max`. Where the beginning was rotated away, it
/// starts with the first byte that is left. `None`: this rank has no log here.
pub fn read(
    dir: &Path,
    rank: lindos_model::Rank,
    offset: Option<u64>,
    bytes_max: u64,
) -> io::Result<Option<Piece>> {
    let path = dir.join(log_name(rank));
    let Some(mut files) = open_all(&path)? else { return Ok(None) };
    let total = files.last().map_or(0, |last| last.start + last.length);
    let first = files.first().map_or(0, |first| first.start);
    let from = offset.unwrap_or_else(|| total.saturating_sub(bytes_max)).clamp(first, total);
    let to = from.saturating_add(bytes_max).min(total);
    let mut bytes = Vec::with_capacity((to - from) as usize);
    for file in &mut files {
        let begin = from.max(file.start);
        let end = to.min(file.start + file.length);
        if begin < end {
            file.file.seek(SeekFrom::Start(begin - file.start))?;
            (&mut file.file).take(end - begin).read_to_end(&mut bytes)?;
        }
    }
    Ok(Some(Piece { offset: from, bytes, total }))
}

struct Opened {
    file: File,
    start: u64,
    length: u64,
}

fn open_all(path: &Path) -> io::Result<Option<Vec<Opened>>> {
    for _ in 0..READ_TRIES {
        let ends = rotated_ends(path);
        let mut files = Vec::new();
        for end in &ends {
            let Ok(file) = File::open(path.with_extension(format!("log.{end}"))) else { continue };
            let length = file.metadata()?.len();
            files.push(Opened { file, start: end.saturating_sub(length), length });
        }
        let start = ends.last().copied().unwrap_or(0);
        match File::open(path) {
            Ok(file) => {
                let length = file.metadata()?.len();
                files.push(Opened { file, start, length });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if ends.is_empty() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
        if rotated_ends(path) == ends && files.windows(2).all(|pair| touch(&pair[0], &pair[1])) {
            return Ok(Some(files));
        }
    }
    Err(io::Error::other("the log is being rotated too fast to read; ask again"))
}

fn touch(before: &Opened, after: &Opened) -> bool {
    before.start + before.length == after.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::Rank;
    use proptest::prelude::*;

    fn text(piece: &Piece) -> &str {
        std::str::from_utf8(&piece.bytes).unwrap()
    }

    #[test]
    fn pieces_are_read_as_one_output() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), Rank(3), None, 10).unwrap(), None);
        let mut log = LogWriter::new(dir.path(), Rank(3), 8, 3);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "seven\n"] {
            log.write(line.as_bytes());
        }
        // Of "one two|three|four|five six|seven", three files are left.
        let all = read(dir.path(), Rank(3), Some(0), 100).unwrap().unwrap();
        assert_eq!((text(&all), all.offset, all.total), ("five\nsix\nseven\n", 19, 34));
        let part = read(dir.path(), Rank(3), Some(22), 6).unwrap().unwrap();
        assert_eq!((text(&part), part.offset), ("e\nsix\n", 22));
        let tail = read(dir.path(), Rank(3), None, 4).unwrap().unwrap();
        assert_eq!((text(&tail), tail.offset), ("ven\n", 30));
        let after = read(dir.path(), Rank(3), Some(1000), 4).unwrap().unwrap();
        assert_eq!((text(&after), after.offset), ("", 34));
    }

    #[test]
    fn one_file_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::new(dir.path(), Rank(0), 8, 1);
        log.write(b"1234567\n1234567\nabc\n");
        let all = read(dir.path(), Rank(0), Some(0), 100).unwrap().unwrap();
        assert_eq!((text(&all), all.offset, all.total), ("abc\n", 16, 20));
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("missing");
        let mut log = LogWriter::new(&folder, Rank(0), 4096, 2);
        log.write(b"abc\n");
        log.write(b"def\n");
        assert_eq!(log.lost_bytes(), 8);
        fs::create_dir(&folder).unwrap();
        log.write(b"ghi\n");
        log.write(b"jkl\n");
        assert_eq!(log.lost_bytes(), 8);
        let all = read(&folder, Rank(0), Some(0), 1000).unwrap().unwrap();
        assert_eq!(text(&all), format!("{LOST_NOTE}ghi\njkl\n"));
    }

    proptest! {
        #[test]
        fn what_is_left_is_always_the_end_of_what_was_written(
            lines in prop::collection::vec("[a-z]{0,12}\n?", 0..60),
            bytes_max in 1u64..20,
            files_max in 1u32..5,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = LogWriter::new(dir.path(), Rank(0), bytes_max, files_max);
            let mut whole = String::new();
            for line in &lines {
                log.write(line.as_bytes());
                whole.push_str(line);
                let all = read(dir.path(), Rank(0), Some(0), 1 << 20).unwrap().unwrap();
                prop_assert_eq!(all.total, whole.len() as u64);
                prop_assert_eq!(text(&all), &whole[all.offset as usize..]);
                prop_assert!(all.bytes.len() as u64 <= bytes_max * u64::from(files_max));
            }
        }
    }
}
