//! Where a gang goes: the nodes that cross the fewest and lowest levels of the tree, and among
//! those the ones that leave the least behind (best fit).
//!
//! [`tree`] is the tree, [`index`] the counts on it that every change of a node keeps true,
//! [`search`] finds the place, [`restart`] the place for a gang that has had one, [`span`] says what
//! a place crosses, and [`verdict`] why there is none. A search reads the index only; it passes
//! over the fleet in no case but that of a gang that takes parts of many nodes.

pub mod index;
pub mod restart;
pub mod search;
pub mod span;
pub mod tree;
pub mod verdict;

#[cfg(test)]
mod tests;

use crate::health::fleet::Fleet;
use index::{Index, Pools, Standing, View};
use lindos_model::trail::Span;
use lindos_model::{GpuSet, JobSpec, Level, NodeId, WaitReason};
use std::collections::{BTreeMap, BTreeSet};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub nodes: u32,
    pub gpus_per_node: u16,
    pub within: Level,
    pub segment: Option<u32>,
    pub platforms: &'a [String],
    pub labels: &'a BTreeMap<String, String>,
    pub exclude: &'a BTreeSet<String>,
    /// Whole free nodes that must be left over.
    pub spares: u32,
    /// Nodes that are taken first: where the job ran before. Sorted.
    pub prefer: &'a [NodeId],
    /// Whether nodes that are held for other gangs will do.
    pub view: View,
    /// Nodes that are held for this job: they will do in any case.
    pub own: &'a [NodeId],
    /// Nodes that stand in for others before any that are nearer: something of the job waits there.
    pub first: &'a [NodeId],
}

impl<'a> Request<'a> {
    /// A first start of this job, on nodes that are open.
    pub fn of(spec: &'a JobSpec) -> Request<'a> {
        Request {
            nodes: spec.nodes,
            gpus_per_node: spec.gpus_per_node,
            within: spec.within,
            segment: spec.segment,
            platforms: &spec.platforms,
            labels: &spec.labels,
            exclude: &spec.exclude,
            spares: 0,
            prefer: &[],
            view: View::Open,
            own: &[],
            first: &[],
        }
    }
}

/// Where the members of a gang are. Of a large one, few are asked for.
#[expect(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct Gang<'a> {
    pub size: usize,
    pub node: &'a dyn Fn(usize) -> NodeId,
}

/// The nodes of a gang in rank order, which follows the tree, and how far apart they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub nodes: Vec<(NodeId, GpuSet)>,
    pub span: Span,
}

impl Placement {
    pub fn gpus(&self) -> u64 {
        self.nodes.iter().map(|(_, gpus)| u64::from(gpus.len())).sum()
    }
}

/// The place for a gang, or why there is none. The fleet is the same afterwards.
pub fn place(fleet: &mut Fleet, request: &Request<'_>) -> Result<Placement, WaitReason> {
    let found = fleet.with_index(|index, fleet| would_go(index, fleet, request))?;
    Ok(on_lowest_gpus(fleet, request, found))
}

/// A gang on the lowest GPUs that are free on each of its nodes.
pub fn on_lowest_gpus(
    fleet: &Fleet,
    request: &Request<'_>,
    (nodes, span): (Vec<NodeId>, Span),
) -> Placement {
    let taken = |id: NodeId| {
        let gpus = fleet.node(id).free().lowest(request.gpus_per_node);
        (id, gpus.expect("the index counts the free GPUs"))
    };
    Placement { nodes: nodes.into_iter().map(taken).collect(), span }
}

/// Where a gang would go by this index, which is the same afterwards, or why it cannot.
pub fn would_go(
    index: &mut Index,
    fleet: &Fleet,
    request: &Request<'_>,
) -> Result<(Vec<NodeId>, Span), WaitReason> {
    let before = overlay(index, fleet, request);
    index.settle();
    let groups = groups(index, request);
    let found = find(index, request, &groups)
        .map(|place| place.nodes_and_span(index, request))
        .ok_or_else(|| verdict::reason(index, request, &groups));
    restore(index, before);
    found
}

/// The most open nodes together, as the request wants them.
pub fn most_open(index: &mut Index, fleet: &Fleet, request: &Request<'_>) -> u32 {
    let before = overlay(index, fleet, request);
    let most = verdict::most_usable(index, request, &groups(index, request));
    restore(index, before);
    most
}

/// Nodes of one design that the request could have, wherever they stand.
pub fn anywhere(index: &Index, request: &Request<'_>) -> u32 {
    let groups = groups(index, request);
    let usable =
        groups.iter().map(|pools| search::Search::new(index, request, pools).usable(tree::ROOT));
    usable.max().unwrap_or(0)
}

