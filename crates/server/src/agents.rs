//! The way to the agents: one stream of messages a node.
//!
//! Nothing here is durable, and nothing has to be: a message that cannot be delivered is dropped,
//! because the core says it again.

use lindos_api::agent::{self, Message};
use lindos_core::{Core, effect};
use lindos_model::NodeId;
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
    /// Those of the last launch sent, in the words of the wire: all replicas of it get the same.
    peers: Option<Peers>,
}

type CorePeers = Arc<Vec<(NodeId, u16)>>;

/// Where replicas meet, as the core has it and as it goes over the wire.
#[derive(Debug)]
struct Peers {
    core: CorePeers,
    wire: Arc<Vec<agent::Peer>>,
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

    /// Tells every target of a command its own part.
    pub(crate) fn command(&mut self, core: &Core, command: &effect::Command) {
        let order = self.order(core, &command.order);
        for target in &command.to {
            let Some(node) = core.node(target.node) else { continue };
            let message = Message::Command(agent::Command {
                id: command.id.0,
                incarnation: target.incarnation,
                job: command.job,
                epoch: command.epoch,
                order: order.of(target),
            });
            let name = node.spec.name.as_str();
            if let Err(reason) = self.send(name, message) {
                tracing::debug!(node = name, job = %command.job, ?reason, "command not delivered");
            }
        }
    }

    fn order<'a>(&mut self, core: &Core, order: &'a effect::Order) -> Order<'a> {
        match order {
            effect::Order::Launch(launch) => Order::Launch {
                launch,
                gang: gang(core, launch),
                replica: launch.replica.as_ref().map(|replica| agent::LaunchReplica {
                    index: replica.index,
                    count: replica.peers.len() as u32,
                    replicas_min: replica.replicas_min,
                    peers: self.peers(core, &replica.peers),
                }),
            },
            effect::Order::Stop { grace } => Order::Same(agent::Order::Stop { grace: *grace }),
            effect::Order::Forget => Order::Same(agent::Order::Forget),
            effect::Order::StandBy(order) => Order::StandBy(order),
            effect::Order::StandDown { standby } => {
                Order::Same(agent::Order::StandDown { standby: *standby })
            }
        }
    }

    /// The peers for the wire, made once for all replicas that are launched together.
    fn peers(&mut self, core: &Core, peers: &CorePeers) -> Arc<Vec<agent::Peer>> {
        if let Some(made) = self.peers.as_ref().filter(|made| Arc::ptr_eq(&made.core, peers)) {
            return Arc::clone(&made.wire);
        }
        let to_wire =
            |&(node, port): &(NodeId, u16)| agent::Peer { address: address(core, node), port };
        let wire: Arc<Vec<agent::Peer>> = Arc::new(peers.iter().map(to_wire).collect());
        self.peers = Some(Peers { core: Arc::clone(peers), wire: Arc::clone(&wire) });
        wire
    }

    /// Lets the last peers go, of which there may be many.
    pub(crate) fn end_of_batch(&mut self) {
        self.peers = None;
    }
}

/// An order for the wire, but for what differs from target to target.
enum Order<'a> {
    Launch {
        launch: &'a effect::Launch,
        gang: Arc<Vec<agent::GangNode>>,
        replica: Option<agent::LaunchReplica>,
    },
    StandBy(&'a effect::StandBy),
    Same(agent::Order),
}

impl Order<'_> {
    fn of(&self, target: &effect::Target) -> agent::Order {
        let (launch, gang, replica) = match self {
            Order::Launch { launch, gang, replica } => (launch, gang, replica),
            Order::Same(order) => return order.clone(),
            Order::StandBy(order) => {
                return agent::Order::StandBy(Box::new(agent::StandBy {
                    id: order.id,
                    spec: Arc::clone(&order.spec),
                    gpus: target.gpus,
                    array_index: order.array_index,
                    beside: order.beside,
                }));
            }
        };
        let rank_count = launch.ranks_per_node();
        agent::Order::Launch(Box::new(agent::Launch {
            spec: Arc::clone(&launch.spec),
            gpus: target.gpus,
            first_rank: launch.first_rank(target.member),
            rank_count,
            world_size: gang.len() as u32 * rank_count,
            node_rank: launch.node_rank(target.member),
            gang: Arc::clone(gang),
            master_port: launch.master_port,
            resume_step: launch.resume_step,
            save_every: launch.save_every,
            array_index: launch.array_index,
            replica: replica.clone(),
        }))
    }
}

/// The gang for the wire: all its nodes get the same.
fn gang(core: &Core, launch: &effect::Launch) -> Arc<Vec<agent::GangNode>> {
    let to_wire = |&node: &NodeId| agent::GangNode {
        name: core.node(node).map(|node| node.spec.name.clone()).unwrap_or_default(),
        address: address(core, node),
    };
    Arc::new(launch.gang.iter().map(to_wire).collect())
}

fn address(core: &Core, node: NodeId) -> String {
    core.node(node).map(|node| node.spec.address.clone()).unwrap_or_default()
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
