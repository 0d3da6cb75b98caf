//! From a finding to a mended node: taken out, one remedy after another, burnt in, back in service.
//!
//! A condemned node takes no new work from that moment. What runs there is stopped at once when the
//! device is lost; when it still works, its job is told to leave once it has saved a checkpoint and
//! another node can stand in. When nothing is left on the node, the ladder begins ([`super::ladder`]).
//! A node is back only after its burn-in.

use super::fleet::{Allocation, Out};
use super::ladder::{self, Urgency};
use super::record::Found;
use crate::Core;
use crate::effect::{Effect, Effects, Rejection, Reply};
use crate::gang::attempt::{Attempt, MemberState};
use crate::timer::Timer;
use lindos_model::finding::{Action, Device, Finding, FindingClass, FindingSource, Severity};
use lindos_model::trail::CalledOff;
use lindos_model::{
    EffectId, EndReason, Epoch, JobId, Mended, Millis, NodeId, Outcome, Remedy, RequestId, Time,
    TrailKind,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// From a node that goes out until the queue is passed over for what that changes.
const REPLAN: Millis = Millis(100);

/// A node that is out by Lindos's own decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Counted from 1 over the whole fleet.
    pub number: u64,
    pub since: Time,
    pub class: FindingClass,
    pub device: Option<Device>,
    pub detail: String,
    /// The remedy that is next, or under way.
    pub remedy: Remedy,
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Jobs are still there.
    Leaving,
    /// The remedy was asked for; a person's is over when a person says so.
    Mending {
        effect: Option<EffectId>,
        since: Time,
    },
    BurnIn {
        effect: EffectId,
        since: Time,
    },
    /// It is one of the suspects of a trial ([`super::trial`]).
    Suspect {
        trial: u64,
        since: Time,
    },
}

/// Jobs that a node that was taken out has to be a fault of, and in which replica.
pub(crate) type Faults = Vec<(JobId, usize, EndReason)>;

impl Core {
    /// A check has found something on a node.
    pub(crate) fn on_finding_seen(
        &mut self,
        node: NodeId,
        finding: &Finding,
        out: &mut Effects,
    ) -> Faults {
        if self.fleet.get(node).is_none() {
            return Vec::new();
        }
        let found = self.health.entry(node).find(finding, self.now);
        let is_new = found == Found::New;
        self.note_conspicuous(node);
        if is_new {
            let (class, severity) = (finding.class.clone(), finding.severity);
            let detail = finding.detail.clone();
            self.note(node, TrailKind::Found { class, severity, detail }, out);
        }
        if found == Found::LetBe {
            return Vec::new();
        }
        let Some((remedy, urgency)) = ladder::calls_for(finding) else { return Vec::new() };
        self.condemn(node, finding, remedy, urgency, is_new, out)
    }

    /// A finding holds no more. What is done about it goes on.
    pub(crate) fn on_finding_gone(
        &mut self,
        node: NodeId,
        class: &FindingClass,
        device: Option<&Device>,
        out: &mut Effects,
    ) {
        let health = self.health.get_mut(node);
        if health.is_some_and(|health| health.clear(class, device)) {
            self.note(node, TrailKind::FoundNoMore { class: class.clone() }, out);
            let is_for_it = |kept: &(Finding, Remedy, Urgency)| {
                kept.0.class == *class && kept.0.device.as_ref() == device
            };
            if self.kept_in.get(&node).is_some_and(is_for_it) {
                self.kept_in.remove(&node);
            }
        }
    }

