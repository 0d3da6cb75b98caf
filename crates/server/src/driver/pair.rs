//! A test of two nodes, from how their works stand: a pure rule.
//!
//! One of them answers on a port that its agent tells of, the other meets it there. Both then try what a
//! burn-in tries. Nothing is remembered between two looks: the reports say all of it, so that another
//! control plane goes on in the middle.
//!
//! | node that meets | node that answers | next |
//! |---|---|---|
//! | – | – | the second is told to answer |
//! | – | under way, at an address | the first is told to meet it there |
//! | – | over | nothing: nobody answers there any more, and the core waits only so long |
//! | under way | under way | nothing |
//! | one has failed by itself, or both are over || the test is over |
//!
//! Agents that are too old for this are burnt in at the same time, and the link is not tested.

use lindos_api::work::WorkReport;
use lindos_model::Outcome;

/// What one of the two can, and how its work stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'r> {
    /// Its part of a test of two.
    pub can_test: bool,
    pub can_burn_in: bool,
    pub work: Option<&'r WorkReport>,
}

impl End<'_> {
    fn outcome(&self) -> Option<Outcome> {
        self.work.and_then(|work| work.outcome.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    /// The peer is to answer.
    Answer,
    /// The node is to meet its peer there.
    Meet(String),
    /// These are burnt in without each other.
    BurnIn {
        node: bool,
        peer: bool,
    },
    Over {
        node: Outcome,
        peer: Outcome,
        link: Outcome,
    },
}

fn is_failed(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Failed { .. }))
}

/// `node` is the one that meets, `peer` the one that answers.
pub(super) fn next(node: End, peer: End) -> Next {
    let can_test = node.can_test && peer.can_test;
    let met = node.work.and_then(|work| work.met.as_ref());
    let (own, mut other) = (node.outcome(), peer.outcome());
    if let Some(met) = met.filter(|met| is_failed(Some(&met.peer)))
        && !is_failed(other.as_ref())
    {
        other = Some(met.peer.clone());
    }
    let is_over = own.is_some() && other.is_some();
    if is_over || is_failed(own.as_ref()) || is_failed(other.as_ref()) {
        let link = met.map_or(Outcome::Unsupported, |met| met.link.clone());
        let told = |outcome: Option<Outcome>| outcome.unwrap_or(Outcome::Unsupported);
        return Next::Over { node: told(own), peer: told(other), link };
    }
    let cannot = |end: &End| !can_test && !end.can_burn_in && end.work.is_none();
    if cannot(&node) || cannot(&peer) {
        let nobody = || Outcome::Unsupported;
        return Next::Over { node: nobody(), peer: nobody(), link: nobody() };
    }
    match (can_test, node.work, peer.work) {
        (true, None, None) => Next::Answer,
        (true, None, Some(answers)) if answers.outcome.is_none() => {
            answers.answers_at.clone().map_or(Next::Wait, Next::Meet)
        }
        (_, Some(_), Some(_)) | (true, None, Some(_)) => Next::Wait,
        // It met one whose agent has forgotten that: a burn-in would be another test.
        (_, Some(_), None) if met.is_some() => Next::Wait,
        (false, ..) | (true, Some(_), None) => {
            Next::BurnIn { node: node.work.is_none(), peer: peer.work.is_none() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_api::work::Met;

    const DONE: Option<Outcome> = Some(Outcome::Done);

    fn failed(reason: &str) -> Outcome {
        Outcome::Failed { reason: reason.into() }
    }

    fn end(work: Option<&WorkReport>) -> End<'_> {
        End { can_test: true, can_burn_in: true, work }
    }

    fn older(work: Option<&WorkReport>) -> End<'_> {
        End { can_test: false, ..end(work) }
    }

    fn at(outcome: Option<Outcome>) -> WorkReport {
        WorkReport { answers_at: Some("n1:7".into()), ..WorkReport::new(1, outcome) }
    }

    fn has_met(outcome: Outcome, peer: Outcome, link: Outcome) -> WorkReport {
        WorkReport { met: Some(Met { peer, link }), ..WorkReport::new(1, Some(outcome)) }
    }

    fn over(node: Outcome, peer: Outcome, link: Outcome) -> Next {
        Next::Over { node, peer, link }
    }

    #[test]
    fn one_answers_the_other_meets_it_and_both_are_waited_for() {
        let begun = WorkReport::new(1, None);
        assert_eq!(next(end(None), end(None)), Next::Answer);
        assert_eq!(next(end(None), end(Some(&begun))), Next::Wait);
        assert_eq!(next(end(None), end(Some(&at(None)))), Next::Meet("n1:7".into()));
        assert_eq!(next(end(Some(&begun)), end(Some(&at(None)))), Next::Wait);
        let met = has_met(Outcome::Done, Outcome::Done, failed("late"));
        assert_eq!(next(end(Some(&met)), end(Some(&at(None)))), Next::Wait);
        let verdict = over(Outcome::Done, Outcome::Done, failed("late"));
        assert_eq!(next(end(Some(&met)), end(Some(&at(DONE)))), verdict);
    }

    #[test]
    fn nobody_meets_one_that_answers_no_more() {
        assert_eq!(next(end(None), end(Some(&at(DONE)))), Next::Wait);
        // Its agent has lost all that it knew.
        let met = has_met(Outcome::Done, Outcome::Done, Outcome::Done);
        assert_eq!(next(end(Some(&met)), end(None)), Next::Wait);
    }

    #[test]
    fn one_that_fails_by_itself_ends_it() {
        let (begun, killed) = (WorkReport::new(1, None), at(Some(failed("killed"))));
        let said = over(Outcome::Unsupported, failed("killed"), Outcome::Unsupported);
        assert_eq!(next(end(None), end(Some(&killed))), said);
        assert_eq!(next(end(Some(&begun)), end(Some(&killed))), said);
        let met = has_met(Outcome::Done, failed("computes wrong"), Outcome::Done);
        let said = over(Outcome::Done, failed("computes wrong"), Outcome::Done);
        assert_eq!(next(end(Some(&met)), end(Some(&at(None)))), said, "as the other one saw");
        assert_eq!(next(end(Some(&met)), end(Some(&at(DONE)))), said, "though it saw nothing");
    }

    #[test]
    fn with_an_older_agent_both_are_burnt_in_and_the_link_is_not_tested() {
        let both = Next::BurnIn { node: true, peer: true };
        assert_eq!(next(older(None), end(None)), both);
        assert_eq!(next(end(None), older(None)), both);
        let (begun, done) = (WorkReport::new(1, None), WorkReport::new(1, DONE));
        let one = Next::BurnIn { node: false, peer: true };
        assert_eq!(next(older(Some(&begun)), end(None)), one);
        // Both agents are new ones meanwhile.
        assert_eq!(next(end(Some(&begun)), end(None)), one);
        assert_eq!(next(older(Some(&done)), end(Some(&begun))), Next::Wait);
        let untested = over(Outcome::Done, Outcome::Done, Outcome::Unsupported);
        assert_eq!(next(older(Some(&done)), end(Some(&done))), untested);
        let neither = End { can_burn_in: false, ..older(None) };
        let nobody = over(Outcome::Unsupported, Outcome::Unsupported, Outcome::Unsupported);
        assert_eq!(next(neither, end(None)), nobody);
        assert_eq!(next(end(None), neither), nobody);
    }
}
