//! Why a control plane did not start, or a state could not be read.

use crate::open::OpenError;
use lindos_journal::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Every message that can end in a `hint:` line does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another control plane has this state.
    #[error("the state folder {} is in use by {}\n  hint: that control plane answers for it; to run a second one, give it a state folder of its own", folder.display(), owner(*pid))]
    StateInUse { folder: PathBuf, pid: Option<u32> },
    #[error(
        "{address} is in use by another program\n  hint: choose another port, or port 0 for any that is free"
    )]
    PortInUse { address: SocketAddr },
    /// A newer Lindos wrote the state.
    #[error("{reason}")]
    NewerState { reason: String },
    #[error("{reason}")]
    CorruptJournal { reason: String },
    #[error("{reason}")]
    DiskFull { reason: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Anything else that the journal refuses.
    #[error("{reason}")]
    Journal { reason: String },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_string(), |pid| format!("process {pid}"))
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        let reason = error.to_string();
        match error {
            OpenError::NewerRecord { .. } => StartError::NewerState { reason },
            OpenError::Snapshot { .. } => StartError::CorruptJournal { reason },
            OpenError::Io { path, source } => StartError::Io { action: "open", path, source },
            OpenError::Journal(error) => error.into(),
        }
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error {
            Error::InUse { folder, pid } => StartError::StateInUse { folder, pid },
            Error::NewerFormat { .. } => StartError::NewerState { reason },
            Error::Corrupt { .. } | Error::Undecodable { .. } | Error::WrongJournal { .. } => {
                StartError::CorruptJournal { reason }
            }
            Error::DiskFull { .. } => StartError::DiskFull { reason },
            Error::Io { action, path, source } => StartError::Io { action, path, source },
            _ => StartError::Journal { reason },
        }
    }
}

/// Why [`read_offline`](crate::read_offline) shows nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// No control plane has ever run on it.
    #[error("there is no Lindos state in {}", folder.display())]
    NoState { folder: PathBuf },
    #[error("{reason}")]
    NewerState { reason: String },
    #[error("{reason}")]
    CorruptJournal { reason: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{reason}")]
    Journal { reason: String },
}

impl From<OpenError> for OfflineError {
    fn from(error: OpenError) -> Self {
        let reason = error.to_string();
        match StartError::from(error) {
            StartError::NewerState { reason } => OfflineError::NewerState { reason },
            StartError::CorruptJournal { reason } => OfflineError::CorruptJournal { reason },
            StartError::Io { action, path, source } => OfflineError::Io { action, path, source },
            _ => OfflineError::Journal { reason },
        }
    }
}
