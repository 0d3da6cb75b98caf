//! Suspects of one fault, tested against each other ([`super::pairs`]): out of service as long as that
//! takes, and back at once, but for those that fail.
//!
//! Tests never keep a job waiting: suspects are taken out only when their job has room elsewhere, and
//! are back as soon as it waits for nodes all the same.

use super::fleet::Out;
use super::ladder;
use super::pairs::{self, Next, Test, Tested};
use super::repair::{Stage, Ticket};
use crate::Core;
use crate::effect::{Effect, Effects};
use crate::timer::Timer;
use lindos_model::finding::FindingClass;
use lindos_model::trail::{CalledOff, SuspectsFound, Untested};
use lindos_model::{EffectId, JobId, Millis, NodeId, Outcome, Remedy, Time, TrailKind, WaitReason};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Nodes that nobody suspects, for the odd one out and for second opinions.
const HELPERS_MAX: usize = 4;
/// Nodes that are looked at for them.
const LOOKS_MAX: usize = 10_000;
/// Helpers that are taken away for a job are replaced so often.
const BEGUN_MAX: u32 = 3;
/// Suspicions that were tested in vain and are remembered.
const REMEMBERED: usize = 64;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Trials {
    open: BTreeMap<u64, Trial>,
    last: u64,
    /// Those that begin once the jobs of this step have their places.
    to_begin: Vec<u64>,
    /// Tested and well, the oldest first.
    in_vain: VecDeque<(Time, BTreeSet<NodeId>)>,
    /// Nobody here can do it, as the answers to this control plane have shown.
    nobody_can: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    job: JobId,
    suspects: Vec<NodeId>,
    helpers: Vec<NodeId>,
    rounds: Vec<Vec<Tested>>,
    /// The present round: asked for, and answered.
    asked: BTreeMap<EffectId, Test>,
    answered: Vec<Tested>,
    /// How each has failed, in the words of the last test; by itself, if it has.
    reasons: BTreeMap<NodeId, String>,
    begun: u32,
}

impl Trials {
    /// The tests under way.
    pub(super) fn asked(&self) -> impl Iterator<Item = (EffectId, Test)> {
        let asked = self.open.values().flat_map(|trial| &trial.asked);
        asked.map(|(&id, &test)| (id, test))
    }

    /// A control plane takes over: it may be able to do more.
    pub(crate) fn may_try_again(&mut self) {
        self.nobody_can = false;
    }
}

impl Core {
    /// Takes suspects of a fault out of service, if that keeps their job from nothing. Their trial begins
    /// when it has left them.
    pub(crate) fn suspect(&mut self, job: JobId, suspects: &[NodeId], out: &mut Effects) {
        let rules = &self.policy.repair;
        let is_off = !rules.automatic || rules.pair_test_ms == 0 || self.trials.nobody_can;
        if is_off || suspects.len() < 2 || suspects.len() > rules.suspects_max as usize {
            return;
        }
        let named = |core: &Core| -> Vec<String> {
            suspects.iter().map(|&node| core.fleet.node(node).spec.name.clone()).collect()
        };
        let nodes = named(self);
        let about = Some((job, Some(self.jobs[&job].epoch)));
        if let Some(because) = self.why_not_tested(job, suspects, out) {
            self.say(about, None, TrailKind::SuspectsStay { nodes, because }, out);
            return;
        }
        self.trials.last += 1;
        let number = self.trials.last;
        let trial = Trial {
            job,
            suspects: suspects.to_vec(),
            helpers: Vec::new(),
            rounds: Vec::new(),
            asked: BTreeMap::new(),
            answered: Vec::new(),
            reasons: BTreeMap::new(),
            begun: 1,
        };
        self.trials.open.insert(number, trial);
        self.trials.to_begin.push(number);
        for &node in suspects {
            self.last_ticket += 1;
            let ticket = Ticket {
                number: self.last_ticket,
                since: self.now,
                class: suspect_class(),
                device: None,
                detail: format!("one of {} is to blame for a fault of job {job}", nodes.join(", ")),
                remedy: Remedy::Diagnose,
                stage: Stage::Suspect { trial: number, since: self.now },
            };
            let (class, ticket_number) = (ticket.class.clone(), ticket.number);
            // Nothing keeps it in any more, or it would not be tested.
            self.kept_in.remove(&node);
            self.repairs.insert(node, Box::new(ticket));
            self.fleet.update(node, |node| node.out = Some(Out::BurnIn));
            self.lose_spare(node);
            self.note(node, TrailKind::TakenOut { class, ticket: ticket_number }, out);
        }
        self.must_schedule = true;
        self.say(about, None, TrailKind::SuspectsOut { nodes }, out);
    }

