//! `lindos run`: one job from file to end. With no control plane named, it starts one, and a fleet
//! that fits the job, on this machine.

mod bar;
mod follow;
mod lines;
mod summary;

use crate::commands::submit::submit;
use crate::commands::up::{Signals, control_plane_died};
use crate::connect::{Target, named_client};
use crate::failure::{Exit, Failure};
use crate::job_file::{self, Job};
use crate::local::{self, Ending, Local, Options, nodes};
use crate::render::number::counted;
use crate::{output, remedies_file, state};
use clap::Args;
use follow::{End, Follower, Watcher};
use lindos_api::client::Client;
use lindos_model::{JobState, Policy};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use summary::{Places, Summary};

#[derive(Args, Debug)]
pub struct RunArgs {
    /// The job file
    file: PathBuf,
    #[command(flatten)]
    target: Target,
    /// Nodes of the fleet on this machine [default: the job's, its spares, and one more]
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// GPUs of each of its nodes [default: the job's]
    #[arg(long, value_name = "G")]
    gpus_per_node: Option<u16>,
    /// Take the policy of the fleet on this machine from a file
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    policy: Option<PathBuf>,
    /// Mend the nodes of the fleet on this machine with the commands of a file
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    remedies: Option<PathBuf>,
    /// Do not watch the health of this machine
    #[arg(long, conflicts_with = "server")]
    no_health: bool,
    /// Go on serving after the job has ended, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.file)?;
    if let Some(size) = job.spec.array.filter(|&size| size > 1) {
        return Err(Failure::bad_input(
            format!(
                "{}: `run` follows one job, and this is an array of {size}",
                args.file.display()
            ),
            "`lindos up` serves a control plane, `lindos submit FILE` hands it all of them",
        ));
    }
    if let Some(url) = args.target.named() {
        let client = named_client(url, args.target.state.as_deref());
        client.status().await?;
        job_file::prepare(&job).await?;
        let mut signals = Signals::new()?;
        return carry_out(&args, &job, &client, None, &mut signals).await;
    }
    let wanted = nodes::wanted(&job.spec, args.nodes, args.gpus_per_node)?;
    let folder = state::folder(args.target.state.as_deref())?;
    state::create(&folder)?;
    job_file::prepare(&job).await?;
    let policy = local::policy_of(args.policy.as_deref())?;
    let spares = policy.spares.max(nodes::spares(&job.spec, wanted));
    let policy = Policy { spares, ..policy };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut signals = Signals::new()?;
    let remedies = remedies_file::load(args.remedies.as_deref())?;
    let (state, health) = (&folder, !args.no_health);
    let options = Options { state, listen, policy, alerts: None, remedies, health };
    let local = Local::start(options, |known| Ok(nodes::fleet(known, wanted))).await?;
    let result = carry_out(&args, &job, &local.client, Some((&local, &folder)), &mut signals).await;
    if args.keep && result.is_ok() {
        output::message(format!(
            "the control plane stays at {}; Ctrl-C stops it",
            local.client.url()
        ));
        tokio::select! {
            () = signals.next() => {}
            () = local.failed() => {}
        }
    }
    let alive = local.client.status().await.map_or(0, |status| status.jobs_alive);
    local.stop(Ending::ForGood).await;
    local::say_what_runs_on(alive);
    result
}

/// Submits the job and follows it to its end.
async fn carry_out(
    args: &RunArgs,
    job: &Job,
    client: &Client,
    local: Option<(&Local, &Path)>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    if let Some((local, _)) = local {
        local.wait_for_agents().await?;
        let status = client.status().await?;
        if status.jobs_alive + status.jobs_queued > 0 {
            output::message(format!(
                "alive from before in this state folder: {} ({} waiting); this one queues behind \
                 if there is no room",
                counted(status.jobs_alive + status.jobs_queued, "job"),
                status.jobs_queued
            ));
        }
    }
    let before = client.goodput().await?.ledger;
    let id = submit(client, job).await?;
    let mut watcher: Box<dyn Watcher> = if args.json {
        Box::new(lines::Lines::default())
    } else if output::stderr_is_terminal() {
        Box::new(bar::Bar::new())
    } else {
        Box::new(follow::Quiet)
    };
    let follower = Follower { client, job: id, before: &before };
    let end = {
        let died = async {
            match local {
                Some((local, _)) => local.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = follower.follow(watcher.as_mut(), signals) => end,
            () = died => Err(control_plane_died(local.map_or(Path::new("."), |(_, folder)| folder))),
        }
    };
    watcher.finish();
    match end? {
        End::Over { detail, was_interrupted } => {
            let after = client.goodput().await?;
            let places = Places::of(job, id, local.map(|(_, folder)| folder));
            let summary = Summary::new(&detail, &before, &after.ledger, places);
            if args.json {
                output::json_line(&summary)?;
            } else {
                output::data(&summary.text(output::width()))?;
            }
            match detail.summary.state {
                JobState::Completed => Ok(()),
                _ if was_interrupted => Err(Failure::silent(Exit::Interrupted)),
                _ => Err(Failure::new(
                    Exit::Failed,
                    summary.why(),
                    format!("the output of its ranks: {}", summary.logs()),
                )),
            }
        }
        End::Left => {
            if let Some((local, _)) = local {
                local.abandon();
            }
            // At once, as was asked for: the control plane's state is durable at every moment.
            std::process::exit(Exit::Interrupted as i32);
        }
    }
}
