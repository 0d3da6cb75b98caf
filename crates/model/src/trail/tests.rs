use super::*;

fn said(job: Option<u64>, what: TrailKind) -> String {
    let entry =
        TrailEntry { seq: 1, at: Time(10_003), job: job.map(JobId), epoch: None, node: None, what };
    entry.to_string()
}

#[test]
fn a_reservation_says_when_it_begins_and_what_it_costs() {
    let reserved = |nodes, from| TrailKind::Reserved {
        name: "demo".into(),
        nodes,
        from: Time(from),
        until: Time(3_610_000),
    };
    let ahead = said(None, reserved(2, 1_810_000));
    assert_eq!(ahead, "reservation demo made: 2 nodes for 30m, to begin in 30m");
    let now = said(None, reserved(1, 10_000));
    assert_eq!(now, "reservation demo made: 1 node for 1h");
    let made_way = |lost| TrailKind::MadeWay { name: "demo".into(), lost: Millis(lost) };
    let lost = said(Some(2), made_way(61_000));
    assert_eq!(lost, "job 2 makes way for reservation demo; it loses 1m 1s of work");
    assert_eq!(said(Some(2), made_way(0)), "job 2 makes way for reservation demo");
}
