//! A case that fails, made small: whatever can be left out while it fails in the same way is.
//!
//! Delta debugging over what was drawn: faults, jobs, reservations and nodes go in halves, then in
//! quarters, and so on down to single ones; then what is left is made plainer and shorter. The work
//! is bounded by a count of runs, so the same case shrinks to the same small one everywhere.

use super::play_setup;
use crate::fault::{FaultKind, Network};
use crate::world::{Setup, SimJob, Violation};
use lindos_model::{Millis, Time};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Runs for one case: a small one takes some milliseconds.
const RUNS_MAX: u32 = 1500;

/// A small case, and how it fails.
#[derive(Clone, Debug)]
pub struct Shrunk {
    pub setup: Setup,
    pub violation: Violation,
    pub runs: u32,
}

/// Makes a case that fails with `violation` small. `tell` hears of every run.
pub fn shrink(setup: Setup, violation: Violation, tell: &mut dyn FnMut(u32, &Setup)) -> Shrunk {
    let kind = kind_of(&violation.what);
    let mut search = Search { best: setup, violation, kind, runs: 0, must_fit: false, tell };
    // A job that does not end because nothing is left that it fits on shows nothing.
    search.must_fit = search.kind.contains("did not end") && ends_undisturbed(&search.best);
    loop {
        let before = size(&search.best);
        search.fewer_faults();
        search.fewer_jobs();
        search.fewer_reservations();
        search.fewer_nodes();
        search.plainer();
        search.shorter();
        if size(&search.best) == before || search.is_spent() {
            break;
        }
    }
    let Search { best, violation, runs, .. } = search;
    Shrunk { setup: best, violation, runs }
}

/// The words of a violation without what differs from case to case: numbers, and what follows a
/// second colon.
fn kind_of(violation: &str) -> String {
    let line = violation.lines().next().unwrap_or_default();
    let said = line.strip_prefix("violation: ").unwrap_or(line);
    let said = said.split(": ").next().unwrap_or(said);
    said.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// What must get less for another round to be worth it.
fn size(setup: &Setup) -> [usize; 4] {
    [setup.faults.len(), setup.jobs.len(), setup.reservations.len(), setup.nodes.len()]
}

fn ends_undisturbed(setup: &Setup) -> bool {
    let calm = Setup {
        faults: Vec::new(),
        network: Network::good(),
        standby: None,
        plant: None,
        ..setup.clone()
    };
    play_setup(calm).violation.is_none()
}

struct Search<'t> {
    best: Setup,
    violation: Violation,
    kind: String,
    runs: u32,
    must_fit: bool,
    tell: &'t mut dyn FnMut(u32, &Setup),
}

impl Search<'_> {
    fn is_spent(&self) -> bool {
        self.runs >= RUNS_MAX
    }

    /// Takes a smaller case over if it fails in the same way.
    fn take(&mut self, smaller: Setup) -> bool {
        if self.is_spent() {
            return false;
        }
        self.runs += 1;
        (self.tell)(self.runs, &self.best);
        let found = play_setup(smaller.clone()).violation;
        let Some(violation) = found.filter(|found| kind_of(&found.what) == self.kind) else {
            return false;
        };
        if self.must_fit && !ends_undisturbed(&smaller) {
            return false;
        }
        self.best = smaller;
        self.violation = violation;
        true
    }

    /// Leaves out as many of `count` things as possible: `without` makes the case that lacks those
    /// from one number to another.
    fn leave_out(
        &mut self,
        count: impl Fn(&Setup) -> usize,
        without: impl Fn(&Setup, std::ops::Range<usize>) -> Option<Setup>,
    ) {
        let mut chunk = count(&self.best).div_ceil(2);
        while chunk > 0 && !self.is_spent() {
            let mut from = 0;
            while from < count(&self.best) {
                let to = (from + chunk).min(count(&self.best));
                let smaller = without(&self.best, from..to);
                if !smaller.is_some_and(|smaller| self.take(smaller)) {
                    from = to;
                }
            }
            chunk /= 2;
        }
    }

    fn fewer_faults(&mut self) {
        self.leave_out(
            |setup| setup.faults.len(),
            |setup, range| {
                let mut setup = setup.clone();
                setup.faults.drain(range);
                Some(setup)
            },
        );
    }

    fn fewer_jobs(&mut self) {
        self.leave_out(
            |setup| setup.jobs.len(),
            |setup, range| {
                let mut setup = setup.clone();
                let gone: BTreeSet<String> =
                    setup.jobs.drain(range).map(|job| job.spec.name.clone()).collect();
                for job in &mut setup.jobs {
                    job.after.retain(|(name, _)| !gone.contains(name));
                }
                setup
                    .faults
                    .retain(|fault| fault.kind.names().0.is_none_or(|name| !gone.contains(name)));
                (!setup.jobs.is_empty()).then_some(setup)
            },
        );
    }

    fn fewer_reservations(&mut self) {
        self.leave_out(
            |setup| setup.reservations.len(),
            |setup, range| {
                let mut setup = setup.clone();
                setup.reservations.drain(range);
                Some(setup)
            },
        );
    }

    fn fewer_nodes(&mut self) {
        self.leave_out(|setup| setup.nodes.len(), without_nodes);
    }

    /// What is left, without what is not needed to fail.
    fn plainer(&mut self) {
        self.try_with(|setup| setup.network = Network::good());
        self.try_with(|setup| {
            (setup.network.lost_ppm, setup.network.repeated_ppm) = (0, 0);
        });
        self.try_with(|setup| setup.standby = None);
        self.try_with(|setup| {
            setup.policies.clear();
            for fault in &mut setup.faults {
                if let FaultKind::Upgrade { policy, .. } = &mut fault.kind {
                    *policy = None;
                }
            }
        });
        self.try_with(|setup| setup.policy.spares = 0);
        self.try_with(|setup| {
            setup.policy.teams.clear();
            setup.jobs.iter_mut().for_each(|job| Arc::make_mut(&mut job.spec).team.clear());
        });
        self.try_with(|setup| {
            let least = setup.nodes.iter().map(|node| node.gpus).min().unwrap_or(1);
            setup.nodes.iter_mut().for_each(|node| node.gpus = least);
        });
        self.try_with(|setup| setup.nodes.iter_mut().for_each(|node| node.labels.clear()));
        for index in 0..self.best.jobs.len() {
            for plain in PLAIN_JOB {
                self.try_with(|setup| plain(&mut setup.jobs[index]));
            }
        }
    }

    fn try_with(&mut self, change: impl FnOnce(&mut Setup)) {
        let mut plainer = self.best.clone();
        change(&mut plainer);
        // A change that changes nothing is not worth a run.
        if format!("{plainer:?}") != format!("{:?}", self.best) {
            self.take(plainer);
        }
    }

    /// Less time: trainings end sooner, faults are over sooner.
    fn shorter(&mut self) {
        for index in 0..self.best.jobs.len() {
            while self.best.jobs[index].script.steps > 1 && !self.is_spent() {
                let mut smaller = self.best.clone();
                smaller.jobs[index].script.steps /= 2;
                if !self.take(smaller) {
                    break;
                }
            }
        }
        let Some(healed_at) = self.best.healed_at else { return };
        let last = self.best.faults.iter().map(|fault| fault.at).max().unwrap_or(Time::ZERO);
        for after in [Millis(1_000), Millis(60_000), Millis(300_000)] {
            if last + after < healed_at {
                let smaller = Setup { healed_at: Some(last + after), ..self.best.clone() };
                if self.take(smaller) {
                    break;
                }
            }
        }
    }
}

