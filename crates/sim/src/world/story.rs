//! What went before a violation: the last faults that struck, and the last that the core said.

use super::World;
use crate::scenario::{clock, fault_words};
use lindos_model::{Time, TrailEntry, TrailKind};
use serde::Serialize;
use std::any::Any;
use std::fmt;

/// So many lines before a violation are told.
const LINES: usize = 20;

/// A checker that is not content, or a panic of the core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub what: String,
    /// What happened last, in this order: at most 20 lines.
    pub before: Vec<Line>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Virtual time in milliseconds: of a fault, the world's; of what the core said, by the control
    /// plane's clock, which may lean.
    pub at_ms: u64,
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", clock(Time(self.at_ms)), self.what)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.before.is_empty() {
            f.write_str("\nbefore it:")?;
        }
        self.before.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl Violation {
    /// Of a panic, and of the world in which it came.
    pub(super) fn new(panic: &(dyn Any + Send), world: Option<&World>) -> Violation {
        Violation { what: words_of(panic), before: world.map_or(Vec::new(), World::last_lines) }
    }
}

/// The words of a panic.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_string()
}

impl World {
    /// A fault of the setup strikes now.
    pub(super) fn note_strike(&mut self, fault: usize) {
        self.struck.push((self.trail.len(), self.now, fault));
    }

    fn last_lines(&self) -> Vec<Line> {
        // What the core said in the very step of the violation has not been looked at yet.
        let seen = self.trail.last().map_or(0, |entry| entry.seq);
        let fresh = self.control.iter().flat_map(|control| control.core.trail_after(seen));
        let said: Vec<&TrailEntry> = self.trail.iter().chain(fresh).collect();
        let mut struck = self.struck.iter().rev().peekable();
        let mut lines = Vec::new();
        // Backwards: the last come first.
        for (place, entry) in said.iter().enumerate().rev() {
            while let Some((_, at, fault)) = struck.next_if(|(since, ..)| *since > place) {
                lines.push(self.struck_line(*at, *fault));
            }
            if lines.len() >= LINES {
                break;
            }
            // A large gang would leave room for nothing else.
            if !matches!(entry.what, TrailKind::RankStarted { .. }) {
                lines.push(Line { at_ms: entry.at.0, what: entry.to_string() });
            }
        }
        lines.extend(struck.map(|(_, at, fault)| self.struck_line(*at, *fault)));
        lines.truncate(LINES);
        lines.reverse();
        lines
    }

    fn struck_line(&self, at: Time, fault: usize) -> Line {
        let what = format!("fault: {}", fault_words(&self.setup.faults[fault].kind));
        Line { at_ms: at.0, what }
    }
}
