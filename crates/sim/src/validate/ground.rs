//! What the cases stand on: fleets, profiles of one cause, and the one large job.

use crate::reliability::{FaultPlan, Profile, ready};
use crate::twin::work::{Checkpoints, Every};
use crate::twin::{Delays, Joined, Setup, TwinJob, Work};
use lindos_model::fleet::{NodeGroup, expand};
use lindos_model::policy::Repair;
use lindos_model::{Millis, NodeSpec, Policy, Time, job};
use std::path::Path;
use std::sync::Arc;

pub const GPUS_PER_NODE: u16 = 8;
pub const DAY_S: f64 = 86_400.0;
/// Of work without an end.
const STEPS_ENDLESS: u64 = u64::MAX / 4_000_000;

pub fn nodes(count: u32) -> Vec<NodeSpec> {
    let group = NodeGroup {
        name: "n".to_string(),
        count,
        gpus: GPUS_PER_NODE,
        platform: "generic".to_string(),
        address: "127.0.0.1".to_string(),
        site: String::new(),
        nodes_per_rack: Some(4),
        racks_per_leaf: Some(8),
        leaves_per_spine: Some(16),
    };
    expand(&[group]).expect("the group is a right one")
}

pub fn seconds(span: f64) -> Millis {
    Millis((span * 1000.0).round() as u64)
}

pub fn days(days: u32) -> Millis {
    Millis(u64::from(days) * 86_400_000)
}

/// Nodes that fail `rate` times a day each, all for one reason: a rank crashes, a check sees it at
/// once, and it is mended as `repair` (the TOML of a rule without its chance) says.
pub fn one_cause(rate: f64, repair: &str) -> Profile {
    let per_1000_days = rate * 1000.0;
    let text = format!(
        r#"
        about = "one cause"
        [[causes]]
        name = "fault"
        per = "node"
        rate = {per_1000_days}
        effect = {{ crash = {{ signal = 9 }} }}
        detect = "at_once"
        repair = "only"
        source = "the figure that is checked"
        [[detections]]
        name = "at_once"
        after = {{ fixed = "0s" }}
        seen = 1.0
        source = "the formula that is checked"
        [[repairs]]
        name = "only"
        by = [{{ {repair}, chance = 1.0 }}]
        source = "the formula that is checked"
        "#
    );
    Profile::parse(Path::new("one-cause.toml"), &text)
        .unwrap_or_else(|error| panic!("a rate of {rate} and {repair} make a profile: {error}"))
}

/// Nothing is broken but the run.
pub const RESTART_ONLY: &str = r#"kind = "process_restart""#;

/// A job that trains for ever, and saves after each `interval` of training.
pub fn endless(step: Millis, interval: Millis, blocks: Millis, startup: Millis) -> Work {
    let checkpoints =
        Checkpoints { every: Every::Span(interval), blocks, durable_after: Millis::ZERO };
    Work { startup, checkpoints, ..Work::of(STEPS_ENDLESS, step) }
}

/// One job on so many whole nodes, from the beginning, restarted whatever happens.
pub fn one_job(nodes: u32, work: Work) -> TwinJob {
    let mut spec = job::sample("big", nodes, GPUS_PER_NODE);
    spec.retry_infrastructure = 1_000_000_000;
    spec.retry_user = 1_000_000_000;
    TwinJob {
        at: Time::ZERO,
        spec: Arc::new(spec),
        work,
        tells_steps: true,
        tells_saves: true,
        fails: None,
    }
}

/// A fleet, and how it is run.
#[derive(Clone, Debug)]
pub struct Stage {
    pub nodes: Vec<NodeSpec>,
    pub policy: Policy,
    pub delays: Delays,
}

impl Stage {
    /// Nothing that Lindos itself does takes time, an attempt that failed is followed by the next one at
    /// once, and no node is out for the faults of its jobs: a formula knows only what it names.
    pub fn without_delays(nodes: u32) -> Stage {
        let repair = Repair { strikes_max: 0, ..Repair::default() };
        let policy = Policy { backoff_base_ms: 0, repair, ..Policy::default() };
        let delays = Delays { launch: Millis::ZERO, stop: Millis::ZERO, fence: Millis::ZERO };
        Stage { nodes: self::nodes(nodes), policy, delays }
    }

    /// As Lindos comes.
    pub fn usual(nodes: u32) -> Stage {
        let (policy, delays) = (Policy::default(), Delays::default());
        Stage { nodes: self::nodes(nodes), policy, delays }
    }

    /// No guardrail, no breaker and no burn-in: a formula for nodes that are out knows none.
    pub fn with_every_node_out_that_is_broken(mut self) -> Stage {
        self.policy.repair = Repair {
            rack_out_max_percent: 100,
            leaf_out_max_percent: 100,
            platform_out_max_percent: 100,
            fleet_out_max_percent: 100,
            breaker_nodes: u32::MAX,
            burn_in_ms: 0,
            ..self.policy.repair
        };
        self
    }

    pub fn joined(&self) -> Joined {
        let nothing = ready::load("none").expect("it ships").expect("what ships is right");
        let no_faults = self.plan(&nothing, 0, Time::ZERO);
        Joined::new(&self.setup(Vec::new(), no_faults, Time::ZERO))
    }

    pub fn plan(&self, profile: &Profile, seed: u64, until: Time) -> FaultPlan {
        FaultPlan::new(profile, &self.nodes, seed, Time::ZERO, until)
            .expect("the rates and spans of the cases are bounded")
    }

    pub fn setup(&self, jobs: Vec<TwinJob>, faults: FaultPlan, until: Time) -> Setup {
        Setup {
            nodes: self.nodes.clone(),
            policy: self.policy.clone(),
            jobs,
            faults,
            delays: self.delays,
            until,
            script: None,
            check_every: 0,
        }
    }
}

/// `16,384`.
pub fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
