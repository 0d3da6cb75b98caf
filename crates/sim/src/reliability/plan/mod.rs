//! The faults of a span of time, drawn from a profile, a fleet and a seed.
//!
//! **Common random numbers.** Two plans of one seed differ only where their profiles do. Each
//! cause has its own streams of chance, one for each purpose, by its name; the draws about one
//! fault stand at a place of their own in them. And a cause whose rate is raised keeps every fault
//! that it had and gets some more, for its faults are drawn in the order of the rate from which on
//! they are there (`points`). So a comparison of two profiles, or of two policies under one, sees
//! the difference and not the luck.
//!
//! **Cost.** The fleet's faults of a cause are drawn as one process and each then finds its unit, so
//! a plan costs as much as it has faults (and those that lemons, bad lots and age thin out), and one
//! pass over the nodes; never nodes times days.

mod ground;
mod known;
mod points;

use super::chance::Chance;
use super::profile::{Cause, EffectRule, Profile, RepairKind};
use super::unit::Unit;
use ground::Ground;
use lindos_model::{Exit, Millis, NodeId, NodeSpec, Time};
use points::Points;
use std::fmt;

/// Faults that may have to be drawn for one plan, thinned out or not.
pub const DRAWN_MAX: f64 = 20e6;
/// Days that one plan may be for: a century.
pub const DAYS_MAX: u64 = 36_525;
/// How often one fault may come again; a chance of 0.9 gets there one time in five.
const AGAIN_MAX: u8 = 15;

/// One fault: everything that chance has a say in is settled here.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFault {
    /// When it strikes; for maintenance, when it is announced.
    pub at: Time,
    /// Index in [`Profile::causes`].
    pub cause: u16,
    /// All that fails.
    pub target: Target,
    pub effect: Effect,
    /// From `at` until a check knows of it and of the unit to blame. `None`: no check ever does.
    pub seen_after: Option<Millis>,
    /// What mends it, and how long that takes from the moment at which it is begun.
    pub repair: Option<PlannedRepair>,
    /// It comes again so long after its repair is over: see [`FaultPlan::again`].
    pub again_after: Option<Millis>,
    /// Tells it from every other fault of its cause.
    pub key: FaultKey,
}

/// Where in its cause's streams a fault's draws stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultKey {
    day: u32,
    index: u32,
    /// How many times it has come again.
    again: u8,
}

impl FaultKey {
    fn place(self) -> u64 {
        assert!(self.day < 1 << 28 && self.again < 16, "a place for every fault: {self:?}");
        u64::from(self.day) << 36 | u64::from(self.index) << 4 | u64::from(self.again)
    }

    /// How many times it has come again after a repair.
    pub fn times_again(self) -> u8 {
        self.again
    }
}

/// Node ids are places in the list of nodes that the plan was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Gpu {
        node: NodeId,
        gpu: u16,
    },
    /// A rail of a node.
    Link {
        node: NodeId,
        rail: u16,
    },
    Node(NodeId),
    /// All nodes of a rack, leaf, PDU, spine or site: [`FaultPlan::nodes`].
    Group {
        kind: Unit,
        group: u32,
    },
}

/// What a job on it sees.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A rank ends so.
    Crash(Exit),
    /// The node is gone, agent, ranks and all, until it is mended.
    NodeDown,
    /// The ranks live and get no further.
    Hang,
    /// Each step takes `factor` times as long, until it is mended or, after `lasts`, goes away.
    Slow { factor: f64, lasts: Option<Millis> },
    /// Results are wrong from now on, and nothing says so.
    Corrupt,
    /// Whoever talks over it waits for so long; then all is well.
    LinkFlap { pause: Millis },
    /// The node is to be empty `notice` after it was announced, and is then out for so long.
    Maintenance { notice: Millis, takes: Millis },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRepair {
    pub kind: RepairKind,
    pub takes: Millis,
}

/// The faults of a span of time, in order.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    profile: Profile,
    seed: u64,
    ground: Ground,
    faults: Vec<PlannedFault>,
    expected: Vec<f64>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanError {
    /// So many faults would have to be drawn.
    TooMany { cause: String, drawn: f64 },
    /// It would be for so many days.
    TooLong { days: u64 },
}

