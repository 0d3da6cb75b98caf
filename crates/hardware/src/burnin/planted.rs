//! Faults that somebody has planted on purpose, to see that a burn-in finds them.

use super::Faults;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is planted on one node while it is tested with another.
#[derive(Debug, Default)]
pub struct Planted {
    miscomputes: bool,
    flips: bool,
    has_flipped: AtomicBool,
}

impl Planted {
    /// Of a list of `product:NODE` (its processors compute wrong) and `wire:NODE+NODE` (a bit is flipped
    /// between these two), parted by commas. An error says which of them is neither.
    pub fn parse(list: &str, node: &str, peer: Option<&str>) -> Result<Planted, String> {
        let mut planted = Planted::default();
        for one in list.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            match (one.strip_prefix("product:"), one.strip_prefix("wire:")) {
                (Some(name), None) => planted.miscomputes |= name == node,
                (None, Some(pair)) => {
                    let (a, b) =
                        pair.split_once('+').ok_or_else(|| format!("`{one}` has no `+`"))?;
                    let is_between = |other: &str| [(a, b), (b, a)].contains(&(node, other));
                    planted.flips |= peer.is_some_and(is_between);
                }
                _ => return Err(format!("`{one}` is neither product:NODE nor wire:NODE+NODE")),
            }
        }
        Ok(planted)
    }
}

impl Faults for Planted {
    fn product(&self, _core: usize, _round: u64, product: &mut [f64]) {
        if self.miscomputes {
            product[0] = f64::from_bits(product[0].to_bits() ^ 1);
        }
    }

    fn wire(&self, block: &mut [u8]) {
        if self.flips && !self.has_flipped.swap(true, Ordering::Relaxed) {
            block[0] ^= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_where_it_was_planted_and_nowhere_else() {
        let list = "product:n1, wire:n2+n3";
        let on = |node, peer| {
            let planted = Planted::parse(list, node, peer).unwrap();
            (planted.miscomputes, planted.flips)
        };
        assert_eq!(on("n1", Some("n2")), (true, false));
        assert_eq!(on("n3", Some("n2")), (false, true));
        assert_eq!(on("n2", Some("n1")), (false, false));
        assert_eq!(on("n2", None), (false, false));
        assert!(Planted::parse("n1", "n1", None).unwrap_err().contains("neither"));
        assert!(Planted::parse("wire:n1", "n1", None).unwrap_err().contains("no `+`"));
        let planted = Planted::parse("wire:n2+n3", "n2", Some("n3")).unwrap();
        let mut block = [0; 8];
        planted.wire(&mut block);
        planted.wire(&mut block);
        assert_eq!(block, [1, 0, 0, 0, 0, 0, 0, 0], "once");
    }
}
