//! Figures as people read them, the same in the table and on the page.

use super::compare::{Comparison, Row, Unit};
use lindos_model::Millis;

/// How many digits a fleet's GPU-hours need after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    digits: usize,
}

impl Words {
    pub fn of(comparison: &Comparison) -> Words {
        Words { digits: digits(comparison.total().before) }
    }

    /// With as many digits as the money of the whole fleet needs.
    pub fn of_money(comparison: &Comparison, price: f64) -> Words {
        Words { digits: digits(comparison.total().before * price) }
    }

    pub fn value(self, unit: Unit, value: f64) -> String {
        match unit {
            Unit::GpuHours => grouped(value, self.digits),
            Unit::Share => format!("{:.2}%", value * 100.0),
            Unit::Hours => span(value),
            Unit::Count => grouped(value, usize::from(value.fract() > 1e-9)),
        }
    }

    pub fn signed(self, unit: Unit, value: f64) -> String {
        let said = match unit {
            Unit::Share => format!("{:.2}", value.abs() * 100.0),
            Unit::Count => grouped(value.abs(), usize::from(value.abs().fract() > 1e-9)),
            _ => self.value(unit, value.abs()),
        };
        // What rounds to nothing has no sign.
        let is_nothing = !said.contains(|digit: char| ('1'..='9').contains(&digit));
        match (is_nothing, value < 0.0) {
            (true, _) => said,
            (false, true) => format!("-{said}"),
            (false, false) => format!("+{said}"),
        }
    }

    /// `+671`, and where seeds were played `+671 (+200 to +900)`.
    pub fn difference(self, row: &Row, is_drawn: bool) -> String {
        let said = |value: f64| self.signed(row.unit, value);
        let estimate = row.difference;
        if is_drawn {
            let (low, high) = (said(estimate.low), said(estimate.high));
            format!("{} ({low} to {high})", said(estimate.value))
        } else {
            said(estimate.value)
        }
    }
}

/// Four digits or more of the largest figure, and never more than a hundredth of a second.
fn digits(largest: f64) -> usize {
    if largest <= 0.0 {
        return 0;
    }
    (3 - largest.log10().floor() as i64).clamp(0, 5) as usize
}

fn span(hours: f64) -> String {
    Millis((hours * 3_600_000.0).round() as u64).to_string()
}

/// `1,048,576.5`
pub fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = match text.find('.') {
        Some(point) => text.split_at(point),
        None => (text.as_str(), ""),
    };
    let (sign, whole) = match whole.strip_prefix('-') {
        Some(whole) => ("-", whole),
        None => ("", whole),
    };
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// The answer in a sentence or two.
pub fn verdict(comparison: &Comparison, price: f64, currency: &str) -> String {
    let words = Words::of_money(comparison, price);
    let figures = comparison.figures();
    let goodput = &figures[0];
    let (low, high) = (goodput.difference.low * 100.0, goodput.difference.high * 100.0);
    let points = goodput.difference.value * 100.0;
    let so_far = if comparison.is_drawn() {
        format!(" ({low:+.2} to {high:+.2}, in 95 of 100 cases)")
    } else {
        String::new()
    };
    if comparison.is_drawn() && !goodput.is_told_apart() {
        return format!(
            "{} lives do not tell the goodput with the change from that without: {points:+.2} \
             points{so_far}.",
            comparison.seeds.len()
        );
    }
    let waste = comparison.waste().difference.value * price;
    let money = words.value(Unit::GpuHours, waste.abs());
    let way = if waste > 0.0 { "more" } else { "less" };
    let goes = match points {
        p if p.abs() < 0.005 => "stays as it is".to_string(),
        p if p > 0.0 => format!("rises by {p:.2} points{so_far}"),
        p => format!("falls by {:.2} points{so_far}", -p),
    };
    format!("Goodput {goes}; {money} {currency} {way} go into what is not productive.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_their_size_needs() {
        assert_eq!(grouped(1_234_567.4, 0), "1,234,567");
        assert_eq!(grouped(-1234.56, 1), "-1,234.6");
        assert_eq!([12_345.0, 1234.0, 12.0, 0.001, 0.0].map(digits), [0, 0, 2, 5, 0]);
        let words = Words { digits: 0 };
        assert_eq!(words.signed(Unit::GpuHours, -1234.0), "-1,234");
        assert_eq!(words.signed(Unit::GpuHours, -0.2), "0");
        assert_eq!(words.signed(Unit::Share, 0.0123), "+1.23");
        assert_eq!(words.signed(Unit::Hours, -1.5), "-1h 30m");
        assert_eq!(words.value(Unit::Count, 3.0), "3");
        assert_eq!(words.value(Unit::Count, 3.25), "3.2");
    }
}
