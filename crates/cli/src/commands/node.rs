use crate::connect::Target;
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;

#[derive(Args, Debug)]
pub struct NodeArgs {
    /// The node's name
    #[arg(value_name = "NAME")]
    node: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: NodeArgs) -> Result<(), Failure> {
    let node = args.target.source().await?.node_health(&args.node).await?;
    if args.json {
        return output::json(&node);
    }
    output::data(&render::health::node(&node, &Style::of_the_reader()))
}
