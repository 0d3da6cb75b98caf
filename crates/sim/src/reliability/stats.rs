//! How sure one may be of a figure.
//!
//! A simulation with chance in it says something else for each seed. A figure of it is an
//! [`Estimate`]: the figure, and an interval that holds the true one in so many of all cases. The
//! quantiles are `statrs`'s, held against printed tables here.

use statrs::distribution::{ContinuousCDF, Gamma, StudentsT};

/// The share of all cases that an interval is usually asked for.
pub const USUAL_CONFIDENCE: f64 = 0.95;

/// A figure and its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    fn around(value: f64, half: f64) -> Estimate {
        Estimate { value, low: value - half, high: value + half }
    }

    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// For a figure that is nowhere else: an interval of few values may reach out of it.
    pub fn within(self, least: f64, most: f64) -> Estimate {
        let Estimate { value, low, high } = self;
        Estimate { value, low: low.clamp(least, most), high: high.clamp(least, most) }
    }

    /// Half of the interval's width as a share of the figure.
    pub fn relative_error(&self) -> f64 {
        ((self.high - self.low) / 2.0 / self.value).abs()
    }
}

/// `None` of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Of a sample: over n − 1. `None` of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() >= 2)?;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some(libm::sqrt(squares / (values.len() - 1) as f64))
}

/// The mean of what independent seeds say, after Student (1908): right where single values are
/// about normal, and with tens of values nearly always. `None` of fewer than two values.
pub fn mean_interval(values: &[f64], confidence: f64) -> Option<Estimate> {
    let deviation = standard_deviation(values)?;
    let half = student(values.len() - 1, confidence) * deviation / libm::sqrt(values.len() as f64);
    Some(Estimate::around(mean(values)?, half))
}

/// By how much `after` is above `before`, on average, where both have the same seeds in the same
/// order: the luck that they share falls out. `None` of fewer than two pairs.
///
/// # Panics
///
/// If there are more of the one than of the other.
pub fn difference_interval(before: &[f64], after: &[f64], confidence: f64) -> Option<Estimate> {
    assert_eq!(before.len(), after.len(), "one seed, two values");
    let differences: Vec<f64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
    mean_interval(&differences, confidence)
}

/// Sum of parts ÷ sum of wholes over independent cycles, such as useful time ÷ time from one
/// failure to the next. That is the long-run share (regenerative simulation: Crane and Iglehart,
/// 1975); the mean of the cycles' own shares is not. The interval is by the delta method: it is
/// right for many cycles, and with few it is too narrow. `None` of fewer than two cycles, or when
/// the wholes sum to nothing.
pub fn ratio_interval(cycles: &[(f64, f64)], confidence: f64) -> Option<Estimate> {
    let count = cycles.len();
    let parts: f64 = cycles.iter().map(|(part, _)| part).sum();
    let wholes: f64 = cycles.iter().map(|(_, whole)| whole).sum();
    if count < 2 || wholes == 0.0 {
        return None;
    }
    let ratio = parts / wholes;
    let squares: f64 = cycles
        .iter()
        .map(|(part, whole)| part - ratio * whole)
        .map(|residual| residual * residual)
        .sum();
    let n = count as f64;
    let error = libm::sqrt(squares / (n - 1.0) / n) / (wholes / n);
    Some(Estimate::around(ratio, student(count - 1, confidence) * error))
}

/// The mean of a Poisson process that was counted once: exact, after Garwood (1936), by quantiles of
/// chi-square. It holds the true mean in at least so many of all cases. Divide by what was watched
/// (node-days, say) for a rate.
pub fn poisson_interval(count: u64, confidence: f64) -> Estimate {
    let tail = (1.0 - confidence) / 2.0;
    // Half of the quantile of chi-square with 2a degrees of freedom is that of the gamma
    // distribution of shape a.
    let quantile = |shape: u64, p: f64| {
        Gamma::new(shape as f64, 1.0).expect("the shape is above zero").inverse_cdf(p)
    };
    let low = if count == 0 { 0.0 } else { quantile(count, tail) };
    Estimate { value: count as f64, low, high: quantile(count + 1, 1.0 - tail) }
}

