//! All that lives on the core thread and that an answer may be made from.

use crate::agents::{Agents, Undelivered};
use crate::fault::Fault;
use crate::telemetry::Telemetry;
use axum::http::StatusCode;
use lindos_api::agent::{Message, ReadLog};
use lindos_core::Core;
use lindos_model::{Epoch, JobId, NodeId, Rank, Time};

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) telemetry: Telemetry,
    pub(crate) agents: Agents,
    /// When the answer is made.
    pub(crate) now: Time,
    /// Records in the journal.
    pub(crate) records: u64,
}

impl World {
    /// Asks the node that has the rank for a piece of its log.
    pub(crate) fn read_log(&mut self, ask: ReadLog) -> Result<(), Fault> {
        let node = self.node_of_rank(ask.job, ask.epoch, ask.rank)?;
        match self.agents.send(&node, Message::ReadLog(ask)) {
            Ok(()) => Ok(()),
            Err(Undelivered::NotConnected) => {
                Err(Fault::unavailable("node_not_connected", format!("{node} is not connected"))
                    .hint("the log is on that node, under its `logs` folder"))
            }
            Err(Undelivered::Full) => Err(Fault::busy()),
        }
    }

    /// The name of the node on which a rank runs, or ran.
    fn node_of_rank(&self, job: JobId, epoch: Option<Epoch>, rank: Rank) -> Result<String, Fault> {
        let known = self.core.job(job).ok_or_else(|| Fault::no_such_job(job))?;
        let newest = known.epoch;
        if newest == Epoch(0) {
            let message = format!("job {job} has not started yet, so it has no logs");
            return Err(Fault::new(StatusCode::NOT_FOUND, "not_started", message));
        }
        let epoch = epoch.unwrap_or(newest);
        if epoch > newest || epoch == Epoch(0) {
            let message = format!("job {job} has had attempts 1 to {newest}, not {epoch}");
            return Err(Fault::new(StatusCode::NOT_FOUND, "no_such_attempt", message));
        }
        let attempt = known.attempt.as_ref().filter(|attempt| attempt.epoch == epoch);
        let (node, ranks) = if let Some(attempt) = attempt {
            let on_it = |m: &&lindos_core::gang::attempt::Member| {
                (m.first_rank.0..m.first_rank.0 + m.ranks.len() as u32).contains(&rank.0)
            };
            let member = attempt.members.iter().find(on_it);
            (member.and_then(|member| self.node_name(member.node)), attempt.world_size())
        } else {
            // An attempt that is over: its nodes, in rank order, as it was placed.
            let index = (rank.0 / u32::from(known.spec.ranks_per_node)) as usize;
            let past = known.history.iter().find(|past| past.epoch == epoch);
            let nodes = past.map_or(&[][..], |past| &past.nodes[..]);
            let node = nodes.get(index).and_then(|&node| self.node_name(node));
            (node, known.spec.ranks(nodes.len() as u32))
        };
        node.ok_or_else(|| {
            let message = format!("attempt {epoch} of job {job} had {ranks} ranks, from 0");
            Fault::new(StatusCode::NOT_FOUND, "no_such_rank", message)
        })
    }

    fn node_name(&self, node: NodeId) -> Option<String> {
        self.core.node(node).map(|node| node.spec.name.clone())
    }
}
