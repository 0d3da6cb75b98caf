//! The nouns of Lindos: what every other crate speaks about, and nothing that does anything.
//!
//! Ids and time ([`id`], [`time`]), the machines ([`node`], [`fleet`]), what a user asks for
//! ([`job`]), what an agent reports ([`report`]), where GPU-time goes ([`column`]), why a job
//! waits or an attempt ended ([`reason`]), which processes wait for a rank ([`standby`]), what a check found ([`finding`]), what a burn-in found
//! ([`burnin`]), how ranks spend their time ([`pace`]), what is seen of those in trouble ([`witness`])
//! and who is to blame for it ([`blame`]), what happened ([`trail`]), and the settings that the core
//! decides by ([`policy`]).
//! Files that a person writes are read by [`file`], which points at the line and says what to do.

pub mod blame;
pub mod burnin;
pub mod column;
pub mod file;
pub mod finding;
pub mod fleet;
pub mod id;
pub mod job;
pub mod node;
pub mod pace;
pub mod policy;
pub mod reason;
pub mod repair;
pub mod report;
pub mod reservation;
pub mod standby;
pub mod time;
pub mod topology;
pub mod trail;
pub mod witness;

pub use column::{Column, Columns};
pub use finding::{
    Action, Device, Finding, FindingClass, FindingSource, PciAddress, Severity, Suspect,
};
pub use id::{EffectId, Epoch, JobId, NodeId, Rank, RequestId};
pub use job::{JobSpec, JobState, LaunchMode};
pub use node::{GpuSet, Location, NodeSpec};
pub use pace::{RankPace, SlowBy, SlowSign, Straggler, Waited};
pub use policy::Policy;
pub use reason::{EndReason, WaitReason};
pub use repair::{Mended, Outcome, Remedy};
pub use report::{AttemptReport, Exit, RankExit, RankReport, ReportedPhase};
pub use standby::{StandbyReport, StandbyState};
pub use time::{Millis, Time};
pub use topology::Level;
pub use trail::{TrailEntry, TrailKind};
pub use witness::{Activity, Apart, RankStack, StackPlace, Stacks, Stall, Symptom, SymptomKind};
