//! The sentences of a message. The first line alone should tell whoever is woken by it what is
//! wrong, where, and how much of the fleet it is; the second what is being done and what is not.

use super::alert::{Alert, Grade, JobName, Kind, Node, Place, PlaceKind};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes, or jobs, that the first line names.
const NAMED: usize = 3;
/// `and 1 more` is as long as the name.
const NAMED_ALL: usize = NAMED + 1;
/// One place is blamed when at least this many nodes of it are concerned.
const SHARED_MIN: usize = 2;
/// When this many nodes of one leaf, rack or PDU fall silent at once, it is for a person.
const OUTAGE_MIN: usize = 3;

pub struct Said {
    pub severity: Grade,
    pub kind: Kind,
    pub title: String,
    pub advice: String,
    pub place: Option<String>,
}

/// `alerts`: at least one.
pub fn say(alerts: &[Alert]) -> Said {
    let lead = lead(alerts);
    let kind = lead[0].kind;
    let nodes = nodes_of(&lead);
    let place = shared_place(&nodes);
    let away = nodes.len() - back_of(alerts, &nodes);
    let is_outage = kind == Kind::NodeSilent && place.is_some() && away >= OUTAGE_MIN;
    let title = format!("{}{}", headline(&lead, &nodes, place), also(alerts, &lead));
    Said {
        severity: if is_outage { Grade::Critical } else { Grade::Info },
        kind,
        title,
        advice: advice(&lead, &nodes, place),
        place: place.map(ToString::to_string),
    }
}

/// `alerts`: at least one; each was told before, and has happened since.
pub fn say_again(alerts: &[Alert]) -> Said {
    let mut said = say(alerts);
    let lead = lead(alerts);
    match lead.len() {
        _ if lead[0].is_over() => {}
        1 => said.title += " (again)",
        times => said.title = format!("{} (again, {times} times since it was told)", said.title),
    }
    said
}

/// The alerts that the message is about: of the gravest kind that is not over.
fn lead(alerts: &[Alert]) -> Vec<&Alert> {
    let is_over = alerts.iter().all(Alert::is_over);
    let candidates = || alerts.iter().filter(|alert| alert.is_over() == is_over);
    let gravest = candidates().min_by_key(|alert| (std::cmp::Reverse(alert.grade), alert.kind));
    let kind = gravest.expect("a message has alerts").kind;
    // A node that is fenced was silent before: of two of one kind, the graver says what it is.
    let grade = candidates().filter(|alert| alert.kind == kind).map(|alert| alert.grade).max();
    candidates().filter(|alert| alert.kind == kind && Some(alert.grade) == grade).collect()
}

fn nodes_of<'a>(alerts: &[&'a Alert]) -> Vec<&'a Node> {
    let nodes = alerts.iter().filter_map(|alert| alert.node.as_ref());
    let by_name: BTreeMap<&str, &Node> = nodes.map(|node| (node.name.as_str(), node)).collect();
    by_name.into_values().collect()
}

/// Of how many of the nodes the last that is known is that they are well again.
fn back_of(alerts: &[Alert], nodes: &[&Node]) -> usize {
    let is_back = |node: &&&Node| {
        let of_node = |alert: &&Alert| {
            !alert.is_of_job() && alert.node.as_ref().is_some_and(|own| own.name == node.name)
        };
        // Alerts come in order.
        alerts.iter().rfind(of_node).is_some_and(Alert::is_over)
    };
    nodes.iter().filter(is_back).count()
}

fn jobs_of<'a>(alerts: impl Iterator<Item = &'a Alert>) -> Vec<&'a JobName> {
    let jobs = alerts.filter_map(|alert| alert.job.as_ref());
    let by_id: BTreeMap<u64, &JobName> = jobs.map(|job| (job.id, job)).collect();
    by_id.into_values().collect()
}

/// The smallest place in which all of several nodes stand.
fn shared_place<'a>(nodes: &[&'a Node]) -> Option<&'a Place> {
    let first = nodes.first().filter(|_| nodes.len() >= SHARED_MIN)?;
    let stands_in =
        |node: &Node, place: &Place| node.places.iter().any(|own| own.path == place.path);
    first.places.iter().find(|place| nodes.iter().all(|node| stands_in(node, place)))
}

