//! What would become of a job that was submitted now.

use super::View;
use super::why::{self, Words};
use crate::fault::Fault;
use lindos_api::user::DryRun;
use lindos_core::explain::outlook::DryRun as Answer;
use lindos_model::file::nearest;
use lindos_model::{JobSpec, NodeId, TrailKind};

/// The answer to a dry run; `Err`: why the job would be refused.
pub(crate) fn dry_run(view: &View<'_>, spec: &JobSpec) -> Result<DryRun, Fault> {
    let who = match spec.array {
        Some(size) if size > 1 => format!("the first of its {size} jobs"),
        _ => "it".to_string(),
    };
    match view.core.dry_run(spec) {
        Answer::Refused(rejection) => {
            let fault = Fault::from(&rejection);
            Err(match meant(view, spec) {
                Some(hint) => fault.hint(hint),
                None => fault,
            })
        }
        Answer::Starts { nodes, span } => {
            let name = |&id: &NodeId| view.core.node(id).map(|node| node.spec.name.clone());
            let first: Vec<String> =
                nodes.iter().take(TrailKind::PLACED_FIRST).filter_map(name).collect();
            let placed = TrailKind::Placed {
                nodes: nodes.len() as u32,
                first: first.clone(),
                ranks: spec.ranks(nodes.len() as u32),
                span: span.clone(),
            };
            let place = placed.to_string();
            let place = place.strip_prefix("placed ").unwrap_or(&place);
            let answer = format!("{who} would start now: {place}");
            let span = Some(span);
            Ok(DryRun { starts: true, answer, nodes: first, span, ..DryRun::default() })
        }
        Answer::Waits(outlook) => Ok(DryRun {
            answer: format!(
                "{who} would wait: {}{}",
                outlook.reason,
                why::only(spec, &outlook.reason)
            ),
            hints: why::hints(view, &Words::would(spec), &outlook),
            when: why::when(view, &outlook, None),
            likely_start: outlook.likely.map(|at| at.0),
            latest_start: outlook.latest.map(|at| at.0),
            wait_reason: Some(outlook.reason),
            ..DryRun::default()
        }),
    }
}

/// For a job that names a team or a class that the policy does not have: those that it has.
pub fn meant(view: &View<'_>, spec: &JobSpec) -> Option<String> {
    let policy = view.core.policy();
    let classes: Vec<&str> = policy.classes.iter().map(|class| class.name.as_str()).collect();
    let teams: Vec<&str> = policy.teams.iter().map(|team| team.name.as_str()).collect();
    if !spec.class.is_empty() && !classes.contains(&spec.class.as_str()) {
        return Some(one_of("class", "classes", &spec.class, &classes));
    }
    if !teams.is_empty() && !teams.contains(&spec.team.as_str()) {
        return Some(one_of("team", "teams", &spec.team, &teams));
    }
    None
}

fn one_of(one: &str, many: &str, given: &str, known: &[&str]) -> String {
    if let Some(best) = nearest(given, known.iter().copied()).filter(|_| !given.is_empty()) {
        return format!("did you mean `{one} = \"{best}\"`?");
    }
    match known {
        [] => format!("the policy has no {many}"),
        _ => format!("the {many} are: {}", known.join(", ")),
    }
}
