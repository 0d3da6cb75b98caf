//! From readings to edges: pure reducers that stand between telemetry and the journal.
//!
//! A driver feeds every reading in, and journals only what comes out. Nothing here is part of the
//! core's state: after a restart the reducers begin empty, and at worst say something twice.

mod clock;
mod stall;
mod straggler;
mod symptom;

pub use clock::SteadyClock;
pub use stall::{BROKEN_STEPS, RankReading, StallWatch};
pub use straggler::{
    ByWord, Measure, STRAGGLER_AGAIN, Slow, StragglerWatch, slowest, straggler_told_after,
};
pub use symptom::SymptomEdges;

use crate::event::Event;
use crate::health::record::Health;
use lindos_model::Finding;
use lindos_model::{AttemptReport, Epoch, JobId, Millis, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};

/// What is new in what the checks of a node find now, and what of the old they find no more.
pub fn findings(known: Option<&Health>, node: NodeId, now: &[Finding]) -> Vec<Event> {
    let open = known.map_or(&[][..], |health| &health.open);
    let is_known = |finding: &Finding| {
        let same = open.iter().find(|open| open.finding.is_about_the_same(finding));
        same.is_some_and(|same| same.finding.severity == finding.severity)
    };
    let is_there = |old: &Finding| now.iter().any(|finding| finding.is_about_the_same(old));
    let seen = now.iter().filter(|finding| !is_known(finding));
    let seen = seen.map(|finding| Event::FindingSeen { node, finding: Box::new(finding.clone()) });
    let gone = open.iter().map(|open| &open.finding).filter(|finding| !is_there(finding));
    let gone = gone.map(|old| {
        let (class, device) = (old.class.clone(), old.device.clone());
        Event::FindingGone { node, class, device }
    });
    seen.chain(gone).collect()
}

/// Which nodes have not been heard from for too long.
#[derive(Clone, Debug)]
pub struct SilenceWatch {
    silent_after: Millis,
    nodes: Vec<Heard>,
    /// Nobody can have become silent before this: words only put it off, so it is made anew only
    /// when it has come.
    look_at: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Time,
    /// Silence counts from here: later than that, if nobody listened meanwhile.
    from: Time,
    said_silent: bool,
    known: bool,
}

impl SilenceWatch {
    pub fn new(silent_after: Millis) -> Self {
        SilenceWatch { silent_after, nodes: Vec::new(), look_at: None }
    }

    /// The node was heard from; also to begin the watch over it.
    pub fn heard(&mut self, node: NodeId, at: Time) {
        self.count_from(node, at, at);
    }

    /// Nobody has listened for a while: the silence of so many nodes counts from now on. When each
    /// was heard stays as it is.
    pub fn listen_anew(&mut self, nodes: usize, now: Time) {
        for index in 0..nodes {
            let before = self.nodes.get(index).filter(|before| before.known);
            self.count_from(NodeId(index as u32), before.map_or(now, |before| before.at), now);
        }
    }

    fn count_from(&mut self, node: NodeId, at: Time, from: Time) {
        let unknown = Heard { at, from, said_silent: false, known: false };
        if self.nodes.len() <= node.index() {
            self.nodes.resize(node.index() + 1, unknown);
        }
        let before = self.nodes[node.index()];
        if !before.known || before.said_silent {
            let due = from + self.silent_after;
            self.look_at = Some(self.look_at.map_or(due, |look_at| look_at.min(due)));
        }
        self.nodes[node.index()] = Heard { known: true, ..unknown };
    }

    /// The nodes that became silent, each told once, and when they were last heard.
    pub fn silent(&mut self, now: Time) -> Vec<(NodeId, Time)> {
        let mut silent = Vec::new();
        if self.look_at.is_none_or(|look_at| look_at > now) {
            return silent;
        }
        for (index, heard) in self.nodes.iter_mut().enumerate() {
            if heard.known && !heard.said_silent && now.since(heard.from) >= self.silent_after {
                heard.said_silent = true;
                silent.push((NodeId(index as u32), heard.at));
            }
        }
        let watched = self.nodes.iter().filter(|heard| heard.known && !heard.said_silent);
        self.look_at = watched.map(|heard| heard.from + self.silent_after).min();
        silent
    }

