//! The one tree that placement sees: the fleet, and within it sites, halls, spines, leaves, racks
//! and NVLink domains, each where it is known. A node hangs on the lowest vertex of its path.
//!
//! The tree is a function of the nodes in the order of their ids and of their locations, nothing
//! else, so that a core that was restored from a snapshot has the same as one that never stopped.

use lindos_model::{Level, NodeId, NodeSpec};
use std::collections::BTreeMap;

/// Number of a vertex; the fleet itself is 0.
pub type VertexId = u32;
/// Number of a pool: nodes that no request tells apart.
pub type PoolId = u16;
/// Number of a slot: one pool's nodes below one vertex.
pub type SlotId = u32;

pub const ROOT: VertexId = 0;

/// Kinds of nodes that are told apart. A node of one kind more stands with those of its size and,
/// if there are any, its design: what it has of its own cannot be asked for.
const POOLS_MAX: usize = 1000;

/// Nodes of one hardware design, one size and the same labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub platform: String,
    pub gpus: u16,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    pub level: Level,
    /// Steps from the root.
    pub depth: u32,
    pub name: String,
    /// Of the root: itself.
    pub parent: VertexId,
    /// By name.
    pub children: Vec<VertexId>,
    /// Those that hang on it directly, by id.
    pub nodes: Vec<NodeId>,
    /// The slot of each pool that has nodes below it, by pool.
    pub slots: Vec<(PoolId, SlotId)>,
}

/// One pool's nodes below one vertex: what of it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub vertex: VertexId,
    pub pool: PoolId,
    pub level: Level,
    /// Where its counts begin: one for each number of free GPUs from 0 to the node's size.
    pub base: u32,
    /// All its nodes, in service or not.
    pub nodes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    vertices: Vec<Vertex>,
    slots: Vec<Slot>,
    pools: Vec<Pool>,
    /// By node.
    home: Vec<VertexId>,
    pool_of: Vec<PoolId>,
    by_place: BTreeMap<(VertexId, Level, String), VertexId>,
    by_level: [Vec<VertexId>; Level::ALL.len()],
    counts: u32,
}

/// The slots of a node's ancestors that are new or have one node more.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    pub slots: u32,
    pub counts: u32,
}

impl Default for Tree {
    /// A fleet without nodes: the root alone.
    fn default() -> Tree {
        let mut tree = Tree {
            vertices: Vec::new(),
            slots: Vec::new(),
            pools: Vec::new(),
            home: Vec::new(),
            pool_of: Vec::new(),
            by_place: BTreeMap::new(),
            by_level: Default::default(),
            counts: 0,
        };
        tree.add_vertex(Level::Fleet, String::new(), ROOT);
        tree
    }
}

impl Tree {
    /// Adds the node that has the next id; how many slots and counts there are now.
    pub fn add(&mut self, spec: &NodeSpec) -> Added {
        let mut vertex = ROOT;
        for (level, name) in spec.location.path() {
            vertex = self.child(vertex, level, name);
        }
        let id = NodeId(self.home.len() as u32);
        let pool = self.pool(spec);
        self.home.push(vertex);
        self.pool_of.push(pool);
        self.vertices[vertex as usize].nodes.push(id);
        loop {
            let slot = self.slot_or_new(vertex, pool);
            self.slots[slot as usize].nodes += 1;
            if vertex == ROOT {
                break;
            }
            vertex = self.vertices[vertex as usize].parent;
        }
        Added { slots: self.slots.len() as u32, counts: self.counts }
    }

    fn child(&mut self, parent: VertexId, level: Level, name: &str) -> VertexId {
        let place = (parent, level, name.to_string());
        if let Some(&vertex) = self.by_place.get(&place) {
            vertex
        } else {
            let vertex = self.add_vertex(level, place.2.clone(), parent);
            self.by_place.insert(place, vertex);
            vertex
        }
    }

    fn add_vertex(&mut self, level: Level, name: String, parent: VertexId) -> VertexId {
        let id = self.vertices.len() as VertexId;
        if id != ROOT {
            let siblings = &self.vertices[parent as usize].children;
            let at = siblings.partition_point(|&other| self.vertices[other as usize].name <= name);
            self.vertices[parent as usize].children.insert(at, id);
        }
        let (children, nodes, slots) = (Vec::new(), Vec::new(), Vec::new());
        let depth = if id == ROOT { 0 } else { self.vertex(parent).depth + 1 };
        self.vertices.push(Vertex { level, depth, name, parent, children, nodes, slots });
        self.by_level[level.index()].push(id);
        id
    }

