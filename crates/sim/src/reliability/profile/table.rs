//! The file as a person writes it. What the keys mean: `docs/fault-profile.md`.

use crate::reliability::delay::Delay;
use crate::reliability::profile::RepairKind;
use crate::reliability::unit::Unit;
use lindos_model::Exit;
use lindos_model::job::HumanSpan;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileTable {
    pub about: String,
    #[serde(default)]
    pub notes: Vec<String>,
    pub age: Option<HumanSpan>,
    pub total: Option<TotalTable>,
    pub lemons: Option<LemonsTable>,
    #[serde(default)]
    pub lots: Vec<LotTable>,
    #[serde(default)]
    pub detections: Vec<DetectionTable>,
    #[serde(default)]
    pub repairs: Vec<RepairTable>,
    #[serde(default)]
    pub causes: Vec<CauseTable>,
}

/// The rate of all causes together, per node, of which causes take their share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotalTable {
    pub rate: Option<f64>,
    pub mtbf: Option<HumanSpan>,
    pub observed: Option<ObservedTable>,
    pub gpus_per_node: u16,
    pub rails_per_node: Option<u16>,
    pub source: String,
}

/// Events that were counted on so many units over so long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedTable {
    pub events: f64,
    pub units: f64,
    pub over: HumanSpan,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LemonsTable {
    pub share: f64,
    pub factor: f64,
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LotTable {
    pub name: String,
    pub share: f64,
    pub factor: f64,
    pub by: Option<Unit>,
    pub causes: Vec<String>,
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionTable {
    pub name: String,
    pub after: Delay,
    pub seen: f64,
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairTable {
    pub name: String,
    pub by: Vec<RepairRuleTable>,
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairRuleTable {
    pub kind: RepairKind,
    pub chance: f64,
    pub takes: Option<Delay>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CauseTable {
    pub name: String,
    pub source: String,
    pub per: Unit,
    pub reach: Option<Unit>,
    pub rate: Option<f64>,
    pub mtbf: Option<HumanSpan>,
    pub observed: Option<ObservedTable>,
    pub share: Option<f64>,
    #[serde(default)]
    pub shape: ShapeTable,
    pub age: Option<HumanSpan>,
    pub effect: EffectTable,
    pub detect: Option<String>,
    pub repair: Option<String>,
    pub recurs: Option<RecursTable>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ShapeTable {
    #[default]
    Constant,
    Infant {
        factor: f64,
        time_constant: HumanSpan,
    },
    Wear {
        k: f64,
        life: HumanSpan,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EffectTable {
    Crash(Exit),
    NodeDown,
    Hang,
    Slow { factor: [f64; 2], lasts: Option<Delay> },
    Corrupt,
    LinkFlap { pause: Delay },
    Maintenance { notice: HumanSpan, takes: Delay },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecursTable {
    pub chance: f64,
    pub within: HumanSpan,
}
