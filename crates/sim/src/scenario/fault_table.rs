//! A fault as it stands in a file.

use crate::fault::{Branch, FaultKind};
use lindos_model::Millis;
use lindos_model::job::HumanSpan;
use serde::{Deserialize, Serialize};

/// One fault; which of the optional keys it wants depends on its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultTable {
    pub at: HumanSpan,
    pub kind: FaultName,
    pub job: Option<String>,
    pub rank: Option<u32>,
    pub node: Option<String>,
    /// The other end of a link.
    pub peer: Option<String>,
    pub back_after: Option<HumanSpan>,
    pub lasts: Option<HumanSpan>,
    /// The nodes that it takes at once.
    pub rack: Option<String>,
    pub leaf: Option<String>,
    pub feed: Option<String>,
    /// Between two of them that come back; together when not given.
    pub apart: Option<HumanSpan>,
    /// Of a full disk: the bytes that still fit.
    pub room: Option<u64>,
    /// Of a slow one: the longest commit.
    pub commit: Option<HumanSpan>,
    /// Of a clock that is set: how far.
    pub by: Option<HumanSpan>,
    /// Of a control plane that was deposed: how late its last commands arrive.
    pub late: Option<HumanSpan>,
    /// Of something that is found: whether what runs there is lost.
    pub fatal: Option<bool>,
    /// Of an upgrade: which of `policies`, from 0; the one that it had when not given.
    pub policy: Option<u32>,
}

/// See [`FaultKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultName {
    KillRank,
    Hang,
    Strand,
    HangStart,
    KillAgent,
    KillAgentAndRanks,
    PowerOff,
    CutOff,
    KillControlPlane,
    FillDisk,
    SlowDisk,
    PowerOffAll,
    CutOffAll,
    LoseNodeDisk,
    ClockForward,
    ClockBack,
    HostSleeps,
    TakeOver,
    Upgrade,
    Find,
    Weaken,
    SlowDown,
    Cancel,
    Drain,
    Undrain,
}

