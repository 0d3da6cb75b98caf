//! The place for a gang that has had one: its own nodes, with the missing ones made up for from as
//! near as can be. Whoever goes on from a checkpoint finds its caches and its neighbours there.

use super::index::{Index, Pools};
use super::search::Search;
use super::tree::{ROOT, VertexId};
use super::{Gang, Request};
use lindos_model::{Level, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// The gang on the nodes that it prefers and near them, in rank order; `None` when too little is
/// left of them for that, or none are preferred.
pub fn near(index: &Index, request: &Request<'_>, pools: &Pools) -> Option<Vec<NodeId>> {
    let near = Near { index, request, pools };
    let kept: Vec<NodeId> =
        request.prefer.iter().copied().filter(|&node| near.has_room(node)).collect();
    if kept.is_empty() || Search::new(index, request, pools).usable(ROOT) < request.nodes {
        return None;
    }
    let mut chosen = match request.segment {
        Some(segment) => near.segments(&kept, segment)?,
        None => near.together(kept)?,
    };
    index.tree().sort(&mut chosen);
    Some(chosen)
}

/// For each of some nodes of a gang, in its order, the nearest that can stand in for it: below the
/// vertex that its segment, or the gang, must stay within; those that come first, if one of them is
/// there. `None` if one cannot be had.
pub fn stand_ins(
    index: &Index,
    request: &Request<'_>,
    pools: &Pools,
    gang: &Gang<'_>,
    lost: &[usize],
    but: &BTreeSet<NodeId>,
) -> Option<Vec<NodeId>> {
    let near = Near { index, request, pools };
    let tree = index.tree();
    // A node that has parts of itself free may be one of the gang's own.
    let size = |pool| index.tree().pools()[usize::from(pool)].gpus;
    let takes_parts = pools.iter().any(|pool| size(pool) > request.gpus_per_node);
    let ours = if takes_parts { 0..gang.size } else { 0..0 };
    let mut taken: BTreeSet<NodeId> = ours.map(gang.node).chain(but.iter().copied()).collect();
    let mut found = Vec::with_capacity(lost.len());
    for &member in lost {
        let domain = match (request.segment, request.within) {
            (None, Level::Fleet) => ROOT,
            (segment, within) => {
                let segment = segment.map_or(gang.size, |segment| segment as usize);
                let first = member / segment * segment;
                let mut mates = first..(first + segment).min(gang.size);
                let mate = mates.find(|mate| !lost.contains(mate))?;
                tree.ancestor(tree.home((gang.node)(mate)), within)?
            }
        };
        if let Some(node) = near.foremost((gang.node)(member), domain, &taken) {
            taken.insert(node);
            found.push(node);
            continue;
        }
        let mut vertex = tree.home((gang.node)(member));
        let wanted = taken.len() + 1;
        let before = taken.clone();
        loop {
            near.fill(vertex, wanted, &mut taken);
            if taken.len() == wanted {
                break;
            }
            if vertex == domain || vertex == ROOT {
                return None;
            }
            vertex = tree.vertex(vertex).parent;
        }
        found.extend(taken.difference(&before));
    }
    Some(found)
}

struct Near<'a> {
    index: &'a Index,
    request: &'a Request<'a>,
    pools: &'a Pools,
}

