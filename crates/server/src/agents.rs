//! The way to the agents: one stream of messages a node.
//!
//! Nothing here is durable, and nothing has to be: a message that cannot be delivered is dropped,
//! because the core says it again.

use lindos_api::agent::{self, Message};
use lindos_core::effect;
use lindos_model::NodeSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Messages that wait for one agent to read them. A node runs at most 64 jobs, and each has a
/// few orders under way.
pub(crate) const STREAM_MESSAGES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Agents {
    /// By name, because an agent may connect before its node is in the fleet.
    streams: BTreeMap<String, Stream>,
    /// The gang of the last launch sent, in the words of the wire: all its nodes get the same.
    gang: Option<Gang>,
}

/// The same gang, as the core has it and as it goes over the wire.
#[derive(Debug)]
struct Gang {
    core: Arc<Vec<effect::GangNode>>,
    wire: Arc<Vec<agent::GangNode>>,
}

#[derive(Debug)]
struct Stream {
    incarnation: u64,
    sender: mpsc::Sender<Message>,
}

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    NotConnected,
    Full,
}

impl Agents {
    /// A new stream replaces the one before it, unless that one is of a later start of the agent.
    pub(crate) fn connect(
        &mut self,
        node: &str,
        incarnation: u64,
        sender: mpsc::Sender<Message>,
    ) -> bool {
        let newer = self
            .streams
            .get(node)
            .is_some_and(|stream| stream.incarnation > incarnation && !stream.sender.is_closed());
        if !newer {
            self.streams.insert(node.to_string(), Stream { incarnation, sender });
        }
        !newer
    }

    pub(crate) fn send(&mut self, node: &str, message: Message) -> Result<(), Undelivered> {
        let stream = self.streams.get(node).ok_or(Undelivered::NotConnected)?;
        match stream.sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Undelivered::Full),
            Err(TrySendError::Closed(_)) => {
                self.streams.remove(node);
                Err(Undelivered::NotConnected)
            }
        }
    }

    pub(crate) fn command(&mut self, node: &NodeSpec, command: &effect::Command) {
        let message = self.message(command);
        if let Err(reason) = self.send(&node.name, message) {
            tracing::debug!(node = node.name, job = %command.job, ?reason, "command not delivered");
        }
    }

    fn message(&mut self, command: &effect::Command) -> Message {
        let order = match &command.order {
            effect::Order::Launch(launch) => agent::Order::Launch(Box::new(agent::Launch {
                spec: Arc::clone(&launch.spec),
                gpus: launch.gpus,
                first_rank: launch.first_rank,
                rank_count: launch.rank_count,
                world_size: launch.world_size,
                node_rank: launch.node_rank,
                gang: self.gang(&launch.gang),
                master_port: launch.master_port,
                resume_step: launch.resume_step,
                array_index: launch.array_index,
            })),
            effect::Order::Stop { grace } => agent::Order::Stop { grace: *grace },
            effect::Order::Forget => agent::Order::Forget,
        };
        Message::Command(agent::Command {
            id: command.id.0,
            incarnation: command.incarnation,
            job: command.job,
            epoch: command.epoch,
            order,
        })
    }

    /// The gang for the wire, made once for all nodes of it.
    fn gang(&mut self, gang: &Arc<Vec<effect::GangNode>>) -> Arc<Vec<agent::GangNode>> {
        if let Some(made) = self.gang.as_ref().filter(|made| Arc::ptr_eq(&made.core, gang)) {
            return Arc::clone(&made.wire);
        }
        let to_wire = |node: &effect::GangNode| agent::GangNode {
            name: node.name.clone(),
            address: node.address.clone(),
        };
        let wire = Arc::new(gang.iter().map(to_wire).collect::<Vec<_>>());
        self.gang = Some(Gang { core: Arc::clone(gang), wire: Arc::clone(&wire) });
        wire
    }

    /// Lets the last gang go, which may be a whole fleet.
    pub(crate) fn end_of_batch(&mut self) {
        self.gang = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forget() -> Message {
        Message::Command(agent::Command {
            id: 1,
            incarnation: 1,
            job: lindos_model::JobId(1),
            epoch: lindos_model::Epoch(1),
            order: agent::Order::Forget,
        })
    }

    #[test]
    fn the_newest_connection_wins_and_an_older_agent_does_not() {
        let mut agents = Agents::default();
        assert_eq!(agents.send("n0", forget()), Err(Undelivered::NotConnected));
        let (first, mut first_end) = mpsc::channel(1);
        let (second, mut second_end) = mpsc::channel(1);
        let (older, mut older_end) = mpsc::channel(1);
        assert!(agents.connect("n0", 2, first));
        assert!(agents.connect("n0", 2, second));
        assert!(!agents.connect("n0", 1, older));
        agents.send("n0", forget()).unwrap();
        assert_eq!(agents.send("n0", forget()), Err(Undelivered::Full));
        assert!(second_end.try_recv().is_ok());
        assert!(first_end.try_recv().is_err());
        assert!(older_end.try_recv().is_err());

        drop(second_end);
        assert_eq!(agents.send("n0", forget()), Err(Undelivered::NotConnected));
        let (again, _end) = mpsc::channel(1);
        assert!(agents.connect("n0", 1, again), "nobody newer is connected any more");
    }
}
