//! A history given to the twin, as it was or under a change.

use super::change::{BadChange, Change};
use super::draw::{Faults, Nodes, incidents, stretched};
use super::history::{Drain, Found, FoundKind, History, Incident, PastWhat, Strike, StrikeKind};
use super::measure::PastWork;
use super::tale::Tale;
use crate::reliability::{FaultPlan, Profile};
use crate::twin::script::{Deed, Script, What};
use crate::twin::{Setup, TwinJob, run};
use lindos_core::health::ladder::{self, Urgency};
use lindos_model::job::After;
use lindos_model::{Exit, JobId, JobSpec, Millis, NodeId, NodeSpec, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Nodes that joined so soon after the first are those that the fleet began with.
const BEGINNING: Millis = Millis::from_secs(60);

/// Plays a history under a change. `tell` hears how far it is.
///
/// # Errors
///
/// If the change makes no sense for it.
pub fn play(
    history: &History,
    change: &Change,
    faults: Faults,
    tell: &mut dyn FnMut(Time),
) -> Result<Tale, BadChange> {
    let setup = setup(history, change, faults)?;
    Ok(Tale::played(&run(&setup, None, tell)))
}

/// Everything for one run.
pub fn setup(history: &History, change: &Change, faults: Faults) -> Result<Setup, BadChange> {
    change.check(history)?;
    let fleet = Fleet::new(history, change);
    let (jobs, places) = jobs(history, change);
    let mut policy = change.policy(&history.policy)?;
    // Every job is told of at the end.
    policy.finished_jobs_max = policy.finished_jobs_max.max(jobs.len() as u32);
    let script = script(history, change, faults, &fleet, &places)?;
    let nothing = FaultPlan::new(&no_faults(), &fleet.nodes, 0, Time::ZERO, Time::ZERO);
    Ok(Setup {
        faults: nothing.expect("a plan of no time is not too long"),
        nodes: fleet.nodes,
        policy,
        jobs,
        delays: history.delays,
        until: history.until,
        script: Some(script),
        check_every: 0,
    })
}

fn no_faults() -> Profile {
    let (about, notes, lots, causes) = (String::new(), Vec::new(), Vec::new(), Vec::new());
    Profile { about, notes, lemons: None, lots, causes }
}

/// The nodes, in the order in which they join.
struct Fleet {
    nodes: Vec<NodeSpec>,
    /// Nodes on record that stay.
    stays: usize,
    /// New ones join after so many of those on record, and they are so many.
    first_new: usize,
    new: usize,
    /// When they do.
    new_at: Time,
    /// None of those on record is there.
    is_other: bool,
}

impl Fleet {
    fn new(history: &History, change: &Change) -> Fleet {
        let all = history.nodes.len();
        let stays = if change.nodes < 0 { all - change.nodes.unsigned_abs() as usize } else { all };
        let new = change.nodes.max(0) as usize;
        let mut joins = history.deeds.iter().filter_map(|deed| match &deed.what {
            PastWhat::Does(What::Joins(_)) => Some(deed.at),
            _ => None,
        });
        let first = joins.next().unwrap_or(Time::ZERO);
        let beginning = joins.take_while(|at| at.since(first) <= BEGINNING);
        let (count, new_at) = beginning.fold((1, first), |(count, _), at| (count + 1, at));
        if let Some(other) = &change.fleet {
            let (nodes, new) = (other.nodes.clone(), other.nodes.len());
            return Fleet { nodes, stays: 0, first_new: 0, new, new_at, is_other: true };
        }
        let first_new = count.min(stays);
        let mut nodes = history.nodes[..stays].to_vec();
        let like = nodes[first_new - 1].clone();
        let named =
            (1..=new).map(|number| NodeSpec { name: format!("added-{number}"), ..like.clone() });
        nodes.splice(first_new..first_new, named);
        Fleet { nodes, stays, first_new, new, new_at, is_other: false }
    }

    /// Where a node on record stands now, or one of the new ones, which come after them; `None` if
    /// it does not stay.
    fn place(&self, node: NodeId) -> Option<NodeId> {
        let index = node.index();
        if self.is_other {
            return None;
        }
        let recorded = self.nodes.len() - self.new;
        let place = match index {
            _ if index < self.first_new => index,
            _ if index < self.stays => index + self.new,
            _ if self.new > 0 && index < recorded + self.new => index - recorded + self.first_new,
            _ => return None,
        };
        Some(NodeId(place as u32))
    }
}

/// The jobs in the order of their ids on record, then the new ones; and which is where.
fn jobs(history: &History, change: &Change) -> (Vec<TwinJob>, BTreeMap<JobId, usize>) {
    let recorded = history.jobs.iter().map(|job| {
        let (spec, work) = change.job(&job.spec, &job.work.work);
        // Each job of an array does its own work.
        let spec = JobSpec { array: None, ..(*spec).clone() };
        let PastWork { tells_steps, tells_saves, ref fails, .. } = job.work;
        let (at, spec, fails) = (job.at, Arc::new(spec), fails.clone());
        TwinJob { at, spec, work, tells_steps, tells_saves, fails }
    });
    let added = change.jobs.iter().map(|job| {
        let (spec, work) = change.job(&job.spec, &job.work);
        TwinJob { spec, work, ..job.clone() }
    });
    let mut jobs: Vec<TwinJob> = recorded.chain(added).collect();
    let places: BTreeMap<JobId, usize> =
        history.jobs.iter().enumerate().map(|(place, job)| (job.id, place)).collect();
    rename_after(&mut jobs, &places);
    (jobs, places)
}

/// Jobs are numbered as they are submitted: one more, or one that was refused and is gone, and those
/// after it have other numbers.
fn rename_after(jobs: &mut [TwinJob], places: &BTreeMap<JobId, usize>) {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&place| (jobs[place].at, place));
    let mut ids = vec![JobId(0); jobs.len()];
    for (number, place) in (1..).zip(order) {
        ids[place] = JobId(number);
    }
    for job in jobs.iter_mut().filter(|job| !job.spec.after.is_empty()) {
        let renamed = |after: &After| {
            let job = places.get(&after.job).map_or(after.job, |&place| ids[place]);
            After { job, ..*after }
        };
        let after = job.spec.after.iter().map(renamed).collect();
        job.spec = Arc::new(JobSpec { after, ..(*job.spec).clone() });
    }
}

