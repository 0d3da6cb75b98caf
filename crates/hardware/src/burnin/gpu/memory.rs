//! The memory of a GPU is filled over the bus, and read back.

use super::device::{Buffer, Device};
use super::library::GpuError;
use crate::burnin::Limit;
use crate::burnin::stream::{differences, fill, word};

const CHUNK: u64 = 1 << 30;
const BLOCK: usize = 32 << 20;
/// In percent of what is free: others of this process need some.
const SHARE: u64 = 90;
/// What surely goes to a GPU and back in a second, with its inverse.
const PER_SECOND: f64 = (512 << 20) as f64;
const LEAST: u64 = 1 << 20;

#[derive(Clone, Debug, Default)]
pub struct MemorySeen {
    pub bytes: u64,
    pub passes: u64,
    pub wrong_words: u64,
    pub first_wrong: Option<String>,
}

/// All of it where the time allows that, and a part of it otherwise.
pub fn run(device: &Device, limit: Limit) -> Result<MemorySeen, GpuError> {
    let by_time = ((limit.span.as_secs_f64() * PER_SECOND) as u64).max(LEAST);
    let wanted = (device.free_bytes()? / 100 * SHARE).min(by_time);
    let mut chunks = Vec::new();
    let mut left = wanted;
    while left > 0 {
        let bytes = left.min(CHUNK);
        match device.allocate(bytes as usize) {
            Ok(chunk) => chunks.push(chunk),
            Err(error) if chunks.is_empty() => return Err(error),
            // Free memory may lie scattered: what there is of it in one piece is tested.
            Err(_) => break,
        }
        left -= bytes;
    }
    let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let mut seen = MemorySeen { bytes, ..MemorySeen::default() };
    let mut block = vec![0; BLOCK];
    while seen.passes == 0 || !limit.is_over() {
        for inverse in [0, u8::MAX] {
            write(&chunks, seen.passes, inverse, &mut block)?;
            read(&chunks, inverse, &mut block, &mut seen)?;
        }
        seen.passes += 1;
    }
    Ok(seen)
}

/// Each block of each chunk has a stream of its own: a block in the wrong place shows.
fn blocks<'a>(
    chunks: &'a [Buffer<'a>],
    pass: u64,
) -> impl Iterator<Item = (&'a Buffer<'a>, usize, usize, u64)> {
    let all = chunks.iter().enumerate().flat_map(|(number, chunk)| {
        (0..chunk.len()).step_by(BLOCK).map(move |offset| (number, chunk, offset))
    });
    all.map(move |(number, chunk, offset)| {
        let seed = word(pass, (number as u64) << 32 | offset as u64);
        (chunk, offset, BLOCK.min(chunk.len() - offset), seed)
    })
}

fn write(chunks: &[Buffer], pass: u64, inverse: u8, block: &mut [u8]) -> Result<(), GpuError> {
    for (chunk, offset, length, seed) in blocks(chunks, pass) {
        fill(seed, &mut block[..length]);
        invert(&mut block[..length], inverse);
        chunk.write(offset, &block[..length])?;
    }
    Ok(())
}

fn read(
    chunks: &[Buffer],
    inverse: u8,
    block: &mut [u8],
    seen: &mut MemorySeen,
) -> Result<(), GpuError> {
    for (chunk, offset, length, seed) in blocks(chunks, seen.passes) {
        chunk.read(offset, &mut block[..length])?;
        invert(&mut block[..length], inverse);
        let (wrong, first) = differences(seed, &block[..length]);
        seen.wrong_words += wrong;
        if let (Some(place), None) = (first, &seen.first_wrong) {
            seen.first_wrong = Some(format!("byte {} of a piece", offset + place));
        }
    }
    Ok(())
}

fn invert(bytes: &mut [u8], inverse: u8) {
    if inverse != 0 {
        for byte in bytes {
            *byte ^= inverse;
        }
    }
}
