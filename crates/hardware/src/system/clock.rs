//! The clock: whether anything keeps it right.

use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use lindos_model::Finding;
use std::time::Duration;

/// The order of events on several nodes is lost from about there on.
const OFFSET_MAX: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Clock;

/// What the kernel knows of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Discipline {
    is_synchronised: bool,
    /// What is still to be made up for.
    offset: Duration,
}

fn discipline() -> std::io::Result<Discipline> {
    // SAFETY: all zeroes is a valid `timex`; no mode is set, so that the call only reads.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` that lives through the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let is_nanoseconds = timex.status & libc::STA_NANO != 0;
    let offset = timex.offset.unsigned_abs();
    Ok(Discipline {
        is_synchronised: timex.status & libc::STA_UNSYNC == 0 && state != libc::TIME_ERROR,
        offset: if is_nanoseconds {
            Duration::from_nanos(offset)
        } else {
            Duration::from_micros(offset)
        },
    })
}

fn judge(discipline: Discipline) -> (String, Vec<Finding>) {
    let millis = discipline.offset.as_secs_f64() * 1000.0;
    if !discipline.is_synchronised {
        let detail = "no time service keeps the clock: run chrony, ntpd or systemd-timesyncd";
        let finding = system_finding("clock.unsynchronised", means::SET_UP, None, detail);
        return ("not synchronised".to_string(), vec![finding]);
    }
    let mut open = Vec::new();
    if discipline.offset > OFFSET_MAX {
        let detail = format!("the clock is {millis:.0} ms off");
        open.push(system_finding("clock.offset", means::SET_UP, None, detail));
    }
    (format!("synchronised, {millis:.3} ms off"), open)
}

impl Check for Clock {
    fn about(&self) -> About {
        About {
            name: "clock.offset",
            meaning: "a clock that nothing keeps right, or that is far off",
            source: "adjtimex",
            thresholds: "100 ms",
            interval: Duration::from_secs(60),
            confirmations: 3,
            may_wait: false,
            cost: "one system call",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        match discipline() {
            Ok(discipline) => {
                let (words, open) = judge(discipline);
                Reading::of(words, open)
            }
            Err(error) => Reading::Unknown(format!("adjtimex: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_its_service_and_its_offset() {
        let of = |is_synchronised, millis| {
            let offset = Duration::from_millis(millis);
            judge(Discipline { is_synchronised, offset }).1.pop().map(|f| f.class.to_string())
        };
        assert_eq!(of(true, 1), None);
        assert_eq!(of(true, 101).as_deref(), Some("clock.offset"));
        assert_eq!(of(false, 0).as_deref(), Some("clock.unsynchronised"));
    }

    #[test]
    fn this_machine_has_a_clock() {
        discipline().unwrap();
    }
}
