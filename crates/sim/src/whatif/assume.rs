//! Everything that an answer rests on, in words.

use super::change::Change;
use super::compare::{Comparison, hours};
use super::history::History;
use super::measure::Seen;
use super::words::grouped;
use crate::twin::work::Every;
use lindos_model::{Column, Millis};
use std::fmt::Write as _;

/// What a GPU-hour costs if nobody says.
pub const USUAL_PRICE: f64 = 2.0;
pub const USUAL_CURRENCY: &str = "USD";

/// What was assumed, a sentence or two each: first of what is played in any case, then of the
/// change.
pub fn assumptions(
    history: &History,
    change: &Change,
    comparison: &Comparison,
    price: f64,
    currency: &str,
) -> Vec<String> {
    let mut all = vec![
        "Jobs come when they came and ask for what they asked for, whatever becomes of others. \
         People cancel, drain and reserve when they did."
            .to_string(),
        work(history),
        delays(history),
        faults(history, comparison),
        format!(
            "Everything ends when the recording does, after {}: what a job has not done by then is \
             not counted.",
            history.span()
        ),
        format!("A GPU-hour costs {price} {currency}, whatever the GPU does in it."),
    ];
    all.extend(unplayed(history));
    all.extend(of_change(history, change));
    all
}

fn work(history: &History) -> String {
    let count = |is: &dyn Fn(&super::measure::PastWork) -> bool| {
        history.jobs.iter().filter(|job| is(&job.work)).count()
    };
    let open = count(&|work| work.seen == Seen::AtWork);
    let silent = count(&|work| !work.tells_steps && work.seen != Seen::NotAtAll);
    let unknown = count(&|work| work.seen == Seen::NotAtAll);
    let untold = count(&|work| !work.tells_saves && work.work.checkpoints.every != Every::Never);
    let failed = count(&|work| work.fails.is_some());
    let mut text = "A job's step, start-up, restore and checkpoints take what they took in the \
                    middle of its own attempts. Where it got on by far less than usual, it stands still \
                    for so long again. A gang of another size is as fast."
        .to_string();
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            let jobs = if count == 1 { "job" } else { "jobs" };
            let _ = write!(text, " {count} {jobs} {what}.");
        }
    };
    add(
        open,
        "had not ended and did not say how much was left: work goes on for as long as it may",
    );
    add(silent, "told no steps: the work is the time of the last attempt");
    add(
        unknown,
        "never got to work: each does what the one in the middle of those that completed did",
    );
    add(
        untold,
        "saved and did not say so: how often is guessed from where they went on, and Lindos holds \
         their work for lost as it did",
    );
    add(failed, "failed by a fault of their own, and do so again at the same step");
    text
}

fn delays(history: &History) -> String {
    let delays = history.delays;
    format!(
        "Lindos takes {} from an order to launch until all ranks run, {} to stop, {} to fence a \
         node, as it did in the middle; nothing is lost on the way, and the control plane is always \
         there.",
        delays.launch, delays.stop, delays.fence
    )
}

fn faults(history: &History, comparison: &Comparison) -> String {
    let kinds: Vec<String> = history
        .incidents_by_kind()
        .into_iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    if kinds.is_empty() {
        return "No fault was recorded, so there is none here.".to_string();
    }
    let busy = history.busy_node_ms as f64 / history.node_ms.max(1) as f64;
    let on_record = "The faults on record strike the same nodes at the same times, whatever runs \
                     there then. What broke where nothing ran nobody has recorded.";
    let mut text = format!("Recorded faults: {}. {on_record}", kinds.join(", "));
    if comparison.is_drawn() {
        let _ = write!(
            text,
            " For {} further lives they are drawn, with and without the change by the same seeds: \
             each as often as it came, at any time, on any node. What only a job notices comes as \
             often as it came to the {:.0}% of node-time on which jobs were. They are drawn from {} \
             incidents: the intervals are about chance in the lives, not about how few these are.",
            comparison.seeds.len(),
            busy * 100.0,
            history.incidents.len()
        );
    }
    text.push_str(
        " A node that was not heard of was gone with all that ran there. A node that was drained \
         within a day after something broke there was drained for that, and is back as long after.",
    );
    text.push_str(&repairs(history));
    text
}

