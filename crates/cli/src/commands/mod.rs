//! One file a command. Each has its arguments and what it does with them.

mod agent;
mod alerts;
mod bench;
mod burnin;
mod cancel;
mod drain;
mod events;
mod fleet;
mod goodput;
mod health;
mod job;
mod jobs;
mod logs;
mod node;
mod nodes;
mod repairs;
mod reservations;
mod reserve;
mod run;
mod shim;
mod sim;
mod stand_by;
mod submit;
mod teams;
mod undrain;
mod unreserve;
mod up;
mod whatif;
mod why;
mod work;

use crate::failure::{Exit, Failure};
use clap::Subcommand;
pub use logs::no_log;
use std::future::Future;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a job here, with a control plane and a fleet of its own, until it ends
    Run(run::RunArgs),
    /// Serve a control plane with agents on this machine
    Up(up::UpArgs),
    /// Hand a job to the control plane
    Submit(submit::SubmitArgs),
    /// List the jobs
    Jobs(jobs::JobsArgs),
    /// Show one job: its attempts, its ranks, where its GPU-time went
    Job(job::JobArgs),
    /// Print what a rank has written
    Logs(logs::LogsArgs),
    /// Stop a job for good
    Cancel(cancel::CancelArgs),
    /// Say what keeps a job from running, or why a node is idle
    Why(why::WhyArgs),
    /// List the nodes
    Nodes(nodes::NodesArgs),
    /// Show one node: what was found there, what was tried, its history
    Node(node::NodeArgs),
    /// List the nodes that are out for repair, and say what became of them
    Repairs(repairs::RepairsArgs),
    /// Take a node out of service once its jobs have ended
    Drain(drain::DrainArgs),
    /// Take a node back into service
    Undrain(undrain::UndrainArgs),
    /// Set nodes aside for a team or for maintenance, from a moment on
    Reserve(reserve::ReserveArgs),
    /// List the reservations
    Reservations(reservations::ReservationsArgs),
    /// End a reservation
    Unreserve(unreserve::UnreserveArgs),
    /// Show what the teams hold, have used, and wait for
    Teams(teams::TeamsArgs),
    /// Print what happened, and why
    Events(events::EventsArgs),
    /// Show where the fleet's GPU-time went
    Goodput(goodput::GoodputArgs),
    /// Show how well the fleet is; look for faults of this machine
    Health(health::HealthArgs),
    /// Try whether this node computes, keeps and carries bits rightly, and how fast
    Burnin(Box<burnin::BurninArgs>),
    /// Try the webhooks that alerts go to
    Alerts(alerts::AlertsArgs),
    /// Draw, check and import fleet files
    Fleet(fleet::FleetArgs),
    /// Try a fleet, a policy or a fault in virtual time
    Sim(sim::SimArgs),
    /// Play a recorded journal again under a change; print what that would have come to
    Whatif(Box<whatif::WhatifArgs>),
    /// Measure the control plane
    Bench(bench::BenchArgs),
    /// In a job's script: wait for a rank, and print its variables
    StandBy(stand_by::StandByArgs),
    /// Watch one node and run its ranks
    #[command(hide = true)]
    Agent(Box<agent::AgentArgs>),
    /// Hold the ranks of one attempt on one node
    #[command(hide = true)]
    Shim(shim::ShimArgs),
    /// Carry out one remedy or burn-in
    #[command(hide = true)]
    Work(work::WorkArgs),
}

pub fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => block_on(run::run(args)),
        Command::Up(args) => block_on(up::run(args)),
        Command::Submit(args) => block_on(submit::run(args)),
        Command::Jobs(args) => block_on(jobs::run(args)),
        Command::Job(args) => block_on(job::run(args)),
        Command::Logs(args) => block_on(logs::run(args)),
        Command::Cancel(args) => block_on(cancel::run(args)),
        Command::Why(args) => block_on(why::run(args)),
        Command::Nodes(args) => block_on(nodes::run(args)),
        Command::Node(args) => block_on(node::run(args)),
        Command::Repairs(args) => block_on(repairs::run(args)),
        Command::Drain(args) => block_on(drain::run(args)),
        Command::Undrain(args) => block_on(undrain::run(args)),
        Command::Reserve(args) => block_on(reserve::run(args)),
        Command::Reservations(args) => block_on(reservations::run(args)),
        Command::Unreserve(args) => block_on(unreserve::run(args)),
        Command::Teams(args) => block_on(teams::run(args)),
        Command::Events(args) => block_on(events::run(args)),
        Command::Goodput(args) => block_on(goodput::run(args)),
        Command::Health(args) => block_on(health::run(args)),
        Command::Burnin(args) => burnin::run(*args),
        Command::Alerts(args) => alerts::run(&args),
        Command::Fleet(args) => fleet::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Whatif(args) => whatif::run(&args),
        Command::Bench(args) => block_on(bench::run(args)),
        Command::StandBy(args) => stand_by::run(&args),
        Command::Agent(args) => agent::run(*args),
        Command::Shim(args) => shim::run(&args),
        Command::Work(args) => work::run(&args),
    }
}

/// Nothing here needs a second thread: the control plane's core has its own.
fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("the system gives no event loop: {error}"),
                "check the limits of open files and processes (ulimit -a)",
            )
        })?;
    let result = runtime.block_on(future);
    // A blocking call that is stuck must not keep a finished command from ending.
    runtime.shutdown_background();
    result
}
