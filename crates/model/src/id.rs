//! Dense, ordered ids. An id is never used twice in the life of a journal.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
        )]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// A job: what a user asked for. The order of ids is the order of submission.
    JobId(u64)
);
id!(
    /// A node's place in the fleet's tables, dense from 0.
    NodeId(u32)
);
id!(
    /// One incarnation of a job, from 1. An agent refuses an epoch older than one it has seen.
    Epoch(u32)
);
id!(
    /// One process of a job, from 0, numbered along the network tree.
    Rank(u32)
);
id!(
    /// An effect of the core, numbered from 1 in the order in which they were decided.
    EffectId(u64)
);
id!(
    /// Chosen at random by whoever asks; the same id asked twice gets the same answer.
    RequestId(u128)
);

impl Epoch {
    pub fn next(self) -> Self {
        Epoch(self.0 + 1)
    }
}

impl NodeId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
