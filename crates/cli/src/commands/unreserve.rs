use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use clap::Args;

#[derive(Args, Debug)]
pub struct UnreserveArgs {
    /// The reservation's name
    name: String,
    #[command(flatten)]
    target: Target,
}

pub async fn run(args: UnreserveArgs) -> Result<(), Failure> {
    args.target.live().await?.unreserve(&args.name).await?;
    output::message(format!("{} is over; its nodes take any job again", args.name));
    Ok(())
}
