//! Where ranks stand in a silence, by their own word: the stacks that Python writes when asked.
//!
//! Nobody is traced. A process that can be asked has said so on its rank's socket (the `lindos`
//! package does, with the first step): it has a handler for SIGURG, which writes all stacks into a
//! file in memory. That signal does nothing to a process without a handler. Each silence asks once;
//! what is told is one line.

use lindos_hardware::process::{self, ProcessId};
use lindos_model::{RankStack, StackPlace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

/// The handler writes within microseconds, unless the process is stopped or starved.
const WRITES_WITHIN: Duration = Duration::from_millis(500);
/// Stacks of more threads than fit say nothing new; the main thread stands at the end.
const BYTES_MAX: u64 = 256 << 10;
/// A rank is its process's ancestor within so many generations.
const GENERATIONS_MAX: usize = 16;

/// A process that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pid: u32,
    /// The file in memory, as the process numbers it.
    fd: u32,
}

/// `{"stacks": {"pid": 4711, "fd": 9}}`
pub fn listener(message: &[u8]) -> Option<Listener> {
    // Nearly all messages are steps, and are parsed elsewhere.
    if !message.windows(8).take(64).any(|word| word == b"\"stacks\"") {
        return None;
    }
    let message: Value = serde_json::from_slice(message).ok()?;
    let stacks = message.get("stacks")?;
    let number = |key| u32::try_from(stacks.get(key)?.as_u64()?).ok();
    Some(Listener { pid: number("pid").filter(|pid| *pid > 1)?, fd: number("fd")? })
}

#[derive(Debug, Default)]
pub struct Watch {
    /// By the number of the rank's process.
    asked: BTreeMap<u32, Asked>,
    found: BTreeMap<u32, RankStack>,
    has_asked: bool,
}

#[derive(Debug)]
struct Asked {
    file: File,
    at: Instant,
}

impl Watch {
    pub fn stack(&self, process: ProcessId) -> Option<RankStack> {
        self.found.get(&process.pid).cloned()
    }

    /// The ranks get on.
    pub fn forget(&mut self) {
        *self = Watch::default();
    }

    /// They do not: asks each rank once, and reads what was answered. Whether there is news.
    pub fn look(&mut self, now: Instant, ranks: &[(ProcessId, Option<Listener>)]) -> bool {
        if !self.has_asked {
            self.has_asked = true;
            for (rank, listener) in ranks {
                let asked = listener.and_then(|listener| ask(*rank, listener, now));
                self.asked.extend(asked.map(|asked| (rank.pid, asked)));
            }
            return false;
        }
        let is_due = |asked: &Asked| now.duration_since(asked.at) >= WRITES_WITHIN;
        let due: Vec<u32> =
            self.asked.iter().filter(|(_, asked)| is_due(asked)).map(|(pid, _)| *pid).collect();
        let before = self.found.len();
        for pid in due {
            let stack = self.asked.remove(&pid).and_then(|asked| answer(asked.file));
            self.found.extend(stack.map(|stack| (pid, stack)));
        }
        self.found.len() > before
    }
}

/// Asks a process of a rank. `None`: it is none of the rank's, or not there.
fn ask(rank: ProcessId, listener: Listener, now: Instant) -> Option<Asked> {
    let mut pid = listener.pid;
    let is_of_it = (0..GENERATIONS_MAX).any(|_| {
        let is_it = pid == rank.pid;
        pid = process::stat(pid).map_or(0, |stat| stat.parent);
        is_it
    });
    let process = ProcessId::of(listener.pid).filter(|_| is_of_it)?;
    let mut file = File::open(format!("/proc/{}/fd/{}", process.pid, listener.fd)).ok()?;
    // Whatever else that number is now: a pipe would be waited for, and a device has no length.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.seek(SeekFrom::End(0)).ok()?;
    process::ask_verified(process).ok()?.then_some(Asked { file, at: now })
}

fn answer(file: File) -> Option<RankStack> {
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    digest(&String::from_utf8_lossy(&text))
}

/// The main thread's stack, which stands last, as one line: the innermost frame that says what it
/// waits for, or else the innermost.
pub fn digest(stacks: &str) -> Option<RankStack> {
    let main = stacks.rfind("(most recent call first):").map(|at| &stacks[at..])?;
    let frames: Vec<Frame> = main.lines().filter_map(frame).collect();
    let telling = frames.iter().find_map(|frame| Some((frame, frame.place()?)));
    let (frame, place) = telling.or_else(|| Some((frames.first()?, StackPlace::Elsewhere)))?;
    let name = frame.file.rsplit('/').next().unwrap_or_default();
    let mut at = format!("{} ({name}:{})", frame.function, frame.line);
    at.retain(|c| !c.is_control());
    while at.len() > RankStack::AT_MAX {
        at.pop();
    }
    Some(RankStack { place, at })
}

