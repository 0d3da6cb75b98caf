//! Looks on at findings and repairs while a journal is replayed: what a check found is from outside,
//! and so is how long an order to mend takes and what a person says; that the order is given is the
//! core's own doing, and is not kept.

use super::history::{Found, FoundKind, Incident, TicketSpan};
use super::replay::Moment;
use super::watch::Watch;
use crate::reliability::stats::quantile;
use crate::twin::answers::{Answer, BurnIn, ByHand, Lasted, Mending, UsualMending};
use crate::twin::script::What;
use lindos_core::health::ladder;
use lindos_core::{Core, Effect, Event};
use lindos_model::finding::{Device, Finding, FindingClass};
use lindos_model::{EffectId, Mended, Millis, NodeId, Outcome, Remedy, Time, TrailKind};
use std::collections::BTreeMap;

/// How long a person takes where nobody has ever mended anything.
pub const PERSON_TAKES: Millis = Millis::from_secs(24 * 3600);

/// What was seen of repairs, until all of it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Repairs {
    orders: BTreeMap<EffectId, Order>,
    /// Since when a node has waited for a person.
    wanted: BTreeMap<NodeId, Time>,
    open: BTreeMap<NodeId, PastTicket>,
    pub over: Vec<PastTicket>,
    /// What holds, and where it was written down.
    holding: Vec<Holding>,
}

#[derive(Clone, Debug)]
struct Order {
    at: Time,
    what: Ordered,
}

#[derive(Clone, Copy, Debug)]
enum Ordered {
    Remedy(Remedy),
    BurnIn(Millis),
}

/// A node that was out by Lindos's own decision.
#[derive(Clone, Debug)]
pub(super) struct PastTicket {
    pub node: NodeId,
    pub at: Time,
    pub seq: u64,
    pub class: String,
    pub over: Option<Time>,
    pub mending: Mending,
    pub said: Vec<(Time, u64, Mended)>,
}

#[derive(Clone, Debug)]
struct Holding {
    node: NodeId,
    class: FindingClass,
    device: Option<Device>,
    /// Of the incidents; `None`: it condemned nobody, and is among the deeds.
    incident: Option<usize>,
}

impl Watch {
    pub(super) fn on_repair_event(&mut self, moment: &Moment, is_done: bool) {
        let seq = moment.seq.0;
        match moment.event {
            Event::FindingSeen { node, finding } => self.on_found(seq, *node, finding, moment.core),
            Event::FindingGone { node, class, device } => {
                self.on_found_no_more(seq, *node, class, device.as_ref());
            }
            Event::RemedyOver { node, remedy, outcome } => {
                self.on_answer(*node, *remedy, outcome);
            }
            // A node that is lived again answers for itself how it does with others.
            Event::PairTested { test, .. } => drop(self.repairs.orders.remove(test)),
            Event::NodeMended { node, how, .. } if is_done => self.on_said(seq, *node, *how),
            _ => {}
        }
        for effect in moment.effects {
            match effect {
                Effect::Remedy { id, remedy, .. } => {
                    self.on_order(*id, Ordered::Remedy(*remedy));
                }
                Effect::BurnIn { id, span, .. } => self.on_order(*id, Ordered::BurnIn(*span)),
                Effect::Trail(entry) if entry.job.is_none() => {
                    let node = entry.node.as_ref().and_then(|name| moment.core.node_by_name(name));
                    if let Some(node) = node {
                        self.on_ticket(seq, node, &entry.what);
                    }
                }
                _ => {}
            }
        }
    }

    fn on_found(&mut self, seq: u64, node: NodeId, finding: &Finding, core: &Core) {
        if core.node(node).is_none() {
            return;
        }
        let is_same = |held: &&Holding| {
            held.node == node && held.class == finding.class && held.device == finding.device
        };
        let known = self.repairs.holding.iter().find(is_same).map(|held| held.incident);
        let condemns = ladder::calls_for(finding).is_some();
        let what = FoundKind::Seen(Box::new(finding.clone()));
        let incident = match known {
            Some(Some(place)) => Some(place),
            _ if condemns => Some(self.new_incident(node, seq)),
            _ => None,
        };
        if let Some(place) = incident {
            self.add_found(place, seq, what);
        } else {
            self.deed(seq, What::Finds { node, finding: Box::new(finding.clone()) });
        }
        self.repairs.holding.retain(|held| !is_same(&held));
        let (class, device) = (finding.class.clone(), finding.device.clone());
        self.repairs.holding.push(Holding { node, class, device, incident });
    }

