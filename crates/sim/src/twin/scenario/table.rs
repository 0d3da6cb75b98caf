//! The file as a person writes it. What the keys mean: `docs/twin.md`.

use super::amount::Amount;
use crate::twin::work::{Every, HANG_SHOWS};
use lindos_model::job::{HumanSpan, parse_span};
use lindos_model::{Level, Millis, Policy};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioTable {
    /// The question, and how to ask it.
    pub about: String,
    pub until: HumanSpan,
    #[serde(default = "first_seed")]
    pub seed: u64,
    pub fleet: FleetTable,
    pub faults: FaultsTable,
    #[serde(default)]
    pub outages: Vec<OutageTable>,
    #[serde(default)]
    pub delays: DelaysTable,
    #[serde(default)]
    pub policy: Policy,
    pub prices: Option<PricesTable>,
    pub jobs: Vec<JobsTable>,
}

fn first_seed() -> u64 {
    1
}

/// Either `name`, or `nodes` and `gpus` with the shape of the network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetTable {
    /// A ready-made fleet, or the path of a fleet file.
    pub name: Option<String>,
    pub nodes: Option<u32>,
    /// Of each node.
    pub gpus: Option<u16>,
    pub platform: Option<String>,
    pub nodes_per_rack: Option<u32>,
    pub racks_per_leaf: Option<u32>,
    pub leaves_per_spine: Option<u32>,
    pub racks_per_pdu: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultsTable {
    /// A ready-made profile, or the path of one.
    pub profile: String,
    /// Times the rate of every cause.
    #[serde(default = "one")]
    pub scale: f64,
    /// Times every repair.
    #[serde(default = "one")]
    pub repair_scale: f64,
    /// Times how long until a check knows.
    #[serde(default = "one")]
    pub detect_scale: f64,
    /// By name, on top of those above.
    #[serde(default)]
    pub causes: BTreeMap<String, CauseTable>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CauseTable {
    #[serde(default = "one")]
    pub scale: f64,
    #[serde(default = "one")]
    pub repair_scale: f64,
    #[serde(default = "one")]
    pub detect_scale: f64,
}

fn one() -> f64 {
    1.0
}

/// Something that is known to go out, and when.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageTable {
    pub name: String,
    pub at: HumanSpan,
    /// Again and again.
    pub every: Option<HumanSpan>,
    pub lasts: HumanSpan,
    /// Feeds, UPSes and PDUs: all nodes below them are off.
    pub power: Vec<String>,
}

/// How long what Lindos does takes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DelaysTable {
    pub launch: HumanSpan,
    pub stop: HumanSpan,
    pub fence: HumanSpan,
}

impl Default for DelaysTable {
    fn default() -> Self {
        let crate::twin::Delays { launch, stop, fence } = crate::twin::Delays::default();
        DelaysTable { launch: HumanSpan(launch), stop: HumanSpan(stop), fence: HumanSpan(fence) }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PricesTable {
    pub gpu_hour: f64,
    #[serde(default = "usd")]
    pub currency: String,
}

fn usd() -> String {
    "USD".to_string()
}

/// One job, or `count` of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsTable {
    pub name: String,
    pub at: Option<HumanSpan>,
    pub count: Option<u32>,
    /// They come within so long after `at`, each moment as likely.
    pub spread: Option<HumanSpan>,
    /// Either this …
    pub nodes: Option<Amount<u32>>,
    /// … or so much of the fleet.
    pub share: Option<f64>,
    pub gpus_per_node: Option<Amount<u16>>,
    pub replicas: Option<u32>,
    pub min_replicas: Option<u32>,
    /// Default: the warm ones.
    pub spares: Option<u32>,
    #[serde(default)]
    pub warm_spares: u32,
    #[serde(default)]
    pub warm_restarts: bool,
    #[serde(default)]
    pub within: Level,
    pub segment: Option<u32>,
    #[serde(default)]
    pub platforms: Vec<String>,
    #[serde(default)]
    pub team: String,
    #[serde(default)]
    pub class: String,
    #[serde(default)]
    pub priority: i32,
    pub time_limit: Option<HumanSpan>,
    /// Either this, or `days`; without both it goes on for ever.
    pub steps: Option<Amount<u64>>,
    /// Of work, without faults, stops and checkpoints.
    pub days: Option<Amount<f64>>,
    #[serde(default = "ten_seconds")]
    pub step: HumanSpan,
    #[serde(default = "two_minutes")]
    pub startup: HumanSpan,
    /// What is left of `startup` where all ranks have waited for theirs. Given: the program can.
    pub startup_warm: Option<HumanSpan>,
    #[serde(default = "nothing")]
    pub startup_per_doubling: HumanSpan,
    #[serde(default = "one_minute")]
    pub restore: HumanSpan,
    #[serde(default = "half_a_minute")]
    pub join: HumanSpan,
    #[serde(default = "two_seconds")]
    pub regroup: HumanSpan,
    /// Of its hangs, the part in which a look at the ranks shows who stands still.
    #[serde(default = "hang_shows")]
    pub hang_shows: f64,
    pub checkpoint: CheckpointTable,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointTable {
    #[serde(deserialize_with = "every")]
    pub every: Every,
    #[serde(default = "ten_seconds")]
    pub blocks: HumanSpan,
    #[serde(default = "one_minute")]
    pub durable_after: HumanSpan,
}

const fn seconds(seconds: u64) -> HumanSpan {
    HumanSpan(Millis::from_secs(seconds))
}

fn nothing() -> HumanSpan {
    seconds(0)
}

fn two_seconds() -> HumanSpan {
    seconds(2)
}

fn ten_seconds() -> HumanSpan {
    seconds(10)
}

fn hang_shows() -> f64 {
    HANG_SHOWS
}

fn half_a_minute() -> HumanSpan {
    seconds(30)
}

fn one_minute() -> HumanSpan {
    seconds(60)
}

fn two_minutes() -> HumanSpan {
    seconds(120)
}

fn every<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Every, D::Error> {
    struct SpanOrSteps;
    impl Visitor<'_> for SpanOrSteps {
        type Value = Every;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a span of time such as \"20m\", a number of steps, \"auto\" or \"never\"")
        }

        fn visit_i64<E: Error>(self, steps: i64) -> Result<Every, E> {
            match u64::try_from(steps) {
                Ok(steps @ 1..) => Ok(Every::Steps(steps)),
                _ => Err(E::custom("a checkpoint comes after one step or more")),
            }
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Every, E> {
            match text {
                "never" => return Ok(Every::Never),
                "auto" => return Ok(Every::Advised),
                _ => {}
            }
            let span = parse_span(text)
                .map_err(|message| E::custom(format!("{message}, nor \"auto\", nor \"never\"")))?;
            if span == Millis::ZERO {
                return Err(E::custom("a checkpoint comes after some time: or \"never\""));
            }
            Ok(Every::Span(span))
        }
    }
    deserializer.deserialize_any(SpanOrSteps)
}
