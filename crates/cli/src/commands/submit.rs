use crate::connect::Target;
use crate::failure::Failure;
use crate::job_file::{self, Job};
use crate::{output, render};
use clap::Args;
use lindos_api::client::{Client, new_request_id};
use lindos_api::user::SubmitRequest;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct SubmitArgs {
    /// The job file
    file: PathBuf,
    /// Only say what would become of it: start now and where, or wait and for what
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: SubmitArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.file)?;
    if args.dry_run {
        let answer = args.target.source().await?.dry_run(&request(&job)).await?;
        if args.json {
            return output::json(&answer);
        }
        return output::data(&render::job::dry_run(&answer));
    }
    let client = args.target.live().await?;
    job_file::prepare(&job).await?;
    let id = submit(&client, &job).await?;
    if args.json {
        return output::json(&match job.spec.array {
            Some(size) => serde_json::json!({ "job": id, "array": size }),
            None => serde_json::json!({ "job": id }),
        });
    }
    output::data(&format!("{id}\n"))?;
    output::message(match job.spec.array {
        Some(size) if size > 1 => {
            let last = id + u64::from(size) - 1;
            format!("submitted as jobs {id} to {last}; `lindos jobs` shows them")
        }
        _ => format!("submitted as job {id}; `lindos job {id}` shows it"),
    });
    Ok(())
}

fn request(job: &Job) -> SubmitRequest {
    SubmitRequest {
        request: new_request_id().ok(),
        user: ["USER", "LOGNAME"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|user| !user.is_empty()),
        spec: job.spec.clone(),
    }
}

/// Hands the job in, or all jobs of an array: the number of the first. When this returns, it is on the control plane's disk.
pub async fn submit(client: &Client, job: &Job) -> Result<u64, Failure> {
    let request = request(job);
    match client.submit(&request).await {
        Ok(submitted) => Ok(submitted.job),
        // The answer may have been lost on its way: asked again under the same id, it is the same.
        Err(lindos_api::client::ClientError::Unreachable { .. }) if request.request.is_some() => {
            Ok(client.submit(&request).await?.job)
        }
        Err(error) => Err(error.into()),
    }
}
