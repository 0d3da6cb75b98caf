//! How a few suspects of one fault are tested against each other: a pure plan.
//!
//! A test of two nodes fails when one of them is bad, or the link between them is. First everybody
//! meets everybody, in rounds in which each node is in one test (the circle method), until a test
//! fails. A node that fails by itself, whoever it is with, is bad, and explains the failure. Otherwise
//! both of that test are tried again with others that have not failed: who fails again is bad, and if
//! nobody does, it is the link. With nobody left to try them with, each is tried alone.
//!
//! For N suspects that is at most 2·N + 1 rounds, one more for each helper that turns out to be bad
//! itself ([`rounds_max`]), and N when nothing is found.

use lindos_model::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One test: of two nodes and their link, or of one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    pub node: NodeId,
    pub peer: Option<NodeId>,
}

impl Test {
    fn has(&self, node: NodeId) -> bool {
        self.node == node || self.peer == Some(node)
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        std::iter::once(self.node).chain(self.peer)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    pub test: Test,
    pub passed: bool,
    /// Of a test that failed: those that failed by themselves, whoever they were with. With nobody
    /// among them it is open whether a node has failed, or the link.
    pub bad: Vec<NodeId>,
}

impl Tested {
    /// What it says of the node that it was for; `None`: the other one explains its failure.
    fn of_its_node(&self) -> Option<bool> {
        let tells = self.passed || self.bad.is_empty() || self.bad.contains(&self.test.node);
        tells.then_some(self.passed)
    }
}

/// What comes after some rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These tests, all at once: no node is in two of them.
    Round(Vec<Test>),
    Over(Found),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub nodes: Vec<NodeId>,
    /// Between two that are well with others.
    pub links: Vec<(NodeId, NodeId)>,
}

impl Found {
    /// Several nodes are found bad by what they carry alone, and no two nodes have passed at all: it
    /// may as well be the tests that do not work, as when a firewall is between all nodes.
    pub fn is_doubtful(&self, rounds: &[Vec<Tested>]) -> bool {
        let mut tests = rounds.iter().flatten();
        let has_met = |tested: &Tested| tested.test.peer.is_some() && tested.passed;
        self.nodes.len() > 1 && tests.all(|tested| tested.bad.is_empty() && !has_met(tested))
    }
}

/// No plan has more rounds than this.
pub fn rounds_max(suspects: usize, helpers: usize) -> usize {
    2 * suspects + helpers + 1
}

/// What to do after these rounds. `helpers` are nodes that nobody suspects; none is needed. The same
/// suspects and helpers must be given each time.
pub fn next(suspects: &[NodeId], helpers: &[NodeId], rounds: &[Vec<Tested>]) -> Next {
    let table = table(suspects, helpers);
    let is_failed = |round: &Vec<Tested>| round.iter().any(|tested| !tested.passed);
    let Some(at) = rounds.iter().position(is_failed) else {
        return match meeting(&table, rounds.len()) {
            Some(round) => Next::Round(round),
            None => Next::Over(Found::default()),
        };
    };
    let failed: Vec<Test> =
        rounds[at].iter().filter(|tested| !tested.passed).map(|tested| tested.test).collect();
    again(&table, helpers, &failed, &rounds[at..])
}

/// Who meets whom: an odd one out has a helper, if there is one.
fn table(suspects: &[NodeId], helpers: &[NodeId]) -> Vec<Option<NodeId>> {
    let mut table: Vec<Option<NodeId>> = suspects.iter().copied().map(Some).collect();
    if !table.len().is_multiple_of(2) {
        table.push(helpers.first().copied());
    }
    table
}

/// The round of this number in which everybody meets another; `None` when all have met.
fn meeting(table: &[Option<NodeId>], number: usize) -> Option<Vec<Test>> {
    let turning = table.len().checked_sub(1).filter(|&turning| number < turning)?;
    // One stays, and the others move on by one seat.
    let seat = |at: usize| {
        if at == turning { table[turning] } else { table[(at + number) % turning] }
    };
    let test = |at: usize| {
        let (one, other) = (seat(at), seat(turning - at));
        match (one, other) {
            (Some(node), Some(peer)) => Some(Test { node, peer: Some(peer) }),
            // A suspect alone, that has nobody to meet at all.
            (Some(node), None) | (None, Some(node)) if table.len() == 2 => {
                Some(Test { node, peer: None })
            }
            _ => None,
        }
    };
    Some((0..table.len() / 2).filter_map(test).collect())
}

