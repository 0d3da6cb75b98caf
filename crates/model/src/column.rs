//! The columns of the ledger: in each millisecond, every GPU of the fleet stands in exactly one.

use serde::{Deserialize, Serialize};
use std::ops::{Index, IndexMut};

macro_rules! columns {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Where a GPU's time goes.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(rename_all = "kebab-case")]
        pub enum Column {
            $($(#[$doc])* $variant,)*
        }

        impl Column {
            pub const ALL: [Column; [$(Column::$variant),*].len()] = [$(Column::$variant),*];

            pub fn name(self) -> &'static str {
                match self { $(Column::$variant => $name,)* }
            }
        }
    };
}

columns! {
    /// Work that no fault has undone: it is in a durable checkpoint, or its job completed, was
    /// cancelled or ran out of its time. While an attempt runs, its work since the last checkpoint
    /// stands here provisionally.
    Productive = "productive",
    /// Work that had to be done again.
    Lost = "lost",
    /// Training blocked by the writing of a checkpoint.
    Checkpoint = "checkpoint",
    /// From the launch of an attempt to its first step.
    Startup = "startup",
    /// From the moment a fault stopped the work to the moment that Lindos knew.
    Detect = "detect",
    /// Held by a gang that is not whole: survivors of a fault being stopped, or a stop under way.
    Waiting = "waiting",
    /// Kept free for the gang that loses a node.
    Spare = "spare",
    /// Free, and nobody wants it.
    Idle = "idle",
    /// Free, and somebody waits who cannot use it.
    Stranded = "stranded",
    /// Drained by an operator, whether it is on or off.
    Maintenance = "maintenance",
    /// Being proved before it takes work.
    BurnIn = "burn-in",
    /// Out of service after a fault.
    Repair = "repair",
    /// Known to the fleet, but never heard from, or switched off.
    Unpowered = "unpowered",
}

impl Column {
    /// Whether a GPU stands there on the account of a job.
    pub fn is_on_a_job(self) -> bool {
        matches!(
            self,
            Column::Productive
                | Column::Lost
                | Column::Checkpoint
                | Column::Startup
                | Column::Detect
                | Column::Waiting
        )
    }
}

/// One number a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Columns(pub [u64; Column::ALL.len()]);

impl Columns {
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Column, u64)> + '_ {
        Column::ALL.iter().map(|&column| (column, self[column]))
    }
}

impl Index<Column> for Columns {
    type Output = u64;
    fn index(&self, column: Column) -> &u64 {
        &self.0[column as usize]
    }
}

impl IndexMut<Column> for Columns {
    fn index_mut(&mut self, column: Column) -> &mut u64 {
        &mut self.0[column as usize]
    }
}
