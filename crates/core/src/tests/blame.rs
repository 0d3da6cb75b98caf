//! Stories of who is to blame.

use super::story::{Story, job, killed};
use lindos_model::blame::{Blame, Culprit, Sign};
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity, Suspect};
use lindos_model::reason::Charge;
use lindos_model::{
    Activity, Apart, Exit, JobId, JobSpec, JobState, Millis, NodeId, Rank, StackPlace, Stacks,
    Stall, Symptom, SymptomKind, Time, TrailKind,
};

fn verdicts(story: &Story, id: JobId) -> Vec<(Blame, Charge)> {
    let history = &story.core.job(id).unwrap().history;
    history.iter().filter_map(|past| Some((past.blame.clone()?, past.charge))).collect()
}

fn last(story: &Story, id: JobId) -> (Blame, Charge) {
    verdicts(story, id).pop().expect("a fault")
}

impl Story {
    fn says(&mut self, job: JobId, rank: u32, kind: SymptomKind) {
        let epoch = self.core.job(job).unwrap().epoch;
        let symptom = Box::new(Symptom { kind, line: format!("{kind} trouble") });
        self.tell(crate::Event::SymptomSeen { job, epoch, rank: Rank(rank), symptom });
    }

    fn stalls(&mut self, job: JobId, stall: Stall) {
        let epoch = self.core.job(job).unwrap().epoch;
        self.tell(crate::Event::StallSeen { job, epoch, stall: Box::new(stall) });
    }

    fn finds(&mut self, node: NodeId, class: &'static str, severity: Severity, suspect: Suspect) {
        let finding = Finding {
            suspect,
            ..Finding::new(
                FindingClass::known(class),
                severity,
                Action::None,
                FindingSource::KernelLog,
                "seen",
            )
        };
        self.tell(crate::Event::FindingSeen { node, finding: Box::new(finding) });
    }

    /// The ranks of one node end so, and then those of all others, as they are stopped.
    fn ends_by(&mut self, job: JobId, node: NodeId, exit: &Exit) {
        let report = self.ended(job, node, exit, false);
        self.report(node.0, vec![report]);
        self.ends_on_others(job, &[node]);
    }

    /// The ranks on all other nodes are stopped.
    fn ends_on_others(&mut self, job: JobId, gone: &[NodeId]) {
        for node in self.gang(job).into_iter().filter(|node| !gone.contains(node)) {
            let report = self.ended(job, node, &killed(), true);
            self.report(node.0, vec![report]);
        }
    }

    /// Trains again, up to a step.
    fn trains_to(&mut self, job: JobId, step: u64) {
        self.all_up(job);
        for at in 1..=step {
            self.after(1000).step(job, at);
        }
    }
}

fn stall(step: u64, most: Activity, apart: Vec<Apart>) -> Stall {
    let behind = apart.iter().filter(|apart| apart.step.is_some_and(|at| at < step)).count();
    Stall {
        since: lindos_model::Time(1),
        step,
        told: 32,
        at_step: 32 - behind as u32,
        most: Some(most),
        apart,
    }
}

#[test]
fn a_rank_that_is_killed_from_outside_convicts_its_node() {
    let mut story = Story::of(8);
    let id = story.run(job(4));
    let node = story.gang(id)[2];
    story.after(5000).ends_by(id, node, &killed());
    let (blame, charge) = last(&story, id);
    assert_eq!(blame.culprit, Culprit::Node(format!("n{}", node.0)));
    assert!(blame.percent >= Blame::SURE, "{blame}");
    assert_eq!(charge, Charge::Infrastructure);
    assert_eq!(story.core.health(node).unwrap().strikes.len(), 1);
}

#[test]
fn a_traceback_of_the_program_is_the_users_and_strikes_nobody() {
    let mut story = Story::of(8);
    let id = story.run(job(4));
    let node = story.gang(id)[1];
    story.after(5000).says(id, 1, SymptomKind::Program);
    story.ends_by(id, node, &Exit::Code(1));
    let (blame, charge) = last(&story, id);
    assert_eq!((blame.culprit.clone(), charge), (Culprit::User, Charge::User), "{blame}");
    assert!(blame.percent >= Blame::SURE, "{blame}");
    assert!(story.core.health(node).is_none_or(|health| health.strikes.is_empty()));
}

