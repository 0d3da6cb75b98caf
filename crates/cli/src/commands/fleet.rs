//! `lindos fleet`: fleet files, on the spot; no control plane is asked.

use crate::failure::{Exit, Failure};
use crate::fleet_file;
use crate::output;
use crate::render::number::counted;
use crate::render::{self, Style};
use clap::{Args, Subcommand, ValueEnum};
use lindos_model::fleet::check::Finding;
use lindos_model::fleet::import::{self, Import};
use lindos_model::fleet::{Branch, Fleet, Platform, Severity, Watts, ready, tree};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub struct FleetArgs {
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Subcommand, Debug)]
enum FleetCommand {
    /// Draw the network tree and the power tree of a fleet
    Show(ShowArgs),
    /// Say what is wrong with a fleet file, or looks wrong
    Check(CheckArgs),
    /// Make a fleet file of a node list in JSON or CSV, or of Slurm's configuration
    Import(ImportArgs),
    /// List the ready-made fleets
    List(ListArgs),
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// A fleet file, or the name of a ready-made fleet
    #[arg(value_name = "FILE|NAME", default_value = "laptop")]
    fleet: String,
    /// Which tree to draw
    #[arg(long, value_enum, default_value_t = Tree::Both)]
    tree: Tree,
    /// How many levels below the fleet to draw [default: all]
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tree {
    Network,
    Power,
    Both,
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// A fleet file, or the name of a ready-made fleet
    #[arg(value_name = "FILE|NAME")]
    fleet: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct ImportArgs {
    /// The node list; for Slurm, slurm.conf and topology.conf
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What they are [default: as their names end]
    #[arg(long, value_enum)]
    from: Option<Format>,
    /// Where to write the fleet file [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Csv,
    Slurm,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: FleetArgs) -> Result<(), Failure> {
    match args.command {
        FleetCommand::Show(args) => show(&args),
        FleetCommand::Check(args) => check(&args),
        FleetCommand::Import(args) => import(&args),
        FleetCommand::List(args) => list(&args),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    about: &'a str,
    nodes: usize,
    gpus: u64,
    load_w: Watts,
    platforms: &'a BTreeMap<String, Platform>,
    network: Option<&'a Branch>,
    power: Option<Branch>,
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let fleet = fleet_file::parse(&args.fleet)?;
    let mut network = tree::network(&fleet);
    let load_w = network.load_w;
    let mut power = if args.tree == Tree::Network { None } else { tree::power(&fleet) };
    let findings = fleet.check();
    if !findings.is_empty() {
        let found = summary(&findings);
        output::message(format!("{found}: `lindos fleet check {}` says which", args.fleet));
    }
    if args.tree == Tree::Power && power.is_none() {
        return Err(Failure::bad_input(
            format!("{}: it says nothing about power", args.fleet),
            "describe its power tree: docs/fleet-file.md",
        ));
    }
    if let Some(depth) = args.depth {
        cut(&mut network, depth);
        if let Some(power) = &mut power {
            cut(power, depth);
        }
    }
    let network = (args.tree != Tree::Power).then_some(&network);
    if args.json {
        let (nodes, gpus) = (fleet.nodes.len(), fleet.gpus());
        let (name, about) = (fleet.name.as_str(), fleet.about.as_str());
        let platforms = &fleet.platforms;
        return output::json(&Shown {
            name,
            about,
            nodes,
            gpus,
            load_w,
            platforms,
            network,
            power,
        });
    }
    let width = usize::from(Style::of_the_reader().width);
    output::data(&render::fleet::show(&fleet, network, power.as_ref(), width))
}

/// Leaves out what is deeper than `depth` levels below.
fn cut(branch: &mut Branch, depth: usize) {
    if depth == 0 {
        branch.children.clear();
    }
    for child in &mut branch.children {
        cut(child, depth - 1);
    }
}

#[derive(Serialize)]
struct Checked<'a> {
    fleet: &'a str,
    nodes: usize,
    gpus: u64,
    errors: usize,
    warnings: usize,
    findings: &'a [Finding],
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let (path, text) = fleet_file::read(&args.fleet)?;
    let (nodes, gpus, findings, said) = match Fleet::parse(Path::new(&path), &text) {
        Ok(fleet) => {
            let findings = fleet.check();
            let said = render::fleet::findings(&path, &findings);
            (fleet.nodes.len(), fleet.gpus(), findings, said)
        }
        // What cannot be read is one finding, and is drawn with its line.
        Err(error) => {
            let said = format!(
                "error: {}\n",
                fleet_file::failure(error.clone()).to_string().trim_start_matches("error: ")
            );
            let line = error.place.as_ref().map(|place| place.line);
            let hint = error.hint.unwrap_or_default();
            let finding = Finding::error("file", path.clone(), error.message, hint).at_line(line);
            (0, 0, vec![finding], said)
        }
    };
    let errors = count(&findings, Severity::Error);
    if args.json {
        let warnings = findings.len() - errors;
        let fleet = args.fleet.as_str();
        output::json(&Checked { fleet, nodes, gpus, errors, warnings, findings: &findings })?;
    } else {
        output::data(&said)?;
        if findings.is_empty() {
            output::message(format!("{}: {nodes} nodes, {gpus} GPUs, nothing found", args.fleet));
        } else {
            output::message(format!("{}: {}", args.fleet, summary(&findings)));
        }
    }
    if errors > 0 { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn summary(findings: &[Finding]) -> String {
    let errors = count(findings, Severity::Error);
    let warnings = findings.len() - errors;
    match (errors, warnings) {
        (errors, 0) => counted(errors as u32, "error"),
        (0, warnings) => counted(warnings as u32, "warning"),
        _ => {
            format!("{}, {}", counted(errors as u32, "error"), counted(warnings as u32, "warning"))
        }
    }
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in &args.files {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::bad_input(format!("{}: {error}", path.display()), "name a node list")
        })?;
        files.push((path.clone(), text));
    }
    let import = read_import(args, &files)?;
    for note in &import.notes {
        output::message(note);
    }
    let toml = import.to_toml();
    let out = args.out.as_deref().unwrap_or(Path::new("fleet.toml"));
    let fleet = Fleet::parse(out, &toml).map_err(fleet_file::failure)?;
    let findings = fleet.check();
    let (nodes, gpus) = (fleet.nodes.len(), fleet.gpus());
    match &args.out {
        None => output::data(&toml)?,
        Some(path) => write_new(path, &toml)?,
    }
    output::message(format!("imported {nodes} nodes with {gpus} GPUs"));
    if !findings.is_empty() {
        let found = summary(&findings);
        output::message(format!("{found}: `lindos fleet check {}` says which", out.display()));
    }
    Ok(())
}

fn read_import(args: &ImportArgs, files: &[(PathBuf, String)]) -> Result<Import, Failure> {
    let (path, text) = &files[0];
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let format = match (args.from, extension) {
        (Some(format), _) => format,
        (None, "json") => Format::Json,
        (None, "csv") => Format::Csv,
        (None, "conf") => Format::Slurm,
        _ => {
            return Err(Failure::bad_input(
                format!("{}: its name does not tell what it is", path.display()),
                "say it: --from json, --from csv or --from slurm",
            ));
        }
    };
    if format != Format::Slurm && files.len() > 1 {
        return Err(Failure::bad_input(
            format!("{} files, and one is a whole node list", files.len()),
            "only Slurm's configuration stands in several files",
        ));
    }
    let import = match format {
        Format::Json => import::json(path, text),
        Format::Csv => import::csv(path, text),
        Format::Slurm => import::slurm(files),
    };
    import.map_err(|error| Failure {
        hint: Some(error.hint.clone().unwrap_or_else(|| {
            "what a node list must have: docs/fleet-file.md, Importing".to_string()
        })),
        ..Failure::from(error)
    })
}

/// Does not overwrite: a fleet file may have been worked on by hand.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        Failure::bad_input(
            format!("{}: {error}", path.display()),
            "name a file that is not there yet with --out, or print to stdout without it",
        )
    })
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    about: String,
    sites: usize,
    nodes: usize,
    gpus: u64,
    load_w: Watts,
    platforms: Vec<String>,
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (name, _) in ready::ALL {
        let fleet = fleet_file::parse(name)?;
        let sites: BTreeSet<&str> =
            fleet.nodes.iter().map(|node| node.location.site.as_str()).collect();
        rows.push(Listed {
            name,
            sites: sites.len(),
            nodes: fleet.nodes.len(),
            gpus: fleet.gpus(),
            load_w: tree::network(&fleet).load_w,
            platforms: fleet.platforms.keys().cloned().collect(),
            about: fleet.about,
        });
    }
    if args.json {
        return output::json(&rows);
    }
    let header = ["NAME", "SITES", "NODES", "GPUS", "LOAD", "ABOUT"];
    let width = Style::of_the_reader().width;
    let mut table = render::table::Builder::new(width, &header).right(&[1, 2, 3, 4]);
    for row in rows {
        table.row([
            row.name.to_string(),
            row.sites.to_string(),
            row.nodes.to_string(),
            row.gpus.to_string(),
            render::fleet::load(row.load_w),
            row.about,
        ]);
    }
    output::data(&table.finish())
}
