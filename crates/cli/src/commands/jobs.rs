use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

#[derive(Args, Debug)]
pub struct JobsArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: JobsArgs) -> Result<(), Failure> {
    let jobs = args.target.source().await?.jobs().await?;
    if args.json {
        return output::json(&jobs);
    }
    if jobs.is_empty() {
        output::message("no jobs; `lindos submit FILE` hands one in");
        return Ok(());
    }
    output::data(&render::jobs::table(&jobs, &Style::of_the_reader()))
}