impl std::error::Error for PlanError {}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::TooMany { cause, drawn } => write!(
                f,
                "{drawn:.0} faults would have to be drawn for `{cause}` and the causes before it; \
                 a plan draws at most {DRAWN_MAX:.0}\n\
                 hint: lower its rate or the factors of lemons and lots, or plan a shorter time"
            ),
            PlanError::TooLong { days } => write!(
                f,
                "a plan of faults for {days} days; at most {DAYS_MAX}\n\
                 hint: plan a shorter time: the faults of a longer one begin with the same"
            ),
        }
    }
}

impl FaultPlan {
    /// The faults from `from` to before `to`; the fleet has the profile's age at `from`. A plan that
    /// goes further begins with the same faults.
    pub fn new(
        profile: &Profile,
        nodes: &[NodeSpec],
        seed: u64,
        from: Time,
        to: Time,
    ) -> Result<FaultPlan, PlanError> {
        let ground = Ground::new(profile, nodes, seed);
        let span = to.since(from);
        let days = points::days(span);
        if days > DAYS_MAX {
            return Err(PlanError::TooLong { days });
        }
        let mut drawn = 0.0;
        let mut expected = Vec::with_capacity(profile.causes.len());
        let mut all_points = Vec::with_capacity(profile.causes.len());
        for (index, cause) in profile.causes.iter().enumerate() {
            let points = Points::new(cause, ground.weights(index), span);
            drawn += points.drawn();
            if drawn > DRAWN_MAX {
                return Err(PlanError::TooMany { cause: cause.name.clone(), drawn });
            }
            expected.push(points.expected());
            all_points.push(points);
        }
        let mut faults = Vec::with_capacity(expected.iter().sum::<f64>() as usize + 16);
        for (index, points) in all_points.iter().enumerate() {
            let cause = &profile.causes[index];
            let mut fates = Fates::new(seed, cause);
            points.each(seed, &ground, index, |after, unit, key| {
                let target = ground.target(cause.per, cause.reach, unit);
                faults.push(fates.fault(cause, index as u16, from + after, target, key));
            });
        }
        faults.sort_unstable_by_key(|fault| (fault.at, fault.cause, fault.key));
        Ok(FaultPlan { profile: profile.clone(), seed, ground, faults, expected })
    }

    /// In the order of time.
    pub fn faults(&self) -> &[PlannedFault] {
        &self.faults
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    pub fn cause(&self, fault: &PlannedFault) -> &Cause {
        &self.profile.causes[usize::from(fault.cause)]
    }

    /// The fault that comes because `fault` was not really mended, when its repair is over now.
    pub fn again(&self, fault: &PlannedFault, mended_at: Time) -> Option<PlannedFault> {
        let after = fault.again_after?;
        let cause = self.cause(fault);
        let key = FaultKey { again: fault.key.again + 1, ..fault.key };
        let mut fates = Fates::new(self.seed, cause);
        Some(fates.fault(cause, fault.cause, mended_at + after, fault.target, key))
    }

    /// All nodes that fail with the target, ascending.
    pub fn nodes<'t>(&'t self, target: &'t Target) -> &'t [NodeId] {
        match target {
            Target::Gpu { node, .. } | Target::Link { node, .. } | Target::Node(node) => {
                std::slice::from_ref(node)
            }
            Target::Group { kind, group } => self.ground.groups(*kind).nodes(*group),
        }
    }

    /// `n7 gpu 3`, `rack r-0004`; `nodes` is the list that the plan was made for.
    pub fn name_of(&self, target: &Target, nodes: &[NodeSpec]) -> String {
        let name = |node: &NodeId| nodes[node.0 as usize].name.as_str();
        match target {
            Target::Gpu { node, gpu } => format!("{} gpu {gpu}", name(node)),
            Target::Link { node, rail } => format!("{} rail {rail}", name(node)),
            Target::Node(node) => name(node).to_string(),
            Target::Group { kind, group } => {
                format!("{kind} {}", self.ground.groups(*kind).names[*group as usize])
            }
        }
    }

    /// How many faults of a cause are to be expected in such a span of time on this fleet; the plan
    /// has about as many, by chance.
    pub fn expected(&self, cause: usize) -> f64 {
        self.expected[cause]
    }

    /// Causes that can have no fault here, as the fleet says nothing of what has their rate: a
    /// fleet without PDUs has no fault of a PDU.
    pub fn causes_without_units(&self) -> Vec<usize> {
        let causes = 0..self.profile.causes.len();
        causes.filter(|&cause| self.ground.weights(cause).is_empty()).collect()
    }

    pub fn is_lemon(&self, node: NodeId) -> bool {
        self.ground.is_lemon(node)
    }

    /// Whether the node is of the profile's lot of this index.
    pub fn is_of_lot(&self, node: NodeId, lot: usize) -> bool {
        self.ground.is_of_lot(node, lot)
    }
}

/// What becomes of the faults of one cause: a stream for each question.
struct Fates {
    effect: Chance,
    detect: Chance,
    repair: Chance,
    again: Chance,
}

impl Fates {
    fn new(seed: u64, cause: &Cause) -> Fates {
        let stream = |purpose: &str| Chance::new(seed, &format!("{}: {purpose}", cause.name));
        Fates {
            effect: stream("effect"),
            detect: stream("detect"),
            repair: stream("repair"),
            again: stream("again"),
        }
    }

