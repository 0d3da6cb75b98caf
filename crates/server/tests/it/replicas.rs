//! A job that is made of replicas: one is lost and comes back while the others go on.

use crate::bench::{Bench, FakeAgent, request, soon};
use lindos_api::agent::{Command, Launch, LogChunk, Order};
use lindos_api::client::LogQuery;
use lindos_api::user::JobDetail;
use lindos_model::{Epoch, Exit, JobState, Rank};

/// Three replicas of one node with two ranks train; the agents are in the order of the replicas.
async fn training(bench: &Bench) -> (u64, Vec<FakeAgent>) {
    let mut agents = Vec::new();
    for name in ["n0", "n1", "n2"] {
        let mut agent = bench.agent(name, 2).await;
        agent.say().await;
        agents.push(agent);
    }
    let mut request = request(3, 2);
    (request.spec.replicas, request.spec.replicas_min) = (3, 2);
    let job = bench.client().submit(&request).await.unwrap().job;
    let mut numbered = Vec::new();
    for mut agent in agents {
        let command = agent.launch().await;
        agent.runs(&command);
        agent.say().await;
        numbered.push((launch(&command).replica.as_ref().unwrap().index, agent));
    }
    numbered.sort_by_key(|(index, _)| *index);
    let mut agents: Vec<FakeAgent> = numbered.into_iter().map(|(_, agent)| agent).collect();
    for (index, agent) in agents.iter_mut().enumerate() {
        reaches(agent, job, 1, 2 * index as u32, 10).await;
    }
    (job, agents)
}

fn launch(command: &Command) -> &Launch {
    let Order::Launch(launch) = &command.order else { panic!("not a launch: {command:?}") };
    launch
}

async fn reaches(agent: &mut FakeAgent, job: u64, epoch: u32, rank: u32, step: u64) {
    agent.reached(job, epoch, step, 2.5);
    agent.report.progress[0].rank = Rank(rank);
    agent.say().await;
}

fn states(detail: &JobDetail) -> Vec<String> {
    let attempt = detail.attempts.last().unwrap();
    let word = |r: &lindos_api::user::ReplicaView| format!("{}/{} {}", r.replica, r.epoch, r.state);
    attempt.replicas.iter().map(word).collect()
}

#[tokio::test]
async fn every_replica_is_told_its_own_world_and_where_all_of_them_meet() {
    let bench = Bench::new().await;
    let mut agents = [bench.agent("n0", 2).await, bench.agent("n1", 2).await];
    for agent in &mut agents {
        agent.say().await;
    }
    let mut request = request(2, 2);
    (request.spec.replicas, request.spec.replicas_min) = (2, 1);
    bench.client().submit(&request).await.unwrap();
    let mut all = Vec::new();
    for agent in &mut agents {
        let command = agent.launch().await;
        let launch = launch(&command).clone();
        let replica = launch.replica.clone().unwrap();
        assert_eq!((launch.world_size, launch.rank_count, launch.node_rank), (2, 2, 0));
        assert_eq!(launch.first_rank, Rank(2 * replica.index));
        let gang: Vec<&str> = launch.gang.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(gang, [agent.report.node.name.as_str()]);
        assert_eq!((replica.count, replica.replicas_min), (2, 1));
        assert_eq!(replica.peers[replica.index as usize].port, launch.master_port + 1);
        assert!(replica.peers.iter().all(|peer| peer.address == "127.0.0.1"));
        all.push((launch.master_port, replica.peers));
    }
    assert_eq!(all[0].1, all[1].1);
    assert_ne!(all[0].0, all[1].0);
}

