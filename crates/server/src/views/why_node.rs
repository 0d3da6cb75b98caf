//! What a node is doing, and why the rest of it is idle, in plain sentences.

use super::View;
use super::health::{doing, waits_for_person};
use super::jobs;
use super::why::coarse;
use lindos_api::user::{NodeJob, NodeWhy, NotHere};
use lindos_core::explain::node::{self, NodeIdle, NodeOutlook, NodeWork, Passed};
use lindos_core::health::fleet::{Node, NodeState};
use lindos_core::health::repair::{Stage, Ticket};
use lindos_model::{JobId, NodeId, Time};

/// The answer for the node of this name, if there is one.
pub fn why_node(view: &View<'_>, name: &str) -> Option<NodeWhy> {
    let id = view.core.node_by_name(name)?;
    let node = view.core.node(id)?;
    let outlook = view.core.why_node(id)?;
    let (held_for, held_from) = match &outlook.idle {
        Some(NodeIdle::Held { job, from, .. }) => (Some(job.0), from.map(|from| from.0)),
        _ => (None, None),
    };
    let (waiting_jobs, waiting_gpus, foremost) = match &outlook.idle {
        Some(NodeIdle::Unwanted { jobs, gpus, foremost }) => (*jobs, *gpus, &foremost[..]),
        _ => (0, 0, &[][..]),
    };
    Some(NodeWhy {
        node: id.0,
        name: name.to_string(),
        state: node.state.name().to_string(),
        drained: node.drained.clone(),
        out: node.out.map(|out| out.name().to_string()),
        gpus: node.spec.gpus,
        gpus_free: outlook.free.len(),
        answer: answer(view, id, node, &outlook),
        jobs: outlook.work.iter().map(|work| job(view, work)).collect(),
        idle: outlook.idle.as_ref().map(|idle| kind(idle).to_string()),
        held_for,
        held_from,
        waiting_jobs,
        waiting_gpus,
        foremost: foremost.iter().map(|passed| not_here(view, node, passed)).collect(),
        hints: hints(view, id, node, &outlook),
    })
}

fn kind(idle: &NodeIdle) -> &'static str {
    match idle {
        NodeIdle::Expected => "expected",
        NodeIdle::Silent => "silent",
        NodeIdle::Fenced => "fenced",
        NodeIdle::Out(out) => out.name(),
        NodeIdle::Drained { .. } => "drained",
        NodeIdle::Reserved { .. } => "reserved",
        NodeIdle::Held { .. } => "held",
        NodeIdle::Spare { .. } | NodeIdle::SpareOf { .. } => "spare",
        NodeIdle::NoDemand => "no_demand",
        NodeIdle::Unwanted { .. } => "unwanted",
    }
}

fn name(view: &View<'_>, id: JobId) -> String {
    let Some(job) = view.core.job(id) else { return String::new() };
    match job.array_index {
        Some(index) => format!("{}[{index}]", job.spec.name),
        None => job.spec.name.clone(),
    }
}

fn job(view: &View<'_>, work: &NodeWork) -> NodeJob {
    NodeJob {
        job: work.job.0,
        name: name(view, work.job),
        gpus: work.gpus.to_string(),
        since: work.since.0,
        until: work.until.map(|until| until.0),
        stopping: work.is_stopping,
    }
}

fn answer(view: &View<'_>, id: NodeId, node: &Node, outlook: &NodeOutlook) -> String {
    let (name, all, free) = (&node.spec.name, node.spec.gpus, outlook.free.len());
    if let Some(ticket) = view.core.ticket(id) {
        return format!("{name} is {}", out_of_service(ticket));
    }
    let Some(idle) = &outlook.idle else {
        return match all {
            1 => format!("{name} is busy: its GPU is taken"),
            all => format!("{name} is busy: all of its {all} GPUs are taken"),
        };
    };
    let because = because(view, node, idle);
    if node.burn_in.is_some() {
        let meanwhile = "it is burnt in meanwhile, and whoever wants it has it at once";
        return format!("{name} is idle: {because}; {meanwhile}");
    }
    if outlook.work.is_empty() {
        return format!("{name} is idle: {because}");
    }
    format!("{name} is partly idle: {free} of its {all} GPUs are free, and {because}")
}

