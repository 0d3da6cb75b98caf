//! How a command fails: an exit status that programs can rely on, and words that tell a person
//! what to do next.

use lindos_api::client::ClientError;
use lindos_model::file::FileError;
use std::fmt;
use std::process::ExitCode;

/// The exit statuses of `lindos`, as `docs/cli.md` promises them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Whoever read our output has closed it. That is no failure: `lindos jobs | head -1`.
    ReaderGone = 0,
    /// The job failed, or another operation was carried out and failed.
    Failed = 1,
    /// A flag or a file is not right.
    BadInput = 2,
    /// No such job or node.
    NotFound = 3,
    /// No control plane could be reached.
    NoControlPlane = 4,
    /// The state folder cannot be used.
    StateUnusable = 5,
    Interrupted = 130,
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Empty: everything has been said already.
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: Some(hint.into()) }
    }

    /// For a library's words, which may end in a `hint:` line of their own.
    pub fn with_hint_inside(exit: Exit, text: &str, otherwise: &str) -> Failure {
        let (message, hint) = match text.split_once("hint:") {
            Some((message, hint)) => (message.trim_end(), hint.trim()),
            None => (text, otherwise),
        };
        Failure::new(exit, message, hint)
    }

    /// For an end whose words were printed already.
    pub fn silent(exit: Exit) -> Failure {
        Failure { exit, message: String::new(), hint: None }
    }

    pub fn bad_input(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::new(Exit::BadInput, message, hint)
    }

    pub fn state(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::new(Exit::StateUnusable, message, hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return Ok(());
        }
        write!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { exit: Exit::Failed, message: format!("{error:#}"), hint: None }
    }
}

impl From<FileError> for Failure {
    fn from(mut error: FileError) -> Failure {
        let hint = error.hint.take();
        Failure {
            exit: Exit::BadInput,
            message: error.to_string(),
            hint: Some(hint.unwrap_or_else(|| "the keys of this file: docs/job-file.md".into())),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let (exit, hint) = match &error {
            ClientError::Unreachable { .. } => (
                Exit::NoControlPlane,
                "start one with `lindos up`, or name one with --server URL or LINDOS_SERVER",
            ),
            ClientError::Unauthorized { .. } => (
                Exit::NoControlPlane,
                "set LINDOS_TOKEN to the `token` of the control plane's STATE/server.json",
            ),
            ClientError::Protocol { .. } => {
                (Exit::NoControlPlane, "check the address given by --server or LINDOS_SERVER")
            }
            ClientError::Api { status, error } => match error.code.as_str() {
                "no_such_job" => (Exit::NotFound, "`lindos jobs` lists the jobs that there are"),
                "no_such_node" => (Exit::NotFound, "`lindos nodes` lists the nodes that there are"),
                "no_such_rank" | "no_such_epoch" | "no_such_log" => {
                    (Exit::NotFound, "`lindos job ID` lists the attempts and their ranks")
                }
                "disk_full" => (Exit::StateUnusable, "free space where the state folder is"),
                _ if *status == 404 => {
                    (Exit::NotFound, "`lindos jobs` and `lindos nodes` list all")
                }
                _ if matches!(*status, 400 | 413 | 415 | 422) => {
                    (Exit::BadInput, "docs/cli.md and docs/job-file.md say what is accepted")
                }
                _ => (Exit::Failed, "`lindos events` shows what the control plane did"),
            },
        };
        let hint = error.hint().map_or_else(|| hint.to_string(), ToString::to_string);
        Failure::new(exit, error.to_string(), hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_api::user::ApiError;

    fn api(status: u16, code: &str) -> Failure {
        let error = ApiError { code: code.into(), message: "no".into(), hint: None };
        ClientError::Api { status, error }.into()
    }

    #[test]
    fn every_answer_has_its_exit_status_and_a_hint() {
        assert_eq!(api(404, "no_such_job").exit, Exit::NotFound);
        assert_eq!(api(404, "no_such_node").exit, Exit::NotFound);
        assert_eq!(api(422, "invalid_job").exit, Exit::BadInput);
        assert_eq!(api(507, "disk_full").exit, Exit::StateUnusable);
        assert_eq!(api(409, "job_is_over").exit, Exit::Failed);
        let nobody =
            Failure::from(ClientError::Unreachable { url: "u".into(), reason: "r".into() });
        assert_eq!(nobody.exit, Exit::NoControlPlane);
        assert!(nobody.to_string().contains("\nhint: "));
    }
}