fn script(
    history: &History,
    change: &Change,
    faults: Faults,
    fleet: &Fleet,
    places: &BTreeMap<JobId, usize>,
) -> Result<Script, BadChange> {
    let mut deeds: Vec<(u64, Deed)> = Vec::new();
    for past in &history.deeds {
        let (is_first, what) = match &past.what {
            PastWhat::Cancels(job) => (false, places.get(job).map(|&place| What::Cancels(place))),
            PastWhat::Does(What::Starts(policy)) => {
                (true, Some(What::Starts(Box::new(change.policy(policy)?))))
            }
            PastWhat::Does(what) => {
                (matches!(what, What::Joins(_)), on_fleet(what.clone(), history, fleet))
            }
        };
        let deed = |what| Deed { at: past.at, what, is_first, incident: None };
        deeds.extend(what.map(|what| (past.seq, deed(what))));
    }
    let at = fleet.new_at;
    for spec in &fleet.nodes[fleet.first_new..fleet.first_new + fleet.new] {
        let what = What::Joins(Box::new(spec.clone()));
        deeds.push((u64::MAX, Deed { at, what, is_first: true, incident: None }));
    }
    let all = if fleet.is_other {
        Nodes::Others(fleet.nodes.len())
    } else {
        Nodes::Recorded(fleet.nodes.len().max(fleet.stays))
    };
    let (rate, repair) = (change.fault_rate, change.repair_time);
    let is_drawn = faults != Faults::Recorded;
    let by_hand = !change.policy(&history.policy)?.repair.automatic;
    for (number, mut incident) in
        incidents(history, faults, all, rate, repair).into_iter().enumerate()
    {
        // On another fleet, they are drawn for its own nodes, whatever GPUs these have.
        let node = if fleet.is_other { Some(incident.node) } else { fleet.place(incident.node) };
        let Some(node) = node else { continue };
        if fleet.is_other {
            incident.strike_any_gpu();
        }
        // What a check has found is there whatever runs.
        let number = (is_drawn && incident.findings.is_empty()).then_some(number as u32);
        if by_hand {
            incident.drain_by_hand();
        }
        deeds.extend(deeds_of(&incident, node, number));
    }
    // In one moment, in the order of their records.
    deeds.sort_by_key(|(seq, deed)| (deed.at, *seq));
    let mut deeds: Vec<Deed> = deeds.into_iter().map(|(_, deed)| deed).collect();
    for place in (1..deeds.len()).rev() {
        let (before, deed) = (&deeds[place - 1], &deeds[place]);
        let comes_first = deed.is_first && before.at == deed.at;
        deeds[place - 1].is_first |= comes_first;
    }
    let mut usual = history.usual.clone();
    usual.stretch(&|span| stretched(span, repair));
    Ok(Script { deeds, usual })
}

