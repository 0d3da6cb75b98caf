//! The agent's end of a shim's socket.

use crate::plan::{Key, Plan, Request, State};
use lindos_model::EffectId;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Between tries to reach a shim that lives and does not take connections.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub enum ShimEvent {
    State(Box<State>),
    /// No shim of this attempt lives, and none ever will.
    Ended,
}

/// Whose shim it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Attempt(Key),
    /// Of processes that wait for a rank.
    Standby(EffectId),
}

/// Passes on what the shim says, until it is no more. Requests that come while it cannot be
/// reached wait. `first` is asked of it whenever it is reached.
pub async fn run(
    plan: &Plan,
    whose: Whose,
    first: Option<Request>,
    events: mpsc::Sender<(Whose, ShimEvent)>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let socket = plan.shim_socket();
    let mut unsent: VecDeque<Request> = VecDeque::new();
    while let Some(stream) = connect(&socket).await {
        if unsent.front() != first.as_ref() {
            unsent.extend(first.clone());
            unsent.rotate_right(usize::from(first.is_some()));
        }
        if serve(stream, whose, &events, &mut requests, &mut unsent).await.is_err() {
            return; // The agent itself ends, or cares no more.
        }
    }
    let _ = events.send((whose, ShimEvent::Ended)).await;
}

/// `None`: nobody listens. The kernel refuses only when no process holds the listening end, and
/// every shim has held it since before it was started.
async fn connect(socket: &Path) -> Option<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Some(stream),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                return None;
            }
            // Its queue is full, or we are out of descriptors.
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

/// `Ok`: the connection is over. `Err`: the agent is.
async fn serve(
    stream: UnixStream,
    whose: Whose,
    events: &mpsc::Sender<(Whose, ShimEvent)>,
    requests: &mut mpsc::UnboundedReceiver<Request>,
    unsent: &mut VecDeque<Request>,
) -> Result<(), ()> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    loop {
        while let Some(request) = unsent.front() {
            let mut line = serde_json::to_vec(request).map_err(drop)?;
            line.push(b'\n');
            if writing.write_all(&line).await.is_err() {
                return Ok(());
            }
            unsent.pop_front();
        }
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(state) => {
                        let event = ShimEvent::State(Box::new(state));
                        events.send((whose, event)).await.map_err(drop)?;
                    }
                    Err(error) => tracing::warn!("the shim of {whose:?} says nonsense: {error}"),
                },
                Ok(None) | Err(_) => return Ok(()),
            },
            request = requests.recv() => match request {
                Some(request) => unsent.push_back(request),
                None => return Err(()),
            },
        }
    }
}