    fn new_incident(&mut self, node: NodeId, seq: u64) -> usize {
        self.incidents.push(Incident::new(self.now, seq, node));
        self.incidents.len() - 1
    }

    fn add_found(&mut self, place: usize, seq: u64, what: FoundKind) {
        let now = self.now;
        let incident = &mut self.incidents[place];
        incident.findings.push(Found { after: now.since(incident.at), seq, what });
    }

    fn on_found_no_more(
        &mut self,
        seq: u64,
        node: NodeId,
        class: &FindingClass,
        device: Option<&Device>,
    ) {
        let is_it = |held: &Holding| {
            held.node == node && held.class == *class && held.device.as_ref() == device
        };
        let Some(place) = self.repairs.holding.iter().position(is_it) else { return };
        let held = self.repairs.holding.remove(place);
        let (class, device) = (held.class, held.device);
        match held.incident {
            Some(place) => self.add_found(place, seq, FoundKind::Gone(class, device)),
            None => self.deed(seq, What::FindsNoMore { node, class, device }),
        }
    }

    fn on_order(&mut self, id: EffectId, what: Ordered) {
        self.repairs.orders.insert(id, Order { at: self.now, what });
    }

    fn on_answer(&mut self, node: NodeId, id: EffectId, outcome: &Outcome) {
        let Some(order) = self.repairs.orders.remove(&id) else { return };
        let (took, outcome) = (self.now.since(order.at), outcome.clone());
        let Some(ticket) = self.repairs.ticket(node) else { return };
        match order.what {
            Ordered::Remedy(remedy) => {
                let answer = Answer { outcome, after: Some(took) };
                ticket.mending.remedies.push((remedy, answer));
            }
            Ordered::BurnIn(span) => {
                let lasted = if took >= span {
                    Lasted::ItsSpan { more: took - span }
                } else {
                    Lasted::Only(took)
                };
                ticket.mending.burn_ins.push_back(BurnIn { outcome, lasted });
            }
        }
    }

    fn on_said(&mut self, seq: u64, node: NodeId, how: Mended) {
        let now = self.now;
        let wanted = self.repairs.wanted.remove(&node);
        let Some(ticket) = self.repairs.ticket(node) else { return };
        match wanted {
            Some(since) => {
                let after = Some(now.since(since));
                ticket.mending.by_hand.push_back(ByHand { how, after });
            }
            None => ticket.said.push((now, seq, how)),
        }
    }

    fn on_ticket(&mut self, seq: u64, node: NodeId, what: &TrailKind) {
        let at = self.now;
        match what {
            TrailKind::TakenOut { class, .. } => {
                let (class, mending) = (class.to_string(), Mending::default());
                let (over, said) = (None, Vec::new());
                let ticket = PastTicket { node, at, seq, class, over, mending, said };
                self.repairs.open.insert(node, ticket);
            }
            TrailKind::RemedyBegun { remedy } => {
                self.repairs.wanted.remove(&node);
                if remedy.is_by_hand() {
                    self.repairs.wanted.insert(node, at);
                }
            }
            TrailKind::BackInService { .. } => {
                self.repairs.wanted.remove(&node);
                if let Some(mut ticket) = self.repairs.open.remove(&node) {
                    ticket.over = Some(at);
                    self.repairs.over.push(ticket);
                }
                // What was found before is over for the core, and may be found anew.
                self.repairs.holding.retain(|held| held.node != node);
            }
            _ => {}
        }
    }
}

