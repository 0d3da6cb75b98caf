//! What is done about a verdict beyond the retry: one rule, as the table in `docs/blame.md`.

use crate::health::places::{SHARED, shared_at};
use lindos_model::blame::{Blame, Culprit};
use lindos_model::trail::OutScope;
use lindos_model::{Location, NodeId};
use std::fmt;

/// A place that machines share: which kind of [`SHARED`], and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedPlace {
    pub kind: usize,
    pub name: String,
}

impl SharedPlace {
    pub fn has(&self, location: &Location) -> bool {
        shared_at(location)[self.kind] == self.name
    }

    /// The guardrails that would always keep all of it in.
    pub fn scopes(&self) -> &'static [OutScope] {
        match SHARED[self.kind] {
            "leaf" => &[OutScope::Rack, OutScope::Leaf],
            _ => &[OutScope::Rack],
        }
    }
}

impl fmt::Display for SharedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", SHARED[self.kind], self.name)
    }
}

/// What is done with machines because of a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The job starts again where it was.
    InPlace,
    /// These are tested against each other.
    TestSuspects(Vec<NodeId>),
    /// The nodes of the place are taken out.
    TakeOut(SharedPlace),
    /// The job keeps away from the place when it can.
    KeepAway(SharedPlace),
}

/// What a verdict is answered with. `few` are the machines that are sure only together, `gang` all of
/// them where nothing was seen of any in a silence, `place` what the culprit shares.
pub(crate) fn answer(
    blame: &Blame,
    few: &[NodeId],
    gang: Option<&[NodeId]>,
    place: Option<&SharedPlace>,
) -> Answer {
    match (&blame.culprit, place, gang) {
        (Culprit::OneOf(_), ..) => Answer::TestSuspects(few.to_vec()),
        (Culprit::Shared { .. }, Some(place), _) if blame.percent >= Blame::SURE => {
            Answer::TakeOut(place.clone())
        }
        (Culprit::Shared { .. }, Some(place), _) => Answer::KeepAway(place.clone()),
        (Culprit::Unknown, _, Some(gang)) => Answer::TestSuspects(gang.to_vec()),
        _ => Answer::InPlace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(culprit: Culprit, percent: u8, gang: Option<&[NodeId]>) -> Answer {
        let blame = Blame { culprit, percent, clues: Vec::new() };
        let place = SharedPlace { kind: 1, name: "r3".into() };
        answer(&blame, &[NodeId(1), NodeId(2)], gang, Some(&place))
    }

    #[test]
    fn each_row_of_the_table() {
        let place = SharedPlace { kind: 1, name: "r3".into() };
        let gang = [NodeId(1), NodeId(2), NodeId(3)];
        let one_of = Culprit::OneOf(vec!["a".into(), "b".into()]);
        let few = Answer::TestSuspects(vec![NodeId(1), NodeId(2)]);
        assert_eq!(answered(one_of, 95, None), few);
        let shared = Culprit::Shared { place: "rack r3".into(), nodes: 3 };
        assert_eq!(answered(shared.clone(), 90, None), Answer::TakeOut(place.clone()));
        assert_eq!(answered(shared, 89, None), Answer::KeepAway(place));
        let all = Answer::TestSuspects(gang.to_vec());
        assert_eq!(answered(Culprit::Unknown, 40, Some(&gang)), all);
        assert_eq!(answered(Culprit::Unknown, 40, None), Answer::InPlace);
        assert_eq!(answered(Culprit::User, 99, Some(&gang)), Answer::InPlace);
        assert_eq!(answered(Culprit::Node("a".into()), 99, Some(&gang)), Answer::InPlace);
    }
}