/// What people did, on the nodes that there are now.
fn on_fleet(what: What, history: &History, fleet: &Fleet) -> Option<What> {
    Some(match what {
        What::Joins(spec) => {
            let known = history.nodes.iter().position(|node| node.name == spec.name);
            let stays = known.is_some_and(|place| fleet.place(NodeId(place as u32)).is_some());
            return stays.then_some(What::Joins(spec));
        }
        What::Drains { node, reason } => What::Drains { node: fleet.place(node)?, reason },
        What::Undrains(node) => What::Undrains(fleet.place(node)?),
        What::Finds { node, finding } => What::Finds { node: fleet.place(node)?, finding },
        What::FindsNoMore { node, class, device } => {
            What::FindsNoMore { node: fleet.place(node)?, class, device }
        }
        What::Reserves(mut reservation) => {
            reservation.nodes = reservation.nodes.iter().filter_map(|&n| fleet.place(n)).collect();
            if reservation.nodes.is_empty() {
                return None;
            }
            What::Reserves(reservation)
        }
        other => other,
    })
}

impl Incident {
    fn strike_any_gpu(&mut self) {
        for strike in &mut self.strikes {
            if let StrikeKind::RankEnds { gpu, .. } = &mut strike.what {
                *gpu = None;
            }
        }
    }

    /// Where Lindos takes no node out by itself, a person does, for as long. What runs on a device
    /// that is lost ends in any case.
    fn drain_by_hand(&mut self) {
        let (Some(ticket), None) = (&self.ticket, &self.drain) else { return };
        let (after, seq, reason) = (ticket.after, ticket.seq, ticket.class.clone());
        self.drain = Some(Drain { after, seq, reason, lasts: ticket.lasts });
        let is_lost = |found: &Found| match &found.what {
            FoundKind::Seen(finding) => {
                ladder::calls_for(finding).is_some_and(|(_, urgency)| urgency == Urgency::AtOnce)
            }
            FoundKind::Gone(..) => false,
        };
        if self.findings.iter().any(is_lost) {
            let what = StrikeKind::RankEnds { gpu: None, exit: Exit::Signal(9) };
            self.strikes.push(Strike { after, seq, what, is_early: false });
        }
    }
}

fn deeds_of(incident: &Incident, node: NodeId, number: Option<u32>) -> Vec<(u64, Deed)> {
    let mut deeds = Vec::new();
    let mut put = |seq: u64, at: Time, is_first: bool, what: What| {
        deeds.push((seq, Deed { at, what, is_first, incident: number }));
    };
    if !incident.mending.is_empty() {
        let mending = Box::new(incident.mending.clone());
        put(0, incident.at, true, What::Mends { node, mending });
    }
    for found in &incident.findings {
        let what = match &found.what {
            FoundKind::Seen(finding) => What::Finds { node, finding: finding.clone() },
            FoundKind::Gone(class, device) => {
                What::FindsNoMore { node, class: class.clone(), device: device.clone() }
            }
        };
        put(found.seq, incident.at + found.after, false, what);
    }
    for said in &incident.said {
        let what = What::Says { node, how: said.how };
        put(said.seq, incident.at + said.after, false, what);
    }
    for strike in &incident.strikes {
        let what = match &strike.what {
            StrikeKind::RankEnds { gpu, exit } => {
                What::RankEnds { node, gpu: *gpu, exit: exit.clone() }
            }
            StrikeKind::Hangs { shows } => What::Hangs { node, shows: *shows },
            StrikeKind::Stalls(span) => What::Stalls { node, span: *span },
        };
        put(strike.seq, incident.at + strike.after, strike.is_early, what);
    }
    if let Some(lasts) = incident.silence {
        put(incident.seq, incident.at, false, What::Dies(node));
        if let Some(lasts) = lasts {
            put(incident.seq + 1, incident.at + lasts, false, What::Rises(node));
        }
    }
    if let Some(drain) = &incident.drain {
        let (at, reason) = (incident.at + drain.after, drain.reason.clone());
        put(drain.seq, at, false, What::Drains { node, reason });
        if let Some(lasts) = drain.lasts {
            put(drain.seq + 1, at + lasts, false, What::Undrains(node));
        }
    }
    deeds
}