#[tokio::test]
async fn a_lost_replica_comes_back_under_its_own_epoch_and_is_shown_so() {
    let bench = Bench::new().await;
    let client = bench.client();
    let (job, mut agents) = training(&bench).await;
    let detail = client.job(job).await.unwrap();
    assert_eq!(states(&detail), ["0/1 training", "1/1 training", "2/1 training"]);
    assert!(detail.attempts[0].replicas.iter().all(|replica| replica.since.is_some()));
    let answer = client.why(job).await.unwrap().answer;
    assert!(answer.ends_with("has reached step 10: all 3 replicas train"), "{answer}");

    agents[1].ended(&Exit::Signal(9));
    agents[1].say().await;
    let again = agents[1].launch().await;
    assert_eq!((again.job.0, again.epoch), (job, Epoch(2)));
    let again = launch(&again).clone();
    let replica = again.replica.clone().unwrap();
    assert_eq!((replica.index, again.first_rank, again.world_size), (1, Rank(2), 2));
    assert_eq!(replica.peers[1].port, again.master_port + 1, "as of this launch");
    let answer = client.why(job).await.unwrap().answer;
    assert!(answer.contains("2 of 3 replicas train; replica 1 is starting for"), "{answer}");

    // What it said before it was lost is not said of what runs now.
    let detail = client.job(job).await.unwrap();
    assert_eq!(states(&detail), ["0/1 training", "1/2 launched", "2/1 training"]);
    assert_eq!((detail.summary.state, detail.attempts.len()), (JobState::Running, 1));
    let steps = |detail: &JobDetail| -> Vec<(u32, Option<u64>)> {
        detail.ranks.iter().step_by(2).map(|rank| (rank.epoch, rank.step)).collect()
    };
    assert_eq!(steps(&detail), [(1, Some(10)), (2, None), (1, Some(10))]);

    let command = Command { order: Order::Launch(Box::new(again)), ..command_of(job, 2) };
    agents[1].runs(&command);
    reaches(&mut agents[1], job, 2, 2, 11).await;
    reaches(&mut agents[0], job, 1, 0, 12).await;
    let detail = client.job(job).await.unwrap();
    assert_eq!(states(&detail), ["0/1 training", "1/2 training", "2/1 training"]);
    assert_eq!(steps(&detail), [(1, Some(12)), (2, Some(11)), (1, Some(10))]);
    assert_eq!((detail.summary.step, detail.summary.epoch), (Some(12), 2));
    let told: Vec<String> =
        client.events(0, Some(job)).await.unwrap().into_iter().map(|event| event.kind).collect();
    let of_replica: Vec<&String> = told.iter().filter(|kind| kind.contains("replica")).collect();
    assert_eq!(of_replica, ["replica_lost", "replica_launched", "replica_back"]);
}

fn command_of(job: u64, epoch: u32) -> Command {
    let (job, epoch) = (lindos_model::JobId(job), Epoch(epoch));
    Command { id: 1, incarnation: 1, job, epoch, order: Order::Forget }
}

#[tokio::test]
async fn the_log_of_a_rank_is_that_of_the_newest_launch_of_its_replica() {
    let bench = Bench::new().await;
    let (job, mut agents) = training(&bench).await;
    agents[1].ended(&Exit::Signal(9));
    agents[1].say().await;
    agents[1].launch().await;
    // By attempt 2, which for the other replicas was none; and what replica 1 said before.
    for (rank, asked, agent, launches) in
        [(0, 2, 0, (1, 1)), (2, 2, 1, (2, 2)), (5, 2, 2, (1, 1)), (3, 1, 1, (1, 1))]
    {
        let client = bench.client();
        let query = LogQuery { rank, epoch: Some(asked), ..LogQuery::default() };
        let reading = tokio::spawn(async move { client.logs(job, &query).await });
        let ask = soon("the question", agents[agent].read_log()).await;
        let (lowest, highest) = launches;
        assert_eq!(
            (ask.rank, ask.epoch_min, ask.epoch),
            (Rank(rank), Some(Epoch(lowest)), Some(Epoch(highest)))
        );
        let chunk = LogChunk { request: ask.request, ..LogChunk::default() };
        agents[agent].answer_log(&chunk).await;
        reading.await.unwrap().unwrap();
    }
}
