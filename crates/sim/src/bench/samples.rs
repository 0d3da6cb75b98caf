//! What was timed, and what is said of it.

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Micros,
    Millis,
    /// Jobs a second: the more, the better.
    PerSecond,
    /// 10^6 bytes.
    Megabytes,
    Count,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Micros => "us",
            Unit::Millis => "ms",
            Unit::PerSecond => "/s",
            Unit::Megabytes => "MB",
            Unit::Count => "",
        }
    }

    /// Whether a higher value is a better one.
    pub fn is_more_better(self) -> bool {
        self == Unit::PerSecond
    }

    /// From nanoseconds, where it is a span.
    fn of_nanos(self, nanos: u64) -> f64 {
        match self {
            Unit::Micros => nanos as f64 / 1e3,
            _ => nanos as f64 / 1e6,
        }
    }
}

/// One figure with all that was measured for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its key in the JSON, which ends in its unit.
    pub key: &'static str,
    pub unit: Unit,
    /// What it should be no worse than on a fleet of 1,000,000 GPUs.
    pub goal: Option<f64>,
    /// In its unit, ascending. Empty where it cannot be measured on this fleet.
    values: Vec<f64>,
}

impl Figure {
    pub fn new(key: &'static str, unit: Unit, goal: Option<f64>, values: Vec<f64>) -> Figure {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        Figure { key, unit, goal, values }
    }

    /// From spans in nanoseconds.
    pub fn of_nanos(
        key: &'static str,
        unit: Unit,
        goal: Option<f64>,
        nanos: impl IntoIterator<Item = u64>,
    ) -> Figure {
        Figure::new(key, unit, goal, nanos.into_iter().map(|n| unit.of_nanos(n)).collect())
    }

    pub fn samples(&self) -> usize {
        self.values.len()
    }

    /// `None` where it cannot be measured on this fleet.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// What 95% of the samples are no worse than.
    pub fn p95(&self) -> Option<f64> {
        self.quantile(if self.unit.is_more_better() { 0.05 } else { 0.95 })
    }

    /// Whether the median keeps to the goal.
    pub fn is_met(&self) -> Option<bool> {
        let (goal, median) = (self.goal?, self.median()?);
        Some(if self.unit.is_more_better() { median >= goal } else { median <= goal })
    }

    fn quantile(&self, part: f64) -> Option<f64> {
        let last = self.values.len().checked_sub(1)?;
        Some(self.values[(last as f64 * part).round() as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_its_median() {
        let spans = Figure::of_nanos("a_us", Unit::Micros, Some(5.0), [9_000, 4_000, 1_000]);
        assert_eq!(
            (spans.median(), spans.p95(), spans.is_met()),
            (Some(4.0), Some(9.0), Some(true))
        );
        let rates = Figure::new("b_per_s", Unit::PerSecond, Some(5.0), vec![9.0, 4.0, 1.0]);
        assert_eq!(
            (rates.median(), rates.p95(), rates.is_met()),
            (Some(4.0), Some(1.0), Some(false))
        );
        let none = Figure::of_nanos("c_ms", Unit::Millis, Some(5.0), []);
        assert_eq!((none.median(), none.is_met(), none.samples()), (None, None, 0));
    }
}
