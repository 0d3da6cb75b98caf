//! The state of the fleet as numbers, in the text format that Prometheus reads.
//!
//! No series is one of a node, a job or a team: their number depends on no one's fleet. Each name is
//! described in `docs/metrics.md`.

use super::{View, fleet_health, goodput, repairs};
use crate::alerts::{Counts, Figures};
use crate::tally::Tally;
use lindos_core::health::fleet::NodeState;
use lindos_model::JobState;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

/// Classes of findings with a series of their own; the others, on the fewest nodes, are `other`.
const CLASSES_MAX: usize = 100;
const OTHER: &str = "other";

type Labels = Vec<(&'static str, String)>;
type Real = Gauge<f64, AtomicU64>;

/// What a scrape answers. `records`: of the journal.
pub(crate) fn metrics(view: &View<'_>, tally: &Tally, alerts: &Figures, records: u64) -> String {
    let mut page = Page(Registry::with_prefix("lindos"));
    nodes(view, &mut page);
    tickets(view, tally, &mut page);
    findings(view, &mut page);
    jobs(view, tally, &mut page);
    gpu_time(view, &mut page);
    told(alerts, &mut page);
    page.counter("journal_records", "Records in the journal", records);
    let mut text = String::new();
    encode(&mut text, &page.0).expect("a string takes any text");
    text
}

struct Page(Registry);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge: Gauge = Gauge::default();
        gauge.set(value.cast_signed());
        self.0.register(name, help, gauge);
    }

    fn real(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Real::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn gauges(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).set(value.cast_signed());
        }
        self.0.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn counters(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }
}

fn labelled(label: &'static str, value: &str, count: u64) -> (Labels, u64) {
    (vec![(label, value.to_string())], count)
}

fn nodes(view: &View<'_>, page: &mut Page) {
    let states = [NodeState::Expected, NodeState::Up, NodeState::Silent, NodeState::Fenced];
    let all = view.core.nodes();
    let in_state = |state: NodeState| {
        let count = all.iter().filter(|node| node.state == state).count();
        labelled("state", state.name(), count as u64)
    };
    page.gauges("nodes", "Nodes by whether they are heard from", states.map(in_state));
    let in_service = all.iter().filter(|node| node.in_service());
    page.gauge("nodes_in_service", "Nodes that take new work", in_service.count() as u64);
    let drained = all.iter().filter(|node| node.drained.is_some()).count();
    page.gauge("nodes_drained", "Nodes that people have taken out of service", drained as u64);
    let gpus = all.iter().map(|node| u64::from(node.spec.gpus)).sum();
    page.gauge("gpus", "GPUs of all nodes", gpus);
}

fn tickets(view: &View<'_>, tally: &Tally, page: &mut Page) {
    let repairs = repairs(view);
    let mut stages =
        BTreeMap::from([("leaving", 0), ("mending", 0), ("waiting", 0), ("burn-in", 0)]);
    for ticket in &repairs.open {
        let stage = if ticket.waits_for_person { "waiting" } else { ticket.stage.as_str() };
        *stages.entry(stage).or_default() += 1;
    }
    let rows = stages.into_iter().map(|(stage, count)| labelled("stage", stage, count));
    page.gauges("nodes_out", "Nodes out for repair or burn-in, by stage", rows);
    page.gauge(
        "nodes_kept_in",
        "Condemned nodes that something keeps in service",
        repairs.kept_in.len() as u64,
    );
    let opened = view.core.last_ticket();
    page.counter("tickets_opened", "Tickets ever opened", opened);
    let closed = opened - repairs.open.len() as u64;
    page.counter("tickets_closed", "Tickets ever closed", closed);
    let remedies = tally.remedies.iter().map(|((remedy, outcome), count)| {
        let remedy = ("remedy", remedy.name().to_string());
        (vec![remedy, ("outcome", (*outcome).to_string())], *count)
    });
    page.counters("remedies", "Remedies that are over, by outcome", remedies);
    let burn_ins = tally.burn_ins.iter().map(|(outcome, n)| labelled("outcome", outcome, *n));
    page.counters("burn_ins", "Burn-ins that are over, by outcome", burn_ins);
    page.counter("kept_in", "Times that a condemned node was kept in service", tally.kept_in);
    let opened = tally.breakers_opened;
    page.counter("breakers_opened", "Times that a check was taken to be broken", opened);
}

