//! `lindos burnin`: whether this node does what it should, found out on the spot.

mod answer;
mod expected;
mod verify;

use crate::failure::{Exit, Failure};
use crate::output;
use crate::render::{burnin as text, time};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lindos_hardware::burnin::gpu::{self, GpuSource};
use lindos_hardware::burnin::machine::Machine;
use lindos_hardware::burnin::network::{self, Server};
use lindos_hardware::burnin::seal::{Key, Sealed, seal};
use lindos_hardware::burnin::{Expected, Limit, NoFaults, Planted, cpu, disk, memory};
use lindos_hardware::system::Root;
use lindos_model::burnin::{BurninReport, REPORT_VERSION, TestResult, Verdict, overall};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DEFAULT: Duration = Duration::from_secs(600);

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BurninArgs {
    #[command(subcommand)]
    command: Option<BurninCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand, Debug)]
enum BurninCommand {
    /// Say whether a report is what was signed, and print it
    Verify(verify::VerifyArgs),
}

#[derive(Args, Debug)]
struct RunArgs {
    /// For how long, all tests together [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: Option<u64>,
    /// The same in seconds
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=6_000_000))]
    seconds: Option<u64>,
    /// Try these alone
    #[arg(long, value_name = "PART,…", value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// What it should reach: a platform of the catalogue, or a file as in docs/burnin.md
    #[arg(long, value_name = "NAME|FILE")]
    platform: Option<String>,
    /// Where the disk is tried
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// How much of the free memory is tried, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=90))]
    memory: u8,
    /// The other end of the network test: a node that runs `lindos burnin --serve`
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// Be the other end, until Ctrl-C
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1)]
    #[arg(default_missing_value = "127.0.0.1:7171", exclusive = true)]
    serve: Option<SocketAddr>,
    /// What the peer is called
    #[arg(long, value_name = "NAME", requires = "peer")]
    peer_name: Option<String>,
    /// First be the other end for one peer, on this address of the node and any port that is free
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "peer")]
    answer: Option<String>,
    /// Write there where the peer is answered
    #[arg(long, value_name = "FILE", requires = "answer")]
    answers_at: Option<PathBuf>,
    /// Wait so long for the peer, in seconds
    #[arg(long, value_name = "N", requires = "answer", default_value_t = 600)]
    answer_within: u64,
    /// What the node is called in the report [default: its host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Sign the report with the key in this file
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Write the report there
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Another library in place of libcuda.so.1
    #[arg(long, value_name = "FILE", env = "LINDOS_CUDA")]
    cuda: Option<PathBuf>,
    /// Another library in place of libcublas.so
    #[arg(long, value_name = "FILE", env = "LINDOS_CUBLAS")]
    cublas: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// In the order in which the report has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    Cpu,
    Memory,
    Disk,
    Network,
    Gpu,
}

/// Those that may not be there come first: what they do not use is the others' time.
const ORDER: [Part; 5] = [Part::Network, Part::Gpu, Part::Disk, Part::Memory, Part::Cpu];

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Cpu => "cores",
            Part::Memory => "memory",
            Part::Disk => "disk",
            Part::Network => "network",
            Part::Gpu => "GPUs",
        }
    }
}

pub fn run(args: BurninArgs) -> Result<(), Failure> {
    match (args.command, args.run.serve) {
        (Some(BurninCommand::Verify(verify)), _) => verify::run(&verify),
        (None, Some(address)) => serve(address),
        (None, None) => burn_in(&args.run),
    }
}

fn burn_in(args: &RunArgs) -> Result<(), Failure> {
    // All that may be wrong with what was asked is found out before hours go into it.
    let expected = expected::of(args.platform.as_deref())?;
    let key = args.key.as_deref().map(read_key).transpose()?;
    if let Some(out) = &args.out {
        check_writable(out)?;
    }
    let span = args.seconds.map(Duration::from_secs);
    let span = span.or(args.minutes.map(|minutes| Duration::from_secs(minutes * 60)));
    let machine = Machine::of(&Root::of_this_machine());
    let node = args.node.clone().unwrap_or(machine.name);
    let faults = planted(&node, args.peer_name.as_deref())?;
    let answering = answer::Answering::begin(args.answer.as_deref(), args.answers_at.as_deref())?;
    let started_at = time::now();
    let began = Instant::now();
    let bench = Bench { args, expected: &expected, faults: &faults, answering: answering.as_ref() };
    let tests = bench.all_tests(span.unwrap_or(DEFAULT));
    let report = BurninReport {
        version: REPORT_VERSION,
        node,
        started_at,
        took_ms: began.elapsed().as_millis() as u64,
        lindos: env!("CARGO_PKG_VERSION").to_string(),
        kernel: machine.kernel,
        cpu: machine.cpu,
        platform: args.platform.clone(),
        verdict: overall(&tests),
        tests,
    };
    tell(args, &seal(report, key.as_ref()))
}

/// Faults that the environment plants, for tests of whatever is to find them.
fn planted(node: &str, peer: Option<&str>) -> Result<Planted, Failure> {
    const VARIABLE: &str = "LINDOS_BURNIN_FAULTS";
    let list = std::env::var(VARIABLE).unwrap_or_default();
    if !list.is_empty() {
        output::message(format!("faults are planted by {VARIABLE}={list}"));
    }
    Planted::parse(&list, node, peer)
        .map_err(|error| Failure::bad_input(format!("{VARIABLE}: {error}"), "docs/burnin.md"))
}

