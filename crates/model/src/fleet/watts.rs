//! Power with its unit: `"1.2 MW"`, `"800 kW"`, `"350 W"`. Whole watts, so that sums are exact.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Electrical power, in whole watts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Default)]
#[serde(transparent)]
pub struct Watts(pub u64);

/// More than any grid has: keeps sums far from the end of the integers.
const WATTS_MAX: u64 = 1_000_000_000_000_000;

const UNITS: [(&str, u64); 4] = [("GW", 1_000_000_000), ("MW", 1_000_000), ("kW", 1_000), ("W", 1)];

impl Watts {
    /// Reads a number and its unit, exactly: `1.2 MW` is 1,200,000 W, and `1.5 W` is refused.
    pub fn parse(text: &str) -> Result<Watts, String> {
        let wrong =
            || format!("`{text}` is not a power such as \"1.2 MW\", \"800 kW\" or \"350 W\"");
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = trimmed.split_at(unit_at);
        let scale = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let number = number.trim();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || number.ends_with('.') {
            return Err(wrong());
        }
        let mut watts = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(scale));
        let mut place = scale;
        for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
            if place == 1 && digit > 0 {
                return Err(format!("`{text}` is not a whole number of watts"));
            }
            place = (place / 10).max(1);
            watts = watts.and_then(|watts| watts.checked_add(digit * place));
        }
        match watts {
            Some(watts) if watts <= WATTS_MAX => Ok(Watts(watts)),
            _ => Err(format!("`{text}` is more power than any grid has")),
        }
    }
}

impl<'de> Deserialize<'de> for Watts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Watts::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Three digits that count, and a unit; exact where no more are needed: `1.2 MW`, `14.3 kW`.
impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) =
            UNITS.iter().find(|(_, scale)| self.0 >= *scale).copied().unwrap_or(("W", 1));
        let decimals: u32 = match self.0 / scale {
            _ if scale == 1 => 0,
            0..10 => 2,
            10..100 => 1,
            _ => 0,
        };
        let step = scale / 10_u64.pow(decimals);
        let rounded = (self.0 + step / 2) / step;
        let parts = 10_u64.pow(decimals);
        let (whole, part) = (rounded / parts, rounded % parts);
        let text = format!("{whole}.{part:0width$}", width = decimals as usize);
        let text = if decimals == 0 {
            whole.to_string()
        } else {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        };
        f.pad(&format!("{text} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_are_read_exactly() {
        for (text, expected) in [
            ("1.2 MW", 1_200_000),
            ("800 kW", 800_000),
            ("350W", 350),
            ("1.21 GW", 1_210_000_000),
            ("0.5 kW", 500),
            ("1.50 kW", 1500),
            ("0 W", 0),
        ] {
            assert_eq!(Watts::parse(text), Ok(Watts(expected)), "{text}");
        }
        for text in ["", "12", "kW", "1.2 mW", "-3 kW", "1,2 MW", "1.5 W", "1e3 W", ". kW", "5. kW"]
        {
            assert!(Watts::parse(text).is_err(), "{text}");
        }
        assert!(Watts::parse("99999999999999 GW").unwrap_err().contains("any grid"));
    }

    #[test]
    fn powers_are_said_with_three_digits() {
        for (watts, expected) in [
            (0, "0 W"),
            (999, "999 W"),
            (10_200, "10.2 kW"),
            (132_000, "132 kW"),
            (1_320_000, "1.32 MW"),
            (1_876_543_210, "1.88 GW"),
            (2_000_000, "2 MW"),
        ] {
            assert_eq!(Watts(watts).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_what_was_meant_to_half_a_percent(watts in 0_u64..1_000_000_000_000) {
            let said = Watts::parse(&Watts(watts).to_string()).unwrap().0;
            prop_assert!(said.abs_diff(watts) * 200 <= watts, "{watts} was said as {said}");
        }
    }
}
