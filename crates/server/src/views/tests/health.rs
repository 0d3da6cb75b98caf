//! What people see of nodes on which something was found.

use super::super::{fleet_health, node_health, nodes as all_nodes, repairs};
use super::*;
use lindos_api::health::ImpairedPlace;
use lindos_model::finding::{Action, Device, Finding, FindingClass};
use lindos_model::finding::{FindingSource, Severity};
use lindos_model::policy::Repair;
use lindos_model::{EffectId, Mended, Outcome};

fn finding(class: &'static str, severity: Severity, action: Action) -> Finding {
    Finding {
        device: Some(Device::Gpu(3)),
        ..Finding::new(
            FindingClass::known(class),
            severity,
            action,
            FindingSource::KernelLog,
            "as the log has it",
        )
    }
}

pub(super) fn fallen_off() -> Finding {
    finding("gpu.xid.79", Severity::NodeFatal, Action::Reboot)
}

pub(super) fn lost() -> Finding {
    finding("gpu.missing", Severity::Fatal, Action::Replace)
}

impl Told {
    pub(super) fn find(&mut self, node: u32, finding: Finding) {
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

pub(super) fn half_may_be_out() -> Policy {
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
    insta::assert_snapshot!(told.tickets(), @"1 n0 gpu.xid.79 leaving: its jobs leave, then a reboot is tried [1]");
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is out for repair (ticket 1): gpu.xid.79 on gpu3 (as the log has it); its jobs leave, then a reboot is tried
    job 1 on GPUs 0,1,2,3,4,5,6,7
    hint: if nothing is wrong with it: `lindos repairs release n0`
    hint: `lindos node n0` tells what was found there and what was tried
    ");
    told.end(id, &Exit::Signal(15));
    insta::assert_snapshot!(told.tickets(), @"1 n0 gpu.xid.79 mending: a reboot is under way []");
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is out for repair (ticket 1): gpu.xid.79 on gpu3 (as the log has it); a reboot is under way
    hint: if nothing is wrong with it: `lindos repairs release n0`
    hint: `lindos node n0` tells what was found there and what was tried
    ");
    let remedy = told.asked;
    told.minutes(3).over(node.0, remedy, Outcome::Done);
    insta::assert_snapshot!(told.tickets(), @"1 n0 gpu.xid.79 burn-in: its burn-in is under way []");
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is out for burn-in (ticket 1): gpu.xid.79 on gpu3 (as the log has it); its burn-in is under way
    hint: if nothing is wrong with it: `lindos repairs release n0`
    hint: `lindos node n0` tells what was found there and what was tried
    ");
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
    insta::assert_snapshot!(told.why_node("n1"), @"
    n1 is out for repair (ticket 1): gpu.missing on gpu3 (as the log has it); it waits for a replacement
    hint: when it is mended: `lindos repairs done n1`, with `--replaced` if it, or the part in question, is another one now
    hint: if nothing is wrong with it: `lindos repairs release n1`
    hint: `lindos node n1` tells what was found there and what was tried
    hint: it is drained as well: `lindos undrain n1` ends that
    ");
    let request = told.request();
    told.tell(&Event::NodeMended { request, node: NodeId(1), how: Mended::Released });
    insta::assert_snapshot!(told.why_node("n1"), @"
    n1 is idle: it was drained, so nothing new starts there: loud
    hint: `lindos undrain n1` puts it back in service
    ");
}

#[test]
fn one_that_is_kept_in_says_what_keeps_it() {
    let mut told = Told::of(nodes(4));
    told.find(1, fallen_off());
    told.find(2, lost());
    let kept = repairs(&told.view()).kept_in;
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].node.as_str(), kept[0].since), ("n2", Some(told.now.0)));
    insta::assert_snapshot!(kept[0].because, @"1 node of its platform out already, where 1 may be");
    insta::assert_snapshot!(told.why_node("n2"), @"
    n2 is idle: no job waits
    hint: gpu.missing was found there, and it stays in service: 1 node of its platform out already, where 1 may be
    ");
    let by_hand = Repair { automatic: false, ..Repair::default() };
    let mut told = Told::under(Policy { repair: by_hand, ..Policy::default() }, nodes(2));
    told.find(0, lost());
    insta::assert_snapshot!(repairs(&told.view()).kept_in[0].because, @"the policy leaves it to people");
}

#[test]
fn what_a_domain_that_has_lost_nodes_can_still_serve_is_told_once_and_the_worst_first() {
    let mut all = nodes(9);
    for (index, node) in all.iter_mut().enumerate() {
        let domain = ["a", "b", ""][index / 3];
        node.location.rack = format!("r{}", index / 3);
        node.location.nvlink = domain.to_string();
    }
    all[4].platform = "dgx-a100".to_string();
    let mut told = Told::under(half_may_be_out(), all);
    for node in [3, 7, 8] {
        told.drain(node, "later");
    }
    let health = fleet_health(&told.view(), 9);
    let one = |kind: &str, name: &str, nodes_left, segment_max| {
        let (kind, name) = (kind.to_string(), name.to_string());
        ImpairedPlace { kind, name, nodes: 3, nodes_left, segment_max }
    };
    let expected = [one("rack", "r2", 1, 1), one("NVLink domain", "b", 2, 1)];
    assert_eq!(health.impaired, expected, "of two designs no segment is made");
    let first = fleet_health(&told.view(), 1);
    assert_eq!((first.places_impaired, &first.impaired[..]), (2, &expected[..1]));
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
    insta::assert_json_snapshot!(health, @r#"
    {
      "nodes": 6,
      "nodes_well": 2,
      "nodes_with_findings": 3,
      "nodes_in_repair": 2,
      "nodes_in_burn_in": 0,
      "nodes_kept_in": 0,
      "waiting_for_person": 1,
      "nodes_drained": 1,
      "by_state": {
        "up": 6
      },
      "by_severity": {
        "fatal": 1,
        "node-fatal": 1,
        "nonfatal": 1,
        "warning": 1
      },
      "by_class": [
        {
          "class": "disk.slow",
          "severity": "warning",
          "nodes": 2,
          "findings": 2
        },
        {
          "class": "gpu.missing",
          "severity": "fatal",
          "nodes": 1,
          "findings": 1
        },
        {
          "class": "gpu.xid.79",
          "severity": "node-fatal",
          "nodes": 1,
          "findings": 1
        }
      ],
      "worst": [
        {
          "node": "n1",
          "state": "up",
          "out": "repair",
          "kept_in": false,
          "severity": "fatal",
          "class": "gpu.missing",
          "since": 1000000,
          "findings": 1
        },
        {
          "node": "n4",
          "state": "up",
          "out": "repair",
          "kept_in": false,
          "severity": "node-fatal",
          "class": "gpu.xid.79",
          "since": 1000000,
          "findings": 2
        }
      ],
      "places_impaired": 0,
      "impaired": [],
      "breakers": []
    }
    "#);
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
    assert_eq!(tried, ["power_cycle"], "what nobody can do is not used up");
    let lines: Vec<String> =
        health.history.iter().map(|line| format!("{}: {}", line.kind, line.text)).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    found: found gpu.xid.79 (node-fatal): as the log has it
    taken_out: taken out of service for gpu.xid.79, ticket 1
    remedy_begun: tries a reboot
    remedy_over: nobody here can do a reboot
    remedy_begun: tries a power cycle
    ");
    assert!(node_health(&told.view(), "n9").is_none());
    assert_eq!(node_health(&told.view(), "n0").unwrap().history, []);
}
