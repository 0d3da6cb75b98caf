//! Stories of suspects that are tested against each other, of places that go as a group, of idle nodes
//! that are burnt in, and of checkpoints that are spoilt.

use super::story::{Story, half_out, job, killed};
use crate::Core;
use crate::effect::{Effect, Order};
use crate::event::Event;
use crate::gang::attempt::Shunned;
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity};
use lindos_model::policy::Repair;
use lindos_model::reason::Charge;
use lindos_model::trail::{CalledOff, SuspectsFound};
use lindos_model::{
    Activity, AttemptReport, Column, EffectId, Epoch, Exit, JobId, JobState, NodeId, Outcome, Rank,
    ReportedPhase, Stall, Symptom, SymptomKind, TrailKind,
};

const MINUTE: u64 = 60_000;

/// A gang hangs with all of its ranks alike, and nothing of it lives any more.
fn hangs(story: &mut Story, id: JobId) {
    let epoch = story.core.job(id).unwrap().epoch;
    let attempt = story.core.job(id).unwrap().attempt.as_ref().unwrap();
    let (step, told) = (attempt.pace.step.unwrap(), attempt.world_size());
    let since = attempt.pace.step_at;
    let (most, apart) = (Some(Activity::Idle), Vec::new());
    let stall = Stall { since, step, told, at_step: told, most, apart };
    story.after(5000).tell(Event::StallSeen { job: id, epoch, stall: Box::new(stall) });
    story.wait(10 * MINUTE);
    assert_eq!(story.state(id), JobState::Stopping);
    let gang = story.gang(id);
    for node in gang {
        let report = story.ended(id, node, &killed(), true);
        story.report(node.0, vec![report]);
    }
}

/// Of so many nodes four are a gang that hangs.
fn of_which_four_hang(nodes: u32) -> (Story, JobId, Vec<NodeId>) {
    let mut story = half_out(&Repair::default(), nodes);
    let id = story.run(job(4));
    let gang = story.gang(id);
    hangs(&mut story, id);
    (story, id, gang)
}

/// The tests that were asked for in the last step.
fn tests(story: &Story) -> Vec<(EffectId, NodeId, Option<NodeId>)> {
    let asked = story.out.iter().filter_map(|effect| match effect {
        Effect::BurnIn { id, node, peer, .. } => Some((*id, *node, *peer)),
        _ => None,
    });
    asked.collect()
}

/// Answers each test with one event until none is asked for any more; how many rounds there were.
fn answer_each(
    story: &mut Story,
    mut event: impl FnMut(EffectId, NodeId, Option<NodeId>) -> Event,
) -> u32 {
    let mut rounds = 0;
    loop {
        let round = tests(story);
        if round.is_empty() {
            return rounds;
        }
        rounds += 1;
        story.after(2 * MINUTE);
        let mut asked = Vec::new();
        for (test, node, peer) in round {
            story.tell(event(test, node, peer));
            asked.append(&mut story.out);
        }
        story.out = asked;
    }
}

/// By agents that say only whether all was well.
fn answer(story: &mut Story, fails: impl Fn(NodeId, Option<NodeId>) -> bool) -> u32 {
    answer_each(story, |remedy, node, peer| {
        let outcome =
            if fails(node, peer) { failed("not the same, bit for bit") } else { Outcome::Done };
        Event::RemedyOver { node, remedy, outcome }
    })
}

/// By what each of the two comes to by itself, and what is between them.
fn answer_pairs(
    story: &mut Story,
    mut shows: impl FnMut(NodeId, Option<NodeId>) -> [Outcome; 3],
) -> u32 {
    answer_each(story, |test, node, peer| {
        let [node, peer, link] = shows(node, peer);
        Event::PairTested { test, node, peer, link }
    })
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed { reason: reason.into() }
}

fn found(story: &Story) -> Option<SuspectsFound> {
    let mut over = story.core.trail_after(0).filter_map(|entry| match &entry.what {
        TrailKind::SuspectsOver { found, .. } => Some(found.clone()),
        _ => None,
    });
    let first = over.next();
    assert_eq!(over.next(), None);
    first
}

fn in_service(story: &Story, node: NodeId) -> bool {
    story.core.node(node).unwrap().in_service()
}

