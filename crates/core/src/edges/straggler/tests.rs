use super::*;
use crate::{Effects, Event};
use lindos_model::{GpuSet, NodeId, NodeSpec, Policy, RequestId, SlowBy, SlowSign, Waited, job};
use std::sync::Arc;

/// A core whose only job runs on so many nodes, a rank each; its ranks are spoken of and never run.
fn core(nodes: u32) -> (Core, JobId, Epoch) {
    let mut core = Core::new();
    let mut out = Effects::new();
    let mut tell = |event: Event| {
        out.clear();
        core.step(Time(1000), &event, &mut out);
    };
    tell(Event::ControlPlaneStarted { policy: Box::new(Policy::default()) });
    for index in 0..nodes {
        let spec = NodeSpec {
            name: format!("n{index}"),
            gpus: GpuSet::first(1).len(),
            platform: "p".into(),
            address: "127.0.0.1".into(),
            location: lindos_model::Location::default(),
            labels: BTreeMap::new(),
        };
        tell(Event::NodeJoined { spec: Box::new(spec) });
        let (node, attempts) = (NodeId(index), Vec::new());
        tell(Event::NodeReported { node, incarnation: 1, seq: 1, attempts });
    }
    let spec = Arc::new(job::sample("train", nodes, 1));
    tell(Event::JobSubmitted { request: RequestId(1), user: String::new(), spec });
    let job = core.jobs().next().unwrap();
    let (id, epoch) = (job.id, job.attempt.as_ref().unwrap().epoch);
    (core, id, epoch)
}

/// A gang that makes a step a second, as its node's shims tell it every five seconds.
struct Gang {
    core: Core,
    job: JobId,
    epoch: Epoch,
    watch: StragglerWatch,
    paces: Vec<RankPace>,
    /// Thousandths of the time that each rank waits; the rest it works.
    waits: Vec<u64>,
    waited: Vec<u64>,
    now: Time,
    step: u64,
    saved: u64,
    /// So many ranks tell steps.
    tells: usize,
    /// Ranks spin as they wait, and tell how long with every so many reports.
    spins: Option<u64>,
    reports: u64,
    /// One that does not tell it.
    deaf: Option<usize>,
}

impl Gang {
    fn of(waits: &[u64]) -> Gang {
        let (core, job, epoch) = core(waits.len() as u32);
        Gang {
            core,
            job,
            epoch,
            watch: StragglerWatch::default(),
            paces: vec![RankPace::default(); waits.len()],
            waits: waits.to_vec(),
            waited: vec![0; waits.len()],
            now: Time(1000),
            step: 1,
            saved: 0,
            tells: usize::MAX,
            spins: None,
            reports: 0,
            deaf: None,
        }
    }

    /// So many seconds, in which the job makes so many steps.
    fn runs(&mut self, seconds: u64, steps: u64) -> Vec<(u64, Event)> {
        let mut events = Vec::new();
        for _ in 0..seconds / 5 {
            self.now = self.now + Millis(5000);
            self.step += steps * 5 / seconds;
            self.reports += 1;
            for (rank, pace) in self.paces.iter_mut().enumerate() {
                pace.span_ms += 5000;
                let waits = self.waits[rank] * 5;
                let sleeps = if self.spins.is_some() { 0 } else { waits };
                pace.slept_ms += sleeps;
                pace.ran_ms += 5000 - sleeps;
                self.waited[rank] += waits;
                // Each tells it at other steps.
                if let Some(every) = self.spins
                    && (self.reports + rank as u64).is_multiple_of(every)
                    && self.deaf != Some(rank)
                    && steps > 0
                {
                    pace.waited = Some(Waited { step: self.step, ms: self.waited[rank] });
                }
                let reading = RankReading {
                    step: (rank < self.tells).then_some(self.step),
                    checkpoint_step: Some(self.saved),
                    pace: Some(*pace),
                    ..RankReading::default()
                };
                let (epoch, rank) = (self.epoch, Rank(rank as u32));
                self.watch.on_reading(self.now, self.job, epoch, epoch, rank, &reading);
            }
            let due = self.watch.due(self.now, &self.core);
            events.extend(due.into_iter().map(|event| (self.now.0 / 1000, event)));
        }
        events
    }
}