#[test]
fn a_status_with_a_dead_gpu_on_the_node_is_the_nodes_and_costs_the_user_nothing() {
    let mut story = Story::of(8);
    let id = story.run(job(4));
    let node = story.gang(id)[1];
    story.after(5000).says(id, 8, SymptomKind::Device);
    story.finds(node, "gpu.xid.48", Severity::Warning, Suspect::Hardware);
    story.ends_by(id, node, &Exit::Code(1));
    let (blame, charge) = last(&story, id);
    assert_eq!(blame.culprit, Culprit::Node(format!("n{}", node.0)), "{blame}");
    assert_eq!(charge, Charge::Infrastructure);
    assert_eq!(story.core.job(id).unwrap().user_used, 0);
}

#[test]
fn who_lost_a_peer_is_not_to_blame_and_a_peer_with_a_dead_gpu_is() {
    let mut story = Story::of(8);
    let id = story.run(job(4));
    let (victim, culprit) = (story.gang(id)[0], story.gang(id)[3]);
    story.after(5000).says(id, 0, SymptomKind::Peer);
    story.says(id, 24, SymptomKind::Device);
    let first = story.ended(id, victim, &Exit::Code(1), false);
    story.report(victim.0, vec![first]);
    let second = story.after(1000).ended(id, culprit, &Exit::Code(1), false);
    story.report(culprit.0, vec![second]);
    for other in [1, 2].map(|at| story.gang(id)[at]) {
        let report = story.ended(id, other, &killed(), true);
        story.report(other.0, vec![report]);
    }
    let (blame, charge) = last(&story, id);
    assert_eq!(blame.culprit, Culprit::Node(format!("n{}", culprit.0)), "{blame}");
    assert_eq!(charge, Charge::Infrastructure);
}

#[test]
fn the_rank_that_stands_still_is_to_blame_for_a_hang_and_the_hang_is_called_at_once() {
    let mut story = Story::of(8);
    let id = story.submit(job(4));
    story.trains_to(id, 10);
    let before = story.now;
    let apart = vec![Apart { rank: Rank(17), step: Some(9), activity: Some(Activity::Stopped) }];
    story.after(5000).stalls(id, stall(10, Activity::Idle, apart));
    story.wait(3000);
    assert_eq!(story.state(id), JobState::Stopping, "no first checkpoint is waited for");
    let node = story.gang(id)[2];
    story.gone(id);
    let (blame, _) = last(&story, id);
    assert_eq!(blame.culprit, Culprit::Node(format!("n{}", node.0)), "{blame}");
    assert!(blame.percent >= Blame::SURE, "{blame}");
    assert!(story.now.since(before).0 < 10_000);
}

#[test]
fn ranks_that_work_are_given_time_for_an_evaluation_that_nobody_has_seen_before() {
    let mut story = Story::of(8);
    let id = story.submit(job(4));
    story.trains_to(id, 10);
    story.checkpoint(id, 10);
    let apart = vec![Apart { rank: Rank(0), step: Some(10), activity: Some(Activity::Busy) }];
    story.after(5000).stalls(id, stall(10, Activity::Idle, apart));
    story.wait(200_000);
    assert_eq!(story.state(id), JobState::Running);
    story.step(id, 11);
    story.wait(200_000);
    assert_eq!(story.state(id), JobState::Running, "the pause is known now");
    story.wait(300_000);
    assert_eq!(story.state(id), JobState::Stopping, "it is not waited for for ever");
}

#[test]
fn a_look_at_ranks_that_work_brings_no_deadline_forward_after_the_clock_has_jumped() {
    let mut story = Story::of(8);
    let id = story.submit(job(4));
    story.trains_to(id, 10);
    story.checkpoint(id, 10);
    story.after(3_600_000).tell(crate::Event::Tick);
    assert_eq!(story.state(id), JobState::Running, "nobody listened for an hour");
    story.after(1000).stalls(id, stall(10, Activity::Busy, Vec::new()));
    assert_eq!(story.state(id), JobState::Running);
}

