//! Failures that have an exit code of their own; everything else exits 1.

/// What went wrong, by who must act.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Flags or environment: whoever started this.
    #[error("{0}")]
    Usage(String),
    /// Another rank: this one is a victim.
    #[error("{0}")]
    PeerLost(String),
    /// The checkpoint folder: whoever owns the disk.
    #[error("{0}")]
    Checkpoint(String),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::PeerLost(_) => 3,
            Self::Checkpoint(_) => 4,
        }
    }
}