fn said(events: &[(u64, Event)]) -> Vec<(u64, &'static str, u32)> {
    events
        .iter()
        .map(|(at, event)| match event {
            Event::StragglerSeen { straggler, .. } => (*at, "seen", straggler.rank.0),
            Event::StragglerGone { rank, .. } => (*at, "gone", rank.0),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_straggler_is_told_after_three_windows_again_every_five_minutes_and_when_it_is_gone() {
    let mut gang = Gang::of(&[400; 4]);
    assert_eq!(gang.runs(300, 300), []);
    gang.waits[2] = 20;
    let events = gang.runs(420, 420);
    // The window in which it began shows half of it, which is enough.
    assert_eq!(said(&events), [(351, "seen", 2), (651, "seen", 2)]);
    let Event::StragglerSeen { straggler, .. } = &events[0].1 else { unreachable!() };
    assert_eq!((straggler.own, straggler.peers, straggler.cost_permille), (20, 400, 380));
    assert_eq!((straggler.sign, straggler.by), (SlowSign::WaitsLeast, SlowBy::Working));
    assert_eq!(straggler.since, Time(306_000));
    gang.waits[2] = 400;
    let events = gang.runs(120, 120);
    assert_eq!(said(&events).iter().map(|it| it.1).collect::<Vec<_>>(), ["gone"]);
    assert_eq!(gang.runs(300, 300), []);
}

#[test]
fn ranks_that_spin_are_judged_by_what_they_tell_that_they_wait() {
    let mut gang = Gang::of(&[400; 4]);
    // Every twenty seconds, each rank at another time: longer than a window.
    gang.spins = Some(4);
    assert_eq!(gang.runs(300, 300), []);
    gang.waits[2] = 20;
    let events = gang.runs(240, 240);
    assert_eq!(said(&events).iter().map(|it| (it.1, it.2)).collect::<Vec<_>>(), [("seen", 2)]);
    gang.waits[2] = 400;
    let events = gang.runs(240, 240);
    assert_eq!(said(&events).iter().map(|it| it.1).collect::<Vec<_>>(), ["gone"]);
    // One whose program begins to count anew waits no less than the others.
    gang.waited[1] = 0;
    assert_eq!(gang.runs(300, 300), []);
    // Where one of them tells no more, nobody knows of any.
    gang.waits[2] = 20;
    gang.deaf = Some(1);
    assert_eq!(gang.runs(300, 300), []);
    gang.deaf = None;
    assert_eq!(said(&gang.runs(240, 240)).len(), 1);
}

#[test]
fn what_ranks_waited_while_one_saves_is_not_held_against_it() {
    for (every, before) in (1..6).flat_map(|every| (12..18).map(move |before| (every, before))) {
        let mut gang = Gang::of(&[400; 4]);
        gang.spins = Some(every);
        gang.runs(5 * before, 5 * before);
        for _ in 0..40 {
            // The first saves alone for five seconds of thirty, and the others wait for it.
            gang.waits = vec![0, 1000, 1000, 1000];
            gang.saved += 1;
            assert_eq!(gang.runs(5, 0), []);
            gang.waits = vec![400; 4];
            assert_eq!(gang.runs(25, 25), [], "{every} {before}");
        }
    }
}

#[test]
fn nonsense_that_a_rank_tells_of_its_waits_is_no_measure() {
    let at = |step, ms| Told { step, ms };
    assert_eq!(waits(at(1, 100), at(11, 4100), 1_000_000), Some(400));
    assert_eq!(waits(at(1, 0), at(11, 25_000), 1_000_000), Some(2500), "for several at once");
    assert_eq!(waits(at(u32::MAX, u32::MAX), at(9, 3999), 1_000_000), Some(400), "they wrap");
    assert_eq!(waits(at(5, 100), at(5, 200), 1_000_000), None, "no step is new");
    assert_eq!(waits(at(9, 100), at(5, 200), 1_000_000), None);
    assert_eq!(waits(at(5, 200), at(9, 100), 1_000_000), None, "it counts anew");
    assert_eq!(waits(at(0, 0), at(u32::MAX / 2, u32::MAX / 2), u64::MAX), Some(0));
    assert_eq!(waits(at(0, 0), at(1, u32::MAX / 2), 1), Some(100_000));
    assert_eq!(waits(at(0, 0), at(1, 1), 0), None);
}

#[test]
fn of_two_slow_nodes_among_hundreds_one_is_told_of_and_when_it_is_mended_the_other() {
    let mut gang = Gang::of(&[400; 400]);
    (gang.waits[7], gang.waits[300]) = (30, 40);
    assert_eq!(said(&gang.runs(60, 60)), [(51, "seen", 7)]);
    (gang.waits[7], gang.waits[300]) = (40, 30);
    assert_eq!(said(&gang.runs(240, 240)), [], "the other waits less for once");
    gang.waits[7] = 400;
    let events = gang.runs(120, 120);
    assert_eq!(
        said(&events).iter().map(|it| (it.1, it.2)).collect::<Vec<_>>(),
        [("gone", 7), ("seen", 300)]
    );
}

#[test]
fn pauses_count_for_nothing() {
    let mut gang = Gang::of(&[400; 4]);
    gang.runs(150, 150);
    for _ in 0..10 {
        // Rank 0 evaluates, and the others wait for it.
        gang.waits = vec![10, 900, 900, 900];
        assert_eq!(gang.runs(120, 0), []);
        gang.waits = vec![400; 4];
        assert_eq!(gang.runs(60, 60), []);
        // It saves in every window.
        gang.waits = vec![10, 600, 600, 600];
        for _ in 0..8 {
            gang.saved += 1;
            assert_eq!(gang.runs(15, 15), []);
        }
        gang.waits = vec![400; 4];
        assert_eq!(gang.runs(60, 60), []);
    }
}

#[test]
fn long_steps_make_long_windows() {
    let mut gang = Gang::of(&[400, 10, 400, 400]);
    let mut events = Vec::new();
    for _ in 0..30 {
        // One step in 40 seconds.
        events.extend(gang.runs(35, 0));
        events.extend(gang.runs(5, 1));
    }
    let first = said(&events)[0];
    assert_eq!((first.1, first.2), ("seen", 1));
    assert!((360..=480).contains(&first.0), "three windows of three steps: {first:?}");
}

#[test]
fn ranks_that_are_not_heard_are_not_judged() {
    let mut gang = Gang::of(&[400, 10, 400, 400]);
    // Only half of the ranks' agents are new enough to tell.
    gang.paces.truncate(2);
    assert_eq!(said(&gang.runs(300, 300)), [(51, "seen", 1)], "those that are known");
    let mut silent = Gang::of(&[400, 10, 400, 400]);
    silent.runs(5, 5);
    let all = silent.paces.clone();
    silent.paces.truncate(2);
    assert_eq!(silent.runs(300, 300), [], "two of four do not answer any more");
    assert_eq!(all.len(), 4);
}

#[test]
fn a_new_attempt_begins_anew_and_late_word_of_the_old_is_dropped() {
    let mut gang = Gang::of(&[400, 10, 400, 400]);
    gang.runs(30, 30);
    let (job, now) = (gang.job, gang.now);
    let pace = RankPace { span_ms: 5000, ..RankPace::default() };
    let next = Epoch(gang.epoch.0 + 1);
    let reading = RankReading { step: Some(1), pace: Some(pace), ..RankReading::default() };
    gang.watch.on_reading(now, job, next, next, Rank(0), &reading);
    let old = gang.epoch;
    gang.watch.on_reading(now, job, old, old, Rank(1), &reading);
    assert_eq!(gang.watch.jobs[&job].ranks.len(), 1);
    gang.watch.forget(job);
    assert_eq!(gang.watch.next_deadline(), None);
}

#[test]
fn where_only_one_rank_tells_steps_the_others_are_judged_by_what_they_wait() {
    let mut gang = Gang::of(&[800, 795, 340, 790]);
    gang.tells = 1;
    let events = gang.runs(90, 1000);
    assert_eq!(said(&events).first().map(|it| (it.1, it.2)), Some(("seen", 2)));
}
