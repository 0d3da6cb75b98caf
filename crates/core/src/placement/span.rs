//! How far apart the nodes of a gang are.

use super::tree::{ROOT, Tree};
use lindos_model::trail::Span;
use lindos_model::{Level, NodeId};

/// The span of nodes that stand in the order of the tree. `rivals` other places of that level would
/// have held the gang, and `left` nodes are left over in the chosen one.
pub fn of(tree: &Tree, nodes: &[NodeId], rivals: u32, left: u32) -> Span {
    let common = tree.vertex(tree.common(nodes.iter().copied()));
    let mut parts: Vec<(Level, u32)> = Vec::new();
    for level in Level::ALL.into_iter().filter(|&level| level != Level::Fleet) {
        if tree.at_level(level).is_empty() {
            continue;
        }
        let mut last = ROOT;
        let mut count = 0;
        let mut home = (u32::MAX, ROOT);
        for &node in nodes {
            if home.0 != tree.home(node) {
                home = (tree.home(node), tree.ancestor(tree.home(node), level).unwrap_or(ROOT));
            }
            if home.1 != last {
                last = home.1;
                count += u32::from(last != ROOT);
            }
        }
        if count > 0 {
            parts.push((level, count));
        }
    }
    // One of a level above the common one says nothing.
    parts.retain(|&(level, count)| count > 1 || level == common.level);
    Span { level: common.level, name: common.name.clone(), parts, rivals, left }
}
