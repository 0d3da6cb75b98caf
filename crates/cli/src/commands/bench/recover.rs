//! `lindos bench recover`: how long each phase of a recovery takes, with real processes.

use crate::commands::submit::submit;
use crate::failure::{Exit, Failure};
use crate::job_file::Job;
use crate::local::{Local, Options, nodes};
use crate::{output, state};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_api::client::Client;
use lindos_api::user::{EventView, JobDetail};
use lindos_model::{Policy, job};
use lindos_server::remedies::Remedies;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Args, Debug)]
pub struct RecoverArgs {
    /// How many kills
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Nodes of the gang, each with two ranks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=32))]
    nodes: u32,
    /// Where the control plane of the bench keeps its state [default: a folder that is thrown away]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

/// A rank that does nothing but count, and goes on where it stopped: what is timed is Lindos, not
/// the start of a training framework.
const RANK: &str = r#"
n=$(cat "$LINDOS_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)
while :; do
  if [ "$RANK" = 0 ]; then
    n=$((n + 1))
    echo "$n" > "$LINDOS_CHECKPOINT_DIR/new" && mv "$LINDOS_CHECKPOINT_DIR/new" "$LINDOS_CHECKPOINT_DIR/n"
    echo "step $n"
  fi
  sleep 0.02
done
"#;
const GPUS: u16 = 2;
/// No phase takes so long; a bench that waits for ever helps nobody.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// One recovery, in milliseconds by phase.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// From SIGKILL to the control plane's durable knowledge of it.
    detect: f64,
    /// From there to the next epoch's placement: the survivors are stopped in between.
    decide: f64,
    /// From there to the word that every new rank runs.
    launch: f64,
}

impl Recovery {
    fn total(&self) -> f64 {
        self.detect + self.decide + self.launch
    }
}

#[derive(Serialize)]
struct RecoverResult {
    runs: u32,
    ranks: u32,
    detect_ms: f64,
    decide_ms: f64,
    launch_ms: f64,
    total_ms: f64,
    total_p95_ms: f64,
    total_max_ms: f64,
}

pub async fn recover(args: RecoverArgs) -> Result<(), Failure> {
    let scratch = std::env::temp_dir().join(format!("lindos-bench-{}", std::process::id()));
    let folder = args.state.clone().unwrap_or_else(|| scratch.clone());
    state::create(&folder)?;
    let policy = Policy { progress_interval_ms: 100, ..Policy::default() };
    let wanted = nodes::Wanted { nodes: args.nodes, gpus: GPUS };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options {
        state: &folder,
        listen,
        policy,
        alerts: None,
        remedies: Remedies::default(),
        health: false,
    };
    let local = Local::start(options, |known| Ok(nodes::fleet(known, wanted))).await?;
    let result = measure(&args, &local).await;
    local.stop().await;
    if args.state.is_none() {
        // Thrown away only if it is ours; what cannot be removed now is the system's to clean.
        let _ = std::fs::remove_dir_all(&scratch);
    }
    let result = result?;
    if args.json { output::json(&result) } else { output::data(&text(&result)) }
}

