//! What the node does to itself: at most one work at a time, and never while ranks live here.

use super::actor::Actor;
use crate::plan::Key;
use crate::work::{self, Plan, Settled};
use lindos_api::work::{Task, Work, WorkOrder, WorkReport, WorkStep};
use lindos_model::NodeSpec;
use lindos_model::Outcome;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// The label of a node that says what its burn-ins compare it with: as `lindos burnin --platform`.
const EXPECTED_LABEL: &str = "burnin";
/// The reports of so many works that are over are kept.
const FOLDERS_KEPT: usize = 32;

/// What becomes of a work, by its number.
#[derive(Debug)]
pub enum WorkNews {
    AnswersAt(u64, String),
    /// Its process is gone.
    Ended(u64),
}

#[derive(Debug)]
pub struct Works {
    all: BTreeMap<u64, WorkReport>,
    news: mpsc::UnboundedSender<WorkNews>,
    pub(super) news_read: mpsc::UnboundedReceiver<WorkNews>,
    /// Told of when what was found before says nothing any more.
    pub(super) mended: mpsc::UnboundedSender<()>,
}

impl Works {
    pub fn new(mended: mpsc::UnboundedSender<()>) -> Works {
        let (news, news_read) = mpsc::unbounded_channel();
        Works { all: BTreeMap::new(), news, news_read, mended }
    }

    fn are_over(&self) -> bool {
        self.all.values().all(|work| work.outcome.is_some())
    }

    fn is_under_way(&self, id: u64) -> bool {
        self.all.get(&id).is_some_and(|work| work.outcome.is_none())
    }

    fn set(&mut self, id: u64, outcome: Option<Outcome>) {
        self.all.insert(id, WorkReport::new(id, outcome));
    }

    pub fn reports(&self) -> Vec<WorkReport> {
        self.all.values().cloned().collect()
    }
}

/// The plan of a work on this node.
fn plan(id: u64, node: &NodeSpec, work: Work) -> Plan {
    let expected = node.labels.get(EXPECTED_LABEL).filter(|expected| !expected.is_empty()).cloned();
    Plan { expected, ..Plan::new(id, &node.name, work) }
}

impl Actor {
    fn work_dir(&self, id: u64) -> PathBuf {
        self.dir.works().join(id.to_string())
    }

    pub(super) fn on_work(&mut self, order: WorkOrder) {
        if order.incarnation != self.incarnation {
            tracing::info!(id = order.id, "a work for another incarnation is dropped");
            return;
        }
        match order.step {
            WorkStep::Begin(work) => self.on_begin(order.id, work),
            WorkStep::Stop => self.stop_work(order.id),
            WorkStep::Forget => self.on_forget_work(order.id),
        }
    }

    fn on_begin(&mut self, id: u64, work: Work) {
        // It is asked for again when what is in the way is gone.
        if self.end_standbys()
            || self.works.all.contains_key(&id)
            || self.has_ranks()
            || !self.works.are_over()
        {
            return;
        }
        // Left of a fleet whose numbers began anew.
        let _ = std::fs::remove_dir_all(self.work_dir(id));
        if matches!(work.task, Task::BurnIn { .. }) {
            let _ = self.works.mended.send(());
        }
        tracing::info!(id, task = work.task.name(), "a work begins");
        self.begin_work(&plan(id, &self.config.node, work));
    }

    fn begin_work(&mut self, plan: &Plan) {
        let dir = self.work_dir(plan.id);
        match work::begin(&self.config.program, &dir, plan) {
            Ok(mut child) => {
                self.works.set(plan.id, None);
                self.watch_work(plan.id, move || drop(child.wait()));
            }
            Err(error) => {
                let reason = format!("it cannot begin: {}: {error}", dir.display());
                tracing::warn!(id = plan.id, reason);
                self.works.set(plan.id, Some(Outcome::Failed { reason }));
            }
        }
    }

    /// A thread, and not a task: it waits for a lock for as long as a work lasts, and the agent
    /// does not wait for it when it ends.
    fn watch_work(&self, id: u64, reap: impl FnOnce() + Send + 'static) {
        let (dir, news) = (self.work_dir(id), self.works.news.clone());
        let watch = move || {
            if let Some(address) = work::wait_for_answers_at(&dir) {
                let _ = news.send(WorkNews::AnswersAt(id, address));
            }
            reap();
            work::wait(&dir);
            let _ = news.send(WorkNews::Ended(id));
        };
        if let Err(error) = std::thread::Builder::new().name("work".into()).spawn(watch) {
            tracing::error!(id, "no thread waits for a work: {error}");
        }
    }

    pub(super) fn on_work_news(&mut self, news: WorkNews) {
        match news {
            WorkNews::AnswersAt(id, address) => {
                if let Some(work) = self.works.all.get_mut(&id) {
                    work.answers_at = Some(address);
                }
            }
            WorkNews::Ended(id) => self.on_work_ended(id),
        }
    }

    fn on_work_ended(&mut self, id: u64) {
        if !self.works.is_under_way(id) {
            return;
        }
        match work::settle(&self.work_dir(id)) {
            Settled::Over(ended) => {
                tracing::info!(id, ?ended, "a work is over");
                if ended.outcome == Outcome::Done {
                    let _ = self.works.mended.send(());
                }
                let work = self.works.all.get_mut(&id).expect("it is under way");
                (work.outcome, work.met) = (Some(ended.outcome), ended.met);
            }
            Settled::Again(plan) => {
                tracing::warn!(id, "the machine started anew in the middle of a work; once more");
                self.begin_work(&plan);
            }
        }
    }

    /// Takes over the works that an earlier agent began.
    pub(super) fn adopt_works(&mut self) {
        for id in work::numbers(&self.dir.works()) {
            if self.work_dir(id).join("forgotten").exists() {
                continue;
            }
            self.works.set(id, None);
            self.watch_work(id, || {});
        }
    }

    fn stop_work(&self, id: u64) {
        if !self.works.is_under_way(id) {
            return;
        }
        tracing::info!(id, "a work is called off");
        let dir = self.work_dir(id);
        std::thread::spawn(move || {
            if let Err(error) = work::stop(&dir) {
                tracing::warn!("{}: {error:#}", dir.display());
            }
        });
    }

    /// Ranks are to start here: nothing else may be at work.
    pub(super) fn stop_works(&self) -> bool {
        let under_way = self.works.all.values().filter(|work| work.outcome.is_none());
        let ids: Vec<u64> = under_way.map(|work| work.id).collect();
        for &id in &ids {
            self.stop_work(id);
        }
        !ids.is_empty()
    }

    /// Its folder stays for people to read, until there are many.
    fn on_forget_work(&mut self, id: u64) {
        if self.works.all.get(&id).is_none_or(|work| work.outcome.is_none()) {
            return;
        }
        if let Err(error) = std::fs::write(self.work_dir(id).join("forgotten"), "") {
            tracing::warn!(id, "cannot note that a work is forgotten: {error}");
        }
        self.works.all.remove(&id);
        let old = work::numbers(&self.dir.works());
        let old: Vec<u64> = old.into_iter().filter(|id| !self.works.all.contains_key(id)).collect();
        for &id in &old[..old.len().saturating_sub(FOLDERS_KEPT)] {
            let _ = std::fs::remove_dir_all(self.work_dir(id));
        }
    }

    fn has_ranks(&self) -> bool {
        self.running().next().is_some()
    }

    fn running(&self) -> impl Iterator<Item = Key> + '_ {
        self.attempts.iter().filter(|(_, attempt)| attempt.state.is_running()).map(|(key, _)| *key)
    }
}
