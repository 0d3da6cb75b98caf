//! A small GPT that Lindos is shown with: real ranks, real gradients, real checkpoints.
//!
//! It knows Lindos only by the launch contract: RANK and its kin from the environment, progress
//! as datagrams to LINDOS_SOCKET, checkpoints in LINDOS_CHECKPOINT_DIR. Read `train.rs` first;
//! it is the whole story in one loop. `README.md` says what is promised and what it costs.

mod checkpoint;
mod company;
mod config;
mod corpus;
mod failure;
mod group;
mod launch;
mod link;
mod model;
mod ops;
mod optimizer;
mod progress;
mod random;
mod replicas;
mod standby;
mod start;
mod train;
mod tree;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;

use crate::config::Args;
use crate::failure::Failure;
use crate::launch::Launch;
use crate::progress::Progress;
use crate::standby::Environment;

/// candle and its matrix products read the number of their threads here.
const THREADS: &str = "RAYON_NUM_THREADS";

fn main() -> ExitCode {
    let args = Args::parse();
    one_thread();
    // All that needs no rank is done: a warm spare waits here.
    let environment = match Environment::of_rank() {
        Ok(Some(environment)) => environment,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiny-gpt: error: nobody gives this process a rank: {error}");
            return ExitCode::FAILURE;
        }
    };
    let progress = Progress::from(&environment);
    progress.offer_to_stand_by();
    let result = Launch::from(&environment)
        .map_err(anyhow::Error::from)
        .and_then(|launch| train::run(&args, &launch, &progress));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiny-gpt: error: {error:#}");
            ExitCode::from(error.downcast_ref::<Failure>().map_or(1, Failure::exit_code))
        }
    }
}

/// A rank is one core's worth: four of them on two cores must not start eight threads. The
/// variable must be there before the first thread, so this process becomes itself anew, under
/// the same id. Whoever set it already is heard.
fn one_thread() {
    if std::env::var_os(THREADS).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let error =
            Command::new(program).args(std::env::args_os().skip(1)).env(THREADS, "1").exec();
        eprintln!("tiny-gpt: cannot restart with one thread ({error}); going on with more");
    }
}
