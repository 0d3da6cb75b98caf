//! Replicas that are killed and come back, as real processes: the others never stop, and the run
//! ends with the same weights as one rank alone.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(60);
const STEPS: u64 = 30;

/// A job made of replicas, and where each was launched last.
struct Job {
    folder: tempfile::TempDir,
    replicas: usize,
    least: usize,
    ranks: usize,
    ports: Vec<u16>,
    epoch: u64,
    flags: Vec<String>,
}

/// One launch of a replica.
struct Replica {
    ranks: Vec<Child>,
    /// What its rank 0 says, on both streams.
    told: Receiver<String>,
    heard: Vec<String>,
}

impl Job {
    fn new(replicas: usize, least: usize, ranks: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<_> = (0..2000).map(|i| format!("{} bottles of beer", i * i)).collect();
        fs::write(folder.path().join("text"), lines.join(", ")).unwrap();
        let flags = vec!["--slow-ms".to_owned(), "20".to_owned()];
        Self { folder, replicas, least, ranks, ports: vec![0; replicas], epoch: 1, flags }
    }

    fn with(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiny-gpt"));
        command
            .args(["--steps", &STEPS.to_string(), "--checkpoint-every", "5"])
            .args(
                "--batch 6 --micro-batch 1 --context 16 --layers 1 --width 16 --heads 2".split(' '),
            )
            .arg("--data")
            .arg(self.path("text"))
            .env("LINDOS_CHECKPOINT_DIR", self.path("checkpoints"))
            .env("LINDOS_JOB", "job")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// All of them at once, each with a new address, as in an attempt that begins.
    fn launch_all(&mut self) -> Vec<Replica> {
        self.ports.iter_mut().for_each(|port| *port = free_port());
        (0..self.replicas).map(|replica| self.launch(replica, self.epoch)).collect()
    }

    /// With a higher epoch than any before, elsewhere.
    fn relaunch(&mut self, replica: usize) -> Replica {
        self.epoch += 1;
        self.ports[replica] = free_port();
        self.launch(replica, self.epoch)
    }

    fn launch(&self, replica: usize, epoch: u64) -> Replica {
        let addresses: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let master_port = free_port();
        let ranks = (0..self.ranks).map(|rank| {
            self.command()
                .args(&self.flags)
                .env("RANK", rank.to_string())
                .env("WORLD_SIZE", self.ranks.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", master_port.to_string())
                .env("LINDOS_SOCKET", self.path(&format!("socket-{replica}")))
                .env("LINDOS_EPOCH", epoch.to_string())
                .env("LINDOS_REPLICA", replica.to_string())
                .env("LINDOS_REPLICAS", self.replicas.to_string())
                .env("LINDOS_REPLICAS_MIN", self.least.to_string())
                .env("LINDOS_REPLICA_ADDRS", addresses.join(","))
                .spawn()
                .unwrap()
        });
        Replica::new(ranks.collect())
    }

    /// The numbers of the steps and of the checkpoints that a replica tells of, read as it does.
    fn listen(&self, replica: usize) -> thread::JoinHandle<(Vec<u64>, Vec<u64>)> {
        let socket = UnixDatagram::bind(self.path(&format!("socket-{replica}"))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        thread::spawn(move || {
            let (mut steps, mut checkpoints) = (Vec::new(), Vec::new());
            let mut buffer = [0; 4096];
            while steps.last() != Some(&STEPS) || checkpoints.last() != Some(&STEPS) {
                let length = socket.recv(&mut buffer).expect("progress up to the last step");
                let message: Value = serde_json::from_slice(&buffer[..length]).unwrap();
                steps.extend(message["step"].as_u64());
                checkpoints.extend(message["checkpoint"]["step"].as_u64());
            }
            (steps, checkpoints)
        })
    }

    /// What one rank alone, in the folder of this job or in a new one, ends with.
    fn alone(&self) -> String {
        let output = self.command().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        last_line(&String::from_utf8_lossy(&output.stdout))
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("weights "), "{text}");
    line
}

/// What every run must end with: one rank, without faults.
fn reference() -> &'static str {
    static WEIGHTS: OnceLock<String> = OnceLock::new();
    WEIGHTS.get_or_init(|| Job::new(1, 1, 1).alone())
}

impl Replica {
    fn new(mut ranks: Vec<Child>) -> Self {
        let (sender, told) = channel();
        let out = Box::new(ranks[0].stdout.take().unwrap()) as Box<dyn Read + Send>;
        let err = Box::new(ranks[0].stderr.take().unwrap());
        for stream in [out, err] {
            let sender = sender.clone();
            thread::spawn(move || {
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                lines.for_each(|line| drop(sender.send(line)));
            });
        }
        Self { ranks, told, heard: Vec::new() }
    }

    /// Listen until it says so.
    fn await_line(&mut self, expected: &str) {
        while !self.heard.iter().any(|line| line.contains(expected)) {
            match self.told.recv_timeout(PATIENCE) {
                Ok(line) => self.heard.push(line),
                Err(error) => panic!("no {expected:?} ({error}): {:#?}", self.heard),
            }
        }
    }

    fn await_step(&mut self, step: u64) {
        self.await_line(&format!("step {step} loss"));
    }

    fn lives(&mut self) -> bool {
        self.ranks.iter_mut().all(|rank| rank.try_wait().unwrap().is_none())
    }

    /// As a node that fails: all ranks, at once.
    fn kill(&mut self) {
        self.ranks.iter_mut().for_each(|rank| rank.kill().unwrap());
        for rank in &mut self.ranks {
            rank.wait().unwrap();
        }
    }

    /// The exit codes, in bounded time, and all that it said.
    fn end(&mut self) -> Vec<Option<i32>> {
        let deadline = Instant::now() + PATIENCE;
        while self.ranks.iter_mut().any(|rank| rank.try_wait().unwrap().is_none()) {
            if Instant::now() > deadline {
                self.kill();
                self.heard.extend(self.told.iter());
                panic!("a rank did not end: {:#?}", self.heard);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.heard.extend(self.told.iter());
        self.ranks.iter_mut().map(|rank| rank.wait().unwrap().code()).collect()
    }

    /// It gets to the end of the run: the weights.
    fn succeed(&mut self) -> String {
        let codes = self.end();
        assert!(codes.iter().all(|code| *code == Some(0)), "{codes:?} {:#?}", self.heard);
        let weights = self.heard.iter().find(|line| line.starts_with("weights "));
        weights.unwrap_or_else(|| panic!("no weights: {:#?}", self.heard)).clone()
    }

    fn steps(&self) -> Vec<u64> {
        let told = self.heard.iter().filter_map(|line| line.strip_prefix("step ")?.split_once(' '));
        told.map(|(step, _)| step.parse().unwrap()).collect()
    }

    /// The step after which it began, of its own steps.
    fn began_after(&self) -> u64 {
        let steps = self.steps();
        let first = steps.first().copied().unwrap_or(STEPS + 1);
        assert_eq!(steps, (first..=STEPS).collect::<Vec<_>>(), "{:#?}", self.heard);
        first - 1
    }
}

/// A failed test leaves no process behind.
impl Drop for Replica {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            let _ = rank.kill();
            let _ = rank.wait();
        }
    }
}

/// All end with the weights of one rank alone; those that were never killed took every step once.
fn all_succeed(survivors: Vec<&mut Replica>, others: Vec<&mut Replica>) {
    let expected = reference();
    for survivor in survivors {
        assert_eq!(survivor.succeed(), expected);
        assert_eq!(survivor.began_after(), 0);
    }
    for other in others {
        assert_eq!(other.succeed(), expected);
    }
}

#[test]
fn replicas_of_any_size_end_like_one_rank() {
    for (replicas, ranks) in [(1, 1), (3, 1), (2, 2)] {
        let mut job = Job::new(replicas, 1, ranks);
        let mut all = job.launch_all();
        all_succeed(all.iter_mut().collect(), vec![]);
        assert_eq!(job.alone(), reference(), "the last checkpoint is that of the run");
    }
}

#[test]
fn a_replica_that_is_killed_comes_back_while_the_others_go_on() {
    let mut job = Job::new(3, 2, 2);
    let mut all = job.launch_all();
    all[2].await_step(8);
    all[2].kill();
    all[0].await_line("replica 2 is lost at step ");
    all[0].await_line("; 2 go on");
    let mut again = job.relaunch(2);
    again.await_line("with the state of replica 0");
    all[0].await_line("replica 2 is back at step ");
    assert!(all[..2].iter_mut().all(Replica::lives));
    let (survivors, _) = all.split_at_mut(2);
    all_succeed(survivors.iter_mut().collect(), vec![&mut again]);
    assert!(again.began_after() >= 8);
}

#[test]
fn the_replica_that_leads_may_be_lost_as_well() {
    let mut job = Job::new(3, 2, 1);
    let mut all = job.launch_all();
    all[0].await_step(12);
    all[0].kill();
    all[1].await_line("replica 0 is lost at step ");
    let mut again = job.relaunch(0);
    all[1].await_line("replica 0 is back at step ");
    let (_, survivors) = all.split_at_mut(1);
    all_succeed(survivors.iter_mut().collect(), vec![&mut again]);
    assert!(again.began_after() >= 12);
    assert_eq!(job.alone(), reference(), "whoever led, the last checkpoint is that of the run");
}

#[test]
fn whoever_leads_writes_the_checkpoints_and_tells_of_them() {
    let mut job = Job::new(2, 1, 1);
    let progress = job.listen(1);
    let mut all = job.launch_all();
    all[0].await_step(12);
    all[0].kill();
    assert_eq!(all[1].succeed(), reference());
    let (steps, checkpoints) = progress.join().unwrap();
    assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>());
    assert!(checkpoints.len() <= 4, "{checkpoints:?}");
    assert!(checkpoints.ends_with(&[20, 25, 30]), "{checkpoints:?}");
}

#[test]
fn two_of_four_may_be_lost_at_once() {
    for lost in [[0, 1], [1, 3]] {
        let mut job = Job::new(4, 2, 1);
        let mut all = job.launch_all();
        all[0].await_step(8);
        for replica in lost {
            all[replica].kill();
        }
        let mut again: Vec<_> = lost.iter().map(|replica| job.relaunch(*replica)).collect();
        for replica in &mut again {
            replica.await_line("goes on after step");
        }
        let survivors = all.iter_mut().enumerate().filter(|(place, _)| !lost.contains(place));
        all_succeed(survivors.map(|(_, replica)| replica).collect(), again.iter_mut().collect());
    }
}

#[test]
fn a_replica_may_be_killed_again_and_again_while_it_comes_back() {
    let mut job = Job::new(3, 2, 1);
    let mut all = job.launch_all();
    all[1].await_step(3);
    all[1].kill();
    for moment in ["meets the others", "with the state of", "parameters", "meets the others"] {
        let mut again = job.relaunch(1);
        again.await_line(moment);
        again.kill();
    }
    let mut again = job.relaunch(1);
    let [first, _, last] = &mut all[..] else { unreachable!() };
    all_succeed(vec![first, last], vec![&mut again]);
}

#[test]
fn one_that_gives_its_state_may_be_lost_while_another_comes_back() {
    let mut job = Job::new(4, 2, 1);
    let mut all = job.launch_all();
    all[3].await_step(5);
    all[3].kill();
    let mut third = job.relaunch(3);
    third.await_line("meets the others");
    all[0].kill();
    let mut first = job.relaunch(0);
    let (_, survivors) = all[..3].split_at_mut(1);
    all_succeed(survivors.iter_mut().collect(), vec![&mut third, &mut first]);
}

#[test]
fn a_replica_lost_at_the_end_need_not_come_back_in_time() {
    let mut job = Job::new(3, 2, 1);
    let mut all = job.launch_all();
    all[0].await_step(STEPS - 1);
    all[0].kill();
    let mut at_once = job.relaunch(0);
    let (_, survivors) = all.split_at_mut(1);
    all_succeed(survivors.iter_mut().collect(), vec![&mut at_once]);
    // Nobody is there any more, and nothing is left to do.
    let mut late = job.relaunch(1);
    all_succeed(vec![], vec![&mut late]);
    assert!(late.steps().is_empty());
}

#[test]
fn an_earlier_launch_that_comes_late_is_refused() {
    let mut job = Job::new(2, 1, 1);
    let mut all = job.launch_all();
    all[1].await_step(4);
    all[1].kill();
    let mut again = job.relaunch(1);
    again.await_line("with the state of replica 0");
    let ports = job.ports.clone();
    job.ports[1] = free_port();
    let mut stale = job.launch(1, 1);
    job.ports = ports;
    assert_eq!(stale.end(), [Some(3)]);
    let refused = "replica 0 refused: replica 1 of epoch 1 was lost, or is replaced";
    assert!(stale.heard.iter().any(|line| line.contains(refused)), "{:#?}", stale.heard);
    assert!(stale.steps().is_empty());
    all_succeed(vec![&mut all[0]], vec![&mut again]);
}

#[test]
fn too_few_wait_for_another_and_in_the_end_give_up() {
    let mut job = Job::new(3, 2, 1).with(&["--connect-timeout", "10"]);
    let mut all = job.launch_all();
    all[0].await_step(6);
    all[0].kill();
    all[1].kill();
    all[2].await_line("fewer than 2 replicas are left");
    let mut again = job.relaunch(1);
    again.await_line("with the state of replica 2");
    all_succeed(vec![&mut all[2]], vec![&mut again]);

    let mut job = Job::new(2, 2, 1).with(&["--connect-timeout", "1"]);
    let mut all = job.launch_all();
    all[0].await_step(6);
    all[1].kill();
    assert_eq!(all[0].end(), [Some(3)]);
    assert!(all[0].steps().len() < STEPS as usize, "it takes no step alone");
    // As Lindos does then: all of them, from the last checkpoint.
    job.epoch += 1;
    let mut all = job.launch_all();
    let [first, second] = &mut all[..] else { unreachable!() };
    all_succeed(vec![], vec![first, second]);
    assert!(all[0].began_after() >= 5);
}

#[test]
fn whoever_does_not_come_to_the_first_start_joins_later() {
    let mut job = Job::new(3, 2, 1).with(&["--connect-timeout", "1", "--slow-ms", "50"]);
    let mut all = job.launch_all();
    all[1].kill();
    all[0].await_step(1);
    let mut again = job.relaunch(1);
    let [first, _, last] = &mut all[..] else { unreachable!() };
    all_succeed(vec![first, last], vec![&mut again]);
    assert!(again.began_after() > 0);
}

#[test]
fn a_replica_that_hangs_makes_all_wait_until_it_is_killed() {
    let hang = ["--hang-at-step", "8", "--fault-replica", "1", "--hang-once"];
    let mut job = Job::new(3, 2, 1).with(&hang);
    let mut all = job.launch_all();
    all[1].await_line("hangs at step 8");
    all[0].await_step(7);
    assert!(all.iter_mut().all(Replica::lives));
    all[1].kill();
    all[2].await_step(8);
    let mut again = job.relaunch(1);
    let [first, _, last] = &mut all[..] else { unreachable!() };
    all_succeed(vec![first, last], vec![&mut again]);
}

#[test]
fn replicas_with_other_flags_are_refused() {
    let mut job = Job::new(2, 1, 1);
    let mut all = job.launch_all();
    all[1].await_step(2);
    all[1].kill();
    job.flags.extend(["--lr".to_owned(), "1e-4".to_owned()]);
    let mut other = job.relaunch(1);
    assert_eq!(other.end(), [Some(2)]);
    let told = other.heard.join("\n");
    assert!(told.contains("--lr is 0.003 there and 0.0001 here"), "{told}");
}