impl Near<'_> {
    fn has_room(&self, node: NodeId) -> bool {
        let free = self.index.free_on(self.request.view, node);
        self.pools.has(self.index.tree().pool_of(node))
            && free.is_some_and(|free| free >= self.request.gpus_per_node)
    }

    /// The nearest to a node of those that come first, below a vertex.
    fn foremost(&self, lost: NodeId, domain: VertexId, taken: &BTreeSet<NodeId>) -> Option<NodeId> {
        let tree = self.index.tree();
        let is_below = |node: NodeId, vertex| tree.above(node).any(|above| above == vertex);
        let distance = |node: NodeId| tree.above(lost).position(|vertex| is_below(node, vertex));
        let first = self.request.first.iter().copied();
        let fit = first.filter(|node| {
            !taken.contains(node) && self.has_room(*node) && is_below(*node, domain)
        });
        fit.min_by_key(|&node| (distance(node), node))
    }

    fn count(&self, vertex: VertexId) -> u32 {
        self.index.count(self.request.view, vertex, self.pools, self.request.gpus_per_node)
    }

    /// The kept nodes, and others from the lowest vertices above them.
    fn together(&self, mut kept: Vec<NodeId>) -> Option<Vec<NodeId>> {
        let wanted = self.request.nodes as usize;
        let tree = self.index.tree();
        let domain = match self.request.within {
            Level::Fleet => ROOT,
            within => tree.ancestor(tree.common(kept.iter().copied()), within)?,
        };
        if (self.count(domain) as usize) < wanted {
            return None;
        }
        if kept.len() >= wanted {
            tree.sort(&mut kept);
            kept.truncate(wanted);
            return Some(kept);
        }
        let mut chosen: BTreeSet<NodeId> = kept.iter().copied().collect();
        let mut around: BTreeSet<VertexId> = kept.iter().map(|&node| tree.home(node)).collect();
        loop {
            for &vertex in &around {
                self.fill(vertex, wanted, &mut chosen);
            }
            if chosen.len() == wanted {
                return Some(chosen.into_iter().collect());
            }
            if around.contains(&domain) {
                return None;
            }
            around = around
                .iter()
                .map(|&vertex| if vertex == domain { vertex } else { tree.vertex(vertex).parent })
                .collect();
        }
    }

    /// Takes nodes with room below a vertex until there are so many.
    fn fill(&self, vertex: VertexId, wanted: usize, chosen: &mut BTreeSet<NodeId>) {
        if chosen.len() == wanted || self.count(vertex) == 0 {
            return;
        }
        let here = self.index.tree().vertex(vertex);
        for &node in &here.nodes {
            if chosen.len() < wanted && self.has_room(node) {
                chosen.insert(node);
            }
        }
        for &child in &here.children {
            self.fill(child, wanted, chosen);
        }
    }

    /// The segments stay in the domains where most of their nodes are; a segment whose domain has
    /// no room for it any more goes to the nearest that has.
    fn segments(&self, kept: &[NodeId], segment: u32) -> Option<Vec<NodeId>> {
        let tree = self.index.tree();
        let within = self.request.within;
        let mut by_domain: BTreeMap<VertexId, Vec<NodeId>> = BTreeMap::new();
        for &node in kept {
            by_domain.entry(tree.ancestor(tree.home(node), within)?).or_default().push(node);
        }
        let mut wanted = self.request.nodes / segment;
        let mut chosen = Vec::new();
        let mut order: Vec<(usize, VertexId)> =
            by_domain.iter().map(|(&domain, nodes)| (nodes.len(), domain)).collect();
        order.sort_by_key(|&(nodes, domain)| (std::cmp::Reverse(nodes), domain));
        let mut given: BTreeMap<VertexId, u32> = BTreeMap::new();
        for &(nodes, domain) in &order {
            let segments = (nodes as u32).div_ceil(segment).min(self.count(domain) / segment);
            let segments = segments.min(wanted);
            wanted -= segments;
            given.insert(domain, segments);
        }
        let mut around: BTreeSet<VertexId> = by_domain.keys().copied().collect();
        while wanted > 0 {
            for &vertex in &around {
                self.more_segments(vertex, segment, &mut wanted, &mut given);
            }
            if around.len() == 1 && around.contains(&ROOT) {
                break;
            }
            around = around.iter().map(|&vertex| tree.vertex(vertex).parent).collect();
        }
        if wanted > 0 {
            return None;
        }
        for (domain, segments) in given {
            let take = (segments * segment) as usize;
            let before = by_domain.get(&domain).map_or(&[][..], |nodes| &nodes[..]);
            let mut here: BTreeSet<NodeId> = before.iter().copied().take(take).collect();
            self.fill(domain, take, &mut here);
            chosen.extend(here);
        }
        Some(chosen)
    }

    fn more_segments(
        &self,
        vertex: VertexId,
        segment: u32,
        wanted: &mut u32,
        given: &mut BTreeMap<VertexId, u32>,
    ) {
        if *wanted == 0 || self.count(vertex) < segment {
            return;
        }
        let here = self.index.tree().vertex(vertex);
        if here.level == self.request.within {
            let before = given.entry(vertex).or_insert(0);
            let more = (self.count(vertex) / segment - *before).min(*wanted);
            *before += more;
            *wanted -= more;
            return;
        }
        for &child in &here.children {
            self.more_segments(child, segment, wanted, given);
        }
    }
}
