//! A named stream of chance in which any place can be gone to.
//!
//! Unlike [`crate::random::Stream`], whose draws come one after another: the draws that belong to
//! one fault stand at a place that only that fault has, so that a fault more or less before it
//! does not shift them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Draws of 64 bits that one place has room for: a block of ChaCha.
#[cfg(test)]
const DRAWS_PER_PLACE: usize = 8;

/// ChaCha with 8 rounds: its output for a seed, a stream and a place is fixed by its specification.
#[derive(Clone, Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    pub fn new(seed: u64, name: &str) -> Chance {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        // FNV-1a: enough to tell a hundred names apart.
        let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        generator.set_stream(stream);
        Chance(generator)
    }

    /// Goes to a place; the next one is eight draws further on.
    pub fn go_to(&mut self, place: u64) {
        self.0.set_word_pos(u128::from(place) * 16);
    }

    /// Between 0 and 1, and neither of them: its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) * (1.0 / (1_u64 << 53) as f64)
    }

    /// From 0 to `count` - 1. The bias is below 2^-32 for every count in use here.
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(count)) >> 64) as u64
    }

    /// With a mean of 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_its_draws_whatever_was_drawn_before() {
        let mut chance = Chance::new(3, "a");
        chance.go_to(7);
        let seventh: Vec<u64> = (0..DRAWS_PER_PLACE).map(|_| chance.below(u64::MAX)).collect();
        let eighth = chance.below(u64::MAX);
        chance.go_to(1 << 50);
        chance.unit();
        chance.go_to(7);
        assert_eq!(seventh[0], chance.below(u64::MAX));
        chance.go_to(8);
        assert_eq!(eighth, chance.below(u64::MAX));
    }

    #[test]
    fn streams_and_seeds_differ() {
        let first = |seed, name: &str| Chance::new(seed, name).below(u64::MAX);
        assert_ne!(first(3, "a"), first(3, "b"));
        assert_ne!(first(3, "a"), first(4, "a"));
    }
}
