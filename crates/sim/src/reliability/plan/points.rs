//! When and on which unit a cause strikes.
//!
//! Think of a plane with time along one side, the fleet's units along the other, and a rate
//! upwards, and of points scattered in it evenly, one for each unit, day and event a day. Those
//! below a surface are a Poisson process whose rate is the surface (Lewis and Shedler, 1979, have it
//! with one flat surface). The surface here is each unit's hazard, by its age, and by whether it is
//! a lemon or of a bad lot.
//!
//! The points are drawn from below, so a higher surface only adds points at the end: a raised rate
//! keeps all faults. Each day has its own place in the stream: a longer plan begins with the same
//! faults, and no day needs a surface higher than its own.

use super::FaultKey;
use super::ground::{Ground, Weights};
use crate::reliability::chance::Chance;
use crate::reliability::hazard::Hazard;
use crate::reliability::profile::Cause;
use crate::reliability::unit::Unit;
use lindos_model::Millis;

const DAY_MS: f64 = 86_400_000.0;
/// Places that a day's points have in their stream; a point takes three of the eight draws of one.
const PLACES_PER_DAY: u64 = 1 << 34;

/// Days begun.
pub(super) fn days(span: Millis) -> u64 {
    span.0.div_ceil(DAY_MS as u64)
}

/// The points of one cause.
pub(super) struct Points<'a> {
    hazard: Hazard,
    per: Unit,
    weights: &'a Weights,
    stream: String,
    span: Millis,
}

impl<'a> Points<'a> {
    pub fn new(cause: &'a Cause, weights: &'a Weights, span: Millis) -> Points<'a> {
        let stream = format!("{}: points", cause.name);
        Points { hazard: cause.hazard, per: cause.per, weights, stream, span }
    }

    fn highest(&self, day: u64) -> f64 {
        self.hazard.max(day as f64, (day + 1) as f64) * self.weights.max
    }

    /// How many points have to be drawn, on average.
    pub fn drawn(&self) -> f64 {
        let units = self.weights.units as f64;
        (0..days(self.span)).map(|day| self.highest(day) * units).sum()
    }

    /// How many faults there are, on average.
    pub fn expected(&self) -> f64 {
        self.hazard.expected(0.0, self.span.0 as f64 / DAY_MS) * self.weights.sum
    }

    /// Tells each fault: when, counted from the beginning, and the number of its unit.
    pub fn each(
        &self,
        seed: u64,
        ground: &Ground,
        cause: usize,
        mut tell: impl FnMut(Millis, u64, FaultKey),
    ) {
        if self.weights.is_empty() {
            return;
        }
        let mut chance = Chance::new(seed, &self.stream);
        let units = self.weights.units;
        for day in 0..days(self.span) {
            chance.go_to(day * PLACES_PER_DAY);
            let highest = self.highest(day);
            let mut rate = 0.0;
            for index in 0.. {
                rate += chance.exponential() / units as f64;
                if rate >= highest {
                    break;
                }
                let at = day as f64 + chance.unit();
                let unit = chance.below(units);
                let after = Millis((at * DAY_MS) as u64);
                let surface = self.hazard.at(at) * ground.weight(cause, self.per, unit);
                if rate < surface && after < self.span {
                    tell(after, unit, FaultKey { day: day as u32, index, again: 0 });
                }
            }
        }
    }
}
