//! Answers as people read them. Everything here is text from plain data: no I/O, no clock.

pub mod alerts;
pub mod burnin;
pub mod events;
pub mod fleet;
pub mod health;
pub mod job;
pub mod jobs;
pub mod ledger;
pub mod nodes;
pub mod number;
pub mod repairs;
pub mod reservations;
pub mod table;
pub mod teams;
pub mod time;

#[cfg(test)]
pub mod sample;

/// How to draw: as wide as this, with "now" and the time zone of the reader.
#[derive(Clone, Debug)]
pub struct Style {
    pub width: u16,
    /// Milliseconds since the Unix epoch.
    pub now: u64,
    pub zone: jiff::tz::TimeZone,
}

impl Style {
    /// For the terminal in front of us, at this moment.
    pub fn of_the_reader() -> Style {
        Style {
            width: crate::output::width(),
            now: time::now(),
            zone: jiff::tz::TimeZone::system(),
        }
    }
}
