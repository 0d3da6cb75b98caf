//! `lindos health` and `lindos node`

use super::Style;
use super::number::counted;
use super::table::{Builder, pairs};
use lindos_api::health::{FleetHealth, NodeHealth};
use std::fmt::Write as _;

/// The fleet at a glance: how many nodes are how, what is found, and where it is worst.
pub fn fleet(health: &FleetHealth, style: &Style) -> String {
    let mut text = counts(health);
    if !health.by_class.is_empty() {
        text.push('\n');
        text.push_str(&classes(health, style));
    }
    if !health.worst.is_empty() {
        text.push('\n');
        text.push_str(&worst(health, style));
    }
    if !health.impaired.is_empty() {
        text.push('\n');
        text.push_str(&impaired(health, style));
    }
    for breaker in &health.breakers {
        let (class, until) = (&breaker.class, style.ahead(breaker.until));
        let _ = write!(text, "\n{class} takes no node out: it has condemned too many at once. ");
        let _ = writeln!(text, "It may again {until}");
    }
    text
}

fn counts(health: &FleetHealth) -> String {
    let mut rows = vec![
        ("nodes", health.nodes.to_string()),
        ("well", health.nodes_well.to_string()),
        ("with findings", health.nodes_with_findings.to_string()),
    ];
    let by_hand = match health.waiting_for_person {
        0 => String::new(),
        1 => " (1 waits for a person)".to_string(),
        many => format!(" ({many} wait for a person)"),
    };
    rows.push(("in repair", format!("{}{by_hand}", health.nodes_in_repair)));
    rows.push(("in burn-in", health.nodes_in_burn_in.to_string()));
    rows.push(("kept in", health.nodes_kept_in.to_string()));
    rows.push(("drained", health.nodes_drained.to_string()));
    for state in ["silent", "fenced", "expected"] {
        rows.extend(health.by_state.get(state).map(|nodes| (state, nodes.to_string())));
    }
    pairs(&rows)
}

fn classes(health: &FleetHealth, style: &Style) -> String {
    let header = ["FOUND", "SEVERITY", "NODES", "TIMES"];
    let mut table = Builder::new(style.width, &header).right(&[2, 3]);
    for class in &health.by_class {
        table.row([
            class.class.clone(),
            class.severity.clone(),
            class.nodes.to_string(),
            class.findings.to_string(),
        ]);
    }
    table.finish()
}

fn worst(health: &FleetHealth, style: &Style) -> String {
    let header = ["NODE", "STATE", "SEVERITY", "FOUND", "SINCE"];
    let mut table = Builder::new(style.width, &header);
    for node in &health.worst {
        let mut found = node.class.clone();
        if node.findings > 1 {
            let _ = write!(found, " and {} more", node.findings - 1);
        }
        let state = match &node.out {
            Some(out) => format!("{}, {out}", node.state),
            None if node.kept_in => format!("{}, kept in", node.state),
            None => node.state.clone(),
        };
        let since = style.local_minute(node.since);
        table.row([node.node.clone(), state, node.severity.clone(), found, since]);
    }
    let more = health.nodes_with_findings as usize - health.worst.len();
    let mut text = table.finish();
    if more > 0 {
        let _ = writeln!(text, "and {} more", counted(more as u32, "node"));
    }
    text
}

/// What is left of racks and NVLink domains that have lost nodes.
fn impaired(health: &FleetHealth, style: &Style) -> String {
    let header = ["PLACE", "NODES", "LEFT", "LARGEST SEGMENT"];
    let mut table = Builder::new(style.width, &header).right(&[1, 2, 3]);
    for place in &health.impaired {
        table.row([
            format!("{} {}", place.kind, place.name),
            place.nodes.to_string(),
            place.nodes_left.to_string(),
            place.segment_max.to_string(),
        ]);
    }
    let mut text = table.finish();
    let more = health.places_impaired as usize - health.impaired.len();
    if more > 0 {
        let _ = writeln!(text, "and {} more", counted(more as u32, "place"));
    }
    text
}

