//! Faults like those on record, for more lives than the one that was lived.
//!
//! Each incident of the recording may come again, at any moment and on any node, as often as such
//! things came: what nobody notices where nothing runs, by the time for which jobs were on nodes;
//! all else by the time for which nodes were there. A higher rate keeps every incident that was
//! drawn and adds some, and new nodes have incidents of their own, so two lives of one seed differ
//! by what was changed and not by luck.

use super::history::{Drain, History, Incident};
use crate::reliability::chance::Chance;
use lindos_model::{Millis, NodeId, Time};
use std::ops::Range;

/// Where the faults of a life come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// The very ones on record, on their nodes at their times.
    Recorded,
    /// Drawn, by this seed.
    Drawn(u64),
}

/// On how many nodes a life is lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Those on record come first, as far as they stay.
    Recorded(usize),
    /// None of those on record is there.
    Others(usize),
}

/// The incidents of a life on these nodes.
pub fn incidents(
    history: &History,
    faults: Faults,
    nodes: Nodes,
    rate: f64,
    repair: f64,
) -> Vec<Incident> {
    let recorded = history.nodes.len();
    let mut incidents: Vec<Incident> = match (faults, nodes) {
        (Faults::Recorded, Nodes::Recorded(nodes)) => {
            let there = |incident: &&Incident| incident.node.index() < nodes;
            history.incidents.iter().filter(there).cloned().collect()
        }
        (Faults::Recorded, Nodes::Others(_)) => Vec::new(),
        (Faults::Drawn(seed), Nodes::Recorded(nodes)) => {
            let old = 0..recorded.min(nodes);
            let mut drawn = draw(history, seed, "", old, rate);
            drawn.extend(draw(history, seed, ", new nodes", recorded..nodes.max(recorded), rate));
            drawn
        }
        (Faults::Drawn(seed), Nodes::Others(nodes)) => draw(history, seed, "", 0..nodes, rate),
    };
    for incident in &mut incidents {
        stretch(incident, repair);
    }
    incidents.sort_by_key(|incident| (incident.at, incident.seq));
    incidents
}

fn draw(history: &History, seed: u64, of: &str, nodes: Range<usize>, rate: f64) -> Vec<Incident> {
    let mut drawn = Vec::new();
    for needs_a_job in [true, false] {
        let alike: Vec<&Incident> =
            history.incidents.iter().filter(|i| i.needs_a_job() == needs_a_job).collect();
        let share = nodes.len() as f64 / history.nodes.len().max(1) as f64;
        let seen = if needs_a_job {
            history.busy_node_ms as f64 / history.node_ms.max(1) as f64
        } else {
            1.0
        };
        let expected = alike.len() as f64 * share / seen.max(1e-6);
        if expected <= 0.0 {
            continue;
        }
        let noticed = if needs_a_job { "felt" } else { "seen" };
        let mut chance = Chance::new(seed, &format!("incidents {noticed}{of}"));
        let mut level = 0.0;
        for place in 0u64.. {
            chance.go_to(place);
            level += chance.exponential() / expected;
            if level >= rate {
                break;
            }
            let like = alike[chance.below(alike.len() as u64) as usize];
            let at = Time((chance.unit() * history.until.0 as f64) as u64);
            let node = NodeId((nodes.start as u64 + chance.below(nodes.len() as u64)) as u32);
            drawn.push(Incident { at, node, seq: place, ..like.clone() });
        }
    }
    drawn
}

fn stretch(incident: &mut Incident, repair: f64) {
    let stretched = |span: Millis| stretched(span, repair);
    incident.silence = incident.silence.map(|lasts| lasts.map(stretched));
    if let Some(Drain { lasts, .. }) = &mut incident.drain {
        *lasts = lasts.map(stretched);
    }
    if let Some(ticket) = &mut incident.ticket {
        ticket.lasts = ticket.lasts.map(stretched);
    }
    incident.mending.stretch(&stretched);
}

/// So many times as long, in whole milliseconds.
pub fn stretched(span: Millis, times: f64) -> Millis {
    Millis((span.0 as f64 * times).round() as u64)
}