async fn measure(args: &RecoverArgs, local: &Local) -> Result<RecoverResult, Failure> {
    local.wait_for_agents().await?;
    let client = &local.client;
    let mut spec = job::sample("bench-recover", args.nodes, GPUS);
    spec.command = vec!["/bin/sh".into(), "-c".into(), RANK.into()];
    spec.workdir = "/".into();
    spec.progress_pattern = Some("step (?<step>[0-9]+)".into());
    spec.retry_infrastructure = u32::MAX;
    let job = Job { path: PathBuf::from("bench-recover"), spec, prepare: None };
    let id = submit(client, &job).await?;
    let bar = if output::stderr_is_terminal() && !args.json {
        ProgressBar::new(u64::from(args.runs))
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} kills, {eta} left");
    bar.set_style(style.expect("the template is right"));
    let mut recoveries = Vec::new();
    for run in 0..args.runs {
        recoveries.push(kill_one(client, id, run).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    client.cancel(id).await?;
    wait_for(client, id, |job| job.summary.state.is_final()).await?;
    let median = |phase: fn(&Recovery) -> f64| quantile(&recoveries, phase, 0.5);
    Ok(RecoverResult {
        runs: args.runs,
        ranks: args.nodes * u32::from(GPUS),
        detect_ms: median(|r| r.detect),
        decide_ms: median(|r| r.decide),
        launch_ms: median(|r| r.launch),
        total_ms: median(Recovery::total),
        total_p95_ms: quantile(&recoveries, Recovery::total, 0.95),
        total_max_ms: quantile(&recoveries, Recovery::total, 1.0),
    })
}

/// Kills one rank of the job while it trains, each time another, and times what follows.
async fn kill_one(client: &Client, id: u64, run: u32) -> Result<Recovery, Failure> {
    let trains = |job: &JobDetail| {
        let first = job.attempts.last().is_some_and(|attempt| attempt.first_step_at.is_some());
        first && !job.ranks.is_empty() && job.ranks.iter().all(|rank| rank.state == "running")
    };
    let job = wait_for(client, id, trains).await?;
    let victim = &job.ranks[run as usize % job.ranks.len()];
    let seen = client.events(0, Some(id)).await?.last().map_or(0, |event| event.seq);
    let pid = i32::try_from(victim.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| stuck("a rank has no pid"))?;
    let killed_at = now_ms();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        .map_err(|error| stuck(&format!("rank {} could not be killed: {error}", victim.rank)))?;
    let ranks = job.ranks.len();
    let began = Instant::now();
    loop {
        let events = client.events(seen, Some(id)).await?;
        if let Some(recovery) = phases(&events, killed_at, ranks) {
            return Ok(recovery);
        }
        if began.elapsed() > PATIENCE {
            return Err(stuck("the job did not come back"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The phases, once all of them are over. The control plane's clock counts whole milliseconds.
fn phases(events: &[EventView], killed_at: f64, ranks: usize) -> Option<Recovery> {
    let at =
        |kind: &str| events.iter().find(|event| event.kind == kind).map(|event| event.at as f64);
    let (fault, placed) = (at("fault")?, at("placed_again").or_else(|| at("placed"))?);
    let started: Vec<f64> = events
        .iter()
        .filter(|event| event.kind == "rank_started")
        .map(|event| event.at as f64)
        .collect();
    if started.len() < ranks {
        return None;
    }
    let last = started.into_iter().fold(placed, f64::max);
    Some(Recovery {
        detect: (fault - killed_at).max(0.0),
        decide: placed - fault,
        launch: last - placed,
    })
}

async fn wait_for(
    client: &Client,
    id: u64,
    is_so: impl Fn(&JobDetail) -> bool,
) -> Result<JobDetail, Failure> {
    let began = Instant::now();
    loop {
        let job = client.job(id).await?;
        if is_so(&job) {
            return Ok(job);
        }
        if began.elapsed() > PATIENCE {
            return Err(stuck(&format!("the job is {} for too long", job.summary.state)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn stuck(what: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the bench is stuck: {what}"),
        "run it with --state DIR, then look with `lindos events --state DIR`",
    )
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs_f64()
        * 1000.0
}

fn quantile(recoveries: &[Recovery], phase: fn(&Recovery) -> f64, part: f64) -> f64 {
    let mut values: Vec<f64> = recoveries.iter().map(phase).collect();
    values.sort_by(f64::total_cmp);
    let index = ((values.len() - 1) as f64 * part).round() as usize;
    (values[index] * 10.0).round() / 10.0
}

fn text(result: &RecoverResult) -> String {
    format!(
        "{} kills of one of {} ranks, medians:\n\
         \x20 detect  {:>8.1} ms  SIGKILL until the control plane has it on disk\n\
         \x20 decide  {:>8.1} ms  until the next epoch is placed, the survivors being stopped\n\
         \x20 launch  {:>8.1} ms  until every new rank is known to run\n\
         \x20 total   {:>8.1} ms  (p95 {:.1}, max {:.1})\n",
        result.runs,
        result.ranks,
        result.detect_ms,
        result.decide_ms,
        result.launch_ms,
        result.total_ms,
        result.total_p95_ms,
        result.total_max_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, at: u64) -> EventView {
        EventView {
            seq: at,
            at,
            kind: kind.into(),
            job: Some(1),
            epoch: Some(2),
            node: None,
            text: String::new(),
            detail: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_recovery_is_over_when_every_rank_runs_again() {
        let mut events =
            vec![event("fault", 1010), event("placed_again", 1030), event("rank_started", 1041)];
        assert!(phases(&events, 1002.5, 2).is_none());
        events.push(event("rank_started", 1050));
        let recovery = phases(&events, 1002.5, 2).unwrap();
        let phases =
            [recovery.detect, recovery.decide, recovery.launch].map(|ms| format!("{ms:.1}"));
        assert_eq!(phases, ["7.5", "20.0", "20.0"]);
        assert!((recovery.total() - 47.5).abs() < 1e-9);
    }
}
