use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use clap::Args;

#[derive(Args, Debug)]
pub struct UndrainArgs {
    /// The node's name
    node: String,
    #[command(flatten)]
    target: Target,
}

pub async fn run(args: UndrainArgs) -> Result<(), Failure> {
    args.target.live().await?.undrain(&args.node).await?;
    output::message(format!("{} is back in service", args.node));
    Ok(())
}
