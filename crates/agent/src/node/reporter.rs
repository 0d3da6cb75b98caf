//! Tells the control plane how things stand: at once when something happened, every heartbeat
//! otherwise, and again until it is heard. What waits to be told is always the newest state.

use super::control::{Backoff, Control};
use lindos_api::agent::{REPORT_PATH, RankProgress, RankSymptom, Report, ReportAck};
use lindos_api::work::{Task, WorkReport};
use lindos_model::{AttemptReport, Finding, NodeSpec, StandbyReport};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Readings alone do not go out more often than this.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How things stand on this node.
#[derive(Debug, Default, PartialEq)]
pub struct Standing {
    pub attempts: Vec<AttemptReport>,
    pub progress: Vec<RankProgress>,
    pub symptoms: Vec<RankSymptom>,
    pub works: Vec<WorkReport>,
    pub standbys: Vec<StandbyReport>,
}

#[derive(Debug)]
pub struct Reporter {
    pub control: Arc<Control>,
    pub node: NodeSpec,
    pub incarnation: u64,
    pub heartbeat: Duration,
    pub standing: watch::Receiver<Arc<Standing>>,
    /// What checks of the machine find now.
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
    /// The control plane was reached after it had been away.
    pub reconnected: Arc<Notify>,
}

/// What was sent last.
struct Sent {
    standing: Arc<Standing>,
    findings: Arc<Vec<Finding>>,
    at: Instant,
    acknowledged: bool,
}

impl Reporter {
    pub async fn run(mut self) {
        let mut seq = 0;
        let mut last: Option<Sent> = None;
        let mut retry_at: Option<Instant> = None;
        let mut backoff = Backoff::default();
        loop {
            let standing = self.standing.borrow_and_update().clone();
            let findings = self.findings.borrow_and_update().clone();
            let due = retry_at.unwrap_or_else(|| self.due(&standing, &findings, last.as_ref()));
            if due > Instant::now() {
                tokio::select! {
                    changed = self.standing.changed() => if changed.is_err() { return },
                    changed = self.findings.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep_until(due) => {}
                    () = self.reconnected.notified() => retry_at = Some(Instant::now()),
                }
                // Something new does not make a control plane that is away come back sooner.
                continue;
            }
            let is_the_same = |sent: &Sent| sent.standing == standing && sent.findings == findings;
            let again = last.as_ref().is_some_and(|sent| !sent.acknowledged && is_the_same(sent));
            if !again {
                seq += 1;
            }
            let at = Instant::now();
            let result = self.post(seq, &standing, &findings).await;
            last = Some(Sent { standing, findings, at, acknowledged: result.is_ok() });
            match result {
                Ok(()) => {
                    backoff.reset();
                    retry_at = None;
                }
                Err(error) => {
                    let (wait, first) = backoff.next();
                    if first {
                        tracing::warn!("the control plane does not hear us: {error:#}");
                    }
                    self.control.forget_endpoint();
                    retry_at = Some(Instant::now() + wait);
                }
            }
        }
    }

    fn due(
        &self,
        standing: &Arc<Standing>,
        findings: &Arc<Vec<Finding>>,
        last: Option<&Sent>,
    ) -> Instant {
        match last {
            None => Instant::now(),
            Some(sent) if sent.standing.attempts != standing.attempts => Instant::now(),
            Some(sent) if sent.standing.works != standing.works => Instant::now(),
            Some(sent) if sent.standing.standbys != standing.standbys => Instant::now(),
            Some(sent) if sent.findings != *findings => Instant::now(),
            Some(sent) if sent.standing.progress != standing.progress => {
                sent.at + PROGRESS_INTERVAL.min(self.heartbeat)
            }
            Some(sent) => sent.at + self.heartbeat,
        }
    }

    async fn post(
        &self,
        seq: u64,
        standing: &Standing,
        findings: &[Finding],
    ) -> anyhow::Result<()> {
        let report = Report {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            incarnation: self.incarnation,
            seq,
            attempts: standing.attempts.clone(),
            progress: standing.progress.clone(),
            symptoms: standing.symptoms.clone(),
            findings: findings.to_vec(),
            can: Task::NAMES.map(String::from).into(),
            works: standing.works.clone(),
            standbys: standing.standbys.clone(),
        };
        let ack: ReportAck = self.control.post(REPORT_PATH, &report).await?.json().await?;
        anyhow::ensure!(ack.seq >= seq, "report {seq} was answered as {}", ack.seq);
        Ok(())
    }
}