/// `a, b, c and 27 more`
fn listed(names: &[impl ToString]) -> String {
    let named = if names.len() <= NAMED_ALL { NAMED_ALL } else { NAMED };
    let first: Vec<String> = names.iter().take(named).map(ToString::to_string).collect();
    match names.len().saturating_sub(named) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Whom the sentence is about: `n1 (rack r3, leaf l2)`, `30 of 32 nodes of leaf l3 (n1, n2, n3 and
/// 27 more)`.
fn nodes_named(nodes: &[&Node], place: Option<&Place>) -> String {
    if let [node] = nodes {
        let places: Vec<String> = node.places.iter().map(ToString::to_string).collect();
        return match places.len() {
            0 => node.name.clone(),
            _ => format!("{} ({})", node.name, places.join(", ")),
        };
    }
    let names: Vec<&String> = nodes.iter().map(|node| &node.name).collect();
    let (count, listed) = (nodes.len(), listed(&names));
    match place {
        Some(place) if place.nodes as usize >= count => {
            format!("{count} of {} nodes of {place} ({listed})", place.nodes)
        }
        Some(place) => format!("{count} nodes of {place} ({listed})"),
        None => format!("{count} nodes ({listed})"),
    }
}

fn headline(lead: &[&Alert], nodes: &[&Node], place: Option<&Place>) -> String {
    let is_one = nodes.len() == 1;
    let who = || nodes_named(nodes, place);
    let classes = || {
        let classes: BTreeSet<&str> = lead.iter().map(|alert| alert.class.as_str()).collect();
        listed(&classes.into_iter().collect::<Vec<_>>())
    };
    let jobs = jobs_of(lead.iter().copied());
    let of_jobs = |said: &str| match (&jobs[..], lead) {
        ([job], [alert]) => format!("{job} {}", alert.words),
        ([job], _) => format!("{job} {said} {} times", lead.len()),
        (many, _) => format!("{} jobs {said}: {}", many.len(), listed(many)),
    };
    match lead[0].kind {
        Kind::NodeSilent if lead[0].class == "fenced" => {
            format!("{} {} fenced: nothing runs there", who(), are(is_one))
        }
        Kind::NodeSilent => format!("{} went silent", who()),
        Kind::PersonWanted => match lead {
            [alert] => format!("{} {}", who(), alert.words),
            _ => format!("{} wait for a person ({})", who(), classes()),
        },
        Kind::NodeKeptIn => match lead {
            [alert] => format!("{} is {}", who(), alert.words),
            _ => format!("{} {} kept in service in spite of {}", who(), are(is_one), classes()),
        },
        Kind::NodeOut => format!("{} taken out of service for {}", who(), classes()),
        Kind::Finding => match lead {
            [alert] => format!("{}: {}", who(), alert.words),
            _ => format!("{}: found {}", who(), classes()),
        },
        Kind::Blamed => {
            if let ([job], [alert]) = (&jobs[..], lead) {
                return format!("{job}: {}", alert.words);
            }
            let (whom, is_one) = if nodes.is_empty() { (classes(), true) } else { (who(), is_one) };
            format!("{whom} {} to blame for faults of {}", are(is_one), listed(&jobs))
        }
        Kind::Repair => match lead {
            [alert] => format!("{} {}", who(), alert.words),
            _ => format!("{} being mended ({})", who(), classes()),
        },
        Kind::NodeBack => match lead {
            [alert] => format!("{} {}", who(), alert.words),
            _ if classes() == "up" => format!("{} {} up again", who(), are(is_one)),
            _ => format!("{} {} back or well again", who(), are(is_one)),
        },
        Kind::BreakerOpened | Kind::ControlPlane => lead[lead.len() - 1].words.clone(),
        Kind::JobFailed => of_jobs("failed for good"),
        Kind::JobHung => of_jobs("hung"),
        Kind::JobFault => of_jobs("hit by faults"),
        Kind::RecoverySlow => of_jobs("took long to recover"),
        Kind::JobResumed => of_jobs("go on after faults"),
        Kind::JobMoved => of_jobs("stopped by the queue, to go on"),
    }
}

fn are(is_one: bool) -> &'static str {
    if is_one { "is" } else { "are" }
}

