//! The one tree that placement sees: the fleet, and within it sites, halls, spines, leaves, racks
//! and NVLink domains, each where it is known. A node hangs on the lowest vertex of its path.
//!
//! Places and kinds of nodes are numbered in the order in which they were first seen, and of two
//! places alike a gang goes to the one with the lower number. A node that moves to another place or
//! is of another kind now changes nothing but its own: so the numbers depend on what was before, and
//! a snapshot keeps them ([`Skeleton`]), for a core that is restored to go on as the one that wrote it.

use lindos_model::{Level, NodeId, NodeSpec};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Number of a vertex; the fleet itself is 0.
pub type VertexId = u32;
/// Number of a pool: nodes that no request tells apart.
pub type PoolId = u16;
/// Number of a slot: one pool's nodes below one vertex.
pub type SlotId = u32;

pub const ROOT: VertexId = 0;

/// Kinds of nodes that are told apart by their labels. A node of one kind more stands with those of
/// its size and design that have no labels: what it has of its own cannot be asked for.
const POOLS_MAX: usize = 1000;
/// Hardware designs. With all sizes of nodes they are few enough for the number of a pool.
const PLATFORMS_MAX: usize = 900;
/// With more places than this, and more than half of them, without any node below, the tree is made
/// anew: it costs no more than the moves that have emptied them.
const VACANT_MAX: u32 = 1000;

/// Nodes of one hardware design, one size and the same labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// All nodes below it, in service or not.
    pub nodes_below: u32,
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
    /// The same pool's slot of the vertex above. Of the root: itself.
    parent: SlotId,
}

#[derive(Clone, Debug)]
pub struct Tree {
    vertices: Vec<Vertex>,
    slots: Vec<Slot>,
    pools: Vec<Pool>,
    /// By node.
    home: Vec<VertexId>,
    pool_of: Vec<PoolId>,
    slot_of: Vec<SlotId>,
    by_place: BTreeMap<(VertexId, Level, String), VertexId>,
    by_level: [Vec<VertexId>; Level::ALL.len()],
    counts: u32,
    /// Vertices without any node below.
    vacant: u32,
}

/// What of a tree depends on more than where its nodes stand now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Skeleton {
    /// But for the root: parent, level and name.
    vertices: Vec<(VertexId, Level, String)>,
    pools: Vec<Pool>,
    /// By node.
    pool_of: Vec<PoolId>,
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
            slot_of: Vec::new(),
            by_place: BTreeMap::new(),
            by_level: Default::default(),
            counts: 0,
            vacant: 0,
        };
        tree.add_vertex(Level::Fleet, String::new(), ROOT);
        tree
    }
}

impl From<Skeleton> for Tree {
    /// The tree before its nodes are in it: see [`Tree::add_again`].
    fn from(skeleton: Skeleton) -> Tree {
        let mut tree = Tree::default();
        for (parent, level, name) in skeleton.vertices {
            tree.child(parent, level, &name);
        }
        (tree.pools, tree.pool_of) = (skeleton.pools, skeleton.pool_of);
        tree
    }
}

impl Tree {
    pub fn skeleton(&self) -> Skeleton {
        let vertices = self.vertices.iter().skip(1);
        let vertices = vertices.map(|vertex| (vertex.parent, vertex.level, vertex.name.clone()));
        let (pools, pool_of) = (self.pools.clone(), self.pool_of.clone());
        Skeleton { vertices: vertices.collect(), pools, pool_of }
    }

    /// Adds the node that has the next id; how many slots and counts there are now.
    pub fn add(&mut self, spec: &NodeSpec) -> Added {
        let pool = self.pool(spec);
        self.pool_of.push(pool);
        self.add_again(spec)
    }

    /// Adds the node that has the next id, and whose pool is known from before.
    pub fn add_again(&mut self, spec: &NodeSpec) -> Added {
        let id = NodeId(self.home.len() as u32);
        self.home.push(ROOT);
        self.slot_of.push(0);
        self.stand(id, spec)
    }

