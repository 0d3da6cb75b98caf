//! Whether the machine is well, beside everything else that the agent does.
//!
//! The monitor has a thread of its own: its checks read files and call drivers, and the agent's
//! one thread waits for nobody. What changes comes out of a channel.

use anyhow::Context as _;
use lindos_hardware::health::{Edge, EdgeKind, Monitor, checks};
use lindos_hardware::kernel_log::source::From;
use lindos_hardware::nvml::NvmlSource;
use lindos_hardware::system::{Expectations, Root};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Edges that wait to be read; the monitor waits when there are more.
const QUEUE: usize = 1024;
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

/// Writes what changes into the agent's log.
pub async fn log(mut health: Health) {
    while let Some(edge) = health.edges.recv().await {
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
    // The monitor never ends of its own accord; without it the agent goes on.
    tracing::error!("the monitor of the machine's health has ended");
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
