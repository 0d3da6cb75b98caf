//! The machine's two clocks, read as one that never jumps: [`SteadyClock`] has the rule.

use lindos_core::edges::SteadyClock;
use lindos_model::Time;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(crate) struct Clock {
    steady: SteadyClock,
    /// The monotonic clock counts from here.
    began: Instant,
}

impl Clock {
    /// A clock that is never earlier than `not_before`, the last time in the journal.
    pub(crate) fn new(not_before: Time) -> Self {
        Clock { steady: SteadyClock::new(not_before, 0, wall_us()), began: Instant::now() }
    }

    /// The time now; never earlier than any before.
    pub(crate) fn now(&mut self) -> Time {
        self.steady.read(self.began.elapsed().as_micros() as u64, wall_us())
    }

    /// How long to wait until `deadline`.
    pub(crate) fn until(&mut self, deadline: Time) -> Duration {
        Duration::from_millis(deadline.since(self.now()).0)
    }
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_begins_no_earlier_than_the_journal_ends() {
        let future = Time(wall_us() / 1000 + 3_600_000);
        let mut clock = Clock::new(future);
        let first = clock.now();
        assert!(first >= future);
        assert!(clock.now() >= first);
    }
}
