//! Every deadline that the core waits for. A timer that is set again moves.

use lindos_model::{JobId, NodeId, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// No progress until then is a hang.
    Hang(JobId),
    /// The first step should have come by then.
    FirstStep(JobId),
    /// The job's time is up.
    TimeLimit(JobId),
    /// Nodes that did not answer a command get it again.
    Resend(JobId),
    /// A job that failed repeatedly may be tried again.
    Backoff(JobId),
    /// A pass over a long queue that was put off.
    Pass,
    /// A reservation begins, or is over.
    Reservation(u64),
    /// A fence that was not confirmed is asked for again.
    Fence(NodeId),
    /// Jobs should have left a node that is to be mended, or its remedy should be over.
    Repair(NodeId),
    /// Nodes that were kept in service are looked at again.
    Kept,
    /// A round of tests of suspects should be over.
    Trial(u64),
    /// Idle nodes may be due for a burn-in, or one of theirs should be over.
    Idle,
    /// Nodes that have not said that a job's processes wait there are asked again.
    Standby(JobId),
    /// A replica that was launched again should have told a step by then.
    Rejoin(JobId),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timers {
    at: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub fn set(&mut self, timer: Timer, at: Time) {
        if let Some(before) = self.at.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    pub fn cancel(&mut self, timer: Timer) {
        if let Some(before) = self.at.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    pub fn get(&self, timer: Timer) -> Option<Time> {
        self.at.get(&timer).copied()
    }

    pub fn next(&self) -> Option<Time> {
        self.order.first().map(|&(at, _)| at)
    }

    /// Takes out the earliest timer that is due at `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let &(at, timer) = self.order.first()?;
        if at > now {
            return None;
        }
        self.order.remove(&(at, timer));
        self.at.remove(&timer);
        Some(timer)
    }

    pub fn check(&self) {
        assert_eq!(self.at.len(), self.order.len(), "timers and their order differ");
        assert!(self.order.iter().all(|&(at, timer)| self.at.get(&timer) == Some(&at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_a_moved_one_fires_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Hang(JobId(1)), Time(30));
        timers.set(Timer::Resend(JobId(1)), Time(10));
        timers.set(Timer::Hang(JobId(1)), Time(20));
        timers.set(Timer::Backoff(JobId(2)), Time(15));
        timers.cancel(Timer::Backoff(JobId(2)));
        timers.check();
        assert_eq!(timers.next(), Some(Time(10)));
        assert_eq!(timers.pop_due(Time(25)), Some(Timer::Resend(JobId(1))));
        assert_eq!(timers.pop_due(Time(25)), Some(Timer::Hang(JobId(1))));
        assert_eq!(timers.pop_due(Time(99)), None);
    }
}
