//! Whole runs of the agreement in one thread: messages cross in any order, replicas are killed
//! and come back at any moment, connections break. Whatever happens, all get to the end.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::agreement::{Agreement, Begun, Member, Message};
use crate::random::Random;

/// Steps of the run; the validation is one round more.
const STEPS: u64 = 12;
/// Far more than any run here needs.
const EVENTS_MAX: usize = 60_000;

#[derive(Debug, Clone)]
enum Parcel {
    Linked(Member),
    Talk(Message),
    Part { view: u64, round: u64 },
    Sum { view: u64, round: u64 },
    State { view: u64, step: u64 },
    Lost,
}

/// One process, as `Replicas` does it but for the numbers that are added up.
#[derive(Debug)]
struct Node {
    me: Member,
    agreement: Agreement,
    step: Option<u64>,
    behind: bool,
    /// From whom it expects the state or a sum.
    source: Option<Member>,
    /// The view for which this round's share is computed.
    computed: Option<u64>,
    letters: Vec<(Member, Parcel)>,
    /// Whom it can send to: the epoch at the other end.
    open: BTreeMap<usize, u64>,
}

#[derive(Debug)]
struct World {
    random: Random,
    least: usize,
    nodes: Vec<Option<Node>>,
    done: Vec<bool>,
    epoch: u64,
    wires: BTreeMap<(usize, usize), VecDeque<Parcel>>,
    /// The last checkpoint is written.
    finished: bool,
}

