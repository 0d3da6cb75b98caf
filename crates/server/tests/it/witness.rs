//! What agents tell of ranks in trouble becomes events, once each and in order.

use crate::bench::{BOUND, Bench};
use lindos_api::agent::{RankProgress, RankSymptom};
use lindos_core::Event;
use lindos_journal::{EventRecord, MemoryDisk, Reader, Record as _, Seq};
use lindos_model::{Activity, Epoch, Exit, JobId, Rank, Symptom, SymptomKind};
use std::time::{Duration, Instant};

fn events(disk: &MemoryDisk) -> Vec<Event> {
    let (reader, _) = Reader::open(disk.clone(), None).unwrap();
    let mut records = reader.iter_from(Seq(1)).unwrap();
    let mut events = Vec::new();
    while let Some((_, bytes)) = records.next_record().unwrap() {
        let (_, event) = EventRecord::decode(bytes).unwrap().into_parts();
        events.push(event);
    }
    events
}

#[tokio::test]
async fn last_words_are_written_down_once_and_before_the_end_that_they_explain() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    let job = bench.submit(1, 1).await;
    let command = agent.launch().await;
    agent.runs(&command);
    agent.say().await;
    let symptom = |line: &str| Symptom { kind: SymptomKind::Program, line: line.into() };
    let told = |epoch, rank, line| RankSymptom {
        job: JobId(job),
        epoch: Epoch(epoch),
        rank: Rank(rank),
        symptom: symptom(line),
    };
    // Of a launch that is not, and of a rank that is none.
    agent.report.symptoms =
        vec![told(9, 0, "no"), told(1, 7, "no"), told(1, 0, "KeyError\u{1b}: 'x'")];
    agent.ended(&Exit::Code(1));
    agent.say().await;
    agent.say().await;
    let events = events(&disk);
    let seen: Vec<usize> = (0..events.len())
        .filter(|&index| matches!(events[index], Event::SymptomSeen { .. }))
        .collect();
    let [seen] = seen[..] else { panic!("{events:?}") };
    let Event::SymptomSeen { symptom: said, rank, .. } = &events[seen] else { unreachable!() };
    assert_eq!((rank.0, said.as_ref()), (0, &symptom("KeyError: 'x'")));
    let end = events.iter().position(|event| match event {
        Event::NodeReported { attempts, .. } => {
            attempts.iter().flat_map(|attempt| &attempt.ranks).any(|rank| rank.exit.is_some())
        }
        _ => false,
    });
    assert_eq!(end, Some(seen + 1));
}

#[tokio::test]
async fn a_silence_is_looked_into_and_called_a_hang_when_nobody_works() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let mut agents = [bench.agent("n0", 1).await, bench.agent("n1", 1).await];
    for agent in &mut agents {
        agent.say().await;
    }
    let job = bench.submit(2, 1).await;
    for agent in &mut agents {
        let command = agent.launch().await;
        agent.runs(&command);
        agent.say().await;
    }
    for step in 1..4 {
        agents[0].reached(job, 1, step, 2.5);
        agents[0].say().await;
    }
    let began = Instant::now();
    let idle = |agent: &mut crate::bench::FakeAgent, progress: RankProgress| {
        agent.report.progress = vec![RankProgress { activity: Some(Activity::Idle), ..progress }];
    };
    let progress = agents[0].report.progress[0].clone();
    idle(&mut agents[0], progress.clone());
    // The other tells no steps; what it does is known all the same.
    idle(&mut agents[1], RankProgress { rank: Rank(1), step: None, loss: None, ..progress });
    let is_over = || {
        let mut events = events(&disk).into_iter();
        events.find_map(|event| match event {
            Event::StallSeen { stall, .. } => Some(stall),
            _ => None,
        })
    };
    let stall = loop {
        for agent in &mut agents {
            agent.say().await;
        }
        if let Some(stall) = is_over() {
            break stall;
        }
        assert!(began.elapsed() < BOUND, "nobody has looked");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(began.elapsed() >= Duration::from_millis(4500), "{:?}", began.elapsed());
    assert_eq!((stall.step, stall.told, stall.at_step), (3, 1, 1));
    assert_eq!((stall.most, stall.apart.len()), (Some(Activity::Idle), 0));
    let hang = bench.event(0, "fault").await;
    assert!(hang.text.contains("step 3"), "{hang:?}");
}

#[tokio::test]
async fn a_loss_that_stays_broken_ends_the_attempt_once() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    let job = bench.submit(1, 1).await;
    let command = agent.launch().await;
    agent.runs(&command);
    agent.say().await;
    for step in [1, 5, 13, 14, 15] {
        agent.reached(job, 1, step, 0.0);
        let progress = &mut agent.report.progress[0];
        progress.loss = None;
        progress.loss_broken_from = (step > 4).then_some(5);
        agent.say().await;
    }
    let broken: Vec<Event> = events(&disk)
        .into_iter()
        .filter(|event| matches!(event, Event::LossBroken { .. }))
        .collect();
    let expected = Event::LossBroken { job: JobId(job), epoch: Epoch(1), rank: Rank(0), step: 5 };
    assert_eq!(broken, [expected]);
}
