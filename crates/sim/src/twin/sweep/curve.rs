//! The answer of a sweep: a figure at each point, how sure it is, and which point is the best.

use super::{Point, Sweep, Value};
use crate::reliability::stats::{
    Estimate, USUAL_CONFIDENCE, difference_interval, mean, mean_interval,
};
use crate::twin::figures::share;
use crate::twin::metric::Metric;
use lindos_model::{Column, Columns};

/// What is kept of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    pub seed: u64,
    pub value: Option<f64>,
    pub ledger: Columns,
    pub events: u64,
}

#[derive(Clone, Debug)]
pub struct Curve {
    /// What was varied, the first along the curve.
    pub keys: Vec<String>,
    pub is_geometric: bool,
    pub metric: Metric,
    pub seeds: Vec<u64>,
    pub points: Vec<CurvePoint>,
}

#[derive(Clone, Debug)]
pub struct CurvePoint {
    pub values: Vec<Value>,
    pub runs: Vec<Played>,
    /// Of the metric; without an interval if there is one seed.
    pub mean: Option<f64>,
    pub interval: Option<Estimate>,
    /// By column of the ledger, the mean share of all GPU-time.
    pub shares: Vec<(Column, f64)>,
    pub standing: Standing,
}

/// How a point stands to the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Best,
    /// Seed by seed, the difference to the best may as well be none.
    AsGood,
    Worse,
    /// There is one seed, or no figure.
    Unknown,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Standing::Best => "best",
            Standing::AsGood => "as good",
            Standing::Worse => "worse",
            Standing::Unknown => "unknown",
        }
    }
}

impl Curve {
    /// `played` are the runs of the sweep in their order.
    pub fn new(sweep: &Sweep, metric: Metric, played: Vec<Played>) -> Curve {
        let mut played = played.into_iter();
        let most = if metric.is_share() { 1.0 } else { f64::INFINITY };
        let points = sweep.points.iter().map(|Point(values)| {
            let runs: Vec<Played> = played.by_ref().take(sweep.seeds.len()).collect();
            CurvePoint::new(values.clone(), runs, most)
        });
        let mut points: Vec<CurvePoint> = points.collect();
        rank(&mut points, metric.is_better_when_high());
        let keys = sweep.keys.iter().map(|vary| vary.key.clone()).collect();
        let is_geometric = sweep.keys.first().is_some_and(|vary| vary.is_geometric);
        Curve { keys, is_geometric, metric, seeds: sweep.seeds.clone(), points }
    }

    pub fn best(&self) -> Option<&CurvePoint> {
        self.points.iter().find(|point| point.standing == Standing::Best)
    }

    /// `policy.spares=16`
    pub fn name_of(&self, point: &CurvePoint) -> String {
        let named = self.keys.iter().zip(&point.values);
        named.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    }

    pub fn events(&self) -> u64 {
        self.points.iter().flat_map(|point| &point.runs).map(|run| run.events).sum()
    }

    /// A line a point: its values, the figure with its interval, its standing, and the mean share
    /// of each column of the ledger. Times are in seconds.
    pub fn csv(&self) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut header = self.keys.clone();
        header.extend(["mean", "low", "high", "seeds", "standing"].map(String::from));
        header[self.keys.len()] = self.metric.to_string();
        header.extend(Column::ALL.iter().map(|column| column.name().to_string()));
        let in_memory = "memory takes all";
        writer.write_record(&header).expect(in_memory);
        for point in &self.points {
            let number =
                |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let plain =
                |value: &Value| value.place().map_or(value.to_string(), |at| at.to_string());
            let mut row: Vec<String> = point.values.iter().map(plain).collect();
            row.push(number(point.mean));
            row.push(number(point.interval.map(|interval| interval.low)));
            row.push(number(point.interval.map(|interval| interval.high)));
            row.push(point.runs.len().to_string());
            row.push(point.standing.name().to_string());
            row.extend(point.shares.iter().map(|(_, share)| share.to_string()));
            writer.write_record(&row).expect(in_memory);
        }
        writer.into_inner().expect(in_memory)
    }
}

impl CurvePoint {
    /// No figure is below 0, nor above `most`: its interval is not either.
    fn new(values: Vec<Value>, runs: Vec<Played>, most: f64) -> CurvePoint {
        let known: Vec<f64> = runs.iter().filter_map(|run| run.value).collect();
        let shares = Column::ALL.iter().map(|&column| {
            let of_runs: Vec<f64> = runs.iter().map(|run| share(&run.ledger, column)).collect();
            (column, mean(&of_runs).unwrap_or(0.0))
        });
        CurvePoint {
            values,
            mean: mean(&known),
            interval: mean_interval(&known, USUAL_CONFIDENCE).map(|i| i.within(0.0, most)),
            shares: shares.collect(),
            standing: Standing::Unknown,
            runs,
        }
    }

    /// By seed; `None` if a run has no figure.
    fn all(&self) -> Option<Vec<f64>> {
        self.runs.iter().map(|run| run.value).collect()
    }
}

fn rank(points: &mut [CurvePoint], is_better_when_high: bool) {
    let worth = |point: &CurvePoint| {
        let mean = point.mean.filter(|_| point.all().is_some())?;
        Some(if is_better_when_high { mean } else { -mean })
    };
    let best = (0..points.len())
        .filter_map(|index| Some((worth(&points[index])?, index)))
        // Of equals the first: the least of what was asked about.
        .fold(None, |best: Option<(f64, usize)>, one| match best {
            Some(best) if best.0 >= one.0 => Some(best),
            _ => Some(one),
        });
    let Some((_, best)) = best else { return };
    let of_best = points[best].all().expect("it has a figure");
    for (index, point) in points.iter_mut().enumerate() {
        let Some(all) = point.all() else { continue };
        point.standing = if index == best {
            Standing::Best
        } else {
            match difference_interval(&of_best, &all, USUAL_CONFIDENCE) {
                Some(difference) if difference.contains(0.0) => Standing::AsGood,
                Some(_) => Standing::Worse,
                None => Standing::Unknown,
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(values: &[f64]) -> CurvePoint {
        let run = |(seed, &value): (usize, &f64)| Played {
            seed: seed as u64,
            value: Some(value),
            ledger: Columns::default(),
            events: 0,
        };
        CurvePoint::new(Vec::new(), values.iter().enumerate().map(run).collect(), 1.0)
    }

    fn standings(points: &[&[f64]], is_better_when_high: bool) -> Vec<Standing> {
        let mut points: Vec<CurvePoint> = points.iter().map(|values| point(values)).collect();
        rank(&mut points, is_better_when_high);
        points.iter().map(|point| point.standing).collect()
    }

    #[test]
    fn points_are_compared_seed_by_seed() {
        use Standing::{AsGood, Best, Worse};
        // Seeds differ by far more than points do, and yet the second is better in each.
        let (low, high) = ([0.10, 0.50, 0.90, 0.30], [0.11, 0.512, 0.909, 0.311]);
        assert_eq!(standings(&[&low, &high], true), [Worse, Best]);
        assert_eq!(standings(&[&low, &high], false), [Best, Worse]);
        let mixed = [0.12, 0.50, 0.91, 0.30];
        assert_eq!(standings(&[&high, &mixed], true), [Best, AsGood]);
    }

    #[test]
    fn of_equals_the_first_is_the_best_and_one_seed_tells_nothing() {
        use Standing::{AsGood, Best, Unknown};
        assert_eq!(standings(&[&[0.5, 0.5], &[0.5, 0.5]], true), [Best, AsGood]);
        assert_eq!(standings(&[&[0.5], &[0.4]], true), [Best, Unknown]);
    }
}
