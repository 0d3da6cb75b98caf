//! A work: one remedy or burn-in that a process of its own carries out.
//!
//! It has a folder, in which stands all that is known of it:
//!
//! | file | what |
//! |---|---|
//! | `plan.json` | what is to be done ([`Plan`]); there before anything is started |
//! | `lock` | held by the process that does it, from before its first instruction |
//! | `answers-at` | of a test of two, on the node that answers: where |
//! | `result.json` | how it ended |
//! | `burnin.json`, `checks.json` | the reports of its tests |
//! | `output.log` | what its programs wrote, as far as it fits |
//!
//! Whoever began it may be killed: it goes on, and whoever looks into the folder next waits for it
//! as if it were their own. One whose process was killed has failed, unless the machine started
//! anew meanwhile: then a reboot is done, and a burn-in is begun a second time. A burn-in that
//! takes the machine down twice has failed.

mod runner;
mod steps;

pub use runner::run;

use crate::files;
use anyhow::Context as _;
use lindos_api::work::{Met, Task, Work};
use lindos_hardware::process;
use lindos_model::Outcome;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// In the environment of everything that a work starts: its folder.
const FOLDER: &str = "LINDOS_WORK";
/// In the folder of a work.
const ANSWERS_AT: &str = "answers-at";
/// How long all that is killed may take to die.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub id: u64,
    /// The node's name.
    pub node: String,
    pub work: Work,
    /// The machine's start in which it was begun.
    pub boot: String,
    /// It was begun before, and the machine started anew in the middle of it.
    pub again: bool,
    /// What a burn-in compares the node with: `lindos burnin --platform`.
    #[serde(default)]
    pub expected: Option<String>,
}

impl Plan {
    pub fn new(id: u64, node: &str, work: Work) -> Plan {
        let boot = process::boot_id();
        Plan { id, node: node.to_string(), work, boot, again: false, expected: None }
    }
}

/// How a work has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub outcome: Outcome,
    /// What it has seen of another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<Met>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Ended {
        Ended { outcome, met: None }
    }
}

/// What a folder says of a work of which nothing lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    Over(Ended),
    /// The machine started anew in the middle of it, and it should be begun again.
    Again(Box<Plan>),
}

fn plan_file(dir: &Path) -> PathBuf {
    dir.join("plan.json")
}

fn result_file(dir: &Path) -> PathBuf {
    dir.join("result.json")
}

