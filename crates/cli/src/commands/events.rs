use crate::connect::{Patience, Target};
use crate::failure::Failure;
use crate::output;
use crate::render::{self, Style};
use clap::Args;
use lindos_api::client::{ClientError, EventStream};
use lindos_api::user::EventView;
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Go on as things happen
    #[arg(short, long)]
    follow: bool,
    /// Only this job's
    #[arg(long, value_name = "ID")]
    job: Option<u64>,
    #[command(flatten)]
    target: Target,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: EventsArgs) -> Result<(), Failure> {
    if args.follow {
        return follow(&args).await;
    }
    let source = args.target.source().await?;
    if let Some(job) = args.job {
        source.job(job).await?;
    }
    for event in source.events(args.job).await? {
        print(&event, args.json)?;
    }
    Ok(())
}

/// Follows until somebody stops us, over restarts of the control plane.
async fn follow(args: &EventsArgs) -> Result<(), Failure> {
    let first = args.target.live().await?;
    if let Some(job) = args.job {
        first.job(job).await?;
    }
    let mut after = 0;
    let mut patience = Patience::default();
    loop {
        let connected = match args.target.live().await {
            Ok(client) => client.follow_events(after, args.job).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match connected {
            Ok(stream) => {
                patience.regain();
                print_all(stream, args.json, &mut after).await?;
            }
            Err(failure) => patience.lose(failure)?,
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Prints events until the stream breaks off; `after` is then the last one that was printed.
async fn print_all(mut stream: EventStream, json: bool, after: &mut u64) -> Result<(), Failure> {
    loop {
        match stream.next().await {
            Ok(Some(event)) => {
                print(&event, json)?;
                *after = event.seq;
            }
            Ok(None) | Err(ClientError::Unreachable { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn print(event: &EventView, json: bool) -> Result<(), Failure> {
    if json {
        output::json_line(event)
    } else {
        output::data(&render::events::line(event, &Style::of_the_reader()))
    }
}
