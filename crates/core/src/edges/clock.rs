//! The time that goes into the journal: a machine's wall clock, without its jumps.
//!
//! A wall clock that is set forward by an hour would make every node an hour silent, and one that
//! is set back would freeze every deadline. So time runs with the monotonic clock, and leans
//! towards the wall clock by at most a tenth of its speed. Both clocks are read by the driver: the
//! server's are real, those of the sim jump when it wants them to.

use lindos_model::Time;

#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    now_us: u64,
    /// What the monotonic clock showed at the last reading.
    read_at_us: u64,
}

impl SteadyClock {
    /// A clock that is never earlier than `not_before`, the last time in the journal.
    pub fn new(not_before: Time, monotonic_us: u64, wall_us: u64) -> Self {
        let now_us = wall_us.max(not_before.0.saturating_mul(1000));
        SteadyClock { now_us, read_at_us: monotonic_us }
    }

    /// The time now; never earlier than any before.
    pub fn read(&mut self, monotonic_us: u64, wall_us: u64) -> Time {
        let elapsed = monotonic_us.saturating_sub(self.read_at_us);
        // Read often, it must still not round every small step down to nothing.
        if elapsed > 0 {
            self.read_at_us = monotonic_us;
            self.now_us = advance(self.now_us, elapsed, wall_us);
        }
        Time(self.now_us / 1000)
    }
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
        let mut clock = SteadyClock::new(Time(5000), 70, 1_000_000);
        assert_eq!(clock.read(70, 1_000_000), Time(5000));
        assert_eq!(clock.read(1_000_070, 2_000_000), Time(5900), "until the wall has come up");
        assert_eq!(clock.read(60, 0), Time(5900), "a monotonic clock that is not");
        assert_eq!(SteadyClock::new(Time(5000), 70, 9_000_000).read(70, 0), Time(9000));
    }
}
