//! Numbers that look random, and are the same on every machine.

/// The `index`th word of the stream of `seed`, without those before it: whoever reads back knows
/// what must stand at any place. The finisher is that of SplitMix64.
#[inline]
pub fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Takes one word into a digest. For a fixed digest every word leads elsewhere, and for a fixed
/// word every digest does: a single wrong word always shows at the end.
#[inline]
pub fn chain(digest: u64, word: u64) -> u64 {
    (digest ^ word).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// Fills whole words; a rest of less than 8 bytes gets the beginning of one.
pub fn fill(seed: u64, bytes: &mut [u8]) {
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&word(seed, index as u64).to_le_bytes()[..chunk.len()]);
    }
}

/// Bytes that are not what [`fill`] wrote: how many words differ, and where the first does.
pub fn differences(seed: u64, bytes: &[u8]) -> (u64, Option<usize>) {
    let mut count = 0;
    let mut first = None;
    for (index, chunk) in bytes.chunks(8).enumerate() {
        if *chunk != word(seed, index as u64).to_le_bytes()[..chunk.len()] {
            count += 1;
            first = first.or(Some(index * 8));
        }
    }
    (count, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_splitmix64() {
        // The first numbers for seed 0, as other implementations have them.
        let first = [0, 1, 2].map(|index| word(0, index));
        assert_eq!(first, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]);
    }

    #[test]
    fn each_flipped_bit_is_found_where_it_is() {
        let mut bytes = vec![0; 100];
        fill(7, &mut bytes);
        assert_eq!(differences(7, &bytes), (0, None));
        assert_ne!(differences(8, &bytes).0, 0);
        for place in [0, 63, 99] {
            bytes[place] ^= 4;
            assert_eq!(differences(7, &bytes), (1, Some(place / 8 * 8)));
            bytes[place] ^= 4;
        }
    }
}