#[test]
fn of_a_gang_that_hangs_as_a_whole_the_bad_node_is_found_and_the_job_waits_for_nothing() {
    let (mut story, id, before) = of_which_four_hang(9);
    assert_eq!(story.state(id), JobState::Starting);
    let after = story.gang(id);
    assert!(after.iter().all(|node| !before.contains(node)), "{before:?} {after:?}");
    assert_eq!(tests(&story).len(), 2, "all four at once");
    let bad = before[2];
    let rounds = answer(&mut story, |node, peer| node == bad || peer == Some(bad));
    let node_rounds = u64::from(rounds) * 4 + 1;
    assert_eq!(story.column(Column::BurnIn), node_rounds * 8 * 2 * MINUTE, "with one that helped");
    assert!(rounds <= 3, "{rounds}");
    assert_eq!(found(&story), Some(SuspectsFound::Nodes(vec![format!("n{bad}")])));
    for node in before {
        assert_eq!(in_service(&story, node), node != bad);
    }
    assert_eq!(story.core.ticket(bad).unwrap().class.as_str(), "node.burn_in");
}

#[test]
fn a_link_between_two_that_are_well_with_others_condemns_neither() {
    let (mut story, id, before) = of_which_four_hang(9);
    let (one, other) = (before[0], before[3]);
    answer(&mut story, |node, peer| {
        let pair = [Some(node), peer];
        pair.contains(&Some(one)) && pair.contains(&Some(other))
    });
    assert!(matches!(found(&story), Some(SuspectsFound::Link(..))), "{:?}", found(&story));
    assert!(before.iter().all(|&node| in_service(&story, node)));
    let shunned = &story.core.job(id).unwrap().shunned.nodes;
    assert!(shunned.contains(&one) != shunned.contains(&other), "one of the two is kept away from");
}

#[test]
fn a_node_that_fails_by_itself_is_found_though_it_fails_only_once() {
    let (mut story, _, before) = of_which_four_hang(9);
    let bad = before[1];
    let mut first = true;
    let rounds = answer_pairs(&mut story, |node, peer| {
        let mut of = |it: Option<NodeId>| {
            let fails = it == Some(bad) && std::mem::take(&mut first);
            if fails { failed("cpu.bits: core 3") } else { Outcome::Done }
        };
        [of(Some(node)), of(peer), Outcome::Done]
    });
    assert_eq!(rounds, 1, "nothing is left to find out");
    assert_eq!(found(&story), Some(SuspectsFound::Nodes(vec![format!("n{bad}")])));
    let ticket = story.core.ticket(bad).unwrap();
    assert!(ticket.detail.contains("by itself: cpu.bits: core 3"), "{}", ticket.detail);
    assert!(before.iter().all(|&node| in_service(&story, node) != (node == bad)));
}

#[test]
fn where_no_two_nodes_carry_anything_the_tests_are_doubted_and_nobody_is_condemned() {
    let (mut story, id, before) = of_which_four_hang(12);
    let refused = || [Outcome::Done, Outcome::Done, failed("network.bits: connection refused")];
    answer_pairs(&mut story, |_, _| refused());
    assert_eq!(found(&story), Some(SuspectsFound::CalledOff(CalledOff::Doubtful)));
    assert!(before.iter().all(|&node| in_service(&story, node)));
    story.all_up(id);
    story.step(id, 2);
    hangs(&mut story, id);
    assert!(tests(&story).is_empty(), "they would come to the same");
}

#[test]
fn a_link_that_an_older_agent_cannot_test_is_said_to_be_untested() {
    let (mut story, _, _) = of_which_four_hang(9);
    answer_pairs(&mut story, |_, _| [Outcome::Done, Outcome::Done, Outcome::Unsupported]);
    assert_eq!(found(&story), Some(SuspectsFound::Nothing));
    let untested = |what: &TrailKind| matches!(what, TrailKind::LinkNotTested { .. });
    assert!(story.core.trail_after(0).any(|entry| untested(&entry.what)));
}

#[test]
fn what_was_tested_in_vain_is_not_tested_again() {
    let (mut story, id, before) = of_which_four_hang(9);
    answer(&mut story, |_, _| false);
    assert_eq!(found(&story), Some(SuspectsFound::Nothing));
    assert!(before.iter().all(|&node| in_service(&story, node)));
    story.all_up(id);
    story.step(id, 2);
    story.complete(id);
    let again = story.run(job(4));
    if story.gang(again) == before {
        hangs(&mut story, again);
        assert!(tests(&story).is_empty());
    }
}

