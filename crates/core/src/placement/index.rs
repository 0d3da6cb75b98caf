//! How many nodes of each kind have how many GPUs free, below every vertex of the tree.
//!
//! A change of one node costs a walk to the root. Two planes are kept: what is free at all, and
//! what of it is open, that is, not held for a gang whose start is reserved.

use super::tree::{Added, PoolId, ROOT, Skeleton, SlotId, Tree, VertexId};
use lindos_model::{Level, NodeId, NodeSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// Which free GPUs count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// Those not held for anybody.
    Open,
    /// All.
    Free,
}

/// With more slots than this out of order, a scan over all of them is cheaper than to sort them in.
const DIRTY_MAX: usize = 2_000;

/// In place of a number of free GPUs: the node takes no work.
const OUT: u8 = u8::MAX;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plane {
    /// By node: GPUs free, or `OUT`.
    free: Vec<u8>,
    /// By slot and number: nodes with at least so many free.
    at_least: Vec<u32>,
}

/// The whole free nodes of each slot, in order: best fit is a look-up.
#[derive(Clone, Debug, Default)]
struct Tight {
    /// By pool and level.
    sets: Vec<[BTreeSet<(u32, VertexId)>; Level::ALL.len()]>,
    /// By slot: the count as it stands in its set.
    noted: Vec<u32>,
    is_dirty: Vec<bool>,
    dirty: Vec<SlotId>,
}

/// How a node stands in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    free: u8,
    open: u8,
}

#[derive(Clone, Debug)]
pub struct Index {
    /// Shared with whoever asks what would be: it changes only when a node joins.
    tree: Arc<Tree>,
    open: Plane,
    free: Plane,
    tight: Tight,
    path: Path,
}

/// The slots of one pool from a vertex up to the root. The nodes of a gang are changed one after
/// another, and neighbours have the same.
#[derive(Clone, Debug, Default)]
struct Path {
    of: Option<SlotId>,
    /// With where the counts of each begin.
    slots: Vec<(SlotId, usize)>,
}

impl Path {
    fn lead(&mut self, tree: &Tree, node: NodeId) {
        let of = tree.slot_of(node);
        if self.of != Some(of) {
            self.of = Some(of);
            let slots = tree.slots_upwards(of);
            self.slots.clear();
            self.slots.extend(slots.map(|slot| (slot, tree.slots()[slot as usize].base as usize)));
        }
    }
}

impl Default for Index {
    /// Of no nodes. It stands in for one that is being looked at, so it must cost nothing.
    fn default() -> Index {
        static EMPTY: LazyLock<Arc<Tree>> = LazyLock::new(Arc::default);
        Index {
            tree: Arc::clone(&EMPTY),
            open: Plane::default(),
            free: Plane::default(),
            tight: Tight::default(),
            path: Path::default(),
        }
    }
}

impl Index {
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The same tree with all of its nodes out.
    pub fn blank(&self) -> Index {
        let plane = Plane {
            free: vec![OUT; self.open.free.len()],
            at_least: vec![0; self.open.at_least.len()],
        };
        let slots = self.tight.noted.len();
        let tight = Tight {
            sets: self.tight.sets.iter().map(|_| Default::default()).collect(),
            noted: vec![0; slots],
            is_dirty: vec![false; slots],
            dirty: Vec::new(),
        };
        let (tree, path) = (Arc::clone(&self.tree), Path::default());
        Index { tree, open: plane.clone(), free: plane, tight, path }
    }

    /// Adds the node that has the next id. It takes no work yet.
    pub fn add(&mut self, spec: &NodeSpec) {
        let added = Arc::make_mut(&mut self.tree).add(spec);
        self.grow(added);
    }

