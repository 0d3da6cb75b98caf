//! What a finding calls for, and what comes next when that did not help: pure rules.
//!
//! The remedies are a ladder, from a reset of a GPU to a replacement. A finding says on which rung to
//! begin. A rung that was used up on this node of late is passed over, and so is one that nobody here
//! can do; at its end stands a person.

use super::record::Health;
use lindos_model::finding::{Action, Finding};
use lindos_model::policy::Repair;
use lindos_model::{Millis, Remedy, Time};
use serde::{Deserialize, Serialize};

/// How soon a node must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Urgency {
    /// What runs there is lost already, or will be.
    AtOnce,
    /// It still works: when the work there was saved.
    AtCheckpoint,
}

/// Where the ladder begins for a finding that condemns its node, and how soon; `None` for one that
/// does not.
///
/// A device that cannot be used goes at once. One that works, but not well or not for long, may wait;
/// it is left where it is if only a person could do something about it. What a program did to itself
/// condemns nobody, and neither does an error of which nobody knows what it means.
pub fn calls_for(finding: &Finding) -> Option<(Remedy, Urgency)> {
    if !finding.condemns() {
        return None;
    }
    let first = match finding.action {
        Action::ResetGpu | Action::ResetFabric => Remedy::ResetGpu,
        Action::Reboot => Remedy::Reboot,
        Action::PowerCycle => Remedy::PowerCycle,
        Action::None | Action::RestartApp | Action::RunDiagnostics => Remedy::Diagnose,
        Action::UpdateSoftware | Action::Inspect | Action::ContactSupport => Remedy::Technician,
        Action::Replace => Remedy::Replace,
    };
    let is_lost = finding.severity.is_loss_of_hardware();
    Some((first, if is_lost { Urgency::AtOnce } else { Urgency::AtCheckpoint }))
}

/// The rung for a node: that one, or the next that was not used up.
pub fn rung(from: Remedy, health: &Health, rules: &Repair, now: Time) -> Remedy {
    let window = Millis(rules.remedy_window_ms);
    let is_left =
        |remedy: &Remedy| health.tried_within(*remedy, now, window) < rules.limit(*remedy);
    let mut left = Remedy::ALL.into_iter().filter(|remedy| *remedy >= from);
    left.find(is_left).unwrap_or(Remedy::Replace)
}

/// The rung after one that did not help.
pub fn next(after: Remedy, health: &Health, rules: &Repair, now: Time) -> Remedy {
    let above = Remedy::ALL.into_iter().find(|remedy| *remedy > after);
    rung(above.unwrap_or(Remedy::Replace), health, rules, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::finding::{FindingClass, FindingSource, Severity, Suspect};

    fn finding(severity: Severity, action: Action, suspect: Suspect) -> Finding {
        Finding {
            suspect,
            ..Finding::new(
                FindingClass::known("gpu.xid.79"),
                severity,
                action,
                FindingSource::KernelLog,
                "",
            )
        }
    }

    #[test]
    fn a_lost_device_goes_at_once_and_a_weak_one_when_the_work_is_saved() {
        let of = |severity, action, suspect| calls_for(&finding(severity, action, suspect));
        let hardware = Suspect::Hardware;
        assert_eq!(
            of(Severity::NodeFatal, Action::Reboot, hardware),
            Some((Remedy::Reboot, Urgency::AtOnce))
        );
        assert_eq!(
            of(Severity::Warning, Action::ResetGpu, hardware),
            Some((Remedy::ResetGpu, Urgency::AtCheckpoint))
        );
        assert_eq!(of(Severity::Warning, Action::Inspect, hardware), None, "a person looks later");
        assert_eq!(of(Severity::AppFatal, Action::RestartApp, Suspect::User), None);
        assert_eq!(of(Severity::GpuFatal, Action::ResetGpu, Suspect::User), None);
        assert_eq!(of(Severity::Unknown, Action::ContactSupport, hardware), None);
        let mut repeated = finding(Severity::GpuFatal, Action::ResetGpu, hardware);
        repeated.cause = Some(FindingClass::known("gpu.xid.79"));
        assert_eq!(calls_for(&repeated), None);
    }

    #[test]
    fn a_rung_that_is_used_up_is_passed_over_until_the_window_is_over() {
        let rules = Repair { reset_gpu_max: 1, reboot_max: 1, ..Repair::default() };
        let mut health = Health::default();
        let at = |hours: u64| Time(hours * 3_600_000);
        assert_eq!(rung(Remedy::ResetGpu, &health, &rules, at(0)), Remedy::ResetGpu);
        health.note_tried(Remedy::ResetGpu, at(0));
        assert_eq!(rung(Remedy::ResetGpu, &health, &rules, at(1)), Remedy::Reboot);
        health.note_tried(Remedy::Reboot, at(1));
        assert_eq!(rung(Remedy::ResetGpu, &health, &rules, at(2)), Remedy::PowerCycle);
        assert_eq!(next(Remedy::Diagnose, &health, &rules, at(2)), Remedy::Technician);
        assert_eq!(next(Remedy::Replace, &health, &rules, at(2)), Remedy::Replace, "the last");
        assert_eq!(rung(Remedy::ResetGpu, &health, &rules, at(7 * 24)), Remedy::ResetGpu);
    }
}