#[test]
fn without_room_elsewhere_the_job_starts_on_its_suspects_at_once() {
    let (story, id, _) = of_which_four_hang(6);
    assert_eq!(story.state(id), JobState::Starting);
    assert!(tests(&story).is_empty());
    let stays = |what: &TrailKind| matches!(what, TrailKind::SuspectsStay { .. });
    assert!(story.core.trail_after(0).any(|entry| stays(&entry.what)));
}

#[test]
fn tests_that_nobody_can_do_give_all_back_and_are_not_asked_for_again() {
    let (mut story, id, before) = of_which_four_hang(9);
    let (remedy, node, _) = tests(&story)[0];
    story.tell(Event::RemedyOver { node, remedy, outcome: Outcome::Unsupported });
    assert!(before.iter().all(|&node| in_service(&story, node)));
    story.all_up(id);
    story.step(id, 2);
    hangs(&mut story, id);
    assert!(tests(&story).is_empty());
    assert_eq!(story.state(id), JobState::Starting);
}

#[test]
fn a_test_without_an_answer_gives_all_back() {
    let (mut story, _, before) = of_which_four_hang(9);
    story.wait(40 * MINUTE);
    assert!(before.iter().all(|&node| in_service(&story, node)));
}

#[test]
fn idle_nodes_are_burnt_in_in_turn_and_give_way_to_any_job() {
    let repair = Repair {
        idle_burn_in_every_ms: 60 * MINUTE,
        idle_burn_in_max_percent: 25,
        ..Repair::default()
    };
    let mut story = half_out(&repair, 4);
    let mut burnt = std::collections::BTreeSet::new();
    for _ in 0..200 {
        story.wait(MINUTE);
        let round = tests(&story);
        assert!(round.len() <= 1, "a quarter of four at once");
        for (remedy, node, peer) in round {
            assert_eq!(peer, None);
            burnt.insert(node);
            story.wait(10 * MINUTE);
            story.tell(Event::RemedyOver { node, remedy, outcome: Outcome::Done });
        }
    }
    assert_eq!(burnt.len(), 4);
    assert!(story.column(Column::BurnIn) >= 4 * 8 * 10 * MINUTE);
    // The next one is under way when a job wants the whole fleet.
    let mut under_way = None;
    while under_way.is_none() {
        story.wait(MINUTE);
        under_way = tests(&story).first().copied();
    }
    let (effect, node, _) = under_way.unwrap();
    let id = story.submit(job(4));
    assert_eq!(story.state(id), JobState::Starting);
    let is_told = |out: &Effect| *out == Effect::CancelBurnIn { id: effect, node };
    assert!(story.out.iter().any(is_told), "{:?}", story.out);
}

#[test]
fn an_idle_node_that_fails_its_burn_in_is_taken_out() {
    let repair = Repair { idle_burn_in_every_ms: 60 * MINUTE, ..Repair::default() };
    let mut story = half_out(&repair, 4);
    let mut asked = Vec::new();
    while asked.is_empty() {
        story.wait(MINUTE);
        asked = tests(&story);
    }
    let (remedy, node, _) = asked[0];
    let outcome = Outcome::Failed { reason: "a GPU computes wrong".into() };
    story.tell(Event::RemedyOver { node, remedy, outcome });
    assert!(!in_service(&story, node));
    assert!(story.out.iter().any(|effect| matches!(effect, Effect::Remedy { .. })));
}