/// All that is known of one node.
pub fn node(health: &NodeHealth, style: &Style) -> String {
    let mut text = head(health, style);
    if !health.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(health, style));
    }
    for work in &health.work {
        let what = if work.stopping { "is being stopped on" } else { "runs on" };
        let _ = write!(text, "\njob {} ({}) {what} GPUs {}", work.job, work.name, work.gpus);
        let _ = writeln!(text, ", since {}", style.local_and_ago(work.since));
    }
    text.push('\n');
    if health.history.is_empty() {
        text.push_str("nothing was ever found there\n");
    }
    for line in &health.history {
        let _ = writeln!(text, "{}  {}", style.local_minute(line.at), line.text);
    }
    text
}

fn head(health: &NodeHealth, style: &Style) -> String {
    let node = &health.node;
    let mut state = node.state.clone();
    if let Some(out) = &node.out {
        let _ = write!(state, ", out for {out}");
    }
    if let Some(reason) = &node.drained {
        let _ = write!(state, ", drained");
        if !reason.is_empty() {
            let _ = write!(state, ": {reason}");
        }
    }
    let place: Vec<&str> = [&node.site, &node.hall, &node.row, &node.rack]
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(String::as_str)
        .collect();
    let mut rows = vec![("node", node.name.clone()), ("state", state)];
    if !place.is_empty() {
        rows.push(("place", place.join(", ")));
    }
    rows.push(("GPUs", format!("{} ({} free), {}", node.gpus, node.gpus_free, node.platform)));
    if let Some(ticket) = &health.ticket {
        let since = style.local_and_ago(ticket.since);
        rows.push(("ticket", format!("{}, since {since}", ticket.ticket)));
        rows.push(("for", format!("{}: {}", ticket.class, ticket.detail)));
        rows.push(("now", ticket.text.clone()));
    }
    if let Some(kept) = &health.kept_in {
        rows.push(("kept in", format!("in spite of {}: {}", kept.class, kept.because)));
    }
    if !health.strikes.is_empty() {
        let times = counted(health.strikes.len() as u32, "fault");
        rows.push(("strikes", format!("it was to blame for {times} of jobs of late")));
    }
    if !health.tried.is_empty() {
        rows.push(("tried", tried(health)));
    }
    pairs(&rows)
}

/// `reset_gpu (2 times), reboot`, in the order in which they were first tried.
fn tried(health: &NodeHealth) -> String {
    let mut counts: Vec<(&str, u32)> = Vec::new();
    for tried in &health.tried {
        match counts.iter_mut().find(|(remedy, _)| *remedy == tried.remedy) {
            Some((_, count)) => *count += 1,
            None => counts.push((&tried.remedy, 1)),
        }
    }
    let one = |(remedy, count): &(&str, u32)| match count {
        1 => (*remedy).to_string(),
        count => format!("{remedy} ({count} times)"),
    };
    counts.iter().map(one).collect::<Vec<String>>().join(", ")
}