    fn why_not_tested(
        &mut self,
        job: JobId,
        suspects: &[NodeId],
        out: &mut Effects,
    ) -> Option<Untested> {
        let window = Millis(self.policy.repair.strikes_window_ms);
        self.trials.in_vain.retain(|&(at, _)| self.now.since(at) < window);
        let is_known = |(_, tested): &(Time, BTreeSet<NodeId>)| {
            suspects.iter().all(|node| tested.contains(node))
        };
        if self.trials.in_vain.iter().any(is_known) {
            return Some(Untested::TestedBefore);
        }
        let is_usable = |&node: &NodeId| {
            let known = self.fleet.node(node);
            known.in_service() && known.allocations.iter().all(|a| a.job == job)
        };
        if !suspects.iter().all(is_usable) {
            return Some(Untested::InUse);
        }
        if !self.has_room_without(job, suspects) {
            return Some(Untested::NoRoom);
        }
        for (index, &node) in suspects.iter().enumerate() {
            // One that is condemned already, and kept in service, stays there as a suspect, too.
            if let Some(because) = self.kept_because(node) {
                return Some(Untested::KeptIn(because));
            }
            if let Some(because) = self.too_many_out_with(node, &suspects[..index], &[]) {
                return Some(Untested::KeptIn(because));
            }
        }
        let class = suspect_class();
        let is_broken = suspects.iter().any(|&node| self.is_broken(node, &class, out));
        is_broken.then_some(Untested::KeptIn(lindos_model::trail::KeptIn::Breaker))
    }

    /// Idle nodes of the same design of which nothing is known but good.
    fn helpers(&self, suspects: &[NodeId]) -> Vec<NodeId> {
        let design = &self.fleet.node(suspects[0]).spec.platform;
        let is_well = |node: NodeId| {
            let health = self.health.get(node);
            health.is_none_or(|health| health.open.is_empty() && health.strikes.is_empty())
        };
        let first = suspects[0].index().saturating_sub(LOOKS_MAX / 2);
        let nodes = self.fleet.nodes().iter().enumerate().skip(first).take(LOOKS_MAX);
        let fits = nodes.filter(|(index, node)| {
            let id = NodeId(*index as u32);
            let is_idle = node.in_service() && node.is_whole() && node.is_open();
            is_idle
                && node.burn_in.is_none()
                && node.spec.platform == *design
                && !suspects.contains(&id)
                && !self.kept_in.contains_key(&id)
                && is_well(id)
        });
        fits.map(|(index, _)| NodeId(index as u32)).take(HELPERS_MAX).collect()
    }

    /// Jobs have left their suspects, and have their places: nodes that are idle still may help.
    pub(crate) fn begin_trials(&mut self, out: &mut Effects) {
        for number in std::mem::take(&mut self.trials.to_begin) {
            let Some(trial) = self.trials.open.get(&number) else { continue };
            let helpers = self.helpers(&trial.suspects);
            self.trials.open.get_mut(&number).expect("it was just there").helpers = helpers;
            self.go_on_with_trial(number, out);
        }
    }

    /// Begins the next round of a trial, or acts on what it has found.
    fn go_on_with_trial(&mut self, number: u64, out: &mut Effects) {
        let Some(trial) = self.trials.open.get(&number) else { return };
        match pairs::next(&trial.suspects, &trial.helpers, &trial.rounds) {
            Next::Round(tests) => self.ask_for_round(number, tests, out),
            Next::Over(found) if found.is_doubtful(&trial.rounds) => {
                // They would come to the same with the next suspects.
                self.trials.nobody_can = true;
                self.call_off(number, CalledOff::Doubtful, out);
            }
            Next::Over(found) => self.conclude(number, &found, out),
        }
    }

