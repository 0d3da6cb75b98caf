//! What people see of nodes on which something was found.

use super::super::{fleet_health, node_health, nodes as all_nodes, repairs};
use super::*;
use lindos_model::finding::{Action, Device, Finding, FindingClass};
use lindos_model::finding::{FindingSource, Severity, Suspect};
use lindos_model::policy::Repair;
use lindos_model::{EffectId, Mended, Outcome};

fn finding(class: &'static str, severity: Severity, action: Action) -> Finding {
    Finding {
        class: FindingClass::known(class),
        severity,
        action,
        suspect: Suspect::Hardware,
        device: Some(Device::Gpu(3)),
        code: None,
        source: FindingSource::KernelLog,
        detail: "as the log has it".into(),
        cause: None,
    }
}

fn fallen_off() -> Finding {
    finding("gpu.xid.79", Severity::NodeFatal, Action::Reboot)
}

fn lost() -> Finding {
    finding("gpu.missing", Severity::Fatal, Action::Replace)
}

impl Told {
    fn find(&mut self, node: u32, finding: Finding) {
        self.tell(&Event::FindingSeen { node: NodeId(node), finding: Box::new(finding) });
    }

    fn over(&mut self, node: u32, remedy: u64, outcome: Outcome) {
        self.tell(&Event::RemedyOver { node: NodeId(node), remedy: EffectId(remedy), outcome });
    }

    /// The open tickets, a line each.
    fn tickets(&self) -> String {
        let line = |ticket: &lindos_api::health::TicketView| {
            let lindos_api::health::TicketView { ticket, node, class, stage, text, jobs, .. } =
                ticket;
            format!("{ticket} {node} {class} {stage}: {text} {jobs:?}\n")
        };
        repairs(&self.view()).open.iter().map(line).collect()
    }
}

fn half_may_be_out() -> Policy {
    let repair =
        Repair { platform_out_max_percent: 50, fleet_out_max_percent: 50, ..Repair::default() };
    Policy { repair, ..Policy::default() }
}

#[test]
fn a_ticket_says_what_is_being_done_at_each_stage() {
    let mut told = Told::under(half_may_be_out(), nodes(4));
    let id = told.run(job(1));
    let node = told.gang(id)[0];
    told.find(node.0, fallen_off());
    insta::assert_snapshot!(told.tickets(), @"");
    insta::assert_snapshot!(told.why_node("n0"), @"");
    told.end(id, &Exit::Signal(15));
    insta::assert_snapshot!(told.tickets(), @"");
    insta::assert_snapshot!(told.why_node("n0"), @"");
    let remedy = told.asked;
    told.minutes(3).over(node.0, remedy, Outcome::Done);
    insta::assert_snapshot!(told.tickets(), @"");
    insta::assert_snapshot!(told.why_node("n0"), @"");
    assert_eq!(all_nodes(&told.view(), None, 1)[0].out.as_deref(), Some("burn-in"));
    assert_eq!(why_node(&told.view(), "n0").unwrap().idle.as_deref(), Some("burn-in"));
    let burn_in = told.asked;
    told.over(node.0, burn_in, Outcome::Done);
    assert_eq!(told.tickets(), "");
    assert_eq!(all_nodes(&told.view(), None, 1)[0].out, None);
}

#[test]
fn one_that_waits_for_a_person_says_what_to_tell_lindos() {
    let mut told = Told::under(half_may_be_out(), nodes(4));
    told.drain(1, "loud");
    told.find(1, lost());
    assert!(repairs(&told.view()).open[0].waits_for_person);
    insta::assert_snapshot!(told.why_node("n1"), @"");
    let request = told.request();
    told.tell(&Event::NodeMended { request, node: NodeId(1), how: Mended::Released });
    insta::assert_snapshot!(told.why_node("n1"), @"");
}

#[test]
fn one_that_is_kept_in_says_what_keeps_it() {
    let mut told = Told::of(nodes(4));
    told.find(1, fallen_off());
    told.find(2, lost());
    let kept = repairs(&told.view()).kept_in;
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].node.as_str(), kept[0].since), ("n2", Some(told.now.0)));
    insta::assert_snapshot!(kept[0].because, @"");
    insta::assert_snapshot!(told.why_node("n2"), @"");
    let by_hand = Repair { automatic: false, ..Repair::default() };
    let mut told = Told::under(Policy { repair: by_hand, ..Policy::default() }, nodes(2));
    told.find(0, lost());
    insta::assert_snapshot!(repairs(&told.view()).kept_in[0].because, @"");
}

#[test]
fn the_fleet_at_a_glance_names_its_worst_nodes_first() {
    let mut told = Told::under(half_may_be_out(), nodes(6));
    told.find(3, finding("disk.slow", Severity::Warning, Action::Inspect));
    told.find(4, finding("disk.slow", Severity::Nonfatal, Action::Inspect));
    told.find(1, lost());
    told.find(4, fallen_off());
    told.drain(5, "");
    let health = fleet_health(&told.view(), 2);
    insta::assert_json_snapshot!(health, @"");
    let all = fleet_health(&told.view(), 9);
    let names: Vec<&str> = all.worst.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(names, ["n1", "n4", "n3"]);
}

#[test]
fn a_node_tells_its_whole_history_in_words() {
    let mut told = Told::under(half_may_be_out(), nodes(4));
    told.find(1, fallen_off());
    told.minutes(1).find(1, fallen_off());
    let reboot = told.asked;
    told.over(1, reboot, Outcome::Unsupported);
    let health = node_health(&told.view(), "n1").unwrap();
    assert_eq!((health.findings[0].count, health.findings[0].last), (2, told.now.0));
    assert_eq!(health.ticket.unwrap().remedy, "power_cycle");
    let tried: Vec<&str> = health.tried.iter().map(|tried| tried.remedy.as_str()).collect();
    assert_eq!(tried, ["reboot", "power_cycle"]);
    let lines: Vec<String> =
        health.history.iter().map(|line| format!("{}: {}", line.kind, line.text)).collect();
    insta::assert_snapshot!(lines.join("\n"), @"");
    assert!(node_health(&told.view(), "n9").is_none());
    assert_eq!(node_health(&told.view(), "n0").unwrap().history, []);
}
