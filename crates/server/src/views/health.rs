//! What is wrong with the fleet, what is done about it, and all that is known of one node.

use super::{View, node_view, why_node};
use lindos_api::health::{
    BreakerView, ClassHealth, FindingView, FleetHealth, HistoryView, ImpairedPlace, KeptInView,
    NodeFindings, NodeHealth, Repairs, TicketView, TriedView,
};
use lindos_core::explain::impaired::Impaired;
use lindos_core::health::fleet::Out;
use lindos_core::health::record::{Health, Open};
use lindos_core::health::repair::{Stage, Ticket};
use lindos_model::finding::{Finding, Severity};
use lindos_model::{NodeId, Remedy};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The nodes that are out, the longest first, and those that are condemned and kept in service.
pub fn repairs(view: &View<'_>) -> Repairs {
    let mut open: Vec<TicketView> =
        view.core.repairs().map(|(node, open)| ticket(view, node, open)).collect();
    open.sort_by_key(|ticket| (ticket.since, ticket.ticket));
    let kept_in = view.core.kept_in().map(|(node, finding)| kept_in(view, node, finding));
    Repairs { open, kept_in: kept_in.collect() }
}

fn name(view: &View<'_>, node: NodeId) -> String {
    view.core.node(node).map(|node| node.spec.name.clone()).unwrap_or_default()
}

fn ticket(view: &View<'_>, id: NodeId, ticket: &Ticket) -> TicketView {
    let (stage, stage_since) = match ticket.stage {
        Stage::Leaving => ("leaving", ticket.since),
        Stage::Mending { since, .. } => ("mending", since),
        Stage::BurnIn { since, .. } => ("burn-in", since),
        Stage::Suspect { since, .. } => ("tested", since),
    };
    let allocations = view.core.node(id).map(|node| &node.allocations[..]).unwrap_or_default();
    let jobs: BTreeSet<u64> = allocations.iter().map(|allocation| allocation.job.0).collect();
    TicketView {
        ticket: ticket.number,
        node: name(view, id),
        since: ticket.since.0,
        class: ticket.class.to_string(),
        device: ticket.device.as_ref().map(ToString::to_string),
        detail: ticket.detail.clone(),
        remedy: ticket.remedy.name().to_string(),
        stage: stage.to_string(),
        stage_since: stage_since.0,
        waits_for_person: waits_for_person(ticket),
        text: doing(ticket),
        jobs: jobs.into_iter().collect(),
    }
}

pub(super) fn waits_for_person(ticket: &Ticket) -> bool {
    ticket.remedy.is_by_hand() && matches!(ticket.stage, Stage::Mending { .. })
}

/// What is being done about a node, as the rest of a sentence about it.
pub(super) fn doing(ticket: &Ticket) -> String {
    let remedy = ticket.remedy;
    match ticket.stage {
        Stage::Leaving if remedy.is_by_hand() => {
            format!("its jobs leave, then {}", awaited(remedy))
        }
        Stage::Leaving => format!("its jobs leave, then {remedy} is tried"),
        Stage::Mending { .. } if remedy.is_by_hand() => awaited(remedy),
        Stage::Mending { .. } => format!("{remedy} is under way"),
        Stage::BurnIn { .. } => "its burn-in is under way".to_string(),
        Stage::Suspect { .. } => "it is tested against the other suspects".to_string(),
    }
}

fn awaited(remedy: Remedy) -> String {
    format!("it waits for {remedy}")
}

fn kept_in(view: &View<'_>, id: NodeId, finding: &Finding) -> KeptInView {
    let because = view.core.kept_because(id);
    let because = because.map_or_else(|| "it goes in moments".to_string(), |b| b.to_string());
    let open = view.core.health(id).into_iter().flat_map(|health| &health.open);
    let since = open.filter(|open| open.finding.is_about_the_same(finding)).map(|open| open.since);
    KeptInView {
        node: name(view, id),
        since: since.min().map(|since| since.0),
        class: finding.class.to_string(),
        severity: finding.severity.to_string(),
        device: finding.device.as_ref().map(ToString::to_string),
        detail: finding.detail.clone(),
        because,
    }
}

/// From the harmless to the worst.
fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 0,
        Severity::Nonfatal => 1,
        Severity::Unknown => 2,
        Severity::AppFatal => 3,
        Severity::Warning => 4,
        Severity::GpuFatal => 5,
        Severity::NodeFatal => 6,
        Severity::Fatal => 7,
    }
}

/// The finding of a node that matters most, of those the oldest.
fn worst(health: &Health) -> Option<&Open> {
    health.open.iter().min_by_key(|open| (Reverse(rank(open.finding.severity)), open.since))
}