    /// Takes a node out, unless something keeps it in.
    pub(crate) fn condemn(
        &mut self,
        node: NodeId,
        finding: &Finding,
        remedy: Remedy,
        urgency: Urgency,
        is_new: bool,
        out: &mut Effects,
    ) -> Faults {
        if let Some(trial) = self.trial_of(node) {
            self.call_off(trial, CalledOff::OtherNews, out);
        }
        if let Some(ticket) = self.repairs.get(&node) {
            // It is worse than was thought, and what is still there will not save anything.
            let must_go = urgency == Urgency::AtOnce && ticket.stage == Stage::Leaving;
            return if must_go { self.leave_at_once(node) } else { Vec::new() };
        }
        if let Some(because) = self.keeps_in(node, &finding.class, out) {
            self.kept_in.insert(node, (finding.clone(), remedy, urgency));
            if is_new {
                self.note(node, TrailKind::KeptIn { class: finding.class.clone(), because }, out);
            }
            return Vec::new();
        }
        self.take_out(node, finding, remedy, out);
        match urgency {
            Urgency::AtOnce => self.leave_at_once(node),
            Urgency::AtCheckpoint => self.leave_when_saved(node),
        }
    }

    pub(super) fn take_out(
        &mut self,
        node: NodeId,
        finding: &Finding,
        remedy: Remedy,
        out: &mut Effects,
    ) {
        self.kept_in.remove(&node);
        self.fleet.interrupt(node);
        // It makes room for nobody: what waits is told anew a little later, once for all nodes that go
        // in the meantime.
        self.wake_by(self.now + REPLAN);
        self.last_ticket += 1;
        let number = self.last_ticket;
        let health = self.health.entry(node);
        let remedy = ladder::rung(remedy, health, &self.policy.repair, self.now);
        let (class, device) = (finding.class.clone(), finding.device.clone());
        let detail = finding.detail.clone();
        let (since, stage) = (self.now, Stage::Leaving);
        let ticket = Ticket { number, since, class: class.clone(), device, detail, remedy, stage };
        self.repairs.insert(node, Box::new(ticket));
        self.leaving.insert(node);
        self.may_be_left.insert(node);
        self.fleet.update(node, |node| node.out = Some(Out::Repair));
        self.lose_spare(node);
        self.note(node, TrailKind::TakenOut { class, ticket: number }, out);
    }

    /// All that runs on a node that is out has to be stopped.
    fn leave_at_once(&mut self, id: NodeId) -> Faults {
        self.timers.cancel(Timer::Repair(id));
        let reason = self.out_reason(id, false);
        let on_node = &self.fleet.node(id).allocations;
        let reasons = std::iter::repeat_n(reason, on_node.len());
        let fault = |(allocation, reason): (&Allocation, EndReason)| {
            let job = allocation.job;
            let attempt = self.jobs[&job].attempt.as_ref().expect("it holds GPUs");
            (job, attempt.replica_of(allocation.member as usize), reason)
        };
        on_node.iter().zip(reasons).map(fault).collect()
    }

    /// What runs there leaves when it has saved a checkpoint; a replica that the others can do
    /// without leaves now.
    fn leave_when_saved(&mut self, id: NodeId) -> Faults {
        let reason = self.out_reason(id, true);
        let mut faults = Vec::new();
        for (job, member) in self.members_on(id) {
            let job = self.jobs.get_mut(&job).expect("it holds GPUs");
            let attempt = job.attempt.as_mut().expect("it holds GPUs");
            let replica = attempt.replica_of(member);
            if attempt.can_go_on_without(replica, self.now) {
                faults.push((job.id, replica, reason.clone()));
            } else {
                attempt.leaves.insert(id);
            }
        }
        let wait = Millis(self.policy.repair.leave_max_ms);
        self.timers.set(Timer::Repair(id), self.now + wait);
        faults
    }

    fn out_reason(&self, node: NodeId, planned: bool) -> EndReason {
        let class = self.repairs[&node].class.to_string();
        EndReason::NodeOut { node: self.fleet.node(node).spec.name.clone(), class, planned }
    }

    /// A checkpoint was saved: why its attempt is stopped now, if a node of it is to be left and
    /// another can stand in.
    pub(crate) fn leaves_now(&mut self, id: JobId) -> Option<EndReason> {
        let attempt = self.attempt_of(id).filter(|attempt| !attempt.is_stopping())?;
        let &node = attempt.leaves.first()?;
        let members = 0..attempt.members.len();
        self.stand_ins(id, members)?;
        Some(self.out_reason(node, true))
    }