    fn ask_for_round(&mut self, number: u64, tests: Vec<Test>, out: &mut Effects) {
        let span = Millis(self.policy.repair.pair_test_ms);
        let suspects = self.trials.open[&number].suspects.clone();
        let helpers = tests.iter().flat_map(Test::nodes).filter(|node| !suspects.contains(node));
        let is_gone = |node: NodeId| {
            let known = self.fleet.node(node);
            !known.in_service() || !known.is_whole() || known.burn_in.is_some()
        };
        let helpers: Vec<NodeId> = helpers.collect();
        if helpers.iter().any(|&node| is_gone(node)) {
            return self.begin_anew(number, out);
        }
        let mut asked = BTreeMap::new();
        for test in tests {
            let id = self.next_effect();
            out.push(Effect::BurnIn { id, node: test.node, span, peer: test.peer });
            for node in test.nodes().filter(|node| helpers.contains(node)) {
                self.fleet.update(node, |node| node.burn_in = Some(id));
            }
            asked.insert(id, test);
        }
        let trial = self.trials.open.get_mut(&number).expect("it goes on");
        (trial.asked, trial.answered) = (asked, Vec::new());
        let wait = span + Millis(self.policy.repair.remedy_timeout_ms);
        self.timers.set(Timer::Trial(number), self.now + wait);
    }

    /// Helpers were wanted by a job: from the beginning with others.
    fn begin_anew(&mut self, number: u64, out: &mut Effects) {
        self.end_round(number, out);
        let trial = &self.trials.open[&number];
        if trial.begun >= BEGUN_MAX {
            return self.call_off(number, CalledOff::NodeTaken, out);
        }
        let helpers = self.helpers(&trial.suspects.clone());
        let trial = self.trials.open.get_mut(&number).expect("it goes on");
        (trial.helpers, trial.rounds, trial.answered) = (helpers, Vec::new(), Vec::new());
        trial.begun += 1;
        self.go_on_with_trial(number, out);
    }

    /// Ends what is still under way of a round.
    fn end_round(&mut self, number: u64, out: &mut Effects) {
        self.timers.cancel(Timer::Trial(number));
        let trial = self.trials.open.get_mut(&number).expect("it goes on");
        for (id, test) in std::mem::take(&mut trial.asked) {
            out.push(Effect::CancelBurnIn { id, node: test.node });
            self.free_helpers(id, test);
        }
    }

    fn free_helpers(&mut self, id: EffectId, test: Test) {
        for node in test.nodes() {
            if self.fleet.node(node).burn_in == Some(id) {
                self.fleet.update(node, |node| node.burn_in = None);
            }
        }
    }

    fn test_asked(&self, effect: EffectId) -> Option<(u64, Test)> {
        let mut trials = self.trials.open.iter();
        trials.find_map(|(&number, trial)| Some((number, *trial.asked.get(&effect)?)))
    }

    /// A test is over; whether it was one of a trial.
    pub(crate) fn on_test_over(
        &mut self,
        effect: EffectId,
        outcome: &Outcome,
        out: &mut Effects,
    ) -> bool {
        let Some((number, test)) = self.test_asked(effect) else { return false };
        self.take_test(number, effect, test, outcome, Vec::new(), out);
        true
    }

    /// The same of two nodes, of each of which it is known how it did by itself.
    pub(crate) fn on_pair_tested(
        &mut self,
        effect: EffectId,
        node: &Outcome,
        peer: &Outcome,
        link: &Outcome,
        out: &mut Effects,
    ) {
        let Some((number, test)) = self.test_asked(effect) else { return };
        let Some(other) = test.peer else { return };
        let name = |node: NodeId| self.fleet.node(node).spec.name.clone();
        let mut bad = Vec::new();
        let mut said = Vec::new();
        for (node, outcome) in [(test.node, node), (other, peer)] {
            if let Outcome::Failed { reason } = outcome {
                bad.push(node);
                said.push((node, format!("{} by itself: {reason}", name(node))));
            }
        }
        let outcome = match (link, node, peer) {
            _ if !said.is_empty() => {
                let words: Vec<&str> = said.iter().map(|(_, words)| words.as_str()).collect();
                Outcome::Failed { reason: words.join("; ") }
            }
            (Outcome::Failed { reason }, ..) => {
                let between = format!("between {} and {}", name(test.node), name(other));
                Outcome::Failed { reason: format!("{between}: {reason}") }
            }
            (_, Outcome::Done, Outcome::Done) => Outcome::Done,
            _ => Outcome::Unsupported,
        };
        if outcome == Outcome::Done && *link == Outcome::Unsupported {
            let with = name(other);
            self.note(test.node, TrailKind::LinkNotTested { with }, out);
        }
        self.take_test(number, effect, test, &outcome, bad, out);
    }

