//! The time that goes into the journal: the machine's wall clock, without its jumps.
//!
//! A wall clock that is set forward by an hour would make every node an hour silent, and one that
//! is set back would freeze every deadline. So time runs with the monotonic clock, and leans
//! towards the wall clock by at most a tenth of its speed.

use lindos_model::Time;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(crate) struct Clock {
    now_us: u64,
    read_at: Instant,
}

impl Clock {
    /// A clock that is never earlier than `not_before`, the last time in the journal.
    pub(crate) fn new(not_before: Time) -> Self {
        Clock { now_us: wall_us().max(not_before.0.saturating_mul(1000)), read_at: Instant::now() }
    }

    /// The time now; never earlier than any before.
    pub(crate) fn now(&mut self) -> Time {
        let read_at = Instant::now();
        let elapsed = read_at.duration_since(self.read_at).as_micros() as u64;
        // Read often, it must still not round every small step down to nothing.
        if elapsed > 0 {
            self.read_at = read_at;
            self.now_us = advance(self.now_us, elapsed, wall_us());
        }
        Time(self.now_us / 1000)
    }

    /// How long to wait until `deadline`.
    pub(crate) fn until(&mut self, deadline: Time) -> Duration {
        Duration::from_millis(deadline.since(self.now()).0)
    }
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// The reading `elapsed_us` after the reading `now_us`, while the wall clock shows `wall_us`.
fn advance(now_us: u64, elapsed_us: u64, wall_us: u64) -> u64 {
    let ran = now_us.saturating_add(elapsed_us);
    let slew_max = elapsed_us / 10;
    if wall_us > ran {
        ran.saturating_add((wall_us - ran).min(slew_max))
    } else {
        ran - (ran - wall_us).min(slew_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_is_followed_slowly_and_never_backwards() {
        assert_eq!(advance(1_000_000, 1000, 1_001_000), 1_001_000);
        assert_eq!(advance(1_000_000, 1000, 9_000_000_000), 1_001_100, "an hour forward");
        assert_eq!(advance(1_000_000, 1000, 0), 1_000_900, "set back");
        assert_eq!(advance(1_000_000, 1000, 1_001_040), 1_001_040, "nearly right");
        assert_eq!(advance(1_000_000, 5, 0), 1_000_005, "too short a time to lean");
    }

    #[test]
    fn a_clock_begins_no_earlier_than_the_journal_ends() {
        let future = Time(wall_us() / 1000 + 3_600_000);
        let mut clock = Clock::new(future);
        let first = clock.now();
        assert!(first >= future);
        assert!(clock.now() >= first);
    }
}