#[test]
fn a_look_at_ranks_that_stand_still_counts_from_when_somebody_listened_again() {
    let mut story = Story::of(8);
    let id = story.submit(job(4));
    story.trains_to(id, 10);
    story.checkpoint(id, 10);
    story.after(3_600_000).tell(crate::Event::Tick);
    story.after(1000).stalls(id, stall(10, Activity::Idle, Vec::new()));
    story.wait(1000);
    assert_eq!(story.state(id), JobState::Running, "they have not been heard for two seconds");
    story.wait(10_000);
    assert_eq!(story.state(id), JobState::Stopping, "and now for twelve");
}

#[test]
fn the_same_end_at_the_same_step_on_other_machines_is_the_jobs_own() {
    let mut story = Story::of(8);
    let id = story.submit(JobSpec { retry_user: 5, ..job(2) });
    let mut shares = Vec::new();
    for at in [0, 1, 0] {
        story.trains_to(id, 7);
        let node = story.gang(id)[at];
        story.ends_by(id, node, &Exit::Code(1));
        shares.push(last(&story, id).0);
        story.wait(100_000);
    }
    assert!(shares[0].percent < Blame::SURE, "{}", shares[0]);
    assert_eq!(shares[2].culprit, Culprit::User, "{}", shares[2]);
    assert!(shares[2].percent >= Blame::SURE, "{}", shares[2]);
}

#[test]
fn a_loss_that_breaks_again_at_the_same_step_is_the_jobs_own() {
    let mut story = Story::of(8);
    let id = story.submit(job(2));
    for charge in [Charge::Infrastructure, Charge::User] {
        story.trains_to(id, 7);
        let epoch = story.core.job(id).unwrap().epoch;
        story.tell(crate::Event::LossBroken { job: id, epoch, rank: Rank(0), step: 7 });
        assert_eq!(story.state(id), JobState::Stopping);
        story.gone(id);
        assert_eq!(last(&story, id).1, charge, "{}", last(&story, id).0);
        story.wait(100_000);
    }
}

#[test]
fn two_silent_nodes_of_one_rack_convict_the_rack_and_people_are_told_why() {
    let (mut story, id) = job_over_racks();
    story.after(5000);
    let at = story.now;
    let gang = story.gang(id);
    let silent: Vec<NodeId> = gang.iter().filter(|node| node.0 / 4 == 1).take(2).copied().collect();
    for node in &silent {
        story.silent(node.0, at);
    }
    story.ends_on_others(id, &silent);
    for node in &silent {
        story.fenced(node.0);
    }
    let (blame, charge) = last(&story, id);
    let rack = Culprit::Shared { place: "rack r1".into(), nodes: 2 };
    assert_eq!((blame.culprit.clone(), charge), (rack, Charge::Infrastructure), "{blame}");
    assert!(blame.percent >= Blame::SURE, "{blame}");
    let is_told = |entry: &lindos_model::TrailEntry| matches!(&entry.what, TrailKind::Weighed { blame: told } if **told == blame);
    assert!(story.core.trail_after(0).any(is_told), "{blame}");
}

#[test]
fn one_silent_node_is_to_blame_and_not_its_rack_where_another_only_has_a_finding() {
    let (mut story, id) = job_over_racks();
    story.after(5000);
    let at = story.now;
    let gang = story.gang(id);
    let in_rack: Vec<NodeId> = gang.iter().filter(|node| node.0 / 4 == 1).copied().collect();
    story.finds(in_rack[1], "nic.link_down", Severity::Nonfatal, Suspect::Hardware);
    story.silent(in_rack[0].0, at);
    story.ends_on_others(id, &in_rack[..1]);
    story.fenced(in_rack[0].0);
    let (blame, _) = last(&story, id);
    assert_eq!(blame.culprit, Culprit::Node(format!("n{}", in_rack[0].0)), "{blame}");
}

