//! What goes wrong, and when.

use lindos_model::{Millis, NodeSpec, Time};

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
    /// The job's ranks live and get no further; with `rank`, because that one has stopped, and only
    /// until its replica is gone.
    Hang {
        job: String,
        rank: Option<u32>,
    },
    /// The rank's replica stands still because that rank has stopped, and the others go on without it.
    Strand {
        job: String,
        rank: u32,
    },
    /// The next replica of the job that starts comes to no first step.
    HangStart {
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
    /// The disk of the journal is full for a while, but for this many bytes.
    FillDisk {
        lasts: Millis,
        room: u64,
    },
    /// Each commit of the journal takes up to this long, for a while. Nobody is heard meanwhile.
    SlowDisk {
        lasts: Millis,
        commit: Millis,
    },
    /// The nodes of a rack, a leaf or a feed lose power at once. The first is back after a while,
    /// and each next one so much later.
    PowerOffAll {
        branch: Branch,
        back_after: Millis,
        apart: Millis,
    },
    /// Nothing gets to them or from them.
    CutOffAll {
        branch: Branch,
        lasts: Millis,
        apart: Millis,
    },
    /// The node loses power and is given a new disk: its agent knows nothing of before.
    LoseNodeDisk {
        node: String,
        back_after: Millis,
    },
    /// Somebody sets the wall clock of the control plane's machine.
    ClockForward {
        by: Millis,
    },
    ClockBack {
        by: Millis,
    },
    /// The control plane's machine is suspended.
    HostSleeps {
        lasts: Millis,
    },
    /// The control plane that leads loses its lease; its standby leads after a while. Commands
    /// that the old one has given still reach the agents, up to `late` afterwards.
    TakeOver {
        after: Millis,
        late: Millis,
    },
    /// The control plane is stopped, and its next version started, under one of
    /// [`Setup::policies`](crate::Setup::policies) or the policy that it had.
    Upgrade {
        back_after: Millis,
        policy: Option<u32>,
    },
    /// The checks of the node find something for a while: that a GPU is lost, or (not `fatal`) that
    /// one will not do for long.
    Find {
        node: String,
        fatal: bool,
        lasts: Millis,
    },
    /// The node fails every test of Lindos's own from now on, until it is mended; with `peer`, the
    /// link between the two does. Nothing else shows it.
    Weaken {
        node: String,
        peer: Option<String>,
    },
    /// What runs on the node with others keeps them waiting for a while.
    SlowDown {
        node: String,
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

/// Nodes that stand or fall together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branch {
    Rack(String),
    Leaf(String),
    /// What powers them: the PDU of their place.
    Feed(String),
}

impl Branch {
    pub fn has(&self, node: &NodeSpec) -> bool {
        match self {
            Branch::Rack(name) => node.location.rack == *name,
            Branch::Leaf(name) => node.location.leaf == *name,
            Branch::Feed(name) => node.location.pdu == *name,
        }
    }

    pub fn name(&self) -> &str {
        let (Branch::Rack(name) | Branch::Leaf(name) | Branch::Feed(name)) = self;
        name
    }
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
    /// The control plane goes by its wall clock, jumps and all.
    ClockJumps,
    /// Agents forget which epochs they have had once they are told to forget them.
    FloorsForgotten,
    /// The standby passes over records that it takes for none of its business.
    StandbySkips,
    /// The next version reads a field of the version before as if it were not there.
    UpgradeLoses,
    /// An agent with a new disk counts its starts from 1 again.
    IncarnationReset,
    /// Agents do not say that a loss is no number.
    DeafToLoss,
    /// Programs go on from the newest checkpoint that they find, whatever they are told.
    ResumesNewest,
    /// Tests of nodes say the opposite of what is so.
    TestsLie,
    /// A rank is counted as one that never waits.
    PaceMiscounted,
    /// Agents launch ranks beside what waits for a rank of somebody else.
    StandbyInTheWay,
    /// They do not end what is to wait no more.
    StandbyDeaf,
}

impl Plant {
    /// With the words by which each is found.
    pub const ALL: [(Plant, &'static str); 19] = [
        (Plant::FenceLies, "two epochs"),
        (Plant::AckEarly, "acknowledged"),
        (Plant::ForgetToJournal, "replay came out differently"),
        (Plant::LedgerLeak, "ledger"),
        (Plant::AgentLies, "given twice"),
        (Plant::ReportsDropped, "did not end"),
        (Plant::FalseSuccess, "was not finished"),
        (Plant::ReservationMisread, "which is reserved as"),
        (Plant::ClockJumps, "was heard of late"),
        (Plant::FloorsForgotten, "two epochs"),
        (Plant::StandbySkips, "the standby came out differently"),
        (Plant::UpgradeLoses, "differs from the snapshot's"),
        (Plant::IncarnationReset, "did not end"),
        (Plant::DeafToLoss, "its loss broke"),
        (Plant::ResumesNewest, "goes on from the spoilt checkpoint"),
        (Plant::TestsLie, "was found bad by a test"),
        (Plant::PaceMiscounted, "is called slow"),
        (Plant::StandbyInTheWay, "waits on GPUs"),
        (Plant::StandbyDeaf, "does so for ever"),
    ];
}