    /// The index as it was kept, with these nodes, which take no work yet.
    pub fn restored<'a>(&self, nodes: impl Iterator<Item = &'a NodeSpec>) -> Index {
        let tree = Tree::from(self.tree.skeleton());
        let mut index = Index { tree: Arc::new(tree), ..Index::default() };
        for spec in nodes {
            let added = Arc::make_mut(&mut index.tree).add_again(spec);
            index.grow(added);
        }
        index
    }

    /// A node stands elsewhere now, or is of another kind. It takes no work until it is set again.
    pub fn move_node(&mut self, node: NodeId, spec: &NodeSpec) {
        self.set(node, None, false);
        let added = Arc::make_mut(&mut self.tree).move_node(node, spec);
        self.grow(added);
    }

    /// Makes room for what was added to the tree.
    fn grow(&mut self, added: Added) {
        self.path = Path::default();
        for plane in [&mut self.open, &mut self.free] {
            plane.free.resize(self.tree.len(), OUT);
            plane.at_least.resize(added.counts as usize, 0);
        }
        self.tight.noted.resize(added.slots as usize, 0);
        self.tight.is_dirty.resize(added.slots as usize, false);
        self.tight.sets.resize_with(self.tree.pools().len(), Default::default);
    }

    /// A node has so many GPUs free now (`None`: it takes no work).
    pub fn set(&mut self, node: NodeId, free: Option<u16>, is_held: bool) {
        let free = free.map_or(OUT, |gpus| gpus as u8);
        self.stand(node, Standing { free, open: if is_held { OUT } else { free } });
    }

    pub fn standing(&self, node: NodeId) -> Standing {
        Standing { free: self.free.free[node.index()], open: self.open.free[node.index()] }
    }

    /// Shows so many GPUs of a node as open, and leaves what is free as it is: for a look.
    pub fn show_open(&mut self, node: NodeId, gpus: u16) {
        let free = self.standing(node).free;
        self.stand(node, Standing { free, open: gpus as u8 });
    }

    /// A node stands like this now, or again.
    pub fn stand(&mut self, node: NodeId, standing: Standing) {
        let before = self.standing(node);
        if before == standing {
            return;
        }
        self.path.lead(&self.tree, node);
        self.free.set(node, standing.free, &self.path);
        self.open.set(node, standing.open, &self.path);
        let size = self.tree.pools()[usize::from(self.tree.pool_of(node))].gpus as u8;
        if (before.open == size) != (standing.open == size) {
            for &(slot, _) in &self.path.slots {
                let is_dirty = &mut self.tight.is_dirty[slot as usize];
                if !*is_dirty {
                    *is_dirty = true;
                    self.tight.dirty.push(slot);
                }
            }
        }
    }

    /// Brings the order of best fit up to date; before every search in it.
    pub fn settle(&mut self) {
        while let Some(slot) = self.tight.dirty.pop() {
            self.tight.is_dirty[slot as usize] = false;
            let known = &self.tree.slots()[slot as usize];
            let whole = self.open.whole(&self.tree, slot);
            let before = std::mem::replace(&mut self.tight.noted[slot as usize], whole);
            if before != whole {
                let set = &mut self.tight.sets[usize::from(known.pool)][known.level.index()];
                if before > 0 {
                    set.remove(&(before, known.vertex));
                }
                if whole > 0 {
                    set.insert((whole, known.vertex));
                }
            }
        }
    }

    fn plane(&self, view: View) -> &Plane {
        match view {
            View::Open => &self.open,
            View::Free => &self.free,
        }
    }

    /// GPUs free on a node; `None` when it takes no work.
    pub fn free_on(&self, view: View, node: NodeId) -> Option<u16> {
        let free = self.plane(view).free[node.index()];
        (free != OUT).then_some(u16::from(free))
    }

    /// Nodes of some pools below a vertex that have at least so many GPUs free.
    pub fn count(&self, view: View, vertex: VertexId, pools: &Pools, gpus: u16) -> u32 {
        let plane = self.plane(view);
        let slots = self.tree.vertex(vertex).slots.iter().filter(|(pool, _)| pools.has(*pool));
        slots.map(|&(pool, slot)| plane.at_least(&self.tree, pool, slot, gpus)).sum()
    }

    /// Nodes of some pools below a vertex that have none of their GPUs taken.
    pub fn whole(&self, view: View, vertex: VertexId, pools: &Pools) -> u32 {
        let plane = self.plane(view);
        let slots = self.tree.vertex(vertex).slots.iter().filter(|(pool, _)| pools.has(*pool));
        slots.map(|&(_, slot)| plane.whole(&self.tree, slot)).sum()
    }

    /// Open nodes that have none of their GPUs taken.
    pub fn whole_open(&self) -> u32 {
        let slots = self.tree.vertex(ROOT).slots.iter();
        slots.map(|&(_, slot)| self.open.whole(&self.tree, slot)).sum()
    }

    /// All nodes of some pools below a vertex, in service or not.
    pub fn all(&self, vertex: VertexId, pools: &Pools) -> u32 {
        let slots = self.tree.vertex(vertex).slots.iter().filter(|(pool, _)| pools.has(*pool));
        slots.map(|&(_, slot)| self.tree.slots()[slot as usize].nodes).sum()
    }

    /// Brings the order of best fit up to date if that costs less than to do without it.
    pub fn settle_if_cheap(&mut self) {
        if self.tight.dirty.len() <= DIRTY_MAX {
            self.settle();
        }
    }

    /// Whether the order of best fit is up to date.
    pub fn is_settled(&self) -> bool {
        self.tight.dirty.is_empty()
    }

    /// The vertex of a level with the fewest open whole nodes that are still `nodes`, and how many
    /// it has. Of one pool, and only after [`Index::settle`].
    pub fn tightest(&self, pool: PoolId, level: Level, nodes: u32) -> Option<(u32, VertexId)> {
        debug_assert!(self.is_settled(), "the order of best fit is not settled");
        let set = &self.tight.sets[usize::from(pool)][level.index()];
        set.range((nodes, 0)..).next().copied()
    }

    /// How many vertices of a level have at least so many open whole nodes of one pool, counted no
    /// further than `most`.
    pub fn rivals(&self, pool: PoolId, level: Level, nodes: u32, most: usize) -> usize {
        let set = &self.tight.sets[usize::from(pool)][level.index()];
        set.range((nodes, 0)..).take(most).count()
    }

    /// Panics unless it is what the nodes say.
    pub fn check<'a>(
        &self,
        nodes: impl Iterator<Item = (&'a NodeSpec, Option<u16>, bool)> + Clone,
    ) {
        let mut fresh = self.restored(nodes.clone().map(|(spec, ..)| spec));
        for (index, (spec, free, is_held)) in nodes.enumerate() {
            let pool = &self.tree.pools()[usize::from(self.tree.pool_of(NodeId(index as u32)))];
            assert_eq!((pool.gpus, &pool.platform), (spec.gpus, &spec.platform));
            assert!(pool.labels == spec.labels || pool.labels.is_empty(), "it has other labels");
            fresh.set(NodeId(index as u32), free, is_held);
        }
        self.tree.check_against(&fresh.tree);
        for vertex in 0..self.tree.vertices() as VertexId {
            for pool in 0..self.tree.pools().len() as PoolId {
                assert_eq!(self.counts(vertex, pool), fresh.counts(vertex, pool), "miscounted");
            }
        }
        let mut settled = self.clone();
        settled.settle();
        fresh.settle();
        assert_eq!(settled.tight.sets, fresh.tight.sets, "the order of best fit is wrong");
    }

    /// Nodes of a pool below a vertex: all, and by free GPUs the open ones and those that are free.
    fn counts(&self, vertex: VertexId, pool: PoolId) -> Option<(u32, Vec<u32>, Vec<u32>)> {
        let slot = self.tree.slot(vertex, pool)?;
        let nodes = self.tree.slots()[slot as usize].nodes;
        let by_free = |plane: &Plane| {
            let sizes = 0..=self.tree.pools()[usize::from(pool)].gpus;
            sizes.map(|gpus| plane.at_least(&self.tree, pool, slot, gpus)).collect()
        };
        (nodes > 0).then(|| (nodes, by_free(&self.open), by_free(&self.free)))
    }
}