#[test]
fn a_checkpoint_that_was_saved_with_a_broken_loss_is_not_gone_on_from() {
    let mut story = Story::of(3);
    let id = story.run(job(2));
    for step in [10, 20, 30] {
        story.after(MINUTE).step(id, step);
        story.checkpoint(id, step);
    }
    story.after(1000).tell(Event::LossBroken { job: id, epoch: Epoch(1), rank: Rank(0), step: 19 });
    assert_eq!(story.state(id), JobState::Stopping);
    assert!(story.column(Column::Lost) >= 2 * 8 * 2 * MINUTE, "the work since step 10");
    story.tell(Event::CheckpointSaved { job: id, epoch: Epoch(1), step: 40, blocked_ms: 0 });
    story.gone(id);
    let launches = story.out.iter().filter_map(|effect| match effect {
        Effect::Command(command) => match &command.order {
            Order::Launch(launch) => Some(launch.resume_step),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(launches.collect::<Vec<_>>(), [Some(10)]);
    story.all_up(id);
    story.step(id, 11);
    story.checkpoint(id, 20);
    assert_eq!(story.core.job(id).unwrap().checkpoint_step, Some(20), "saved anew, and well");
    // It breaks at once after the start from there: that one was no good either.
    story.tell(Event::LossBroken { job: id, epoch: Epoch(2), rank: Rank(0), step: 12 });
    assert_eq!(story.core.job(id).unwrap().checkpoint_step, None);
    assert_eq!(story.core.job(id).unwrap().resume_step(), Some(0), "from the beginning");
}

#[test]
fn a_launch_that_failed_once_is_forgiven_when_the_job_trains_there() {
    let mut shunned = Shunned::default();
    let (one, other) = (NodeId(1), NodeId(2));
    shunned.note(one);
    shunned.note(other);
    shunned.forgive([one].into_iter());
    shunned.note(one);
    shunned.note(other);
    assert_eq!(shunned.nodes.into_iter().collect::<Vec<_>>(), [other], "twice in a row");
}

#[test]
fn a_program_that_says_what_is_wrong_with_it_is_no_victim_of_a_node_that_forgets_it() {
    let mut story = Story::of(3);
    let id = story.run(job(2));
    let gang = story.gang(id);
    let symptom = Symptom { kind: SymptomKind::Program, line: "KeyError: 'x'".into() };
    let (epoch, rank) = (Epoch(1), Rank(0));
    story.after(5000).tell(Event::SymptomSeen { job: id, epoch, rank, symptom: Box::new(symptom) });
    let first = story.ended(id, gang[0], &Exit::Code(1), false);
    story.report(gang[0].0, vec![first]);
    // The other node comes back with an empty disk, and is told to stop what it does not know.
    let gone = |seq, attempts| Event::NodeReported { node: gang[1], incarnation: 2, seq, attempts };
    story.after(1000).tell(gone(1, vec![]));
    let phase = ReportedPhase::Gone;
    let attempts = vec![AttemptReport { job: id, epoch, phase, ranks: vec![] }];
    story.after(1000).tell(gone(2, attempts));
    let past = &story.core.job(id).unwrap().history[0];
    assert_eq!(past.charge, Charge::User, "{past:?}");
}

#[test]
fn a_suspect_that_a_guardrail_keeps_in_service_is_not_tested() {
    let mut story = half_out(&Repair { breaker_nodes: 0, ..Repair::default() }, 9);
    let id = story.run(job(4));
    let gang = story.gang(id);
    let finding = Finding::new(
        FindingClass::known("gpu.row_remap_pending"),
        Severity::Warning,
        Action::ResetGpu,
        FindingSource::KernelLog,
        "as the log has it",
    );
    story.tell(Event::FindingSeen { node: gang[1], finding: Box::new(finding) });
    assert!(story.core.kept_because(gang[1]).is_some(), "its check is taken to be broken");
    let mut core = Core::restore(&story.core.snapshot()).unwrap();
    let mut out = Vec::new();
    core.suspect(id, &gang[..2], &mut out);
    core.check();
    let stays = |effect: &Effect| match effect {
        Effect::Trail(entry) => matches!(entry.what, TrailKind::SuspectsStay { .. }),
        _ => false,
    };
    assert!(out.iter().any(stays), "{out:?}");
    assert!(core.ticket(gang[0]).is_none(), "nor is the other");
}

#[test]
fn the_queue_keeps_away_from_what_a_job_shuns_unless_there_is_nothing_else() {
    let mut story = Story::of(6);
    let id = story.run(job(2));
    let mut core = Core::restore(&story.core.snapshot()).unwrap();
    let mut kept_away_from = Vec::new();
    for _ in 0..2 {
        let placed = core.place(id, &[], 2).unwrap();
        let nodes: Vec<NodeId> = placed.nodes.iter().map(|(node, _)| *node).collect();
        assert!(nodes.iter().all(|node| !kept_away_from.contains(node)), "{nodes:?}");
        for &node in &nodes {
            core.avoid(id, node);
        }
        kept_away_from.extend(nodes);
    }
    assert_eq!(core.place(id, &[], 2).map(|placed| placed.nodes.len()), Ok(2), "better there");
}