    fn fault(
        &mut self,
        cause: &Cause,
        index: u16,
        at: Time,
        target: Target,
        key: FaultKey,
    ) -> PlannedFault {
        PlannedFault {
            at,
            cause: index,
            target,
            effect: self.effect(&cause.effect, key),
            seen_after: self.seen_after(cause, key),
            repair: self.repair(cause, key),
            again_after: self.again_after(cause, key),
            key,
        }
    }

    fn effect(&mut self, rule: &EffectRule, key: FaultKey) -> Effect {
        let chance = &mut self.effect;
        match rule {
            EffectRule::Crash(exit) => Effect::Crash(exit.clone()),
            EffectRule::NodeDown => Effect::NodeDown,
            EffectRule::Hang => Effect::Hang,
            EffectRule::Corrupt => Effect::Corrupt,
            EffectRule::Slow { factor: [low, high], lasts } => {
                chance.go_to(key.place());
                let factor = low + (high - low) * chance.unit();
                Effect::Slow { factor, lasts: lasts.map(|lasts| lasts.draw(chance)) }
            }
            EffectRule::LinkFlap { pause } => {
                chance.go_to(key.place());
                Effect::LinkFlap { pause: pause.draw(chance) }
            }
            EffectRule::Maintenance { notice, takes } => {
                chance.go_to(key.place());
                Effect::Maintenance { notice: *notice, takes: takes.draw(chance) }
            }
        }
    }

    fn seen_after(&mut self, cause: &Cause, key: FaultKey) -> Option<Millis> {
        let Some(detect) = &cause.detect else { return Some(Millis::ZERO) };
        self.detect.go_to(key.place());
        let is_seen = self.detect.unit() < detect.seen;
        is_seen.then(|| detect.after.draw(&mut self.detect))
    }

    fn repair(&mut self, cause: &Cause, key: FaultKey) -> Option<PlannedRepair> {
        let last = cause.repair.last()?;
        self.repair.go_to(key.place());
        let mut left = self.repair.unit();
        let rule = cause.repair.iter().find(|rule| {
            left -= rule.chance;
            left < 0.0
        });
        // Chances add up to 1 but for a rounding.
        let rule = rule.unwrap_or(last);
        Some(PlannedRepair { kind: rule.kind, takes: rule.takes.draw(&mut self.repair) })
    }

    fn again_after(&mut self, cause: &Cause, key: FaultKey) -> Option<Millis> {
        let recurs = cause.recurs.filter(|_| key.again + 1 < AGAIN_MAX)?;
        self.again.go_to(key.place());
        let comes = self.again.unit() < recurs.chance;
        let after = Millis((recurs.within.0 as f64 * self.again.unit()) as u64);
        comes.then_some(after)
    }
}
