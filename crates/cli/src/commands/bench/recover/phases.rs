//! From the events of one recovery to the time of each of its phases.

use lindos_api::user::EventView;
use serde::Serialize;

/// Milliseconds, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Phases {
    /// From the fault to the control plane's durable knowledge of it.
    pub detect: f64,
    /// From there until nothing of the attempt lives.
    pub stop: f64,
    /// From there to the next epoch's placement.
    pub decide: f64,
    /// From there to the word that every new rank runs.
    pub launch: f64,
    /// From there to the first step.
    pub resume: f64,
}

/// One recovery.
pub type Recovery = Phases;

impl Phases {
    pub const NAMES: [&'static str; 5] = ["detect", "stop", "decide", "launch", "resume"];

    pub fn each(&self) -> [f64; 5] {
        [self.detect, self.stop, self.decide, self.launch, self.resume]
    }

    pub fn of(each: [f64; 5]) -> Phases {
        let [detect, stop, decide, launch, resume] = each;
        Phases { detect, stop, decide, launch, resume }
    }

    pub fn total(&self) -> f64 {
        self.each().iter().sum()
    }
}

/// The phases, once all of them are over. The control plane's clock counts whole milliseconds.
pub fn phases(events: &[EventView], struck_at: f64, ranks: usize) -> Option<Recovery> {
    let at =
        |kind: &str| events.iter().find(|event| event.kind == kind).map(|event| event.at as f64);
    let (fault, gone) = (at("fault")?, at("resumes")?);
    let placed = at("placed_again").or_else(|| at("placed"))?;
    let first_step = at("first_step")?;
    let started: Vec<f64> = events
        .iter()
        .filter(|event| event.kind == "rank_started")
        .map(|event| event.at as f64)
        .collect();
    if started.len() < ranks {
        return None;
    }
    let last = started.into_iter().fold(placed, f64::max);
    Some(Phases {
        detect: (fault - struck_at).max(0.0),
        stop: gone - fault,
        decide: placed - gone,
        launch: last - placed,
        // A rank may tell a step before all others are known to run.
        resume: (first_step - last).max(0.0),
    })
}

/// What so large a part of the recoveries did not exceed, phase by phase.
pub fn quantile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let index = ((values.len() - 1) as f64 * part).round() as usize;
    (values[index] * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, at: u64) -> EventView {
        EventView {
            seq: at,
            at,
            kind: kind.into(),
            job: Some(1),
            epoch: Some(2),
            node: None,
            text: String::new(),
            detail: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_recovery_is_over_when_every_rank_runs_again_and_a_step_is_told() {
        let mut events = vec![
            event("fault", 1010),
            event("resumes", 1028),
            event("placed_again", 1030),
            event("rank_started", 1041),
            event("first_step", 1100),
        ];
        assert!(phases(&events, 1002.5, 2).is_none());
        events.insert(4, event("rank_started", 1050));
        let recovery = phases(&events, 1002.5, 2).unwrap();
        let phases = recovery.each().map(|ms| format!("{ms:.1}"));
        assert_eq!(phases, ["7.5", "18.0", "2.0", "20.0", "50.0"]);
        assert!((recovery.total() - 97.5).abs() < 1e-9);
        events.retain(|event| event.kind != "first_step");
        assert!(super::phases(&events, 1002.5, 2).is_none());
    }
}