impl Repairs {
    /// The open one, or the last: an answer may come when nobody waits for it any more.
    fn ticket(&mut self, node: NodeId) -> Option<&mut PastTicket> {
        let closed = self.over.iter_mut().rev().find(|ticket| ticket.node == node);
        self.open.get_mut(&node).or(closed)
    }

    /// All tickets, in their order; those that are not over have orders that nobody has answered.
    pub fn settle(&mut self) -> Vec<PastTicket> {
        for (node, ticket) in &mut self.open {
            if self.wanted.contains_key(node) {
                ticket.mending.by_hand.push_back(ByHand { how: Mended::Repaired, after: None });
            }
        }
        let mut all = std::mem::take(&mut self.over);
        all.extend(std::mem::take(&mut self.open).into_values());
        all.sort_by_key(|ticket| (ticket.at, ticket.seq));
        all
    }
}

/// How orders ended most often, for those of which nothing is on record; `drained`: for how long
/// people had nodes out that they had drained for faults.
pub(super) fn usual(tickets: &[PastTicket], drained: &[Millis]) -> UsualMending {
    let middle = |spans: &[Millis]| {
        let spans: Vec<f64> = spans.iter().map(|span| span.0 as f64).collect();
        quantile(&spans, 0.5).map(|span| Millis(span.round() as u64))
    };
    let mut usual = UsualMending::default();
    let answers = tickets.iter().flat_map(|ticket| &ticket.mending.remedies);
    let mut by_remedy: BTreeMap<Remedy, Vec<&Answer>> = BTreeMap::new();
    for (remedy, answer) in answers {
        by_remedy.entry(*remedy).or_default().push(answer);
    }
    for (remedy, answers) in &by_remedy {
        let outcome = most(answers.iter().map(|answer| &answer.outcome));
        let alike = answers.iter().filter(|answer| Some(&answer.outcome) == outcome.as_ref());
        let spans: Vec<Millis> = alike.filter_map(|answer| answer.after).collect();
        if let Some(outcome) = outcome {
            usual.remedies.insert(*remedy, Answer { outcome, after: middle(&spans) });
        }
    }
    // Who can do nothing of what was ordered can do nothing else.
    let can_nothing = !usual.remedies.is_empty()
        && usual.remedies.values().all(|answer| answer.outcome == Outcome::Unsupported);
    if can_nothing {
        let like = usual.remedies.values().next().cloned();
        for remedy in Remedy::ALL.into_iter().filter(|remedy| !remedy.is_by_hand()) {
            if let Some(like) = &like {
                usual.remedies.entry(remedy).or_insert_with(|| like.clone());
            }
        }
    }
    let burn_ins: Vec<&BurnIn> = tickets.iter().flat_map(|t| &t.mending.burn_ins).collect();
    let outcome = most(burn_ins.iter().map(|burn_in| &burn_in.outcome));
    usual.burn_in =
        burn_ins.iter().find(|b| Some(&b.outcome) == outcome.as_ref()).copied().cloned();
    let people = tickets.iter().flat_map(|ticket| &ticket.mending.by_hand);
    let spans: Vec<Millis> = people.filter_map(|person| person.after).collect();
    let after = middle(&spans).or(middle(drained)).unwrap_or(PERSON_TAKES);
    usual.by_hand = Some(ByHand { how: Mended::Repaired, after: Some(after) });
    usual
}

/// What comes most often; of two, the one that came first.
fn most<'o>(outcomes: impl Iterator<Item = &'o Outcome>) -> Option<Outcome> {
    let mut counted: Vec<(&Outcome, usize)> = Vec::new();
    for outcome in outcomes {
        match counted.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += 1,
            None => counted.push((outcome, 1)),
        }
    }
    let best = counted.iter().rev().max_by_key(|(_, count)| *count);
    best.map(|(outcome, _)| (*outcome).clone())
}

impl PastTicket {
    /// As a part of the incident that began then.
    pub fn span(&self, from: Time) -> TicketSpan {
        TicketSpan {
            after: self.at.since(from),
            seq: self.seq,
            class: self.class.clone(),
            lasts: self.over.map(|over| over.since(self.at)),
        }
    }
}
