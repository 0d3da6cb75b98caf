//! Disks that are full, and disks that fail.

use crate::bench::{Bench, request, soon};
use lindos_core::Event;
use lindos_journal::EventRecord;
use lindos_journal::{Fault, Journal, MemoryDisk, Options, Seq, Tail};
use lindos_model::{JobState, Policy, Time};
use lindos_server::StartError;
use std::time::Duration;

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_nothing_else() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let client = bench.client();
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    let job = bench.submit(1, 1).await;
    let launch = agent.launch().await;
    agent.runs(&launch);
    agent.say().await;

    disk.set_capacity(Some(0));
    let error = client.submit(&request(1, 1)).await.unwrap_err();
    assert_eq!(error.code(), Some("disk_full"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(client.cancel(job).await.unwrap_err().code(), Some("disk_full"));
    agent.ended(&lindos_model::Exit::Code(0));
    agent.report.seq += 1;
    let (status, error) = agent.send(&agent.report).await.unwrap_err();
    assert_eq!((status, error.code.as_str()), (503, "disk_full"));
    let jobs = client.jobs().await.expect("questions are answered");
    assert_eq!((jobs.len(), jobs[0].state), (1, JobState::Running), "nothing is half applied");

    disk.set_capacity(None);
    agent.send(&agent.report).await.expect("the agent's next try");
    let jobs = client.jobs().await.unwrap();
    assert_eq!((jobs.len(), jobs[0].state), (1, JobState::Completed));
    assert_eq!(bench.submit(1, 1).await, job + 1, "the refused one took no number");
}

#[tokio::test]
async fn a_node_that_joins_on_a_full_disk_is_let_in_later() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let mut agent = bench.agent("n0", 1).await;
    disk.set_capacity(Some(0));
    let (status, error) = agent.send(&agent.report).await.unwrap_err();
    assert_eq!((status, error.code.as_str()), (503, "disk_full"));
    disk.set_capacity(None);
    agent.say().await;
    assert_eq!(bench.client().nodes().await.unwrap()[0].state, "up");
}

#[tokio::test]
async fn deadlines_that_pass_while_the_disk_is_full_are_acted_upon_later() {
    let disk = MemoryDisk::new();
    let policy = Policy { node_silent_ms: 500, ..Policy::default() };
    let bench = Bench::on_memory_under(&disk, policy).await.unwrap();
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    disk.set_capacity(Some(0));
    // The node falls silent meanwhile, and saying so is refused at least once.
    tokio::time::timeout(Duration::from_secs(2), bench.event(0, "node_silent"))
        .await
        .expect_err("it cannot be journalled");
    disk.set_capacity(None);
    bench.event(0, "node_silent").await;
}

#[tokio::test]
async fn a_failed_sync_ends_the_control_plane_and_the_next_one_goes_on() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let client = bench.client();
    let job = bench.submit(1, 1).await;
    disk.fail(Fault::Sync, 0);
    let error = client.submit(&request(1, 1)).await.unwrap_err();
    assert_eq!(error.code(), Some("journal_failed"), "{error}");
    let reason = soon("the failure", bench.server().failed()).await;
    assert!(reason.contains("takes no more records"), "{reason}");
    let error = client.status().await.unwrap_err();
    assert_eq!(error.code(), Some("journal_failed"), "{error}");
    soon("the stop", bench.server.unwrap().stop()).await;

    let bench = Bench::on_memory(&disk).await.unwrap();
    let jobs = bench.client().jobs().await.unwrap();
    assert_eq!(jobs[0].job, job);
}

#[tokio::test]
async fn submissions_at_once_are_all_durable_and_each_has_its_number() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let client = bench.client();
            tokio::spawn(async move { client.submit(&request(1, 1)).await.unwrap().job })
        })
        .collect();
    let mut jobs = Vec::new();
    for task in tasks {
        jobs.push(task.await.unwrap());
    }
    jobs.sort_unstable();
    assert_eq!(jobs, (1..=200).collect::<Vec<u64>>());
    drop(bench);
    let bench = Bench::on_memory(&disk).await.unwrap();
    assert_eq!(bench.client().jobs().await.unwrap().len(), 200);
}

/// A journal with these records after a start.
fn journal(disk: &MemoryDisk, write: impl FnOnce(&mut Journal<MemoryDisk>)) {
    let (mut journal, _) = Journal::open(disk.clone(), Options::new(7)).unwrap();
    write(&mut journal);
    journal.commit().unwrap();
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_told_from_damage() {
    let disk = MemoryDisk::new();
    journal(&disk, |journal| {
        journal.append(&[3, 2, 3]).unwrap();
    });
    let error = Bench::on_memory(&disk).await.err().expect("it is refused");
    assert!(matches!(error, StartError::NewerState { .. }), "{error}");

    let disk = MemoryDisk::new();
    journal(&disk, |journal| {
        journal.append(&[0, 2]).unwrap();
    });
    let error = Bench::on_memory(&disk).await.err().expect("it is refused");
    assert!(matches!(error, StartError::CorruptJournal { .. }), "{error}");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_used_only_costs_time() {
    let disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let job = bench.submit(1, 1).await;
    bench.server.unwrap().stop().await;
    let (mut journal, recovered) =
        Journal::open(disk.clone(), Options::new(journal_id(&disk))).unwrap();
    assert!(recovered.snapshot.is_some());
    journal.append_record(&EventRecord::new(Time(u64::MAX / 2000), Event::Tick)).unwrap();
    let last = journal.commit().unwrap();
    journal.snapshot(last, b"of another version").unwrap();
    drop(journal);
    let bench = Bench::on_memory(&disk).await.unwrap();
    assert_eq!(bench.client().jobs().await.unwrap()[0].job, job);
}

fn journal_id(disk: &MemoryDisk) -> u128 {
    let (reader, recovered) = lindos_journal::Reader::open(disk.clone(), None).unwrap();
    assert!(recovered.last > Seq(0));
    reader.id().unwrap()
}

#[tokio::test]
async fn what_was_answered_is_there_after_the_power_went() {
    let mut disk = MemoryDisk::new();
    let bench = Bench::on_memory(&disk).await.unwrap();
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..8 {
        let (client, answered) = (bench.client(), answered.clone());
        tokio::spawn(async move {
            while let Ok(submitted) = client.submit(&request(1, 1)).await {
                answered.send(submitted.job).unwrap();
            }
        });
    }
    drop(answered);
    let mut jobs = Vec::new();
    while jobs.len() < 100 {
        jobs.push(soon("an answer", answers.recv()).await.unwrap());
    }
    // Between two submissions, or in the middle of one: nothing that was not synced is left.
    disk.crash(Tail::Cut, |_| 0);
    while let Some(job) = soon("the last answer", answers.recv()).await {
        jobs.push(job);
    }
    drop(bench);
    let bench = Bench::on_memory(&disk).await.unwrap();
    let there = bench.client().jobs().await.unwrap();
    jobs.sort_unstable();
    let there: Vec<u64> = there.iter().map(|job| job.job).collect();
    assert!(
        jobs.iter().all(|job| there.contains(job)),
        "{jobs:?} were answered, {there:?} are there"
    );
}