/// Without webhooks there are no such series.
fn told(alerts: &Figures, page: &mut Page) {
    type Of = fn(&Counts) -> &AtomicU64;
    if alerts.is_empty() {
        return;
    }
    let rows = |of: Of| {
        alerts
            .rows(of)
            .map(|(webhook, count)| labelled("webhook", webhook, count))
            .collect::<Vec<_>>()
    };
    page.counters("alerts_sent", "Messages that a webhook has taken", rows(|c| &c.sent));
    let given_up = rows(|c| &c.given_up);
    page.counters("alerts_given_up", "Messages that were tried for too long, or refused", given_up);
    let failed = rows(|c| &c.failed_tries);
    page.counters("alerts_failed_tries", "Tries to hand a message over that failed", failed);
    let merged = rows(|c| &c.merged);
    page.counters(
        "alerts_merged",
        "Messages that became part of another, for lack of room",
        merged,
    );
    page.gauges("alerts_queued", "Messages that wait for a webhook", rows(|c| &c.queued));
}

fn findings(view: &View<'_>, page: &mut Page) {
    let health = fleet_health(view, 0);
    let (first, rest) = health.by_class.split_at(health.by_class.len().min(CLASSES_MAX));
    let of_rest = rest.iter().map(|class| u64::from(class.findings)).sum();
    let own = first.iter().map(|class| labelled("class", &class.class, class.findings.into()));
    let other = (!rest.is_empty()).then(|| labelled("class", OTHER, of_rest));
    page.gauges("findings", "Findings that hold, by class", own.chain(other));
    let with_findings = health.nodes_with_findings.into();
    page.gauge("nodes_with_findings", "Nodes where something is found", with_findings);
    let (impaired, _) = view.core.impaired(0);
    let rows = ["NVLink domain", "rack"].map(|kind| {
        let count = impaired.get(kind).copied().unwrap_or(0);
        labelled("kind", &kind.replace(' ', "_").to_lowercase(), count.into())
    });
    let about = "NVLink domains, and other racks, of which not all nodes can take work";
    page.gauges("places_impaired", about, rows);
}

fn jobs(view: &View<'_>, tally: &Tally, page: &mut Page) {
    let states = [
        JobState::Queued,
        JobState::Starting,
        JobState::Running,
        JobState::Stopping,
        JobState::Completed,
        JobState::Failed,
        JobState::Cancelled,
    ];
    let mut counts = BTreeMap::from(states.map(|state| (state.name(), 0)));
    let mut waiting_gpus = 0;
    for job in view.core.jobs() {
        let state = job.state();
        *counts.entry(state.name()).or_default() += 1;
        waiting_gpus += if state == JobState::Queued { job.gpus() } else { 0 };
    }
    let queued = counts[JobState::Queued.name()];
    let rows = counts.into_iter().map(|(state, count)| labelled("state", state, count));
    page.gauges("jobs", "Jobs that are remembered, by state", rows);
    page.gauge("queue_jobs", "Jobs that wait", queued);
    page.gauge("queue_gpus", "GPUs that waiting jobs ask for", waiting_gpus);
    page.counter("launches", "Launches of gangs and of replicas that came back", tally.launches);
    let faults = ["infrastructure", "user", "nobody"]
        .map(|charge| labelled("charge", charge, tally.faults.get(charge).copied().unwrap_or(0)));
    page.counters("faults", "Faults of jobs, by whom they were charged to", faults);
}

fn gpu_time(view: &View<'_>, page: &mut Page) {
    let goodput = goodput(view);
    let family = Family::<Labels, Real>::default();
    for (column, ms) in &goodput.ledger.columns {
        let labels = vec![("column", column.clone())];
        family.get_or_create(&labels).set(*ms as f64 / 1000.0);
    }
    let help = "GPU-time by column of the ledger; judgement moves it between columns";
    page.0.register("gpu_time_seconds", help, family);
    page.real("goodput_ratio", "Productive GPU-time of all, from 0 to 1", goodput.goodput);
}
