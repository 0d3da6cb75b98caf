//! The rules by example; `simulation.rs` has them all at once, in any order.

use super::*;

fn member(replica: usize) -> Member {
    Member { replica, epoch: 1 }
}

fn members(replicas: &[usize]) -> Vec<Member> {
    replicas.iter().map(|replica| member(*replica)).collect()
}

fn here(heard: &[usize], in_view: bool) -> Message {
    Message::Here(Here { heard: members(heard), in_view, left_waiting: None })
}

fn view(number: u64, replicas: &[usize]) -> View {
    View { number, members: members(replicas) }
}

/// One of three, two of which must train, connected to both others.
fn fresh(me: usize) -> Agreement {
    let mut agreement = Agreement::new(member(me), 3, 2, 100);
    for other in (0..3).filter(|other| *other != me) {
        agreement.linked(member(other));
        agreement.heard(other, here(&others(other), false)).unwrap();
    }
    sent(&mut agreement);
    agreement
}

fn others(of: usize) -> Vec<usize> {
    (0..3).filter(|other| *other != of).collect()
}

/// One of three in their first view, with so many steps done.
fn training(me: usize, step: u64) -> Agreement {
    let mut agreement = fresh(me);
    if me == 0 {
        agreement.review(false);
        for other in [1, 2] {
            agreement.heard(other, Message::Promise { number: 1, step: None }).unwrap();
        }
    } else {
        let propose = Message::Propose { view: view(1, &[0, 1, 2]), joiners: vec![] };
        agreement.heard(0, propose).unwrap();
        let begin = Begin {
            view: view(1, &[0, 1, 2]),
            step: None,
            source: 0,
            fresh: vec![1, 2],
            behind: vec![],
        };
        agreement.heard(0, Message::Begin(begin)).unwrap();
    }
    agreement.stands_at(step);
    agreement.poll_begun().expect("the first view");
    sent(&mut agreement);
    agreement
}

fn sent(agreement: &mut Agreement) -> Vec<(usize, Message)> {
    std::iter::from_fn(|| agreement.poll_message()).collect()
}

#[test]
fn all_begin_together_and_the_lowest_proposes() {
    let mut lowest = fresh(0);
    lowest.review(false);
    let expected = Message::Propose { view: view(1, &[0, 1, 2]), joiners: vec![] };
    assert_eq!(sent(&mut lowest), [(1, expected.clone()), (2, expected.clone())]);
    let mut other = fresh(1);
    other.review(false);
    assert_eq!(sent(&mut other), []);
    other.heard(0, expected).unwrap();
    assert_eq!(sent(&mut other), [(0, Message::Promise { number: 1, step: None })]);
}

#[test]
fn a_first_start_waits_for_all_until_it_has_waited_enough() {
    let mut lowest = fresh(0);
    lowest.lost(2);
    lowest.heard(1, here(&[0], false)).unwrap();
    sent(&mut lowest);
    lowest.review(false);
    assert_eq!(sent(&mut lowest), []);
    lowest.wait_no_longer();
    lowest.review(false);
    let expected = Message::Propose { view: view(1, &[0, 1]), joiners: vec![] };
    assert_eq!(sent(&mut lowest), [(1, expected)]);
}

#[test]
fn whoever_finds_a_run_waits_to_be_taken_in() {
    let mut late = fresh(0);
    late.heard(1, here(&[0, 2], true)).unwrap();
    late.wait_no_longer();
    late.review(false);
    assert_eq!(sent(&mut late), []);
}

#[test]
fn the_furthest_gives_whoever_is_behind_the_sum_that_it_missed() {
    let mut next = training(1, 7);
    next.lost(0);
    next.review(false);
    assert!(!next.settled());
    sent(&mut next);
    next.heard(2, Message::Promise { number: 2, step: Some(8) }).unwrap();
    let begun = next.poll_begun().unwrap();
    let expected =
        Begin { view: view(2, &[1, 2]), step: Some(8), source: 2, fresh: vec![], behind: vec![1] };
    assert_eq!((begun.begin, begun.lost, begun.back), (expected, members(&[0]), vec![]));
    assert!(next.settled());
}

