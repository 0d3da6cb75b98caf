//! Whether the machine is well, beside everything else that the agent does.
//!
//! The monitor has a thread of its own: its checks read files and call drivers, and the agent's
//! one thread waits for nobody. What changes comes out of a channel.

use anyhow::Context as _;
use lindos_api::agent::FINDINGS_MAX;
use lindos_hardware::health::{Edge, EdgeKind, Monitor, checks};
use lindos_hardware::kernel_log::source::From;
use lindos_hardware::nvml::NvmlSource;
use lindos_hardware::system::{Expectations, Root};
use lindos_model::Finding;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Edges that wait to be read; the monitor waits when there are more.
const QUEUE: usize = 1024;
/// What has happened, and will not clear, is told for so long: the control plane may be away.
const HAPPENED_HOLDS: Duration = Duration::from_secs(600);
/// However often checks ask to be run, the thread does not wake more often.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);

/// What the monitor of an agent looks at.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    pub root: Root,
    pub expected: Expectations,
    pub nvml: NvmlSource,
}

/// A monitor that runs; it stops when this is dropped.
#[derive(Debug)]
pub struct Health {
    /// What appeared, cleared and happened.
    pub edges: mpsc::Receiver<Edge>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a monitor of this machine. The kernel log is read from now on: what stands in it from
/// before was another agent's to tell.
pub fn watch(config: &HealthConfig) -> anyhow::Result<Health> {
    let nvml = config.nvml.clone();
    let checks = checks(&config.root, &config.expected, From::Now, nvml);
    let (tell, edges) = mpsc::channel(QUEUE);
    let stopping = Arc::new(AtomicBool::new(false));
    let thread = {
        let stopping = stopping.clone();
        std::thread::Builder::new()
            .name("health".to_string())
            .spawn(move || run(Monitor::new(checks), &tell, &stopping))
            .context("no thread for the monitor of the machine's health")?
    };
    Ok(Health { edges, stopping, thread: Some(thread) })
}

fn run(mut monitor: Monitor, tell: &mpsc::Sender<Edge>, stopping: &AtomicBool) {
    let began = Instant::now();
    while !stopping.load(Ordering::Relaxed) {
        let mut edges = Vec::new();
        let next = monitor.poll(began.elapsed(), &mut edges);
        for edge in edges {
            if tell.blocking_send(edge).is_err() {
                return;
            }
        }
        let sleep = next.saturating_sub(began.elapsed());
        std::thread::park_timeout(sleep.max(SHORTEST_SLEEP));
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // A monitor that waits for room in the channel waits for nobody any more.
        self.edges.close();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}

/// What is found now: what appeared and has not cleared, and for a while what has happened.
#[derive(Debug, Default)]
struct Found {
    /// Until when; `None`: until it clears.
    all: Vec<(Finding, Option<Instant>)>,
}

impl Found {
    fn take(&mut self, edge: Edge, now: Instant) {
        let Edge { kind, finding, .. } = edge;
        self.all.retain(|(other, _)| !other.is_about_the_same(&finding));
        match kind {
            EdgeKind::Cleared => {}
            EdgeKind::Appeared => self.all.push((finding, None)),
            EdgeKind::Happened => self.all.push((finding, Some(now + HAPPENED_HOLDS))),
        }
    }

    /// The machine was mended: what had happened is answered. What still is so is still told.
    fn forget_what_happened(&mut self) {
        self.all.retain(|(_, until)| until.is_none());
    }

    fn drop_old(&mut self, now: Instant) {
        self.all.retain(|(_, until)| until.is_none_or(|until| until > now));
    }

    fn next(&self) -> Option<Instant> {
        self.all.iter().filter_map(|(_, until)| *until).min()
    }

    /// The gravest first: a report takes only so many.
    fn told(&self) -> Vec<Finding> {
        let mut told: Vec<Finding> = self.all.iter().map(|(finding, _)| finding.clone()).collect();
        told.sort_by_key(|finding| !finding.severity.is_loss_of_hardware());
        told.truncate(FINDINGS_MAX);
        told
    }
}

/// Writes what changes into the agent's log, and tells the reporter what is found now.
/// `mended`: a remedy has done its work, and what had happened before is no reason to take the node
/// out again.
pub async fn tell(
    mut health: Health,
    found: watch::Sender<Arc<Vec<Finding>>>,
    mut mended: mpsc::UnboundedReceiver<()>,
) {
    let mut now_found = Found::default();
    loop {
        let next = now_found.next().unwrap_or_else(|| Instant::now() + HAPPENED_HOLDS);
        tokio::select! {
            edge = health.edges.recv() => {
                let Some(edge) = edge else { break };
                log(&edge);
                now_found.take(edge, Instant::now());
            }
            Some(()) = mended.recv() => now_found.forget_what_happened(),
            () = tokio::time::sleep_until(next.into()) => {}
        }
        now_found.drop_old(Instant::now());
        let told = Arc::new(now_found.told());
        found.send_if_modified(|before| {
            let has_changed = *before != told;
            *before = told;
            has_changed
        });
    }
    // The monitor never ends of its own accord; without it the agent goes on.
    tracing::error!("the monitor of the machine's health has ended");
    std::future::pending::<()>().await;
}

fn log(edge: &Edge) {
    let finding = &edge.finding;
    let device = finding.device.as_ref().map_or(String::new(), ToString::to_string);
    let (class, severity, action) = (finding.class.as_str(), finding.severity, finding.action);
    let detail = finding.detail.as_str();
    match edge.kind {
        EdgeKind::Cleared => tracing::info!(class, device, "a finding has cleared"),
        EdgeKind::Appeared | EdgeKind::Happened => {
            tracing::warn!(class, device, %severity, %action, detail, "a finding");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::{Action, FindingClass, FindingSource, Severity};

    #[test]
    fn what_the_kernel_writes_comes_out_of_the_channel() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dev")).unwrap();
        let log = folder.path().join("dev/kmsg");
        std::fs::write(&log, "").unwrap();
        let config = HealthConfig {
            root: Root::at(folder.path()),
            expected: Expectations::default(),
            nvml: NvmlSource::at(folder.path().join("none.so")),
        };
        let mut health = watch(&config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let line = "NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.\n";
        let found = runtime.block_on(async {
            let deadline = Duration::from_secs(30);
            tokio::time::timeout(deadline, async {
                let mut is_written = false;
                while let Some(edge) = health.edges.recv().await {
                    if edge.finding.class.as_str() == "gpu.xid.79" {
                        return Some(edge);
                    }
                    // The first edges say what cannot be read: the log is open by then.
                    if !is_written {
                        is_written = true;
                        std::fs::write(&log, line).unwrap();
                    }
                }
                None
            })
            .await
        });
        let edge = found.expect("within the deadline").expect("the channel is open");
        assert_eq!((edge.kind, edge.check), (EdgeKind::Happened, "kernel.log"));
    }

    #[test]
    fn what_happened_is_told_for_a_while_and_what_appeared_until_it_clears() {
        let finding = |class: &'static str, severity| {
            Finding::new(
                FindingClass::known(class),
                severity,
                Action::None,
                FindingSource::KernelLog,
                "",
            )
        };
        let now = Instant::now();
        let mut found = Found::default();
        let mut take = |kind, class, severity| {
            let edge = Edge { kind, check: "test", finding: finding(class, severity) };
            found.take(edge, now);
        };
        take(EdgeKind::Appeared, "nic.link_down", Severity::Warning);
        take(EdgeKind::Happened, "gpu.xid.79", Severity::NodeFatal);
        take(EdgeKind::Happened, "gpu.xid.79", Severity::NodeFatal);
        let classes =
            |found: &Found| found.told().iter().map(|f| f.class.to_string()).collect::<Vec<_>>();
        assert_eq!(classes(&found), ["gpu.xid.79", "nic.link_down"], "the gravest first, once");
        found.drop_old(now + HAPPENED_HOLDS);
        assert_eq!(classes(&found), ["nic.link_down"]);
        let cleared = finding("nic.link_down", Severity::Warning);
        found.take(Edge { kind: EdgeKind::Cleared, check: "test", finding: cleared }, now);
        assert!(classes(&found).is_empty());
    }
}
