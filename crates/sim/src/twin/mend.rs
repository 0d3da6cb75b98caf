//! How nodes are mended: what a check finds the core hears, and what the core orders is done.
//!
//! What is broken on a node stays so until the least that mends it was done, for as long as the fault
//! profile says that this takes. A check tells the core that it is broken, and the core does with that
//! as it does on a real fleet: it takes the node out, or a guardrail or its breaker keeps it in; it
//! climbs its ladder, and proves the node before work comes back. Here its orders are answered.
//!
//! People do what is theirs: they mend what the ladder leaves to them, and drain a node that Lindos
//! leaves in service and that breaks one start after another.

use super::world::{Happening, World};
use crate::reliability::profile::RepairKind;
use crate::reliability::{Effect, FaultPlan, PlannedFault, Target};
use lindos_core::Event;
use lindos_core::health::repair::Stage;
use lindos_model::finding::{
    Action, Device, Finding, FindingClass, FindingSource, Severity, Suspect,
};
use lindos_model::{
    EffectId, Exit, JobId, Mended, Millis, NodeId, Outcome, Remedy, Time, TrailKind,
};

/// A person drains a node that has broken what ran on it so often, and that nobody took out …
const BREAKS_MAX: u32 = 5;
/// … so long after the fault: later and after more than Lindos takes, by its own rule of strikes.
const PERSON_LOOKS_AFTER: Millis = Millis::from_secs(3600);
/// How long a person looks at a node of which nothing is broken.
const NOTHING_FOUND: Millis = Millis::from_secs(4 * 3600);

/// What is broken on one node.
#[derive(Clone, Debug, Default)]
pub struct Ills {
    pub ills: Vec<Ill>,
    /// How often that has broken what ran there.
    pub breaks: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Ill {
    /// Of the fault among those that have struck.
    pub place: usize,
    /// When it is mended, once somebody is about it.
    pub ready_at: Option<Time>,
}

/// Whether a fault breaks something on its nodes that has to be mended there while the node is out.
/// A node that is gone with its agent tells nothing and takes no orders: it is mended by people.
pub(super) fn is_mended_by_orders(fault: &PlannedFault) -> bool {
    let needs_no_one = matches!(
        fault.effect,
        Effect::NodeDown | Effect::LinkFlap { .. } | Effect::Maintenance { .. }
    );
    !needs_no_one && fault.repair.is_some_and(|repair| repair.kind.takes_node_out())
}

/// The least that mends it.
fn least(fault: &PlannedFault) -> Remedy {
    match fault.repair.map(|repair| repair.kind) {
        Some(RepairKind::Reboot) => Remedy::Reboot,
        Some(RepairKind::Technician) => Remedy::Technician,
        Some(RepairKind::Replacement) => Remedy::Replace,
        Some(RepairKind::GpuReset | RepairKind::ProcessRestart) | None => Remedy::ResetGpu,
    }
}

/// How long a remedy takes that mends nothing, or of which nothing is known: assumed.
pub(super) fn usual(remedy: Remedy) -> Millis {
    let minutes = match remedy {
        Remedy::ResetGpu => 5,
        Remedy::Reboot | Remedy::PowerCycle | Remedy::Diagnose => 20,
        Remedy::Technician | Remedy::Replace => return NOTHING_FOUND,
    };
    Millis::from_secs(minutes * 60)
}

/// What a check says of a fault: it names the part, and suggests what mends it.
fn finding(plan: &FaultPlan, fault: &PlannedFault) -> Finding {
    let (part, device, source) = match fault.target {
        Target::Gpu { gpu, .. } => ("gpu", Some(Device::Gpu(gpu)), FindingSource::Nvml),
        Target::Link { rail, .. } => {
            ("link", Some(Device::Port(format!("rail{rail}"))), FindingSource::System)
        }
        Target::Node(_) | Target::Group { .. } => ("node", None, FindingSource::System),
    };
    let works_still = matches!(fault.effect, Effect::Slow { .. });
    let severity = match part {
        _ if works_still => Severity::Warning,
        "gpu" => Severity::GpuFatal,
        _ => Severity::NodeFatal,
    };
    let action = match least(fault) {
        Remedy::ResetGpu => Action::ResetGpu,
        Remedy::Reboot | Remedy::PowerCycle => Action::Reboot,
        // A node that works is not taken out for what only a person could do: diagnostics say more.
        Remedy::Diagnose | Remedy::Technician if works_still => Action::RunDiagnostics,
        Remedy::Diagnose | Remedy::Technician => Action::Inspect,
        Remedy::Replace => Action::Replace,
    };
    let name = &plan.cause(fault).name;
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let class: String = name.chars().map(word).collect();
    Finding {
        class: format!("{part}.{class}").parse().unwrap_or(FindingClass::known("node.fault")),
        severity,
        action,
        suspect: Suspect::Hardware,
        device,
        code: None,
        source,
        detail: name.chars().take(Finding::DETAIL_MAX / 4).collect(),
        cause: None,
    }
}

impl World<'_, '_> {
    /// Whether somebody is at a node: what breaks there meanwhile is mended with the rest.
    pub(super) fn is_being_mended(&self, node: NodeId) -> bool {
        let is_in_repair = |stage: Stage| stage != Stage::Leaving;
        self.core.ticket(node).is_some_and(|ticket| is_in_repair(ticket.stage))
            || self.machines.drained.contains_key(&node)
    }

