use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

#[derive(Args, Debug)]
pub struct NodesArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: NodesArgs) -> Result<(), Failure> {
    let nodes = args.target.source().await?.nodes().await?;
    if args.json {
        return output::json(&nodes);
    }
    if nodes.is_empty() {
        output::message("no nodes have joined yet");
        return Ok(());
    }
    output::data(&render::nodes::table(&nodes, &Style::of_the_reader()))
}
