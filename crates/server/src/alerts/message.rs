//! What is sent: one message for what happened together.

use super::alert::{Alert, Grade, Kind};
use super::words;
use lindos_model::Time;
use serde::Serialize;
use std::collections::BTreeSet;

/// Entries of the trail that a message has word for word, and nodes and jobs that it names.
pub const LINES_MAX: usize = 8;
pub const NAMES_MAX: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    pub severity: Grade,
    pub kind: Kind,
    /// It puts an end to what was told before.
    pub over: bool,
    /// The first line: what, where, how many.
    pub title: String,
    /// What Lindos does about it, and what is left for a person.
    pub advice: String,
    /// Entries of the trail that are in this message.
    pub count: usize,
    pub nodes: Names,
    pub jobs: Names,
    /// The place that all its nodes share: `leaf l3`.
    pub place: Option<String>,
    /// The first few entries, in words.
    pub events: Vec<Line>,
    #[serde(rename = "first_at")]
    pub first: Time,
    #[serde(rename = "last_at")]
    pub last: Time,
    /// Numbers of the entries of the trail.
    #[serde(skip)]
    pub seqs: Vec<u64>,
}

/// How many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    pub count: usize,
    pub first: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub seq: u64,
    pub at: Time,
    pub text: String,
}

impl Names {
    fn of(names: &BTreeSet<String>) -> Names {
        Names { count: names.len(), first: names.iter().take(NAMES_MAX).cloned().collect() }
    }
}

impl Message {
    /// `alerts`: at least one, that belong together.
    pub fn of(alerts: &[Alert]) -> Message {
        let said = words::say(alerts);
        Message::with(alerts, said)
    }

    /// `alerts`: what has happened again since it was told, in order.
    pub fn again(alerts: &[Alert]) -> Message {
        let said = words::say_again(alerts);
        Message::with(alerts, said)
    }

    /// What could not be sent in time is not dropped: two messages become one that counts them.
    pub fn merged(self, next: Message) -> Message {
        let count = self.count + next.count;
        let (severity, kind) = if self.severity >= next.severity {
            (self.severity, self.kind)
        } else {
            (next.severity, next.kind)
        };
        let mut events = self.events;
        events.extend(next.events);
        events.truncate(LINES_MAX);
        let mut seqs = self.seqs;
        seqs.extend(next.seqs);
        Message {
            severity,
            kind,
            over: self.over && next.over,
            title: format!("{count} more events, which could not be told one by one"),
            advice: "This webhook took no messages for a while; `lindos events` has all of them."
                .into(),
            count,
            nodes: both(&self.nodes, &next.nodes),
            jobs: both(&self.jobs, &next.jobs),
            place: self.place.filter(|place| next.place.as_ref() == Some(place)),
            events,
            first: self.first.min(next.first),
            last: self.last.max(next.last),
            seqs,
        }
    }

    /// What `lindos alerts test` sends.
    pub fn sample(now: Time) -> Message {
        Message {
            severity: Grade::Info,
            kind: Kind::ControlPlane,
            over: false,
            title: "This is a test of Lindos's alerts".into(),
            advice: "Nothing has happened. Somebody ran `lindos alerts test`.".into(),
            count: 0,
            nodes: Names::default(),
            jobs: Names::default(),
            place: None,
            events: Vec::new(),
            first: now,
            last: now,
            seqs: Vec::new(),
        }
    }

    /// The same for the same events, however often and after whatever restart it is sent.
    pub fn id(&self, state: &str) -> String {
        match (self.seqs.iter().min(), self.seqs.iter().max()) {
            (Some(first), Some(last)) => format!("{state}-{first}-{last}-{}", self.count),
            _ => format!("{state}-test-{}", self.first.0),
        }
    }

    fn with(alerts: &[Alert], said: words::Said) -> Message {
        let nodes: BTreeSet<String> =
            alerts.iter().filter_map(|alert| Some(alert.node.as_ref()?.name.clone())).collect();
        let jobs: BTreeSet<u64> =
            alerts.iter().filter_map(|alert| Some(alert.job.as_ref()?.id)).collect();
        let first_jobs = jobs.iter().take(NAMES_MAX).map(ToString::to_string).collect();
        let lines = alerts.iter().take(LINES_MAX);
        let line = |alert: &Alert| Line { seq: alert.seq, at: alert.at, text: alert.text.clone() };
        let times = || alerts.iter().map(|alert| alert.at);
        let worst = alerts.iter().map(|alert| alert.grade).max();
        Message {
            severity: worst.expect("a message has alerts").max(said.severity),
            kind: said.kind,
            over: alerts.iter().all(Alert::is_over),
            title: said.title,
            advice: said.advice,
            count: alerts.len(),
            nodes: Names::of(&nodes),
            jobs: Names { count: jobs.len(), first: first_jobs },
            place: said.place,
            events: lines.map(line).collect(),
            first: times().min().unwrap_or_default(),
            last: times().max().unwrap_or_default(),
            seqs: alerts.iter().map(|alert| alert.seq).collect(),
        }
    }
}

/// The count is of the names that are known: two lists that were cut may share more.
fn both(a: &Names, b: &Names) -> Names {
    let first: BTreeSet<String> = a.first.iter().chain(&b.first).cloned().collect();
    Names { count: first.len().max(a.count).max(b.count), ..Names::of(&first) }
}
