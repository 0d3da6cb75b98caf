use crate::connect::{Patience, Source, Target};
use crate::failure::{Exit, Failure};
use crate::output;
use clap::Args;
use lindos_api::agent::LogChunk;
use lindos_api::client::{Client, LogQuery};
use lindos_api::user::JobDetail;
use std::ops::RangeInclusive;
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
    /// Of this attempt, or launch of a replica [default: the newest]
    #[arg(long, value_name = "E")]
    epoch: Option<u32>,
    #[command(flatten)]
    target: Target,
}

/// How far the output has been printed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    /// The launch that wrote it. For an attempt with replicas it may be an earlier one than was
    /// asked for: the newest of the rank's own replica.
    epoch: Option<u32>,
    offset: u64,
}

impl Place {
    /// Whether a piece goes on from here. If not, what it is a piece of begins anew.
    fn accepts(&mut self, chunk: &LogChunk) -> bool {
        let epoch = chunk.epoch.map(|epoch| epoch.0);
        if self.epoch == epoch || (self.epoch.is_none() && self.offset == 0) {
            self.epoch = epoch;
            return true;
        }
        *self = Place { epoch, offset: 0 };
        false
    }
}

pub async fn run(args: LogsArgs) -> Result<(), Failure> {
    match args.target.source().await? {
        Source::Live(client) if args.follow => follow(&client, &args).await,
        Source::Live(client) => {
            let detail = client.job(args.job).await?;
            let epoch = args.epoch.unwrap_or(detail.summary.epoch);
            print_epoch(&client, &args, epoch, &mut Place::default()).await?;
            Ok(())
        }
        Source::Offline(offline) => {
            if args.follow {
                args.target.live().await?;
            }
            let detail = offline.job(args.job)?;
            let epoch = args.epoch.unwrap_or(detail.summary.epoch);
            offline.copy_log(args.job, launches(&detail, epoch), args.rank)
        }
    }
}

/// The launches of which the newest that has written is the rank's output as of an epoch: those of
/// the attempt that it is part of.
fn launches(job: &JobDetail, epoch: u32) -> RangeInclusive<u32> {
    let attempt = job.attempts.iter().rev().find(|attempt| attempt.epoch <= epoch);
    attempt.map_or(epoch, |attempt| attempt.epoch)..=epoch
}

/// Prints what there is from `place` on, as of an epoch; says whether more may come.
async fn print_epoch(
    client: &Client,
    args: &LogsArgs,
    epoch: u32,
    place: &mut Place,
) -> Result<bool, Failure> {
    loop {
        let query = LogQuery {
            rank: args.rank,
            epoch: Some(epoch),
            offset: Some(place.offset),
            bytes_max: Some(CHUNK),
        };
        let chunk: LogChunk = client.logs(args.job, &query).await?;
        if let Some(reason) = chunk.error {
            return Err(no_log(args.job, epoch, args.rank, &reason));
        }
        if !place.accepts(&chunk) {
            output::message(format!("--- attempt {} ---", place.epoch.unwrap_or(epoch)));
            continue;
        }
        output::data(&chunk.text)?;
        let is_at_end = chunk.end <= place.offset;
        place.offset = place.offset.max(chunk.end);
        if is_at_end {
            return Ok(chunk.open);
        }
    }
}

async fn follow(client: &Client, args: &LogsArgs) -> Result<(), Failure> {
    let first = client.job(args.job).await?;
    let mut epoch = args.epoch.unwrap_or(first.summary.epoch.max(1));
    let mut place = Place::default();
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
        let printed = print_epoch(client, args, epoch, &mut place).await;
        let has_next = args.epoch.is_none() && job.epoch > epoch;
        let is_over = job.state.is_final() || args.epoch.is_some();
        match printed {
            Err(failure) if failure.exit == Exit::ReaderGone => return Err(failure),
            // What it still had to say is lost with its node.
            Ok(_) | Err(_) if has_next => {
                epoch += 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use lindos_model::Epoch;

    #[test]
    fn another_launch_begins_anew_and_the_same_goes_on() {
        let of = |epoch| LogChunk { epoch: Some(Epoch(epoch)), ..LogChunk::default() };
        let mut place = Place::default();
        assert!(place.accepts(&of(1)));
        place.offset = 40;
        assert!(place.accepts(&of(1)), "another replica was launched meanwhile");
        assert!(!place.accepts(&of(3)));
        assert_eq!(place, Place { epoch: Some(3), offset: 0 });
        assert!(place.accepts(&of(3)));
    }

    #[test]
    fn a_launch_is_part_of_the_attempt_before_it() {
        let mut job = sample::detail();
        job.attempts[1].epoch = 4;
        assert_eq!(launches(&job, 3), 1..=3);
        assert_eq!(launches(&job, 4), 4..=4);
        assert_eq!(launches(&job, 7), 4..=7);
        job.attempts.clear();
        assert_eq!(launches(&job, 2), 2..=2);
    }
}
