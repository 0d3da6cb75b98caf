//! Those with whom a rank adds up its gradients: one group, or replicas that outlive each other.

use anyhow::Result;

use crate::group::Group;
use crate::replicas::{Replicas, Trainee};

/// Who they are for this rank.
#[derive(Debug)]
pub enum Company {
    /// All ranks are in one group.
    Group(Group),
    /// This is rank 0 of a replica, which knows the other replicas.
    Leading(Box<Replicas>),
    /// This is another rank of a replica, which knows its rank 0.
    Led(Group),
}

impl Company {
    /// The sum over `leaves` vectors of length `len`, which all of them share.
    pub fn sum(
        &mut self,
        round: u64,
        leaves: usize,
        len: usize,
        leaf: impl FnMut(usize) -> Result<Vec<f32>>,
        trainee: &impl Trainee,
    ) -> Result<Vec<f32>> {
        match self {
            Self::Group(group) => group.sum(round, leaves, len, leaf),
            Self::Leading(replicas) => replicas.sum(round, leaves, len, leaf, trainee),
            Self::Led(group) => group.follow(round, leaves, len, leaf),
        }
    }

    /// Whether this rank writes the checkpoints, if it has a folder for them.
    pub fn leads(&self) -> bool {
        match self {
            Self::Group(_) => true,
            Self::Leading(replicas) => replicas.leads(),
            Self::Led(_) => false,
        }
    }

    /// The ranks that stand and fall with this one.
    pub fn group(&mut self) -> &mut Group {
        match self {
            Self::Group(group) | Self::Led(group) => group,
            Self::Leading(replicas) => replicas.group(),
        }
    }
}