/// Shows the index what this request alone sees: nodes that it leaves out, nodes held for it. How
/// they stood before.
fn overlay(index: &mut Index, fleet: &Fleet, request: &Request<'_>) -> Vec<(NodeId, Standing)> {
    let mut before = Vec::new();
    if request.view == View::Open {
        let closed = |index: &Index, node| index.free_on(View::Open, node).is_none();
        for &node in request.own {
            if closed(index, node) {
                before.push((node, index.standing(node)));
                index.set(node, fleet.node(node).room(), false);
            }
        }
    }
    for name in request.exclude {
        if let Some(node) = fleet.by_name(name) {
            before.push((node, index.standing(node)));
            index.set(node, None, false);
        }
    }
    before
}

fn restore(index: &mut Index, before: Vec<(NodeId, Standing)>) {
    for (node, standing) in before.into_iter().rev() {
        index.stand(node, standing);
    }
}

/// Where a gang would go by this index, and nothing said when it cannot: that costs more. Nor is
/// the order of best fit brought up to date, which costs more than a scan where many nodes were
/// changed for a look.
pub fn nodes_for(index: &mut Index, fleet: &Fleet, request: &Request<'_>) -> Option<Vec<NodeId>> {
    let before = overlay(index, fleet, request);
    index.settle_if_cheap();
    let groups = groups(index, request);
    let found = find(index, request, &groups).map(|place| place.nodes(index, request));
    restore(index, before);
    found
}

/// For each of some nodes of a gang, the nearest that can stand in for it: see [`restart`].
pub fn stand_ins(
    index: &mut Index,
    fleet: &Fleet,
    request: &Request<'_>,
    gang: &Gang<'_>,
    lost: &[usize],
    but: &BTreeSet<NodeId>,
) -> Option<Vec<NodeId>> {
    if gang.size == 0 {
        return None;
    }
    let before = overlay(index, fleet, request);
    let pool = index.tree().pool_of((gang.node)(0));
    let design = |id: u16| &index.tree().pools()[usize::from(id)].platform;
    let groups = groups(index, request);
    let ours = groups.iter().find(|pools| pools.iter().any(|id| design(id) == design(pool)));
    let found = ours.and_then(|pools| restart::stand_ins(index, request, pools, gang, lost, but));
    restore(index, before);
    found
}

/// A place that was found.
enum Place<'g> {
    /// Where the job was before, or near there.
    Kept(Vec<NodeId>),
    Found(search::Found, &'g Pools),
}

impl Place<'_> {
    fn nodes(self, index: &Index, request: &Request<'_>) -> Vec<NodeId> {
        match self {
            Place::Kept(nodes) => nodes,
            Place::Found(found, pools) => search::choose(index, request, pools, &found),
        }
    }

    fn nodes_and_span(self, index: &Index, request: &Request<'_>) -> (Vec<NodeId>, Span) {
        let (rivals, left) = match &self {
            Place::Kept(_) => (0, 0),
            Place::Found(found, pools) => {
                (search::rivals(index, request, pools, found), found.left())
            }
        };
        let nodes = self.nodes(index, request);
        let span = span::of(index.tree(), &nodes, rivals, left);
        (nodes, span)
    }
}

fn find<'g>(index: &Index, request: &Request<'_>, groups: &'g [Pools]) -> Option<Place<'g>> {
    let kept = groups.iter().find_map(|pools| restart::near(index, request, pools));
    if let Some(nodes) = kept {
        return Some(Place::Kept(nodes));
    }
    groups
        .iter()
        .filter_map(|pools| search::find(index, request, pools).map(|found| (found, pools)))
        .min_by_key(|(found, _)| found.rank())
        .map(|(found, pools)| Place::Found(found, pools))
}

/// The pools that will do, by hardware design: a gang is of one design.
fn groups(index: &Index, request: &Request<'_>) -> Vec<Pools> {
    let mut groups: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for (id, pool) in index.tree().pools().iter().enumerate() {
        let platform_will_do =
            request.platforms.is_empty() || request.platforms.contains(&pool.platform);
        let has_labels =
            request.labels.iter().all(|(key, value)| pool.labels.get(key) == Some(value));
        if platform_will_do && has_labels && pool.gpus >= request.gpus_per_node {
            groups.entry(&pool.platform).or_default().push(id as u16);
        }
    }
    groups.into_values().map(Pools::new).collect()
}