/// What is known of how nodes were mended.
fn repairs(history: &History) -> String {
    let tickets = history.incidents.iter().filter(|incident| incident.ticket.is_some()).count();
    let findings: usize = history.incidents.iter().map(|i| i.findings.len()).sum();
    if tickets + findings == 0 {
        return String::new();
    }
    let mut text = format!(
        " Checks find what they found ({findings}), and Lindos decides anew what to do about it. What \
         it orders ends as it did on record and after as long (nodes taken out: {tickets})"
    );
    if let Some(after) = history.usual.by_hand.and_then(|person| person.after) {
        let _ = write!(
            text,
            "; of what was never tried there, a person takes {after} and all else ends as it did most \
             often"
        );
    }
    text.push_str(
        ". A burn-in takes the time that the policy asks for, if somebody carried them out.",
    );
    text
}

fn unplayed(history: &History) -> Option<String> {
    let said: Vec<String> =
        history.unplayed.iter().map(|(what, count)| format!("{what} ({count})")).collect();
    (!said.is_empty()).then(|| format!("Not played again: {}.", said.join(", ")))
}

fn of_change(history: &History, change: &Change) -> Vec<String> {
    let mut all = Vec::new();
    if change.checkpoint_every.is_some() {
        all.push(
            "Every job that saved checkpoints saves them so; one takes as long as it did. Jobs \
             that saved none still do not."
                .to_string(),
        );
    }
    if let Some(fleet) = &change.fleet {
        all.push(format!(
            "The fleet is {} from the beginning: {} nodes and {} GPUs in place of {} and {}. Each of its \
             nodes breaks as often as one on record did, whatever GPUs it has; of faults on record \
             none is played under the change, as their nodes are not there, and no drain, reservation or \
             finding of theirs. Jobs ask for the nodes and GPUs that they asked for, and a step takes \
             as long as it did: a faster GPU is not known of.",
            fleet.name,
            grouped(fleet.nodes.len() as f64, 0),
            grouped(fleet.gpus() as f64, 0),
            grouped(history.nodes.len() as f64, 0),
            grouped(history.gpus() as f64, 0),
        ));
    }
    if (change.fault_rate - 1.0).abs() >= f64::EPSILON {
        all.push(format!(
            "Faults of every kind come {} times as often. Those on record are not played under \
             the change.",
            change.fault_rate
        ));
    }
    if (change.repair_time - 1.0).abs() > f64::EPSILON {
        all.push(format!(
            "Nodes that were silent or drained for a fault are away {} times as long.",
            change.repair_time
        ));
    }
    if change.nodes > 0 {
        let like = history.nodes.last().map_or("", |node| node.name.as_str());
        all.push(format!(
            "{} nodes more are there from the beginning, of the same design and in the same place \
             as the last of those that the fleet began with ({like} and its like). They cost as \
             much. Drawn faults strike them too; those on record do not.",
            change.nodes
        ));
    }
    if change.nodes < 0 {
        all.push("The nodes that joined last are not there, nor are their faults.".to_string());
    }
    if !change.jobs.is_empty() {
        let starts: Vec<String> =
            change.jobs.iter().map(|job| job.work.startup.to_string()).collect();
        all.push(format!(
            "The work of the job that is added is as its file says (start-up {}).",
            starts.join(", ")
        ));
    }
    all
}

/// How near the twin comes to what was recorded, without any change and with the faults on record.
pub fn calibration(comparison: &Comparison) -> String {
    let (recorded, twin) = (&comparison.recorded, &comparison.twin);
    let distance = recorded.distance(twin);
    if distance < 5e-7 {
        return "without a change, the twin comes to the ledger on record".to_string();
    }
    let worst = Column::ALL
        .iter()
        .max_by_key(|&&column| recorded.ledger[column].abs_diff(twin.ledger[column]));
    let worst = worst.map_or(String::new(), |&column| {
        let (was, is) = (hours(recorded.ledger[column]), hours(twin.ledger[column]));
        let digits = if was.max(is) < 100.0 { 3 } else { 0 };
        format!(
            ": most in {}, {} GPU-hours for {} on record",
            column.name(),
            grouped(is, digits),
            grouped(was, digits)
        )
    });
    format!(
        "without a change, {:.2}% of the GPU-time stands in another column than on record{worst}",
        distance * 100.0
    )
}

/// Of a span that nothing is known of.
pub fn nothing_to_draw(history: &History) -> bool {
    history.incidents.is_empty() || history.span() == Millis::ZERO
}