impl FaultTable {
    pub(super) fn kind(&self) -> Result<FaultKind, &'static str> {
        let mut given = self.clone();
        let job = given.job.take().ok_or("job");
        let node = given.node.take().ok_or("node");
        let rank = given.rank.take().ok_or("rank");
        let span = |given: Option<HumanSpan>, key| given.map(|span| span.0).ok_or(key);
        let back_after = span(given.back_after, "back_after");
        let lasts = span(given.lasts, "lasts");
        let apart = given.apart.map_or(Millis::ZERO, |span| span.0);
        Ok(match self.kind {
            FaultName::KillRank => FaultKind::KillRank { job: job?, rank: rank? },
            FaultName::Hang => FaultKind::Hang { job: job?, rank: rank.ok() },
            FaultName::Strand => FaultKind::Strand { job: job?, rank: rank? },
            FaultName::HangStart => FaultKind::HangStart { job: job? },
            FaultName::KillAgent => FaultKind::KillAgent { node: node?, back_after: back_after? },
            FaultName::KillAgentAndRanks => {
                FaultKind::KillAgentAndRanks { node: node?, back_after: back_after? }
            }
            FaultName::PowerOff => FaultKind::PowerOff { node: node?, back_after: back_after? },
            FaultName::CutOff => FaultKind::CutOff { node: node?, lasts: lasts? },
            FaultName::KillControlPlane => FaultKind::KillControlPlane { back_after: back_after? },
            FaultName::FillDisk => {
                FaultKind::FillDisk { lasts: lasts?, room: given.room.unwrap_or(0) }
            }
            FaultName::SlowDisk => {
                FaultKind::SlowDisk { lasts: lasts?, commit: span(given.commit, "commit")? }
            }
            FaultName::PowerOffAll => {
                let (branch, back_after) = (self.branch()?, back_after?);
                FaultKind::PowerOffAll { branch, back_after, apart }
            }
            FaultName::CutOffAll => {
                FaultKind::CutOffAll { branch: self.branch()?, lasts: lasts?, apart }
            }
            FaultName::LoseNodeDisk => {
                FaultKind::LoseNodeDisk { node: node?, back_after: back_after? }
            }
            FaultName::ClockForward => FaultKind::ClockForward { by: span(given.by, "by")? },
            FaultName::ClockBack => FaultKind::ClockBack { by: span(given.by, "by")? },
            FaultName::HostSleeps => FaultKind::HostSleeps { lasts: lasts? },
            FaultName::TakeOver => {
                FaultKind::TakeOver { after: back_after?, late: span(given.late, "late")? }
            }
            FaultName::Upgrade => {
                FaultKind::Upgrade { back_after: back_after?, policy: given.policy }
            }
            FaultName::Find => {
                let fatal = given.fatal.unwrap_or(false);
                FaultKind::Find { node: node?, fatal, lasts: lasts? }
            }
            FaultName::Weaken => FaultKind::Weaken { node: node?, peer: given.peer.take() },
            FaultName::SlowDown => FaultKind::SlowDown { node: node?, lasts: lasts? },
            FaultName::Cancel => FaultKind::Cancel { job: job? },
            FaultName::Drain => FaultKind::Drain { node: node? },
            FaultName::Undrain => FaultKind::Undrain { node: node? },
        })
    }

    /// One of `rack`, `leaf` and `feed`.
    fn branch(&self) -> Result<Branch, &'static str> {
        match (self.rack.clone(), self.leaf.clone(), self.feed.clone()) {
            (Some(rack), None, None) => Ok(Branch::Rack(rack)),
            (None, Some(leaf), None) => Ok(Branch::Leaf(leaf)),
            (None, None, Some(feed)) => Ok(Branch::Feed(feed)),
            _ => Err("rack` (or one of `leaf` and `feed`) and no other of them: `rack"),
        }
    }

    /// The table of a fault.
    pub(super) fn of(at: Millis, kind: &FaultKind) -> FaultTable {
        let span = |span: &Millis| Some(HumanSpan(*span));
        let table = FaultTable {
            at: HumanSpan(at),
            kind: FaultName::of(kind),
            job: kind.names().0.map(ToString::to_string),
            rank: None,
            node: kind.names().1.map(ToString::to_string),
            peer: None,
            back_after: None,
            lasts: None,
            rack: None,
            leaf: None,
            feed: None,
            apart: None,
            room: None,
            commit: None,
            by: None,
            late: None,
            fatal: None,
            policy: None,
        };
        match kind {
            FaultKind::KillRank { rank, .. } | FaultKind::Strand { rank, .. } => {
                FaultTable { rank: Some(*rank), ..table }
            }
            FaultKind::Hang { rank, .. } => FaultTable { rank: *rank, ..table },
            FaultKind::HangStart { .. }
            | FaultKind::Cancel { .. }
            | FaultKind::Drain { .. }
            | FaultKind::Undrain { .. } => table,
            FaultKind::KillAgent { back_after, .. }
            | FaultKind::KillAgentAndRanks { back_after, .. }
            | FaultKind::PowerOff { back_after, .. }
            | FaultKind::LoseNodeDisk { back_after, .. }
            | FaultKind::KillControlPlane { back_after } => {
                FaultTable { back_after: span(back_after), ..table }
            }
            FaultKind::Weaken { peer, .. } => FaultTable { peer: peer.clone(), ..table },
            FaultKind::CutOff { lasts, .. }
            | FaultKind::SlowDown { lasts, .. }
            | FaultKind::HostSleeps { lasts } => FaultTable { lasts: span(lasts), ..table },
            FaultKind::Find { fatal, lasts, .. } => {
                FaultTable { lasts: span(lasts), fatal: Some(*fatal), ..table }
            }
            FaultKind::FillDisk { lasts, room } => {
                FaultTable { lasts: span(lasts), room: Some(*room), ..table }
            }
            FaultKind::SlowDisk { lasts, commit } => {
                FaultTable { lasts: span(lasts), commit: span(commit), ..table }
            }
            FaultKind::PowerOffAll { branch, back_after, apart } => {
                FaultTable { back_after: span(back_after), apart: span(apart), ..table }.at(branch)
            }
            FaultKind::CutOffAll { branch, lasts, apart } => {
                FaultTable { lasts: span(lasts), apart: span(apart), ..table }.at(branch)
            }
            FaultKind::ClockForward { by } | FaultKind::ClockBack { by } => {
                FaultTable { by: span(by), ..table }
            }
            FaultKind::TakeOver { after, late } => {
                FaultTable { back_after: span(after), late: span(late), ..table }
            }
            FaultKind::Upgrade { back_after, policy } => {
                FaultTable { back_after: span(back_after), policy: *policy, ..table }
            }
        }
    }

    fn at(self, branch: &Branch) -> FaultTable {
        match branch.clone() {
            Branch::Rack(rack) => FaultTable { rack: Some(rack), ..self },
            Branch::Leaf(leaf) => FaultTable { leaf: Some(leaf), ..self },
            Branch::Feed(feed) => FaultTable { feed: Some(feed), ..self },
        }
    }
}

