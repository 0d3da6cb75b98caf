//! How long something takes, when it does not always take the same.

use super::chance::Chance;
use lindos_model::Millis;
use lindos_model::job::HumanSpan;
use serde::Deserialize;
use std::fmt;

/// The 95 % point of the standard normal distribution.
const NORMAL_P95: f64 = 1.644_853_626_951_472_7;

/// A distribution of spans of time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Delay {
    /// Always this.
    Fixed(HumanSpan),
    /// From the one to the other, each as likely.
    Uniform([HumanSpan; 2]),
    /// With this mean: as likely to end in the next minute, however long it has taken already.
    Exponential(HumanSpan),
    /// Half take less than the median, and one in twenty longer than `p95`.
    Lognormal { median: HumanSpan, p95: HumanSpan },
}

impl Delay {
    pub const ZERO: Delay = Delay::Fixed(HumanSpan(Millis::ZERO));

    /// What is wrong with it, and what to do.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        match self {
            Delay::Uniform([low, high]) if low.0 > high.0 => Err((
                format!("uniform from {} to {}: the first is the longer one", low.0, high.0),
                "write the shorter span first".to_string(),
            )),
            Delay::Exponential(mean) if mean.0 == Millis::ZERO => Err((
                "exponential with a mean of nothing".to_string(),
                "write `fixed = \"0s\"` for what takes no time".to_string(),
            )),
            Delay::Lognormal { median, p95 } if median.0 == Millis::ZERO || p95.0 <= median.0 => {
                Err((
                    format!("lognormal with median {} and p95 {}", median.0, p95.0),
                    "a median above zero, and a p95 above the median".to_string(),
                ))
            }
            _ => Ok(()),
        }
    }

    /// One span. It takes as many draws whichever distribution it is, and a longer mean, median or
    /// bound makes the same draws a longer span.
    pub(super) fn draw(&self, chance: &mut Chance) -> Millis {
        let (first, second) = (chance.unit(), chance.unit());
        match self {
            Delay::Fixed(span) => span.0,
            Delay::Uniform([low, high]) => {
                Millis(low.0.0 + ((high.0.0 - low.0.0) as f64 * first) as u64)
            }
            Delay::Exponential(mean) => Millis((mean.0.0 as f64 * -libm::log(first)) as u64),
            Delay::Lognormal { median, p95 } => {
                // Box and Muller, 1958.
                let normal = libm::sqrt(-2.0 * libm::log(first))
                    * libm::cos(2.0 * std::f64::consts::PI * second);
                let median = median.0.0 as f64;
                Millis((median * libm::exp(sigma(median, p95.0.0 as f64) * normal)) as u64)
            }
        }
    }

    /// The same distribution, so many times as long.
    ///
    /// # Panics
    ///
    /// If the factor is not above zero.
    pub fn times(self, factor: f64) -> Delay {
        assert!(factor > 0.0 && factor.is_finite(), "a delay times {factor}");
        let times = |span: HumanSpan| HumanSpan(Millis((span.0.0 as f64 * factor).round() as u64));
        // What has no length has no distribution either.
        let above_zero = |span: HumanSpan| HumanSpan(times(span).0.max(Millis(1)));
        match self {
            Delay::Fixed(span) => Delay::Fixed(times(span)),
            Delay::Uniform(ends) => Delay::Uniform(ends.map(times)),
            Delay::Exponential(mean) => Delay::Exponential(above_zero(mean)),
            Delay::Lognormal { median, p95 } => {
                let median = above_zero(median);
                let above_median = median.0 + Millis(1);
                Delay::Lognormal { median, p95: HumanSpan(times(p95).0.max(above_median)) }
            }
        }
    }

    /// In milliseconds.
    pub fn mean(&self) -> f64 {
        match self {
            Delay::Fixed(span) | Delay::Exponential(span) => span.0.0 as f64,
            Delay::Uniform([low, high]) => f64::midpoint(low.0.0 as f64, high.0.0 as f64),
            Delay::Lognormal { median, p95 } => {
                let median = median.0.0 as f64;
                let sigma = sigma(median, p95.0.0 as f64);
                median * libm::exp(sigma * sigma / 2.0)
            }
        }
    }
}

/// The standard deviation of the logarithm.
fn sigma(median: f64, p95: f64) -> f64 {
    libm::log(p95 / median) / NORMAL_P95
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Delay::Fixed(span) => write!(f, "{}", span.0),
            Delay::Uniform([low, high]) => write!(f, "{} to {}", low.0, high.0),
            Delay::Exponential(mean) => write!(f, "{} on average", mean.0),
            Delay::Lognormal { median, p95 } => write!(f, "median {}, p95 {}", median.0, p95.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(seconds: u64) -> HumanSpan {
        HumanSpan(Millis::from_secs(seconds))
    }

    /// 100,000 draws in milliseconds, ascending.
    fn draws(delay: Delay) -> Vec<f64> {
        let mut chance = Chance::new(11, "delay");
        let mut all: Vec<f64> = (0..100_000).map(|_| delay.draw(&mut chance).0 as f64).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn mean(all: &[f64]) -> f64 {
        all.iter().sum::<f64>() / all.len() as f64
    }

    #[test]
    fn each_distribution_has_the_mean_that_it_says() {
        for delay in [
            Delay::Fixed(span(90)),
            Delay::Uniform([span(60), span(300)]),
            Delay::Exponential(span(600)),
            Delay::Lognormal { median: span(3600), p95: span(10_800) },
        ] {
            let (drawn, said) = (mean(&draws(delay)), delay.mean());
            assert!((drawn / said - 1.0).abs() < 0.015, "{delay:?}: {drawn} for {said}");
        }
    }

    #[test]
    fn a_delay_times_a_factor_has_so_many_times_the_mean_and_the_same_shape() {
        for delay in [
            Delay::Fixed(span(90)),
            Delay::Uniform([span(60), span(300)]),
            Delay::Exponential(span(600)),
            Delay::Lognormal { median: span(3600), p95: span(10_800) },
        ] {
            let ratio = delay.times(2.5).mean() / delay.mean();
            assert!((ratio - 2.5).abs() < 1e-6, "{delay:?}: {ratio}");
        }
        let tiny = Delay::Lognormal { median: span(1), p95: span(2) }.times(1e-9);
        assert!(tiny.check().is_ok(), "{tiny:?}");
    }

    #[test]
    fn half_of_a_lognormal_is_below_its_median_and_a_twentieth_above_its_p95() {
        let all = draws(Delay::Lognormal { median: span(3600), p95: span(36_000) });
        let share = |limit: f64| all.partition_point(|&x| x < limit) as f64 / all.len() as f64;
        // Four standard deviations of a share of 100,000.
        assert!((share(3.6e6) - 0.5).abs() < 0.0064, "{}", share(3.6e6));
        assert!((share(3.6e7) - 0.95).abs() < 0.0028, "{}", share(3.6e7));
    }

    #[test]
    fn a_uniform_one_keeps_within_its_bounds() {
        let all = draws(Delay::Uniform([span(60), span(300)]));
        assert!(all[0] >= 60_000.0 && all[all.len() - 1] <= 300_000.0);
        assert!(all[0] < 60_100.0 && all[all.len() - 1] > 299_900.0);
    }
}