#[test]
fn a_hang_that_comes_again_on_the_same_bad_machine_says_nothing_of_the_job() {
    let mut story = Story::of(8);
    let id = story.submit(job(8));
    let mut blames = Vec::new();
    for _ in 0..2 {
        story.trains_to(id, 10);
        let bad = 8 * story.gang(id).iter().position(|node| node.0 == 5).unwrap() as u32;
        let apart =
            vec![Apart { rank: Rank(bad), step: Some(10), activity: Some(Activity::Blocked) }];
        story.after(5000).stalls(id, stall(10, Activity::Idle, apart));
        story.wait(10_000);
        story.gone(id);
        blames.push(last(&story, id).0);
        story.wait(100_000);
    }
    for blame in &blames {
        assert_eq!(blame.culprit, Culprit::Node("n5".into()), "{blame}");
        let is_again =
            |clue: &lindos_model::blame::Clue| matches!(clue.sign, Sign::SameAgain { .. });
        assert!(!blame.clues.iter().any(is_again), "{blame}");
    }
}

/// Eight of twelve nodes, four in a rack, the gang over more than one of them.
fn job_over_racks() -> (Story, JobId) {
    let mut story = Story::of(0);
    for node in 0..12 {
        story.join_in_rack(node, node / 4);
    }
    let id = story.run(job(8));
    (story, id)
}

#[test]
fn the_rank_that_is_not_in_the_collective_is_to_blame_for_a_hang() {
    let mut story = Story::of(5);
    let id = story.run(job(4));
    for step in 1..=10 {
        story.after(1000).step(id, step);
    }
    let (epoch, node) = (story.core.job(id).unwrap().epoch, story.gang(id)[2]);
    let outside = vec![(Rank(17), StackPlace::Data)];
    let stacks = Box::new(Stacks { step: 10, known: 32, in_collective: 31, outside });
    story.after(5000).tell(crate::Event::StacksSeen { job: id, epoch, stacks });
    story.stalls(id, stall(10, Activity::Idle, Vec::new()));
    story.wait(60_000);
    assert_eq!(story.state(id), JobState::Stopping);
    story.all_end(id, &killed(), true);
    let (blame, _) = last(&story, id);
    let name = story.core.node(node).unwrap().spec.name.clone();
    assert_eq!(blame.culprit, Culprit::Node(name), "{blame}");
    let first = &blame.clues[0].sign;
    assert!(matches!(first, Sign::OutsideCollective { rank: Rank(17), .. }), "{blame}");
}

/// Two nodes train, by clocks that are `behind` the control plane's. The ranks of one end, and the other
/// is heard last so long after that was told, and then no more.
fn falls_silent(behind: u64, heard_after: u64) -> (Blame, Charge) {
    let mut story = Story::of(3);
    let id = story.run(job(2));
    story.wait(60_000);
    story.step(id, 5);
    let gang = story.gang(id);
    let mut ended = story.ended(id, gang[0], &Exit::Code(1), false);
    for rank in &mut ended.ranks {
        let exit = rank.exit.as_mut().unwrap();
        exit.at = Time(exit.at.0 - behind);
    }
    story.report(gang[0].0, vec![ended]);
    story.says(id, 0, SymptomKind::Peer);
    let heard = story.now + Millis(heard_after);
    story.wait(heard_after + 5_000);
    story.silent(gang[1].0, heard);
    story.fenced(gang[1].0);
    last(&story, id)
}

#[test]
fn a_node_that_fell_silent_is_why_whatever_the_clocks_of_nodes_say() {
    for behind in [0, 30_000] {
        let (blame, charge) = falls_silent(behind, 0);
        assert_eq!(charge, Charge::Infrastructure, "{blame}");
        let (blame, charge) = falls_silent(behind, 20_000);
        assert_eq!(charge, Charge::User, "heard long after: {blame}");
    }
}

#[test]
fn a_start_that_comes_to_no_step_is_charged_to_the_job_only_when_it_goes_on_so() {
    let mut story = Story::of(2);
    let startup_timeout = Some(Millis(60_000));
    let id = story.submit(JobSpec { startup_timeout, ..job(2) });
    for _ in 0..3 {
        story.all_up(id);
        while story.state(id) == JobState::Running {
            story.wait(1000);
        }
        story.all_end(id, &killed(), true);
        while story.state(id) == JobState::Queued {
            story.wait(1000);
        }
    }
    let charges: Vec<Charge> = verdicts(&story, id).into_iter().map(|(_, charge)| charge).collect();
    assert_eq!(
        charges,
        [Charge::Infrastructure, Charge::Infrastructure, Charge::User],
        "{:?}",
        verdicts(&story, id)
    );
}