/// The value below which a share `p` of the sample lies, between neighbours in proportion (Hyndman
/// and Fan's definition 7, that of R and NumPy). `None` of no values.
///
/// # Panics
///
/// If `p` is not from 0 to 1.
pub fn quantile(values: &[f64], p: f64) -> Option<f64> {
    assert!((0.0..=1.0).contains(&p), "the quantile at {p}");
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = p * last as f64;
    let below = place as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

/// The quantile of Student's t for an interval with both sides.
fn student(freedom: usize, confidence: f64) -> f64 {
    assert!(0.0 < confidence && confidence < 1.0, "a confidence of {confidence}");
    let t = StudentsT::new(0.0, 1.0, freedom as f64).expect("there is at least one freedom");
    t.inverse_cdf(f64::midpoint(1.0, confidence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliability::chance::Chance;

    fn assert_near(value: f64, expected: f64, slack: f64) {
        assert!((value - expected).abs() <= slack, "{value}, not {expected}");
    }

    #[test]
    fn quantiles_of_student_are_those_of_the_tables() {
        for (freedom, expected) in
            [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (29, 2.045), (1000, 1.962)]
        {
            assert_near(student(freedom, 0.95), expected, 0.0005);
        }
        assert_near(student(9, 0.99), 3.250, 0.0005);
    }

    #[test]
    fn counts_have_the_exact_intervals_of_the_tables() {
        // Garwood's limits for 95 %.
        for (count, low, high) in [
            (0, 0.0, 3.689),
            (1, 0.0253, 5.572),
            (5, 1.6235, 11.668),
            (10, 4.795, 18.390),
            (100, 81.364, 121.627),
        ] {
            let interval = poisson_interval(count, 0.95);
            assert_near(interval.low, low, 0.0006);
            assert_near(interval.high, high, 0.0006);
        }
    }

    #[test]
    fn large_counts_have_intervals_too() {
        // Near the normal distribution's, which a large count approaches.
        for count in [10_000_u64, 1_000_000] {
            let interval = poisson_interval(count, 0.95);
            let half = 1.96 * (count as f64).sqrt();
            assert_near((interval.high - interval.low) / 2.0 / half, 1.0, 0.01);
        }
    }

    #[test]
    fn a_sample_has_its_mean_deviation_and_interval() {
        let values = [9.0, 10.0, 11.0, 10.0, 10.0];
        assert_near(mean(&values).unwrap(), 10.0, 1e-12);
        assert_near(standard_deviation(&values).unwrap(), 0.5_f64.sqrt(), 1e-12);
        let interval = mean_interval(&values, 0.95).unwrap();
        assert_near(interval.high - 10.0, 2.7764 * (0.5_f64 / 5.0).sqrt(), 1e-4);
        assert_eq!(mean_interval(&[1.0], 0.95), None);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn pairs_of_one_seed_tell_a_difference_that_their_means_do_not() {
        let before = [100.0, 200.0, 300.0, 400.0];
        let after = [101.0, 202.0, 301.0, 402.0];
        let paired = difference_interval(&before, &after, 0.95).unwrap();
        assert!(paired.low > 0.0, "{paired:?}");
        let alone = mean_interval(&before, 0.95).unwrap();
        assert!(alone.contains(mean(&after).unwrap()));
    }

    #[test]
    fn a_ratio_is_of_sums_and_its_interval_holds_it_as_often_as_it_says() {
        // Cycles whose useful part is drawn apart from the lost one: 4 of 5 in the long run.
        let mut chance = Chance::new(5, "ratio");
        let runs = 2000;
        let held = (0..runs)
            .filter(|_| {
                let cycles: Vec<(f64, f64)> = (0..100)
                    .map(|_| (8.0 * chance.exponential(), 2.0 * chance.exponential()))
                    .map(|(useful, lost)| (useful, useful + lost))
                    .collect();
                ratio_interval(&cycles, 0.95).unwrap().contains(0.8)
            })
            .count();
        // 95 % of 2000, less a little for 100 cycles, and four standard deviations.
        assert!((1850..=1940).contains(&held), "{held} of {runs}");
        let two = ratio_interval(&[(1.0, 1.0), (0.0, 9.0)], 0.95).unwrap();
        assert_near(two.value, 0.1, 1e-12);
        assert_eq!(ratio_interval(&[(0.0, 0.0), (0.0, 0.0)], 0.95), None);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 0.5), Some(2.5));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_near(quantile(&values, 0.9).unwrap(), 3.7, 1e-12);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