    /// A node has waited long enough, for a checkpoint or for a remedy.
    pub(crate) fn on_repair_overdue(&mut self, node: NodeId, out: &mut Effects) -> Faults {
        let Some(ticket) = self.repairs.get(&node) else { return Vec::new() };
        match ticket.stage {
            Stage::Leaving => return self.leave_at_once(node),
            Stage::Mending { effect: Some(effect), .. } | Stage::BurnIn { effect, .. } => {
                let reason = "it was not over in time".to_string();
                self.on_remedy_over(node, effect, &Outcome::Failed { reason }, out);
            }
            Stage::Mending { effect: None, .. } | Stage::Suspect { .. } => {}
        }
        Vec::new()
    }

    /// Something has become of a job: nodes that it was to leave may be empty now.
    pub(crate) fn look_who_is_left(&mut self, job: JobId) {
        let is_there = |node: NodeId| {
            let on_node = &self.fleet.node(node).allocations;
            on_node.is_empty() || on_node.iter().any(|allocation| allocation.job == job)
        };
        let left = self.leaving.iter().copied().filter(|&node| is_there(node));
        self.may_be_left.extend(left);
    }

    /// Begins to mend the nodes on which nothing is left.
    pub(crate) fn begin_repairs(&mut self, out: &mut Effects) {
        let mut empty = std::mem::take(&mut self.may_be_left);
        empty.retain(|&node| self.leaving.contains(&node) && self.is_left(node));
        for node in empty {
            self.leaving.remove(&node);
            let remedy = self.repairs[&node].remedy;
            self.try_remedy(node, remedy, out);
        }
    }

    /// Whether nothing lives on a node. A replica that waits for somebody to stand in there has its
    /// place still.
    fn is_left(&self, node: NodeId) -> bool {
        self.members_on(node).into_iter().all(|(job, member)| {
            let attempt = self.jobs[&job].attempt.as_ref().expect("it holds GPUs");
            attempt.members[member].state == MemberState::Gone
        })
    }

    pub(super) fn try_remedy(&mut self, node: NodeId, remedy: Remedy, out: &mut Effects) {
        let now = self.now;
        self.health.entry(node).note_tried(remedy, now);
        let effect = (!remedy.is_by_hand()).then(|| self.next_effect());
        let ticket = self.repairs.get_mut(&node).expect("it is out");
        (ticket.remedy, ticket.stage) = (remedy, Stage::Mending { effect, since: now });
        let device = ticket.device.clone();
        self.timers.cancel(Timer::Repair(node));
        self.note(node, TrailKind::RemedyBegun { remedy }, out);
        if let Some(id) = effect {
            out.push(Effect::Remedy { id, node, remedy, device });
            let wait = Millis(self.policy.repair.remedy_timeout_ms);
            self.timers.set(Timer::Repair(node), now + wait);
        }
    }

    /// A remedy or a burn-in is over; an answer to one that is not under way any more says nothing.
    pub(crate) fn on_remedy_over(
        &mut self,
        node: NodeId,
        effect: EffectId,
        outcome: &Outcome,
        out: &mut Effects,
    ) {
        let Some(ticket) = self.repairs.get(&node) else { return };
        let (remedy, outcome) = (ticket.remedy, outcome.clone());
        let next = |core: &Core| {
            let health = &core.health[node];
            ladder::next(remedy, health, &core.policy.repair, core.now)
        };
        match ticket.stage {
            Stage::Mending { effect: Some(asked), .. } if asked == effect => {
                let is_done = outcome == Outcome::Done;
                if outcome == Outcome::Unsupported {
                    self.health.entry(node).tried.pop_back();
                }
                self.note(node, TrailKind::RemedyOver { remedy, outcome }, out);
                if is_done {
                    self.begin_burn_in(node, out);
                } else {
                    self.try_remedy(node, next(self), out);
                }
            }
            Stage::BurnIn { effect: asked, .. } if asked == effect => {
                let is_passed = !matches!(outcome, Outcome::Failed { .. });
                self.note(node, TrailKind::BurnInOver { outcome }, out);
                if is_passed {
                    self.put_back(node, Mended::Repaired, out);
                } else {
                    self.fleet.update(node, |node| node.out = Some(Out::Repair));
                    self.try_remedy(node, next(self), out);
                }
            }
            _ => {}
        }
    }