    /// A check has found what is broken on a node.
    pub(super) fn tell_finding(&mut self, place: usize, node: NodeId) {
        let fault = self.machines.fault(place).clone();
        let there = self.parts_on(node, fault.target);
        if self.core.policy().repair.automatic {
            let finding = Box::new(finding(&self.setup.faults, &fault));
            self.tell(&Event::FindingSeen { node, finding });
        } else {
            self.person_takes_out(node);
        }
        if fault.effect == Effect::Corrupt {
            for part in &there {
                self.tallies.note_cause(part.job, usize::from(fault.cause));
            }
            // What was computed there is wrong, also where the node stays in service.
            for part in self.parts_on(node, fault.target) {
                self.end_rank(node, part, &Exit::Code(1));
            }
        }
    }

    /// A job has left a node that was taken out. What made it slow has cost it that; of all else, the
    /// job had felt it before.
    pub(super) fn note_left(&mut self, job: JobId, node: &str) {
        let Some(known) = self.core.node_by_name(node).and_then(|n| self.machines.ills.get(&n))
        else {
            return;
        };
        let faults = known.ills.iter().map(|ill| &self.machines.struck[ill.place].fault);
        let slow = faults.filter(|fault| matches!(fault.effect, Effect::Slow { .. }));
        let causes: Vec<usize> = slow.map(|fault| usize::from(fault.cause)).collect();
        for cause in causes {
            self.tallies.note_cause(job, cause);
        }
    }

    /// A node that is back in service, and of which a check finds something still.
    pub(super) fn on_still_found(&mut self, node: NodeId) {
        let Some(known) = self.machines.ills.get(&node) else { return };
        let places: Vec<usize> = known.ills.iter().map(|ill| ill.place).collect();
        for place in places {
            if self.machines.is_seen(place) {
                self.tell_finding(place, node);
            }
        }
    }

    /// What is broken on a node has broken something again.
    pub(super) fn note_break(&mut self, node: NodeId) {
        let Some(known) = self.machines.ills.get_mut(&node) else { return };
        known.breaks += 1;
        let (breaks, first) = (known.breaks, known.ills.first().map(|ill| ill.place));
        let since = first.map_or(self.now, |place| self.machines.fault(place).at);
        let is_known = breaks >= BREAKS_MAX && self.now.since(since) >= PERSON_LOOKS_AFTER;
        if is_known && self.core.ticket(node).is_none() {
            self.person_takes_out(node);
        }
    }

    /// A person drains a node, and mends it.
    fn person_takes_out(&mut self, node: NodeId) {
        let Some(first) = self.machines.ills.get(&node).and_then(|known| known.ills.first()) else {
            return;
        };
        if self.machines.drained.contains_key(&node) {
            return;
        }
        let place = first.place;
        let cause = self.setup.faults.cause(self.machines.fault(place)).name.clone();
        self.drain(node, cause);
        self.make_leave(place, node);
        let ready = self.begin_mending(node, Remedy::Replace).unwrap_or(self.now);
        self.put_at(ready, Happening::PersonDone { node });
    }

    pub(super) fn on_person_done(&mut self, node: NodeId) {
        self.mend_ready(node);
        self.undrain(node);
    }

    /// Somebody sets about what this mends; when all of that is done, or `None` if it mends nothing.
    fn begin_mending(&mut self, node: NodeId, remedy: Remedy) -> Option<Time> {
        let now = self.now;
        let machines = &mut self.machines;
        let known = machines.ills.get_mut(&node)?;
        let mut ready = None;
        for ill in &mut known.ills {
            let fault = &machines.struck[ill.place].fault;
            if least(fault) <= remedy {
                let takes = fault.repair.map_or(Millis::ZERO, |repair| repair.takes);
                ready = ready.max(Some(*ill.ready_at.get_or_insert(now + takes)));
            }
        }
        ready
    }

