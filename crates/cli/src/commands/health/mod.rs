//! `lindos health`: what is wrong with a machine.

mod classify;
mod score;

use crate::failure::Failure;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub struct HealthArgs {
    #[command(subcommand)]
    command: HealthCommand,
}

#[derive(Subcommand, Debug)]
enum HealthCommand {
    /// Read kernel log lines, and say what each of them means
    Classify(classify::ClassifyArgs),
    /// Score the reading of kernel log lines whose class is known
    Score(score::ScoreArgs),
}

pub fn run(args: HealthArgs) -> Result<(), Failure> {
    match args.command {
        HealthCommand::Classify(args) => classify::classify(&args),
        HealthCommand::Score(args) => score::score(&args),
    }
}
