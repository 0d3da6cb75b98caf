//! A setup as a file that gives it again: how a case that fails is handed on.

use super::{FaultTable, JobTable, NetworkTable, ReservationTable};
use crate::fault::{Fault, FaultKind};
use crate::script::Bug;
use crate::world::{Setup, SimJob, SimReservation};
use lindos_model::job::HumanSpan;
use lindos_model::reservation::Purpose;
use lindos_model::{Millis, Policy, Time};
use serde::Serialize;
use toml::{Table, Value};

/// The text of the scenario file of a setup; `about` says what it shows. Keys that say what is so
/// anyway are left out.
pub fn to_text(setup: &Setup, about: &str) -> String {
    let mut file = Table::new();
    let mut put = |key: &str, value: Value| drop(file.insert(key.to_string(), value));
    put("about", about.into());
    put("seed", value(&setup.seed));
    put("limit", span(setup.limit.since(Time::ZERO)));
    put("heartbeat", span(setup.heartbeat));
    if let Some(at) = setup.healed_at {
        put("heal", span(at.since(Time::ZERO)));
    }
    if let Some(every) = setup.standby {
        put("standby", span(every));
    }
    put("policy", policy(&setup.policy));
    put("policies", Value::Array(setup.policies.iter().map(policy).collect()));
    put("machines", value(&setup.nodes));
    put("jobs", all(&setup.jobs, job_table));
    put("reservations", all(&setup.reservations, reservation_table));
    let fault = |fault: &Fault| FaultTable::of(fault.at.since(Time::ZERO), &fault.kind);
    put("faults", all(&setup.faults, fault));
    let network = &setup.network;
    put(
        "network",
        value(&NetworkTable {
            delay_min_ms: network.delay_min.0,
            delay_max_ms: network.delay_max.0,
            lost_ppm: network.lost_ppm,
            repeated_ppm: network.repeated_ppm,
        }),
    );
    let mut file = Value::Table(file);
    drop_empty(&mut file);
    toml::to_string(&file).expect("tables are plain data")
}

/// A fault in a line, in the words of the file: `kill_rank: job train, rank 3`.
pub(crate) fn fault_words(kind: &FaultKind) -> String {
    let Value::Table(mut table) = value(&FaultTable::of(Millis::ZERO, kind)) else {
        unreachable!("a fault is a table");
    };
    table.remove("at");
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let name = table.remove("kind").map_or(String::new(), |name| plain(&name));
    let keys: Vec<String> =
        table.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect();
    if keys.is_empty() { name } else { format!("{name}: {}", keys.join(", ")) }
}

fn value(thing: &impl Serialize) -> Value {
    Value::try_from(thing).expect("tables are plain data")
}

fn all<T, R: Serialize>(things: &[T], table: impl Fn(&T) -> R) -> Value {
    Value::Array(things.iter().map(|thing| value(&table(thing))).collect())
}

fn span(span: Millis) -> Value {
    value(&HumanSpan(span))
}

/// What differs from the default.
fn policy(policy: &Policy) -> Value {
    let (Value::Table(mut table), Value::Table(usual)) = (value(policy), value(&Policy::default()))
    else {
        unreachable!("a policy is a table")
    };
    table.retain(|key, value| usual.get(key) != Some(value));
    Value::Table(table)
}

/// Everywhere in a scenario, what is empty is what it is by default. A policy may differ from the
/// default in nothing, and still be one of `policies`.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Table(table) => {
            table.iter_mut().for_each(|(_, value)| drop_empty(value));
            table.retain(|_, value| match value {
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Table(table) => !table.is_empty(),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

fn job_table(job: &SimJob) -> JobTable {
    let SimJob { at, spec, after, script } = job;
    let by_end = |any_end: bool| {
        let those = after.iter().filter(|(_, any)| *any == any_end);
        those.map(|(name, _)| name.clone()).collect()
    };
    JobTable {
        name: spec.name.clone(),
        at: Some(HumanSpan(at.since(Time::ZERO))),
        nodes: spec.nodes,
        min_nodes: Some(spec.min_nodes),
        gpus_per_node: spec.gpus_per_node,
        ranks_per_node: Some(spec.ranks_per_node),
        replicas: Some(spec.replicas),
        min_replicas: Some(spec.replicas_min),
        spares: Some(spec.spares),
        warm_spares: spec.warm_spares,
        warm_restarts: spec.warm_restarts,
        within: spec.within,
        segment: spec.segment,
        platforms: spec.platforms.clone(),
        labels: spec.labels.clone(),
        exclude: spec.exclude.clone(),
        team: spec.team.clone(),
        class: spec.class.clone(),
        priority: spec.priority,
        after: by_end(false),
        after_any: by_end(true),
        array: spec.array,
        time_limit: spec.time_limit.map(HumanSpan),
        retry_user: Some(spec.retry_user),
        retry_infrastructure: Some(spec.retry_infrastructure),
        steps: script.steps,
        step: HumanSpan(script.step),
        startup: Some(HumanSpan(script.startup)),
        startup_warm: script.stands_by.then(|| HumanSpan(script.startup - script.saved_warm)),
        checkpoint_every: script.checkpoint_every,
        checkpoint: Some(HumanSpan(script.checkpoint)),
        reports: script.reports,
        bug_at_step: script.bug.map(|Bug { step, .. }| step),
        bug_attempts: script.bug.map(|Bug { attempts, .. }| attempts),
        loss_breaks_at_step: script.loss_breaks.map(|Bug { step, .. }| step),
        loss_breaks_attempts: script.loss_breaks.map(|Bug { attempts, .. }| attempts),
    }
}

fn reservation_table(one: &SimReservation) -> ReservationTable {
    let team = match &one.purpose {
        Purpose::Team(name) => Some(name.clone()),
        Purpose::Maintenance => None,
    };
    ReservationTable {
        name: one.name.clone(),
        at: Some(HumanSpan(one.at.since(Time::ZERO))),
        maintenance: team.is_none(),
        team,
        nodes: one.nodes.clone(),
        from: HumanSpan(one.from.since(Time::ZERO)),
        lasts: HumanSpan(one.until.since(one.from)),
        cancel_at: one.cancel_at.map(|at| HumanSpan(at.since(Time::ZERO))),
    }
}
