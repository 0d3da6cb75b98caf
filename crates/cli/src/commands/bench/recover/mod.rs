//! `lindos bench recover`: how long each phase of a recovery takes, by kind of fault, with real
//! processes: a control plane with its agents as `lindos up` starts them, and a job that counts.

mod fleet;
mod kind;
mod phases;
mod report;

use crate::commands::submit::submit;
use crate::commands::up::Signals;
use crate::failure::{Exit, Failure};
use crate::job_file::Job;
use crate::{output, state};
use clap::Args;
use fleet::Fleet;
use indicatif::{ProgressBar, ProgressStyle};
use kind::Kind;
use lindos_api::client::Client;
use lindos_api::user::JobDetail;
use lindos_model::job;
use phases::Recovery;
use report::{KindResult, RecoverResult};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Args, Debug)]
pub struct RecoverArgs {
    /// How often each fault is done
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Nodes of the gang, each with two ranks; one more is there to stand in
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=31))]
    nodes: u32,
    /// Only this kind of fault; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,
    /// What each rank does before its first step, as a program loads its libraries: it sleeps so long
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = load)]
    load: f64,
    /// Where the control plane of the bench keeps its state [default: a folder that is thrown away]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

/// A rank that does nothing but count with the others, step by step, and goes on where it stopped:
/// what is timed is Lindos, not the start of a training framework. It ends when the bench is gone.
const RANK: &str = r#"
[ "$LOAD" = 0 ] || sleep "$LOAD"
[ -z "$WARM" ] || eval "$("$PROGRAM" stand-by)"
n=$(cat "$BENCH/n" 2>/dev/null || echo 0)
mine="$BENCH/beat-$LINDOS_EPOCH-"
[ "$RANK" = 0 ] && rm -f "$BENCH/nan"
while kill -0 "$BENCH_PID"; do
  n=$((n + 1))
  echo "$n" > "$mine$RANK.new" && mv "$mine$RANK.new" "$mine$RANK"
  peer=0 wait=0.02
  while [ $peer -lt "$WORLD_SIZE" ]; do
    at=0
    [ -e "$mine$peer" ] && read -r at < "$mine$peer"
    if [ "${at:-0}" -ge "$n" ]; then peer=$((peer + 1)); else sleep $wait; wait=$next; next=0.5; fi
  done
  next=0.05
  if [ "$RANK" = 0 ]; then
    echo "$n" > "$BENCH/n.new" && mv "$BENCH/n.new" "$BENCH/n"
    if [ -e "$BENCH/nan" ]; then loss=nan; else loss=1.5; fi
    echo "step $n loss $loss"
  fi
  sleep 0.02
done
"#;
const GPUS: u16 = 2;
/// No phase takes so long; a bench that waits for ever helps nobody.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds: what is waited for takes up to [`PATIENCE`] with it.
const LOAD_MAX: f64 = 30.0;
const LOOK: Duration = Duration::from_millis(5);
/// Steps between two faults: what fails again without any is treated differently.
const STEPS_BETWEEN: u64 = 12;

pub async fn recover(args: RecoverArgs) -> Result<(), Failure> {
    let scratch = std::env::temp_dir().join(format!("lindos-bench-{}", std::process::id()));
    let folder = args.state.clone().unwrap_or_else(|| scratch.clone());
    state::create(&folder)?;
    let mut signals = Signals::new()?;
    let result = match Fleet::start(&folder, args.nodes + 1).await {
        Ok(mut fleet) => {
            let result = tokio::select! {
                result = measure(&args, &mut fleet, &folder) => result,
                () = signals.next() => Err(Failure::silent(Exit::Interrupted)),
            };
            fleet.stop().await;
            result
        }
        Err(failure) => Err(failure),
    };
    if args.state.is_none() {
        // Thrown away only if it is ours; what cannot be removed now is the system's to clean.
        let _ = std::fs::remove_dir_all(&scratch);
    }
    let result = result?;
    if args.json { output::json(&result) } else { output::data(&report::text(&result)) }
}

