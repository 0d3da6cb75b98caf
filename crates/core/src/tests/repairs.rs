//! Stories of nodes on which something is found: taken out, mended, proved, and back.

use super::story::{Story, half_out, job, killed, stepped};
use crate::effect::{Effect, Rejection, Reply};
use crate::event::Event;
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity};
use lindos_model::policy::Repair;
use lindos_model::{
    Column, EffectId, Epoch, Exit, JobId, JobSpec, JobState, Mended, NodeId, Outcome, Policy,
    Remedy, RequestId,
};

const MINUTE: u64 = 60_000;

fn finding(class: &'static str, severity: Severity, action: Action) -> Finding {
    Finding::new(
        FindingClass::known(class),
        severity,
        action,
        FindingSource::KernelLog,
        "as the log has it",
    )
}

fn fallen_off() -> Finding {
    finding("gpu.xid.79", Severity::NodeFatal, Action::Reboot)
}

fn failing() -> Finding {
    finding("gpu.row_remap_pending", Severity::Warning, Action::ResetGpu)
}

/// A fleet that may be half out, so that a small one shows what a large one does.
fn lenient(nodes: u32) -> Story {
    half_out(&Repair::default(), nodes)
}

fn see(story: &mut Story, node: u32, finding: Finding) {
    story.tell(Event::FindingSeen { node: NodeId(node), finding: Box::new(finding) });
}

/// The remedy, or burn-in (`None`), that was just asked for, if one was.
fn wanted(story: &Story) -> Option<(EffectId, Option<Remedy>)> {
    let mut asked = story.out.iter().filter_map(|effect| match effect {
        Effect::Remedy { id, remedy, .. } => Some((*id, Some(*remedy))),
        Effect::BurnIn { id, .. } => Some((*id, None)),
        _ => None,
    });
    let first = asked.next();
    assert_eq!(asked.next(), None);
    first
}

fn asked(story: &Story) -> (EffectId, Option<Remedy>) {
    wanted(story).expect("nothing was asked for")
}

fn over(story: &mut Story, node: u32, remedy: EffectId, outcome: Outcome) {
    story.tell(Event::RemedyOver { node: NodeId(node), remedy, outcome });
}

fn mended(story: &mut Story, node: u32, how: Mended) -> Reply {
    story.requests += 1;
    let request = RequestId(story.requests);
    story.tell(Event::NodeMended { request, node: NodeId(node), how });
    let reply = story.out.iter().find_map(|effect| match effect {
        Effect::Reply { reply, .. } => Some(reply.clone()),
        _ => None,
    });
    reply.expect("no answer")
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed { reason: reason.into() }
}

fn stopped(story: &mut Story, id: JobId) {
    for node in story.gang(id) {
        let report = story.ended(id, node, &Exit::Signal(15), true);
        story.report(node.0, vec![report]);
    }
}

#[test]
fn a_lost_gpu_takes_its_node_out_and_the_gang_goes_on_with_another() {
    let mut story = lenient(4);
    let id = story.run(job(2));
    let gang = story.gang(id);
    see(&mut story, gang[1].0, fallen_off());
    assert_eq!(story.state(id), JobState::Stopping);
    let before = story.gang(id);
    for node in before {
        let report = story.ended(id, node, &Exit::Signal(15), true);
        story.report(node.0, vec![report]);
    }
    let after = story.gang(id);
    assert_eq!(after[0], gang[0]);
    assert!(!gang.contains(&after[1]), "another stands in");
    let (reboot, remedy) = asked(&story);
    assert_eq!(remedy, Some(Remedy::Reboot));
    story.wait(MINUTE);
    assert_eq!(story.column(Column::Repair), 8 * MINUTE);
    over(&mut story, gang[1].0, reboot, Outcome::Done);
    let (burn_in, none) = asked(&story);
    assert_eq!(none, None);
    story.wait(MINUTE);
    assert_eq!(story.column(Column::BurnIn), 8 * MINUTE);
    let late = story.submit(job(2));
    assert_eq!(story.state(late), JobState::Queued, "it is not proved yet");
    over(&mut story, gang[1].0, burn_in, Outcome::Done);
    assert_eq!(story.state(late), JobState::Starting);
    assert_eq!(story.core.job(id).unwrap().infrastructure_used, 1);
}

#[test]
fn a_node_that_still_works_is_left_when_the_work_is_saved() {
    let mut story = lenient(4);
    let id = story.run(job(2));
    let gang = story.gang(id);
    see(&mut story, gang[1].0, failing());
    story.wait(MINUTE);
    assert_eq!(story.state(id), JobState::Running);
    story.step(id, 10);
    story.checkpoint(id, 10);
    assert_eq!(story.state(id), JobState::Stopping);
    stopped(&mut story, id);
    assert_eq!(asked(&story).1, Some(Remedy::ResetGpu));
    let after = story.gang(id);
    assert_eq!((after[0], after[1] == gang[1]), (gang[0], false));
    let known = story.core.job(id).unwrap();
    assert_eq!((known.infrastructure_used, known.user_used), (0, 0), "nobody pays for a plan");
    assert_eq!(story.column(Column::Lost), 0);
}

