//! Finding the place: first the lowest level at which one vertex holds the gang, and the tightest
//! such vertex; then the nodes in it, from as few of its parts as can be.

use super::Request;
use super::index::{Index, Pools, View};
use super::tree::{PoolId, ROOT, VertexId};
use lindos_model::{Level, NodeId};

/// Places compared with the chosen one are counted up to this many.
const RIVALS_MAX: usize = 1000;

/// A vertex that holds the gang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    level: Level,
    vertex: VertexId,
    /// Nodes there that could have been taken.
    usable: u32,
    wanted: u32,
    /// For a job on a part of one node: the free GPUs of the node that fits best.
    part: Option<u16>,
}

impl Found {
    /// The lower, the better; for the choice between hardware designs.
    pub fn rank(&self) -> (u16, Level, u32, VertexId) {
        (self.part.unwrap_or(0), self.level, self.left(), self.vertex)
    }

    pub fn left(&self) -> u32 {
        self.usable - self.wanted
    }
}

/// What one search asks of the index.
#[derive(Debug)]
pub struct Search<'a> {
    index: &'a Index,
    request: &'a Request<'a>,
    pools: &'a Pools,
    /// Whole nodes that may be taken without touching the spares.
    whole_max: u32,
    /// Whether the job takes whole nodes only.
    is_whole: bool,
}

impl<'a> Search<'a> {
    pub fn new(index: &'a Index, request: &'a Request<'a>, pools: &'a Pools) -> Search<'a> {
        let whole_max = match request.spares {
            0 => u32::MAX,
            spares => {
                let every = Pools::new((0..index.tree().pools().len() as PoolId).collect());
                index.whole(request.view, ROOT, &every).saturating_sub(spares)
            }
        };
        let size = |pool: PoolId| index.tree().pools()[usize::from(pool)].gpus;
        let is_whole = pools.iter().all(|pool| size(pool) == request.gpus_per_node);
        Search { index, request, pools, whole_max, is_whole }
    }

    fn count(&self, vertex: VertexId) -> u32 {
        self.index.count(self.request.view, vertex, self.pools, self.request.gpus_per_node)
    }

    /// Nodes below a vertex that the job may take.
    pub fn usable(&self, vertex: VertexId) -> u32 {
        let count = self.count(vertex);
        if self.whole_max >= count {
            return count;
        }
        let whole = self.index.whole(self.request.view, vertex, self.pools);
        count - whole + whole.min(self.whole_max)
    }
}

/// The vertex to place the gang in, if any holds it.
pub fn find(index: &Index, request: &Request<'_>, pools: &Pools) -> Option<Found> {
    let search = Search::new(index, request, pools);
    if request.nodes == 1 && !search.is_whole {
        return search.find_part();
    }
    if search.usable(ROOT) < request.nodes {
        return None;
    }
    if let Some(segment) = request.segment {
        search.find_segments(segment)
    } else {
        // One node is within anything.
        let within = if request.nodes == 1 { Level::Fleet } else { request.within };
        let mut levels = Level::ALL.into_iter().filter(|&level| level <= within);
        levels.find_map(|level| search.find_at(level))
    }
}

