use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

#[derive(Args, Debug)]
pub struct JobArgs {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    #[command(flatten)]
    target: Target,
    /// Print JSON, with every rank
    #[arg(long)]
    json: bool,
}

pub async fn run(args: JobArgs) -> Result<(), Failure> {
    let detail = args.target.source().await?.job(args.job).await?;
    if args.json {
        return output::json(&detail);
    }
    output::data(&render::job::detail(&detail, &Style::of_the_reader()))
}