/// Why a node is out and what is done about it, as the rest of a sentence.
fn out_of_service(ticket: &Ticket) -> String {
    let out = if matches!(ticket.stage, Stage::BurnIn { .. } | Stage::Suspect { .. }) {
        "burn-in"
    } else {
        "repair"
    };
    let (number, class, detail) = (ticket.number, &ticket.class, &ticket.detail);
    let detail = detail.trim_end_matches('.');
    let device = ticket.device.as_ref().map(|device| format!(" on {device}")).unwrap_or_default();
    format!("out for {out} (ticket {number}): {class}{device} ({detail}); {}", doing(ticket))
}

fn because(view: &View<'_>, node: &Node, idle: &NodeIdle) -> String {
    let until = |at: Time| coarse(at.since(view.now));
    match idle {
        NodeIdle::Out(out) => format!("it is out for {}", out.name()),
        NodeIdle::Expected => "it belongs to the fleet, and its agent never reported".to_string(),
        NodeIdle::Silent => "its agent is not heard from; it is being fenced".to_string(),
        NodeIdle::Fenced => {
            "it was not heard from and was fenced; it is back when its agent reports".to_string()
        }
        NodeIdle::Drained { reason } if reason.is_empty() => {
            "it was drained, so nothing new starts there".to_string()
        }
        NodeIdle::Drained { reason } => {
            format!("it was drained, so nothing new starts there: {reason}")
        }
        NodeIdle::Reserved { name, team, from, .. } if *from > view.now => {
            let whom =
                team.as_ref().map_or("maintenance".to_string(), |team| format!("team {team}"));
            format!(
                "it is reserved for {whom} (`{name}`) in {}; only jobs that are over by then start \
                 there",
                until(*from)
            )
        }
        NodeIdle::Reserved { name, team: None, until: end, .. } => {
            format!("it is in maintenance (`{name}`) for {} more", until(*end))
        }
        NodeIdle::Reserved { name, team: Some(team), until: end, .. } => format!(
            "it is reserved for team {team} (`{name}`) for {} more, and none of its jobs wants it",
            until(*end)
        ),
        NodeIdle::Held { job, preempts: true, .. } => {
            format!("it is held for job {job}, for which other jobs are being stopped")
        }
        NodeIdle::Held { job, from: Some(from), .. } => format!(
            "it is held for job {job}, which starts in {} at the latest; only jobs that are over \
             by then start there",
            until(*from)
        ),
        NodeIdle::Held { job, from: None, .. } => {
            format!("it is held for job {job}, for which nodes are gathered as they become free")
        }
        NodeIdle::Spare { spares: 1 } => {
            "it is the spare that the policy keeps for gangs that lose a node".to_string()
        }
        NodeIdle::Spare { spares } => {
            format!("it is one of the {spares} spares kept for gangs that lose a node")
        }
        NodeIdle::SpareOf { job, standby } => {
            let warm = match standby.map(|standby| standby.ready_at) {
                Some(Some(_)) => "; it is warm: the job's processes wait there for a rank",
                Some(None) => "; the job's processes are being started there, to wait for a rank",
                None => "",
            };
            format!("it is kept for job {job}, should that lose a node{warm}")
        }
        NodeIdle::NoDemand => "no job waits".to_string(),
        NodeIdle::Unwanted { jobs: 1, gpus, .. } => {
            format!("the one job that waits, for {gpus} GPUs, does not start there")
        }
        NodeIdle::Unwanted { jobs, gpus, .. } => {
            let whole = if node.is_whole() { "" } else { " with what is free" };
            format!("none of the {jobs} jobs that wait, for {gpus} GPUs, starts there{whole}")
        }
    }
}

