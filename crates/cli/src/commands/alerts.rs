//! `lindos alerts`: webhooks, on the spot; no control plane is asked.

use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::{self, Style};
use clap::{Args, Subcommand};
use lindos_model::file::FileError;
use lindos_server::alerts::{self, Alerts};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub struct AlertsArgs {
    #[command(subcommand)]
    command: AlertsCommand,
}

#[derive(Subcommand, Debug)]
enum AlertsCommand {
    /// Send a sample to every webhook of a file, and say what came back
    Test(TestArgs),
}

#[derive(Args, Debug)]
struct TestArgs {
    /// The file that `lindos up --alerts` takes
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a file says of alerts.
pub fn load(path: &Path) -> Result<Alerts, Failure> {
    Alerts::load(path).map_err(|error: FileError| {
        let hint = error.hint.clone();
        let hint = hint.or_else(|| Some("the keys of this file: docs/alerts.md".into()));
        Failure { hint, ..Failure::from(error) }
    })
}

pub fn run(args: &AlertsArgs) -> Result<(), Failure> {
    match &args.command {
        AlertsCommand::Test(args) => test(args),
    }
}

fn test(args: &TestArgs) -> Result<(), Failure> {
    let file = load(&args.file)?;
    if !args.json && output::stderr_is_terminal() {
        output::message(format!("sending a sample to {} …", render::alerts::webhooks(&file)));
    }
    let tried = alerts::try_all(&file);
    if args.json {
        output::json(&tried)?;
    } else {
        output::data(&render::alerts::table(&tried, &Style::of_the_reader()))?;
    }
    let failed = tried.iter().filter(|tried| !tried.ok).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("{failed} of {} did not take it", tried.len()),
        "check the address, the secret, and what the receiver says: docs/alerts.md",
    ))
}
