//! `lindos health`: what is wrong with the fleet, and with a machine.

mod check;
mod classify;
mod fleet;
mod score;

use crate::failure::Failure;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HealthArgs {
    #[command(subcommand)]
    command: Option<HealthCommand>,
    #[command(flatten)]
    fleet: fleet::FleetHealthArgs,
}

#[derive(Subcommand, Debug)]
enum HealthCommand {
    /// Run every check of this machine once
    Check(check::CheckArgs),
    /// List the checks: what they find, where they look, from where on, at what cost
    Checks(check::ChecksArgs),
    /// Read kernel log lines, and say what each of them means
    Classify(classify::ClassifyArgs),
    /// Score the reading of kernel log lines whose class is known
    Score(score::ScoreArgs),
}

pub async fn run(args: HealthArgs) -> Result<(), Failure> {
    let Some(command) = args.command else { return fleet::run(args.fleet).await };
    match command {
        HealthCommand::Check(args) => check::check(&args),
        HealthCommand::Checks(args) => check::checks(&args),
        HealthCommand::Classify(args) => classify::classify(&args),
        HealthCommand::Score(args) => score::score(&args),
    }
}