    /// A node stands elsewhere now, or is of another kind. It takes no work meanwhile.
    pub fn move_node(&mut self, id: NodeId, spec: &NodeSpec) -> Added {
        let (home, pool) = (self.home(id), self.pool_of(id));
        let nodes = &mut self.vertices[home as usize].nodes;
        nodes.remove(nodes.binary_search(&id).expect("it stands there"));
        let above: Vec<VertexId> = self.upwards(home).collect();
        for vertex in above {
            let slot = self.slot(vertex, pool).expect("its node is below it");
            self.slots[slot as usize].nodes -= 1;
            self.vertices[vertex as usize].nodes_below -= 1;
            self.vacant += u32::from(self.is_vacant(vertex));
        }
        self.pool_of[id.index()] = self.pool(spec);
        self.stand(id, spec)
    }

    /// Puts a node where its specification says.
    fn stand(&mut self, id: NodeId, spec: &NodeSpec) -> Added {
        let mut vertex = ROOT;
        for (level, name) in spec.location.path() {
            vertex = self.child(vertex, level, name);
        }
        let pool = self.pool_of(id);
        self.home[id.index()] = vertex;
        let nodes = &mut self.vertices[vertex as usize].nodes;
        nodes.insert(nodes.partition_point(|&other| other < id), id);
        let above: Vec<VertexId> = self.upwards(vertex).collect();
        let mut below = None;
        for vertex in above {
            self.vacant -= u32::from(self.is_vacant(vertex));
            let slot = self.slot_or_new(vertex, pool);
            match below.replace(slot) {
                Some(below) => self.slots[below as usize].parent = slot,
                None => self.slot_of[id.index()] = slot,
            }
            self.slots[slot as usize].nodes += 1;
            self.vertices[vertex as usize].nodes_below += 1;
        }
        Added { slots: self.slots.len() as u32, counts: self.counts }
    }

    fn is_vacant(&self, vertex: VertexId) -> bool {
        self.vertex(vertex).nodes_below == 0
    }

    /// Whether the tree is for the greater part of places where nodes once were.
    pub fn is_worn(&self) -> bool {
        self.vacant > VACANT_MAX && self.vacant as usize > self.vertices.len() / 2
    }

    /// Whether nodes of this design can be told from others.
    pub fn has_room_for(&self, platform: &str) -> bool {
        self.pools.iter().any(|pool| pool.platform == platform)
            || self.platforms().count() < PLATFORMS_MAX
    }

    /// The hardware designs, each once.
    fn platforms(&self) -> impl Iterator<Item = &str> {
        let platforms: BTreeSet<&str> =
            self.pools.iter().map(|pool| pool.platform.as_str()).collect();
        platforms.into_iter()
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
        let nodes_below = 0;
        self.vertices.push(Vertex {
            level,
            depth,
            name,
            parent,
            children,
            nodes,
            slots,
            nodes_below,
        });
        self.by_level[level.index()].push(id);
        self.vacant += 1;
        id
    }

    fn pool(&mut self, spec: &NodeSpec) -> PoolId {
        let position = |labels: &BTreeMap<String, String>| {
            self.pools.iter().position(|pool| {
                pool.gpus == spec.gpus && pool.platform == spec.platform && pool.labels == *labels
            })
        };
        if let Some(known) = position(&spec.labels) {
            return known as PoolId;
        }
        let (platform, gpus) = (spec.platform.clone(), spec.gpus);
        // One whose nodes have all become something else.
        let is_free = |&at: &usize| {
            self.pools[at].gpus == gpus
                && self.slot(ROOT, at as PoolId).is_none_or(|s| self.slots[s as usize].nodes == 0)
        };
        let free = (0..self.pools.len()).find(is_free);
        // Labels of every node's own would make a kind of each.
        let is_told_apart = free.is_some() || self.pools.len() < POOLS_MAX;
        let labels = if is_told_apart { spec.labels.clone() } else { BTreeMap::new() };
        if !is_told_apart && let Some(plain) = position(&labels) {
            return plain as PoolId;
        }
        let pool = Pool { platform, gpus, labels };
        let index = free.unwrap_or(self.pools.len());
        if free.is_some() {
            self.pools[index] = pool;
        } else {
            self.pools.push(pool);
        }
        PoolId::try_from(index).expect("kinds without labels are as many as designs and sizes")
    }

