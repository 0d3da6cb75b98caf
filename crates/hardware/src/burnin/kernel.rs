//! A computation whose every bit is known beforehand.
//!
//! Matrix products in double and single precision by fused multiply-add in a fixed order, square
//! roots, divisions, and a chain of integer operations over all that came out. IEEE 754 rounds
//! each of them in one way only, so that every processor of every maker must come to the same
//! digest, with whatever width its vectors have.

use super::stream::{chain, word};

const SIDE: usize = 64;
const CELLS: usize = SIDE * SIDE;
/// Different operands, one set a round, and around again.
pub const SEEDS: usize = 8;

/// What each round must come to. Computed with the C library's `fma` and `fmaf`, in another language,
/// and by every path here.
pub const REFERENCES: [u64; SEEDS] = [
    0x944E_9F89_AECE_B2E5,
    0xE84C_1DA3_8084_6022,
    0xF5B1_366F_5C71_22DC,
    0x8E52_9DBE_8E30_0686,
    0x6E69_8EC9_A479_C2C9,
    0x8FAE_F36D_63BF_746C,
    0xA659_7637_4557_9588,
    0xF98A_B09A_564E_92D1,
];

/// How the same operations are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Path {
    /// Every one that this processor has, the widest last.
    pub fn all() -> Vec<Path> {
        let mut paths = vec![Path::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let has_fma = std::arch::is_x86_feature_detected!("fma");
            if has_fma && std::arch::is_x86_feature_detected!("avx2") {
                paths.push(Path::Avx2);
            }
            if has_fma && std::arch::is_x86_feature_detected!("avx512f") {
                paths.push(Path::Avx512);
            }
        }
        paths
    }

    pub fn widest() -> Path {
        Path::all().pop().unwrap_or(Path::Portable)
    }

    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "aarch64")]
            Path::Portable => "NEON",
            #[cfg(not(target_arch = "aarch64"))]
            Path::Portable => "scalar",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "AVX-512",
        }
    }
}

/// What a fault may get hold of: the product, before it is used further.
pub type Disturb<'a> = &'a mut dyn FnMut(&mut [f64]);

/// One round with the operands of `seed`; its digest.
pub fn round(path: Path, seed: usize, disturb: Disturb<'_>) -> u64 {
    match path {
        Path::Portable => body(seed, disturb),
        // SAFETY: `Path::all` gives this path out only where the processor has these features.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { with_avx2(seed, disturb) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => unsafe { with_avx512(seed, disturb) },
    }
}

/// The digests of all rounds as one, for comparison with a peer.
pub fn digest_of_all(path: Path, disturb: Disturb<'_>) -> u64 {
    (0..SEEDS).fold(0, |digest, seed| chain(digest, round(path, seed, disturb)))
}

/// What [`digest_of_all`] must come to.
pub fn reference_of_all() -> u64 {
    REFERENCES.iter().fold(0, |digest, reference| chain(digest, *reference))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2(seed: usize, disturb: Disturb<'_>) -> u64 {
    body(seed, disturb)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn with_avx512(seed: usize, disturb: Disturb<'_>) -> u64 {
    body(seed, disturb)
}

/// Inlined into each of the above, and built for its vectors there.
#[expect(clippy::inline_always, reason = "it must be built with its caller's features")]
#[inline(always)]
fn body(seed: usize, disturb: Disturb<'_>) -> u64 {
    let seed = seed as u64;
    let a = doubles(seed << 1);
    let b = doubles(seed << 1 | 1);
    let mut c = vec![0.0_f64; CELLS];
    for i in 0..SIDE {
        for k in 0..SIDE {
            let left = a[i * SIDE + k];
            let right = &b[k * SIDE..(k + 1) * SIDE];
            for (cell, right) in c[i * SIDE..(i + 1) * SIDE].iter_mut().zip(right) {
                *cell = left.mul_add(*right, *cell);
            }
        }
    }
    disturb(&mut c);
    let singles = product_of_singles(&a, &b);
    let mut digest = seed;
    for place in 0..CELLS {
        let mixed = c[place].sqrt() / b[place];
        digest = chain(digest, c[place].to_bits());
        digest = chain(digest, mixed.to_bits());
        digest = chain(digest, u64::from(singles[place].to_bits()));
    }
    digest
}

#[expect(clippy::inline_always, reason = "it must be built with its caller's features")]
#[inline(always)]
fn product_of_singles(a: &[f64], b: &[f64]) -> Vec<f32> {
    let a: Vec<f32> = a.iter().map(|cell| *cell as f32).collect();
    let b: Vec<f32> = b.iter().map(|cell| *cell as f32).collect();
    let mut c = vec![0.0_f32; CELLS];
    for i in 0..SIDE {
        for k in 0..SIDE {
            let left = a[i * SIDE + k];
            let right = &b[k * SIDE..(k + 1) * SIDE];
            for (cell, right) in c[i * SIDE..(i + 1) * SIDE].iter_mut().zip(right) {
                *cell = left.mul_add(*right, *cell);
            }
        }
    }
    c
}

/// Between 1 and 2, every bit of the mantissa drawn.
fn doubles(seed: u64) -> Vec<f64> {
    let one = 1.0_f64.to_bits();
    (0..CELLS as u64).map(|index| f64::from_bits(one | word(seed, index) >> 12)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undisturbed(path: Path, seed: usize) -> u64 {
        round(path, seed, &mut |_| {})
    }

    #[test]
    fn every_way_to_compute_comes_to_the_reference() {
        for path in Path::all() {
            let digests: Vec<u64> = (0..SEEDS).map(|seed| undisturbed(path, seed)).collect();
            assert_eq!(digests, REFERENCES, "{path:?}: {digests:#018X?}");
        }
    }

    #[test]
    fn the_lowest_bit_of_one_cell_changes_the_digest() {
        for place in [0, 1, CELLS / 2, CELLS - 1] {
            let mut flip = |cells: &mut [f64]| {
                cells[place] = f64::from_bits(cells[place].to_bits() ^ 1);
            };
            assert_ne!(round(Path::widest(), 3, &mut flip), REFERENCES[3]);
            assert_ne!(digest_of_all(Path::widest(), &mut flip), reference_of_all());
        }
        assert_eq!(digest_of_all(Path::widest(), &mut |_| {}), reference_of_all());
    }
}