/// The fleet at a glance, with at most `limit` nodes by name.
pub fn fleet_health(view: &View<'_>, limit: usize) -> FleetHealth {
    let kept: BTreeSet<NodeId> = view.core.kept_in().map(|(node, _)| node).collect();
    let mut found: Vec<(NodeId, &Health, &Open)> = view
        .core
        .every_health()
        .filter_map(|(node, health)| Some((node, health, worst(health)?)))
        .collect();
    found.sort_by_key(|(node, health, open)| {
        (Reverse(rank(open.finding.severity)), Reverse(health.open.len()), open.since, *node)
    });
    let with_findings: BTreeSet<NodeId> = found.iter().map(|(node, ..)| *node).collect();
    let one = |&(node, health, open): &(NodeId, &Health, &Open)| {
        let known = view.core.node(node);
        NodeFindings {
            node: name(view, node),
            state: known.map(|node| node.state.name().to_string()).unwrap_or_default(),
            out: known.and_then(|node| node.out).map(|out| out.name().to_string()),
            kept_in: kept.contains(&node),
            severity: open.finding.severity.to_string(),
            class: open.finding.class.to_string(),
            since: open.since.0,
            findings: health.open.len() as u32,
        }
    };
    let (impaired, places) = view.core.impaired(limit);
    let mut answer = FleetHealth {
        places_impaired: impaired.values().sum(),
        impaired: places.into_iter().map(impaired_place).collect(),
        nodes_with_findings: with_findings.len() as u32,
        nodes_kept_in: kept.len() as u32,
        waiting_for_person: view.core.repairs().filter(|(_, t)| waits_for_person(t)).count() as u32,
        by_class: by_class(&found),
        worst: found.iter().take(limit).map(one).collect(),
        breakers: breakers(view),
        ..FleetHealth::default()
    };
    for open in found.iter().flat_map(|(_, health, _)| &health.open) {
        *answer.by_severity.entry(open.finding.severity.to_string()).or_default() += 1;
    }
    count_nodes(view, &with_findings, &mut answer);
    answer
}

fn count_nodes(view: &View<'_>, with_findings: &BTreeSet<NodeId>, answer: &mut FleetHealth) {
    for (index, node) in view.core.nodes().iter().enumerate() {
        answer.nodes += 1;
        *answer.by_state.entry(node.state.name().to_string()).or_default() += 1;
        answer.nodes_drained += u32::from(node.drained.is_some());
        answer.nodes_in_repair += u32::from(node.out == Some(Out::Repair));
        answer.nodes_in_burn_in += u32::from(node.out == Some(Out::BurnIn));
        let has_findings = with_findings.contains(&NodeId(index as u32));
        answer.nodes_well += u32::from(node.in_service() && !has_findings);
    }
}

fn impaired_place(place: Impaired) -> ImpairedPlace {
    ImpairedPlace {
        kind: place.kind.to_string(),
        name: place.name,
        nodes: place.nodes,
        nodes_left: place.left,
        segment_max: place.segment_max,
    }
}

fn by_class(found: &[(NodeId, &Health, &Open)]) -> Vec<ClassHealth> {
    let mut classes: BTreeMap<&str, (Severity, BTreeSet<NodeId>, u32)> = BTreeMap::new();
    for (node, health, _) in found {
        for open in &health.open {
            let severity = open.finding.severity;
            let class = classes.entry(open.finding.class.as_str());
            let (worst, nodes, findings) = class.or_insert((severity, BTreeSet::new(), 0));
            if rank(severity) > rank(*worst) {
                *worst = severity;
            }
            nodes.insert(*node);
            *findings += 1;
        }
    }
    let one = |(class, (severity, nodes, findings)): (&str, (Severity, BTreeSet<NodeId>, u32))| {
        ClassHealth {
            class: class.to_string(),
            severity: severity.to_string(),
            nodes: nodes.len() as u32,
            findings,
        }
    };
    let mut classes: Vec<ClassHealth> = classes.into_iter().map(one).collect();
    classes.sort_by_key(|class| Reverse(class.nodes));
    classes
}

fn breakers(view: &View<'_>) -> Vec<BreakerView> {
    let open = view.core.open_breakers();
    open.map(|(class, until)| BreakerView { class: class.to_string(), until: until.0 }).collect()
}

/// All that is known of the node of this name, if there is one.
pub fn node_health(view: &View<'_>, name: &str) -> Option<NodeHealth> {
    let id = view.core.node_by_name(name)?;
    let node = view.core.node(id)?;
    let nothing = Health::default();
    let health = view.core.health(id).unwrap_or(&nothing);
    let finding = |open: &Open| FindingView {
        finding: open.finding.clone(),
        since: open.since.0,
        last: open.last.0,
        count: open.count,
    };
    let kept = view.core.kept_in().find(|(other, _)| *other == id);
    Some(NodeHealth {
        node: node_view(id.index(), node),
        findings: health.open.iter().map(finding).collect(),
        strikes: health.strikes.iter().map(|at| at.0).collect(),
        tried: health
            .tried
            .iter()
            .map(|(remedy, at)| TriedView { remedy: remedy.name().to_string(), at: at.0 })
            .collect(),
        ticket: view.core.ticket(id).map(|open| ticket(view, id, open)),
        kept_in: kept.map(|(_, finding)| kept_in(view, id, finding)),
        history: health
            .history()
            .map(|(at, what)| HistoryView {
                at: at.0,
                kind: what.name().to_string(),
                text: what.to_string(),
            })
            .collect(),
        work: why_node(view, name).map(|why| why.jobs).unwrap_or_default(),
    })
}
