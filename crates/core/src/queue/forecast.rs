//! What would be free if running jobs ended: for the nodes that a blocked gang will start on, and
//! for the victims that would let it start now.

use crate::gang::attempt::Attempt;
use crate::health::fleet::Fleet;
use crate::placement::index::{Index, Standing};
use crate::placement::{self, Request};
use lindos_model::{NodeId, Time};
use std::collections::BTreeMap;

/// An index in which some gangs have ended. Take them back with [`WhatIf::undo`].
#[derive(Debug)]
pub struct WhatIf<'a> {
    index: &'a mut Index,
    fleet: &'a Fleet,
    /// GPUs free on the nodes that were touched, and how they stood before.
    room: BTreeMap<NodeId, (u16, Standing)>,
}

impl<'a> WhatIf<'a> {
    pub fn new(index: &'a mut Index, fleet: &'a Fleet) -> WhatIf<'a> {
        WhatIf { index, fleet, room: BTreeMap::new() }
    }

    /// A gang ends; on how many nodes that frees GPUs. What is held for others stays held.
    pub fn end(&mut self, attempt: &Attempt) -> u32 {
        self.change(attempt, |room, gpus| room + gpus)
    }

    /// It runs again.
    pub fn run_on(&mut self, attempt: &Attempt) {
        self.change(attempt, |room, gpus| room - gpus);
    }

    fn change(&mut self, attempt: &Attempt, change: impl Fn(u16, u16) -> u16) -> u32 {
        let mut changed = 0;
        for member in &attempt.members {
            let node = self.fleet.node(member.node);
            if !node.in_service() || !node.is_open() {
                continue;
            }
            let standing = self.index.standing(member.node);
            let (room, _) =
                self.room.entry(member.node).or_insert_with(|| (node.free().len(), standing));
            *room = change(*room, member.gpus.len());
            self.index.set(member.node, Some(*room), false);
            changed += 1;
        }
        changed
    }

    /// The nodes that a gang would start on.
    pub fn nodes_for(&mut self, request: &Request<'_>) -> Option<Vec<NodeId>> {
        let found = placement::would_go(self.index, self.fleet, request);
        found.ok().map(|(nodes, _)| nodes)
    }

    /// The most nodes that the request could have together.
    pub fn most(&mut self, request: &Request<'_>) -> u32 {
        placement::most_open(self.index, self.fleet, request)
    }

    /// The fewest nodes that must become free before the request can be met.
    fn missing(&mut self, request: &Request<'_>) -> u32 {
        let most = self.most(request);
        let nodes = request.nodes.saturating_sub(most);
        // One node may complete a whole segment.
        (nodes / request.segment.unwrap_or(1)).max(1)
    }

    pub fn undo(self) {
        for (node, (_, standing)) in self.room {
            self.index.stand(node, standing);
        }
    }

    /// Lets gangs end one after another, until there is room: on which nodes, and when.
    pub fn sweep(
        &mut self,
        request: &Request<'_>,
        ends: &[(Time, &Attempt)],
    ) -> Option<(Vec<NodeId>, Time)> {
        // A search is worth its cost only when as many nodes were freed as were missing.
        let mut missing = self.missing(request);
        for together in ends.chunk_by(|a, b| a.0 == b.0) {
            for &(_, attempt) in together {
                missing = missing.saturating_sub(self.end(attempt));
            }
            if missing == 0 {
                if let Some(nodes) = self.nodes_for(request) {
                    return Some((nodes, together[0].0));
                }
                missing = self.missing(request);
            }
        }
        None
    }
}
