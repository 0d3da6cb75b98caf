//! Time as the core knows it: a count of milliseconds that somebody else reads off a clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// Milliseconds since the Unix epoch (or since the start of a simulation).
///
/// Milliseconds, because GPU-milliseconds of 1,000,000 GPUs then fit 64 bits for 584 years, and
/// the ledger's sums stay exact without wider integers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A span of time in milliseconds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Time {
    pub const ZERO: Time = Time(0);

    /// The span from `earlier` to `self`; zero when `earlier` is in fact later.
    pub fn since(self, earlier: Time) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    pub const ZERO: Millis = Millis(0);

    pub const fn from_secs(seconds: u64) -> Millis {
        Millis(seconds * 1000)
    }

    pub fn times(self, factor: u64) -> Millis {
        Millis(self.0.saturating_mul(factor))
    }
}

impl Add<Millis> for Time {
    type Output = Time;
    fn add(self, span: Millis) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Add for Millis {
    type Output = Millis;
    fn add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Millis;
    fn sub(self, other: Millis) -> Millis {
        Millis(self.0.saturating_sub(other.0))
    }
}

/// For people: the two largest units that are not zero (`450ms`, `12.5s`, `3m 20s`, `2h 5m`, `4d 3h`).
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let text = if ms < 1000 {
            format!("{ms}ms")
        } else if ms < 60_000 {
            let tenths = (ms % 1000) / 100;
            if tenths == 0 { format!("{}s", ms / 1000) } else { format!("{}.{tenths}s", ms / 1000) }
        } else if ms < 3_600_000 {
            two(ms / 60_000, "m", ms / 1000 % 60, "s")
        } else if ms < 86_400_000 {
            two(ms / 3_600_000, "h", ms / 60_000 % 60, "m")
        } else {
            two(ms / 86_400_000, "d", ms / 3_600_000 % 24, "h")
        };
        f.pad(&text)
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit} {small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        let said: Vec<String> = [0, 450, 1000, 12_500, 60_000, 200_000, 7_500_000, 356_400_000]
            .map(|ms| Millis(ms).to_string())
            .into();
        assert_eq!(said, ["0ms", "450ms", "1s", "12.5s", "1m", "3m 20s", "2h 5m", "4d 3h"]);
    }

    #[test]
    fn a_span_into_the_past_is_zero() {
        assert_eq!(Time(5).since(Time(9)), Millis::ZERO);
    }
}
