//! `lindos bench`: the figures that we quote, each with the command that makes it.

mod agent;
mod health;
mod recover;
mod report;
mod schedule;
mod sim;

use crate::failure::Failure;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand, Debug)]
enum BenchCommand {
    /// Measure an idle agent with every check of the machine's health on
    Agent(agent::AgentBenchArgs),
    /// Time how nodes are taken out of service and come back, on fleets of up to 125,000 nodes
    Health(health::HealthBenchArgs),
    /// Do faults of several kinds to a real job, and time each phase of its recovery
    Recover(recover::RecoverArgs),
    /// Time the scheduler's decisions on an aged fleet of up to a million GPUs
    Schedule(schedule::ScheduleArgs),
    /// Time the twin: months of fleets of 16,384, 200,000 and 1,000,000 GPUs
    Sim(sim::SimArgs),
}

pub async fn run(args: BenchArgs) -> Result<(), Failure> {
    match args.command {
        BenchCommand::Agent(args) => agent::agent(args).await,
        BenchCommand::Health(args) => health::health(&args),
        BenchCommand::Recover(args) => recover::recover(args).await,
        BenchCommand::Schedule(args) => schedule::schedule(&args),
        BenchCommand::Sim(args) => sim::sim(&args),
    }
}
