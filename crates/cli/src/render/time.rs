//! Times for people: how long ago, and RFC 3339 in the reader's time zone.

use super::Style;
use lindos_model::{Millis, Time};

/// Milliseconds since the Unix epoch.
pub fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

impl Style {
    /// `3m 20s ago`
    pub fn ago(&self, at: u64) -> String {
        format!("{} ago", Time(self.now).since(Time(at)))
    }

    /// `in 3m 20s`
    pub fn ahead(&self, at: u64) -> String {
        format!("in {}", Time(at).since(Time(self.now)))
    }

    /// `2026-11-23T12:47:36+01:00`
    pub fn local(&self, at: u64) -> String {
        self.formatted(at, "%Y-%m-%dT%H:%M:%S%:z")
    }

    /// `Nov 23 12:47`, for tables; in another year than now, `2027-01-15 08:00`
    pub fn local_minute(&self, at: u64) -> String {
        let is_this_year = self.formatted(at, "%Y") == self.formatted(self.now, "%Y");
        self.formatted(at, if is_this_year { "%b %d %H:%M" } else { "%Y-%m-%d %H:%M" })
    }

    fn formatted(&self, at: u64, format: &str) -> String {
        let stamp =
            i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match stamp {
            Some(stamp) => stamp.to_zoned_datetime(self.zone.clone()).strftime(format).to_string(),
            None => "-".to_string(),
        }
    }

    /// `2026-11-23T12:47:36+01:00 (3m 20s ago)`
    pub fn local_and_ago(&self, at: u64) -> String {
        format!("{} ({})", self.local(at), self.ago(at))
    }
}

/// The span between two moments.
pub fn span(from: u64, to: u64) -> Millis {
    Time(to).since(Time(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_said_in_the_readers_zone() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        let style = Style { width: 80, now: 1_800_000_200_000, zone };
        assert_eq!(
            style.local_and_ago(1_800_000_000_000),
            "2027-01-15T10:00:00+02:00 (3m 20s ago)"
        );
        assert_eq!(style.local(u64::MAX), "-");
        assert_eq!(style.local_minute(1_800_000_000_000), "Jan 15 10:00");
        assert_eq!(style.local_minute(1_795_440_440_000), "2026-11-23 15:27");
    }
}