type Plainer = fn(&mut SimJob);

const PLAIN_JOB: [Plainer; 12] = [
    |job| job.after.clear(),
    |job| job.at = Time::ZERO,
    |job| Arc::make_mut(&mut job.spec).array = None,
    |job| Arc::make_mut(&mut job.spec).class.clear(),
    |job| Arc::make_mut(&mut job.spec).labels.clear(),
    |job| Arc::make_mut(&mut job.spec).time_limit = None,
    |job| job.script.bug = None,
    |job| job.script.loss_breaks = None,
    |job| Arc::make_mut(&mut job.spec).warm_spares = 0,
    |job| Arc::make_mut(&mut job.spec).warm_restarts = false,
    |job| {
        let spec = Arc::make_mut(&mut job.spec);
        (spec.replicas, spec.replicas_min) = (1, 1);
    },
    |job| {
        let spec = Arc::make_mut(&mut job.spec);
        (spec.gpus_per_node, spec.ranks_per_node) = (1, 1);
    },
];

/// The case without some nodes; gangs that were larger than what is left are as large as that.
fn without_nodes(setup: &Setup, range: std::ops::Range<usize>) -> Option<Setup> {
    let mut setup = setup.clone();
    let gone: BTreeSet<String> = setup.nodes.drain(range).map(|node| node.name).collect();
    let left = setup.nodes.len() as u32;
    if left == 0 {
        return None;
    }
    setup.policy.spares = setup.policy.spares.min(left - 1);
    for policy in &mut setup.policies {
        policy.spares = policy.spares.min(setup.policy.spares);
    }
    let room = left - setup.policy.spares;
    let nodes = &setup.nodes;
    setup.faults.retain(|fault| {
        let on_a_node = fault.kind.names().1.is_none_or(|name| !gone.contains(name));
        let in_a_branch =
            fault.kind.branch().is_none_or(|branch| nodes.iter().any(|node| branch.has(node)));
        on_a_node && in_a_branch
    });
    for reservation in &mut setup.reservations {
        reservation.nodes.retain(|name| !gone.contains(name));
    }
    setup.reservations.retain(|reservation| !reservation.nodes.is_empty());
    for job in &mut setup.jobs {
        if job.spec.nodes > room {
            let spec = Arc::make_mut(&mut job.spec);
            spec.nodes = room;
            spec.min_nodes = spec.min_nodes.min(room);
            spec.spares = spec.spares.min(room);
            spec.warm_spares = spec.warm_spares.min(spec.spares);
            (spec.replicas, spec.replicas_min, spec.segment) = (1, 1, None);
        }
    }
    Some(setup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_of_one_kind_whatever_their_numbers() {
        let kind =
            kind_of("violation: two epochs of job 3 alive together: 1 on node 4, 2 on node 0");
        assert_eq!(kind, "two epochs of job  alive together");
        assert_eq!(kind_of("violation: some job did not end: job 1 waits"), "some job did not end");
        assert_eq!(kind_of("assertion failed\n  left: 3"), "assertion failed");
    }
}