impl Search<'_> {
    /// The tightest vertex of a level that holds the gang.
    fn find_at(&self, level: Level) -> Option<Found> {
        let wanted = self.request.nodes;
        let found = |vertex, usable| Found { level, vertex, usable, wanted, part: None };
        let tree = self.index.tree();
        let only_pool = self.pools.iter().next().filter(|_| self.pools.len() == 1);
        match only_pool {
            Some(pool)
                if self.is_whole && self.request.view == View::Open && self.index.is_settled() =>
            {
                let (count, vertex) = self.index.tightest(pool, level, wanted)?;
                (self.whole_max >= wanted).then(|| found(vertex, count.min(self.whole_max)))
            }
            _ => tree
                .at_level(level)
                .iter()
                .map(|&vertex| found(vertex, self.usable(vertex)))
                .filter(|found| found.usable >= wanted)
                .min_by_key(Found::rank),
        }
    }

    /// The node that is left with the least, for a job on a part of one node.
    fn find_part(&self) -> Option<Found> {
        let largest = self.pools.iter().map(|pool| self.size(pool)).max()?;
        let free =
            (self.request.gpus_per_node..=largest).find(|&free| self.exactly(ROOT, free) > 0)?;
        let usable = self.usable(ROOT).max(1);
        Some(Found { level: Level::Nvlink, vertex: ROOT, usable, wanted: 1, part: Some(free) })
    }

    fn size(&self, pool: PoolId) -> u16 {
        self.index.tree().pools()[usize::from(pool)].gpus
    }

    /// Nodes below a vertex with exactly so many GPUs free; whole ones only if spares are left.
    fn exactly(&self, vertex: VertexId, free: u16) -> u32 {
        let view = self.request.view;
        let of = |pool: PoolId| {
            if self.size(pool) == free && self.whole_max == 0 {
                return 0;
            }
            let only = Pools::new(vec![pool]);
            let more = self.index.count(view, vertex, &only, free + 1);
            self.index.count(view, vertex, &only, free) - more
        };
        self.pools.iter().map(of).sum()
    }

    /// The lowest level at which one vertex holds all segments, and the tightest such vertex.
    fn find_segments(&self, segment: u32) -> Option<Found> {
        let wanted = self.request.nodes;
        let segments = self.segments(segment);
        let usable = |vertex: VertexId| {
            self.usable(vertex).min(segments[vertex as usize].saturating_mul(segment))
        };
        let tree = self.index.tree();
        Level::ALL.into_iter().filter(|&level| level >= self.request.within).find_map(|level| {
            tree.at_level(level)
                .iter()
                .map(|&vertex| (vertex, usable(vertex)))
                .filter(|&(_, usable)| usable >= wanted)
                .map(|(vertex, usable)| Found { level, vertex, usable, wanted, part: None })
                .min_by_key(Found::rank)
        })
    }

    /// How many whole segments there are room for below each vertex.
    fn segments(&self, segment: u32) -> Vec<u32> {
        let tree = self.index.tree();
        let mut segments = vec![0; tree.vertices()];
        for &domain in tree.at_level(self.request.within) {
            let here = self.count(domain) / segment;
            if here > 0 {
                for above in tree.upwards(domain) {
                    segments[above as usize] += here;
                }
            }
        }
        segments
    }
}

/// How many other vertices of the level could have held the gang.
pub fn rivals(index: &Index, request: &Request<'_>, pools: &Pools, found: &Found) -> u32 {
    if found.part.is_some() || found.level == Level::Fleet || request.segment.is_some() {
        return 0;
    }
    let all: usize =
        pools.iter().map(|pool| index.rivals(pool, found.level, found.wanted, RIVALS_MAX)).sum();
    all.saturating_sub(1) as u32
}

/// The gang's nodes, in rank order.
pub fn choose(index: &Index, request: &Request<'_>, pools: &Pools, found: &Found) -> Vec<NodeId> {
    let search = Search::new(index, request, pools);
    let mut chosen = Vec::with_capacity(request.nodes as usize);
    if let Some(free) = found.part {
        chosen.push(search.node_with(free));
    } else if let Some(segment) = request.segment {
        let segments = search.segments(segment);
        let wanted = request.nodes / segment;
        search.take_segments(found.vertex, wanted, segment, &segments, &mut chosen);
    } else if search.is_whole {
        search.take(found.vertex, request.nodes, &mut chosen);
    } else {
        search.take_parts(found.vertex, request.nodes, &mut chosen);
    }
    assert_eq!(chosen.len(), request.nodes as usize, "a vertex does not hold what it counts");
    chosen
}

/// A part of a vertex: its own nodes, or a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Own,
    Child(VertexId),
}