    fn slot_or_new(&mut self, vertex: VertexId, pool: PoolId) -> SlotId {
        if let Some(slot) = self.slot(vertex, pool) {
            return slot;
        }
        let slot = self.slots.len() as SlotId;
        let level = self.vertices[vertex as usize].level;
        self.slots.push(Slot { vertex, pool, level, base: self.counts, nodes: 0, parent: slot });
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

    /// Panics unless it is the same but for the numbers of its slots.
    pub fn check_against(&self, other: &Tree) {
        assert_eq!(self.home, other.home, "nodes stand elsewhere than in the tree");
        assert_eq!(self.pool_of, other.pool_of, "nodes are of other kinds than in the tree");
        assert_eq!(self.pools, other.pools);
        assert_eq!(self.by_place, other.by_place);
        assert_eq!(self.by_level, other.by_level);
        assert_eq!(self.vacant, other.vacant, "empty places were miscounted");
        for (index, &home) in self.home.iter().enumerate() {
            let (node, pool) = (NodeId(index as u32), self.pool_of[index]);
            let slots = self.upwards(home).map(|vertex| self.slot(vertex, pool));
            assert!(
                slots.eq(self.slots_upwards(self.slot_of(node)).map(Some)),
                "it is in other slots"
            );
        }
        for (vertex, same) in self.vertices.iter().zip(&other.vertices) {
            let of = |v: &Vertex| (v.level, v.depth, v.name.clone(), v.parent);
            assert_eq!(of(vertex), of(same));
            assert_eq!((&vertex.children, &vertex.nodes), (&same.children, &same.nodes));
            assert_eq!(vertex.nodes_below, same.nodes_below, "nodes were miscounted");
        }
    }

    /// The vertices above a node, lowest first; the last is the root.
    pub fn above(&self, node: NodeId) -> impl Iterator<Item = VertexId> + '_ {
        self.upwards(self.home(node))
    }

    /// The slot of a node's pool that it is in at its own vertex.
    pub fn slot_of(&self, node: NodeId) -> SlotId {
        self.slot_of[node.index()]
    }

    /// A slot and those of its pool above it.
    pub fn slots_upwards(&self, slot: SlotId) -> impl Iterator<Item = SlotId> + '_ {
        let above = |&slot: &SlotId| {
            let parent = self.slots[slot as usize].parent;
            (parent != slot).then_some(parent)
        };
        std::iter::successors(Some(slot), above)
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
        // A gang that comes back to its nodes has them in order, most often.
        if nodes.windows(2).all(|pair| self.is_before(pair[0], pair[1])) {
            return;
        }
        // Where a vertex stands among its siblings is known only to its parent's list.
        let mut keys: BTreeMap<VertexId, Vec<u32>> = BTreeMap::new();
        for &node in nodes.iter() {
            let home = self.home(node);
            keys.entry(home).or_insert_with(|| self.path_key(home));
        }
        nodes.sort_by(|&a, &b| keys[&self.home(a)].cmp(&keys[&self.home(b)]).then(a.cmp(&b)));
    }

    /// Whether a node surely stands before another.
    fn is_before(&self, one: NodeId, other: NodeId) -> bool {
        let (mut left, mut right) = (self.home(one), self.home(other));
        if left == right {
            return one < other;
        }
        while self.vertex(left).depth > self.vertex(right).depth {
            left = self.vertex(left).parent;
        }
        while self.vertex(right).depth > self.vertex(left).depth {
            right = self.vertex(right).parent;
        }
        while self.vertex(left).parent != self.vertex(right).parent {
            (left, right) = (self.vertex(left).parent, self.vertex(right).parent);
        }
        // Where one is above the other they meet, and where two have one name nobody knows yet.
        left != right && self.vertex(left).name < self.vertex(right).name
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
