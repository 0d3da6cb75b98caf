//! The nodes: which are there, which are in service, and what stands on each of their GPUs.

use super::places::Places;
use crate::placement::index::Index;
use crate::placement::tree::VertexId;
use lindos_model::{Column, Columns, EffectId, Epoch, GpuSet, JobId, NodeId, NodeSpec};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// In the fleet, and never heard from.
    Expected,
    Up,
    /// Not heard from; a fence is asked for.
    Silent,
    /// Nothing runs there, for certain; back in service when it reports.
    Fenced,
}

impl NodeState {
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Expected => "expected",
            NodeState::Up => "up",
            NodeState::Silent => "silent",
            NodeState::Fenced => "fenced",
        }
    }

    /// Whether it was there, and is not now.
    pub fn is_away(self) -> bool {
        matches!(self, NodeState::Silent | NodeState::Fenced)
    }
}

/// Why a node is out of service by Lindos's own decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Out {
    Repair,
    BurnIn,
}

impl Out {
    pub fn name(self) -> &'static str {
        match self {
            Out::Repair => "repair",
            Out::BurnIn => "burn-in",
        }
    }
}

/// Some GPUs of a node, given to one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    pub job: JobId,
    /// The index of this node in the attempt's gang.
    pub member: u32,
    pub gpus: GpuSet,
    /// All its ranks here run in this epoch, and each is known: as long as the node says the same,
    /// there is nothing to learn.
    pub quiet: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub spec: NodeSpec,
    pub state: NodeState,
    pub drained: Option<String>,
    pub out: Option<Out>,
    /// The first fence that was asked for in the present silence.
    pub fence: Option<EffectId>,
    /// Of the newest report.
    pub incarnation: u64,
    pub seq: u64,
    pub allocations: Vec<Allocation>,
    /// A gang whose start is reserved: nobody else is placed here, but for those that end before.
    pub held_for: Option<JobId>,
    /// It is part of a reservation, now or later.
    pub is_reserved: bool,
    /// A running gang for which it is kept, free, should one of its nodes be lost.
    pub spare_of: Option<JobId>,
    /// It is in service and idle, and burnt in meanwhile: whoever wants it has it at once.
    pub burn_in: Option<EffectId>,
}

impl Node {
    /// Whether new work may be placed here.
    pub fn in_service(&self) -> bool {
        self.state == NodeState::Up && self.drained.is_none() && self.out.is_none()
    }

    pub fn free(&self) -> GpuSet {
        let taken = self.allocations.iter().fold(GpuSet::EMPTY, |set, a| set.union(a.gpus));
        GpuSet::first(self.spec.gpus).without(taken)
    }

    /// Whether it is neither held nor reserved for somebody, nor kept as a spare.
    pub fn is_open(&self) -> bool {
        self.held_for.is_none() && !self.is_reserved && self.spare_of.is_none()
    }

    /// Whether it is on its way into service for the first time.
    fn is_expected(&self) -> bool {
        self.state == NodeState::Expected && self.drained.is_none() && self.out.is_none()
    }

    /// GPUs that new work may take; `None` when it may take none, whatever is free.
    pub fn room(&self) -> Option<u16> {
        self.in_service().then(|| self.free().len())
    }

    pub fn is_whole(&self) -> bool {
        self.allocations.is_empty()
    }

    /// Where its GPUs stand that are on no job's account now, and how many: a job's are on its
    /// account while the node is up. Free GPUs in service stand in `idle` here; the fleet as a whole
    /// tells idle from spare and stranded.
    fn stands(&self) -> (Column, u64) {
        let all = u64::from(self.spec.gpus);
        match self.state {
            NodeState::Expected => (Column::Unpowered, all),
            NodeState::Silent | NodeState::Fenced if self.drained.is_some() => {
                (Column::Maintenance, all)
            }
            NodeState::Silent | NodeState::Fenced => (Column::Repair, all),
            NodeState::Up => {
                let held = self.allocations.iter().map(|a| u64::from(a.gpus.len()));
                let column = match (&self.drained, self.out) {
                    (Some(_), _) => Column::Maintenance,
                    (None, Some(Out::Repair)) => Column::Repair,
                    (None, Some(Out::BurnIn)) => Column::BurnIn,
                    (None, None) if self.burn_in.is_some() => Column::BurnIn,
                    (None, None) => Column::Idle,
                };
                (column, all - held.sum::<u64>())
            }
        }
    }
}

