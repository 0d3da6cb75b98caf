//! Named streams of random numbers: one concern's draws never shift another's.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// ChaCha with 8 rounds: its output for a seed and a stream is fixed by its specification.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    pub fn new(seed: u64, name: &str) -> Stream {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        // FNV-1a: enough to tell a dozen names apart.
        let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        generator.set_stream(stream);
        Stream(generator)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high);
        match (high - low).checked_add(1) {
            // The bias of the remainder is below 2^-32 for every range in use here.
            Some(count) => low + self.0.next_u64() % count,
            None => self.0.next_u64(),
        }
    }

    /// True `parts` times in a million.
    pub fn chance(&mut self, parts: u32) -> bool {
        self.between(0, 999_999) < u64::from(parts)
    }

    pub fn pick<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        &items[self.between(0, items.len() as u64 - 1) as usize]
    }

    pub fn id(&mut self) -> u128 {
        u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64())
    }
}

/// A number that looks like chance and is always the same of a number: where so many are wanted that a
/// stream would cost more than all else, or where streams must stay what they were.
pub fn scatter(of: u64) -> u64 {
    let mut mixed = of.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