fn not_here(view: &View<'_>, node: &Node, passed: &Passed) -> NotHere {
    let (kind, text) = match &passed.because {
        node::NotHere::Waits(reason) => (reason.name(), reason.to_string()),
        node::NotHere::Platform => {
            let wanted = view
                .core
                .job(passed.job)
                .map(|job| job.spec.platforms.join(" or "))
                .unwrap_or_default();
            ("platform", format!("it takes only {wanted}, and this is {}", node.spec.platform))
        }
        node::NotHere::Label { key, value } => (
            "label",
            match node.spec.labels.get(key) {
                Some(other) => format!("it wants {key} = {value}, and here it is {other}"),
                None => format!("it wants the label {key} = {value}, which this node lacks"),
            },
        ),
        node::NotHere::Excluded => ("excluded", "it names this node in gang.exclude".to_string()),
        node::NotHere::Gpus { wanted } if *wanted > node.spec.gpus => (
            "gpus",
            format!("it wants {wanted} GPUs of each node, and this has {}", node.spec.gpus),
        ),
        node::NotHere::Gpus { wanted } => (
            "gpus",
            format!("it wants {wanted} free GPUs of each node, and here are {}", node.free().len()),
        ),
    };
    NotHere { job: passed.job.0, name: name(view, passed.job), kind: kind.to_string(), text }
}

fn hints(view: &View<'_>, id: NodeId, node: &Node, outlook: &NodeOutlook) -> Vec<String> {
    let name = &node.spec.name;
    if let Some(ticket) = view.core.ticket(id) {
        return repair_hints(name, node, ticket);
    }
    let mut hints = hints_of_the_idle(view, node, outlook);
    if let Some((_, finding)) = view.core.kept_in().find(|(kept, _)| *kept == id) {
        let because = view.core.kept_because(id);
        let because = because.map_or_else(String::new, |because| format!(": {because}"));
        hints.push(format!("{} was found there, and it stays in service{because}", finding.class));
    }
    hints.extend(outlook.work.iter().filter_map(|work| {
        let slow = jobs::straggler(view, view.core.job(work.job)?)?;
        let is_here = slow.node == *name;
        is_here.then(|| format!("job {} is slowed down from here: {}", work.job, slow.text))
    }));
    hints
}

fn repair_hints(name: &str, node: &Node, ticket: &Ticket) -> Vec<String> {
    let mut hints = Vec::new();
    if waits_for_person(ticket) {
        hints.push(format!(
            "when it is mended: `lindos repairs done {name}`, with `--replaced` if it, or the part \
             in question, is another one now"
        ));
    }
    hints.push(format!("if nothing is wrong with it: `lindos repairs release {name}`"));
    hints.push(format!("`lindos node {name}` tells what was found there and what was tried"));
    if node.drained.is_some() {
        hints.push(format!("it is drained as well: `lindos undrain {name}` ends that"));
    }
    hints
}

fn hints_of_the_idle(view: &View<'_>, node: &Node, outlook: &NodeOutlook) -> Vec<String> {
    let name = &node.spec.name;
    match &outlook.idle {
        Some(NodeIdle::Drained { .. }) => {
            vec![format!("`lindos undrain {name}` puts it back in service")]
        }
        Some(NodeIdle::Expected) => vec![format!("start the agent on {name}")],
        Some(NodeIdle::Silent | NodeIdle::Fenced) => {
            vec![format!("look at {name} itself: its agent, its network, its power")]
        }
        Some(NodeIdle::Held { job, .. }) => {
            vec![format!("`lindos why {job}` tells what job {job} waits for")]
        }
        Some(NodeIdle::Unwanted { foremost, .. }) => foremost
            .first()
            .map(|first| format!("`lindos why {}` tells what would start it", first.job))
            .into_iter()
            .collect(),
        Some(
            NodeIdle::Out(_)
            | NodeIdle::Reserved { .. }
            | NodeIdle::Spare { .. }
            | NodeIdle::SpareOf { .. }
            | NodeIdle::NoDemand,
        ) => Vec::new(),
        None if node.state != NodeState::Up || node.drained.is_some() => {
            let state = if node.state == NodeState::Up { "drained" } else { node.state.name() };
            vec![format!("it is {state}: nothing new starts there when they are over")]
        }
        None => {
            let ends = outlook.work.iter().map(|work| work.until).collect::<Option<Vec<Time>>>();
            let last = ends.and_then(|ends| ends.into_iter().max());
            last.map(|at| {
                let span = coarse(at.since(view.now));
                format!("all of it is free in {span} at the latest, by its jobs' time limits")
            })
            .into_iter()
            .collect()
        }
    }
}