    /// `bad`: those that failed by themselves.
    fn take_test(
        &mut self,
        number: u64,
        effect: EffectId,
        test: Test,
        outcome: &Outcome,
        bad: Vec<NodeId>,
        out: &mut Effects,
    ) {
        self.free_helpers(effect, test);
        let with = test.peer.map(|peer| self.fleet.node(peer).spec.name.clone());
        let what = TrailKind::SuspectTested { with, outcome: outcome.clone() };
        self.note(test.node, what, out);
        let trial = self.trials.open.get_mut(&number).expect("it was just there");
        trial.asked.remove(&effect);
        if let Outcome::Failed { reason } = outcome {
            let of_whom = test.nodes().filter(|node| bad.is_empty() || bad.contains(node));
            trial.reasons.extend(of_whom.map(|node| (node, reason.clone())));
        }
        trial.answered.push(Tested { test, passed: *outcome == Outcome::Done, bad });
        if *outcome == Outcome::Unsupported {
            self.trials.nobody_can = true;
            self.call_off(number, CalledOff::NobodyCan, out);
        } else if trial.asked.is_empty() {
            let round = std::mem::take(&mut trial.answered);
            trial.rounds.push(round);
            self.timers.cancel(Timer::Trial(number));
            self.go_on_with_trial(number, out);
        }
    }

    pub(crate) fn on_trial_overdue(&mut self, number: u64, out: &mut Effects) {
        if self.trials.open.contains_key(&number) {
            self.call_off(number, CalledOff::NoAnswer, out);
        }
    }

    /// The trial that a node is in, if it is in one.
    pub(crate) fn trial_of(&self, node: NodeId) -> Option<u64> {
        match self.repairs.get(&node)?.stage {
            Stage::Suspect { trial, .. } => Some(trial),
            _ => None,
        }
    }

    /// All suspects are back, and nothing is known of them.
    pub(crate) fn call_off(&mut self, number: u64, why: CalledOff, out: &mut Effects) {
        self.end_round(number, out);
        let trial = self.trials.open.remove(&number).expect("it goes on");
        self.say_over(&trial, SuspectsFound::CalledOff(why), out);
        for &node in &trial.suspects {
            self.give_back(node, out);
        }
    }

    fn say_over(&mut self, trial: &Trial, found: SuspectsFound, out: &mut Effects) {
        let name = |&node: &NodeId| self.fleet.node(node).spec.name.clone();
        let nodes = trial.suspects.iter().map(name).collect();
        let about = self.jobs.contains_key(&trial.job).then_some((trial.job, None));
        self.say(about, None, TrailKind::SuspectsOver { nodes, found }, out);
    }

