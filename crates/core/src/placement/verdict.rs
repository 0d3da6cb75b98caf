//! Why there is no place: the one constraint that binds, and how far off it is.

use super::Request;
use super::index::{Index, Pools, View};
use super::search::Search;
use super::tree::{ROOT, VertexId};
use lindos_model::WaitReason;

/// For a request that no group of pools has a place for.
pub fn reason(index: &Index, request: &Request<'_>, groups: &[Pools]) -> WaitReason {
    let (nodes_wanted, gpus_per_node) = (request.nodes, request.gpus_per_node);
    let (within, segment) = (request.within, request.segment);
    let most = |count: &dyn Fn(&Pools, VertexId) -> u32| {
        groups.iter().map(|pools| most_together(index, request, pools, count)).max().unwrap_or(0)
    };
    let every = |count: &dyn Fn(&Pools) -> u32| groups.iter().map(count).max().unwrap_or(0);
    let kept = spares_kept(index, request, groups);

    let nodes_that_could = most(&|pools, vertex| index.all(vertex, pools));
    let could_besides =
        nodes_that_could.min(every(&|pools| index.all(ROOT, pools)).saturating_sub(kept));
    if could_besides < nodes_wanted {
        let nodes_that_could = could_besides;
        return WaitReason::NeverFits {
            nodes_wanted,
            gpus_per_node,
            nodes_that_could,
            within,
            segment,
        };
    }
    let nodes_free = every(&|pools| Search::new(index, request, pools).usable(ROOT));
    let in_service = most(&|pools, vertex| index.count(View::Free, vertex, pools, 0));
    let in_service = in_service
        .min(every(&|pools| index.count(View::Free, ROOT, pools, 0)).saturating_sub(kept));
    if in_service < nodes_wanted {
        let nodes_out =
            every(&|pools| index.all(ROOT, pools) - index.count(View::Free, ROOT, pools, 0));
        return WaitReason::NodesOut { nodes_wanted, gpus_per_node, nodes_free, nodes_out };
    }
    if request.view == View::Open {
        let free = Request { view: View::Free, ..request.clone() };
        let together = most_usable(index, &free, groups);
        if together >= nodes_wanted {
            let nodes_held =
                every(&|pools| Search::new(index, &free, pools).usable(ROOT)) - nodes_free;
            return WaitReason::Held { nodes_wanted, gpus_per_node, nodes_free, nodes_held };
        }
    }
    if nodes_free >= nodes_wanted {
        let nodes_together = most_usable(index, request, groups);
        return WaitReason::Scattered {
            nodes_wanted,
            gpus_per_node,
            nodes_free,
            nodes_together,
            within,
            segment,
        };
    }
    let spares_kept = request.spares.min(index.whole(request.view, ROOT, &all_pools(index)));
    WaitReason::Busy { nodes_wanted, gpus_per_node, nodes_free, spares_kept }
}

fn all_pools(index: &Index) -> Pools {
    Pools::new((0..index.tree().pools().len() as u16).collect())
}

/// Spares that must be of the nodes that the job could use: those that it could not use anyway
/// are kept first.
fn spares_kept(index: &Index, request: &Request<'_>, groups: &[Pools]) -> u32 {
    let in_service = index.count(View::Free, ROOT, &all_pools(index), 0);
    let usable: u32 = groups.iter().map(|pools| index.count(View::Free, ROOT, pools, 0)).sum();
    request.spares.saturating_sub(in_service - usable)
}

/// The most nodes together that may be taken now.
pub fn most_usable(index: &Index, request: &Request<'_>, groups: &[Pools]) -> u32 {
    let most = |pools: &Pools| {
        let search = Search::new(index, request, pools);
        most_together(index, request, pools, &|_, vertex| search.usable(vertex))
    };
    groups.iter().map(most).max().unwrap_or(0)
}

/// The most nodes that the constraint of the request leaves together, as something counts them: in
/// one domain, or in whole segments over all domains.
pub fn most_together(
    index: &Index,
    request: &Request<'_>,
    pools: &Pools,
    count: &dyn Fn(&Pools, VertexId) -> u32,
) -> u32 {
    let domains = index.tree().at_level(request.within).iter();
    match request.segment {
        None if request.nodes == 1 => count(pools, ROOT),
        None => domains.map(|&domain| count(pools, domain)).max().unwrap_or(0),
        Some(segment) => domains.map(|&domain| count(pools, domain) / segment * segment).sum(),
    }
}
