//! Moments as people write them: `now`, `in 2h`, `2026-11-24T08:00`.

use crate::failure::Failure;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use lindos_model::job::parse_span;

const FORMS: &str = "`now`, `in 2h 30m`, `2026-11-24T08:00` or `2026-11-24T08:00+01:00`";

/// Milliseconds since the Unix epoch. `flag` is whose value `text` is; a date alone is its first
/// moment in `zone`.
pub fn parse(flag: &str, text: &str, now: u64, zone: &TimeZone) -> Result<u64, Failure> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Some(span) = text.strip_prefix("in ") {
        let span = parse_span(span.trim()).map_err(|reason| {
            Failure::bad_input(format!("--{flag}: {reason}"), format!("write {FORMS}"))
        })?;
        return Ok(now.saturating_add(span.0));
    }
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return from_stamp(flag, text, stamp);
    }
    let local: DateTime = text.parse().map_err(|_| {
        let message = format!("--{flag}: `{text}` is no moment");
        Failure::bad_input(message, format!("write {FORMS}"))
    })?;
    let stamp = zone.to_ambiguous_timestamp(local).unambiguous();
    let stamp = stamp.map_err(|_| {
        let message = format!("--{flag}: the clocks change, and {text} is there twice or never");
        Failure::bad_input(message, "give the offset that is meant, as in 2026-10-25T02:30+01:00")
    })?;
    from_stamp(flag, text, stamp)
}

fn from_stamp(flag: &str, text: &str, stamp: Timestamp) -> Result<u64, Failure> {
    u64::try_from(stamp.as_millisecond()).map_err(|_| {
        Failure::bad_input(format!("--{flag}: {text} is before 1970"), format!("write {FORMS}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    /// An hour ahead of UTC in winter and two in summer, on the dates of the European Union.
    fn zone() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn a_moment_is_now_or_after_a_span_or_by_the_readers_clock() {
        let at = |text: &str| parse("from", text, NOW, &zone()).unwrap();
        assert_eq!(at("now"), NOW);
        assert_eq!(at("in 2h"), NOW + 7_200_000);
        assert_eq!(at(" in 1h 30m "), NOW + 5_400_000);
        assert_eq!(at("2027-01-15T09:00"), NOW);
        assert_eq!(at("2027-01-15 09:00:00"), NOW);
        assert_eq!(at("2027-01-15T08:00Z"), NOW);
        assert_eq!(at("2027-01-15T10:00+02:00"), NOW);
        assert_eq!(at("2027-01-15"), NOW - 9 * 3_600_000);
        assert_eq!(at("2027-07-15T10:00"), NOW + 181 * 86_400_000);
    }

    #[test]
    fn what_is_no_moment_is_told() {
        let error = |text: &str| parse("from", text, NOW, &zone()).unwrap_err().to_string();
        for bad in ["", "2h", "tomorrow", "2027-02-30T08:00", "in", "08:00"] {
            assert!(error(bad).starts_with("error: --from: `"), "{bad}: {}", error(bad));
        }
        insta::assert_snapshot!(error("tomorrow"), @"
        error: --from: `tomorrow` is no moment
        hint: write `now`, `in 2h 30m`, `2026-11-24T08:00` or `2026-11-24T08:00+01:00`
        ");
        insta::assert_snapshot!(error("in a while"), @r#"
        error: --from: `a while` is not a span of time such as "30s", "10m" or "2h 30m"
        hint: write `now`, `in 2h 30m`, `2026-11-24T08:00` or `2026-11-24T08:00+01:00`
        "#);
        insta::assert_snapshot!(error("2027-03-28T02:30"), @"
        error: --from: the clocks change, and 2027-03-28T02:30 is there twice or never
        hint: give the offset that is meant, as in 2026-10-25T02:30+01:00
        ");
        assert_eq!(error("2027-10-31T02:30").replace("10-31", "03-28"), error("2027-03-28T02:30"));
        insta::assert_snapshot!(error("1969-12-31T00:00Z"), @"
        error: --from: 1969-12-31T00:00Z is before 1970
        hint: write `now`, `in 2h 30m`, `2026-11-24T08:00` or `2026-11-24T08:00+01:00`
        ");
    }
}
