//! What would be free if running jobs ended: for the nodes that a blocked gang will start on, and
//! for the victims that would let it start now.

use crate::gang::attempt::Attempt;
use crate::health::fleet::Fleet;
use crate::placement::index::{Index, Standing};
use crate::placement::{self, Request};
use lindos_model::{NodeId, Time};

/// An index in which some gangs have ended. Take them back with [`WhatIf::undo`].
#[derive(Debug)]
pub struct WhatIf<'a> {
    index: &'a mut Index,
    fleet: &'a Fleet,
    /// Nodes that are not open to all, and are to whoever looks. Sorted.
    own: Vec<NodeId>,
    /// GPUs free by node, where they differ from what is: a pass touches many nodes many times.
    room: Vec<Option<u16>>,
    /// How the nodes that were touched stood before.
    before: Vec<(NodeId, Standing)>,
}

impl<'a> WhatIf<'a> {
    pub fn new(index: &'a mut Index, fleet: &'a Fleet) -> WhatIf<'a> {
        let room = vec![None; fleet.len()];
        WhatIf { index, fleet, own: Vec::new(), room, before: Vec::new() }
    }

    /// As one sees it to whom these nodes are open besides.
    pub fn open_to(mut self, own: &[NodeId]) -> WhatIf<'a> {
        self.own = own.to_vec();
        self.own.sort_unstable();
        for &node in own {
            let known = self.fleet.node(node);
            if known.in_service() && !known.is_open() && known.spare_of.is_none() {
                self.show(node, known.free().len());
            }
        }
        self
    }

    /// A gang ends; on how many nodes that frees GPUs. What is not open to whoever looks stays closed.
    pub fn end(&mut self, attempt: &Attempt) -> u32 {
        self.show_spares(attempt, true);
        self.change(attempt, |room, gpus| room + gpus)
    }

    /// It runs again.
    pub fn run_on(&mut self, attempt: &Attempt) {
        self.show_spares(attempt, false);
        self.change(attempt, |room, gpus| room - gpus);
    }

    fn change(&mut self, attempt: &Attempt, change: impl Fn(u16, u16) -> u16) -> u32 {
        let mut changed = 0;
        for member in &attempt.members {
            let node = self.fleet.node(member.node);
            let is_seen = node.is_open() || self.own.binary_search(&member.node).is_ok();
            if !node.in_service() || !is_seen {
                continue;
            }
            let now = self.room[member.node.index()].unwrap_or_else(|| node.free().len());
            self.show(member.node, change(now, member.gpus.len()));
            changed += 1;
        }
        changed
    }

    /// The spares of a gang are free once it has ended.
    fn show_spares(&mut self, attempt: &Attempt, has_ended: bool) {
        for &id in &attempt.spares {
            let node = self.fleet.node(id);
            if node.held_for.is_none() || self.own.binary_search(&id).is_ok() {
                self.show(id, if has_ended { node.free().len() } else { 0 });
            }
        }
    }

    /// Somebody has all of a node.
    pub fn take(&mut self, node: NodeId) {
        self.show(node, 0);
    }

    /// Whether a node that was touched would be wholly free.
    pub fn is_whole(&self, node: NodeId) -> bool {
        self.room[node.index()] == Some(self.fleet.node(node).spec.gpus)
    }

    /// Nodes that are open and wholly free.
    pub fn whole_open(&self) -> u32 {
        self.index.whole_open()
    }

    fn show(&mut self, node: NodeId, gpus: u16) {
        if self.room[node.index()].replace(gpus).is_none() {
            self.before.push((node, self.index.standing(node)));
        }
        self.index.show_open(node, gpus);
    }

    /// The nodes that a gang would start on.
    pub fn nodes_for(&mut self, request: &Request<'_>) -> Option<Vec<NodeId>> {
        placement::nodes_for(self.index, self.fleet, request)
    }

    /// The most nodes that the request could have together.
    pub fn most(&mut self, request: &Request<'_>) -> u32 {
        placement::most_open(self.index, self.fleet, request)
    }

    pub fn undo(self) {
        for (node, standing) in self.before {
            self.index.stand(node, standing);
        }
    }

    /// Lets gangs end one after another, until there is room: on which nodes, and when.
    ///
    /// Room once there stays, so it is looked for by steps that double, and then by halves: a look
    /// costs a search, and an end only its nodes.
    pub fn sweep(
        &mut self,
        request: &Request<'_>,
        ends: &[(Time, &Attempt)],
    ) -> Option<(Vec<NodeId>, Time)> {
        let moments: Vec<&[(Time, &Attempt)]> = ends.chunk_by(|a, b| a.0 == b.0).collect();
        if moments.is_empty() {
            return None;
        }
        let mut now = 0;
        let (mut too_few, mut enough) = (0, 1);
        let mut found = loop {
            enough = enough.min(moments.len());
            self.go(&moments, &mut now, enough);
            match self.nodes_for(request) {
                Some(nodes) => break nodes,
                None if enough == moments.len() => return None,
                None => (too_few, enough) = (enough, enough * 2),
            }
        };
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            self.go(&moments, &mut now, middle);
            match self.nodes_for(request) {
                Some(nodes) => (found, enough) = (nodes, middle),
                None => too_few = middle,
            }
        }
        self.go(&moments, &mut now, enough);
        Some((found, moments[enough - 1][0].0))
    }

    /// Goes to where the first `to` moments have passed.
    fn go(&mut self, moments: &[&[(Time, &Attempt)]], now: &mut usize, to: usize) {
        for (_, attempt) in moments[(*now).min(to)..to].iter().copied().flatten() {
            self.end(attempt);
        }
        for (_, attempt) in moments[to..(*now).max(to)].iter().copied().flatten() {
            self.run_on(attempt);
        }
        *now = to;
    }
}
