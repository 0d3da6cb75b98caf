//! What would be free if running jobs ended: for the nodes that a blocked gang will start on, and
//! for the victims that would let it start now.

use crate::gang::attempt::Attempt;
use crate::health::fleet::Fleet;
use crate::placement::index::{Index, Standing};
use crate::placement::{self, Request};
use lindos_model::{JobId, NodeId, Time};

/// An index in which some gangs have ended. Take them back with [`WhatIf::undo`].
#[derive(Debug)]
pub struct WhatIf<'a> {
    index: &'a mut Index,
    fleet: &'a Fleet,
    /// What is held for this job is open to it.
    job: Option<JobId>,
    /// GPUs free by node, where they differ from what is: a pass touches many nodes many times.
    room: Vec<Option<u16>>,
    /// How the nodes that were touched stood before.
    before: Vec<(NodeId, Standing)>,
}

impl<'a> WhatIf<'a> {
    pub fn new(index: &'a mut Index, fleet: &'a Fleet) -> WhatIf<'a> {
        WhatIf { index, fleet, job: None, room: vec![None; fleet.len()], before: Vec::new() }
    }

    /// As a job sees it that may have nodes held for it.
    pub fn for_job(self, job: Option<JobId>) -> WhatIf<'a> {
        WhatIf { job, ..self }
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
            let is_own = node.held_for.is_some() && node.held_for == self.job && !node.is_reserved;
            if !node.in_service() || !(node.is_open() || is_own) {
                continue;
            }
            let room = &mut self.room[member.node.index()];
            let now = room.unwrap_or_else(|| {
                self.before.push((member.node, self.index.standing(member.node)));
                node.free().len()
            });
            let now = change(now, member.gpus.len());
            *room = Some(now);
            self.index.show_open(member.node, now);
            changed += 1;
        }
        changed
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