/// What else the message holds, as the end of the first line.
fn also(alerts: &[Alert], lead: &[&Alert]) -> String {
    if lead[0].is_over() {
        return String::new();
    }
    let is_lead = |alert: &Alert| lead.iter().any(|lead| lead.seq == alert.seq);
    let others = || alerts.iter().filter(|alert| !is_lead(alert));
    let hit = match &jobs_of(others())[..] {
        _ if lead[0].is_of_job() => String::new(),
        [] => String::new(),
        [job] => format!("; {job} is hit"),
        many => format!("; {} jobs are hit", many.len()),
    };
    let failed = match &jobs_of(others().filter(|alert| alert.kind == Kind::JobFailed))[..] {
        [] => String::new(),
        [job] => format!(", and {job} failed for good"),
        many => format!(", and {} jobs failed for good", many.len()),
    };
    let nodes = nodes_of(lead);
    let back = match back_of(alerts, &nodes) {
        0 => String::new(),
        1 if nodes.len() == 1 => "; it is back already".into(),
        all if all == nodes.len() => "; all of them are back already".into(),
        count => format!("; {count} of them {} back already", are(count == 1)),
    };
    hit + &failed + &back
}

fn advice(lead: &[&Alert], nodes: &[&Node], place: Option<&Place>) -> String {
    let node = nodes.first().map_or("NODE", |node| node.name.as_str());
    let job = lead[0].job.as_ref().map_or_else(|| "ID".to_string(), |job| job.id.to_string());
    let is_many = jobs_of(lead.iter().copied()).len() > 1;
    match lead[0].kind {
        Kind::NodeSilent => {
            let look = match place {
                Some(place) => format!(
                    "They share {place}: look at that first ({}).",
                    if place.kind == PlaceKind::Pdu { "power" } else { "switch, power" }
                ),
                None => format!(
                    "If it does not come back by itself, look at power, network and agent: \
                     `lindos node {node}`."
                ),
            };
            format!("{look} Lindos fences silent nodes and starts their jobs again elsewhere.")
        }
        Kind::PersonWanted => format!(
            "Lindos has tried what it can. `lindos node {node}` says what was found; when it is \
             mended: `lindos repairs done {node}`."
        ),
        Kind::NodeKeptIn => format!(
            "Work still runs there, and Lindos will not take it out by itself. Decide: `lindos \
             drain {node}`, or leave it; `lindos repairs` has all such nodes."
        ),
        Kind::BreakerOpened => "Nodes with this finding stay in service meanwhile. Find out \
             whether the check or the nodes are broken: `lindos health`."
            .into(),
        Kind::NodeOut => format!(
            "Lindos has moved, or moves, the work elsewhere and tries to mend it; it will say so \
             when a person is wanted. `lindos node {node}`"
        ),
        Kind::Finding => format!("Nothing was taken out for it. `lindos node {node}`"),
        Kind::Blamed if nodes.is_empty() => format!(
            "Look at {} first: what the nodes share. `lindos events --job {job}` has \
             the evidence.",
            lead[0].class
        ),
        Kind::Blamed => format!(
            "Lindos takes out a node that is to blame again and again. `lindos node {node}`; \
             `lindos events --job {job}` has the evidence."
        ),
        Kind::Repair => format!("`lindos repairs` shows how far it is; `lindos node {node}`."),
        Kind::NodeBack | Kind::JobResumed => "Nothing to do.".into(),
        Kind::JobFailed if is_many => format!(
            "They are not started again. `lindos jobs` lists them, `lindos logs {job}` has the \
             last words of the first."
        ),
        Kind::JobFailed => format!(
            "It is not started again. `lindos job {job}` has its attempts, `lindos logs {job}` its \
             last words."
        ),
        Kind::JobHung => format!(
            "Lindos stops what hangs and starts it again from its last checkpoint. If it hangs \
             again at the same step: `lindos logs {job}`."
        ),
        Kind::JobFault if is_many => {
            "Lindos starts them again from their last checkpoints. `lindos jobs`".into()
        }
        Kind::JobFault => {
            format!("Lindos starts it again from its last checkpoint. `lindos job {job}`")
        }
        Kind::RecoverySlow => format!("`lindos events --job {job}` says where the time went."),
        Kind::JobMoved => format!("It goes on when there is room: `lindos why {job}`."),
        Kind::ControlPlane => "`lindos events` has what happened.".into(),
    }
}
