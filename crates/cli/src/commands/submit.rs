use crate::connect::Target;
use crate::failure::Failure;
use crate::job_file::{self, Job};
use crate::output;
use clap::Args;
use lindos_api::client::{Client, new_request_id};
use lindos_api::user::SubmitRequest;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct SubmitArgs {
    /// The job file
    file: PathBuf,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: SubmitArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.file)?;
    let client = args.target.live().await?;
    job_file::prepare(&job).await?;
    let id = submit(&client, &job).await?;
    if args.json {
        return output::json(&serde_json::json!({ "job": id }));
    }
    output::data(&format!("{id}\n"))?;
    output::message(format!("submitted as job {id}; `lindos job {id}` shows it"));
    Ok(())
}

/// Hands the job in. When this returns, it is on the control plane's disk.
pub async fn submit(client: &Client, job: &Job) -> Result<u64, Failure> {
    let request = SubmitRequest {
        request: new_request_id().ok(),
        user: ["USER", "LOGNAME"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|user| !user.is_empty()),
        spec: job.spec.clone(),
    };
    match client.submit(&request).await {
        Ok(submitted) => Ok(submitted.job),
        // The answer may have been lost on its way: asked again under the same id, it is the same.
        Err(lindos_api::client::ClientError::Unreachable { .. }) if request.request.is_some() => {
            Ok(client.submit(&request).await?.job)
        }
        Err(error) => Err(error.into()),
    }
}