    /// When [`SilenceWatch::silent`] may next have something to say.
    pub fn next_deadline(&self) -> Option<Time> {
        self.look_at
    }
}

/// Which reports say anything new.
#[derive(Clone, Debug, Default)]
pub struct ReportEdges {
    last: BTreeMap<NodeId, LastReport>,
}

#[derive(Clone, Debug)]
struct LastReport {
    incarnation: u64,
    seq: u64,
    /// `None` when whatever comes next is news.
    attempts: Option<Vec<AttemptReport>>,
}

/// What a report is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is older than one that was seen before: it does not even show that the node lives.
    Stale,
    /// The node lives, and says what it said before.
    Unchanged,
    /// It must be journalled. Call [`ReportEdges::journalled`] once it was.
    News,
}

impl ReportEdges {
    /// `has_strangers`: some attempt in it is none that the core has there
    /// ([`crate::Core::has_strangers`]). Such a report is news until there are none, so that what
    /// the core answers to it is said again.
    pub fn on_report(
        &mut self,
        node: NodeId,
        incarnation: u64,
        seq: u64,
        attempts: &[AttemptReport],
        has_strangers: bool,
    ) -> Worth {
        let last = self.last.entry(node).or_insert(LastReport { incarnation, seq, attempts: None });
        if (incarnation, seq) < (last.incarnation, last.seq) {
            return Worth::Stale;
        }
        if incarnation != last.incarnation {
            last.attempts = None;
        }
        (last.incarnation, last.seq) = (incarnation, seq);
        if last.attempts.as_deref() == Some(attempts) && !has_strangers {
            Worth::Unchanged
        } else {
            Worth::News
        }
    }

    pub fn journalled(
        &mut self,
        node: NodeId,
        incarnation: u64,
        seq: u64,
        attempts: &[AttemptReport],
    ) {
        let newest =
            self.last.get(&node).is_none_or(|l| (incarnation, seq) >= (l.incarnation, l.seq));
        if newest {
            let attempts = Some(attempts.to_vec());
            self.last.insert(node, LastReport { incarnation, seq, attempts });
        }
    }

    /// The core was told that the node is silent: its next report is news, whatever it says.
    pub fn forget(&mut self, node: NodeId) {
        if let Some(last) = self.last.get_mut(&node) {
            last.attempts = None;
        }
    }
}

/// One reading of one rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub step: Option<u64>,
    pub total_steps: Option<u64>,
    pub loss_micro: Option<i64>,
    pub checkpoint_step: Option<u64>,
    pub blocked_ms: u64,
}

/// Progress of every job, thinned to one edge an interval.
#[derive(Clone, Debug)]
pub struct ProgressEdges {
    interval: Millis,
    jobs: BTreeMap<JobId, JobProgress>,
}

#[derive(Clone, Debug)]
struct JobProgress {
    /// Of the launch of the whole gang.
    attempt: Epoch,
    /// Replicas launched since, each of which has told a step of its own.
    back: BTreeSet<Epoch>,
    said_step: Option<u64>,
    said_at: Time,
    newest: Reading,
    /// Not told yet: the first loss of all is told before newer ones.
    first_loss_micro: Option<i64>,
    has_said_loss: bool,
    said_checkpoint: Option<u64>,
}

impl ProgressEdges {
    pub fn new(interval: Millis) -> Self {
        ProgressEdges { interval, jobs: BTreeMap::new() }
    }

    /// Takes a reading of a launch, which belongs to an attempt ([`crate::Core::attempt_of_epoch`]);
    /// the events that must be journalled now.
    pub fn on_reading(
        &mut self,
        now: Time,
        job: JobId,
        attempt: Epoch,
        epoch: Epoch,
        reading: &Reading,
    ) -> Vec<Event> {
        let fresh = JobProgress {
            attempt,
            back: BTreeSet::new(),
            said_step: None,
            said_at: Time::ZERO,
            newest: Reading::default(),
            first_loss_micro: None,
            has_said_loss: false,
            said_checkpoint: None,
        };
        let progress = self.jobs.entry(job).or_insert_with(|| fresh.clone());
        if attempt > progress.attempt {
            *progress = fresh;
        } else if attempt < progress.attempt {
            return Vec::new();
        }
        let mut events = Vec::new();
        if let Some(step) = reading.step.filter(|_| epoch != attempt && progress.back.insert(epoch))
        {
            // That it trains at all is worth a word, whatever step the others have told.
            events.push(progress.step(job, epoch, step, None));
        }
        let newest = &mut progress.newest;
        if reading.step >= newest.step {
            newest.step = reading.step;
            newest.loss_micro = reading.loss_micro.or(newest.loss_micro);
        }
        progress.first_loss_micro = progress.first_loss_micro.or(reading.loss_micro);
        newest.total_steps = reading.total_steps.or(newest.total_steps);
        newest.checkpoint_step = newest.checkpoint_step.max(reading.checkpoint_step);
        newest.blocked_ms = newest.blocked_ms.max(reading.blocked_ms);
        events.extend(progress.edges(job, now, self.interval));
        events
    }

