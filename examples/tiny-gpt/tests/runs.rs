//! Whole runs of the built program: real processes, sockets and files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No wait in these tests is longer; all of them together take a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a text, a checkpoint folder and a progress socket.
struct Bench {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

/// The loss of each step, as printed.
type Losses = BTreeMap<u64, String>;

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<_> = (0..2000).map(|i| format!("{} bottles of beer", i * i)).collect();
        let text = lines.join(", ");
        fs::write(folder.path().join("text"), text).unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { folder, socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A tiny run of 12 steps with a checkpoint every 4.
    fn command(&self, rank: usize, world: usize, port: u16, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiny-gpt"));
        command
            .args("--steps 12 --checkpoint-every 4 --batch 4 --micro-batch 1".split(' '))
            .args("--context 16 --layers 1 --width 16 --heads 2".split(' '))
            .arg("--data")
            .arg(self.path("text"))
            .args(flags)
            .env("LINDOS_SOCKET", self.path("socket"))
            .env("LINDOS_CHECKPOINT_DIR", self.path("checkpoints"))
            .env("LINDOS_JOB", "job")
            .env_remove("LINDOS_EPOCH")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if world > 1 {
            command
                .env("RANK", rank.to_string())
                .env("WORLD_SIZE", world.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", port.to_string());
        }
        command
    }

    fn spawn(&self, world: usize, epoch: u64, flags: &[&str]) -> Vec<Child> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        (0..world)
            .map(|rank| {
                let mut command = self.command(rank, world, port, flags);
                command.env("LINDOS_EPOCH", epoch.to_string()).spawn().unwrap()
            })
            .collect()
    }

    fn run(&self, world: usize, epoch: u64, flags: &[&str]) -> Vec<Output> {
        self.spawn(world, epoch, flags).into_iter().map(finish).collect()
    }

    /// The next progress message. The system keeps ten or so for a reader that is late, and
    /// ranks do not wait for it, so whoever counts messages must slow the ranks down.
    fn receive(&self) -> Value {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("progress");
        serde_json::from_slice(&buffer[..length]).expect("one JSON object a message")
    }
}

/// Bounded: a rank that hangs fails the test instead of holding it up.
fn finish(mut child: Child) -> Output {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("a rank did not end: {:?}", child.wait_with_output().unwrap());
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Read what a rank says on stderr up to such a line.
fn await_line(rank: &mut Child, expected: &str) {
    let lines = BufReader::new(rank.stderr.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(expected)), "no {expected:?}");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(outputs: &[Output]) {
    for output in outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn losses(output: &Output) -> Losses {
    stdout(output)
        .lines()
        .filter_map(|line| line.strip_prefix("step ")?.split_once(" loss "))
        .map(|(step, loss)| (step.parse().unwrap(), loss.to_owned()))
        .collect()
}

/// The last line: a digest of the weights, in which every bit of every loss has left its trace.
fn weights(output: &Output) -> String {
    let text = stdout(output);
    let line = text.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("weights "), "{text}{}", stderr(output));
    line
}

/// One uninterrupted run on one rank: what every other run must equal.
fn reference() -> (Losses, String) {
    let outputs = Bench::new().run(1, 1, &[]);
    succeed(&outputs);
    let losses = losses(&outputs[0]);
    assert_eq!(losses.len(), 12);
    (losses, weights(&outputs[0]))
}

#[test]
fn a_run_learns_and_says_so() {
    let output = Bench::new().run(1, 1, &["--steps", "40"]).remove(0);
    succeed(std::slice::from_ref(&output));
    let text = stdout(&output);
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("step 1 loss 5."), "{first}");
    let last: f32 = losses(&output)[&40].parse().unwrap();
    assert!(last < 4.0, "{text}");
    assert!(text.contains("\nvalidation loss "), "{text}");
}

#[test]
fn every_rank_reports_its_steps_and_rank_0_the_losses_and_checkpoints() {
    let bench = Bench::new();
    let ranks = bench.spawn(2, 1, &["--slow-ms", "50"]);
    // Each rank's word that it can stand by, 12 steps of 2 ranks, and checkpoints after 4, 8 and 12.
    let messages: Vec<_> = (0..29).map(|_| bench.receive()).collect();
    let outputs: Vec<_> = ranks.into_iter().map(finish).collect();
    succeed(&outputs);

    let steps = |with_loss: bool| {
        let told = messages.iter().filter(move |m| m.get("loss").is_some() == with_loss);
        told.filter_map(|m| m["step"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(steps(true), (1..=12).collect::<Vec<_>>());
    assert_eq!(steps(false), steps(true));
    let tenth = messages.iter().find(|m| m["step"] == 10).unwrap();
    assert_eq!((&tenth["tokens"], &tenth["total_steps"]), (&(10 * 4 * 16).into(), &12.into()));
    let losses = losses(&outputs[0]);
    for message in messages.iter().filter(|m| m.get("loss").is_some()) {
        let loss = message["loss"].as_f64().unwrap();
        assert_eq!(losses[&message["step"].as_u64().unwrap()], format!("{loss:.4}"));
    }

    let checkpoints: Vec<_> = messages.iter().filter_map(|m| m.get("checkpoint")).collect();
    let steps: Vec<_> = checkpoints.iter().map(|c| c["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 8, 12]);
    assert!(checkpoints[0]["seconds"].as_f64().unwrap() > 0.0);
    assert!(Path::new(checkpoints[2]["path"].as_str().unwrap()).is_file());
}

#[test]
fn the_same_seed_gives_the_same_losses_and_another_seed_others() {
    let first = reference();
    assert_eq!(reference(), first);
    let other = Bench::new().run(1, 1, &["--seed", "2"]).remove(0);
    assert_ne!(losses(&other), first.0);
}

#[test]
fn any_number_of_ranks_gives_the_same_losses() {
    let expected = reference();
    for world in [2, 3, 4] {
        let outputs = Bench::new().run(world, 1, &[]);
        succeed(&outputs);
        assert_eq!((losses(&outputs[0]), weights(&outputs[0])), expected, "{world} ranks");
        for other in &outputs[1..] {
            assert_eq!(stdout(other), "", "only rank 0 prints");
        }
    }
}

#[test]
fn a_killed_run_resumes_as_if_nothing_had_happened() {
    let expected = reference();
    let bench = Bench::new();
    let hang = ["--hang-at-step", "11", "--hang-rank", "1", "--hang-once"];
    let mut ranks = bench.spawn(2, 1, &hang);
    await_line(&mut ranks[1], "rank 1 hangs at step 11");
    ranks[1].kill().unwrap();
    let outputs: Vec<_> = ranks.into_iter().map(finish).collect();
    assert_eq!(outputs[0].status.code(), Some(3), "{}", stderr(&outputs[0]));
    assert!(stderr(&outputs[0]).contains("lost rank 1: it closed the connection"));
    let mut told = losses(&outputs[0]);
    assert_eq!(told.len(), 10);

    // The data have changed since, and the gang is larger: neither shows.
    fs::write(bench.path("text"), "something else").unwrap();
    let outputs = bench.run(4, 2, &hang);
    succeed(&outputs);
    assert!(stderr(&outputs[0]).contains("resuming after step 8"), "{}", stderr(&outputs[0]));
    let resumed = losses(&outputs[0]);
    assert_eq!(resumed.keys().next(), Some(&9));
    told.extend(resumed);
    assert_eq!((told, weights(&outputs[0])), expected);
}

#[test]
fn a_torn_checkpoint_is_skipped_and_a_finished_run_stays_finished() {
    let expected = reference().1;
    let bench = Bench::new();
    succeed(&bench.run(1, 1, &[]));
    let newest = bench.path("checkpoints/step-00000012.safetensors");
    let length = fs::metadata(&newest).unwrap().len();
    fs::File::options().write(true).open(&newest).unwrap().set_len(length - 100).unwrap();

    let output = bench.run(1, 2, &[]).remove(0);
    let told = stderr(&output);
    assert!(told.contains("skipped") && told.contains("step-00000012"), "{told}");
    assert!(told.contains("resuming after step 8"), "{told}");
    assert_eq!((losses(&output).len(), weights(&output)), (4, expected.clone()));

    let output = bench.run(1, 3, &[]).remove(0);
    assert_eq!((losses(&output).len(), weights(&output)), (0, expected));
}

#[test]
fn a_failing_rank_takes_all_with_it_once() {
    let bench = Bench::new();
    let fault = ["--fail-at-step", "6", "--fail-rank", "2", "--fail-once"];
    let outputs = bench.run(3, 1, &fault);
    let codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    assert_eq!(codes, [Some(3), Some(3), Some(1)]);
    assert!(stderr(&outputs[0]).contains("lost rank 2"), "{}", stderr(&outputs[0]));
    assert!(stderr(&outputs[1]).contains("rank 0 gave up: lost rank 2"));
    assert!(stderr(&outputs[2]).contains("rank 2 fails at step 6"));
    let outputs = bench.run(3, 2, &fault);
    succeed(&outputs);
    assert_eq!(weights(&outputs[0]), reference().1);
}

#[test]
fn a_hanging_rank_makes_all_wait_and_report_nothing() {
    let bench = Bench::new();
    let mut ranks = bench.spawn(2, 1, &["--hang-at-step", "3", "--hang-rank", "1"]);
    await_line(&mut ranks[1], "rank 1 hangs at step 3");
    assert!(ranks.iter_mut().all(|rank| rank.try_wait().unwrap().is_none()), "all are alive");
    ranks[1].kill().unwrap();
    let outputs: Vec<_> = ranks.into_iter().map(finish).collect();
    assert_eq!(outputs[0].status.code(), Some(3));
    assert_eq!(losses(&outputs[0]).keys().max(), Some(&2));
}

#[test]
fn a_folder_that_cannot_be_written_is_one_clear_error() {
    let bench = Bench::new();
    fs::write(bench.path("checkpoints"), "a file in its place").unwrap();
    let output = bench.run(1, 1, &[]).remove(0);
    assert_eq!(output.status.code(), Some(4));
    let told = stderr(&output);
    assert!(told.contains("checkpoint folder") && told.contains("hint:"), "{told}");
    assert_eq!(stdout(&output), "", "it does not begin what it cannot save");
}

/// `/dev/full` answers every write as a full disk does.
#[test]
fn a_full_disk_stops_all_ranks_with_one_clear_error() {
    let bench = Bench::new();
    let folder = bench.path("checkpoints");
    fs::create_dir(&folder).unwrap();
    let partial = folder.join("step-00000004.safetensors.partial");
    let mut ranks = bench.spawn(2, 1, &["--slow-ms", "200"]);
    // After the sweep of leftovers at the start, and before the first checkpoint.
    while bench.receive().get("step").is_none() {}
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let outputs: Vec<_> = ranks.drain(..).map(finish).collect();
    assert_eq!(outputs[0].status.code(), Some(4), "{}", stderr(&outputs[0]));
    let told = stderr(&outputs[0]);
    assert!(told.contains("No space left") && told.contains("hint: make room"), "{told}");
    assert_eq!(outputs[1].status.code(), Some(3));
    assert!(stderr(&outputs[1]).contains("rank 0 gave up: cannot write"));
    assert!(!partial.exists(), "it leaves nothing behind");
}

#[test]
fn bad_values_exit_2_and_say_what_to_do() {
    let bench = Bench::new();
    for (flags, expected) in [
        (&["--heads", "3"][..], "hint: --width 18"),
        (&["--layers", "0"], "--layers 0: it must be from 1"),
        (&["--stepps", "1"], "similar argument exists: '--steps'"),
        (&["--context", "60000"], "it must be at least 120002"),
    ] {
        let output = bench.run(1, 1, flags).remove(0);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{flags:?}: {}", stderr(&output));
    }
    let outputs = bench.run(5, 1, &["--connect-timeout", "1"]);
    assert_eq!(outputs[0].status.code(), Some(2));
    assert!(stderr(&outputs[0]).contains("hint: --batch 5"), "{}", stderr(&outputs[0]));
}

#[test]
fn other_flags_do_not_resume_a_run() {
    let bench = Bench::new();
    succeed(&bench.run(1, 1, &[]));
    let output = bench.run(1, 2, &["--width", "32"]).remove(0);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains("another run: --width is 16 there and 32 here"), "{told}");
}