/// What the tests are made with.
struct Bench<'a> {
    args: &'a RunArgs,
    expected: &'a Expected,
    faults: &'a Planted,
    answering: Option<&'a answer::Answering>,
}

impl Bench<'_> {
    fn all_tests(&self, span: Duration) -> Vec<TestResult> {
        let args = self.args;
        let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let template = format!("{{spinner}} {{msg}}: {{elapsed}} of {} s", span.as_secs());
        let style = ProgressStyle::with_template(&template).expect("the template is right");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        let wanted = |part: &Part| args.only.is_empty() || args.only.contains(part);
        let mut parts: Vec<Part> = ORDER.into_iter().filter(wanted).collect();
        let mut done: Vec<(Part, Vec<TestResult>)> = Vec::new();
        let mut began = Instant::now();
        let mut span = span;
        if let Some(answering) = self.answering {
            bar.set_message("waiting for the peer");
            let share = span / ORDER.len() as u32;
            let tests = answering.answer(Duration::from_secs(args.answer_within), self.faults);
            done.push((Part::Network, tests));
            parts.retain(|part| *part != Part::Network);
            // However long the peer was waited for, its test has taken a part's time.
            (began, span) = (Instant::now(), span.saturating_sub(share));
        }
        for (nth, part) in parts.iter().enumerate() {
            bar.set_message(part.name());
            let parts_left = (parts.len() - nth) as u32;
            let limit = Limit::of(span.saturating_sub(began.elapsed()) / parts_left);
            done.push((*part, self.one_part(*part, limit)));
        }
        bar.finish_and_clear();
        done.sort_by_key(|(part, _)| *part);
        done.into_iter().flat_map(|(_, tests)| tests).collect()
    }

    fn one_part(&self, part: Part, limit: Limit) -> Vec<TestResult> {
        let Bench { args, expected, faults, .. } = self;
        match part {
            Part::Cpu => cpu::run(limit, expected, *faults),
            Part::Memory => {
                memory::run(limit, args.memory, expected, &Root::of_this_machine(), &NoFaults)
            }
            Part::Disk => disk::run(limit, &args.dir, expected, &NoFaults),
            Part::Network => match &args.peer {
                Some(peer) => network::run(limit, peer, expected, *faults),
                None => {
                    network::without_peer("no peer: name one with --peer, and run --serve there")
                }
            },
            Part::Gpu => {
                gpu::run(limit, &GpuSource::new(args.cuda.clone(), args.cublas.clone()), expected)
            }
        }
    }
}

fn read_key(path: &Path) -> Result<Key, Failure> {
    let hint = "make one: head -c 32 /dev/urandom > KEY; chmod 600 KEY";
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::bad_input(format!("{}: {error}", path.display()), hint))?;
    let of_no_use = |why| Failure::bad_input(format!("{} is no key: {why}", path.display()), hint);
    Key::new(bytes).map_err(of_no_use)
}

fn check_writable(out: &Path) -> Result<(), Failure> {
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if out.is_dir() || !folder.is_dir() {
        let message = format!("no report can be written to {}", out.display());
        return Err(Failure::bad_input(message, "name a file in a folder that is there"));
    }
    Ok(())
}

fn tell(args: &RunArgs, sealed: &Sealed) -> Result<(), Failure> {
    if let Some(out) = &args.out {
        let json = serde_json::to_string_pretty(sealed).expect("our types have string keys");
        if let Err(error) = std::fs::write(out, json + "\n") {
            output::message(format!("error: {}: {error}", out.display()));
            // Hours have gone into it: here it is at least.
            output::json(sealed)?;
            return Err(Failure::silent(Exit::Failed));
        }
    }
    if args.json {
        output::json(sealed)?;
    } else {
        output::data(&text::report(&sealed.report, output::width()))?;
    }
    if let Some(out) = &args.out {
        let signed = match &sealed.signature {
            Some(signature) => format!("signed with key {}", signature.key_id),
            None => "not signed (--key)".to_string(),
        };
        output::message(format!("the report is in {}, {signed}", out.display()));
    }
    judge(&sealed.report)
}

fn judge(report: &BurninReport) -> Result<(), Failure> {
    let failed: Vec<&str> = report
        .tests
        .iter()
        .filter(|test| test.verdict == Verdict::Fail)
        .map(|test| test.name.as_str())
        .collect();
    match report.verdict {
        Verdict::Fail => Err(Failure::new(
            Exit::Failed,
            format!("the burn-in failed: {}", failed.join(", ")),
            "run it again with --only; docs/burnin.md says what each test means",
        )),
        Verdict::Skipped => Err(Failure::new(
            Exit::Failed,
            "nothing was tested: every test was skipped",
            "the report has the reason of each",
        )),
        _ => Ok(()),
    }
}

fn serve(address: SocketAddr) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let hint = "name an address of this machine and a port that is free";
        Failure::bad_input(format!("no peer can connect to {address}: {error}"), hint)
    };
    let server = Server::bind(address).map_err(failed)?;
    let address = server.address().map_err(failed)?;
    output::data(&format!("the other end of a burn-in, on {address}\n"))?;
    if !address.ip().is_loopback() {
        output::message("whoever reaches this address can keep this node busy: stop it afterwards");
    }
    let error = server.run(&NoFaults, &|words| output::message(words));
    Err(Failure::new(
        Exit::Failed,
        format!("no more connections are taken: {error}"),
        "check the limits of open files (ulimit -n)",
    ))
}