    fn begin_burn_in(&mut self, node: NodeId, out: &mut Effects) {
        let span = Millis(self.policy.repair.burn_in_ms);
        if span == Millis::ZERO {
            return self.put_back(node, Mended::Repaired, out);
        }
        let (id, now) = (self.next_effect(), self.now);
        let ticket = self.repairs.get_mut(&node).expect("it is out");
        ticket.stage = Stage::BurnIn { effect: id, since: now };
        self.fleet.update(node, |node| node.out = Some(Out::BurnIn));
        self.note(node, TrailKind::BurnInBegun { span }, out);
        out.push(Effect::BurnIn { id, node, span, peer: None });
        let wait = span + Millis(self.policy.repair.remedy_timeout_ms);
        self.timers.set(Timer::Repair(node), now + wait);
    }

    /// The node takes work again; what was found before is over, but for what a person has let be.
    fn put_back(&mut self, node: NodeId, how: Mended, out: &mut Effects) {
        let ticket = self.repairs.remove(&node).expect("it is out");
        self.leaving.remove(&node);
        self.timers.cancel(Timer::Repair(node));
        self.fleet.update(node, |node| node.out = None);
        let health = self.health.entry(node);
        if how == Mended::Released {
            health.open.iter_mut().for_each(|open| open.is_let_be = true);
        } else {
            health.open.clear();
        }
        health.strikes.clear();
        let after = self.now.since(ticket.since);
        self.note(node, TrailKind::BackInService { after }, out);
        self.stay(node);
        self.must_schedule = true;
        self.must_look_at_kept = true;
    }

    /// Jobs that were to leave a node need not.
    fn stay(&mut self, node: NodeId) {
        for (job, _) in self.members_on(node) {
            let job = self.jobs.get_mut(&job).expect("it holds GPUs");
            job.attempt.as_mut().expect("it holds GPUs").leaves.remove(&node);
        }
    }

    /// A person says what became of a node.
    pub(crate) fn on_node_mended(
        &mut self,
        request: RequestId,
        node: NodeId,
        how: Mended,
        out: &mut Effects,
    ) {
        if self.has_answered(request, out) {
            return;
        }
        let trial = self.trial_of(node);
        let reply = match self.fleet.get(node) {
            None => Reply::Rejected { reason: Rejection::NoSuchNode { node } },
            Some(_) if trial.is_some() => {
                self.note(node, TrailKind::Mended { how }, out);
                self.call_off(trial.expect("it was just seen"), CalledOff::OtherNews, out);
                Reply::Done
            }
            Some(_) if !self.repairs.contains_key(&node) => {
                Reply::Rejected { reason: Rejection::NotInRepair { node } }
            }
            Some(_) if how != Mended::Released && !self.is_left(node) => {
                Reply::Rejected { reason: Rejection::StillInUse { node } }
            }
            Some(_) => {
                self.note(node, TrailKind::Mended { how }, out);
                match how {
                    Mended::Released => self.put_back(node, how, out),
                    Mended::Repaired => self.prove(node, out),
                    Mended::Replaced => {
                        self.health.entry(node).renew();
                        self.prove(node, out);
                    }
                }
                Reply::Done
            }
        };
        self.answer(request, reply, out);
    }

    fn prove(&mut self, node: NodeId, out: &mut Effects) {
        self.leaving.remove(&node);
        self.timers.cancel(Timer::Repair(node));
        self.begin_burn_in(node, out);
    }

