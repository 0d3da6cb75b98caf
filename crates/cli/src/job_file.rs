//! Reads a job file and runs its `prepare` command.

use crate::failure::{Exit, Failure};
use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use lindos_model::JobSpec;
use lindos_model::file::FileError;
use lindos_model::job::JobFile;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// A job file is written by hand; anything larger is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The last lines of `prepare` that are shown when it fails.
const LINES_SHOWN: usize = 200;

#[derive(Debug)]
pub struct Job {
    pub path: PathBuf,
    pub spec: JobSpec,
    pub prepare: Option<Vec<String>>,
}

pub fn load(path: &Path) -> Result<Job, Failure> {
    let unreadable = |reason: String, hint: &str| Failure {
        exit: Exit::BadInput,
        message: format!("{}: {reason}", path.display()),
        hint: Some(hint.to_string()),
    };
    let hint = "name a job file; docs/job-file.md shows one";
    let full = std::path::absolute(path).map_err(|error| unreadable(error.to_string(), hint))?;
    let metadata = std::fs::metadata(&full).map_err(|error| match error.kind() {
        ErrorKind::NotFound => unreadable("there is no such file".into(), hint),
        _ => unreadable(error.to_string(), hint),
    })?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a file".into(), hint));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(format!("a job file has at most {FILE_BYTES_MAX} bytes"), hint));
    }
    let text = std::fs::read_to_string(&full).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => unreadable("it is not UTF-8 text".into(), hint),
        _ => unreadable(error.to_string(), hint),
    })?;
    match JobFile::parse(&full, &text) {
        Ok((spec, prepare)) => Ok(Job { path: full, spec, prepare }),
        // The error names the file as the person did.
        Err(error) => Err(FileError { path: path.to_path_buf(), ..error }.into()),
    }
}

/// Runs the job's `prepare` command, if it has one. On a terminal its last line is shown beside a
/// spinner; its output is shown whole only if it fails.
pub async fn prepare(job: &Job) -> Result<(), Failure> {
    let Some((program, arguments)) = job.prepare.as_ref().and_then(|words| words.split_first())
    else {
        return Ok(());
    };
    let bad = |message: String| {
        Failure::bad_input(
            format!("{}: prepare: {message}", job.path.display()),
            "it is run in the job's `workdir` before the job is submitted",
        )
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(&job.spec.workdir)
        .envs(&job.spec.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| bad(format!("`{program}` cannot be run: {error}")))?;
    let spinner = if output::stderr_is_terminal() {
        let style = ProgressStyle::with_template("{spinner} preparing: {wide_msg}")
            .expect("the template is fixed");
        let spinner = ProgressBar::new_spinner().with_style(style);
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    } else {
        ProgressBar::hidden()
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<String>(64);
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    tokio::spawn(read_lines(stdout, sender.clone()));
    tokio::spawn(read_lines(stderr, sender));
    let mut last = std::collections::VecDeque::new();
    while let Some(line) = receiver.recv().await {
        spinner.set_message(line.clone());
        if last.len() == LINES_SHOWN {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait().await;
    spinner.finish_and_clear();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            for line in last {
                output::message(line);
            }
            Err(Failure::new(
                Exit::Failed,
                format!(
                    "{}: prepare ended with {status}; nothing was submitted",
                    job.path.display()
                ),
                format!("its output is above; the command is: {program} {}", arguments.join(" ")),
            ))
        }
        Err(error) => Err(bad(error.to_string())),
    }
}

/// Lines as they come; bytes that are not UTF-8 are replaced, and a last one needs no end.
async fn read_lines(stream: impl AsyncRead + Unpin, lines: tokio::sync::mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_string();
        line.clear();
        if lines.send(text).await.is_err() {
            return;
        }
    }
}