/// What the fleet makes of a node that joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    New,
    /// It is known, and nothing that a gang asks for has changed.
    Again,
    /// It is known, and stands elsewhere or is of another kind now.
    Elsewhere,
}

/// What is asked of thousands of nodes at once, as it is for every order to a large gang: close
/// together, because a walk over the nodes themselves waits for memory at each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Glance {
    /// The incarnation of its agent, while it is up.
    agent: Option<u64>,
    /// Its first allocation's, if it has one.
    job: Option<JobId>,
    has_more_jobs: bool,
    in_service: bool,
    /// A gang may have a claim on it, or a reservation.
    is_claimed: bool,
}

impl Glance {
    fn at(node: &Node) -> Glance {
        Glance {
            agent: (node.state == NodeState::Up).then_some(node.incarnation),
            job: node.allocations.first().map(|allocation| allocation.job),
            has_more_jobs: node.allocations.len() > 1,
            in_service: node.in_service(),
            is_claimed: node.held_for.is_some() || node.is_reserved,
        }
    }
}

/// How many nodes are out below each vertex, by its number, and of each design.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OutCounts {
    below: Vec<u32>,
    of_design: BTreeMap<String, u32>,
}

impl OutCounts {
    fn below(&mut self, vertex: VertexId) -> &mut u32 {
        let index = vertex as usize;
        if index >= self.below.len() {
            self.below.resize(index + 1, 0);
        }
        &mut self.below[index]
    }
}

/// All nodes, and the sums over them that must not cost a pass.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Fleet {
    nodes: Vec<Node>,
    by_name: BTreeMap<String, NodeId>,
    gpus: u64,
    columns: Columns,
    /// In service and without any allocation.
    whole_free: u32,
    whole_free_gpus: u64,
    /// Never heard from, and not drained.
    expected: u32,
    /// Burn-ins of idle nodes that somebody's work has ended, in this step.
    interrupted: Vec<(NodeId, EffectId)>,
    /// Nodes that are out, by place and by design: what the guardrails count. Of a snapshot: see
    /// [`Fleet::restore_index`].
    #[serde(skip)]
    out: OutCounts,
    /// What the nodes have free, along the tree: of a snapshot only the tree, see
    /// [`Fleet::restore_index`].
    index: Index,
    /// What they share, by number.
    #[serde(skip)]
    places: Places,
    /// Nodes that are silent or fenced. Of a snapshot, like what follows: see
    /// [`Fleet::restore_index`].
    #[serde(skip)]
    away: BTreeSet<NodeId>,
    #[serde(skip)]
    glances: Vec<Glance>,
}

