//! The order in which gradients are added.
//!
//! Floating-point addition is not associative, so a sum is only reproducible if its order is
//! fixed. Here the order hangs on the number of micro-batches alone: they are the leaves of a
//! binary tree that halves its range at every level. A rank owns a run of neighbouring leaves
//! and adds up the largest subtrees that lie wholly in it; rank 0 adds the rest. However many
//! ranks there are, also in replicas, the same pairs are added, and so the losses are the same to the last bit.

use std::collections::VecDeque;
use std::ops::Range;

/// The leaves that `rank` of `world` owns.
pub fn share(leaves: usize, rank: usize, world: usize) -> Range<usize> {
    share_of(&(0..leaves), rank, world)
}

/// The leaves that `rank` of `world` owns, where together they own only `owned`.
pub fn share_of(owned: &Range<usize>, rank: usize, world: usize) -> Range<usize> {
    owned.start + owned.len() * rank / world..owned.start + owned.len() * (rank + 1) / world
}

/// The largest subtrees of `0..leaves` that lie in `owned`, from left to right.
pub fn cover(leaves: usize, owned: &Range<usize>) -> Vec<Range<usize>> {
    fn descend(node: Range<usize>, owned: &Range<usize>, found: &mut Vec<Range<usize>>) {
        if node.end <= owned.start || owned.end <= node.start {
            return;
        }
        if owned.start <= node.start && node.end <= owned.end {
            found.push(node);
            return;
        }
        let (left, right) = halves(&node);
        descend(left, owned, found);
        descend(right, owned, found);
    }
    let mut found = Vec::new();
    if !owned.is_empty() {
        descend(0..leaves, owned, &mut found);
    }
    found
}

/// Add up the leaves of `node`, taking each from `leaf`, from left to right.
pub fn evaluate<E>(
    node: Range<usize>,
    leaf: &mut impl FnMut(usize) -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    if node.len() == 1 {
        return leaf(node.start);
    }
    let (left, right) = halves(&node);
    let mut sum = evaluate(left, leaf)?;
    add(&mut sum, &evaluate(right, leaf)?);
    Ok(sum)
}

/// Subtrees and their sums, from left to right.
pub type Parts = VecDeque<(Range<usize>, Vec<f32>)>;

/// Add up the whole tree from the subtrees of a cover.
pub fn merge(leaves: usize, parts: Parts) -> Vec<f32> {
    let mut whole = merge_owned(leaves, &(0..leaves), parts);
    whole.pop_front().expect("a tree has a root").1
}

/// Add up the largest subtrees that lie in `owned` from smaller ones that cover it.
pub fn merge_owned(leaves: usize, owned: &Range<usize>, mut parts: Parts) -> Parts {
    fn ascend(node: &Range<usize>, parts: &mut Parts) -> Vec<f32> {
        let (range, _) = parts.front().expect("a cover leaves no gap");
        if range == node {
            return parts.pop_front().expect("seen above").1;
        }
        assert!(node.len() > 1, "{range:?} is no subtree at {node:?}");
        let (left, right) = halves(node);
        let mut sum = ascend(&left, parts);
        add(&mut sum, &ascend(&right, parts));
        sum
    }
    let nodes = cover(leaves, owned);
    let merged = nodes.into_iter().map(|node| (node.clone(), ascend(&node, &mut parts))).collect();
    assert!(parts.is_empty(), "a cover does not overlap");
    merged
}

fn halves(node: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let middle = node.start + node.len().div_ceil(2);
    (node.start..middle, middle..node.end)
}

fn add(sum: &mut [f32], other: &[f32]) {
    assert_eq!(sum.len(), other.len(), "vectors of one length");
    for (a, b) in sum.iter_mut().zip(other) {
        *a += b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    fn leaf(index: usize) -> Vec<f32> {
        let mut random = Random::new(&[index as u64]);
        (0..3).map(|_| random.normal() as f32).collect()
    }

    #[test]
    fn a_rank_sends_only_whole_subtrees() {
        assert_eq!(cover(8, &share(8, 1, 2)), vec![4..8; 1]);
        assert_eq!(cover(8, &share(8, 1, 3)), [2..4, 4..5]);
        assert!(cover(8, &(3..3)).is_empty());
    }

    #[test]
    fn a_plain_sum_would_differ_so_the_next_test_can_fail() {
        let tree = evaluate::<()>(0..16, &mut |i| Ok(leaf(i))).unwrap();
        let mut plain = leaf(0);
        (1..16).for_each(|i| add(&mut plain, &leaf(i)));
        assert_ne!(tree, plain);
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn the_sum_is_the_same_to_the_last_bit_for_every_world(
            leaves in 1usize..40, world in 1usize..12,
        ) {
            let whole = evaluate::<()>(0..leaves, &mut |i| Ok(leaf(i))).unwrap();
            let parts = (0..world)
                .flat_map(|rank| cover(leaves, &share(leaves, rank, world)))
                .map(|node| (node.clone(), evaluate::<()>(node, &mut |i| Ok(leaf(i))).unwrap()))
                .collect();
            prop_assert_eq!(bits(&merge(leaves, parts)), bits(&whole));
        }

        #[test]
        fn it_is_also_the_same_where_replicas_share_it_and_their_ranks_share_that(
            leaves in 1usize..40, replicas in 1usize..6, worlds in prop::collection::vec(1usize..5, 6),
        ) {
            let whole = evaluate::<()>(0..leaves, &mut |i| Ok(leaf(i))).unwrap();
            let parts = (0..replicas).flat_map(|replica| {
                let owned = share(leaves, replica, replicas);
                let parts = (0..worlds[replica])
                    .flat_map(|rank| cover(leaves, &share_of(&owned, rank, worlds[replica])))
                    .map(|node| (node.clone(), evaluate::<()>(node, &mut |i| Ok(leaf(i))).unwrap()))
                    .collect();
                let parts = merge_owned(leaves, &owned, parts);
                let nodes: Vec<_> = parts.iter().map(|(node, _)| node.clone()).collect();
                assert_eq!(nodes, cover(leaves, &owned));
                parts
            });
            prop_assert_eq!(bits(&merge(leaves, parts.collect())), bits(&whole));
        }
    }
}
