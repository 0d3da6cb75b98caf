//! One agent a node folder.

use crate::files::NodeDir;
use anyhow::Context as _;
use lindos_hardware::process::ProcessId;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

const TAKE_TIMEOUT: Duration = Duration::from_millis(500);
const TAKE_INTERVAL: Duration = Duration::from_millis(5);

/// Held for as long as this lives; the kernel lets go of it when the process ends, however.
#[derive(Debug)]
pub struct NodeLock {
    file: File,
}

/// Closing the file would do, were it not for a child that another thread is just starting: until
/// it executes its program, it holds a copy.
impl Drop for NodeLock {
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl NodeLock {
    /// As [`NodeLock::take`], but gives an agent that was just killed, or that is just ending,
    /// the time to let go.
    pub fn take_soon(dir: &NodeDir) -> anyhow::Result<Result<NodeLock, Option<ProcessId>>> {
        let deadline = Instant::now() + TAKE_TIMEOUT;
        loop {
            let taken = NodeLock::take(dir)?;
            if taken.is_ok() || Instant::now() >= deadline {
                return Ok(taken);
            }
            std::thread::sleep(TAKE_INTERVAL);
        }
    }

    /// The inner error is who holds it, as far as they have said.
    pub fn take(dir: &NodeDir) -> anyhow::Result<Result<NodeLock, Option<ProcessId>>> {
        let path = dir.lock();
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Ok(Err(parse(&text)));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let own = ProcessId::current();
        // Not to be able to say who we are is no reason not to work.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = file.write_all(format!("{} {}\n", own.pid, own.start_time).as_bytes());
        Ok(Ok(NodeLock { file }))
    }
}

fn parse(text: &str) -> Option<ProcessId> {
    let (pid, start_time) = text.trim().split_once(' ')?;
    Some(ProcessId { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
}
