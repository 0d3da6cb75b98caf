//! Progress to Lindos: one JSON object a datagram, never waited for.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::standby::Environment;

/// Where progress goes; nowhere outside Lindos.
#[derive(Debug)]
pub struct Progress {
    socket: Option<(UnixDatagram, PathBuf)>,
}

impl Progress {
    pub fn to(path: Option<PathBuf>) -> Self {
        let open = || {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        };
        Self { socket: path.and_then(|path| Some((open()?, path))) }
    }

    pub fn from(environment: &Environment) -> Self {
        Self::to(environment.get("LINDOS_SOCKET").map(PathBuf::from))
    }

    /// This program can be started before it has a rank, and wait for it.
    pub fn offer_to_stand_by(&self) {
        self.send(&json!({"stand_by": true}));
    }

    /// A step is done; `tokens` counts the whole job's, from its first step.
    pub fn step(&self, step: u64, loss: Option<f32>, tokens: u64, total_steps: u64) {
        let mut message = json!({"step": step, "tokens": tokens, "total_steps": total_steps});
        if let Some(loss) = loss {
            message["loss"] = json!(loss);
        }
        self.send(&message);
    }

    /// A checkpoint is on the disk to stay; training stood still for `seconds`.
    pub fn checkpoint(&self, step: u64, path: &Path, seconds: f64) {
        self.send(&json!({"checkpoint": {"step": step, "path": path, "seconds": seconds}}));
    }

    /// A full or missing socket must not hold up training: what cannot be sent at once is lost.
    fn send(&self, message: &serde_json::Value) {
        if let Some((socket, path)) = &self.socket {
            let _ = socket.send_to(message.to_string().as_bytes(), path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_full_socket_does_not_hold_up_training() {
        Progress::to(None).step(1, None, 0, 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let progress = Progress::to(Some(path.clone()));
        progress.step(1, None, 0, 1);
        let reader = UnixDatagram::bind(&path).unwrap();
        // Nobody reads: the queue of the socket is full long before this ends.
        for step in 0..100_000 {
            progress.step(step, Some(1.5), 0, 1);
        }
        let mut buffer = [0; 256];
        let length = reader.recv(&mut buffer).unwrap();
        let expected = r#"{"loss":1.5,"step":0,"tokens":0,"total_steps":1}"#;
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
    }
}