struct Frame<'a> {
    file: &'a str,
    line: &'a str,
    function: &'a str,
}

/// `  File "/x/train.py", line 12 in step`, as `faulthandler` writes it.
fn frame(line: &str) -> Option<Frame<'_>> {
    let rest = line.trim_start().strip_prefix("File \"")?;
    let (file, rest) = rest.rsplit_once("\", line ")?;
    let (line, function) = rest.split_once(" in ")?;
    Some(Frame { file, line, function })
}

/// What moves data between all ranks, whoever wrote it.
const COLLECTIVES: [&str; 9] = [
    "all_reduce",
    "allreduce",
    "all_gather",
    "allgather",
    "reduce_scatter",
    "all_to_all",
    "barrier",
    "sync_global_devices",
    "broadcast",
];
/// Where batches come from.
const DATA: [&str; 4] = ["dataloader", "torch/utils/data", "webdataset", "/datasets/"];
/// What writes and reads files.
const STORAGE: [&str; 5] = ["checkpoint", "serialization", "safetensors", "fsync", "save"];

impl Frame<'_> {
    fn place(&self) -> Option<StackPlace> {
        let function = self.function.to_ascii_lowercase();
        let file = self.file.to_ascii_lowercase();
        if COLLECTIVES.iter().any(|name| function.trim_start_matches('_').starts_with(name)) {
            Some(StackPlace::Collective)
        } else if DATA.iter().any(|name| file.contains(name)) {
            Some(StackPlace::Data)
        } else if STORAGE
            .iter()
            .any(|name| function.contains(name) || file.ends_with(&format!("{name}.py")))
        {
            Some(StackPlace::Storage)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn at(frames: &[(&str, u32, &str)]) -> (StackPlace, String) {
        let mut text = "Thread 0x00007f1 (most recent call first):\n  File \"/a/feed.py\", line 3 \
                        in barrier\n\nCurrent thread 0x00007f0 (most recent call first):\n"
            .to_string();
        for (file, line, function) in frames {
            let _ = writeln!(text, "  File \"{file}\", line {line} in {function}");
        }
        let stack = digest(&text).unwrap();
        (stack.place, stack.at)
    }

    #[test]
    fn the_innermost_frame_that_says_what_is_waited_for_is_told() {
        let c10d = "/usr/lib/python3/torch/distributed/distributed_c10d.py";
        let collective =
            at(&[(c10d, 4, "wrapper"), (c10d, 2501, "all_reduce"), ("/x/t.py", 9, "main")]);
        assert_eq!(
            collective,
            (StackPlace::Collective, "all_reduce (distributed_c10d.py:2501)".to_string())
        );
        let loader = "/usr/lib/python3/torch/utils/data/dataloader.py";
        assert_eq!(at(&[(loader, 1, "_try_get_data"), ("/x/t.py", 9, "main")]).0, StackPlace::Data);
        let saves =
            [("/usr/lib/python3/torch/serialization.py", 8, "_save"), ("/x/t.py", 9, "main")];
        assert_eq!(at(&saves).0, StackPlace::Storage);
        let own = at(&[("/x/t.py", 12, "shuffle"), ("/x/t.py", 9, "main")]);
        assert_eq!(own, (StackPlace::Elsewhere, "shuffle (t.py:12)".to_string()));
    }

    #[test]
    fn what_is_no_stack_is_none_and_what_is_long_is_cut() {
        for nothing in ["", "Segmentation fault", "(most recent call first):\n"] {
            assert_eq!(digest(nothing), None);
        }
        let long = at(&[("/x/t.py", 1, &"ä".repeat(500))]).1;
        assert!(long.len() <= RankStack::AT_MAX);
    }

    #[test]
    fn only_who_says_so_is_asked() {
        let said = listener(br#"{"stacks":{"pid":4711,"fd":9}}"#);
        assert_eq!(said, Some(Listener { pid: 4711, fd: 9 }));
        for other in [
            &br#"{"step":4,"loss":2.5}"#[..],
            br#"{"stacks":7}"#,
            br#"{"stacks":{"pid":1,"fd":2}}"#,
            br#"{"stacks":{"pid":-4,"fd":2}}"#,
            br#"{"stacks""#,
        ] {
            assert_eq!(listener(other), None);
        }
        // A process of somebody else, and one that does not listen there.
        let own = ProcessId::current();
        let foreign = Listener { pid: 1.max(own.pid - 1), fd: 0 };
        assert!(ask(own, foreign, Instant::now()).is_none());
        assert!(ask(own, Listener { pid: own.pid, fd: 99_999 }, Instant::now()).is_none());
    }
}