    /// The core orders a remedy that no person is needed for.
    pub(super) fn on_remedy(&mut self, node: NodeId, remedy: Remedy, effect: EffectId) {
        if let Some(answer) = self.recorded_remedy(node, remedy) {
            return self.answer_as_recorded(node, effect, answer);
        }
        let is_well = !self.machines.ills.contains_key(&node);
        let ready = self.begin_mending(node, remedy);
        if ready.is_none() && !is_well {
            let reason = format!("{remedy} does not mend it");
            self.machines.outcomes.insert(effect, Outcome::Failed { reason });
        }
        let over = ready.unwrap_or(self.now + usual(remedy));
        self.put_at(over, Happening::Remedied { node, remedy: effect });
    }

    pub(super) fn on_remedied(&mut self, node: NodeId, remedy: EffectId) {
        self.mend_ready(node);
        let outcome = self.machines.outcomes.remove(&remedy).unwrap_or(Outcome::Done);
        self.tell(&Event::RemedyOver { node, remedy, outcome });
    }

    pub(super) fn on_burn_in(
        &mut self,
        node: NodeId,
        peer: Option<NodeId>,
        span: Millis,
        effect: EffectId,
    ) {
        if peer.is_none()
            && let Some(answer) = self.recorded_burn_in(node, span)
        {
            return self.answer_as_recorded(node, effect, answer);
        }
        self.put(span, Happening::BurntIn { node, peer, remedy: effect });
    }

    /// A burn-in finds whatever is broken still.
    pub(super) fn on_burnt_in(&mut self, node: NodeId, peer: Option<NodeId>, remedy: EffectId) {
        let mut both = std::iter::once(node).chain(peer);
        let outcome = if both.any(|node| self.machines.ills.contains_key(&node)) {
            Outcome::Failed { reason: "it is broken still".to_string() }
        } else {
            Outcome::Done
        };
        self.tell(&Event::RemedyOver { node, remedy, outcome });
    }

    /// What the core says of a node.
    pub(super) fn on_node_trail(&mut self, node: NodeId, what: &TrailKind) {
        match what {
            TrailKind::RemedyBegun { remedy } if remedy.is_by_hand() => {
                self.on_person_wanted(node, *remedy);
            }
            TrailKind::BackInService { .. } if self.machines.ills.contains_key(&node) => {
                self.put(Millis::ZERO, Happening::StillFound { node });
            }
            _ => {}
        }
    }

    /// The ladder is at its end: a person comes, and mends whatever is broken.
    fn on_person_wanted(&mut self, node: NodeId, remedy: Remedy) {
        if self.setup.script.is_some() {
            return self.expect_recorded_person(node);
        }
        let ready = self.begin_mending(node, Remedy::Replace);
        let over = ready.unwrap_or(self.now + usual(remedy));
        let ticket = self.core.ticket(node).map_or(0, |ticket| ticket.number);
        self.put_at(over, Happening::ByHand { node, ticket });
    }

    pub(super) fn on_by_hand(&mut self, node: NodeId, ticket: u64) {
        let needs_part = self.machines.ills.get(&node).is_some_and(|known| {
            known.ills.iter().any(|ill| least(self.machines.fault(ill.place)) == Remedy::Replace)
        });
        self.mend_ready(node);
        let is_waited_for = self.core.ticket(node).is_some_and(|known| {
            known.number == ticket && matches!(known.stage, Stage::Mending { effect: None, .. })
        });
        if !is_waited_for {
            return;
        }
        let usual = if needs_part { Mended::Replaced } else { Mended::Repaired };
        let how = self.machines.said.remove(&ticket).unwrap_or(usual);
        let request = self.next_request();
        self.tell(&Event::NodeMended { request, node, how });
    }

    /// What somebody has been about for long enough is whole again.
    fn mend_ready(&mut self, node: NodeId) {
        let now = self.now;
        let Some(known) = self.machines.ills.get_mut(&node) else { return };
        let is_ready = |ill: &Ill| ill.ready_at.is_some_and(|at| at <= now);
        let ready: Vec<usize> =
            known.ills.iter().filter(|ill| is_ready(ill)).map(|ill| ill.place).collect();
        known.ills.retain(|ill| !is_ready(ill));
        if known.ills.is_empty() {
            self.machines.ills.remove(&node);
        }
        for place in ready {
            self.is_mended_on(place, node);
        }
    }
}