impl Fleet {
    pub fn places(&self) -> &Places {
        &self.places
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub fn by_name(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    pub fn gpus(&self) -> u64 {
        self.gpus
    }

    /// GPUs by column that are on no job's account, all free ones in `idle`.
    pub fn columns(&self) -> Columns {
        self.columns
    }

    pub fn whole_free(&self) -> u32 {
        self.whole_free
    }

    pub fn whole_free_gpus(&self) -> u64 {
        self.whole_free_gpus
    }

    /// Nodes that have never reported, and that nobody has drained.
    pub fn expected(&self) -> u32 {
        self.expected
    }

    /// Whether a node of this design can be told from others.
    pub fn has_room_for(&self, platform: &str) -> bool {
        self.index.tree().has_room_for(platform)
    }

    /// Adds a node, or takes over what may have changed of a known one.
    pub fn join(&mut self, spec: NodeSpec) -> (NodeId, Joined) {
        if let Some(id) = self.by_name(&spec.name) {
            let node = &mut self.nodes[id.index()];
            let gpus = node.spec.gpus;
            let spec = NodeSpec { gpus, ..spec };
            let has_moved = node.spec.location != spec.location
                || node.spec.platform != spec.platform
                || node.spec.labels != spec.labels;
            if !has_moved {
                node.spec = spec;
                return (id, Joined::Again);
            }
            let is_out = node.out.is_some();
            if is_out {
                self.count_out(id, false);
            }
            self.nodes[id.index()].spec = spec;
            self.index.move_node(id, &self.nodes[id.index()].spec);
            self.places.set(id, &self.nodes[id.index()].spec.location);
            self.reindex(id);
            if is_out {
                self.count_out(id, true);
            }
            if self.index.tree().is_worn() {
                self.rebuild();
            }
            return (id, Joined::Elsewhere);
        }
        let id = NodeId(self.nodes.len() as u32);
        self.by_name.insert(spec.name.clone(), id);
        self.places.set(id, &spec.location);
        self.nodes.push(Node {
            spec,
            state: NodeState::Expected,
            drained: None,
            out: None,
            fence: None,
            incarnation: 0,
            seq: 0,
            allocations: Vec::new(),
            held_for: None,
            is_reserved: false,
            spare_of: None,
            burn_in: None,
        });
        self.index.add(&self.nodes[id.index()].spec);
        let node = &self.nodes[id.index()];
        self.glances.push(Glance::at(node));
        self.gpus += u64::from(node.spec.gpus);
        self.expected += 1;
        let (column, gpus) = node.stands();
        self.columns[column] += gpus;
        (id, Joined::New)
    }

    /// Changes a node and keeps the sums true. The only way to change one.
    pub fn update<R>(&mut self, id: NodeId, change: impl FnOnce(&mut Node) -> R) -> R {
        let node = &mut self.nodes[id.index()];
        let before = node.stands();
        let was_whole = node.in_service() && node.is_whole();
        let (was_out, was_away) = (node.out.is_some(), node.state.is_away());
        self.expected -= u32::from(node.is_expected());
        let result = change(node);
        let after = node.stands();
        let is_whole = node.in_service() && node.is_whole();
        self.expected += u32::from(node.is_expected());
        let (gpus, is_out) = (u64::from(node.spec.gpus), node.out.is_some());
        let is_away = node.state.is_away();
        if was_whole != is_whole {
            if is_whole {
                self.whole_free += 1;
                self.whole_free_gpus += gpus;
            } else {
                self.whole_free -= 1;
                self.whole_free_gpus -= gpus;
            }
        }
        self.columns[before.0] -= before.1;
        self.columns[after.0] += after.1;
        if was_out != is_out {
            self.count_out(id, is_out);
        }
        if was_away != is_away {
            if is_away {
                self.away.insert(id);
            } else {
                self.away.remove(&id);
            }
        }
        self.reindex(id);
        result
    }

    fn count_out(&mut self, id: NodeId, is_out: bool) {
        let change = |count: &mut u32| {
            if is_out {
                *count += 1;
            } else {
                *count -= 1;
            }
        };
        for vertex in self.index.tree().above(id) {
            change(self.out.below(vertex));
        }
        let design = &self.nodes[id.index()].spec.platform;
        match self.out.of_design.get_mut(design) {
            Some(count) => change(count),
            None => change(self.out.of_design.entry(design.clone()).or_default()),
        }
    }

    /// Nodes that are silent or fenced.
    pub fn away(&self) -> &BTreeSet<NodeId> {
        &self.away
    }

    fn counted_away(&self) -> BTreeSet<NodeId> {
        let ids = (0..).map(NodeId);
        let away = self.nodes.iter().zip(ids).filter(|(node, _)| node.state.is_away());
        away.map(|(_, id)| id).collect()
    }

    /// Nodes that are out below a vertex.
    pub fn out_below(&self, vertex: VertexId) -> u32 {
        self.out.below.get(vertex as usize).copied().unwrap_or(0)
    }

    /// Nodes of a design that are out.
    pub fn out_of_design(&self, design: &str) -> u32 {
        self.out.of_design.get(design).copied().unwrap_or(0)
    }

    /// Burn-ins of idle nodes that were ended since this was asked last.
    pub fn take_interrupted(&mut self) -> Vec<(NodeId, EffectId)> {
        std::mem::take(&mut self.interrupted)
    }

    pub fn has_interrupted(&self) -> bool {
        !self.interrupted.is_empty()
    }

    /// An idle node is burnt in no longer.
    pub fn interrupt(&mut self, id: NodeId) {
        if let Some(effect) = self.nodes[id.index()].burn_in {
            self.update(id, |node| node.burn_in = None);
            self.interrupted.push((id, effect));
        }
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The index beside the nodes: whatever is changed in it must be put back, or be true.
    pub fn with_index<R>(&mut self, look: impl FnOnce(&mut Index, &Fleet) -> R) -> R {
        let mut index = std::mem::take(&mut self.index);
        let result = look(&mut index, self);
        self.index = index;
        result
    }

    /// Makes the index anew.
    fn rebuild(&mut self) {
        self.index = Index::default();
        for node in &self.nodes {
            self.index.add(&node.spec);
        }
        self.reindex_all();
        self.out = self.counted_out();
    }

    fn counted_out(&self) -> OutCounts {
        let mut counts = OutCounts::default();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.out.is_some()) {
            for vertex in self.index.tree().above(NodeId(index as u32)) {
                *counts.below(vertex) += 1;
            }
            *counts.of_design.entry(node.spec.platform.clone()).or_default() += 1;
        }
        counts
    }

    /// Puts the nodes back into the index, after a snapshot was read.
    pub fn restore_index(&mut self) {
        self.index = self.index.restored(self.nodes.iter().map(|node| &node.spec));
        self.places = Places::new(self.nodes.iter().map(|node| &node.spec.location));
        self.glances = self.nodes.iter().map(Glance::at).collect();
        self.reindex_all();
        self.out = self.counted_out();
        self.away = self.counted_away();
    }

    fn reindex_all(&mut self) {
        for id in 0..self.nodes.len() {
            self.reindex(NodeId(id as u32));
        }
    }

    /// Tells the index how a node stands.
    pub fn reindex(&mut self, id: NodeId) {
        let node = &self.nodes[id.index()];
        self.glances[id.index()] = Glance::at(node);
        self.index.set(id, node.room(), !node.is_open());
    }

    /// The incarnation of the agent of a node that is up.
    pub fn agent_on(&self, id: NodeId) -> Option<u64> {
        self.glances[id.index()].agent
    }

    /// [`Node::in_service`], of many.
    pub fn in_service(&self, id: NodeId) -> bool {
        self.glances[id.index()].in_service
    }

    /// Whether another gang than this has a claim on a node, or a reservation.
    pub fn is_claimed_by_others(&self, id: NodeId, job: JobId) -> bool {
        if !self.glances[id.index()].is_claimed {
            return false;
        }
        let node = self.node(id);
        node.held_for.is_some_and(|other| other != job) || node.is_reserved
    }

    /// What a job has on a node, which for most nodes of a fleet is nothing.
    pub fn allocation_of(&self, id: NodeId, job: JobId) -> Option<&Allocation> {
        let glance = &self.glances[id.index()];
        if glance.job != Some(job) && !glance.has_more_jobs {
            return None;
        }
        self.node(id).allocations.iter().find(|allocation| allocation.job == job)
    }

    pub fn reserve(&mut self, id: NodeId, is_reserved: bool) {
        self.nodes[id.index()].is_reserved = is_reserved;
        self.reindex(id);
    }

    /// Keeps a free node for a running gang, or lets it go.
    pub fn spare(&mut self, id: NodeId, job: Option<JobId>) {
        self.nodes[id.index()].spare_of = job;
        self.reindex(id);
    }

    /// Holds a node for a gang, or lets it go.
    pub fn hold(&mut self, id: NodeId, job: Option<JobId>) {
        self.nodes[id.index()].held_for = job;
        self.reindex(id);
    }

    pub fn allocate(&mut self, id: NodeId, allocation: Allocation) {
        self.interrupt(id);
        self.update(id, |node| {
            assert!(
                node.free().0 & allocation.gpus.0 == allocation.gpus.0
                    && !allocation.gpus.is_empty(),
                "GPUs {} of {} are not free",
                allocation.gpus,
                node.spec.name
            );
            node.allocations.push(allocation);
        });
    }

    pub fn release(&mut self, id: NodeId, job: JobId) {
        self.update(id, |node| {
            let before = node.allocations.len();
            node.allocations.retain(|a| a.job != job);
            assert_eq!(node.allocations.len() + 1, before, "released what was not allocated");
        });
    }

    /// A node in service said something; nothing that anybody counts has changed.
    pub fn heard(&mut self, id: NodeId, incarnation: u64, seq: u64) {
        let node = &mut self.nodes[id.index()];
        (node.incarnation, node.seq) = (incarnation, seq);
        self.glances[id.index()] = Glance::at(node);
    }

    /// What of a job there is to learn from the node's next reports.
    pub fn note_quiet(&mut self, id: NodeId, job: JobId, quiet: Option<Epoch>) {
        let mut on_node = self.nodes[id.index()].allocations.iter_mut();
        if let Some(allocation) = on_node.find(|allocation| allocation.job == job) {
            allocation.quiet = quiet;
        }
    }

    pub fn check(&self) {
        let mut columns = Columns::default();
        let (mut whole, mut whole_gpus) = (0, 0);
        let expected = self.nodes.iter().filter(|node| node.is_expected()).count();
        assert_eq!(expected, self.expected as usize, "nodes that never came were miscounted");
        for node in &self.nodes {
            let (column, gpus) = node.stands();
            columns[column] += gpus;
            let mut taken = GpuSet::EMPTY;
            for allocation in &node.allocations {
                assert!(
                    !taken.intersects(allocation.gpus),
                    "a GPU of {} is given twice",
                    node.spec.name
                );
                taken = taken.union(allocation.gpus);
            }
            assert!(taken.without(GpuSet::first(node.spec.gpus)).is_empty());
            if node.in_service() && node.is_whole() {
                whole += 1;
                whole_gpus += u64::from(node.spec.gpus);
            }
        }
        assert_eq!(columns, self.columns, "the fleet's columns are not the sum of its nodes");
        assert_eq!((whole, whole_gpus), (self.whole_free, self.whole_free_gpus));
        assert_eq!(self.by_name.len(), self.nodes.len());
        let without_zeros = |mut counts: OutCounts| {
            let last = counts.below.iter().rposition(|&count| count > 0);
            counts.below.truncate(last.map_or(0, |last| last + 1));
            counts.of_design.retain(|_, count| *count > 0);
            counts
        };
        let counted = without_zeros(self.counted_out());
        assert_eq!(without_zeros(self.out.clone()), counted, "nodes that are out were miscounted");
        assert_eq!(self.away, self.counted_away(), "who is away is not kept in mind");
        let glances: Vec<Glance> = self.nodes.iter().map(Glance::at).collect();
        assert_eq!(self.glances, glances, "a glance shows what is not so");
        assert!(self.interrupted.is_empty(), "nobody was told that a burn-in is over");
        let nodes = self.nodes.iter();
        self.index.check(nodes.map(|node| (&node.spec, node.room(), !node.is_open())));
    }
}
