//! A piece of a rank's log for the control plane.

use crate::files::{self, NodeDir};
use crate::logs;
use crate::plan::Key;
use lindos_api::agent::{LogChunk, ReadLog};
use lindos_model::Epoch;

/// More is not sent at once, however much is asked for.
const CHUNK_BYTES_MAX: u64 = 1 << 20;

/// `is_running` says of an attempt whether more may come.
pub fn read_log(dir: &NodeDir, ask: &ReadLog, is_running: impl Fn(Key) -> bool) -> LogChunk {
    match find(dir, ask, is_running) {
        Ok(chunk) => chunk,
        Err(error) => LogChunk { request: ask.request, error: Some(error), ..LogChunk::default() },
    }
}

fn find(
    dir: &NodeDir,
    ask: &ReadLog,
    is_running: impl Fn(Key) -> bool,
) -> Result<LogChunk, String> {
    let keys = files::keys_in(&dir.logs());
    let epochs: Vec<Epoch> =
        keys.iter().filter(|key| key.job == ask.job).map(|key| key.epoch).collect();
    // Without a range, the one epoch that is asked for, or any.
    let lowest = ask.epoch_min.or(ask.epoch).unwrap_or(Epoch(0));
    let highest = ask.epoch.unwrap_or(Epoch(u32::MAX));
    let wanted: Vec<Epoch> =
        epochs.into_iter().rev().filter(|it| (lowest..=highest).contains(it)).collect();
    for epoch in wanted {
        let key = Key { job: ask.job, epoch };
        // Asked first: what ends between the two is then only asked for once more.
        let open = is_running(key);
        let bytes_max = ask.bytes_max.clamp(1, CHUNK_BYTES_MAX);
        let piece = logs::read(&dir.log(key), ask.rank, ask.offset, bytes_max)
            .map_err(|error| format!("the log of rank {} cannot be read: {error}", ask.rank))?;
        if let Some(piece) = piece {
            let at_end = piece.offset + piece.bytes.len() as u64 == piece.total;
            let (skipped, text, length) = whole_characters(&piece.bytes, at_end && !open);
            let offset = piece.offset + skipped as u64;
            return Ok(LogChunk {
                request: ask.request,
                epoch: Some(epoch),
                offset,
                end: offset + length as u64,
                text,
                open,
                error: None,
            });
        }
    }
    Err(match ask.epoch {
        Some(epoch) => {
            format!(
                "this node has no log of rank {} in attempt {epoch} of job {}",
                ask.rank, ask.job
            )
        }
        None => format!("this node has no log of rank {} of job {}", ask.rank, ask.job),
    })
}

/// The bytes as text, without the halves of characters at both ends: how many were left out at
/// the beginning, and how long the rest is in bytes. With `is_final` nothing is left out at the
/// end, because nothing comes after it.
fn whole_characters(bytes: &[u8], is_final: bool) -> (usize, String, usize) {
    let is_continuation = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let mut skipped = bytes.iter().take(3).take_while(|byte| is_continuation(byte)).count();
    if skipped == bytes.len() {
        skipped = 0;
    }
    let rest = &bytes[skipped..];
    let mut end = rest.len();
    if !is_final {
        // The last byte that begins a character, if it is one of the last three.
        let tail = rest.iter().rev().take(3).position(|byte| !is_continuation(byte));
        if let Some(back) = tail {
            let lead = rest.len() - 1 - back;
            let length = match rest[lead] {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => 1,
            };
            if lead + length > rest.len() && lead > 0 {
                end = lead;
            }
        }
    }
    (skipped, String::from_utf8_lossy(&rest[..end]).into_owned(), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::{JobId, Rank};

    #[test]
    fn characters_are_not_cut_in_two() {
        let text = "aéz€".as_bytes(); // 1 + 2 + 1 + 3 bytes
        assert_eq!(whole_characters(text, false), (0, "aéz€".into(), 7));
        assert_eq!(whole_characters(&text[..2], false), (0, "a".into(), 1));
        assert_eq!(whole_characters(&text[2..6], false), (1, "z".into(), 1));
        assert_eq!(whole_characters(&text[..6], true), (0, "aéz\u{fffd}".into(), 6));
        assert_eq!(whole_characters(b"\xff\xfe", false), (0, "\u{fffd}\u{fffd}".into(), 2));
        assert_eq!(whole_characters(b"\x80", false), (0, "\u{fffd}".into(), 1));
        assert_eq!(whole_characters(b"", false), (0, String::new(), 0));
    }

    #[test]
    fn the_newest_attempt_that_ran_here_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let dir = NodeDir(folder.path().to_path_buf());
        for (name, text) in [("7-1", "first\n"), ("7-10", "tenth\n"), ("8-2", "other\n")] {
            let log = dir.logs().join(name);
            std::fs::create_dir_all(&log).unwrap();
            std::fs::write(log.join("rank-0.log"), text).unwrap();
        }
        std::fs::create_dir(dir.logs().join("7-11")).unwrap();
        let ask = |epoch: Option<u32>, rank| ReadLog {
            request: 5,
            job: JobId(7),
            epoch: epoch.map(Epoch),
            epoch_min: None,
            rank: Rank(rank),
            offset: None,
            bytes_max: 100,
        };
        let newest = read_log(&dir, &ask(None, 0), |_| false);
        assert_eq!((newest.text.as_str(), newest.epoch), ("tenth\n", Some(Epoch(10))));
        let first = read_log(&dir, &ask(Some(1), 0), |key| key.epoch == Epoch(1));
        assert_eq!((first.text.as_str(), first.offset, first.end), ("first\n", 0, 6));
        assert!(first.open && !newest.open);
        let range = |from, to| ReadLog { epoch_min: Some(Epoch(from)), ..ask(Some(to), 0) };
        assert_eq!(read_log(&dir, &range(1, 9), |_| false).epoch, Some(Epoch(1)));
        assert!(read_log(&dir, &range(2, 9), |_| false).error.is_some());
        let none = read_log(&dir, &ask(Some(1), 9), |_| false);
        assert!(none.error.unwrap().contains("rank 9 in attempt 1 of job 7"));
    }
}