#[test]
fn without_anybody_to_stand_in_it_waits_and_then_goes_all_the_same() {
    let mut story = lenient(2);
    let id = story.run(job(2));
    see(&mut story, 0, failing());
    for minute in 1..30 {
        story.wait(MINUTE);
        story.step(id, minute * 10);
        story.checkpoint(id, minute * 10);
        assert_eq!(story.state(id), JobState::Running);
    }
    story.wait(MINUTE);
    assert_eq!(story.state(id), JobState::Stopping);
    stopped(&mut story, id);
    assert_eq!(story.state(id), JobState::Queued);
}

#[test]
fn a_replica_leaves_a_failing_node_at_once_and_the_others_train_on() {
    let mut story = lenient(9);
    let id = story.run(JobSpec { replicas: 4, replicas_min: 2, ..job(8) });
    story.wait(1000);
    story.step(id, 2);
    let gang = story.gang(id);
    see(&mut story, gang[5].0, failing());
    let only = format!("stop {id}/1 on n{}, stop {id}/1 on n{}", gang[4], gang[5]);
    assert_eq!(story.orders(), only);
    assert_eq!(story.state(id), JobState::Running);
}

#[test]
fn a_replica_that_waits_for_the_node_to_be_mended_does_not_keep_it_from_that() {
    let mut story = lenient(8);
    let id = story.run(JobSpec { replicas: 4, replicas_min: 2, ..job(8) });
    story.wait(1000);
    story.step(id, 2);
    let gang = story.gang(id);
    see(&mut story, gang[5].0, fallen_off());
    for node in [gang[4], gang[5]] {
        let report = story.ended(id, node, &Exit::Signal(15), true);
        story.report(node.0, vec![report]);
    }
    let (reboot, _) = asked(&story);
    over(&mut story, gang[5].0, reboot, Outcome::Done);
    let (burn_in, _) = asked(&story);
    over(&mut story, gang[5].0, burn_in, Outcome::Done);
    let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
    assert_eq!(attempt.replicas[2].epoch, Epoch(2), "it is launched again where it was");
}

#[test]
fn what_does_not_help_is_followed_by_the_next_until_a_person_comes() {
    let mut story = lenient(4);
    see(&mut story, 1, failing());
    let mut tried = Vec::new();
    let mut outcomes = [Outcome::Unsupported, failed("it hangs"), Outcome::Done].into_iter();
    while let Some((id, remedy)) = wanted(&story) {
        tried.push(remedy);
        let outcome = match remedy {
            Some(_) => outcomes.next().unwrap_or_else(|| failed("in vain")),
            None => failed("a GPU computes wrong"),
        };
        over(&mut story, 1, id, outcome);
    }
    assert_eq!(
        tried,
        [
            Some(Remedy::ResetGpu),
            Some(Remedy::Reboot),
            Some(Remedy::PowerCycle),
            None,
            Some(Remedy::Diagnose)
        ]
    );
    assert_eq!(mended(&mut story, 1, Mended::Repaired), Reply::Done);
    let (burn_in, none) = asked(&story);
    assert_eq!(none, None, "a person's work is proved too");
    over(&mut story, 1, burn_in, Outcome::Done);
    assert!(story.core.node(NodeId(1)).unwrap().in_service());
    let reason = Rejection::NotInRepair { node: NodeId(1) };
    assert_eq!(mended(&mut story, 1, Mended::Repaired), Reply::Rejected { reason });
}

#[test]
fn a_remedy_that_is_never_over_has_failed_and_its_late_answer_says_nothing() {
    let mut story = lenient(4);
    see(&mut story, 1, fallen_off());
    let (reboot, _) = asked(&story);
    story.wait(30 * MINUTE);
    let (again, remedy) = asked(&story);
    assert_eq!(remedy, Some(Remedy::PowerCycle));
    over(&mut story, 1, reboot, Outcome::Done);
    assert!(!story.core.node(NodeId(1)).unwrap().in_service());
    over(&mut story, 1, again, Outcome::Done);
    assert_eq!(asked(&story).1, None);
}

#[test]
fn no_more_is_taken_out_than_may_be_and_the_rest_go_when_others_are_back() {
    let mut story = half_out(&Repair { breaker_nodes: 100, ..Repair::default() }, 6);
    for node in 0..5 {
        see(&mut story, node, fallen_off());
    }
    let out = |story: &Story| {
        let nodes = (0..6).filter(|&n| !story.core.node(NodeId(n)).unwrap().in_service());
        nodes.collect::<Vec<_>>()
    };
    assert_eq!(out(&story), [0, 1, 2], "half of six");
    assert_eq!(mended(&mut story, 1, Mended::Released), Reply::Done);
    assert_eq!(out(&story), [0, 2, 3], "the next has its turn");
    let class = FindingClass::known("gpu.xid.79");
    story.tell(Event::FindingGone { node: NodeId(4), class, device: None });
    assert_eq!(mended(&mut story, 0, Mended::Released), Reply::Done);
    assert_eq!(out(&story), [2, 3], "it has mended itself");
}

