//! One job, from its submission to its end, and what agents may do on the way.

use crate::bench::{Bench, FakeAgent, request};
use lindos_api::agent::Order;
use lindos_api::client::new_request_id;
use lindos_api::user::ReserveRequest;
use lindos_journal::MemoryDisk;
use lindos_model::policy::Team;
use lindos_model::{Exit, JobState, Policy, WaitReason};

#[tokio::test]
async fn a_job_goes_from_its_submission_to_its_end() {
    let bench = Bench::new().await;
    let client = bench.client();
    let mut agents = [bench.agent("n0", 2).await, bench.agent("n1", 2).await];
    for agent in &mut agents {
        agent.say().await;
    }
    let job = bench.submit(2, 2).await;
    for agent in &mut agents {
        let command = agent.launch().await;
        assert_eq!((command.job.0, command.epoch.0, command.incarnation), (job, 1, 1));
        let Order::Launch(launch) = &command.order else { unreachable!() };
        assert_eq!((launch.world_size, launch.rank_count, launch.gang.len()), (4, 2, 2));
        agent.runs(&command);
        agent.say().await;
    }
    agents[0].reached(job, 1, 10, 2.5);
    agents[0].say().await;
    agents[0].reached(job, 1, 11, 2.25);
    agents[0].say().await;

    let detail = client.job(job).await.unwrap();
    assert_eq!(detail.summary.state, JobState::Running);
    assert_eq!((detail.summary.step, detail.summary.total_steps), (Some(11), Some(100)));
    assert_eq!((detail.first_loss, detail.last_loss), (Some(2.5), Some(2.25)));
    assert_eq!(detail.ranks.len(), 4);
    assert!(detail.ranks.iter().all(|rank| rank.state == "running" && rank.pid > 0));
    assert_eq!(detail.ranks[0].step, Some(11));
    assert!(detail.ledger.total_gpu_ms > 0);
    let why = client.why(job).await.unwrap();
    assert!(why.answer.contains("is running"), "{}", why.answer);
    assert_eq!(client.nodes().await.unwrap()[1].jobs, [job]);
    let status = client.status().await.unwrap();
    assert_eq!((status.nodes_up, status.jobs_alive, status.gpus), (2, 1, 4));

    for agent in &mut agents {
        agent.ended(&Exit::Code(0));
        agent.say().await;
    }
    let detail = client.job(job).await.unwrap();
    assert_eq!(detail.summary.state, JobState::Completed);
    assert!(detail.ranks.iter().all(|rank| rank.state == "exited"));
    assert_eq!(detail.attempts.len(), 1);
    assert_eq!(detail.ledger.columns.values().sum::<u64>(), detail.ledger.total_gpu_ms);
    for agent in &mut agents {
        agent.command(|order| matches!(order, Order::Forget)).await;
    }
    let goodput = client.goodput().await.unwrap();
    assert_eq!(goodput.ledger.columns.values().sum::<u64>(), goodput.ledger.total_gpu_ms);
    assert!(goodput.goodput > 0.0);
    bench.server.unwrap().stop().await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_submits_nothing_more() {
    let bench = Bench::new().await;
    let client = bench.client();
    let mut request = request(1, 1);
    request.request = Some(new_request_id().unwrap());
    let first = client.submit(&request).await.unwrap();
    let (second, third) = tokio::join!(client.submit(&request), client.submit(&request));
    assert_eq!(second.unwrap(), first);
    assert_eq!(third.unwrap(), first);
    assert_eq!(client.jobs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn reports_that_come_again_or_late_do_no_harm() {
    let bench = Bench::new().await;
    let client = bench.client();
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    let job = bench.submit(1, 1).await;
    let command = agent.launch().await;
    agent.runs(&command);
    agent.say().await;
    let running = agent.report.clone();
    let events = client.status().await.unwrap().events;
    for _ in 0..5 {
        agent.send(&running).await.unwrap();
    }
    agent.say().await;
    assert_eq!(client.status().await.unwrap().events, events, "nothing new was journalled");

    agent.ended(&Exit::Code(0));
    agent.say().await;
    let over = client.job(job).await.unwrap();
    assert_eq!(over.summary.state, JobState::Completed);
    agent.send(&running).await.expect("a late report is acknowledged");
    agent.say().await;
    let after = client.job(job).await.unwrap();
    assert_eq!((after.summary.state, after.attempts), (JobState::Completed, over.attempts));
}

#[tokio::test]
async fn a_new_start_of_an_agent_is_told_again() {
    let bench = Bench::new().await;
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    bench.submit(1, 1).await;
    let first = agent.launch().await;
    // It dies before it has done anything, and comes back.
    let mut agent = FakeAgent::connect(bench.server(), "n0", 1, 2).await;
    agent.say().await;
    let again = agent.launch().await;
    assert_eq!((again.job, again.incarnation), (first.job, 2));
}

#[tokio::test]
async fn a_job_that_can_never_fit_waits_and_says_so() {
    let bench = Bench::new().await;
    bench.agent("n0", 4).await.say().await;
    let job = bench.submit(3, 4).await;
    let why = bench.client().why(job).await.unwrap();
    assert!(matches!(why.wait_reason, Some(WaitReason::NeverFits { .. })), "{why:?}");
    assert_eq!(why.hints[0], "with gang.nodes = 1 (instead of 3) it starts now");

    bench.client().cancel(job).await.unwrap();
    let detail = bench.client().job(job).await.unwrap();
    assert_eq!(detail.summary.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_drained_node_takes_no_work_until_it_is_back() {
    let bench = Bench::new().await;
    let client = bench.client();
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    client.drain("n0", "firmware").await.unwrap();
    assert_eq!(client.nodes().await.unwrap()[0].drained.as_deref(), Some("firmware"));
    let job = bench.submit(1, 1).await;
    let why = client.why(job).await.unwrap();
    assert!(why.hints[0].contains("undrain n0"), "{why:?}");
    client.undrain("n0").await.unwrap();
    assert_eq!(agent.launch().await.job.0, job);
}

#[tokio::test]
async fn nodes_in_maintenance_take_no_work_until_that_is_over() {
    let bench = Bench::new().await;
    let client = bench.client();
    let mut agent = bench.agent("n0", 1).await;
    agent.say().await;
    bench.agent("n1", 1).await.say().await;
    let hour = 3_600_000;
    let now = client.goodput().await.unwrap().at;
    let window = ReserveRequest {
        request: Some("0123456789abcdef0123456789abcdef".to_string()),
        name: "psu".to_string(),
        maintenance: true,
        nodes: vec!["n1".to_string(), "n0".to_string()],
        from: now,
        until: now + hour,
        ..ReserveRequest::default()
    };
    client.reserve(&window).await.unwrap();
    client.reserve(&window).await.expect("it is the same request");
    let made = client.reservations().await.unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].nodes, ["n0", "n1"], "by number");
    assert_eq!(made[0].state, "active");
    assert_eq!((made[0].from, made[0].until, made[0].maintenance), (now, now + hour, true));

    let job = bench.submit(1, 1).await;
    let why = client.why(job).await.unwrap();
    assert!(matches!(why.wait_reason, Some(WaitReason::NodesOut { .. })), "{why:?}");
    client.unreserve("psu").await.unwrap();
    assert_eq!(agent.launch().await.job.0, job);
    assert!(client.reservations().await.unwrap().is_empty());

    let later = ReserveRequest {
        request: None,
        team: Some("vision".to_string()),
        maintenance: false,
        from: now + hour,
        until: now + 2 * hour,
        ..window
    };
    client.reserve(&later).await.unwrap();
    let made = client.reservations().await.unwrap();
    assert_eq!((made[0].team.as_deref(), made[0].state.as_str()), (Some("vision"), "planned"));
}

#[tokio::test]
async fn lists_go_on_where_the_page_ended() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        bench.submit(1, 1).await;
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/jobs?after=1&limit=1", bench.server().url());
    let answer = http.get(url).bearer_auth(bench.server().token()).send().await.unwrap();
    let page: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(page.as_array().unwrap().len(), 1);
    assert_eq!(page[0]["job"], 2);
    assert_eq!(bench.client().jobs().await.unwrap().len(), 3);
}

#[tokio::test]
async fn questions_change_nothing() {
    let team = Team { name: "vision".into(), parent: String::new(), share: 4, limit: None };
    let policy = Policy { teams: vec![team], ..Policy::default() };
    let bench = Bench::on_memory_under(&MemoryDisk::new(), policy).await.unwrap();
    let client = bench.client();
    bench.agent("n0", 4).await.say().await;
    let mut asked = request(1, 4);
    asked.spec.team = "vision".to_string();
    let events = client.status().await.unwrap().events;

    let starts = client.dry_run(&asked).await.unwrap();
    assert!(starts.starts && starts.nodes == ["n0"], "{starts:?}");
    asked.spec.nodes = 2;
    asked.spec.min_nodes = 2;
    let waits = client.dry_run(&asked).await.unwrap();
    assert!(matches!(waits.wait_reason, Some(WaitReason::NeverFits { .. })), "{waits:?}");
    asked.spec.team = "visoin".to_string();
    for refused in [client.dry_run(&asked).await.err(), client.submit(&asked).await.err()] {
        let refused = refused.expect("there is no such team");
        assert_eq!(refused.code(), Some("invalid_job"));
        assert_eq!(refused.hint(), Some("did you mean `team = \"vision\"`?"));
    }

    let why = client.why_node("n0").await.unwrap();
    assert_eq!((why.gpus_free, why.idle.as_deref()), (4, Some("no_demand")));
    let nowhere = client.why_node("n9").await.unwrap_err();
    assert_eq!(nowhere.code(), Some("no_such_node"));
    let teams = client.teams().await.unwrap();
    assert_eq!((teams[0].name.as_str(), teams[0].share, teams[0].held), ("vision", 4, 0));

    assert!(client.jobs().await.unwrap().is_empty());
    // The refused submission is written down; nothing else is.
    assert!(client.status().await.unwrap().events <= events + 1);
}
