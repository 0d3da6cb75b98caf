//! `lindos health` by itself: how well the fleet is.

use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

/// Nodes that are named when nobody says how many.
const WORST: usize = 10;

#[derive(Args, Debug)]
pub struct FleetHealthArgs {
    #[command(flatten)]
    target: Target,
    /// Name at most so many nodes
    #[arg(long, value_name = "N", default_value_t = WORST)]
    worst: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: FleetHealthArgs) -> Result<(), Failure> {
    let health = args.target.source().await?.fleet_health(args.worst).await?;
    if args.json {
        return output::json(&health);
    }
    output::data(&render::health::fleet(&health, &Style::of_the_reader()))
}