fn lock_file(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Starts `PROGRAM work DIR`. One that lives there already is left alone: an error says so.
pub fn begin(program: &Path, dir: &Path, plan: &Plan) -> io::Result<Child> {
    files::private_dir(dir)?;
    let lock = File::options().create(true).append(true).open(lock_file(dir))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    files::replace_json(&plan_file(dir), plan, true)?;
    files::sync_parent(dir)?;
    let log = File::options().create(true).append(true).open(dir.join("work.log"))?;
    Command::new(program)
        .arg("work")
        .arg(dir)
        .env(FOLDER, dir)
        // The lock goes with it: it is free again when the process is gone, however it ended.
        .stdin(Stdio::from(lock))
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// Whether its process lives.
fn is_alive(dir: &Path) -> bool {
    File::open(lock_file(dir))
        .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// Waits until its process is gone; blocks for as long as that takes.
pub fn wait(dir: &Path) {
    let Ok(lock) = File::open(lock_file(dir)) else { return };
    while flock(&lock, FlockOperation::LockShared) == Err(rustix::io::Errno::INTR) {}
}

/// How a work ended whose process is gone; kills what it has left.
pub fn settle(dir: &Path) -> Settled {
    if let Ok(ended) = files::read_json::<Ended>(&result_file(dir)) {
        return Settled::Over(ended);
    }
    if let Err(error) = stop(dir) {
        tracing::warn!("{}: {error:#}", dir.display());
    }
    let failed = |reason: &str| Outcome::Failed { reason: reason.to_string() };
    let outcome = match files::read_json::<Plan>(&plan_file(dir)) {
        Err(error) => failed(&format!("{error:#}")),
        Ok(plan) if plan.boot == process::boot_id() => {
            failed("the process that carried it out was killed")
        }
        Ok(plan) => match &plan.work.task {
            Task::Command(command) if command.restarts => Outcome::Done,
            Task::BurnIn { .. } | Task::Diagnose { .. } if !plan.again => {
                let boot = process::boot_id();
                return Settled::Again(Box::new(Plan { boot, again: true, ..plan }));
            }
            _ => failed("the machine started anew in the middle of it"),
        },
    };
    // Told again in the same words, also by an agent that starts later.
    let ended = Ended::from(outcome);
    if let Err(error) = end(dir, &ended) {
        tracing::warn!("{}: {error}", dir.display());
    }
    Settled::Over(ended)
}

fn end(dir: &Path, ended: &Ended) -> io::Result<()> {
    files::replace_json(&result_file(dir), ended, true)
}

/// Where the work answers a peer, once it does.
pub fn answers_at(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(ANSWERS_AT)).ok()?;
    // Without its end it is not wholly written yet.
    text.strip_suffix('\n').map(str::to_string)
}

/// Waits until a work that is to answer a peer says where it does, or its process is gone; blocks.
pub fn wait_for_answers_at(dir: &Path) -> Option<String> {
    let plan = files::read_json::<Plan>(&plan_file(dir)).ok()?;
    if !matches!(plan.work.task, Task::AnswerPeer { .. }) {
        return None;
    }
    loop {
        let is_alive = is_alive(dir);
        let address = answers_at(dir);
        if address.is_some() || !is_alive {
            return address;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Kills all that lives of a work, and returns when nothing does.
pub fn stop(dir: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let variable = format!("{FOLDER}={}", dir.display());
    loop {
        let left = process::with_variable(&variable);
        for &id in &left {
            process::kill_verified(id).context("cannot kill a work")?;
        }
        if left.is_empty() && !is_alive(dir) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let pids: Vec<String> = left.iter().map(|id| id.pid.to_string()).collect();
            anyhow::bail!("these processes of a work still live: {}", pids.join(", "));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The works that have a folder below `works`, by number.
pub fn numbers(works: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(works) else { return Vec::new() };
    let number = |name: &str| name.parse::<u64>().ok().filter(|id| id.to_string() == name);
    let mut numbers: Vec<u64> =
        entries.filter_map(|entry| number(entry.ok()?.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers
}

/// Starts a work and waits for its end; of one that was begun before, only the end. Blocks.
pub fn carry_out(program: &Path, dir: &Path, plan: &Plan) -> Outcome {
    let was_begun = plan_file(dir).exists();
    if !was_begun {
        match begin(program, dir, plan) {
            Ok(mut child) => drop(child.wait()),
            Err(error) => return Outcome::Failed { reason: format!("it cannot begin: {error}") },
        }
    }
    wait(dir);
    match settle(dir) {
        Settled::Over(ended) => ended.outcome,
        Settled::Again(plan) => {
            let began = begin(program, dir, &plan).map(|mut child| child.wait());
            match (began, settle(dir)) {
                (Ok(_), Settled::Over(ended)) => ended.outcome,
                _ => Outcome::Failed { reason: "it could not be begun again".to_string() },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_api::work::CommandLine;
    use lindos_model::Millis;
    use std::collections::BTreeMap;

    fn plan(task: Task) -> Plan {
        Plan::new(7, "n0", Work { task, limit: Millis(60_000) })
    }

    fn command(restarts: bool) -> Task {
        let words = vec!["true".to_string()];
        Task::Command(CommandLine { words, environment: BTreeMap::new(), restarts })
    }

    /// What is settled of a plan whose process is gone and has said nothing.
    fn settled(plan: &Plan) -> Settled {
        let folder = tempfile::tempdir().unwrap();
        files::replace_json(&plan_file(folder.path()), plan, false).unwrap();
        let first = settle(folder.path());
        if let Settled::Over(ended) = &first {
            assert_eq!(settle(folder.path()), Settled::Over(ended.clone()), "the same again");
        }
        first
    }

    #[test]
    fn what_a_killed_process_leaves_has_failed_unless_the_machine_started_anew() {
        let failed = |plan: &Plan, why: &str| match settled(plan) {
            Settled::Over(Ended { outcome: Outcome::Failed { reason }, .. }) => {
                assert!(reason.contains(why), "{reason}");
            }
            other => panic!("{other:?}"),
        };
        let burn_in = plan(Task::BurnIn { span: Millis(1000) });
        failed(&burn_in, "killed");
        failed(&plan(command(true)), "killed");
        let earlier = |plan: Plan| Plan { boot: "another".to_string(), ..plan };
        assert_eq!(settled(&earlier(plan(command(true)))), Settled::Over(Outcome::Done.into()));
        // Its peer does not know the port on which it would answer now.
        let span = Millis(1000);
        let answers = plan(Task::AnswerPeer { span, address: "127.0.0.1".to_string() });
        failed(&earlier(answers), "anew");
        failed(&earlier(plan(command(false))), "anew");
        let Settled::Again(again) = settled(&earlier(burn_in)) else { panic!("it is begun again") };
        assert!(again.again && again.boot == process::boot_id());
        failed(&earlier(*again), "anew");
    }

    #[test]
    fn a_folder_without_a_plan_is_a_failure_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let settled = settle(folder.path());
        let Settled::Over(Ended { outcome: Outcome::Failed { reason }, .. }) = settled else {
            panic!("{settled:?}")
        };
        assert!(reason.contains("plan.json"), "{reason}");
        assert!(numbers(folder.path()).is_empty());
        for name in ["12", "7", "07", "x"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(numbers(folder.path()), [7, 12]);
    }
}
