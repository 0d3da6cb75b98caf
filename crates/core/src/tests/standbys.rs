//! Stories of processes that wait for a rank: on spares, and beside the ranks of a gang.

use super::story::{Story, job, killed};
use crate::Event;
use crate::effect::{Effect, Order};
use lindos_model::{
    Column, EffectId, JobId, JobSpec, JobState, NodeId, Policy, RequestId, StandbyReport,
    StandbyState, TrailKind,
};

fn warm(nodes: u32, spares: u32) -> JobSpec {
    JobSpec { spares, warm_spares: spares, ..job(nodes) }
}

fn standby(story: &Story, id: JobId, node: u32) -> Option<EffectId> {
    story.core.standby_on(id, NodeId(node)).map(|standby| standby.id)
}

fn offer(story: &mut Story, job: JobId) {
    story.tell(Event::StandbyOffered { job });
}

/// What a node says of all that waits there; whether anybody wants to hear it.
fn says(story: &mut Story, node: u32, standbys: Vec<StandbyReport>) -> bool {
    let is_news = story.core.hears_of_standbys(NodeId(node), &standbys);
    let (node, incarnation, seq) = (NodeId(node), 1, story.seq + 1);
    story.seq = seq;
    story.tell(Event::StandbysReported { node, incarnation, seq, standbys });
    is_news
}

fn waits(story: &mut Story, job: JobId, node: u32) -> bool {
    let id = standby(story, job, node).expect("nothing was to wait there");
    says(story, node, vec![StandbyReport { job, id, state: StandbyState::Ready }])
}

/// A gang of two nodes and its spare, on which its processes wait.
fn with_warm_spare(fleet: u32) -> (Story, JobId, u32) {
    let mut story = Story::of(fleet);
    let id = story.run(warm(2, 1));
    offer(&mut story, id);
    assert_eq!(story.orders(), format!("stand by {id}/1 on n2"));
    assert!(waits(&mut story, id, 2));
    (story, id, 2)
}

fn lose(story: &mut Story, id: JobId, lost: NodeId) {
    story.silent(lost.0, story.now);
    for node in story.gang(id).into_iter().filter(|node| *node != lost) {
        let stopped = story.ended(id, node, &killed(), true);
        story.report(node.0, vec![stopped]);
    }
    story.fenced(lost.0);
}

