use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

#[derive(Args, Debug)]
pub struct TeamsArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: TeamsArgs) -> Result<(), Failure> {
    let teams = args.target.source().await?.teams().await?;
    if args.json {
        return output::json(&teams);
    }
    if teams.is_empty() {
        output::message("no team was named yet; `lindos up --policy FILE` names some");
        return Ok(());
    }
    output::data(&render::teams::table(&teams, &Style::of_the_reader()))
}