#[test]
fn what_a_person_has_let_be_condemns_nobody_until_it_is_gone_or_worse() {
    let mut story = lenient(4);
    see(&mut story, 1, failing());
    assert_eq!(mended(&mut story, 1, Mended::Released), Reply::Done);
    see(&mut story, 1, failing());
    let is_in = |story: &Story| story.core.node(NodeId(1)).unwrap().in_service();
    assert!(is_in(&story));
    let class = failing().class;
    story.tell(Event::FindingGone { node: NodeId(1), class, device: None });
    see(&mut story, 1, failing());
    assert!(!is_in(&story), "it came again");
    assert_eq!(mended(&mut story, 1, Mended::Released), Reply::Done);
    see(&mut story, 1, Finding { severity: Severity::GpuFatal, ..failing() });
    assert!(!is_in(&story), "it got worse");
}

#[test]
fn a_remedy_that_nobody_can_do_is_not_used_up() {
    let mut story = lenient(4);
    for _ in 0..3 {
        see(&mut story, 1, fallen_off());
        while let Some((id, _)) = wanted(&story) {
            over(&mut story, 1, id, Outcome::Unsupported);
        }
        let tried = story.core.health(NodeId(1)).unwrap().tried.iter().map(|(remedy, _)| *remedy);
        let by_hand = tried.filter(|remedy| !remedy.is_by_hand()).count();
        assert_eq!(by_hand, 0);
        assert_eq!(mended(&mut story, 1, Mended::Repaired), Reply::Done);
        let (burn_in, _) = asked(&story);
        over(&mut story, 1, burn_in, Outcome::Done);
    }
}

#[test]
fn the_last_node_is_never_taken_out() {
    let mut story = lenient(1);
    let id = story.run(job(1));
    see(&mut story, 0, fallen_off());
    assert_eq!(story.state(id), JobState::Running);
}

#[test]
fn a_check_that_condemns_too_many_is_not_believed_for_a_while() {
    let mut story = half_out(&Repair { breaker_nodes: 3, ..Repair::default() }, 20);
    for node in 0..6 {
        see(&mut story, node, fallen_off());
    }
    let out = (0..20).filter(|&n| !story.core.node(NodeId(n)).unwrap().in_service()).count();
    assert_eq!(out, 3);
    see(&mut story, 10, failing());
    assert!(!story.core.node(NodeId(10)).unwrap().in_service(), "another check is believed");
    story.wait(60 * MINUTE);
    let out = (0..20).filter(|&n| !story.core.node(NodeId(n)).unwrap().in_service()).count();
    assert_eq!(out, 4 + 3, "those that it still finds");
}

#[test]
fn people_may_keep_it_all_to_themselves() {
    let mut story = half_out(&Repair { automatic: false, ..Repair::default() }, 3);
    see(&mut story, 0, fallen_off());
    assert!(story.core.node(NodeId(0)).unwrap().in_service());
    assert_eq!(story.core.health(NodeId(0)).unwrap().open.len(), 1);
}

#[test]
fn a_node_that_is_to_blame_again_and_again_is_a_lemon() {
    let mut story = lenient(4);
    let id = story.run(job(2));
    let bad = story.gang(id)[1];
    for round in 1..=3u32 {
        story.wait(1000);
        story.tell(stepped(id, Epoch(round), u64::from(round) * 10));
        story.wait(1000);
        story.tell(stepped(id, Epoch(round), u64::from(round) * 10 + 1));
        let gang = story.gang(id);
        assert!(gang.contains(&bad), "round {round}");
        let died = story.ended(id, bad, &killed(), false);
        story.report(bad.0, vec![died]);
        let other = gang.into_iter().find(|&node| node != bad).unwrap();
        let peer = story.ended(id, other, &Exit::Signal(15), true);
        story.report(other.0, vec![peer]);
        story.all_up(id);
    }
    assert!(!story.gang(id).contains(&bad), "it is out, and another stands in");
    assert!(!story.core.node(bad).unwrap().in_service());
}

#[test]
fn an_nvl72_rack_that_has_lost_two_trays_still_serves_segments_of_sixteen() {
    let mut story = Story::under(Policy { repair: Repair::default(), ..Policy::default() }, 0);
    for node in 0..36 {
        story.join_in_rack(node, node / 18);
    }
    see(&mut story, 3, fallen_off());
    see(&mut story, 7, failing());
    let within = lindos_model::Level::Rack;
    let id = story.submit(JobSpec { within, segment: Some(16), ..job(32) });
    assert_eq!(story.state(id), JobState::Starting, "{:?}", story.core.why(id));
    let (counts, told) = story.core.impaired(9);
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("rack", 1)]);
    assert_eq!((told[0].nodes, told[0].left, told[0].segment_max), (18, 16, 16), "{told:?}");
    assert!(story.core.impaired(0).1.is_empty());
}