    /// Nodes were to blame for faults in this step: one that is so again and again is taken out,
    /// though no check has found anything there.
    pub(crate) fn on_struck(&mut self, out: &mut Effects) -> Faults {
        let (span, most) =
            (Millis(self.policy.repair.strikes_window_ms), self.policy.repair.strikes_max);
        let mut faults = Vec::new();
        for node in std::mem::take(&mut self.struck) {
            let strikes = self.health.entry(node).strike(self.now, span);
            self.note_conspicuous(node);
            if most > 0 && strikes >= most && !self.repairs.contains_key(&node) {
                let finding = lemon(strikes);
                let (remedy, urgency) = (Remedy::Diagnose, Urgency::AtCheckpoint);
                faults.extend(self.condemn(node, &finding, remedy, urgency, true, out));
            }
        }
        faults
    }

    /// Nodes that were kept in service may go now, the ones longest known first by number.
    pub(crate) fn look_at_kept(&mut self, out: &mut Effects) -> Faults {
        let mut faults = Vec::new();
        for (node, (finding, remedy, urgency)) in self.kept_in.clone() {
            faults.extend(self.condemn(node, &finding, remedy, urgency, false, out));
        }
        faults
    }

    fn note_conspicuous(&mut self, node: NodeId) {
        let window = Millis(self.policy.repair.strikes_window_ms);
        self.conspicuous.note(node, &self.health, self.now, window);
    }

    /// Tells people of a node's health, and remembers it.
    pub(crate) fn note(&mut self, node: NodeId, what: TrailKind, out: &mut Effects) {
        self.note_of(None, node, what, out);
    }

    /// The same of what a job has to do with.
    pub(super) fn note_of(
        &mut self,
        job: Option<(JobId, Option<Epoch>)>,
        node: NodeId,
        what: TrailKind,
        out: &mut Effects,
    ) {
        let entry = self.record(job, Some(node), what);
        self.health.entry(node).note(Arc::clone(&entry));
        out.push(Effect::Trail(entry));
    }

    pub(crate) fn check_repairs(&self) {
        assert!(self.struck.is_empty(), "a strike was not weighed");
        let window = Millis(self.policy.repair.strikes_window_ms);
        for (node, health) in self.health.iter() {
            let is_known = self.conspicuous.has(node) || !health.is_conspicuous(self.now, window);
            assert!(is_known, "a node's record is overlooked");
        }
        for (&node, ticket) in &self.repairs {
            let known = self.fleet.node(node);
            let is_proved = matches!(ticket.stage, Stage::BurnIn { .. } | Stage::Suspect { .. });
            let out = if is_proved { Out::BurnIn } else { Out::Repair };
            assert_eq!(known.out, Some(out), "a ticket and its node differ");
            assert_eq!(self.leaving.contains(&node), ticket.stage == Stage::Leaving);
            assert!(
                self.is_left(node) || ticket.stage == Stage::Leaving,
                "a node in use is mended"
            );
            assert!(!self.kept_in.contains_key(&node), "a node is out and kept in");
        }
        assert!(self.may_be_left.is_empty());
        let is_left = |&node: &NodeId| self.is_left(node);
        assert!(!self.leaving.iter().any(is_left), "nobody begins to mend a node that is empty");
        let out = self.fleet.nodes().iter().filter(|node| node.out.is_some()).count();
        assert_eq!(out, self.repairs.len(), "a node is out without a ticket");
        assert!(self.leaving.iter().all(|node| self.repairs.contains_key(node)));
        let leaves =
            |attempt: &Attempt| attempt.leaves.iter().all(|node| self.repairs.contains_key(node));
        let mut attempts = self.alive.iter().filter_map(|&id| self.attempt_of(id));
        assert!(attempts.all(leaves), "a gang is to leave a node that is in service");
    }
}

/// What the faults of jobs say of a node.
fn lemon(strikes: u32) -> Finding {
    Finding::new(
        FindingClass::known("node.lemon"),
        Severity::Warning,
        Action::RunDiagnostics,
        FindingSource::Job,
        format!("it was to blame for {strikes} faults of jobs"),
    )
}
