use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

#[derive(Args, Debug)]
pub struct GoodputArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: GoodputArgs) -> Result<(), Failure> {
    let goodput = args.target.source().await?.goodput().await?;
    if args.json {
        return output::json(&goodput);
    }
    output::data(&render::ledger::goodput(&goodput, Style::of_the_reader().width))
}