    fn conclude(&mut self, number: u64, found: &pairs::Found, out: &mut Effects) {
        let trial = self.trials.open.remove(&number).expect("it goes on");
        let name = |node: NodeId| self.fleet.node(node).spec.name.clone();
        let said = match (&found.nodes[..], &found.links[..]) {
            ([], []) => SuspectsFound::Nothing,
            ([], [(one, other), ..]) => SuspectsFound::Link(name(*one), name(*other)),
            (nodes, _) => SuspectsFound::Nodes(nodes.iter().map(|&node| name(node)).collect()),
        };
        if said == SuspectsFound::Nothing {
            let suspects = trial.suspects.iter().copied().collect();
            self.trials.in_vain.push_back((self.now, suspects));
            while self.trials.in_vain.len() > REMEMBERED {
                self.trials.in_vain.pop_front();
            }
        }
        self.say_over(&trial, said, out);
        // Two that are well but for the link between them are kept apart.
        if self.jobs.contains_key(&trial.job) {
            for &(_, other) in &found.links {
                self.avoid(trial.job, other);
            }
        }
        let reason = |node: &NodeId| trial.reasons.get(node).cloned().unwrap_or_default();
        for &node in &trial.suspects {
            if found.nodes.contains(&node) {
                self.convict(node, &reason(&node), out);
            } else {
                self.give_back(node, out);
            }
        }
        for &node in found.nodes.iter().filter(|node| !trial.suspects.contains(node)) {
            // One that was to help is itself the bad one.
            let faults = self.found_bad(node, &reason(&node), out);
            self.on_faults(faults, out);
        }
    }

    /// A suspect has failed: it is mended like any other.
    fn convict(&mut self, node: NodeId, reason: &str, out: &mut Effects) {
        let (class, now) = (failed_class(), self.now);
        let ticket = self.repairs.get_mut(&node).expect("a suspect is out");
        (ticket.class, ticket.detail) = (class.clone(), reason.to_string());
        ticket.stage = Stage::Leaving;
        let number = ticket.number;
        let rules = &self.policy.repair;
        let remedy = ladder::rung(Remedy::Diagnose, &self.health[node], rules, now);
        self.fleet.update(node, |node| node.out = Some(Out::Repair));
        self.note(node, TrailKind::TakenOut { class, ticket: number }, out);
        self.try_remedy(node, remedy, out);
    }

    fn give_back(&mut self, node: NodeId, out: &mut Effects) {
        let ticket = self.repairs.remove(&node).expect("a suspect is out");
        self.fleet.update(node, |node| node.out = None);
        let after = self.now.since(ticket.since);
        self.note(node, TrailKind::BackInService { after }, out);
        self.must_schedule = true;
        self.must_look_at_kept = true;
    }

    /// Jobs whose suspects are tested, and that wait for nodes all the same, have them back.
    pub(crate) fn end_trials_that_block(&mut self, out: &mut Effects) {
        let waits = |job: JobId| {
            let job = self.jobs.get(&job).filter(|job| !job.is_over() && job.attempt.is_none());
            job.and_then(|job| job.wait.as_ref()).is_some_and(WaitReason::is_for_room)
        };
        let open = self.trials.open.iter();
        let blocking: Vec<u64> =
            open.filter(|(_, trial)| waits(trial.job)).map(|(&number, _)| number).collect();
        if blocking.is_empty() {
            return;
        }
        for number in blocking {
            self.call_off(number, CalledOff::JobWaits, out);
        }
        self.must_schedule = false;
        self.schedule(out);
    }

    /// A job has taken a helper.
    pub(super) fn on_helper_taken(&mut self, effect: EffectId, out: &mut Effects) -> bool {
        let mut trials = self.trials.open.iter();
        let of = trials.find(|(_, trial)| trial.asked.contains_key(&effect));
        let Some(number) = of.map(|(&number, _)| number) else { return false };
        self.begin_anew(number, out);
        true
    }

    pub(crate) fn check_trials(&self) {
        assert!(self.trials.to_begin.is_empty(), "a trial was not begun");
        for (&number, trial) in &self.trials.open {
            assert!(!trial.asked.is_empty(), "a trial waits for nothing");
            assert!(self.timers.get(Timer::Trial(number)).is_some());
            for &node in &trial.suspects {
                assert_eq!(self.trial_of(node), Some(number), "a suspect is not in its trial");
                assert!(self.fleet.node(node).is_whole(), "a suspect is at work");
            }
        }
        for &node in self.repairs.keys() {
            let trial = self.trial_of(node);
            assert!(trial.is_none_or(|number| self.trials.open.contains_key(&number)));
        }
    }
}

fn suspect_class() -> FindingClass {
    FindingClass::known("node.suspect")
}

/// Of a node that has failed a test of Lindos's own.
pub(super) fn failed_class() -> FindingClass {
    FindingClass::known("node.burn_in")
}
