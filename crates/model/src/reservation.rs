//! Nodes that are set aside for a time to come: for a team, or for maintenance.

use crate::{NodeId, Time};
use serde::{Deserialize, Serialize};

/// More than people keep in their heads; a bound for the core.
pub const RESERVATIONS_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Unique among those that are kept.
    pub name: String,
    pub purpose: Purpose,
    /// Whole nodes.
    pub nodes: Vec<NodeId>,
    pub from: Time,
    pub until: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Jobs of this team, and of those that are part of it, and no others.
    Team(String),
    /// No jobs at all.
    Maintenance,
}