impl World {
    fn new(seed: u64, replicas: usize, least: usize) -> Self {
        let mut world = Self {
            random: Random::new(&[seed]),
            least,
            nodes: (0..replicas).map(|_| None).collect(),
            done: vec![false; replicas],
            epoch: 1,
            wires: BTreeMap::new(),
            finished: false,
        };
        (0..replicas).for_each(|replica| world.launch(replica, 1));
        world
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.random.below(from.len() as u64) as usize])
    }

    fn launch(&mut self, replica: usize, epoch: u64) {
        let me = Member { replica, epoch };
        let agreement = Agreement::new(me, self.nodes.len(), self.least, STEPS);
        self.nodes[replica] = Some(Node {
            me,
            agreement,
            step: None,
            behind: false,
            source: None,
            computed: None,
            letters: Vec::new(),
            open: BTreeMap::new(),
        });
        (0..self.nodes.len()).for_each(|other| self.connect(replica, other));
    }

    /// Unless one of them is not there, or holds the other for lost.
    fn connect(&mut self, one: usize, other: usize) {
        let (Some(a), Some(b)) = (&self.nodes[one], &self.nodes[other]) else {
            return;
        };
        let connected =
            a.open.get(&other) == Some(&b.me.epoch) || b.open.get(&one) == Some(&a.me.epoch);
        let refused = a.agreement.was_dropped(b.me) || b.agreement.was_dropped(a.me);
        if one == other || connected || refused {
            return;
        }
        for (from, to) in [(one, other), (other, one)] {
            let sender = self.nodes[from].as_ref().unwrap().me;
            // What is left of an earlier connection may come, or the new one takes its place.
            let renewed = self.chance(2);
            let wire = self.wires.entry((from, to)).or_default();
            if renewed {
                wire.clear();
            }
            wire.push_back(Parcel::Linked(sender));
        }
    }

    /// Some of what was on its way still arrives, and then the end of the connection.
    fn disconnect(&mut self, from: usize, to: usize, all_arrives: bool) {
        let arrives = self.random.below(8) as usize;
        let wire = self.wires.entry((from, to)).or_default();
        if !all_arrives {
            wire.truncate(arrives);
        }
        wire.push_back(Parcel::Lost);
    }

    fn end(&mut self, replica: usize, all_arrives: bool) {
        self.nodes[replica] = None;
        for other in (0..self.nodes.len()).filter(|other| *other != replica) {
            self.disconnect(replica, other, all_arrives);
            self.wires.remove(&(other, replica));
        }
    }

    fn fail(&mut self) {
        let living: Vec<_> = (0..self.nodes.len()).filter(|r| self.nodes[*r].is_some()).collect();
        let (Some(one), Some(other)) = (self.pick(&living), self.pick(&living)) else {
            return;
        };
        if one == other || !self.chance(4) {
            self.end(one, false);
        } else {
            self.disconnect(one, other, false);
            self.disconnect(other, one, false);
        }
    }

    fn deliver(&mut self) {
        let ready: Vec<_> =
            self.wires.iter().filter(|(_, wire)| !wire.is_empty()).map(|(ends, _)| *ends).collect();
        let Some((from, to)) = self.pick(&ready) else {
            return;
        };
        let parcel = self.wires.get_mut(&(from, to)).unwrap().pop_front().unwrap();
        let Some(node) = &mut self.nodes[to] else {
            return;
        };
        let mut was_dropped = false;
        match parcel {
            Parcel::Linked(member) => {
                node.agreement.linked(member);
                node.open.insert(from, member.epoch);
                if node.agreement.was_dropped(member) {
                    node.open.remove(&from);
                    self.disconnect(to, from, true);
                }
            }
            Parcel::Lost => {
                node.open.remove(&from);
                node.agreement.lost(from);
            }
            Parcel::Talk(message) => was_dropped = node.agreement.heard(from, message).is_err(),
            letter if node.agreement.listens_in(letter.view()) => {
                let epoch = node.open.get(&from).copied();
                node.letters.extend(epoch.map(|epoch| (Member { replica: from, epoch }, letter)));
            }
            _ => {}
        }
        if was_dropped { self.end(to, false) } else { self.flush(to) }
    }

    fn send(&mut self, from: usize, to: usize, parcel: Parcel) {
        let epoch = self.nodes[from].as_ref().unwrap().open.get(&to).copied();
        if epoch.is_some() && self.nodes[to].as_ref().map(|node| node.me.epoch) == epoch {
            self.wires.entry((from, to)).or_default().push_back(parcel);
        }
    }

    fn flush(&mut self, from: usize) {
        while let Some((to, message)) =
            self.nodes[from].as_mut().and_then(|node| node.agreement.poll_message())
        {
            self.send(from, to, Parcel::Talk(message));
        }
    }

    /// What a replica does when it is its turn.
    fn act(&mut self, replica: usize) {
        let finished = self.finished;
        let impatient = self.chance(200);
        let Some(node) = &mut self.nodes[replica] else {
            return;
        };
        let fresh = node.agreement.view().is_none();
        if (fresh && finished) || node.step > Some(STEPS) {
            self.done[replica] = true;
            return self.end(replica, true);
        }
        if impatient && fresh {
            node.agreement.wait_no_longer();
        }
        let cut_off = node.source.is_some_and(|source| !node.agreement.is_there(source));
        if impatient && !fresh && (cut_off || !node.agreement.are_enough()) {
            return self.end(replica, false);
        }
        if !self.goes_well(replica) {
            self.nodes[replica].as_mut().unwrap().agreement.review(false);
        }
        self.flush(replica);
        while let Some(begun) = self.nodes[replica].as_mut().and_then(|n| n.agreement.poll_begun())
        {
            self.begin(replica, &begun);
        }
        if self.nodes[replica].is_some() {
            self.work(replica);
            self.flush(replica);
        }
    }

    fn goes_well(&self, replica: usize) -> bool {
        let node = self.nodes[replica].as_ref().unwrap();
        let Some(view) = node.agreement.view().filter(|_| node.agreement.settled()) else {
            return false;
        };
        let awaited =
            |member: &Member| node.agreement.takes_part(*member) || node.has_part(*member);
        view.coordinator() == replica && view.members.iter().all(awaited)
    }

    fn begin(&mut self, replica: usize, begun: &Begun) {
        let begin = &begun.begin;
        let number = begin.view.number;
        let few = begin.view.members.len() < self.least;
        assert!(!few || begin.step >= Some(STEPS), "too few train: {begin:?}");
        for member in &begun.lost {
            let node = self.nodes[replica].as_mut().unwrap();
            if node.open.get(&member.replica) == Some(&member.epoch) {
                node.open.remove(&member.replica);
                node.agreement.lost(member.replica);
                self.disconnect(replica, member.replica, true);
            }
        }
        let node = self.nodes[replica].as_mut().unwrap();
        node.letters.retain(|(_, letter)| letter.view() >= number);
        node.behind = begin.behind.contains(&replica);
        node.source = begin.giver_to(replica);
        if begun.leaves_behind(node.me, node.step) {
            return self.end(replica, false);
        }
        if begin.source == replica {
            let step = begin.step.unwrap_or(0);
            assert_eq!(node.step.unwrap_or(0), step);
            node.step = Some(step);
            node.agreement.stands_at(step);
            for to in &begin.behind {
                self.send(replica, *to, Parcel::Sum { view: number, round: step });
            }
            for to in &begin.fresh {
                self.send(replica, *to, Parcel::State { view: number, step });
            }
        }
        self.note_checkpoint(replica);
    }

    fn note_checkpoint(&mut self, replica: usize) {
        let node = self.nodes[replica].as_ref().unwrap();
        let leads = node.agreement.view().is_some_and(|view| view.coordinator() == replica);
        self.finished |= leads && node.step >= Some(STEPS);
    }

    /// Take the state, compute, add up or wait.
    fn work(&mut self, replica: usize) {
        let node = self.nodes[replica].as_mut().unwrap();
        let Some(view) = node.agreement.view().filter(|_| node.agreement.settled()).cloned() else {
            return;
        };
        let number = view.number;
        node.letters.retain(|(from, _)| view.members.contains(from));
        let Some(step) = node.step else {
            let state = node.letters.iter().find_map(|(_, letter)| match letter {
                Parcel::State { view, step } if *view == number => Some(*step),
                _ => None,
            });
            if let Some(step) = state {
                node.source = None;
                node.step = Some(step);
                node.agreement.stands_at(step);
            }
            return;
        };
        let round = step + 1;
        let is_sum = |letter: &Parcel| matches!(letter, Parcel::Sum { view, round: r } if *view == number && *r == round);
        if node.letters.iter().any(|(_, letter)| is_sum(letter)) {
            return self.close_round(replica, round);
        }
        if node.behind {
            return;
        }
        if node.computed != Some(number) {
            node.computed = Some(number);
            if view.coordinator() != replica {
                self.send(replica, view.coordinator(), Parcel::Part { view: number, round });
            }
            return;
        }
        let others = &view.members[1..];
        if view.coordinator() == replica && others.iter().all(|other| node.has_part(*other)) {
            for other in others {
                self.send(replica, other.replica, Parcel::Sum { view: number, round });
            }
            self.close_round(replica, round);
        }
    }

    fn close_round(&mut self, replica: usize, round: u64) {
        let node = self.nodes[replica].as_mut().unwrap();
        node.behind = false;
        node.source = None;
        node.computed = None;
        node.step = Some(round);
        node.agreement.stands_at(round);
        if node.agreement.view().is_some_and(|view| view.coordinator() == replica) {
            node.agreement.review(true);
        }
        self.note_checkpoint(replica);
    }

    /// Up to the end of the run, with so many faults on the way.
    fn run(&mut self, mut faults: usize) {
        for _ in 0..EVENTS_MAX {
            let replica = self.random.below(self.nodes.len() as u64) as usize;
            if faults > 0 && self.chance(60) {
                faults -= 1;
                self.fail();
            } else if self.nodes[replica].is_none() && !self.done[replica] {
                if self.chance(40) {
                    self.epoch += 1;
                    self.launch(replica, self.epoch);
                }
            } else if self.chance(40) {
                (0..self.nodes.len()).for_each(|other| self.connect(replica, other));
            } else if self.chance(3) {
                self.act(replica);
            } else {
                self.deliver();
            }
            if self.done.iter().all(|done| *done) {
                return;
            }
        }
        for node in &self.nodes {
            println!("{node:?}");
        }
        panic!("some never came to the end");
    }
}

impl Node {
    fn has_part(&self, from: Member) -> bool {
        let Some((view, step)) = self.agreement.view().zip(self.step) else {
            return false;
        };
        self.letters.iter().any(|(sender, letter)| {
            *sender == from
                && matches!(letter, Parcel::Part { view: v, round } if *v == view.number && *round == step + 1)
        })
    }
}

impl Parcel {
    fn view(&self) -> u64 {
        match self {
            Self::Part { view, .. } | Self::Sum { view, .. } | Self::State { view, .. } => *view,
            other => panic!("{other:?} is no letter"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn all_get_to_the_end_whatever_happens(
        seed in any::<u64>(), replicas in 1usize..6, spare in 0usize..5, faults in 0usize..12,
    ) {
        World::new(seed, replicas, replicas.saturating_sub(spare).max(1)).run(faults);
    }
}
