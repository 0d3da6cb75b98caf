use crate::connect::Target;
use crate::failure::Failure;
use crate::render::{self, Style};
use crate::{output, render::nodes};
use clap::Args;

#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The job's number, or the name of a node
    #[arg(value_name = "JOB|NODE")]
    what: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: WhyArgs) -> Result<(), Failure> {
    let source = args.target.source().await?;
    let Ok(job) = args.what.parse::<u64>() else {
        let why = source.why_node(&args.what).await?;
        if args.json {
            return output::json(&why);
        }
        return output::data(&nodes::why(&why, &Style::of_the_reader()));
    };
    let why = source.why(job).await?;
    if args.json {
        return output::json(&why);
    }
    output::data(&render::job::why(&why))
}
