//! The machine on which the control plane runs: its clocks, and when it does nothing.

use lindos_model::{Millis, Time};

/// Beside the world's own time, which nobody in it can read.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// How far the wall clock is ahead of the world.
    wall_ahead_ms: i64,
    /// While the machine slept, its monotonic clock stood still.
    slept: Millis,
    asleep_until: Time,
    /// Until then nothing on it gets on: it sleeps, or its disk is slow. What comes waits.
    pub busy_until: Time,
    /// The last commit took so long …
    stalled: Millis,
    /// … and the longest of all so long.
    stalled_max: Millis,
}

impl Host {
    pub fn wall_us(&self, now: Time) -> u64 {
        now.0.saturating_add_signed(self.wall_ahead_ms).saturating_mul(1000)
    }

    pub fn monotonic_us(&self, now: Time) -> u64 {
        (now.0 - self.slept.0.min(now.0)).saturating_mul(1000)
    }

    /// Somebody sets the wall clock.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_ahead_ms += by_ms;
    }

    pub fn is_busy(&self, now: Time) -> bool {
        self.busy_until > now
    }

    /// The machine is suspended, and wakes up by itself.
    pub fn sleep(&mut self, now: Time, lasts: Millis) {
        self.busy_until = now + lasts;
        self.asleep_until = now + lasts;
        self.slept = self.slept + lasts;
    }

    /// The disk takes its time.
    pub fn stall(&mut self, now: Time, lasts: Millis) {
        self.busy_until = self.busy_until.max(now + lasts);
        self.stalled = lasts;
        self.stalled_max = self.stalled_max.max(lasts);
    }

    /// How long the commit that is over has taken.
    pub fn take_stalled(&mut self) -> Millis {
        std::mem::take(&mut self.stalled)
    }

    /// Whether the wall clock is not the world's: then the control plane's clock may lean.
    pub fn is_off(&self) -> bool {
        self.wall_ahead_ms != 0 || self.slept > Millis::ZERO
    }

    /// Whether what it writes down of when nodes were heard can be compared with what they say
    /// themselves, to some seconds.
    pub fn tells_when(&self) -> bool {
        !self.is_off() && self.stalled_max < Millis::from_secs(4)
    }

    /// It is awake, whatever was to come.
    pub fn wake(&mut self, now: Time) {
        self.slept = self.slept - self.asleep_until.since(now);
        self.asleep_until = self.asleep_until.min(now);
        self.busy_until = self.busy_until.min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slept_has_a_wall_clock_that_knows_and_one_that_does_not() {
        let mut host = Host::default();
        host.sleep(Time(1000), Millis(5000));
        assert!(host.is_busy(Time(5999)) && !host.is_busy(Time(6000)));
        assert_eq!(host.monotonic_us(Time(6000)), 1_000_000);
        assert_eq!(host.wall_us(Time(6000)), 6_000_000);
        host.sleep(Time(6000), Millis(5000));
        host.stall(Time(6000), Millis(9000));
        host.wake(Time(7000));
        assert_eq!(host.monotonic_us(Time(7000)), 1_000_000, "it has slept one second more");
        assert!(!host.is_busy(Time(7000)));
        host.jump(-7000);
        assert_eq!(host.wall_us(Time(6000)), 0, "there is nothing before the epoch");
    }
}
