//! Times and spans as traces write them.

use jiff::civil::DateTime;
use lindos_model::{Millis, Time};

/// Seconds since 1970 cannot be so many before the year 5138: larger numbers are milliseconds.
const SECONDS_MAX: f64 = 1e11;

/// A moment: seconds or milliseconds since whenever, or a date and a time of day, with an offset
/// or in UTC.
pub fn time(text: &str) -> Option<Time> {
    if let Some(number) = number(text) {
        let ms = if number > SECONDS_MAX { number } else { number * 1000.0 };
        return (ms >= 0.0).then_some(Time(ms.round() as u64));
    }
    let ms = if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        stamp.as_millisecond()
    } else {
        let civil: DateTime = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?.as_millisecond()
    };
    u64::try_from(ms).ok().map(Time)
}

/// A span that is not negative: seconds, or `[DAYS-]HOURS:MINUTES:SECONDS`. `Err`: not a span, or
/// a negative one.
pub fn span(text: &str) -> Option<Millis> {
    let seconds = match number(text) {
        Some(seconds) => seconds,
        None => clock_span(text)?,
    };
    (0.0..3.2e11).contains(&seconds).then_some(Millis((seconds * 1000.0).round() as u64))
}

pub fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// A whole number, also one that was written as `8.0`.
pub fn whole(text: &str) -> Option<i64> {
    let number = number(text)?;
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

fn clock_span(text: &str) -> Option<f64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u32>().ok()?, clock),
        None => (0, text),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes, seconds] => (hours.parse::<u32>().ok()?, minutes, seconds),
        [minutes, seconds] => (0, minutes, seconds),
        _ => return None,
    };
    let minutes = minutes.parse::<u32>().ok()?;
    let seconds = number(seconds)?;
    Some(
        f64::from(days) * 86_400.0
            + f64::from(hours) * 3600.0
            + f64::from(minutes) * 60.0
            + seconds,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_all_their_spellings() {
        let at = Some(Time(1_507_532_515_000));
        for text in [
            "1507532515",
            "1507532515.0",
            "1507532515000",
            "2017-10-09 07:01:55",
            "2017-10-09T07:01:55",
            "2017-10-09T07:01:55Z",
            "2017-10-09T09:01:55+02:00",
        ] {
            assert_eq!(time(text), at, "{text}");
        }
        assert_eq!(time("0.25"), Some(Time(250)));
        for text in ["", "soon", "-5", "NaN", "2017-13-09 07:01:55"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn spans_in_all_their_spellings() {
        assert_eq!(span("66.0"), Some(Millis(66_000)));
        assert_eq!(span("1-02:03:04"), Some(Millis(93_784_000)));
        assert_eq!(span("02:03:04"), Some(Millis(7_384_000)));
        assert_eq!(span("03:04.5"), Some(Millis(184_500)));
        for text in ["", "-1", "1h", "inf", "a:b:c"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn whole_numbers_only() {
        assert_eq!([whole("8"), whole("8.0"), whole("-1")], [Some(8), Some(8), Some(-1)]);
        assert_eq!([whole("0.5"), whole("x")], [None, None]);
    }
}
