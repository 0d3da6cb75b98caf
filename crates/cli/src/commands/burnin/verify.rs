use super::read_key;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::burnin as text;
use clap::Args;
use lindos_hardware::burnin::seal::{Doubt, verify};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The report
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// The key that it was signed with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Whether the report is genuine: what it says of the node is not judged here.
pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let key = read_key(&args.key)?;
    let path = args.report.display();
    let text = std::fs::read_to_string(&args.report).map_err(|error| {
        Failure::bad_input(format!("{path}: {error}"), "name a report of `lindos burnin --out`")
    })?;
    let report = verify(&text, &key).map_err(|doubt| {
        let (exit, hint) = match doubt {
            Doubt::Unreadable(_) => (Exit::BadInput, "name a report of `lindos burnin --out`"),
            Doubt::Unsigned => {
                (Exit::Failed, "sign it when it is made: `lindos burnin --key FILE`")
            }
            Doubt::UnknownAlgorithm(_) => (Exit::Failed, "a newer Lindos may know it"),
            Doubt::OtherKey { .. } => (Exit::Failed, "name the key that it was signed with"),
            Doubt::Altered => (Exit::Failed, "do not rely on it: burn the node in once more"),
        };
        Failure::new(exit, format!("{path}: {doubt}"), hint)
    })?;
    if args.json {
        output::json(&report)?;
    } else {
        output::data(&text::report(&report, output::width()))?;
    }
    output::message(format!("genuine: signed with key {}, and not altered since", key.id()));
    Ok(())
}
