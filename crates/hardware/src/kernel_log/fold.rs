//! Errors that only follow from an earlier one of the same device.
//!
//! One broken GPU writes many lines: the error, the channels that were torn down for it, what has
//! to be done to recover. All but the first name it as their cause, so that nobody counts them.

use super::catalogue::Kind;
use super::xid::{self, Numbered};
use std::collections::VecDeque;
use std::time::Duration;

/// Errors of one fault come within moments; a row of resets takes a minute.
const SPAN: Duration = Duration::from_secs(60);
/// The same where lines have no times: a fault of eight GPUs writes some dozens of lines.
const SPAN_LINES: u64 = 200;
/// A log full of errors does not make the memory grow.
const REMEMBERED_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Seen {
    kind: Kind,
    code: u32,
    domain_bus_device: (u32, u8, u8),
    at: Option<Duration>,
    line: u64,
}

/// The causes of the last moments.
#[derive(Debug, Default)]
pub struct Memory {
    seen: VecDeque<Seen>,
}

impl Memory {
    /// Names the cause of what follows from something, and remembers what may be a cause itself.
    pub fn fold(&mut self, numbered: &mut Numbered, at: Option<Duration>, line: u64) {
        let device = (numbered.pci.domain, numbered.pci.bus, numbered.pci.device);
        self.seen.retain(|seen| is_near(seen, at, line));
        if numbered.finding.cause.is_none() {
            // The oldest: it began there.
            let cause = self.seen.iter().find(|seen| {
                seen.domain_bus_device == device
                    && seen.kind == numbered.kind
                    && explains(seen, numbered)
            });
            numbered.finding.cause = cause.map(|seen| xid::class(seen.kind, seen.code));
        }
        if numbered.finding.cause.is_none() {
            self.seen.push_back(Seen {
                kind: numbered.kind,
                code: numbered.code,
                domain_bus_device: device,
                at,
                line,
            });
            if self.seen.len() > REMEMBERED_MAX {
                self.seen.pop_front();
            }
        }
    }
}

fn explains(seen: &Seen, numbered: &Numbered) -> bool {
    if seen.code == numbered.code {
        return numbered.is_detail;
    }
    numbered.follows.includes(seen.code)
}

fn is_near(seen: &Seen, at: Option<Duration>, line: u64) -> bool {
    match (seen.at, at) {
        // A clock that went back is another boot.
        (Some(then), Some(now)) => now.checked_sub(then).is_some_and(|since| since <= SPAN),
        _ => line.saturating_sub(seen.line) <= SPAN_LINES,
    }
}
