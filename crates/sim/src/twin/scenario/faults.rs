//! The profile of a scenario with its scales, and the outages that are known to come.

use super::fleet::Grounds;
use super::{CauseTable, FaultsTable, Files, FleetScenario, Invalid, OutageTable};
use crate::reliability::profile::RepairRule;
use crate::reliability::{
    Cause, Delay, EffectRule, FaultPlan, Hazard, Profile, RepairKind, Shape, Target, Unit, ready,
};
use lindos_model::file::nearest;
use lindos_model::{Millis, NodeId, Time};
use std::path::Path;

/// How often one outage may come.
const TIMES_MAX: u64 = 100_000;

pub(super) fn profile(table: &FaultsTable, files: Files) -> Result<Profile, Invalid> {
    let mut profile = load(&table.profile, files)?;
    let all = CauseTable {
        scale: table.scale,
        repair_scale: table.repair_scale,
        detect_scale: table.detect_scale,
    };
    check("faults", &all)?;
    for cause in &mut profile.causes {
        scale(cause, &all);
    }
    for (name, scales) in &table.causes {
        let key = format!("faults.causes.{name}");
        check(&key, scales)?;
        let Some(index) = profile.cause(name) else {
            let known = profile.causes.iter().map(|cause| cause.name.as_str());
            let hint = match nearest(name, known) {
                Some(best) => format!("did you mean `{best}`?"),
                None => format!("`{}` says which it has", table.profile),
            };
            let message = format!("`{}` has no cause `{name}`", table.profile);
            return Err(Invalid::new(&key, message).hint(hint));
        };
        scale(&mut profile.causes[index], scales);
    }
    Ok(profile)
}

fn load(name: &str, files: Files) -> Result<Profile, Invalid> {
    let invalid = |message: String| Invalid::new("faults.profile", message);
    if let Some(loaded) = ready::load(name) {
        return loaded.map_err(|error| invalid(error.to_string()));
    }
    let text = files(name).map_err(|error| {
        let known: Vec<&str> = ready::ALL.iter().map(|(known, _)| *known).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(best) => format!("did you mean the ready-made profile `{best}`?"),
            None => format!("a profile's file, or one of {}", known.join(", ")),
        };
        invalid(format!("{name}: {error}")).hint(hint)
    })?;
    Profile::parse(Path::new(name), &text).map_err(|error| invalid(error.to_string()))
}

fn check(key: &str, scales: &CauseTable) -> Result<(), Invalid> {
    let bad = |name: &str, must: &str| Err(Invalid::new(&format!("{key}.{name}"), must));
    if !(scales.scale >= 0.0 && scales.scale.is_finite()) {
        return bad("scale", "a rate is multiplied by 0 or more");
    }
    for (name, value) in
        [("repair_scale", scales.repair_scale), ("detect_scale", scales.detect_scale)]
    {
        if !(value > 0.0 && value.is_finite()) {
            return bad(name, "a time is multiplied by more than 0");
        }
    }
    Ok(())
}

fn scale(cause: &mut Cause, scales: &CauseTable) {
    cause.hazard = cause.hazard.scaled(scales.scale);
    for rule in &mut cause.repair {
        rule.takes = rule.takes.times(scales.repair_scale);
    }
    if let Some(detect) = &mut cause.detect {
        detect.after = detect.after.times(scales.detect_scale);
    }
}

/// Each outage is a cause of its own, which chance draws no fault of.
pub(super) fn add_outages(
    outages: &[OutageTable],
    grounds: &Grounds,
    profile: &mut Profile,
) -> Result<(), Invalid> {
    for (index, outage) in outages.iter().enumerate() {
        let invalid =
            |message: String| Invalid::new("outages", format!("{}: {message}", outage.name));
        if profile.cause(&outage.name).is_some() {
            let error = invalid("there is a cause or an outage of this name".to_string());
            return Err(error.of_entry(index));
        }
        if outage.every.is_some_and(|every| every.0 <= outage.lasts.0) {
            let error = invalid("it begins again before it is over".to_string());
            return Err(error.of_entry(index));
        }
        for name in &outage.power {
            if grounds.pdus_of(name).is_empty() {
                let error = invalid(format!("no PDU is called `{name}`, or hangs on it"));
                let hint = match grounds.power_like(name) {
                    Some(like) => format!("such as `{like}`; `lindos fleet show` draws the tree"),
                    None => "the fleet says nothing of power: set `racks_per_pdu`".to_string(),
                };
                return Err(error.hint(hint).of_entry(index));
            }
        }
        profile.causes.push(cause(outage));
    }
    Ok(())
}

fn cause(outage: &OutageTable) -> Cause {
    let source = "the scenario".to_string();
    Cause {
        name: outage.name.clone(),
        source: source.clone(),
        per: Unit::Pdu,
        reach: Unit::Pdu,
        hazard: Hazard { per_day: 0.0, shape: Shape::Constant, age_days: 0.0 },
        effect: EffectRule::NodeDown,
        detect: None,
        repair: vec![RepairRule {
            kind: RepairKind::Technician,
            chance: 1.0,
            takes: Delay::Fixed(outage.lasts),
            source,
        }],
        recurs: None,
    }
}

impl FleetScenario {
    pub(super) fn add_outages_to(&self, plan: &mut FaultPlan) {
        for outage in &self.table.outages {
            let cause = self.profile.cause(&outage.name).expect("it was added to the profile");
            let targets = self.targets(outage, plan);
            let known: Vec<(Time, Target)> = moments(outage, self.until())
                .flat_map(|at| targets.iter().map(move |target| (at, *target)))
                .collect();
            plan.add_known(cause, known);
        }
    }

    fn targets(&self, outage: &OutageTable, plan: &FaultPlan) -> Vec<Target> {
        let pdus: std::collections::BTreeSet<(&str, &str)> =
            outage.power.iter().flat_map(|name| self.grounds.pdus_of(name)).collect();
        let mut targets = Vec::new();
        for (index, node) in self.grounds.nodes.iter().enumerate() {
            let at = (node.location.site.as_str(), node.location.pdu.as_str());
            if pdus.contains(&at) {
                targets.extend(plan.group_of(Unit::Pdu, NodeId(index as u32)));
            }
        }
        targets.sort_unstable();
        targets.dedup();
        targets
    }
}

fn moments(outage: &OutageTable, until: Time) -> impl Iterator<Item = Time> {
    let first = Time::ZERO + outage.at.0;
    let (every, times) = outage.every.map_or((Millis::ZERO, 1), |every| (every.0, TIMES_MAX));
    (0..times).map(move |index| first + every.times(index)).take_while(move |&at| at < until)
}