impl Search<'_> {
    fn has_room(&self, node: NodeId) -> bool {
        self.pools.has(self.index.tree().pool_of(node))
            && self
                .index
                .free_on(self.request.view, node)
                .is_some_and(|free| free >= self.request.gpus_per_node)
    }

    /// The node with exactly so many GPUs free in the most broken part of the tree.
    fn node_with(&self, free: u16) -> NodeId {
        let tree = self.index.tree();
        let mut vertex = ROOT;
        loop {
            let fits = |&&node: &&NodeId| {
                self.pools.has(tree.pool_of(node))
                    && self.index.free_on(self.request.view, node) == Some(free)
            };
            if let Some(&node) = tree.vertex(vertex).nodes.iter().find(fits) {
                return node;
            }
            let children = tree.vertex(vertex).children.iter().copied();
            vertex = children
                .filter(|&child| self.exactly(child, free) > 0)
                .min_by_key(|&child| self.index.whole(self.request.view, child, self.pools))
                .expect("what a vertex counts is below it");
        }
    }

    /// Whole nodes below a vertex, from as few of its parts as can be.
    fn take(&self, vertex: VertexId, wanted: u32, chosen: &mut Vec<NodeId>) {
        if wanted == 0 {
            return;
        }
        let tree = self.index.tree();
        let here = tree.vertex(vertex);
        if here.children.is_empty() {
            let nodes = here.nodes.iter().copied().filter(|&node| self.has_room(node));
            chosen.extend(nodes.take(wanted as usize));
            return;
        }
        let mut own = self.count(vertex);
        let mut parts = Vec::with_capacity(here.children.len() + 1);
        for &child in &here.children {
            let count = self.count(child);
            own -= count;
            if count > 0 {
                parts.push((count, Part::Child(child)));
            }
        }
        if own > 0 {
            parts.insert(0, (own, Part::Own));
        }
        for (part, share) in allot(&parts, wanted) {
            match part {
                Part::Child(child) => self.take(child, share, chosen),
                Part::Own => {
                    let nodes = here.nodes.iter().copied().filter(|&node| self.has_room(node));
                    chosen.extend(nodes.take(share as usize));
                }
            }
        }
    }

    /// Segments below a vertex, each within one domain.
    fn take_segments(
        &self,
        vertex: VertexId,
        wanted: u32,
        segment: u32,
        segments: &[u32],
        chosen: &mut Vec<NodeId>,
    ) {
        let tree = self.index.tree();
        if tree.vertex(vertex).level == self.request.within {
            self.take(vertex, wanted * segment, chosen);
            return;
        }
        let children = tree.vertex(vertex).children.iter();
        let parts: Vec<(u32, Part)> = children
            .map(|&child| (segments[child as usize], Part::Child(child)))
            .filter(|&(room, _)| room > 0)
            .collect();
        for (part, share) in allot(&parts, wanted) {
            if let Part::Child(child) = part {
                self.take_segments(child, share, segment, segments, chosen);
            }
        }
    }

    /// Parts of nodes below a vertex: the fullest nodes first, and where spares are kept a whole
    /// node only when no broken one will do. This is a pass over all nodes below the vertex.
    fn take_parts(&self, vertex: VertexId, wanted: u32, chosen: &mut Vec<NodeId>) {
        let mut nodes = Vec::new();
        self.gather(vertex, &mut nodes);
        let tree = self.index.tree();
        let mut ranked: Vec<(bool, u16, usize)> = nodes
            .iter()
            .enumerate()
            .map(|(place, &node)| {
                let free = self.index.free_on(self.request.view, node).unwrap_or(0);
                let is_whole = free == self.size(tree.pool_of(node));
                (is_whole && self.request.spares > 0, free, place)
            })
            .collect();
        ranked.sort_unstable();
        ranked.truncate(wanted as usize);
        let mut places: Vec<usize> = ranked.into_iter().map(|(.., place)| place).collect();
        places.sort_unstable();
        chosen.extend(places.into_iter().map(|place| nodes[place]));
    }

    /// All nodes with room below a vertex, in the order of the tree.
    fn gather(&self, vertex: VertexId, nodes: &mut Vec<NodeId>) {
        if self.count(vertex) == 0 {
            return;
        }
        let here = self.index.tree().vertex(vertex);
        nodes.extend(here.nodes.iter().copied().filter(|&node| self.has_room(node)));
        for &child in &here.children {
            self.gather(child, nodes);
        }
    }
}

/// Shares out what is wanted over parts with so much room each: the smallest part that holds all
/// that is left, or else all of the largest, until nothing is left. In the order of the parts.
fn allot(parts: &[(u32, Part)], wanted: u32) -> Vec<(Part, u32)> {
    let mut by_room: Vec<(u32, usize)> =
        parts.iter().enumerate().map(|(place, &(room, _))| (room, place)).collect();
    by_room.sort_by_key(|&(room, place)| (room, std::cmp::Reverse(place)));
    let mut shares = Vec::new();
    let mut left = wanted;
    while left > 0 {
        let fits = by_room.partition_point(|&(room, _)| room < left);
        // Of parts with equal room, the first in the tree.
        let last_alike = by_room.get(fits).map(|&(room, _)| {
            fits + by_room[fits..].iter().take_while(|&&(other, _)| other == room).count() - 1
        });
        let (room, place) = match last_alike {
            Some(at) => by_room.remove(at),
            None => by_room.pop().expect("a vertex holds what it counts"),
        };
        let share = room.min(left);
        shares.push((place, share));
        left -= share;
    }
    shares.sort_unstable();
    shares.into_iter().map(|(place, share)| (parts[place].1, share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_holds_all_is_better_than_two_that_fit_exactly() {
        let parts = [18, 4, 4].map(|room| (room, Part::Own));
        assert_eq!(allot(&parts, 5), [(Part::Own, 5)]);
        let rooms: Vec<u32> = allot(&parts, 22).into_iter().map(|(_, share)| share).collect();
        assert_eq!(rooms, [18, 4]);
    }

    #[test]
    fn the_rest_goes_to_the_tightest_part() {
        let parts: Vec<(u32, Part)> =
            [9, 3, 9, 5].into_iter().enumerate().map(|(n, r)| (r, Part::Child(n as u32))).collect();
        assert_eq!(
            allot(&parts, 22),
            [(Part::Child(0), 9), (Part::Child(2), 9), (Part::Child(3), 4)]
        );
    }
}
