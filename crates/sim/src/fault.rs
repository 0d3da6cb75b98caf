//! What goes wrong, and when.

use lindos_model::{Millis, Time};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: Time,
    pub kind: FaultKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// SIGKILL to one rank of the job's running attempt.
    KillRank {
        job: String,
        rank: u32,
    },
    /// The job's ranks live and get no further.
    Hang {
        job: String,
    },
    /// The agent dies; its ranks live on. It is started again after a while.
    KillAgent {
        node: String,
        back_after: Millis,
    },
    /// The agent and every rank on its node die at once; the agent is back after a while.
    KillAgentAndRanks {
        node: String,
        back_after: Millis,
    },
    /// The node loses power.
    PowerOff {
        node: String,
        back_after: Millis,
    },
    /// Nothing gets to the node or from it.
    CutOff {
        node: String,
        lasts: Millis,
    },
    /// The control plane is killed, wherever it is; its disk forgets what was not synced.
    KillControlPlane {
        back_after: Millis,
    },
    /// The disk of the journal is full for a while.
    FillDisk {
        lasts: Millis,
    },
    /// The user cancels the job.
    Cancel {
        job: String,
    },
    Drain {
        node: String,
    },
    Undrain {
        node: String,
    },
}

/// How messages travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub delay_min: Millis,
    pub delay_max: Millis,
    /// Of a million messages, so many are lost, and so many come twice.
    pub lost_ppm: u32,
    pub repeated_ppm: u32,
}

impl Network {
    /// Nothing is lost, and nothing is late.
    pub fn good() -> Network {
        Network { delay_min: Millis(1), delay_max: Millis(1), lost_ppm: 0, repeated_ppm: 0 }
    }
}

/// A bug that is put in on purpose: the checkers must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A node is called fenced while its ranks live.
    FenceLies,
    /// A submission is acknowledged before it is durable.
    AckEarly,
    /// Some events are acted on and never written down.
    ForgetToJournal,
    /// The ledger that the checker sees lacks a GPU-millisecond.
    LedgerLeak,
    /// An agent calls an attempt gone that lives.
    AgentLies,
    /// Agents leave out of their reports every attempt in which a rank failed.
    ReportsDropped,
    /// A killed rank is reported to have succeeded.
    FalseSuccess,
    /// The checker takes every reservation for one that is for nobody.
    ReservationMisread,
}

impl Plant {
    pub const ALL: [(Plant, &'static str); 8] = [
        (Plant::FenceLies, "two epochs"),
        (Plant::AckEarly, "acknowledged"),
        (Plant::ForgetToJournal, "replay came out differently"),
        (Plant::LedgerLeak, "ledger"),
        (Plant::AgentLies, "given twice"),
        (Plant::ReportsDropped, "did not end"),
        (Plant::FalseSuccess, "was not finished"),
        (Plant::ReservationMisread, "which is reserved as"),
    ];
}
