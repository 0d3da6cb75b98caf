//! The end of a replay: what was seen one by one becomes a history.

use super::history::{
    Drain, History, Incident, PastDeed, PastJob, PastWhat, Said, Strike, StrikeKind,
};
use super::jobs::{JobWatch, held};
use super::measure::{Ending, PastWork, Seen, Stretch};
use super::repairs::{self, PastTicket};
use super::tale::Tale;
use super::watch::{PastDrain, Suspect, Watch, median};
use crate::twin::Delays;
use crate::twin::script::What;
use lindos_core::Core;
use lindos_model::{JobId, Millis, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node that is drained within this time after something broke there is drained for that.
const DRAINED_FOR: Millis = Millis::from_secs(24 * 3600);

impl Watch {
    /// `core` is the replayed one, at the last record.
    pub fn into_history(mut self, core: &Core) -> History {
        let began = self.began.unwrap_or(Time::ZERO);
        let until = self.now;
        for job in self.jobs.values_mut() {
            job.settle(until);
        }
        self.drop_own_faults();
        let tickets = self.repairs.settle();
        let usual_delays = Delays::default();
        let (mut incidents, deeds) = self.settle_drains(tickets.clone());
        let drained: Vec<Millis> =
            incidents.iter().filter_map(|incident| incident.drain.as_ref()?.lasts).collect();
        let usual = repairs::usual(&tickets, &drained);
        incidents.extend(self.stalls());
        self.deeds.extend(deeds);
        incidents.sort_by_key(|incident| (incident.at, incident.seq));
        self.deeds.sort_by_key(|deed| (deed.at, deed.seq));
        let delays = Delays {
            launch: median(&self.launches).unwrap_or(usual_delays.launch),
            stop: median(&self.stops).unwrap_or(usual_delays.stop),
            fence: median(&self.fenced).unwrap_or(usual_delays.fence),
        };
        let node_ms = self.joined.iter().map(|joined| until.since(*joined).0).sum();
        let alive: u64 = core.jobs().map(|job| held(job, until)).sum();
        let tale = Tale::recorded(core.ledger_at(until), self.jobs.values(), until);
        let mut history = History {
            began,
            until,
            policy: self.policy,
            nodes: self.nodes,
            deeds: self.deeds,
            incidents,
            jobs: jobs(&self.jobs),
            delays,
            usual,
            node_ms,
            busy_node_ms: self.held_ms.saturating_add(alive).min(node_ms),
            unplayed: self.unplayed,
            tale,
        };
        history.shift(began);
        history
    }

    /// What a job did by itself is no incident of a node: it was the end of the job, or the same as
    /// that at the same step.
    fn drop_own_faults(&mut self) {
        let mut own = BTreeSet::new();
        let mut last: BTreeMap<JobId, &Suspect> = BTreeMap::new();
        for suspect in &self.suspects {
            last.insert(suspect.job, suspect);
        }
        for suspect in &self.suspects {
            let has_failed = matches!(self.jobs[&suspect.job].ending(), Ending::Failed(..));
            let end = last[&suspect.job];
            let is_alike = (suspect.step, &suspect.exit, suspect.is_early)
                == (end.step, &end.exit, end.is_early);
            if has_failed && is_alike {
                own.insert(suspect.incident);
            }
        }
        let mut place = 0;
        self.incidents.retain(|_| {
            place += 1;
            !own.contains(&(place - 1))
        });
    }

    /// Where a job got on by less than usual, something stood in its way.
    fn stalls(&self) -> Vec<Incident> {
        let stalls = self.jobs.values().flat_map(|job| job.samples.stalls());
        let incident = |(stretch, span): (Stretch, Millis)| {
            let (at, seq, node) = (stretch.at, stretch.seq, stretch.node);
            let what = StrikeKind::Stalls(span);
            let strikes = vec![Strike { after: Millis::ZERO, seq, what, is_early: false }];
            Incident { strikes, ..Incident::new(at, seq, node) }
        };
        stalls.map(incident).collect()
    }

    /// Each drain belongs to what broke on its node shortly before. So do those that give a reason
    /// which was given for faults elsewhere; the others are what people wanted.
    /// A node that Lindos took out was taken out for what broke or was found there, likewise.
    fn settle_drains(&mut self, tickets: Vec<PastTicket>) -> (Vec<Incident>, Vec<PastDeed>) {
        self.drains.extend(std::mem::take(&mut self.drained).into_values());
        self.drains.sort_by_key(|drain| (drain.at, drain.seq));
        let mut by_node: BTreeMap<NodeId, Vec<Incident>> = BTreeMap::new();
        let (mut incidents, mut rest) = (Vec::new(), Vec::new());
        for incident in std::mem::take(&mut self.incidents) {
            if incident.silence.is_some() {
                incidents.push(incident);
            } else {
                by_node.entry(incident.node).or_default().push(incident);
            }
        }
        for ticket in tickets {
            let open = by_node.entry(ticket.node).or_default();
            let broke = take_around(open, ticket.at, ticket.over);
            let mut incident = together(&broke)
                .unwrap_or_else(|| Incident::new(ticket.at, ticket.seq, ticket.node));
            incident.begin_at(ticket.at);
            incident.add_ticket(ticket);
            open.push(incident);
        }
        let mut reasons = BTreeSet::new();
        for drain in std::mem::take(&mut self.drains) {
            let open = by_node.entry(drain.node).or_default();
            let broke = take_around(open, drain.at, drain.over.map(|(over, _)| over));
            match together(&broke) {
                Some(mut incident) => {
                    reasons.insert(drain.reason.clone());
                    incident.begin_at(drain.at);
                    incident.drain = Some(drain.as_kept(incident.at));
                    incidents.push(incident);
                }
                None => rest.push(drain),
            }
        }
        incidents.extend(by_node.into_values().flatten());
        let mut deeds = Vec::new();
        for drain in rest {
            if reasons.contains(&drain.reason) {
                let kept = Some(drain.as_kept(drain.at));
                let (at, seq, node) = (drain.at, drain.seq, drain.node);
                incidents.push(Incident { drain: kept, ..Incident::new(at, seq, node) });
            } else {
                deeds.extend(drain.as_deeds());
            }
        }
        (incidents, deeds)
    }
}

/// Takes out what broke within a day before a node was taken out, and what broke while that lasted:
/// whoever was still there, or was on the way, met the same.
fn take_around(open: &mut Vec<Incident>, at: Time, over: Option<Time>) -> Vec<Incident> {
    let (taken, left) = std::mem::take(open).into_iter().partition(|incident: &Incident| {
        over.is_none_or(|over| incident.at < over) && at.since(incident.at) <= DRAINED_FOR
    });
    *open = left;
    taken
}

/// One incident of several that were mended together; `None` of none.
fn together(broke: &[Incident]) -> Option<Incident> {
    let first = broke.iter().min_by_key(|incident| (incident.at, incident.seq))?;
    let mut all = Incident::new(first.at, first.seq, first.node);
    let mut broke: Vec<&Incident> = broke.iter().collect();
    broke.sort_by_key(|incident| (incident.at, incident.seq));
    for incident in broke {
        let mut incident = incident.clone();
        incident.begin_at(all.at);
        all.strikes.append(&mut incident.strikes);
        all.findings.append(&mut incident.findings);
        all.said.append(&mut incident.said);
        all.mending.add(incident.mending);
        all.ticket = all.ticket.or(incident.ticket);
        all.drain = all.drain.or(incident.drain);
    }
    Some(all)
}

impl Incident {
    /// Counts from an earlier moment, if that is one.
    fn begin_at(&mut self, at: Time) {
        let later = self.at.since(at);
        self.at = self.at.min(at);
        let strikes = self.strikes.iter_mut().map(|strike| &mut strike.after);
        let findings = self.findings.iter_mut().map(|found| &mut found.after);
        let said = self.said.iter_mut().map(|said| &mut said.after);
        let drain = self.drain.iter_mut().map(|drain| &mut drain.after);
        let ticket = self.ticket.iter_mut().map(|ticket| &mut ticket.after);
        for after in strikes.chain(findings).chain(said).chain(drain).chain(ticket) {
            *after = *after + later;
        }
    }

    fn add_ticket(&mut self, ticket: PastTicket) {
        self.ticket = Some(ticket.span(self.at));
        let said = |(at, seq, how): &(Time, u64, _)| Said {
            after: at.since(self.at),
            seq: *seq,
            how: *how,
        };
        let said: Vec<Said> = ticket.said.iter().map(said).collect();
        self.said.extend(said);
        self.mending.add(ticket.mending);
    }
}

impl PastDrain {
    fn as_kept(&self, from: Time) -> Drain {
        Drain {
            after: self.at.since(from),
            seq: self.seq,
            reason: self.reason.clone(),
            lasts: self.over.map(|(over, _)| over.since(self.at)),
        }
    }

    fn as_deeds(&self) -> impl Iterator<Item = PastDeed> {
        let (node, reason) = (self.node, self.reason.clone());
        let began = Some((self.at, self.seq, What::Drains { node, reason }));
        let over = self.over.map(|(at, seq)| (at, seq, What::Undrains(node)));
        began.into_iter().chain(over).map(|(at, seq, what)| PastDeed {
            at,
            seq,
            what: PastWhat::Does(what),
        })
    }
}

/// Jobs with the work that they showed.
fn jobs(watched: &BTreeMap<JobId, JobWatch>) -> Vec<PastJob> {
    let mut jobs: Vec<PastJob> = watched
        .iter()
        .map(|(&id, job)| {
            let (at, spec) = (job.at, Arc::clone(&job.spec));
            PastJob { id, at, spec, work: job.samples.work(&job.ending()) }
        })
        .collect();
    let unseen: Vec<usize> =
        (0..jobs.len()).filter(|&p| watched[&jobs[p].id].is_unseen()).collect();
    let middle = middle(&jobs, watched);
    for place in unseen {
        if let Some(like) = &middle {
            jobs[place].work = PastWork { seen: Seen::NotAtAll, ..like.clone() };
        }
    }
    jobs
}

/// The work of the job in the middle, by its time, of those that have completed; of those that were
/// seen at work, if none has.
fn middle(jobs: &[PastJob], watched: &BTreeMap<JobId, JobWatch>) -> Option<PastWork> {
    let has_completed = |job: &&PastJob| matches!(watched[&job.id].ending(), Ending::Completed(..));
    let mut seen: Vec<&PastJob> = jobs.iter().filter(has_completed).collect();
    if seen.is_empty() {
        seen = jobs.iter().filter(|job| !watched[&job.id].is_unseen()).collect();
    }
    let time = |job: &&PastJob| (job.work.work.steps.saturating_mul(job.work.work.step.0), job.id);
    seen.sort_by_key(time);
    seen.get(seen.len() / 2).map(|job| job.work.clone())
}

impl History {
    /// Times count from the first record.
    fn shift(&mut self, began: Time) {
        let shifted = |at: Time| Time::ZERO + at.since(began);
        self.until = shifted(self.until);
        for deed in &mut self.deeds {
            deed.at = shifted(deed.at);
            if let PastWhat::Does(What::Reserves(reservation)) = &mut deed.what {
                reservation.from = shifted(reservation.from);
                reservation.until = shifted(reservation.until);
            }
        }
        for incident in &mut self.incidents {
            incident.at = shifted(incident.at);
        }
        for job in &mut self.jobs {
            job.at = shifted(job.at);
        }
    }
}
