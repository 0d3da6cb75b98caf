//! Stories of ranks that their peers wait for.

use super::story::{Story, job, killed};
use crate::event::Event;
use lindos_model::blame::Sign;
use lindos_model::policy::Repair;
use lindos_model::{
    JobId, NodeId, Policy, Rank, Remedy, SlowBy, SlowSign, Straggler, Time, TrailKind,
};

const MINUTE: u64 = 60_000;

fn slow(rank: u32, since: Time, cost_permille: u32) -> Straggler {
    Straggler {
        rank: Rank(rank),
        ranks: 8,
        sign: SlowSign::WaitsLeast,
        by: SlowBy::Working,
        since,
        step: 10,
        own: 10,
        peers: 10 + cost_permille,
        cost_permille,
    }
}

impl Story {
    fn straggles(&mut self, job: JobId, straggler: Straggler) {
        let epoch = self.core.job(job).unwrap().epoch;
        self.tell(Event::StragglerSeen { job, epoch, straggler: Box::new(straggler) });
    }

    fn said_of(&self, kind: &str) -> usize {
        self.core.trail_after(0).filter(|entry| entry.what.name() == kind).count()
    }

    fn ticket(&self, node: NodeId) -> Option<(String, Remedy)> {
        self.core.ticket(node).map(|ticket| (ticket.class.to_string(), ticket.remedy))
    }
}

/// A job on 3 of the nodes, under a policy that leaves those that cost 20 % for five minutes.
fn story(nodes: u32, cost_percent: u32) -> (Story, JobId) {
    let repair = Repair {
        straggler_cost_percent: cost_percent,
        straggler_ms: 5 * MINUTE,
        platform_out_max_percent: 50,
        fleet_out_max_percent: 50,
        ..Repair::default()
    };
    let mut story = Story::under(Policy { repair, ..Policy::default() }, nodes);
    let id = story.run(job(3));
    story.after(1000).step(id, 1);
    (story, id)
}

#[test]
fn it_is_told_once_and_again_when_it_is_over_and_the_node_remembers() {
    let (mut story, id) = story(4, 0);
    let since = story.now;
    let node = story.gang(id)[1];
    for _ in 0..3 {
        story.after(5 * MINUTE).step(id, 2);
        story.straggles(id, slow(8, since, 400));
    }
    assert_eq!((story.said_of("straggler_seen"), story.ticket(node)), (1, None), "only told");
    let epoch = story.core.job(id).unwrap().epoch;
    story.tell(Event::StragglerGone { job: id, epoch, rank: Rank(9) });
    assert_eq!(story.said_of("straggler_gone"), 0, "it was another");
    story.tell(Event::StragglerGone { job: id, epoch, rank: Rank(8) });
    story.tell(Event::StragglerGone { job: id, epoch, rank: Rank(8) });
    let history = story.core.health(node).unwrap().history();
    let names: Vec<&str> = history.map(|(_, what)| what.name()).collect();
    assert_eq!(names, ["straggler_seen", "straggler_gone"]);
}

#[test]
fn a_node_that_costs_too_much_for_too_long_is_left_at_a_checkpoint_when_another_can_stand_in() {
    let (mut story, id) = story(4, 20);
    let (since, node) = (story.now, story.gang(id)[1]);
    story.after(MINUTE).straggles(id, slow(8, since, 400));
    assert_eq!(story.ticket(node), None, "not for long enough");
    story.after(5 * MINUTE).step(id, 2);
    story.straggles(id, slow(8, since, 150));
    assert_eq!(story.ticket(node), None, "too little");
    story.straggles(id, slow(8, since, 250));
    assert_eq!(story.ticket(node), Some(("node.straggler".to_string(), Remedy::Diagnose)));
    assert!(!story.core.job(id).unwrap().attempt.as_ref().unwrap().is_stopping());
    story.after(1000).checkpoint(id, 2);
    story.all_end(id, &killed(), true);
    assert!(!story.gang(id).contains(&node), "the fourth stands in");
    assert_eq!(story.core.job(id).unwrap().faults, 0);
}

#[test]
fn it_stays_where_nothing_can_stand_in() {
    let (mut story, id) = story(3, 20);
    let (since, node) = (story.now, story.gang(id)[1]);
    story.after(6 * MINUTE).step(id, 2);
    story.straggles(id, slow(8, since, 900));
    assert_eq!(story.ticket(node), None);
}

#[test]
fn a_rank_that_is_slow_wherever_it_runs_takes_no_node_out() {
    let (mut story, id) = story(8, 20);
    let (since, first) = (story.now, story.gang(id)[1]);
    story.after(6 * MINUTE).step(id, 2);
    story.straggles(id, slow(8, since, 400));
    story.after(1000).checkpoint(id, 2);
    story.all_end(id, &killed(), true);
    story.all_up(id);
    story.after(1000).step(id, 3);
    let (since, second) = (story.now, story.gang(id)[1]);
    assert_ne!(first, second);
    for step in 4..8 {
        story.after(6 * MINUTE).step(id, step);
        story.straggles(id, slow(8, since, 400));
    }
    assert_eq!(story.ticket(second), None);
    let last = story.core.trail_after(0).filter_map(|entry| match &entry.what {
        TrailKind::StragglerSeen { elsewhere, .. } => Some(*elsewhere),
        _ => None,
    });
    assert_eq!(last.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn that_it_was_slow_speaks_a_little_against_a_node_when_it_fails() {
    let (mut story, id) = story(4, 0);
    let node = story.gang(id)[1];
    let since = story.now;
    story.after(1000).straggles(id, slow(8, since, 400));
    let report = story.ended(id, node, &killed(), false);
    story.report(node.0, vec![report]);
    for other in story.gang(id).into_iter().filter(|other| *other != node) {
        let report = story.ended(id, other, &killed(), true);
        story.report(other.0, vec![report]);
    }
    let blame = story.core.job(id).unwrap().history[0].blame.clone().unwrap();
    let clue = blame.clues.iter().find(|clue| matches!(clue.sign, Sign::WasSlow { .. })).unwrap();
    assert_eq!((clue.weight, clue.node.as_deref()), (4, Some("n1")));
    assert_eq!(story.core.job(id).unwrap().attempt.as_ref().unwrap().evidence.straggler, None);
}

#[test]
fn word_of_ranks_and_launches_that_are_none_changes_nothing() {
    let (mut story, id) = story(4, 20);
    let before = story.core.digest();
    let straggler = Box::new(slow(800, Time(0), 900));
    let epoch = story.core.job(id).unwrap().epoch;
    story.tell(Event::StragglerSeen { job: id, epoch, straggler: straggler.clone() });
    let epoch = lindos_model::Epoch(9);
    story.tell(Event::StragglerSeen { job: id, epoch, straggler: straggler.clone() });
    story.tell(Event::StragglerGone { job: JobId(77), epoch, rank: Rank(0) });
    assert_eq!(story.core.digest(), before);
}
