//! All that lives on the core thread and that an answer may be made from.

use crate::agents::{Agents, Undelivered};
use crate::fault::Fault;
use crate::tally::Tally;
use crate::telemetry::Telemetry;
use axum::http::StatusCode;
use lindos_api::agent::{Message, ReadLog};
use lindos_core::Core;
use lindos_model::{Epoch, NodeId, Time};

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) telemetry: Telemetry,
    pub(crate) agents: Agents,
    /// When the answer is made.
    pub(crate) now: Time,
    pub(crate) tally: Tally,
    /// Records in the journal.
    pub(crate) records: u64,
}

impl World {
    /// Asks the node that has the rank for a piece of its log.
    pub(crate) fn read_log(&mut self, ask: &ReadLog) -> Result<(), Fault> {
        let (node, ask) = self.addressed(ask)?;
        match self.agents.send(&node, Message::ReadLog(ask)) {
            Ok(()) => Ok(()),
            Err(Undelivered::NotConnected) => {
                Err(Fault::unavailable("node_not_connected", format!("{node} is not connected"))
                    .hint("the log is on that node, under its `logs` folder"))
            }
            Err(Undelivered::Full) => Err(Fault::busy()),
        }
    }

    /// The name of the node on which the rank runs, or ran, and the question as it goes there: in
    /// terms of the rank's own launch, which is that of its replica.
    fn addressed(&self, ask: &ReadLog) -> Result<(String, ReadLog), Fault> {
        let (job, rank) = (ask.job, ask.rank);
        let known = self.core.job(job).ok_or_else(|| Fault::no_such_job(job))?;
        let newest = known.epoch;
        if newest == Epoch(0) {
            let message = format!("job {job} has not started yet, so it has no logs");
            return Err(Fault::new(StatusCode::NOT_FOUND, "not_started", message));
        }
        let epoch = ask.epoch.unwrap_or(newest);
        if epoch > newest || epoch == Epoch(0) {
            let message = format!("job {job} has had attempts 1 to {newest}, not {epoch}");
            return Err(Fault::new(StatusCode::NOT_FOUND, "no_such_attempt", message));
        }
        let attempt = known.attempt.as_ref().filter(|attempt| attempt.epoch <= epoch);
        let index = (rank.0 / u32::from(known.spec.ranks_per_node)) as usize;
        let (node, nodes, launches) = if let Some(attempt) = attempt {
            let member = attempt.members.get(index);
            let own = member.map(|_| attempt.epoch_of(index)).filter(|own| *own <= epoch);
            let launches = own.map_or((attempt.epoch, epoch), |own| (own, own));
            (member.map(|member| member.node), attempt.members.len(), launches)
        } else {
            // An attempt that is over: its nodes, in rank order, as they were at its end.
            let past = known.history.iter().rfind(|past| past.epoch <= epoch);
            let nodes = past.map_or(&[][..], |past| &past.nodes[..]);
            let launches = (past.map_or(epoch, |past| past.epoch), epoch);
            (nodes.get(index).copied(), nodes.len(), launches)
        };
        let node = node.and_then(|node| self.node_name(node)).ok_or_else(|| {
            let ranks = known.spec.ranks(nodes as u32);
            let message = format!("attempt {epoch} of job {job} had {ranks} ranks, from 0");
            Fault::new(StatusCode::NOT_FOUND, "no_such_rank", message)
        })?;
        let (epoch_min, epoch_max) = launches;
        // Without an epoch, the newest that the node has.
        let epoch = ask.epoch.map(|_| epoch_max);
        Ok((node, ReadLog { epoch, epoch_min: epoch.map(|_| epoch_min), ..ask.clone() }))
    }

    fn node_name(&self, node: NodeId) -> Option<String> {
        self.core.node(node).map(|node| node.spec.name.clone())
    }
}
