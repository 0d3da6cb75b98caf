//! What is on record of how nodes were mended, given again to the core when it asks for the same.

use super::mend::usual;
use super::world::{Happening, World};
use lindos_model::{EffectId, Mended, Millis, NodeId, Outcome, Remedy};
use std::collections::{BTreeMap, VecDeque};

/// What became of the orders to mend one node, each kind in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mending {
    pub remedies: Vec<(Remedy, Answer)>,
    /// Spans count beyond the one that was asked for.
    pub burn_ins: VecDeque<BurnIn>,
    pub by_hand: VecDeque<ByHand>,
}

/// How an order ended, and so long after it was given; `None`: nobody has ever said.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub outcome: Outcome,
    pub after: Option<Millis>,
}

/// How a burn-in ended.
#[derive(Clone, Debug, PartialEq)]
pub struct BurnIn {
    pub outcome: Outcome,
    pub lasted: Lasted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasted {
    /// As long as was asked for, and so much longer.
    ItsSpan { more: Millis },
    /// So long, whatever was asked for.
    Only(Millis),
    /// Nobody has ever said that it is over.
    NoEnd,
}

/// What a person said of a node, so long after the person was wanted; `None`: nobody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByHand {
    pub how: Mended,
    pub after: Option<Millis>,
}

/// For orders of which there is no record: as it was with other nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsualMending {
    pub remedies: BTreeMap<Remedy, Answer>,
    pub burn_in: Option<BurnIn>,
    pub by_hand: Option<ByHand>,
}

impl Mending {
    pub fn is_empty(&self) -> bool {
        self.remedies.is_empty() && self.burn_ins.is_empty() && self.by_hand.is_empty()
    }

    /// So many times as long; a burn-in takes the time that the policy asks for.
    pub fn stretch(&mut self, times: &dyn Fn(Millis) -> Millis) {
        for (_, answer) in &mut self.remedies {
            answer.after = answer.after.map(times);
        }
        for person in &mut self.by_hand {
            person.after = person.after.map(times);
        }
    }

    pub fn add(&mut self, more: Mending) {
        self.remedies.extend(more.remedies);
        self.burn_ins.extend(more.burn_ins);
        self.by_hand.extend(more.by_hand);
    }

    fn take_remedy(&mut self, remedy: Remedy) -> Option<Answer> {
        let place = self.remedies.iter().position(|(other, _)| *other == remedy)?;
        Some(self.remedies.remove(place).1)
    }
}

impl UsualMending {
    /// So many times as long.
    pub fn stretch(&mut self, times: &dyn Fn(Millis) -> Millis) {
        for answer in self.remedies.values_mut() {
            answer.after = answer.after.map(times);
        }
        if let Some(person) = &mut self.by_hand {
            person.after = person.after.map(times);
        }
    }
}

impl World<'_, '_> {
    fn usual_mending(&self) -> Option<&UsualMending> {
        self.setup.script.as_ref().map(|script| &script.usual)
    }

    /// It is on record how these orders to a node end.
    pub(super) fn expect_mending(&mut self, node: NodeId, mending: Mending) {
        self.machines.mending.entry(node).or_default().add(mending);
    }

    fn on_record(&mut self, node: NodeId) -> Option<&mut Mending> {
        self.machines.mending.get_mut(&node)
    }

    /// How a remedy ends in a world that goes by a script; `None`: this one does not.
    pub(super) fn recorded_remedy(&mut self, node: NodeId, remedy: Remedy) -> Option<Answer> {
        let usual_one = self.usual_mending()?.remedies.get(&remedy).cloned();
        let recorded = self.on_record(node).and_then(|known| known.take_remedy(remedy));
        let assumed = || Answer { outcome: Outcome::Done, after: Some(usual(remedy)) };
        Some(recorded.or(usual_one).unwrap_or_else(assumed))
    }

    pub(super) fn recorded_burn_in(&mut self, node: NodeId, span: Millis) -> Option<Answer> {
        let usual_one = self.usual_mending()?.burn_in.clone();
        let recorded = self.on_record(node).and_then(|known| known.burn_ins.pop_front());
        let assumed =
            BurnIn { outcome: Outcome::Done, lasted: Lasted::ItsSpan { more: Millis::ZERO } };
        let BurnIn { outcome, lasted } = recorded.or(usual_one).unwrap_or(assumed);
        let after = match lasted {
            Lasted::ItsSpan { more } => Some(span + more),
            Lasted::Only(only) => Some(only.min(span)),
            Lasted::NoEnd => None,
        };
        Some(Answer { outcome, after })
    }

    pub(super) fn answer_as_recorded(&mut self, node: NodeId, remedy: EffectId, answer: Answer) {
        let Some(after) = answer.after else { return };
        self.machines.outcomes.insert(remedy, answer.outcome);
        self.put(after, Happening::Remedied { node, remedy });
    }

    /// A person is wanted, and comes when one came.
    pub(super) fn expect_recorded_person(&mut self, node: NodeId) {
        let usual_one = self.usual_mending().and_then(|usual| usual.by_hand);
        let recorded = self.on_record(node).and_then(|known| known.by_hand.pop_front());
        let Some(ByHand { how, after: Some(after) }) = recorded.or(usual_one) else { return };
        let ticket = self.core.ticket(node).map_or(0, |ticket| ticket.number);
        self.machines.said.insert(ticket, how);
        self.put(after, Happening::ByHand { node, ticket });
    }
}
