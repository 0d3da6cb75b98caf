use crate::connect::Target;
use crate::failure::Failure;
use crate::{output, render};
use clap::Args;

#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: WhyArgs) -> Result<(), Failure> {
    let why = args.target.source().await?.why(args.job).await?;
    if args.json {
        return output::json(&why);
    }
    output::data(&render::job::why(&why))
}