    /// What was held back and is due now.
    pub fn due(&mut self, now: Time) -> Vec<Event> {
        let interval = self.interval;
        self.jobs.iter_mut().flat_map(|(&job, p)| p.edges(job, now, interval)).collect()
    }

    /// When [`ProgressEdges::due`] will next have something to say.
    pub fn next_deadline(&self) -> Option<Time> {
        let held = self.jobs.values().filter(|p| p.newest.step > p.said_step);
        held.map(|p| p.said_at + self.interval).min()
    }

    /// The job is over, or its attempt is.
    pub fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }
}

impl JobProgress {
    fn step(&self, job: JobId, epoch: Epoch, step: u64, loss_micro: Option<i64>) -> Event {
        let (total_steps, is_watched) = (self.newest.total_steps, false);
        Event::StepReached { job, epoch, step, total_steps, loss_micro, is_watched }
    }

    fn edges(&mut self, job: JobId, now: Time, interval: Millis) -> Vec<Event> {
        let mut events = Vec::new();
        let epoch = self.attempt;
        let newest = &self.newest;
        let checkpoint_is_news = newest.checkpoint_step > self.said_checkpoint;
        // A checkpoint is worth a step of its own: the ledger judges work by it.
        let is_due =
            self.said_step.is_none() || now.since(self.said_at) >= interval || checkpoint_is_news;
        if let (Some(step), true) = (newest.step, newest.step > self.said_step && is_due) {
            let loss_micro =
                if self.has_said_loss { newest.loss_micro } else { self.first_loss_micro };
            self.has_said_loss |= loss_micro.is_some();
            events.push(self.step(job, epoch, step, loss_micro));
            self.said_step = Some(step);
            self.said_at = now;
        }
        if let (Some(step), true) = (newest.checkpoint_step, checkpoint_is_news) {
            events.push(Event::CheckpointSaved { job, epoch, step, blocked_ms: newest.blocked_ms });
            self.said_checkpoint = Some(step);
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Reading {
        Reading { step: Some(step), ..Reading::default() }
    }

    fn names(events: &[Event]) -> Vec<String> {
        events
            .iter()
            .map(|event| match event {
                Event::StepReached { step, .. } => format!("step {step}"),
                Event::CheckpointSaved { step, .. } => format!("checkpoint {step}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn many_steps_become_one_edge_an_interval_and_the_last_is_not_lost() {
        let mut edges = ProgressEdges::new(Millis(1000));
        let (job, epoch) = (JobId(1), Epoch(1));
        let mut said = Vec::new();
        for at in 0..25 {
            said.extend(edges.on_reading(Time(at * 100), job, epoch, epoch, &step(at)));
        }
        assert_eq!(names(&said), ["step 0", "step 10", "step 20"]);
        assert_eq!(edges.next_deadline(), Some(Time(3000)));
        assert_eq!(names(&edges.due(Time(3000))), ["step 24"]);
        assert_eq!(edges.next_deadline(), None);
    }

    #[test]
    fn a_replica_that_is_back_tells_its_first_step_and_the_job_goes_on_as_one() {
        let mut edges = ProgressEdges::new(Millis(1000));
        let (job, attempt, back) = (JobId(1), Epoch(1), Epoch(4));
        assert_eq!(
            names(&edges.on_reading(Time(0), job, attempt, attempt, &step(50))),
            ["step 50"]
        );
        let said = edges.on_reading(Time(10), job, attempt, back, &step(50));
        assert!(matches!(said[..], [Event::StepReached { epoch: Epoch(4), step: 50, .. }]));
        assert!(edges.on_reading(Time(20), job, attempt, back, &step(51)).is_empty());
        let said = edges.on_reading(Time(2000), job, attempt, back, &step(60));
        assert!(matches!(said[..], [Event::StepReached { epoch: Epoch(1), step: 60, .. }]));
    }

    #[test]
    fn the_first_loss_is_told_though_the_first_step_came_without() {
        let mut edges = ProgressEdges::new(Millis(1000));
        let (job, epoch) = (JobId(1), Epoch(1));
        let mut losses = Vec::new();
        let with = |at, loss| Reading { loss_micro: Some(loss), ..step(at) };
        let readings = [step(1), with(1, 500), with(2, 400), with(3, 300), with(4, 200)];
        for (index, reading) in readings.iter().enumerate() {
            for event in edges.on_reading(Time(index as u64 * 400), job, epoch, epoch, reading) {
                if let Event::StepReached { loss_micro, .. } = event {
                    losses.push(loss_micro);
                }
            }
        }
        losses.extend(edges.due(Time(9000)).into_iter().map(|_| None));
        assert_eq!(losses, [None, Some(500), None]);
    }

    #[test]
    fn a_checkpoint_is_told_once_and_brings_its_step() {
        let mut edges = ProgressEdges::new(Millis(1000));
        let (job, epoch) = (JobId(1), Epoch(2));
        edges.on_reading(Time(0), job, epoch, epoch, &step(1));
        let reading = Reading { checkpoint_step: Some(5), blocked_ms: 40, ..step(5) };
        let said = edges.on_reading(Time(10), job, epoch, epoch, &reading);
        assert_eq!(names(&said), ["step 5", "checkpoint 5"]);
        assert!(edges.on_reading(Time(20), job, epoch, epoch, &reading).is_empty());
        assert!(
            edges.on_reading(Time(5000), job, Epoch(1), Epoch(1), &step(99)).is_empty(),
            "an older epoch"
        );
    }

    #[test]
    fn silence_is_told_once_and_again_after_a_word() {
        let mut watch = SilenceWatch::new(Millis(5000));
        watch.heard(NodeId(3), Time(1000));
        assert_eq!(watch.next_deadline(), Some(Time(6000)));
        assert!(watch.silent(Time(5999)).is_empty());
        assert_eq!(watch.silent(Time(6000)), [(NodeId(3), Time(1000))]);
        assert!(watch.silent(Time(9000)).is_empty());
        watch.heard(NodeId(3), Time(9500));
        assert_eq!(watch.silent(Time(14_500)), [(NodeId(3), Time(9500))]);
    }

    #[test]
    fn silence_while_nobody_listens_does_not_count_and_was_silence_all_the_same() {
        let mut watch = SilenceWatch::new(Millis(5000));
        watch.heard(NodeId(0), Time(1000));
        watch.listen_anew(2, Time(60_000));
        assert!(watch.silent(Time(64_999)).is_empty());
        assert_eq!(
            watch.silent(Time(65_000)),
            [(NodeId(0), Time(1000)), (NodeId(1), Time(60_000))],
            "and of the one that was never heard, nothing is known before"
        );
    }

    #[test]
    fn a_report_that_says_nothing_new_is_dropped_until_the_node_was_silent() {
        let mut edges = ReportEdges::default();
        let node = NodeId(0);
        assert_eq!(edges.on_report(node, 1, 1, &[], false), Worth::News);
        assert_eq!(
            edges.on_report(node, 1, 1, &[], false),
            Worth::News,
            "it was not journalled yet"
        );
        edges.journalled(node, 1, 1, &[]);
        assert_eq!(edges.on_report(node, 1, 2, &[], false), Worth::Unchanged);
        assert_eq!(edges.on_report(node, 1, 2, &[], true), Worth::News, "it is to be answered");
        assert_eq!(edges.on_report(node, 2, 1, &[], false), Worth::News);
        edges.journalled(node, 2, 1, &[]);
        edges.forget(node);
        assert_eq!(edges.on_report(node, 1, 9, &[], false), Worth::Stale, "of the agent before");
        assert_eq!(edges.on_report(node, 2, 2, &[], false), Worth::News);
    }
}
