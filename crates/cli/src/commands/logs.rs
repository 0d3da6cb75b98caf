use crate::connect::{Patience, Source, Target};
use crate::failure::{Exit, Failure};
use crate::output;
use clap::Args;
use lindos_api::agent::LogChunk;
use lindos_api::client::{Client, LogQuery};
use std::time::Duration;

/// Asked for at once.
const CHUNK: u64 = 256 << 10;
/// Between two looks for more.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
pub struct LogsArgs {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    /// Whose output
    #[arg(long, default_value_t = 0, value_name = "N")]
    rank: u32,
    /// Go on as more comes, over later attempts too, until the job ends
    #[arg(short, long)]
    follow: bool,
    /// Of this attempt [default: the newest]
    #[arg(long, value_name = "E")]
    epoch: Option<u32>,
    #[command(flatten)]
    target: Target,
}

pub async fn run(args: LogsArgs) -> Result<(), Failure> {
    match args.target.source().await? {
        Source::Live(client) if args.follow => follow(&client, &args).await,
        Source::Live(client) => {
            let detail = client.job(args.job).await?;
            let epoch = args.epoch.unwrap_or(detail.summary.epoch);
            print_epoch(&client, &args, epoch, &mut 0).await?;
            Ok(())
        }
        Source::Offline(offline) => {
            if args.follow {
                args.target.live().await?;
            }
            let detail = offline.job(args.job)?;
            let epoch = args.epoch.unwrap_or(detail.summary.epoch);
            offline.copy_log(args.job, epoch, args.rank)
        }
    }
}

/// Prints what there is of one attempt from `offset` on; says whether more may come.
async fn print_epoch(
    client: &Client,
    args: &LogsArgs,
    epoch: u32,
    offset: &mut u64,
) -> Result<bool, Failure> {
    loop {
        let query = LogQuery {
            rank: args.rank,
            epoch: Some(epoch),
            offset: Some(*offset),
            bytes_max: Some(CHUNK),
        };
        let chunk: LogChunk = client.logs(args.job, &query).await?;
        if let Some(reason) = chunk.error {
            return Err(no_log(args.job, epoch, args.rank, &reason));
        }
        output::data(&chunk.text)?;
        let is_at_end = chunk.end <= *offset;
        *offset = (*offset).max(chunk.end);
        if is_at_end {
            return Ok(chunk.open);
        }
    }
}

async fn follow(client: &Client, args: &LogsArgs) -> Result<(), Failure> {
    let first = client.job(args.job).await?;
    let mut epoch = args.epoch.unwrap_or(first.summary.epoch.max(1));
    let mut offset = 0;
    let mut patience = Patience::default();
    loop {
        // The job is looked at before the log: what it wrote until then is printed all the same.
        let job = match client.job(args.job).await {
            Ok(job) => job.summary,
            Err(error) => {
                patience.lose(error.into())?;
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let printed = print_epoch(client, args, epoch, &mut offset).await;
        let has_next = args.epoch.is_none() && job.epoch > epoch;
        let is_over = job.state.is_final() || args.epoch.is_some();
        match printed {
            Err(failure) if failure.exit == Exit::ReaderGone => return Err(failure),
            // What it still had to say is lost with its node.
            Ok(_) | Err(_) if has_next => {
                epoch += 1;
                offset = 0;
                output::message(format!("--- attempt {epoch} ---"));
                continue;
            }
            Ok(false) if is_over => return Ok(()),
            Ok(_) => patience.regain(),
            Err(failure) if is_over => return Err(failure),
            // It has not begun to write, or its node is away.
            Err(failure) if failure.exit == Exit::NotFound => {}
            Err(failure) => patience.lose(failure)?,
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub fn no_log(job: u64, epoch: u32, rank: u32, reason: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("there is no output of job {job}, attempt {epoch}, rank {rank}: {reason}"),
        format!("`lindos job {job}` lists its attempts and ranks"),
    )
}
