//! Who was to blame for a fault, how sure that is, and by what.

use crate::{Activity, Exit, Rank, StackPlace, Symptom};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Culprit {
    /// The program, or what it was given.
    User,
    /// One machine.
    Node(String),
    /// One of these machines; nothing tells which.
    OneOf(Vec<String>),
    /// What these machines share: `rack r3`, `pdu p1`.
    Shared { place: String, nodes: u32 },
    /// A machine of which nothing was seen, the network or a service: nothing points at anybody.
    Unknown,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Culprit::User => f.write_str("the job itself"),
            Culprit::Node(node) => f.write_str(node),
            Culprit::OneOf(nodes) => write!(f, "one of {}", nodes.join(", ")),
            Culprit::Shared { place, nodes } => write!(f, "{place} with {nodes} of the nodes"),
            Culprit::Unknown => f.write_str("nobody that the evidence shows"),
        }
    }
}

/// The verdict on one fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    pub culprit: Culprit,
    /// How sure that is, of 100; with nobody named, how likely whoever comes first.
    pub percent: u8,
    /// The strongest first, at most [`Blame::CLUES_MAX`].
    pub clues: Vec<Clue>,
}

impl Blame {
    pub const CLUES_MAX: usize = 6;
    /// A verdict that is surer than this is acted on as it stands.
    pub const SURE: u8 = 90;
    /// Below this nobody is named: it may as well be somebody else.
    pub const LIKELY: u8 = 70;
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.culprit {
            Culprit::Unknown => write!(f, "{}", self.culprit)?,
            _ => write!(f, "{} ({} %)", self.culprit, self.percent)?,
        }
        let mut joint = ": ";
        for clue in self.clues.iter().take(3) {
            write!(f, "{joint}{clue}")?;
            joint = "; ";
        }
        Ok(())
    }
}

/// Something that speaks for one culprit, or against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clue {
    /// The machine that it was seen on.
    pub node: Option<String>,
    pub sign: Sign,
    /// What it adds for that machine, or else for the job itself, in decibans: ten times the
    /// decimal logarithm of how much likelier it is with that culprit than without.
    pub weight: i16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// This rank ended before the others.
    EndedFirst {
        rank: Rank,
        exit: Exit,
    },
    /// The last words of a rank.
    Said {
        rank: Rank,
        symptom: Symptom,
    },
    /// It was not heard from.
    Silent,
    /// It came back without a trace of what ran there.
    LostTrace,
    /// It would not start what it was told to.
    Refused,
    /// What a check has found there; `fresh`: since the attempt began, or shortly before its end.
    Found {
        class: String,
        fresh: bool,
    },
    /// It was to blame for so many faults of late.
    Struck {
        times: u32,
    },
    /// In a silence this rank was not where the others were.
    StoodApart {
        rank: Rank,
        step: Option<u64>,
        activity: Option<Activity>,
    },
    /// In a silence every rank did the same.
    AllAlike,
    /// The job has ended like this so often before, at this point or before its first step, and not
    /// on the same machine.
    SameAgain {
        times: u32,
    },
    LossBroken {
        rank: Rank,
        step: u64,
    },
    /// No attempt of the job has ever made a step.
    NeverTrained,
    /// The others waited for this rank, for so many thousandths of their time.
    WasSlow {
        rank: Rank,
        cost_permille: u32,
    },
    /// In a silence most ranks stood in a collective, and this one did not come to it.
    OutsideCollective {
        rank: Rank,
        place: StackPlace,
    },
}

impl fmt::Display for Clue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_deref().unwrap_or("it");
        match &self.sign {
            Sign::EndedFirst { rank, exit } => {
                write!(f, "rank {rank} on {node} ended first ({exit})")
            }
            Sign::Said { rank, symptom } => {
                write!(f, "rank {rank} said \"{}\" ({})", symptom.line, symptom.kind)
            }
            Sign::Silent => write!(f, "{node} went silent"),
            Sign::LostTrace => write!(f, "{node} lost every trace of it"),
            Sign::Refused => write!(f, "{node} would not start it"),
            Sign::Found { class, fresh: true } => write!(f, "{class} was found on {node}"),
            Sign::Found { class, fresh: false } => write!(f, "{class} stood on {node} before"),
            Sign::Struck { times } => {
                let faults = if *times == 1 { "fault" } else { "faults" };
                write!(f, "{node} was to blame for {times} {faults} of late")
            }
            Sign::StoodApart { rank, step, activity } => {
                write!(f, "rank {rank} on {node} stood apart")?;
                match (step, activity) {
                    (Some(step), Some(activity)) => write!(f, " (at step {step}, {activity})"),
                    (Some(step), None) => write!(f, " (at step {step})"),
                    (None, Some(activity)) => write!(f, " ({activity})"),
                    (None, None) => Ok(()),
                }
            }
            Sign::AllAlike => f.write_str("all its ranks stood alike"),
            Sign::SameAgain { times } => {
                let times_word = if *times == 1 { "time" } else { "times" };
                write!(f, "it ended so {times} {times_word} before, on other machines")
            }
            Sign::LossBroken { rank, step } => {
                write!(f, "the loss of rank {rank} was no number at step {step}")
            }
            Sign::NeverTrained => f.write_str("it has never made a step"),
            Sign::WasSlow { rank, cost_permille } => {
                let percent = (cost_permille + 5) / 10;
                write!(f, "rank {rank} on {node} was slow: the others lost {percent} % by it")
            }
            Sign::OutsideCollective { rank, place } => {
                write!(f, "rank {rank} on {node} did not come to the collective ({place})")
            }
        }
    }
}
