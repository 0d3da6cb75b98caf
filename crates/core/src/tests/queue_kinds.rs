//! Stories of kinds of nodes, and of nodes that become another kind.

use super::queue::HOUR;
use super::story::{Story, job};
use crate::{Core, Event};
use lindos_model::{JobId, JobSpec, JobState, Level, Location, NodeId, NodeSpec, RequestId, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn a_node_does_not_have_the_labels_of_another_however_many_kinds_there_are() {
    let mut core = Core::new();
    let mut out = Vec::new();
    core.step(Time(1), &Event::ControlPlaneStarted { policy: Box::default() }, &mut out);
    for index in 0..1001u32 {
        let labels: BTreeMap<String, String> =
            [("hostname".to_string(), format!("n{index}"))].into();
        let spec = NodeSpec {
            name: format!("n{index}"),
            gpus: 8,
            platform: "p".into(),
            address: "127.0.0.1".into(),
            location: lindos_model::Location::default(),
            labels,
        };
        core.step(Time(2), &Event::NodeJoined { spec: Box::new(spec) }, &mut out);
        let event =
            Event::NodeReported { node: NodeId(index), incarnation: 1, seq: 1, attempts: vec![] };
        core.step(Time(2), &event, &mut out);
    }
    let labels: BTreeMap<String, String> = [("hostname".to_string(), "n0".to_string())].into();
    let spec = JobSpec { labels, ..job(2) };
    let event =
        Event::JobSubmitted { request: RequestId(1), user: "me".into(), spec: Arc::new(spec) };
    core.step(Time(3), &event, &mut out);
    let attempt = core.job(JobId(1)).unwrap().attempt.as_ref();
    let on: Vec<NodeId> = attempt.iter().flat_map(|a| &a.members).map(|m| m.node).collect();
    assert!(on.is_empty(), "one node alone has the label, and it runs on {on:?}");
}

#[test]
fn a_node_that_comes_again_with_a_label_is_looked_at() {
    let mut story = Story::of(1);
    let labels: BTreeMap<String, String> = [("disk".to_string(), "nvme".to_string())].into();
    let id = story.submit(JobSpec { labels: labels.clone(), ..job(1) });
    let spec = NodeSpec {
        name: "n0".into(),
        gpus: 8,
        platform: "p".into(),
        address: "127.0.0.1".into(),
        location: lindos_model::Location::default(),
        labels,
    };
    story.tell(Event::NodeJoined { spec: Box::new(spec) });
    story.wait(HOUR);
    assert_eq!(story.state(id), JobState::Starting, "{:?}", story.core.why(id));
}

fn in_rack(story: &Story, node: u32, rack: &str) -> NodeSpec {
    let location = Location { rack: rack.into(), ..Location::default() };
    NodeSpec { location, ..story.core.nodes()[node as usize].spec.clone() }
}

#[test]
fn nodes_that_come_again_elsewhere_leave_the_others_as_they_are() {
    let mut story = Story::of(0);
    for index in 0..6 {
        story.join_in_rack(index, index / 2);
    }
    let gang = story.run(job(2));
    assert_eq!(story.gang(gang), [NodeId(0), NodeId(1)]);
    // The first of a rack, one at work, and one to a rack that was not there before.
    for (node, rack) in [(2, "r2"), (0, "r1"), (5, "r9"), (3, "r2")] {
        let spec = Box::new(in_rack(&story, node, rack));
        story.tell(Event::NodeJoined { spec });
    }
    let rack = |nodes| JobSpec { within: Level::Rack, ..job(nodes) };
    let three = story.submit(rack(3));
    assert_eq!(story.gang(three), [NodeId(2), NodeId(3), NodeId(4)]);
    story.complete(gang);
    let two = story.submit(rack(2));
    assert_eq!(story.state(two), JobState::Queued, "n0, n1 and n5 stand in racks of their own");
}

#[test]
fn a_fleet_that_is_moved_again_and_again_keeps_no_more_places_than_it_needs() {
    let mut story = Story::of(2);
    for turn in 0..1_100 {
        let spec = in_rack(&story, 0, &format!("r{turn}"));
        let labels = BTreeMap::from([("turn".to_string(), turn.to_string())]);
        story.core.step(story.now, &join(NodeSpec { labels, ..spec }), &mut Vec::new());
    }
    story.core.check();
    let tree = story.core.fleet.index().tree();
    assert!(tree.vertices() < 1_100, "{} places", tree.vertices());
    assert_eq!(tree.pools().len(), 2);
    story.events.clear();
    story.core = Core::new();
}

fn join(spec: NodeSpec) -> Event {
    Event::NodeJoined { spec: Box::new(spec) }
}
