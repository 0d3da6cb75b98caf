//! Faults as fleets have them: how often, where, what a job sees of them, how long until anybody
//! can know, and how long until the machine is back.
//!
//! [`profile`] reads a **fault profile**: a file that a person writes, every figure with its
//! source. [`ready`] has the profiles that ship, made from what operators have published.
//! [`plan`] draws from a profile, a fleet and a seed the faults of a span of time, in order.
//! [`formulas`] has what the field works out by hand (checkpoint intervals, ETTR, spares), and
//! [`stats`] says how sure one may be of a figure from a few seeds.
//!
//! `docs/fault-profile.md` is the manual. Nothing here knows the world or the core: a plan says what
//! fails and what it would take to mend it, and the world says what comes of that.

pub(crate) mod chance;
pub mod delay;
pub mod formulas;
pub mod hazard;
pub mod plan;
pub mod profile;
pub mod ready;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod unit;

pub use delay::Delay;
pub use hazard::{Hazard, Shape};
pub use plan::{Effect, FaultKey, FaultPlan, PlanError, PlannedFault, PlannedRepair, Target};
pub use profile::{Cause, EffectRule, Profile, RepairKind};
pub use unit::Unit;