fn started_warm(story: &Story) -> Option<(u32, u32)> {
    story.out.iter().find_map(|effect| match effect {
        Effect::Trail(entry) => match entry.what {
            TrailKind::StartedWarm { warm, nodes } => Some((warm, nodes)),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn nothing_is_started_before_the_program_says_that_it_can_wait() {
    let mut story = Story::of(3);
    let id = story.run(warm(2, 1));
    assert!(story.core.asks_for_standby(id));
    assert_eq!(standby(&story, id, 2), None);
    offer(&mut story, id);
    assert!(!story.core.asks_for_standby(id));
    assert!(standby(&story, id, 2).is_some());
    let plain = story.submit(job(1));
    assert!(!story.core.asks_for_standby(plain));
}

#[test]
fn the_order_is_given_again_until_the_node_says_that_they_wait() {
    let mut story = Story::of(3);
    let id = story.run(warm(2, 1));
    offer(&mut story, id);
    story.wait(4000);
    assert!(story.orders().contains("stand by"));
    let asked = standby(&story, id, 2).unwrap();
    let first = story.out.iter().find_map(|effect| match effect {
        Effect::Command(command) => match &command.order {
            Order::StandBy(order) => Some((order.id, command.id)),
            _ => None,
        },
        _ => None,
    });
    let (of_order, of_command) = first.unwrap();
    assert_eq!(of_order, asked, "it is the same set of processes");
    assert_ne!(of_command, asked);
    waits(&mut story, id, 2);
    story.wait(60_000);
    assert_eq!(story.orders(), "");
}

#[test]
fn a_warm_spare_stands_in_and_what_waits_there_goes_on() {
    let (mut story, id, spare) = with_warm_spare(4);
    let before = story.column(Column::Spare);
    story.wait(1000);
    assert_eq!(story.column(Column::Spare) - before, 8 * 1000, "it is a spare as any other");
    let gang = story.gang(id);
    lose(&mut story, id, gang[1]);
    assert_eq!(story.gang(id), [gang[0], NodeId(spare)]);
    assert_eq!(started_warm(&story), Some((1, 2)));
    assert!(!story.orders().contains("stand down"), "{}", story.orders());
    assert_eq!(standby(&story, id, spare), None, "it is a rank now");
    // The other free node is the spare now; once the gang runs, processes wait there.
    story.all_up(id);
    assert!(standby(&story, id, 3).is_some());
}

#[test]
fn a_warm_spare_comes_before_a_cold_one() {
    let mut story = Story::under(Policy::default(), 0);
    for node in 0..8 {
        story.join_in_rack(node, node / 4);
    }
    let id = story.run(JobSpec { warm_spares: 1, ..warm(4, 2) });
    offer(&mut story, id);
    let asked = standby(&story, id, 4).unwrap();
    let state = StandbyState::Ended { reason: "process 0, exit status 1".into() };
    says(&mut story, 4, vec![StandbyReport { job: id, id: asked, state }]);
    // Now they wait on the other spare.
    waits(&mut story, id, 5);
    let gang = story.gang(id);
    lose(&mut story, id, gang[0]);
    assert_eq!(story.gang(id)[0], NodeId(5), "n4 is as near, and first by number");
}

fn drained(node: u32) -> Event {
    let (request, node) = (RequestId(9_000), NodeId(node));
    Event::NodeDrained { request, node, reason: "firmware".into() }
}

#[test]
fn processes_that_wait_go_when_the_gang_does_or_the_spare() {
    let (mut story, id, spare) = with_warm_spare(3);
    story.cancel(id);
    assert_eq!(story.state(id), JobState::Stopping);
    story.gone(id);
    assert!(story.orders().contains(&format!("stand down {id}/1 on n{spare}")));
    // The message is lost: they are told of still.
    let report = StandbyReport { job: id, id: EffectId(1), state: StandbyState::Ready };
    assert!(says(&mut story, spare, vec![report]));
    assert_eq!(story.orders(), format!("stand down {id}/1 on n{spare}"));
    assert!(!says(&mut story, spare, vec![]));

    let (mut story, id, spare) = with_warm_spare(4);
    story.tell(drained(spare));
    let orders = story.orders();
    assert_eq!(orders, format!("stand by {id}/1 on n3, stand down {id}/1 on n{spare}"));
}

#[test]
fn what_ends_by_itself_while_it_waits_is_not_started_again_in_this_attempt() {
    let (mut story, id, spare) = with_warm_spare(3);
    let asked = standby(&story, id, spare).unwrap();
    let state = StandbyState::Ended { reason: "process 0, exit status 1".into() };
    assert!(says(&mut story, spare, vec![StandbyReport { job: id, id: asked, state }]));
    assert_eq!(story.orders(), format!("stand down {id}/1 on n{spare}"), "it is forgotten");
    assert_eq!(standby(&story, id, spare), None);
    story.wait(600_000);
    assert_eq!(standby(&story, id, spare), None);
    // It stands in all the same, and starts from nothing. The next attempt tries again.
    let gang = story.gang(id);
    lose(&mut story, id, gang[1]);
    assert_eq!(story.gang(id)[1], NodeId(spare));
    assert_eq!(started_warm(&story), None);
}

#[test]
fn a_node_that_tells_no_more_of_what_waited_has_lost_it_and_is_asked_again() {
    let (mut story, id, spare) = with_warm_spare(3);
    let before = standby(&story, id, spare);
    assert!(says(&mut story, spare, vec![]));
    assert_eq!(story.orders(), format!("stand by {id}/1 on n{spare}"));
    assert!(standby(&story, id, spare) > before);
    assert!(!says(&mut story, spare, vec![]), "they are on their way");
    assert!(waits(&mut story, id, spare));
    // An older word than the node's last is none.
    let (mut story, id, spare) = with_warm_spare(3);
    let seq = story.seq;
    story.report(spare, vec![]);
    let (node, standbys) = (NodeId(spare), Vec::new());
    story.tell(Event::StandbysReported { node, incarnation: 1, seq, standbys });
    assert!(standby(&story, id, spare).is_some());
}

#[test]
fn beside_their_ranks_processes_wait_for_a_restart_in_place() {
    let mut story = Story::of(2);
    let id = story.run(JobSpec { warm_restarts: true, ..job(2) });
    offer(&mut story, id);
    assert_eq!(story.orders(), format!("stand by {id}/1 on n0, stand by {id}/1 on n1"));
    waits(&mut story, id, 0);
    waits(&mut story, id, 1);
    let gang = story.gang(id);
    let died = story.ended(id, gang[0], &killed(), false);
    story.report(gang[0].0, vec![died]);
    let stopped = story.ended(id, gang[1], &killed(), true);
    story.report(gang[1].0, vec![stopped]);
    assert_eq!(story.core.job(id).unwrap().epoch.0, 2);
    assert_eq!(started_warm(&story), Some((2, 2)));
    // Told once more before the launch came there: nobody ends them.
    let asked = StandbyReport { job: id, id: EffectId(3), state: StandbyState::Ready };
    assert!(!says(&mut story, 0, vec![asked.clone()]));
    assert_eq!(story.orders(), "");
    story.all_up(id);
    assert_eq!(standby(&story, id, 0), None, "its ranks are not held up while they start");
    story.step(id, 1);
    assert!(standby(&story, id, 0).is_some() && standby(&story, id, 1).is_some());
    // One that is told of now has been left behind.
    assert!(says(&mut story, 0, vec![asked]));
    assert!(story.orders().contains("stand down"));
}

#[test]
fn a_lost_replica_goes_on_where_its_processes_wait() {
    let mut story = Story::of(5);
    let spec = JobSpec { replicas: 4, replicas_min: 2, ..warm(4, 1) };
    let id = story.run(spec);
    offer(&mut story, id);
    waits(&mut story, id, 4);
    story.step(id, 2);
    let gang = story.gang(id);
    story.silent(gang[2].0, story.now);
    story.fenced(gang[2].0);
    assert_eq!(story.gang(id)[2], NodeId(4));
    assert_eq!(started_warm(&story), Some((1, 1)));
}
