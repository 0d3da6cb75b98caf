use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct ShimArgs {
    /// The attempt's folder
    dir: PathBuf,
}

pub fn run(args: &ShimArgs) -> Result<(), Failure> {
    crate::local::trace::to_stderr();
    lindos_agent::shim(&args.dir)?;
    Ok(())
}
