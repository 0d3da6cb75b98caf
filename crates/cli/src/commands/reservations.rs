use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

#[derive(Args, Debug)]
pub struct ReservationsArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: ReservationsArgs) -> Result<(), Failure> {
    let reservations = args.target.source().await?.reservations().await?;
    if args.json {
        return output::json(&reservations);
    }
    if reservations.is_empty() {
        output::message("nothing is reserved; `lindos reserve` sets nodes aside");
        return Ok(());
    }
    output::data(&render::reservations::table(&reservations, &Style::of_the_reader()))
}
