//! What becomes of alerts on their way to a message.

mod grouping;
mod sentences;

use super::alert::{Alert, Grade, JobName, Kind, Node, places};
use super::config::{Filter, Rules};
use super::group::Grouper;
use lindos_model::{Location, Millis, Time};

pub const RULES: Rules = Rules {
    window: Millis(10_000),
    hold: Millis(60_000),
    repeat: Millis(600_000),
    recovery_slow: Millis(300_000),
};

pub fn grouper(min_severity: Grade) -> Grouper {
    Grouper::new(RULES, Filter { min_severity, kinds: Kind::ALL.into() })
}

/// Node `number` of a fleet with 4 nodes a rack and 32 a leaf.
pub fn node(number: u32) -> Node {
    let location = Location {
        spine: "s1".into(),
        leaf: format!("l{}", number / 32),
        rack: format!("r{}", number / 4),
        pdu: format!("p{}-{}", number / 32, number % 2),
        ..Location::default()
    };
    let mut places = places(&location);
    for place in &mut places {
        place.nodes = match &place.name[..1] {
            "l" => 32,
            "p" => 16,
            _ => 4,
        };
    }
    Node { name: format!("n{number:03}"), places }
}

/// An alert of a node; its words are those that the trail would have.
pub fn of_node(seq: u64, at: u64, kind: Kind, number: u32) -> Alert {
    let node = node(number);
    let (grade, class, words) = match kind {
        Kind::NodeSilent => (Grade::Warning, "", "silent for 5s; fencing it"),
        Kind::NodeOut => {
            (Grade::Warning, "gpu.xid.79", "taken out of service for gpu.xid.79, ticket 3")
        }
        Kind::PersonWanted => (Grade::Critical, "technician", "waits for a technician"),
        Kind::NodeBack => (Grade::Info, "up", "is up"),
        _ => (Grade::Info, "reboot", "tries a reboot"),
    };
    Alert {
        seq,
        at: Time(at),
        grade,
        kind,
        class: class.into(),
        text: format!("{} {words}", node.name),
        node: Some(node),
        job: None,
        mends: if kind == Kind::NodeBack { &[Kind::NodeSilent] } else { &[] },
        words: words.into(),
    }
}

pub fn of_job(seq: u64, at: u64, kind: Kind, job: u64, number: Option<u32>) -> Alert {
    let words = match kind {
        Kind::JobFailed => "failed: rank 0 on n001 ended first: exit status 1",
        _ => "fault at step 7: n001 went silent",
    };
    Alert {
        seq,
        at: Time(at),
        grade: if kind == Kind::JobFailed { Grade::Warning } else { Grade::Info },
        kind,
        class: String::new(),
        node: number.map(node),
        job: Some(JobName { id: job, name: "gpt".into() }),
        mends: &[],
        text: format!("job {job}/1 {words}"),
        words: words.into(),
    }
}