    fn pool(&mut self, spec: &NodeSpec) -> PoolId {
        let is_same = |pool: &Pool| {
            pool.gpus == spec.gpus && pool.platform == spec.platform && pool.labels == spec.labels
        };
        let known = self.pools.iter().position(is_same).or_else(|| {
            if self.pools.len() < POOLS_MAX {
                return None;
            }
            // Labels of every node's own would make a kind of each.
            let has_size = |pool: &Pool| pool.gpus == spec.gpus;
            let is_alike = |pool: &Pool| has_size(pool) && pool.platform == spec.platform;
            let alike = self.pools.iter().position(is_alike);
            alike.or_else(|| self.pools.iter().position(has_size))
        });
        let index = known.unwrap_or_else(|| {
            self.pools.push(Pool {
                platform: spec.platform.clone(),
                gpus: spec.gpus,
                labels: spec.labels.clone(),
            });
            self.pools.len() - 1
        });
        // No more than `POOLS_MAX` and one of each size.
        index as PoolId
    }

    fn slot_or_new(&mut self, vertex: VertexId, pool: PoolId) -> SlotId {
        if let Some(slot) = self.slot(vertex, pool) {
            return slot;
        }
        let slot = self.slots.len() as SlotId;
        let level = self.vertices[vertex as usize].level;
        self.slots.push(Slot { vertex, pool, level, base: self.counts, nodes: 0 });
        self.counts += u32::from(self.pools[usize::from(pool)].gpus) + 1;
        let slots = &mut self.vertices[vertex as usize].slots;
        slots.insert(slots.partition_point(|&(other, _)| other < pool), (pool, slot));
        slot
    }

    pub fn slot(&self, vertex: VertexId, pool: PoolId) -> Option<SlotId> {
        let mut slots = self.vertices[vertex as usize].slots.iter();
        slots.find(|&&(other, _)| other == pool).map(|&(_, slot)| slot)
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn is_empty(&self) -> bool {
        self.home.is_empty()
    }

    pub fn len(&self) -> usize {
        self.home.len()
    }

    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id as usize]
    }

    pub fn vertices(&self) -> usize {
        self.vertices.len()
    }

    pub fn at_level(&self, level: Level) -> &[VertexId] {
        &self.by_level[level.index()]
    }

    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    pub fn pool_of(&self, node: NodeId) -> PoolId {
        self.pool_of[node.index()]
    }

    pub fn home(&self, node: NodeId) -> VertexId {
        self.home[node.index()]
    }

    /// The vertices above a node, lowest first; the last is the root.
    pub fn above(&self, node: NodeId) -> impl Iterator<Item = VertexId> + '_ {
        self.upwards(self.home(node))
    }

    /// A vertex and those above it.
    pub fn upwards(&self, vertex: VertexId) -> impl Iterator<Item = VertexId> + '_ {
        let parent =
            |&vertex: &VertexId| (vertex != ROOT).then(|| self.vertices[vertex as usize].parent);
        std::iter::successors(Some(vertex), parent)
    }

    /// The vertex of a level above (or at) another one.
    pub fn ancestor(&self, vertex: VertexId, level: Level) -> Option<VertexId> {
        self.upwards(vertex).find(|&above| self.vertex(above).level == level)
    }

    /// The lowest vertex that all of these nodes are below.
    pub fn common(&self, nodes: impl Iterator<Item = NodeId>) -> VertexId {
        let mut common = None;
        for node in nodes {
            let mut home = self.home(node);
            let mut so_far = *common.get_or_insert(home);
            while home != so_far {
                let (a, b) = (self.vertex(home), self.vertex(so_far));
                if a.depth >= b.depth {
                    home = a.parent;
                } else {
                    so_far = b.parent;
                }
            }
            common = Some(so_far);
            if so_far == ROOT {
                break;
            }
        }
        common.unwrap_or(ROOT)
    }

    /// Puts nodes into the order of the tree, which is the order of ranks.
    pub fn sort(&self, nodes: &mut [NodeId]) {
        // Where a vertex stands among its siblings is known only to its parent's list.
        let mut keys: BTreeMap<VertexId, Vec<u32>> = BTreeMap::new();
        for &node in nodes.iter() {
            let home = self.home(node);
            keys.entry(home).or_insert_with(|| self.path_key(home));
        }
        nodes.sort_by(|&a, &b| keys[&self.home(a)].cmp(&keys[&self.home(b)]).then(a.cmp(&b)));
    }

    fn path_key(&self, vertex: VertexId) -> Vec<u32> {
        let mut key = Vec::new();
        for below in self.upwards(vertex).take_while(|&below| below != ROOT) {
            let parent = self.vertex(self.vertex(below).parent);
            let name = &self.vertex(below).name;
            let first = parent.children.partition_point(|&c| self.vertex(c).name < *name);
            let among = parent.children[first..].iter().position(|&child| child == below);
            key.push((first + among.expect("a parent knows its children")) as u32);
        }
        key.reverse();
        key
    }
}
