//! `lindos repairs`: the nodes that are out, and what a person has to say of them.

use crate::connect::{Source, Target};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::{self, Style};
use clap::{Args, Subcommand};
use lindos_api::health::{HistoryView, TicketView};
use lindos_model::Mended;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RepairsArgs {
    #[command(subcommand)]
    command: Option<RepairsCommand>,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum RepairsCommand {
    /// Say that a node is mended: it comes back when its burn-in was passed
    Done(DoneArgs),
    /// Take a node back at once: nothing is wrong with it
    Release(ReleaseArgs),
    /// Write the open tickets, with the history of their nodes, for another system
    Export(ExportArgs),
}

#[derive(Args, Debug)]
struct DoneArgs {
    /// The node's name
    node: String,
    /// It, or the part in question, is another one now: its record begins anew
    #[arg(long)]
    replaced: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct ReleaseArgs {
    /// The node's name
    node: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct ExportArgs {
    /// A new file, whose name ends in .csv (one line an event) or .json (one object a ticket)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

pub async fn run(args: RepairsArgs) -> Result<(), Failure> {
    match args.command {
        Some(RepairsCommand::Done(args)) => done(args).await,
        Some(RepairsCommand::Release(args)) => release(args).await,
        Some(RepairsCommand::Export(args)) => export(args).await,
        None => list(&args.target, args.json).await,
    }
}

async fn list(target: &Target, json: bool) -> Result<(), Failure> {
    let repairs = target.source().await?.repairs().await?;
    if json {
        return output::json(&repairs);
    }
    if repairs.open.is_empty() && repairs.kept_in.is_empty() {
        output::message("no node is out for repair");
        return Ok(());
    }
    output::data(&render::repairs::tables(&repairs, &Style::of_the_reader()))
}

async fn done(args: DoneArgs) -> Result<(), Failure> {
    let how = if args.replaced { Mended::Replaced } else { Mended::Repaired };
    let client = args.target.live().await?;
    client.mended(&args.node, how).await?;
    let is_proved = client.node_health(&args.node).await?.ticket.is_some();
    let what = if is_proved { "is proved, and then back in service" } else { "is back in service" };
    output::message(format!("{} {what}", args.node));
    Ok(())
}

async fn release(args: ReleaseArgs) -> Result<(), Failure> {
    args.target.live().await?.mended(&args.node, Mended::Released).await?;
    output::message(format!("{} is back in service", args.node));
    Ok(())
}

/// A ticket, and what is remembered of its node.
#[derive(Serialize)]
struct Exported {
    #[serde(flatten)]
    ticket: TicketView,
    history: Vec<HistoryView>,
}

#[derive(Clone, Copy)]
enum Format {
    Csv,
    Json,
}

async fn export(args: ExportArgs) -> Result<(), Failure> {
    let format = match args.file.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => Format::Csv,
        Some("json") => Format::Json,
        _ => {
            let message = format!("{}: what should be written there?", args.file.display());
            let hint = "end the name of the file in .csv or .json";
            return Err(Failure::bad_input(message, hint));
        }
    };
    let tickets = exported(&args.target.source().await?).await?;
    let text = match format {
        Format::Csv => csv(&tickets),
        Format::Json => json(&tickets),
    };
    write_new(&args.file, &text)?;
    let count = render::number::counted(tickets.len() as u32, "ticket");
    output::message(format!("{count} written to {}", args.file.display()));
    Ok(())
}

async fn exported(source: &Source) -> Result<Vec<Exported>, Failure> {
    let mut tickets = Vec::new();
    for ticket in source.repairs().await?.open {
        let history = source.node_health(&ticket.node).await?.history;
        tickets.push(Exported { ticket, history });
    }
    Ok(tickets)
}

fn json(tickets: &[Exported]) -> String {
    let mut text = serde_json::to_string_pretty(tickets).expect("tickets are plain data");
    text.push('\n');
    text
}

/// A line an event of the history, each with what its ticket says.
fn csv(tickets: &[Exported]) -> String {
    let mut text = String::from(
        "ticket,node,since_ms,class,device,detail,remedy,stage,waits_for_person,at_ms,event,text\n",
    );
    for Exported { ticket, history } in tickets {
        for line in history {
            let cells = [
                ticket.ticket.to_string(),
                ticket.node.clone(),
                ticket.since.to_string(),
                ticket.class.clone(),
                ticket.device.clone().unwrap_or_default(),
                ticket.detail.clone(),
                ticket.remedy.clone(),
                ticket.stage.clone(),
                ticket.waits_for_person.to_string(),
                line.at.to_string(),
                line.kind.clone(),
                line.text.clone(),
            ];
            text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
            text.push('\n');
        }
    }
    text
}

/// A cell as RFC 4180 wants it. A text that a spreadsheet would take for a formula is made one that
/// it does not: details come from kernel logs, and anybody may write there.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_string() };
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    file.map_err(|error| {
        let message = format!("{} cannot be written: {error}", path.display());
        Failure::new(Exit::BadInput, message, "name a new file in a folder that is there")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets() -> Vec<Exported> {
        let ticket = TicketView {
            ticket: 7,
            node: "n1".to_string(),
            since: 1000,
            class: "gpu.xid.79".to_string(),
            device: Some("gpu3".to_string()),
            detail: "=1+1, and \"more\"".to_string(),
            remedy: "technician".to_string(),
            stage: "mending".to_string(),
            waits_for_person: true,
            ..TicketView::default()
        };
        let line =
            |at, text: &str| HistoryView { at, kind: "found".to_string(), text: text.to_string() };
        vec![Exported { ticket, history: vec![line(900, "first"), line(1000, "second,\nthird")] }]
    }

    #[test]
    fn a_line_of_csv_stands_for_each_event_and_is_no_formula() {
        insta::assert_snapshot!(csv(&tickets()), @r#"
        ticket,node,since_ms,class,device,detail,remedy,stage,waits_for_person,at_ms,event,text
        7,n1,1000,gpu.xid.79,gpu3,"'=1+1, and ""more""",technician,mending,true,900,found,first
        7,n1,1000,gpu.xid.79,gpu3,"'=1+1, and ""more""",technician,mending,true,1000,found,"second,
        third"
        "#);
    }

    #[test]
    fn json_has_the_history_in_each_ticket() {
        let read: serde_json::Value = serde_json::from_str(&json(&tickets())).unwrap();
        assert_eq!(read[0]["node"], "n1");
        assert_eq!(read[0]["history"][1]["at"], 1000);
    }

    #[test]
    fn no_file_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tickets.csv");
        write_new(&path, "first").unwrap();
        assert!(write_new(&path, "second").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
    }
}
