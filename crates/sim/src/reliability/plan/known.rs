//! Faults that no chance has drawn: somebody knows when they come, and where.

use super::{Fates, FaultKey, FaultPlan, Target};
use crate::reliability::unit::Unit;
use lindos_model::{NodeId, Time};

impl FaultPlan {
    /// The group of this kind that a node is in, if the fleet says so.
    ///
    /// # Panics
    ///
    /// If no cause of the profile is of such groups, nor reaches them.
    pub fn group_of(&self, kind: Unit, node: NodeId) -> Option<Target> {
        let group = self.ground.groups(kind).group_of(node)?;
        Some(Target::Group { kind, group })
    }

    /// One more fault of each of these, of a cause whose faults are all known: its rate is zero.
    pub fn add_known(&mut self, cause: usize, known: impl IntoIterator<Item = (Time, Target)>) {
        let rule = &self.profile.causes[cause];
        assert!(self.expected[cause] <= 0.0, "{}: chance has drawn some already", rule.name);
        let mut fates = Fates::new(self.seed, rule);
        for (index, (at, target)) in (0u32..).zip(known) {
            let key = FaultKey { day: 0, index, again: 0 };
            self.faults.push(fates.fault(rule, cause as u16, at, target, key));
        }
        self.faults.sort_unstable_by_key(|fault| (fault.at, fault.cause, fault.key));
    }
}
