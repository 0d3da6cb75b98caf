//! How long jobs have run, for a guess at how long others will.

use lindos_model::Millis;
use serde::{Deserialize, Serialize};

/// Decaying means over jobs that completed: the newest counts an eighth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Runtimes {
    /// Of its limit, how much a job used, in a millionth.
    used_ppm: Option<u64>,
    /// How long a job without a limit ran.
    span_ms: Option<u64>,
}

impl Runtimes {
    pub fn on_completed(&mut self, limit: Option<Millis>, ran: Millis) {
        let (mean, new) = match limit {
            Some(limit) => {
                let used = u128::from(ran.0) * 1_000_000 / u128::from(limit.0.max(1));
                (&mut self.used_ppm, used.min(1_000_000) as u64)
            }
            None => (&mut self.span_ms, ran.0),
        };
        *mean = Some(mean.map_or(new, |before| (before / 8 * 7).saturating_add(new / 8)));
    }

    /// How long a job will run; `None` while nobody knows.
    pub fn likely(&self, limit: Option<Millis>) -> Option<Millis> {
        match limit {
            None => self.span_ms.map(Millis),
            Some(limit) => {
                let used = u128::from(self.used_ppm?) * u128::from(limit.0) / 1_000_000;
                Some(Millis(used as u64))
            }
        }
    }
}
