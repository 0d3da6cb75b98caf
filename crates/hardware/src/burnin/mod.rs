//! Whether a node computes, keeps and carries bits rightly, and as fast as it should.
//!
//! Each part has a file: [`cpu`], [`memory`], [`disk`], [`network`] and [`gpu`]. They share one
//! rule: whatever comes out is compared bit for bit with what is known beforehand, and a part that
//! is not there, or cannot be reached, is skipped with the reason. [`expected`] has the figures
//! that speeds are held against, [`seal`] the signature of the report. No control plane takes part.

pub mod cpu;
pub mod disk;
pub mod expected;
pub mod gpu;
mod kernel;
pub mod machine;
pub mod memory;
pub mod network;
mod planted;
mod room;
pub mod seal;
mod stream;

pub use expected::Expected;
pub use planted::Planted;

use std::fmt;
use std::fs::File;
use std::time::{Duration, Instant};

/// How long a test may go on. What it has begun it carries to an end that means something.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    until: Instant,
    span: Duration,
}

impl Limit {
    /// From now on.
    pub fn of(span: Duration) -> Limit {
        Limit { until: Instant::now() + span, span }
    }

    pub fn is_over(self) -> bool {
        Instant::now() >= self.until
    }

    pub fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// A part of it, from now on, and never past its end.
    pub fn part(self, share: f64) -> Limit {
        Limit::of(self.span.mul_f64(share).min(self.left()))
    }
}

/// What may go wrong between doing a thing and looking at it. On a machine that is the machine's
/// own affair; a test puts a fault there, to see that it is found.
pub trait Faults: Sync + fmt::Debug {
    /// A matrix product of a core, before it is used further.
    fn product(&self, _core: usize, _round: u64, _product: &mut [f64]) {}
    /// Memory that was written and is about to be read back.
    fn memory(&self, _words: &mut [u64]) {}
    /// A file that is on the disk and is about to be read back.
    fn disk(&self, _file: &File) {}
    /// A block on its way to the peer.
    fn wire(&self, _block: &mut [u8]) {}
}

/// The machine as it is.
#[derive(Clone, Copy, Debug)]
pub struct NoFaults;

impl Faults for NoFaults {}

/// `once`, `3 times`
fn times(count: u64) -> String {
    if count == 1 { "once".to_string() } else { format!("{count} times") }
}

/// `1.5 GiB`, `64 MiB`
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 10.0 && value.fract() != 0.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let said = [0, 1000, 1536, 64 << 20, 3 << 39].map(size);
        assert_eq!(said, ["0 bytes", "1000 bytes", "1.5 KiB", "64 MiB", "1.5 TiB"]);
    }

    #[test]
    fn a_part_of_a_limit_does_not_go_past_its_end() {
        let spent = Limit::of(Duration::ZERO);
        assert!(spent.is_over() && spent.part(0.5).is_over());
        let long = Limit::of(Duration::from_secs(100));
        assert!(!long.is_over());
        assert!(long.part(0.5).until < long.until);
    }
}
