//! One sum after another, whoever is there.

use anyhow::{Context, Result};

use super::agreement::{Begin, Member, View};
use super::post::is_part;
use super::wire::{Letter, pack};
use super::{Replicas, Trainee, went_on_without};
use crate::group::{content, message};
use crate::link::Kind;
use crate::optimizer::State;
use crate::tree::{self, Parts};

impl Replicas {
    /// The sum over `leaves` vectors of length `len`, as [`Group::sum`] has it, over all
    /// replicas that are there, and whoever of them is lost meanwhile.
    pub fn sum(
        &mut self,
        round: u64,
        leaves: usize,
        len: usize,
        mut leaf: impl FnMut(usize) -> Result<Vec<f32>>,
        trainee: &impl Trainee,
    ) -> Result<Vec<f32>> {
        self.drain()?;
        let mut computed = None;
        let sum = loop {
            self.review(round);
            self.send_messages();
            self.act_on_begun(trainee)?;
            let Some(view) = self.agreement.view().filter(|_| self.agreement.settled()).cloned()
            else {
                self.wait()?;
                continue;
            };
            let is_sum = |letter: &Letter| letter.round() == Some(round);
            if let Some(letter) = self.take_letter(Kind::Sum, is_sum) {
                break content(&letter.content, round, len)
                    .with_context(|| format!("from replica {}", letter.from.replica))?;
            }
            match &computed {
                _ if self.behind => self.wait()?,
                Some((number, parts)) if *number == view.number => {
                    if let Some(sum) = self.add_up(&view, round, leaves, len, parts)? {
                        break sum;
                    }
                    self.wait()?;
                }
                _ => {
                    let parts = self.compute(&view, round, leaves, len, &mut leaf)?;
                    computed = Some((view.number, parts));
                    self.drain()?;
                }
            }
        };
        self.close_round(round, &sum)?;
        Ok(sum)
    }

    /// This replica's share, which goes to the coordinator.
    fn compute(
        &mut self,
        view: &View,
        round: u64,
        leaves: usize,
        len: usize,
        leaf: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Parts> {
        let place = view.place(self.me.replica).context("a view without this replica")?;
        let owned = tree::share(leaves, place, view.members.len());
        let mut parts = self.group.lead(round, leaves, &owned, len, leaf)?;
        if place > 0 {
            let floats: Vec<f32> = parts.drain(..).flat_map(|(_, part)| part).collect();
            let letter = Letter::encode(view.number, &message(round, &floats));
            self.send(view.coordinator(), Kind::Part, &letter);
        }
        Ok(parts)
    }

    /// The coordinator's work, once it has all parts.
    fn add_up(
        &mut self,
        view: &View,
        round: u64,
        leaves: usize,
        len: usize,
        own: &Parts,
    ) -> Result<Option<Vec<f32>>> {
        let others = &view.members[1..];
        if view.coordinator() != self.me.replica
            || !others.iter().all(|member| self.has_part(*member, round))
        {
            return Ok(None);
        }
        let mut parts = own.clone();
        for (place, member) in others.iter().enumerate() {
            let is_theirs = |part: &Letter| is_part(part, *member, round);
            let part = self.take_letter(Kind::Part, is_theirs).context("seen above")?;
            let nodes = tree::cover(leaves, &tree::share(leaves, place + 1, view.members.len()));
            let floats = content(&part.content, round, nodes.len() * len)
                .with_context(|| format!("from replica {}", member.replica))?;
            parts.extend(nodes.into_iter().zip(floats.chunks(len).map(<[f32]>::to_vec)));
        }
        let sum = tree::merge(leaves, parts);
        let letter = Letter::encode(view.number, &message(round, &sum));
        for member in others {
            self.send(member.replica, Kind::Sum, &letter);
        }
        Ok(Some(sum))
    }

    fn close_round(&mut self, round: u64, sum: &[f32]) -> Result<()> {
        self.behind = false;
        self.source = None;
        self.last_sum = sum.to_vec();
        self.agreement.stands_at(round);
        if self.leads() {
            // Before the others begin the next step, so that none of them does it twice.
            self.agreement.review(true);
            self.send_messages();
        }
        self.group.publish(round, sum)
    }

    /// A loss is no reason to stop while the parts of all who are missing have come.
    fn review(&mut self, round: u64) {
        let going_well = self.agreement.view().is_some_and(|view| {
            let awaited = |member: &Member| {
                self.agreement.takes_part(*member) || self.has_part(*member, round)
            };
            self.agreement.settled() && self.leads() && view.members.iter().all(awaited)
        });
        if !going_well {
            self.agreement.review(false);
        }
    }

    fn act_on_begun(&mut self, trainee: &impl Trainee) -> Result<()> {
        while let Some(begun) = self.agreement.poll_begun() {
            if begun.leaves_behind(self.me, Some(trainee.state().step)) {
                return Err(went_on_without(self.me.replica).into());
            }
            let begin = self.take_note(begun);
            if begin.source == self.me.replica {
                let round = begin.step.context("a view with a state and without a step")?;
                let letter = message(round, &self.last_sum);
                let letter = Letter::encode(begin.view.number, &letter);
                for replica in &begin.behind {
                    self.send(*replica, Kind::Sum, &letter);
                }
                self.give_state(&begin, trainee.corpus(), trainee.state());
            }
            if begin.view.coordinator() == self.me.replica {
                trainee.took_over()?;
            }
        }
        Ok(())
    }

    pub(super) fn give_state(&mut self, begin: &Begin, corpus: &[u8], state: &State) {
        if begin.fresh.is_empty() {
            return;
        }
        let letter = Letter::encode(begin.view.number, &pack(corpus, state, &self.last_sum));
        for replica in &begin.fresh {
            self.send(*replica, Kind::State, &letter);
        }
    }
}
