//! What people read when they ask why: the whole text, from a real core that came there by events.

mod health;
mod metrics;

use super::{View, dry_run, teams, why, why_node};
use crate::telemetry::Telemetry;
use lindos_api::user::{DryRun, NodeWhy, Why};
use lindos_core::effect::{Effect, Reply};
use lindos_core::{Core, Event};
use lindos_model::job::{After, sample};
use lindos_model::policy::{Class, QueueRule, Team};
use lindos_model::reservation::{Purpose, Reservation};
use lindos_model::{
    AttemptReport, Exit, JobId, JobSpec, Level, Location, Millis, NodeId, NodeSpec, Policy, Rank,
    RankExit, RankReport, ReportedPhase, RequestId, Time,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const MINUTE: u64 = 60_000;

/// A core, and the world that tells it things.
struct Told {
    core: Core,
    telemetry: Telemetry,
    now: Time,
    requests: u128,
    seq: u64,
    replies: Vec<Reply>,
    /// The remedy or burn-in that was asked for last.
    asked: u64,
}

fn node(name: &str) -> NodeSpec {
    NodeSpec {
        name: name.into(),
        gpus: 8,
        platform: "hgx-h100".into(),
        address: "127.0.0.1".into(),
        location: Location::default(),
        labels: BTreeMap::new(),
    }
}

/// n0, n1, … two in a rack.
fn in_racks(count: usize) -> Vec<NodeSpec> {
    let place = |index: usize| Location { rack: format!("r{}", index / 2), ..Location::default() };
    (0..count).map(|i| NodeSpec { location: place(i), ..node(&format!("n{i}")) }).collect()
}

fn nodes(count: usize) -> Vec<NodeSpec> {
    (0..count).map(|index| node(&format!("n{index}"))).collect()
}

impl Told {
    fn of(nodes: Vec<NodeSpec>) -> Told {
        Told::under(Policy::default(), nodes)
    }

    fn under(policy: Policy, nodes: Vec<NodeSpec>) -> Told {
        let mut told = Told {
            core: Core::new(),
            telemetry: Telemetry::default(),
            now: Time(1_000_000),
            requests: 0,
            seq: 0,
            replies: Vec::new(),
            asked: 0,
        };
        told.tell(&Event::ControlPlaneStarted { policy: Box::new(policy) });
        for (index, spec) in nodes.into_iter().enumerate() {
            told.tell(&Event::NodeJoined { spec: Box::new(spec) });
            told.report(NodeId(index as u32), None);
        }
        told
    }

    fn tell(&mut self, event: &Event) {
        let mut out = Vec::new();
        self.core.step(self.now, event, &mut out);
        self.core.check();
        for effect in out {
            match effect {
                Effect::Reply { reply, .. } => self.replies.push(reply),
                Effect::Remedy { id, .. } | Effect::BurnIn { id, .. } => self.asked = id.0,
                _ => {}
            }
        }
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn minutes(&mut self, minutes: u64) -> &mut Told {
        self.now = self.now + Millis(minutes * MINUTE);
        self
    }

    fn submit(&mut self, spec: JobSpec) -> JobId {
        let request = self.request();
        self.tell(&Event::JobSubmitted { request, user: "ada".into(), spec: Arc::new(spec) });
        match self.replies.last() {
            Some(Reply::Submitted { job }) => *job,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// A job that is submitted and runs. It tells no steps, so that it is never taken to hang.
    fn run(&mut self, spec: JobSpec) -> JobId {
        let id = self.submit(spec);
        for node in self.gang(id) {
            self.report(node, None);
        }
        id
    }

    fn gang(&self, id: JobId) -> Vec<NodeId> {
        let attempt = self.core.job(id).unwrap().attempt.as_ref().expect("it has no gang");
        attempt.members.iter().map(|member| member.node).collect()
    }

    /// Every rank of the job ends so.
    fn end(&mut self, id: JobId, exit: &Exit) {
        for node in self.gang(id) {
            self.report(node, Some((id, exit)));
        }
    }

    /// A node says all that is on it; the ranks of one job may have ended.
    fn report(&mut self, node: NodeId, ended: Option<(JobId, &Exit)>) {
        let on_it = &self.core.node(node).unwrap().allocations;
        let attempts = on_it
            .iter()
            .map(|allocation| {
                let job = self.core.job(allocation.job).unwrap();
                let (attempt, member) = (job.attempt.as_ref().unwrap(), allocation.member as usize);
                let exit = ended.filter(|(id, _)| *id == job.id).map(|(_, exit)| RankExit {
                    exit: exit.clone(),
                    at: self.now,
                    stopping: false,
                });
                let rank = |at| RankReport {
                    rank: Rank(attempt.first_rank(member).0 + at),
                    pid: 1000 + at,
                    exit: exit.clone(),
                };
                let ranks = (0..u32::from(attempt.ranks_per_node)).map(rank).collect();
                let phase =
                    if exit.is_some() { ReportedPhase::Gone } else { ReportedPhase::Running };
                let epoch = attempt.epoch_of(member);
                AttemptReport { job: job.id, epoch, phase, ranks }
            })
            .collect();
        self.seq += 1;
        self.tell(&Event::NodeReported { node, incarnation: 1, seq: self.seq, attempts });
    }

    fn step(&mut self, job: JobId, step: u64) {
        let epoch = self.core.job(job).unwrap().epoch;
        let (total_steps, loss_micro, is_watched) = (None, None, false);
        self.tell(&Event::StepReached { job, epoch, step, total_steps, loss_micro, is_watched });
    }

    fn drain(&mut self, node: u32, reason: &str) {
        let (request, reason) = (self.request(), reason.to_string());
        self.tell(&Event::NodeDrained { request, node: NodeId(node), reason });
    }

    fn view(&self) -> View<'_> {
        View { core: &self.core, telemetry: &self.telemetry, now: self.now }
    }

    /// As `lindos why JOB` prints it.
    fn why(&self, id: JobId) -> String {
        let Why { answer, when, hints, .. } = why(&self.view(), id).unwrap();
        printed(answer, when, hints)
    }

    /// As `lindos submit --dry-run` prints it.
    fn dry_run(&self, spec: &JobSpec) -> String {
        let DryRun { answer, when, hints, .. } = dry_run(&self.view(), spec).unwrap();
        printed(answer, when, hints)
    }

    /// As `lindos why NODE` prints it, but for the times of the jobs.
    fn why_node(&self, name: &str) -> String {
        let NodeWhy { answer, jobs, foremost, hints, .. } = why_node(&self.view(), name).unwrap();
        let mut lines = vec![answer];
        lines.extend(jobs.iter().map(|job| format!("job {} on GPUs {}", job.job, job.gpus)));
        lines.extend(foremost.iter().map(|passed| format!("job {}: {}", passed.job, passed.text)));
        printed(lines.join("\n"), None, hints)
    }
}

fn printed(answer: String, when: Option<String>, hints: Vec<String>) -> String {
    let hints = hints.into_iter().map(|hint| format!("hint: {hint}"));
    let lines: Vec<String> = [answer].into_iter().chain(when).chain(hints).collect();
    lines.join("\n")
}

fn job(nodes: u32) -> JobSpec {
    JobSpec { stop_grace: Millis::ZERO, ..sample("train", nodes, 8) }
}

fn limited(nodes: u32, minutes: u64) -> JobSpec {
    JobSpec { time_limit: Some(Millis(minutes * MINUTE)), ..job(nodes) }
}

fn team(name: &str, share: u64, limit: Option<u64>) -> Team {
    Team { name: name.into(), parent: String::new(), share, limit }
}

#[test]
fn new() {
    let other = NodeSpec { platform: "dgx-a100".into(), ..node("other") };
    let mut told = Told::of(vec![node("n0"), other]);
    let on = |platform: &str| JobSpec { platforms: vec![platform.into()], ..job(1) };
    // With so many in the queue, passes are kept apart by a millisecond.
    told.submit(JobSpec { array: Some(1500), ..on("hgx-h100") });
    let there_is_room = told.submit(on("dgx-a100"));
    insta::assert_snapshot!(told.why(there_is_room), @"
    job 1501 waits: the queue has not come to it yet; it will in moments
    ");
}

#[test]
fn of_jobs_alike_each_says_why_it_waits() {
    let mut told = Told::of(nodes(1));
    told.submit(JobSpec { array: Some(40), ..job(1) });
    let said = super::jobs(&told.view(), 0, 100);
    let waits = said.iter().filter_map(|job| job.reason.as_deref());
    assert_eq!(waits.filter(|reason| reason.starts_with("it wants 1 node")).count(), 39);
}

#[test]
fn never_fits() {
    let mut told = Told::under(Policy { spares: 1, ..Policy::default() }, nodes(3));
    let too_many = told.submit(job(9));
    insta::assert_snapshot!(told.why(too_many), @"
    job 1 waits: it can never start on this fleet: it wants 9 nodes with 8 GPUs each, and it can have 2 at most
    hint: with gang.nodes = 2 (instead of 9) it starts now
    hint: or the fleet needs more nodes with 8 GPUs
    hint: 1 node is kept as a spare, by the policy
    ");
    let too_large = told.submit(JobSpec { gpus_per_node: 16, ..job(1) });
    insta::assert_snapshot!(told.why(too_large), @"
    job 2 waits: it can never start on this fleet: it wants 1 node with 16 GPUs, and there is no such node
    hint: lower gang.gpus_per_node to 8, the most that a node here has
    ");
    let nowhere = told.submit(JobSpec {
        platforms: vec!["gb200".into()],
        labels: BTreeMap::from([("disk".to_string(), "nvme".to_string())]),
        ..job(1)
    });
    insta::assert_snapshot!(told.why(nowhere), @"
    job 3 waits: it can never start on this fleet: it wants 1 node with 8 GPUs, and there is no such node (only nodes of platform gb200 with disk = nvme count)
    hint: the platforms here are: hgx-h100
    hint: no node here has the label disk = nvme
    ");
    let mut told = Told::of(in_racks(4));
    let too_wide = told.submit(JobSpec { within: Level::Rack, ..job(3) });
    insta::assert_snapshot!(told.why(too_wide), @r#"
    job 1 waits: it can never start on this fleet: it wants 3 nodes with 8 GPUs each within one rack, and no rack has more than 2
    hint: without gang.within = "rack" it starts now
    hint: with gang.nodes = 2 (instead of 3) it starts now
    "#);
    insta::assert_snapshot!(Told::of(vec![]).dry_run(&job(1)), @"
    it would wait: it can never start on this fleet: it wants 1 node with 8 GPUs, and there is no such node
    hint: the fleet has no nodes yet: start agents on some
    ");
}

#[test]
fn busy() {
    let mut told = Told::of(nodes(4));
    told.run(limited(2, 60));
    told.minutes(10);
    let gang = told.submit(limited(4, 60));
    insta::assert_snapshot!(told.why(gang), @"
    job 2 waits: it wants 4 nodes with 8 free GPUs each, and 2 have them now; it starts when running jobs give back 2 more
    it starts in 50 min at the latest, by the time limits of running jobs, unless others come before it; 4 nodes are held for it
    hint: with gang.nodes = 2 (instead of 4) it starts now
    hint: cancelling job 1 (train) would free 8 GPUs on 2 nodes
    ");
    // Once jobs have shown how much of their limits they use.
    let short = told.run(limited(2, 20));
    told.minutes(5).end(short, &Exit::Code(0));
    insta::assert_snapshot!(told.why(gang), @"
    job 2 waits: it wants 4 nodes with 8 free GPUs each, and 2 have them now; it starts when running jobs give back 2 more
    it starts in moments if running jobs use as much of their time limits as jobs here have, and in 45 min at the latest, unless others come before it; 4 nodes are held for it
    hint: with gang.nodes = 2 (instead of 4) it starts now
    hint: cancelling job 1 (train) would free 8 GPUs on 2 nodes
    ");
    let mut told = Told::under(Policy { spares: 1, ..Policy::default() }, nodes(2));
    told.run(job(1));
    let last = told.submit(job(1));
    insta::assert_snapshot!(told.why(last), @"
    job 2 waits: it wants 1 node with 8 free GPUs, and none has them now; it starts when running jobs give them back (1 is kept as a spare)
    nobody can tell when it starts: jobs in its way have no time limits
    hint: cancelling job 1 (train) would free 8 GPUs on 1 node
    ");
}

#[test]
fn scattered() {
    let asked = |moves| {
        let mut told = Told::under(Policy { moves, ..Policy::default() }, in_racks(4));
        told.run(limited(1, 30));
        told.run(JobSpec { exclude: ["n0", "n1"].map(String::from).into(), ..limited(1, 60) });
        let together = told.submit(JobSpec { within: Level::Rack, ..job(2) });
        told.why(together)
    };
    insta::assert_snapshot!(asked(false), @r#"
    job 3 waits: it wants 2 nodes with 8 free GPUs each within one rack; 2 are free, but no rack has more than 1 of them
    it starts in 30 min at the latest, by the time limits of running jobs, unless others come before it; 2 nodes are held for it
    hint: without gang.within = "rack" it starts now
    hint: with gang.nodes = 1 (instead of 2) it starts now
    "#);
    // A job is moved out of its way, and holds where it goes.
    insta::assert_snapshot!(asked(true), @"
    job 3 waits: it wants 2 nodes with 8 free GPUs each, and 1 has them now; it starts when running jobs give back 1 more
    it starts when the jobs that are being stopped for it are gone
    hint: with gang.nodes = 1 (instead of 2) it starts now
    hint: cancelling job 2 (train) would free 8 GPUs on 1 node
    ");
}

#[test]
fn a_spare_of_one_job() {
    let mut told = Told::of(nodes(3));
    let id = told.run(JobSpec { spares: 1, ..job(2) });
    let detail = super::job(&told.view(), id).unwrap();
    assert_eq!(detail.attempts[0].spares, ["n2"]);
    insta::assert_snapshot!(told.why_node("n2"), @"n2 is idle: it is kept for job 1, should that lose a node");
}

#[test]
fn held() {
    let mut told = Told::of(nodes(4));
    told.run(limited(2, 60));
    let gang = told.submit(limited(4, 60));
    told.minutes(10);
    let small = told.submit(limited(1, 120));
    insta::assert_snapshot!(told.why(small), @r#"
    job 3 waits: it wants 1 node with 8 free GPUs, and none has them now; 2 more are free and held for gangs that come first
    it starts once the gangs that come first have started and left room
    hint: with time_limit = "50 min" it starts now: it is over before the nodes that are held for others are wanted
    hint: 4 nodes are held for job 2, which starts in 50 min at the latest
    "#);
    insta::assert_snapshot!(told.why(gang), @"
    job 2 waits: it wants 4 nodes with 8 free GPUs each, and 2 have them now; it starts when running jobs give back 2 more
    it starts in 50 min at the latest, by the time limits of running jobs, unless others come before it; 4 nodes are held for it
    hint: with gang.nodes = 2 (instead of 4) it starts now
    hint: cancelling job 1 (train) would free 8 GPUs on 2 nodes
    ");
}

#[test]
fn nodes_out() {
    let mut told = Told::of(nodes(3));
    told.drain(1, "fan 3 is loud");
    let waiting = told.submit(job(3));
    insta::assert_snapshot!(told.why(waiting), @"
    job 1 waits: it wants 3 nodes with 8 free GPUs each, and 2 have them now; 1 node is out of service, and it waits until that is back
    hint: with gang.nodes = 2 (instead of 3) it starts now
    hint: `lindos undrain n1` puts it back in service (drained: fan 3 is loud)
    ");
}

#[test]
fn team_limit() {
    let teams = vec![team("vision", 8, Some(16))];
    let mut told = Told::under(Policy { teams, ..Policy::default() }, nodes(4));
    let of_vision = |spec: JobSpec| JobSpec { team: "vision".into(), ..spec };
    told.run(of_vision(job(1)));
    let waiting = told.submit(of_vision(job(2)));
    insta::assert_snapshot!(told.why(waiting), @"
    job 2 waits: it wants 16 GPUs, and team vision holds 8 of the 16 that it may
    hint: team vision must give back 8 GPUs, or have a limit that is 8 GPUs higher
    ");
}

#[test]
fn more_than_its_team_may_ever_hold() {
    let limited = |gpus| {
        let teams = vec![team("vision", 8, Some(gpus))];
        Policy { teams, ..Policy::default() }
    };
    let mut told = Told::under(limited(32), nodes(4));
    told.run(JobSpec { team: "vision".into(), ..job(2) });
    let large = told.submit(JobSpec { team: "vision".into(), ..job(3) });
    // It would be refused now; it was taken under a policy that allowed more.
    told.tell(&Event::ControlPlaneStarted { policy: Box::new(limited(16)) });
    insta::assert_snapshot!(told.why(large), @"
    job 2 waits: it wants 24 GPUs, and team vision may never hold more than 16
    hint: with gang.nodes = 2 (instead of 3) the limit allows it
    hint: the team's limit must be 8 GPUs higher
    ");
    let refused = dry_run(&told.view(), &JobSpec { team: "visoin".into(), ..job(1) });
    let hint = refused.unwrap_err().error.hint;
    assert_eq!(hint.as_deref(), Some("did you mean `team = \"vision\"`?"));
}

#[test]
fn after() {
    let mut told = Told::of(nodes(2));
    let first = told.run(job(1));
    let second =
        told.submit(JobSpec { after: vec![After { job: first, any_end: false }], ..job(1) });
    insta::assert_snapshot!(told.why(second), @"
    job 2 waits: it comes after job 1, which is not over
    hint: `lindos why 1` tells how job 1 gets on
    ");
    let request = told.request();
    told.tell(&Event::JobCancelled { request, job: first });
    told.end(first, &Exit::Signal(9));
    insta::assert_snapshot!(told.why(second), @"
    job 2 was cancelled: it comes after job 1, which did not complete
    ");
}

#[test]
fn behind() {
    let mut told = Told::under(Policy { queue: QueueRule::Fifo, ..Policy::default() }, nodes(2));
    told.run(job(1));
    told.submit(job(2));
    let small = told.submit(job(1));
    insta::assert_snapshot!(told.why(small), @"
    job 3 waits: job 2 is before it in the queue, and nobody overtakes it
    hint: `lindos why 2` tells what job 2 waits for
    hint: a priority above that of job 2 puts this one before it
    ");
}

#[test]
fn backoff() {
    let mut told = Told::of(nodes(1));
    let unlucky = told.run(job(1));
    for _ in 0..2 {
        for node in told.gang(unlucky) {
            told.report(node, None);
        }
        told.end(unlucky, &Exit::Signal(9));
    }
    insta::assert_snapshot!(told.why(unlucky), @"
    job 1 waits: its last 2 attempts failed without one new step, so it waits before the next; 1s to go
    hint: `lindos logs 1` shows how the last attempt ended
    ");
}

#[test]
fn preempting() {
    let class = |name: &str, priority, preempts| Class { name: name.into(), priority, preempts };
    let classes = vec![class("production", 100, true), class("research", 0, false)];
    let mut told = Told::under(Policy { classes, ..Policy::default() }, nodes(1));
    told.run(JobSpec { class: "research".into(), ..job(1) });
    let urgent = told.submit(JobSpec { class: "production".into(), ..job(1) });
    insta::assert_snapshot!(told.why(urgent), @"
    job 2 waits: it wants 1 node with 8 free GPUs, and none has them now; it starts when running jobs give them back
    it starts when the jobs that are being stopped for it are gone
    ");
}

#[test]
fn a_dry_run_says_what_would_be() {
    let mut told = Told::of(in_racks(4));
    insta::assert_snapshot!(told.dry_run(&job(2)), @"
    it would start now: 16 ranks on n0, n1, within rack r0, the tightest of 2
    ");
    insta::assert_snapshot!(told.dry_run(&JobSpec { array: Some(3), ..job(1) }), @"
    the first of its 3 jobs would start now: 8 ranks on n0
    ");
    told.run(limited(3, 60));
    insta::assert_snapshot!(told.dry_run(&JobSpec { within: Level::Rack, ..job(2) }), @"
    it would wait: it wants 2 nodes with 8 free GPUs each, and 1 has them now; it starts when running jobs give back 1 more
    it starts in 60 min at the latest, by the time limits of running jobs, unless others come before it
    hint: with gang.nodes = 1 (instead of 2) it would start now
    hint: cancelling job 1 (train) would free 8 GPUs on 3 nodes
    ");
    let refused = dry_run(&told.view(), &JobSpec { class: "gold".into(), ..job(1) });
    let error = refused.unwrap_err().error;
    assert_eq!(error.message, "class: there is no class `gold`");
    assert_eq!(error.hint.as_deref(), Some("the policy has no classes"));
}

#[test]
fn an_idle_node_that_is_burnt_in_says_so() {
    let repair =
        lindos_model::policy::Repair { idle_burn_in_every_ms: MINUTE, ..Default::default() };
    let mut told = Told::under(Policy { repair, ..Policy::default() }, nodes(1));
    told.now = told.now + Millis(2 * MINUTE);
    told.tell(&Event::Tick);
    insta::assert_snapshot!(told.why_node("n0"), @"n0 is idle: no job waits; it is burnt in meanwhile, and whoever wants it has it at once");
}

#[test]
fn a_node_says_what_it_does_and_why_the_rest_is_idle() {
    let spec = |name: &str, platform: &str| NodeSpec { platform: platform.into(), ..node(name) };
    let fleet = vec![node("n0"), node("n1"), spec("old", "dgx-a100")];
    let mut told = Told::of(fleet);
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is idle: no job waits
    ");
    told.run(JobSpec { gpus_per_node: 2, platforms: vec!["hgx-h100".into()], ..limited(1, 60) });
    told.minutes(5);
    told.submit(JobSpec { platforms: vec!["hgx-h100".into()], ..limited(2, 60) });
    told.submit(JobSpec { platforms: vec!["gb200".into()], ..job(1) });
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is partly idle: 6 of its 8 GPUs are free, and it is held for job 2, which starts in 55 min at the latest; only jobs that are over by then start there
    job 1 on GPUs 0,1
    hint: `lindos why 2` tells what job 2 waits for
    ");
    insta::assert_snapshot!(told.why_node("n1"), @"
    n1 is idle: it is held for job 2, which starts in 55 min at the latest; only jobs that are over by then start there
    hint: `lindos why 2` tells what job 2 waits for
    ");
    insta::assert_snapshot!(told.why_node("old"), @"
    old is idle: none of the 2 jobs that wait, for 24 GPUs, starts there
    job 2: it takes only hgx-h100, and this is dgx-a100
    job 3: it takes only gb200, and this is dgx-a100
    hint: `lindos why 2` tells what would start it
    ");
    told.drain(2, "to be returned");
    insta::assert_snapshot!(told.why_node("old"), @"
    old is idle: it was drained, so nothing new starts there: to be returned
    hint: `lindos undrain old` puts it back in service
    ");
    let last_heard = told.now;
    told.minutes(1).tell(&Event::NodeSilent { node: NodeId(1), last_heard });
    insta::assert_snapshot!(told.why_node("n1"), @"
    n1 is idle: its agent is not heard from; it is being fenced
    hint: look at n1 itself: its agent, its network, its power
    ");
    assert!(why_node(&told.view(), "n9").is_none());

    let mut told = Told::of(vec![node("n0"), spec("old", "dgx-a100")]);
    let first = told.run(JobSpec { platforms: vec!["hgx-h100".into()], ..job(1) });
    let alike = JobSpec { array: Some(20), platforms: vec!["hgx-h100".into()], ..job(1) };
    told.submit(alike);
    told.submit(JobSpec { labels: BTreeMap::from([("disk".into(), "nvme".into())]), ..job(1) });
    told.submit(JobSpec { exclude: ["old".to_string()].into(), priority: 3, ..job(1) });
    told.submit(JobSpec {
        gpus_per_node: 4,
        after: vec![After { job: first, any_end: false }],
        ..job(1)
    });
    insta::assert_snapshot!(told.why_node("old"), @"
    old is idle: none of the 23 jobs that wait, for 180 GPUs, starts there
    job 23: it names this node in gang.exclude
    job 2: it takes only hgx-h100, and this is dgx-a100
    job 22: it wants the label disk = nvme, which this node lacks
    hint: `lindos why 23` tells what would start it
    ");
}

#[test]
fn a_reserved_node_says_for_whom() {
    let mut told = Told::of(nodes(2));
    for (node, purpose) in [(0, Purpose::Maintenance), (1, Purpose::Team("vision".into()))] {
        let request = told.request();
        let reservation = Reservation {
            name: format!("window-{node}"),
            purpose,
            nodes: vec![NodeId(node)],
            from: told.now + Millis(30 * MINUTE),
            until: told.now + Millis(90 * MINUTE),
        };
        told.tell(&Event::NodesReserved { request, reservation: Box::new(reservation) });
    }
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is idle: it is reserved for maintenance (`window-0`) in 30 min; only jobs that are over by then start there
    ");
    told.minutes(40).tell(&Event::Tick);
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is idle: it is in maintenance (`window-0`) for 50 min more
    ");
    insta::assert_snapshot!(told.why_node("n1"), @"
    n1 is idle: it is reserved for team vision (`window-1`) for 50 min more, and none of its jobs wants it
    ");
}

#[test]
fn replicas_that_do_not_train() {
    let mut told = Told::of(nodes(6));
    let id = told.run(JobSpec { replicas: 3, replicas_min: 1, ..job(6) });
    told.step(id, 40);
    insta::assert_snapshot!(told.why(id), @"
    job 1 is running, and has reached step 40: all 3 replicas train
    ");
    // A replica of which nothing lives, and no node stands in for the one that is out.
    let gang = told.gang(id);
    told.drain(gang[0].0, "");
    told.report(gang[0], Some((id, &Exit::Signal(9))));
    told.report(gang[1], Some((id, &Exit::Signal(15))));
    insta::assert_snapshot!(told.why(id), @"
    job 1 is running, and has reached step 40: 2 of 3 replicas train; replica 0 waits for nodes in place of those that are out
    hint: `lindos undrain n0` puts it back in service
    ");
    told.report(gang[2], Some((id, &Exit::Signal(9))));
    insta::assert_snapshot!(told.why(id), @"
    job 1 is running, and has reached step 40: 1 of 3 replicas train; replica 0 waits for nodes in place of those that are out; replica 1 is being stopped, because rank 16 on n2 ended first: SIGKILL
    hint: `lindos undrain n0` puts it back in service
    ");
    let states = |told: &Told| {
        let detail = super::job(&told.view(), id).unwrap();
        let replicas = &detail.attempts.last().unwrap().replicas;
        replicas.iter().map(|r| format!("{} {}", r.epoch, r.state)).collect::<Vec<_>>()
    };
    assert_eq!(states(&told), ["1 waiting", "1 stopping", "1 training"]);
    told.report(gang[3], Some((id, &Exit::Signal(15))));
    told.minutes(2);
    insta::assert_snapshot!(told.why(id), @"
    job 1 is running, and has reached step 40: 1 of 3 replicas train; replica 0 waits for nodes in place of those that are out; replica 1 is starting for 2m
    hint: `lindos undrain n0` puts it back in service
    ");
    assert_eq!(states(&told), ["1 waiting", "2 launched", "1 training"]);
}

#[test]
fn a_busy_node_and_a_spare() {
    let mut told = Told::under(Policy { spares: 1, ..Policy::default() }, nodes(2));
    told.run(limited(1, 60));
    told.submit(job(1));
    insta::assert_snapshot!(told.why_node("n0"), @"
    n0 is busy: all of its 8 GPUs are taken
    job 1 on GPUs 0,1,2,3,4,5,6,7
    hint: all of it is free in 60 min at the latest, by its jobs' time limits
    ");
    insta::assert_snapshot!(told.why_node("n1"), @"
    n1 is idle: it is the spare that the policy keeps for gangs that lose a node
    ");
}

#[test]
fn teams_say_what_they_hold_and_wait_for() {
    let part = Team { parent: "lab".into(), ..team("vision", 8, None) };
    let policy = Policy { teams: vec![team("lab", 16, Some(16)), part], ..Policy::default() };
    let mut told = Told::under(policy, nodes(2));
    let of_vision = |spec: JobSpec| JobSpec { team: "vision".into(), ..spec };
    told.run(of_vision(job(2)));
    told.submit(of_vision(job(1)));
    told.minutes(60);
    let said = teams(&told.view());
    assert_eq!(said.len(), 2);
    for (name, parent, share, borrowed, team) in
        [("lab", "", 16, 0, &said[0]), ("vision", "lab", 8, 8, &said[1])]
    {
        assert_eq!((team.name.as_str(), team.parent.as_str()), (name, parent));
        assert_eq!((team.share, team.held, team.borrowed), (share, 16, borrowed));
        assert_eq!((team.waiting_jobs, team.waiting_gpus), (1, 8));
        let hours = team.used_gpu_ms / 3_600_000;
        assert_eq!(hours, 15, "sixteen GPUs for an hour, decayed a little");
    }
}