/// Tries those of failed tests again with others. `since`: the rounds from that in which they failed.
fn again(
    table: &[Option<NodeId>],
    helpers: &[NodeId],
    failed: &[Test],
    since: &[Vec<Tested>],
) -> Next {
    let is_suspect = |node: NodeId| failed.iter().any(|test| test.has(node));
    let seated = table.iter().flatten().copied();
    let mut partners: Vec<NodeId> = helpers.to_vec();
    partners.extend(seated.filter(|node| !helpers.contains(node)));
    let mut by_themselves: Vec<NodeId> =
        since.iter().flatten().flat_map(|tested| tested.bad.iter().copied()).collect();
    by_themselves.sort_unstable();
    by_themselves.dedup();
    partners.retain(|&node| !is_suspect(node) && !by_themselves.contains(&node));
    let told = |node: NodeId| {
        if by_themselves.contains(&node) {
            return Some(false);
        }
        let mut tests = since[1..].iter().flatten().filter(|tested| tested.test.node == node);
        tests.find_map(Tested::of_its_node)
    };
    let mut round = Vec::new();
    let mut found = Found::default();
    let mut free = partners.iter().copied();
    for test in failed {
        let bad: Vec<NodeId> = test.nodes().filter(|&node| told(node) == Some(false)).collect();
        let open: Vec<NodeId> = test.nodes().filter(|&node| told(node).is_none()).collect();
        if !bad.is_empty() {
            // One of the two explains the failure.
            found.nodes.extend(bad);
        } else if open.is_empty() {
            match test.peer {
                Some(peer) => found.links.push((test.node, peer)),
                // It failed once, and not again.
                None => found.nodes.push(test.node),
            }
        } else {
            for node in open {
                match free.next() {
                    Some(peer) => round.push(Test { node, peer: Some(peer) }),
                    None if partners.is_empty() => round.push(Test { node, peer: None }),
                    None => {}
                }
            }
        }
    }
    if !round.is_empty() {
        return Next::Round(round);
    }
    // Also those that were only to help.
    found.nodes.extend(by_themselves);
    let mut seen = BTreeSet::new();
    found.nodes.retain(|&node| seen.insert(node));
    Next::Over(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Plays a plan to its end, with tests that say no more than whether they failed.
    fn play(
        suspects: u32,
        helpers: u32,
        fails: impl Fn(Test) -> bool,
    ) -> (Found, Vec<Vec<Tested>>) {
        play_with(suspects, helpers, |test| (fails(test), vec![]))
    }

    fn play_with(
        suspects: u32,
        helpers: u32,
        shows: impl Fn(Test) -> (bool, Vec<NodeId>),
    ) -> (Found, Vec<Vec<Tested>>) {
        let suspects: Vec<NodeId> = (0..suspects).map(NodeId).collect();
        let helpers: Vec<NodeId> = (100..100 + helpers).map(NodeId).collect();
        let mut rounds = Vec::new();
        loop {
            match next(&suspects, &helpers, &rounds) {
                Next::Over(found) => return (found, rounds),
                Next::Round(tests) => {
                    assert!(!tests.is_empty());
                    let busy: Vec<NodeId> = tests.iter().flat_map(Test::nodes).collect();
                    let each: BTreeSet<NodeId> = busy.iter().copied().collect();
                    assert_eq!(each.len(), busy.len(), "a node in two tests at once: {tests:?}");
                    let tested = |test| {
                        let (fails, bad) = shows(test);
                        Tested { test, passed: !fails, bad }
                    };
                    rounds.push(tests.into_iter().map(tested).collect());
                    let most = rounds_max(suspects.len(), helpers.len());
                    assert!(rounds.len() <= most, "{rounds:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn one_bad_node_is_found(suspects in 1u32..=12, helpers in 0u32..4, bad in 0u32..12) {
            let bad = NodeId(bad % suspects);
            let (found, _) = play(suspects, helpers, |test| test.has(bad));
            prop_assert_eq!(found, Found { nodes: vec![bad], links: vec![] });
        }

        #[test]
        fn one_bad_link_is_found(
            suspects in 2u32..=12, helpers in 0u32..4, one in 0u32..12, other in 0u32..12,
        ) {
            let (one, other) = (NodeId(one % suspects), NodeId(other % suspects));
            prop_assume!(one != other);
            let is_it = |test: Test| test.has(one) && test.has(other);
            let (found, _) = play(suspects, helpers, is_it);
            prop_assert!(found.nodes.is_empty());
            prop_assert_eq!(found.links.len(), 1);
            let (a, b) = found.links[0];
            prop_assert!((a, b) == (one, other) || (a, b) == (other, one));
        }

        #[test]
        fn where_nothing_is_wrong_everybody_has_met_everybody(suspects in 2u32..=12, helpers in 0u32..4) {
            let (found, rounds) = play(suspects, helpers, |_| false);
            prop_assert_eq!(found, Found::default());
            prop_assert!(rounds.len() <= suspects as usize);
            for one in 0..suspects {
                for other in one + 1..suspects {
                    let met = |tested: &Tested| {
                        tested.test.has(NodeId(one)) && tested.test.has(NodeId(other))
                    };
                    prop_assert_eq!(rounds.iter().flatten().filter(|t| met(t)).count(), 1);
                }
            }
        }

        #[test]
        fn whatever_the_tests_say_the_plan_ends(
            suspects in 1u32..=12, helpers in 0u32..4, says in prop::collection::vec(any::<bool>(), 200),
        ) {
            let asked = std::cell::Cell::new(0);
            let next = || {
                asked.set(asked.get() + 1);
                says[asked.get() % says.len()]
            };
            play_with(suspects, helpers, |test| {
                let fails = next();
                (fails, test.nodes().filter(|_| fails && next()).collect())
            });
        }

        #[test]
        fn who_fails_once_by_itself_is_found_and_nobody_else(
            suspects in 2u32..=12, helpers in 0u32..4, bad in 0u32..12,
        ) {
            let bad = NodeId(bad % suspects);
            let first = std::cell::Cell::new(true);
            let (found, _) = play_with(suspects, helpers, |test| {
                let fails = test.has(bad) && first.replace(false);
                (fails, [bad].into_iter().filter(|_| fails).collect())
            });
            prop_assert_eq!(found, Found { nodes: vec![bad], links: vec![] });
        }

        #[test]
        fn a_helper_that_is_bad_itself_condemns_nobody_it_was_to_help(
            suspects in 2u32..=12, helpers in 2u32..4,
        ) {
            // The link between the first two that meet is bad, and so is the first helper.
            let helper = NodeId(100);
            let link = std::cell::Cell::new(None);
            let (found, _) = play_with(suspects, helpers, |test| {
                let with_helper = test.has(helper);
                if link.get().is_none() && !with_helper {
                    link.set(Some(test));
                }
                let fails = with_helper || link.get() == Some(test);
                (fails, [helper].into_iter().filter(|_| with_helper).collect())
            });
            prop_assert!(found.nodes.iter().all(|&node| node == helper), "{:?}", found);
        }
    }

    #[test]
    fn two_with_nobody_to_try_them_with_are_tried_alone() {
        let (found, rounds) = play(2, 0, |test| test.peer.is_some());
        assert_eq!(found.links, [(NodeId(0), NodeId(1))]);
        assert_eq!(rounds.len(), 2);
    }

    #[test]
    fn where_nothing_is_carried_between_any_two_the_tests_are_doubted() {
        let (found, rounds) = play(4, 4, |test| test.peer.is_some());
        assert_eq!(found.nodes.len(), 4);
        assert!(found.is_doubtful(&rounds));
        // One that fails with everybody is another matter, and so are two that fail by themselves.
        let (found, rounds) = play(4, 4, |test| test.has(NodeId(1)));
        assert!(!found.is_doubtful(&rounds));
        let (found, rounds) = play_with(2, 0, |test| (true, test.nodes().collect()));
        assert_eq!(found.nodes.len(), 2);
        assert!(!found.is_doubtful(&rounds));
    }
}
