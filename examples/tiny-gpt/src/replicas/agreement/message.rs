//! What replicas agree on, and what they tell each other to do so.

use serde::{Deserialize, Serialize};

/// One launch of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    pub replica: usize,
    pub epoch: u64,
}

/// Who shares the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub number: u64,
    /// In the order of the replicas, which is that of their shares.
    pub members: Vec<Member>,
}

impl View {
    /// The member that adds up the parts and writes the checkpoints.
    pub fn coordinator(&self) -> usize {
        self.members[0].replica
    }

    pub fn place(&self, replica: usize) -> Option<usize> {
        self.members.iter().position(|member| member.replica == replica)
    }
}

/// A view, and what its members need before they can take its next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    pub view: View,
    /// Steps that the furthest member holds; none if nobody has a state, as at the first start.
    pub step: Option<u64>,
    /// Who gives the others what they lack.
    pub source: usize,
    /// These need the state.
    pub fresh: Vec<usize>,
    /// These missed the last sum, and with it one step.
    pub behind: Vec<usize>,
}

impl Begin {
    /// The member from which this replica must hear before it can go on.
    pub fn giver_to(&self, replica: usize) -> Option<Member> {
        let lacks = self.fresh.contains(&replica) || self.behind.contains(&replica);
        let place = self.view.place(self.source).filter(|_| lacks)?;
        Some(self.view.members[place])
    }
}

/// How a replica stands with the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// Those from whom it has had this message.
    pub heard: Vec<Member>,
    pub in_view: bool,
    /// It promised to be in the view of this number to one that it lost since.
    pub left_waiting: Option<u64>,
}

/// What replicas tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// First on every link. Whoever is in no view repeats it when it changes.
    Here(Here),
    /// Shall we be the next view? Some of us join those that are in one.
    Propose {
        view: View,
        joiners: Vec<Member>,
    },
    /// I will be in no earlier one; this many steps I hold.
    Promise {
        number: u64,
        step: Option<u64>,
    },
    /// I promised a later one to another.
    Outbid {
        number: u64,
    },
    /// You were in a view of mine, and are no longer: only a later launch may come back.
    Dropped,
    Begin(Begin),
}

/// A view that began, for the caller to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub begin: Begin,
    /// Of the last view, and not of this one.
    pub lost: Vec<Member>,
    /// Of this view, and not of the last one; none at the first start.
    pub back: Vec<Member>,
    /// Whether this replica proposed it: one of them tells the news.
    pub proposed_here: bool,
}

impl Begun {
    /// Whether the last sum is not enough for this member to catch up. It happens only to one
    /// that was apart from the others, where few are enough to go on.
    pub fn leaves_behind(&self, member: Member, step: Option<u64>) -> bool {
        self.begin.behind.contains(&member.replica) && step.map(|step| step + 1) != self.begin.step
    }
}

/// The others went on without this replica.
#[derive(Debug, PartialEq, Eq)]
pub struct WasDropped;