fn findings(health: &NodeHealth, style: &Style) -> String {
    let header = ["FOUND", "SEVERITY", "DEVICE", "SINCE", "TIMES", "SAYS"];
    let mut table = Builder::new(style.width, &header).right(&[4]);
    for found in &health.findings {
        let device = found.finding.device.as_ref();
        table.row([
            found.finding.class.to_string(),
            found.finding.severity.to_string(),
            device.map_or_else(|| "-".to_string(), ToString::to_string),
            style.local_minute(found.since),
            found.count.to_string(),
            found.finding.detail.clone(),
        ]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use lindos_api::health::{
        BreakerView, ClassHealth, FindingView, HistoryView, ImpairedPlace, NodeFindings,
        TicketView, TriedView,
    };
    use lindos_model::finding::{Action, Device, Finding, FindingClass, FindingSource, Severity};

    #[test]
    fn the_fleet_fits_the_page() {
        let style = sample::style();
        let worst = |node: &str, out: Option<&str>, findings| NodeFindings {
            node: node.to_string(),
            state: "up".to_string(),
            out: out.map(ToString::to_string),
            kept_in: out.is_none(),
            severity: "node-fatal".to_string(),
            class: "gpu.xid.79".to_string(),
            since: style.now - 200_000,
            findings,
        };
        let health = FleetHealth {
            nodes: 128,
            nodes_well: 120,
            nodes_with_findings: 3,
            nodes_in_repair: 2,
            waiting_for_person: 1,
            nodes_kept_in: 1,
            by_state: [("up".to_string(), 127), ("silent".to_string(), 1)].into(),
            by_class: vec![ClassHealth {
                class: "gpu.xid.79".to_string(),
                severity: "node-fatal".to_string(),
                nodes: 3,
                findings: 4,
            }],
            worst: vec![worst("n7", Some("repair"), 2), worst("n8", None, 1)],
            places_impaired: 2,
            impaired: vec![ImpairedPlace {
                kind: "NVLink domain".to_string(),
                name: "hall-1/r17".to_string(),
                nodes: 18,
                nodes_left: 16,
                segment_max: 16,
            }],
            breakers: vec![BreakerView {
                class: "nic.link_down".to_string(),
                until: style.now + 60_000,
            }],
            ..FleetHealth::default()
        };
        insta::assert_snapshot!(fleet(&health, &style), @"
        nodes          128
        well           120
        with findings  3
        in repair      2 (1 waits for a person)
        in burn-in     0
        kept in        1
        drained        0
        silent         1

        FOUND       SEVERITY    NODES  TIMES
        gpu.xid.79  node-fatal      3      4

        NODE  STATE        SEVERITY    FOUND                  SINCE
        n7    up, repair   node-fatal  gpu.xid.79 and 1 more  Jan 15 08:00
        n8    up, kept in  node-fatal  gpu.xid.79             Jan 15 08:00
        and 1 node more

        PLACE                     NODES  LEFT  LARGEST SEGMENT
        NVLink domain hall-1/r17     18    16               16
        and 1 place more

        nic.link_down takes no node out: it has condemned too many at once. It may again in 1m
        ");
    }

    #[test]
    fn a_node_tells_all_that_is_known_of_it() {
        let style = sample::style();
        let at = style.now - 200_000;
        let found = Finding {
            device: Some(Device::Gpu(3)),
            code: Some(79),
            ..Finding::new(
                FindingClass::known("gpu.xid.79"),
                Severity::NodeFatal,
                Action::Reboot,
                FindingSource::KernelLog,
                "GPU has fallen off the bus.",
            )
        };
        let line = |kind: &str, text: &str| HistoryView {
            at,
            kind: kind.to_string(),
            text: text.to_string(),
        };
        let tried = |remedy: &str| TriedView { remedy: remedy.to_string(), at };
        let mut view = sample::node("n7");
        view.out = Some("repair".to_string());
        view.rack = "r1".to_string();
        let health = NodeHealth {
            node: view,
            findings: vec![FindingView { finding: found, since: at, last: at, count: 2 }],
            strikes: vec![at],
            tried: vec![tried("reboot"), tried("reboot"), tried("technician")],
            ticket: Some(TicketView {
                ticket: 7,
                since: at,
                class: "gpu.xid.79".to_string(),
                detail: "GPU has fallen off the bus.".to_string(),
                text: "it waits for a technician".to_string(),
                ..TicketView::default()
            }),
            kept_in: None,
            history: vec![
                line("found", "found gpu.xid.79"),
                line("remedy_begun", "tries a reboot"),
            ],
            work: Vec::new(),
        };
        insta::assert_snapshot!(node(&health, &style), @"
        node     n7
        state    up, out for repair
        place    r1
        GPUs     2 (0 free), generic
        ticket   7, since 2027-01-15T08:00:00+00:00 (3m 20s ago)
        for      gpu.xid.79: GPU has fallen off the bus.
        now      it waits for a technician
        strikes  it was to blame for 1 fault of jobs of late
        tried    reboot (2 times), technician

        FOUND       SEVERITY    DEVICE  SINCE         TIMES  SAYS
        gpu.xid.79  node-fatal  gpu3    Jan 15 08:00      2  GPU has fallen off the
                                                             bus.

        Jan 15 08:00  found gpu.xid.79
        Jan 15 08:00  tries a reboot
        ");
        let well = NodeHealth {
            node: sample::node("n8"),
            findings: Vec::new(),
            strikes: Vec::new(),
            tried: Vec::new(),
            ticket: None,
            kept_in: None,
            history: Vec::new(),
            work: Vec::new(),
        };
        insta::assert_snapshot!(node(&well, &style), @"
        node   n8
        state  up
        GPUs   2 (0 free), generic

        nothing was ever found there
        ");
    }
}