impl FaultName {
    fn of(kind: &FaultKind) -> FaultName {
        match kind {
            FaultKind::KillRank { .. } => FaultName::KillRank,
            FaultKind::Hang { .. } => FaultName::Hang,
            FaultKind::Strand { .. } => FaultName::Strand,
            FaultKind::HangStart { .. } => FaultName::HangStart,
            FaultKind::KillAgent { .. } => FaultName::KillAgent,
            FaultKind::KillAgentAndRanks { .. } => FaultName::KillAgentAndRanks,
            FaultKind::PowerOff { .. } => FaultName::PowerOff,
            FaultKind::CutOff { .. } => FaultName::CutOff,
            FaultKind::KillControlPlane { .. } => FaultName::KillControlPlane,
            FaultKind::FillDisk { .. } => FaultName::FillDisk,
            FaultKind::SlowDisk { .. } => FaultName::SlowDisk,
            FaultKind::PowerOffAll { .. } => FaultName::PowerOffAll,
            FaultKind::CutOffAll { .. } => FaultName::CutOffAll,
            FaultKind::LoseNodeDisk { .. } => FaultName::LoseNodeDisk,
            FaultKind::ClockForward { .. } => FaultName::ClockForward,
            FaultKind::ClockBack { .. } => FaultName::ClockBack,
            FaultKind::HostSleeps { .. } => FaultName::HostSleeps,
            FaultKind::TakeOver { .. } => FaultName::TakeOver,
            FaultKind::Upgrade { .. } => FaultName::Upgrade,
            FaultKind::Find { .. } => FaultName::Find,
            FaultKind::Weaken { .. } => FaultName::Weaken,
            FaultKind::SlowDown { .. } => FaultName::SlowDown,
            FaultKind::Cancel { .. } => FaultName::Cancel,
            FaultKind::Drain { .. } => FaultName::Drain,
            FaultKind::Undrain { .. } => FaultName::Undrain,
        }
    }
}

impl FaultKind {
    /// The job and the node that it is about.
    pub(crate) fn names(&self) -> (Option<&str>, Option<&str>) {
        match self {
            FaultKind::KillRank { job, .. }
            | FaultKind::Strand { job, .. }
            | FaultKind::Hang { job, .. }
            | FaultKind::HangStart { job }
            | FaultKind::Cancel { job } => (Some(job), None),
            FaultKind::KillAgent { node, .. }
            | FaultKind::KillAgentAndRanks { node, .. }
            | FaultKind::PowerOff { node, .. }
            | FaultKind::CutOff { node, .. }
            | FaultKind::LoseNodeDisk { node, .. }
            | FaultKind::Find { node, .. }
            | FaultKind::Weaken { node, .. }
            | FaultKind::SlowDown { node, .. }
            | FaultKind::Drain { node }
            | FaultKind::Undrain { node } => (None, Some(node)),
            _ => (None, None),
        }
    }

    /// The nodes that it takes at once.
    pub(crate) fn branch(&self) -> Option<&Branch> {
        match self {
            FaultKind::PowerOffAll { branch, .. } | FaultKind::CutOffAll { branch, .. } => {
                Some(branch)
            }
            _ => None,
        }
    }
}
