//! `lindos bench health`: how many nodes a second the core takes out of service, and how that grows with
//! the fleet.

use super::report;
use super::schedule::ThisMachine;
use crate::failure::Failure;
use crate::output;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_sim::bench::{HealthMeasures, health as measure};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// The fleets that are compared.
const SIZES: [u32; 3] = [1_000, 25_000, 125_000];
/// So many nodes are taken out and back, at least, and in no fewer waves than that.
const CORDONS: u64 = 20_000;
const CORDONS_QUICK: u64 = 1_000;
const WAVES_MIN: u32 = 5;
const FIGURES: [(&str, &str, &str); 6] = [
    ("cordons_per_s", "nodes taken out", "/s"),
    ("cordon_idle_us", "  an idle one", "us"),
    ("cordon_busy_us", "  one with jobs", "us"),
    ("leave_us", "  its jobs leave", "us"),
    ("mend_us", "  mended and back", "us"),
    ("round_trips_per_s", "out and back", "/s"),
];

#[derive(Args, Debug)]
pub struct HealthBenchArgs {
    /// One fleet of so many nodes of eight GPUs [default: 1,000, 25,000 and 125,000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    nodes: Option<u32>,
    /// Fewer nodes taken out: for a look, not for a quotation
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

pub fn health(args: &HealthBenchArgs) -> Result<(), Failure> {
    let sizes = args.nodes.map_or(SIZES.to_vec(), |nodes| vec![nodes]);
    let all: Vec<Value> =
        sizes.into_iter().map(|nodes| fleet(nodes, args.quick)).collect::<Result<_, _>>()?;
    match (args.json, args.nodes) {
        (true, Some(_)) => output::json(&all[0]),
        (true, None) => output::json(&all),
        (false, _) => output::data(&report::side_by_side(&all, ("nodes", "nodes"), &FIGURES)),
    }
}

fn fleet(nodes: u32, quick: bool) -> Result<Value, Failure> {
    let wanted = if quick { CORDONS_QUICK } else { CORDONS };
    let waves = (wanted / (u64::from(nodes) / 50).max(1)) as u32;
    let bar =
        if output::stderr_is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg} {bar:30} {elapsed}");
    bar.set_style(style.expect("the template is right"));
    bar.set_message(format!("{nodes} nodes:"));
    let machine = ThisMachine(Instant::now());
    let measures = measure(nodes, waves.max(WAVES_MIN), &machine, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    measures.map(|measures| object(&measures)).map_err(|failed| {
        Failure::bad_input(
            format!("--nodes {nodes}: {failed}"),
            "a fleet of the bench has 100 to 1,000,000 nodes",
        )
    })
}

fn object(measures: &HealthMeasures) -> Value {
    let mut object = Map::new();
    object.insert("nodes".into(), json!(measures.nodes));
    object.insert("occupancy".into(), json!(report::rounded(measures.occupancy)));
    object.insert("cordons".into(), json!(measures.cordons));
    object.insert("cordons_with_jobs".into(), json!(measures.busy));
    report::put_figures(&mut object, &measures.figures);
    Value::Object(object)
}
