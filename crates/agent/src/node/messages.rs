//! Reads the control plane's messages, for ever: connects again when the stream ends or falls
//! silent.

use super::control::{Backoff, Control, percent_encoded};
use anyhow::{Context as _, bail};
use lindos_api::agent::{MESSAGES_PATH, Message};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// A line comes every second, if only an empty one.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// A launch names every node of its gang: 125,000 nodes are some 8 MB.
const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub struct MessageReader {
    pub control: Arc<Control>,
    pub node: String,
    pub incarnation: u64,
    pub messages: mpsc::Sender<Message>,
    pub reconnected: Arc<Notify>,
}

impl MessageReader {
    pub async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let Err(error) = self.read(&mut backoff).await else { return };
            let (wait, first) = backoff.next();
            if first {
                tracing::warn!("no messages from the control plane: {error:#}");
            }
            self.control.forget_endpoint();
            tokio::time::sleep(wait).await;
        }
    }

    /// `Ok`: nobody takes messages any more.
    async fn read(&self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let node = percent_encoded(&self.node);
        let query = format!("{MESSAGES_PATH}?node={node}&incarnation={}", self.incarnation);
        let mut response = self.control.get(&query).await?;
        self.reconnected.notify_one();
        let mut received: Vec<u8> = Vec::new();
        loop {
            let chunk = tokio::time::timeout(SILENCE_MAX, response.chunk())
                .await
                .context("the control plane has fallen silent")??;
            let Some(chunk) = chunk else { bail!("the control plane ended the stream") };
            // Only now is it known to work: one that accepts and ends at once is not back.
            backoff.reset();
            let searched = received.len();
            received.extend_from_slice(&chunk);
            if received.len() > LINE_BYTES_MAX {
                bail!("a message of more than {LINE_BYTES_MAX} bytes");
            }
            let mut begin = 0;
            let mut from = searched;
            while let Some(end) = received[from..].iter().position(|&byte| byte == b'\n') {
                let line = &received[begin..from + end];
                from += end + 1;
                begin = from;
                if let Some(message) = parse(line)
                    && self.messages.send(message).await.is_err()
                {
                    return Ok(());
                }
            }
            received.drain(..begin);
        }
    }
}

fn parse(line: &[u8]) -> Option<Message> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    serde_json::from_slice(line)
        .inspect_err(|error| tracing::warn!("a message of an unknown kind is ignored: {error}"))
        .ok()
}
