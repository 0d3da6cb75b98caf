use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use clap::Args;

#[derive(Args, Debug)]
pub struct CancelArgs {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    #[command(flatten)]
    target: Target,
}

pub async fn run(args: CancelArgs) -> Result<(), Failure> {
    args.target.live().await?.cancel(args.job).await?;
    output::message(format!("job {} is being cancelled", args.job));
    Ok(())
}