async fn measure(
    args: &RecoverArgs,
    fleet: &mut Fleet,
    folder: &Path,
) -> Result<RecoverResult, Failure> {
    let all =
        Kind::ALL.into_iter().filter(|kind| args.kinds.is_empty() || args.kinds.contains(kind));
    let kinds: Vec<Kind> = all.collect();
    let bar = if output::stderr_is_terminal() && !args.json {
        ProgressBar::new(u64::from(args.runs) * kinds.len() as u64)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left");
    bar.set_style(style.expect("the template is right"));
    let mut results = Vec::new();
    let mut running: Option<(u64, bool)> = None;
    for kind in kinds {
        bar.set_message(kind.name());
        let id = match running {
            Some((id, is_warm)) if is_warm == kind.is_warm() => id,
            before => {
                if let Some((id, _)) = before {
                    end(&fleet.client, id).await?;
                }
                submit(&fleet.client, &counting(args, folder, kind.is_warm())?).await?
            }
        };
        running = Some((id, kind.is_warm()));
        let mut recoveries: Vec<Recovery> = Vec::new();
        for run in 0..args.runs {
            if kind.is_warm() {
                wait_for(&fleet.client, id, |job| is_warm(job, args.nodes)).await?;
            }
            let before = trains(&fleet.client, id).await?;
            recoveries.push(kind.strike(fleet, folder, &before, run).await?);
            bar.inc(1);
        }
        results.push(KindResult::of(kind, &recoveries));
    }
    bar.finish_and_clear();
    if let Some((id, _)) = running {
        end(&fleet.client, id).await?;
    }
    let ranks = args.nodes * u32::from(GPUS);
    Ok(RecoverResult::of(args.runs, ranks, results))
}

/// The job that things are done to.
fn counting(args: &RecoverArgs, folder: &Path, is_warm: bool) -> Result<Job, Failure> {
    let mut spec = job::sample("bench-recover", args.nodes, GPUS);
    spec.command = vec!["/bin/sh".into(), "-c".into(), RANK.into()];
    spec.workdir = "/".into();
    let mut set = |name: &str, value: String| drop(spec.env.insert(name.into(), value));
    set("BENCH", folder.display().to_string());
    set("BENCH_PID", std::process::id().to_string());
    set("LOAD", args.load.to_string());
    if is_warm {
        let program = std::env::current_exe().map_err(|error| stuck(&format!("{error}")))?;
        set("PROGRAM", program.display().to_string());
        set("WARM", "1".into());
        (spec.spares, spec.warm_spares, spec.warm_restarts) = (1, 1, true);
    }
    spec.progress_pattern = Some(r"step (?<step>[0-9]+) loss (?<loss>\S+)".into());
    (spec.retry_infrastructure, spec.retry_user) = (u32::MAX, u32::MAX);
    Ok(Job { path: PathBuf::from("bench-recover"), spec, prepare: None })
}

async fn end(client: &Client, id: u64) -> Result<(), Failure> {
    client.cancel(id).await?;
    wait_for(client, id, |job| job.summary.state.is_final()).await.map(drop)
}

/// Whether processes wait on the spare, and beside the ranks of every node.
fn is_warm(job: &JobDetail, nodes: u32) -> bool {
    let warm = job.attempts.last().and_then(|newest| newest.warm.as_ref());
    warm.is_some_and(|warm| {
        warm.beside_ready == nodes && warm.spares.iter().any(|spare| spare.ready)
    })
}

/// Seconds that a rank may load for.
fn load(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=LOAD_MAX).contains(&seconds) => Ok(seconds),
        _ => Err(format!("it is a number of seconds, from 0 to {LOAD_MAX}")),
    }
}

/// Waits until every rank runs, and the job has got on for some steps.
async fn trains(client: &Client, id: u64) -> Result<JobDetail, Failure> {
    let is_up = |job: &JobDetail| {
        let first = job.attempts.last().is_some_and(|attempt| attempt.first_step_at.is_some());
        first && !job.ranks.is_empty() && job.ranks.iter().all(|rank| rank.state == "running")
    };
    let up = wait_for(client, id, is_up).await?;
    let from = up.summary.step.unwrap_or(0);
    let gets_on = |job: &JobDetail| job.summary.step >= Some(from + STEPS_BETWEEN) && is_up(job);
    wait_for(client, id, gets_on).await
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
