//! One scenario many times, with one or two of its values changed: what would be if.
//!
//! Every point is played on the same seeds, and faults are drawn so that what two points have in
//! common they share fault by fault (common random numbers): a difference between them is the
//! value's, and not luck's. [`vary`] reads what is asked, [`curve`] is the answer, [`page`] draws it.

pub mod curve;
pub mod page;
#[cfg(test)]
mod tests;
pub mod vary;

pub use curve::{Curve, Played};
pub use vary::{Value, Vary};

use super::metric::Metric;
use super::scenario::{Files, FleetScenario, Invalid, edit};

/// Runs of one sweep, over all points and seeds.
const RUNS_MAX: u64 = 100_000;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The scenario as it stands.
    table: toml::Table,
    /// One or two; the first is the one that the curve runs along.
    pub keys: Vec<Vary>,
    pub points: Vec<Point>,
    pub seeds: Vec<u64>,
}

/// One value for each key.
#[derive(Clone, Debug, PartialEq)]
pub struct Point(pub Vec<Value>);

impl Sweep {
    /// Tries every point, so that none is found to make no sense when others have been played.
    pub fn new(
        text: &str,
        keys: Vec<Vary>,
        seeds: Vec<u64>,
        files: Files,
    ) -> Result<Sweep, Invalid> {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| Invalid::new("", error.message().to_string()))?;
        for (index, vary) in keys.iter().enumerate() {
            edit::get(&table, &vary.key)?;
            if keys[..index].iter().any(|other| other.key == vary.key) {
                return Err(Invalid::new(&vary.key, format!("`{}` is varied twice", vary.key)));
            }
        }
        let asked = grid(&keys);
        let runs = asked.len() as u64 * seeds.len() as u64;
        if runs > RUNS_MAX {
            let said = format!("{runs} runs; a sweep has at most {RUNS_MAX}");
            return Err(Invalid::new("", said).hint("take fewer steps, or fewer seeds"));
        }
        let mut sweep = Sweep { table, keys, points: Vec::new(), seeds };
        for point in asked {
            let point = sweep.possible(point, files)?;
            if !sweep.points.contains(&point) {
                sweep.points.push(point);
            }
        }
        Ok(sweep)
    }

    /// The point itself, or with whole numbers where the keys count something.
    fn possible(&self, point: Point, files: Files) -> Result<Point, Invalid> {
        let Err(error) = self.scenario(&point, files) else { return Ok(point) };
        let rounded = Point(point.0.iter().map(Value::rounded).collect());
        if rounded == point {
            return Err(self.at(&point, error));
        }
        self.scenario(&rounded, files).map_err(|_| self.at(&point, error))?;
        Ok(rounded)
    }

    fn at(&self, point: &Point, error: Invalid) -> Invalid {
        let message = format!("{}: {}", self.name_of(point), error.message);
        Invalid { message, ..error }
    }

    /// `policy.spares=16`
    pub fn name_of(&self, point: &Point) -> String {
        let named = self.keys.iter().zip(&point.0);
        named.map(|(vary, value)| format!("{}={value}", vary.key)).collect::<Vec<_>>().join(", ")
    }

    pub fn scenario(&self, point: &Point, files: Files) -> Result<FleetScenario, Invalid> {
        let mut table = self.table.clone();
        for (vary, value) in self.keys.iter().zip(&point.0) {
            edit::set(&mut table, &vary.key, value.toml())?;
        }
        FleetScenario::of_table(table, files)
    }

    /// How many runs there are: for each point each seed, point by point.
    pub fn runs(&self) -> usize {
        self.points.len() * self.seeds.len()
    }

    /// Plays one of the runs. `tell` hears how far it is, from 0 to 1.
    pub fn play(
        &self,
        run: usize,
        metric: &Metric,
        files: Files,
        tell: &mut dyn FnMut(f64),
    ) -> Result<Played, String> {
        let (point, seed) =
            (&self.points[run / self.seeds.len()], self.seeds[run % self.seeds.len()]);
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", self.name_of(point));
        let scenario = self.scenario(point, files).map_err(|invalid| said(&invalid.message))?;
        let until = scenario.until().0.max(1) as f64;
        let figures = scenario
            .play(seed, &mut |at| tell(at.0 as f64 / until))
            .map_err(|error| said(&error))?;
        if let Some(refused) = figures.refused.first() {
            return Err(said(&format!("a job was refused: {refused}")));
        }
        let value = metric.of(&scenario, &figures);
        Ok(Played { seed, value, ledger: figures.ledger, events: figures.events })
    }
}

/// Every value of the first key with every one of the second, the second outermost.
fn grid(keys: &[Vary]) -> Vec<Point> {
    let mut points = vec![Point(Vec::new())];
    for vary in keys.iter().rev() {
        let with = |point: &Point| -> Vec<Point> {
            let before = |value: &Value| {
                Point(std::iter::once(value.clone()).chain(point.0.iter().cloned()).collect())
            };
            vary.values.iter().map(before).collect()
        };
        points = points.iter().flat_map(with).collect();
    }
    points
}
