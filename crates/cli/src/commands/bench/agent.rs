//! `lindos bench agent`: what an agent costs its node while nothing happens.

use crate::failure::{Exit, Failure};
use crate::local::{Ending, Local, Options, nodes};
use crate::render::table::pairs;
use crate::{output, state};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_hardware::health;
use lindos_hardware::kernel_log::source::From;
use lindos_hardware::nvml::NvmlSource;
use lindos_hardware::system::{Expectations, Root};
use lindos_model::Policy;
use lindos_server::remedies::Remedies;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub struct AgentBenchArgs {
    /// How long to watch it
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the agent does when it starts is not what it costs.
const SETTLE: Duration = Duration::from_secs(3);
const GPUS: u16 = 8;
/// The node is there to train: its agent stays below both.
const CPU_PERCENT_GOAL: f64 = 0.5;
const RSS_MB_GOAL: f64 = 25.0;

#[derive(Serialize)]
struct AgentResult {
    /// Of one core.
    cpu_percent: f64,
    /// At the end, in millions of bytes.
    rss_mb: f64,
    checks: usize,
    seconds: f64,
    cpu_percent_goal: f64,
    rss_mb_goal: f64,
    met: bool,
}

pub async fn agent(args: AgentBenchArgs) -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("lindos-bench-{}", std::process::id()));
    state::create(&folder)?;
    let wanted = nodes::Wanted { nodes: 1, gpus: GPUS };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options {
        state: &folder,
        listen,
        policy: Policy::default(),
        alerts: None,
        remedies: Remedies::default(),
        health: true,
    };
    let local = Local::start(options, |known| Ok(nodes::fleet(known, wanted))).await?;
    let result = measure(&args, &local).await;
    local.stop(Ending::ForGood).await;
    // What cannot be removed now is the system's to clean.
    let _ = std::fs::remove_dir_all(&folder);
    let result = result?;
    if args.json { output::json(&result) } else { output::data(&text(&result)) }
}

async fn measure(args: &AgentBenchArgs, local: &Local) -> Result<AgentResult, Failure> {
    local.wait_for_agents().await?;
    let pid = agent_pid()?;
    tokio::time::sleep(SETTLE).await;
    let before = cpu(pid)?;
    let began = Instant::now();
    watch(args).await;
    let seconds = began.elapsed().as_secs_f64();
    let used = cpu(pid)?.saturating_sub(before).as_secs_f64();
    let cpu_percent = used / seconds * 100.0;
    let rss_mb = rss_bytes(pid)? as f64 / 1e6;
    Ok(AgentResult {
        cpu_percent: (cpu_percent * 1000.0).round() / 1000.0,
        rss_mb: (rss_mb * 100.0).round() / 100.0,
        checks: checks(),
        seconds: (seconds * 10.0).round() / 10.0,
        cpu_percent_goal: CPU_PERCENT_GOAL,
        rss_mb_goal: RSS_MB_GOAL,
        met: cpu_percent <= CPU_PERCENT_GOAL && rss_mb <= RSS_MB_GOAL,
    })
}

async fn watch(args: &AgentBenchArgs) {
    let is_shown = output::stderr_is_terminal() && !args.json;
    let bar = if is_shown { ProgressBar::new(args.seconds) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} s");
    bar.set_style(style.expect("the template is right"));
    for _ in 0..args.seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
}

fn checks() -> usize {
    let root = Root::of_this_machine();
    let nvml = NvmlSource::of_the_driver();
    health::checks(&root, &Expectations::default(), From::Now, nvml).len()
}

fn lost(what: impl std::fmt::Display) -> Failure {
    let hint = "run it again; the agent's log says more if it died";
    Failure::new(Exit::Failed, format!("the agent cannot be measured: {what}"), hint)
}

/// The one child of this process that is an agent.
fn agent_pid() -> Result<u32, Failure> {
    let us = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").map_err(lost)?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| is_our_agent(*pid, &us))
        .ok_or_else(|| lost("it is not there"))
}

fn is_our_agent(pid: u32, us: &str) -> bool {
    let read = |file: &str| std::fs::read(Path::new("/proc").join(pid.to_string()).join(file));
    let Ok(status) = read("status") else { return false };
    let status = String::from_utf8_lossy(&status);
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let words = read("cmdline").unwrap_or_default();
    parent.is_some_and(|parent| parent.trim() == us)
        && words.split(|byte| *byte == 0).nth(1) == Some(b"agent")
}

/// All that its threads have used, also those that are gone.
fn cpu(pid: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(lost)?;
    // The name of the program stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    let (user, system) = ticks(12).zip(ticks(13)).ok_or_else(|| lost("odd /proc/PID/stat"))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64((user + system) as f64 / per_second as f64))
}

fn rss_bytes(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(lost)?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .map(|kibibytes: u64| kibibytes << 10);
    kibibytes.ok_or_else(|| lost("odd /proc/PID/status"))
}

fn text(result: &AgentResult) -> String {
    pairs(&[
        (
            "processor",
            format!("{:.2}% of one core (at most {CPU_PERCENT_GOAL}%)", result.cpu_percent),
        ),
        ("memory", format!("{:.1} MB (at most {RSS_MB_GOAL} MB)", result.rss_mb)),
        ("checks", result.checks.to_string()),
        ("watched", format!("{} s", result.seconds)),
    ])
}
