//! How often one unit fails as it grows older.
//!
//! A fault does not make a unit young again: what is mended is as old as it was ("minimal repair",
//! Barlow and Hunter, 1960), so that the faults of a unit are a Poisson process whose rate follows
//! the age alone.

/// Days are what rates are counted in; everything else here is too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// The rate is the same at every age.
    Constant,
    /// New units fail more: rate · (1 + (factor − 1) · e^(−age / time constant)).
    Infant { factor: f64, time_constant_days: f64 },
    /// Old units fail more, after Weibull: (k / life) · (age / life)^(k − 1). `life_days` is the age
    /// by which a unit has failed once on average, and 63 % of all have failed.
    Wear { k: f64, life_days: f64 },
}

/// The rate of a cause on one unit over the time of a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hazard {
    /// Events per unit and day, with nothing else said. Of no matter to wear, which has its own.
    pub per_day: f64,
    pub shape: Shape,
    /// Of the units, when the simulation begins.
    pub age_days: f64,
}

impl Hazard {
    /// With `factor` times as many events at every age.
    pub fn scaled(self, factor: f64) -> Hazard {
        let shape = match self.shape {
            // (k / life) · (age / life)^(k − 1) grows as 1 / life^k does.
            Shape::Wear { k, life_days } => {
                Shape::Wear { k, life_days: life_days / libm::pow(factor, 1.0 / k) }
            }
            shape => shape,
        };
        Hazard { per_day: self.per_day * factor, shape, ..self }
    }

    /// Events per unit and day, `day` days after the beginning.
    pub fn at(&self, day: f64) -> f64 {
        let age = self.age_days + day;
        match self.shape {
            Shape::Constant => self.per_day,
            Shape::Infant { factor, time_constant_days } => {
                self.per_day * (1.0 + (factor - 1.0) * libm::exp(-age / time_constant_days))
            }
            Shape::Wear { k, life_days } => k / life_days * libm::pow(age / life_days, k - 1.0),
        }
    }

    /// The highest between two days: every shape only falls or only rises.
    pub fn max(&self, from: f64, to: f64) -> f64 {
        self.at(from).max(self.at(to))
    }

    /// Events expected of one unit between two days.
    pub fn expected(&self, from: f64, to: f64) -> f64 {
        let (young, old) = (self.age_days + from, self.age_days + to);
        match self.shape {
            Shape::Constant => self.per_day * (to - from),
            Shape::Infant { factor, time_constant_days: tau } => {
                let extra = tau * (libm::exp(-young / tau) - libm::exp(-old / tau));
                self.per_day * (to - from + (factor - 1.0) * extra)
            }
            Shape::Wear { k, life_days } => {
                libm::pow(old / life_days, k) - libm::pow(young / life_days, k)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [Shape; 3] = [
        Shape::Constant,
        Shape::Infant { factor: 5.0, time_constant_days: 30.0 },
        Shape::Wear { k: 3.0, life_days: 1800.0 },
    ];

    #[test]
    fn what_is_expected_is_the_sum_of_the_hazard() {
        for shape in SHAPES {
            let hazard = Hazard { per_day: 0.01, shape, age_days: 20.0 };
            let steps = 100_000;
            let sum: f64 = (0..steps)
                .map(|step| hazard.at(90.0 * (f64::from(step) + 0.5) / f64::from(steps)))
                .sum::<f64>()
                * 90.0
                / f64::from(steps);
            let said = hazard.expected(0.0, 90.0);
            assert!((sum / said - 1.0).abs() < 1e-6, "{shape:?}: {sum} for {said}");
        }
    }

    #[test]
    fn no_day_between_two_is_above_the_highest_of_them() {
        for shape in SHAPES {
            let hazard = Hazard { per_day: 0.01, shape, age_days: 20.0 };
            let max = hazard.max(10.0, 40.0);
            assert!((0..=300).all(|tenth| hazard.at(10.0 + f64::from(tenth) / 10.0) <= max));
        }
    }

    #[test]
    fn a_scaled_hazard_is_so_many_times_as_high_at_every_age() {
        for shape in SHAPES {
            let hazard = Hazard { per_day: 0.01, shape, age_days: 20.0 };
            let tripled = hazard.scaled(3.0);
            for day in [0.0, 30.0, 400.0] {
                assert!((tripled.at(day) / hazard.at(day) - 3.0).abs() < 1e-9, "{shape:?}");
            }
            assert!(hazard.scaled(0.0).expected(0.0, 100.0) <= 0.0, "{shape:?}");
        }
    }

    #[test]
    fn a_worn_unit_has_failed_once_by_its_life_and_a_new_one_not_at_all() {
        let hazard = Hazard {
            per_day: 0.0,
            shape: Shape::Wear { k: 3.0, life_days: 1800.0 },
            age_days: 0.0,
        };
        assert!(hazard.at(0.0) <= 0.0);
        assert!((hazard.expected(0.0, 1800.0) - 1.0).abs() < 1e-12);
    }
}