#[test]
fn only_the_lowest_that_lives_proposes() {
    let mut last = training(2, 7);
    last.lost(1);
    last.review(false);
    assert_eq!(sent(&mut last), [], "0 leads and does it");
    last.lost(0);
    last.review(false);
    assert_eq!(sent(&mut last), [], "one alone is too few");
    let mut last = training(2, 100);
    last.lost(0);
    last.lost(1);
    last.review(false);
    assert_eq!(last.poll_begun().unwrap().begin.view, view(2, &[2]), "nothing is left to train");
}

#[test]
fn a_later_launch_is_taken_in_between_two_steps_and_an_earlier_one_never() {
    let mut leader = training(0, 7);
    leader.lost(2);
    leader.review(false);
    leader.heard(1, Message::Promise { number: 2, step: Some(7) }).unwrap();
    leader.linked(member(2));
    assert!(!leader.is_there(member(2)) && leader.was_dropped(member(2)));
    let back = Member { replica: 2, epoch: 5 };
    leader.linked(back);
    leader.heard(2, here(&[0], false)).unwrap();
    leader.review(true);
    assert!(leader.settled(), "it has not heard 1 yet");
    leader.heard(2, here(&[0, 1], false)).unwrap();
    leader.review(false);
    assert!(leader.settled(), "a step is going on");
    sent(&mut leader);
    leader.review(true);
    let next = View { number: 3, members: vec![member(0), member(1), back] };
    let expected = Message::Propose { view: next, joiners: vec![back] };
    assert_eq!(sent(&mut leader), [(1, expected.clone()), (2, expected)]);
    leader.heard(1, Message::Promise { number: 3, step: Some(7) }).unwrap();
    leader.heard(2, Message::Promise { number: 3, step: None }).unwrap();
    leader.poll_begun().unwrap();
    let begun = leader.poll_begun().unwrap();
    assert_eq!((begun.begin.source, begun.begin.fresh), (0, vec![2]));
    assert_eq!((begun.lost, begun.back), (vec![], vec![back]));
}

#[test]
fn a_loss_while_a_view_is_agreed_on_makes_for_another() {
    let mut leader = training(0, 7);
    leader.lost(2);
    leader.review(false);
    sent(&mut leader);
    leader.linked(Member { replica: 2, epoch: 4 });
    leader.heard(2, here(&[0, 1], false)).unwrap();
    leader.lost(1);
    leader.review(false);
    let next = View { number: 3, members: vec![member(0), Member { replica: 2, epoch: 4 }] };
    let proposed = sent(&mut leader).pop().unwrap();
    assert!(matches!(proposed, (2, Message::Propose { view, .. }) if view == next));
}

#[test]
fn of_two_that_propose_one_number_the_second_must_go_higher() {
    let mut last = training(2, 7);
    let propose = |number, with| Message::Propose { view: view(number, with), joiners: vec![] };
    last.heard(0, propose(2, &[0, 2])).unwrap();
    last.heard(1, propose(2, &[1, 2])).unwrap();
    let expected =
        [(0, Message::Promise { number: 2, step: Some(7) }), (1, Message::Outbid { number: 2 })];
    assert_eq!(sent(&mut last), expected);
    let mut outbid = training(1, 7);
    outbid.lost(0);
    outbid.review(false);
    outbid.heard(2, Message::Outbid { number: 2 }).unwrap();
    sent(&mut outbid);
    outbid.review(false);
    assert_eq!(sent(&mut outbid), [(2, propose(3, &[1, 2]))]);
}

#[test]
fn whoever_was_left_out_is_told_so() {
    let mut last = training(2, 7);
    last.heard(1, Message::Propose { view: view(2, &[1, 2]), joiners: vec![] }).unwrap();
    let begin =
        Begin { view: view(2, &[1, 2]), step: Some(7), source: 1, fresh: vec![], behind: vec![] };
    last.heard(1, Message::Begin(begin)).unwrap();
    sent(&mut last);
    last.heard(0, Message::Propose { view: view(9, &[0, 2]), joiners: vec![] }).unwrap();
    assert_eq!(sent(&mut last), [(0, Message::Dropped)]);
    assert_eq!(training(0, 7).heard(2, Message::Dropped), Err(WasDropped));
}
