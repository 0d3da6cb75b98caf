use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct WorkArgs {
    /// The work's folder
    dir: PathBuf,
}

pub fn run(args: &WorkArgs) -> Result<(), Failure> {
    crate::local::trace::to_stderr();
    lindos_agent::work::run(&args.dir)?;
    Ok(())
}
