use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use clap::Args;

#[derive(Args, Debug)]
pub struct DrainArgs {
    /// The node's name
    node: String,
    /// Why, for whoever wonders later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    target: Target,
}

pub async fn run(args: DrainArgs) -> Result<(), Failure> {
    args.target.live().await?.drain(&args.node, &args.reason).await?;
    output::message(format!("{} takes no new jobs; those on it run on", args.node));
    Ok(())
}