impl Serialize for Index {
    /// What cannot be made anew from the nodes: see [`Index::restored`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.tree.skeleton().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Index, D::Error> {
        let tree = Tree::from(Skeleton::deserialize(deserializer)?);
        Ok(Index { tree: Arc::new(tree), ..Index::default() })
    }
}

impl Plane {
    fn set(&mut self, node: NodeId, free: u8, path: &Path) {
        // Counts from 0 up to the free GPUs hold the node; none do when it is out.
        let before = std::mem::replace(&mut self.free[node.index()], free);
        let (was, is) = (numbers(before), numbers(free));
        if is > was {
            for &(_, base) in &path.slots {
                for count in &mut self.at_least[base + was..base + is] {
                    *count += 1;
                }
            }
        } else if is < was {
            for &(_, base) in &path.slots {
                for count in &mut self.at_least[base + is..base + was] {
                    *count -= 1;
                }
            }
        }
    }

    fn at_least(&self, tree: &Tree, pool: PoolId, slot: SlotId, gpus: u16) -> u32 {
        if gpus > tree.pools()[usize::from(pool)].gpus {
            return 0;
        }
        self.at_least[tree.slots()[slot as usize].base as usize + usize::from(gpus)]
    }

    fn whole(&self, tree: &Tree, slot: SlotId) -> u32 {
        let slot = &tree.slots()[slot as usize];
        let size = tree.pools()[usize::from(slot.pool)].gpus;
        self.at_least[slot.base as usize + usize::from(size)]
    }
}

/// How many of the counts 0, 1, 2, … a node with so many free GPUs is in.
fn numbers(free: u8) -> usize {
    if free == OUT { 0 } else { usize::from(free) + 1 }
}

/// Some of the pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools(Vec<PoolId>);

impl Pools {
    pub fn new(sorted: Vec<PoolId>) -> Pools {
        debug_assert!(sorted.is_sorted());
        Pools(sorted)
    }

    pub fn has(&self, pool: PoolId) -> bool {
        self.0.contains(&pool)
    }

    pub fn iter(&self) -> impl Iterator<Item = PoolId> + '_ {
        self.0.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
