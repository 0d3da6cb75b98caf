//! Matrix products whose every bit is checked.
//!
//! Of small integers, whose product is exact in whatever order it is summed: any processor may
//! check it, and does so here by multiplying with a vector. And of numbers with full mantissas,
//! whose product depends on the order: it must be the same each time, and on each GPU of a kind.

use super::device::{Buffer, Device, Multiplier};
use super::library::{Blas, GpuError};
use crate::burnin::Limit;
use crate::burnin::stream::{chain, word};
use std::time::{Duration, Instant};

/// Integers from -4 to 4. The largest sum of a product with 8192 rows is below 2^18: well inside
/// the 24 bits of FP32, and of what the units that multiply matrices keep in between.
const SMALL: i64 = 4;
/// A result that no product has.
const POISON: u32 = 0xFFFF_FFFF;

/// How large, and how often at once.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub side: u16,
    pub batch: u32,
}

/// With this side a product fills the largest GPU.
const SIDE_MOST: u16 = 8192;
const SIDE_LEAST: u16 = 128;
const BATCH: u32 = 16;

impl Size {
    /// The largest that takes no more than a quarter of the memory, operands and product.
    pub fn fitting(bytes: u64) -> Size {
        let mut side = SIDE_MOST;
        while side > SIDE_LEAST && u64::from(side).pow(2) * 8 > bytes / 4 {
            side /= 2;
        }
        Size { side, batch: BATCH }
    }
}

/// The operands, the same for every GPU.
#[derive(Debug)]
pub struct Operands {
    pub size: Size,
    small: [Vec<i8>; 2],
    full: [Vec<u8>; 2],
}

impl Operands {
    pub fn new(size: Size) -> Operands {
        let cells = u64::from(size.side) * u64::from(size.side);
        let small =
            |seed| (0..cells).map(|cell| (word(seed, cell) % 9) as i8 - SMALL as i8).collect();
        let full =
            |seed| (0..cells).flat_map(|cell| mantissa(word(seed, cell)).to_le_bytes()).collect();
        Operands { size, small: [small(11), small(12)], full: [full(13), full(14)] }
    }
}

/// A BF16 between 1/2 and 2, or its negative.
fn mantissa(random: u64) -> u16 {
    let sign = (random & 1) << 15;
    let exponent = (126 + (random >> 1 & 1)) << 7;
    (sign | exponent | random >> 8 & 0x7F) as u16
}

/// A small integer as BF16: the upper half of its FP32.
fn bf16(integer: i8) -> [u8; 2] {
    ((f32::from(integer).to_bits() >> 16) as u16).to_le_bytes()
}

/// What one GPU came to.
#[derive(Clone, Debug, Default)]
pub struct Products {
    /// Rows of the exact products that were wrong, and the first cell.
    pub wrong_rows: u64,
    pub first_wrong: Option<String>,
    pub exact: u64,
    /// Products that were not the bits of the first one.
    pub different: u64,
    pub first_difference: Option<String>,
    pub repeats: u64,
    /// Of the first product with full mantissas.
    pub digest: u64,
    pub tflops: f64,
    pub tflops_slowest: f64,
}

pub fn run(
    blas: &Blas,
    device: &Device,
    operands: &Operands,
    limit: Limit,
) -> Result<Products, GpuError> {
    let multiplier = Multiplier::new(blas, device, operands.size.side)?;
    let cells = usize::from(operands.size.side).pow(2);
    let a = device.allocate(cells * 2)?;
    let b = device.allocate(cells * 2)?;
    let c = device.allocate(cells * 4)?;
    let mut seen = Products::default();
    exact(&multiplier, operands, [&a, &b, &c], &mut seen)?;
    repeated(&multiplier, operands, [&a, &b, &c], limit, &mut seen)?;
    // Once more when all is warm.
    exact(&multiplier, operands, [&a, &b, &c], &mut seen)?;
    Ok(seen)
}

fn exact(
    multiplier: &Multiplier,
    operands: &Operands,
    [a, b, c]: [&Buffer; 3],
    seen: &mut Products,
) -> Result<(), GpuError> {
    for (buffer, cells) in [a, b].into_iter().zip(&operands.small) {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| bf16(*cell)).collect();
        buffer.write(0, &bytes)?;
    }
    c.set(POISON)?;
    multiplier.multiply(a, b, c)?;
    multiplier.wait()?;
    let product = read(c)?;
    let side = usize::from(operands.size.side);
    let wrong = wrong_rows(&operands.small, side, &product);
    seen.exact += 1;
    seen.wrong_rows += wrong.len() as u64;
    if let (Some(row), None) = (wrong.first(), &seen.first_wrong) {
        seen.first_wrong = Some(first_wrong(&operands.small, side, &product, *row));
    }
    Ok(())
}

fn read(c: &Buffer) -> Result<Vec<u8>, GpuError> {
    let mut bytes = vec![0; c.len()];
    c.read(0, &mut bytes)?;
    Ok(bytes)
}

fn cell(product: &[u8], place: usize) -> f32 {
    let bytes = &product[place * 4..place * 4 + 4];
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Rows `i` in which the product times a vector is not what the matrices times that vector are.
/// No number of the vector is 0: a single wrong cell always shows.
fn wrong_rows([a, b]: &[Vec<i8>; 2], side: usize, product: &[u8]) -> Vec<usize> {
    let vector: Vec<i64> =
        (0..side as u64).map(|place| (word(15, place) % 7).cast_signed() + 1).collect();
    let mut of_b = vec![0_i64; side];
    let mut of_c = vec![0.0_f64; side];
    for (column, factor) in vector.iter().enumerate() {
        for row in 0..side {
            of_b[row] += i64::from(b[column * side + row]) * factor;
            of_c[row] += f64::from(cell(product, column * side + row)) * *factor as f64;
        }
    }
    let mut right = vec![0_i64; side];
    for (column, factor) in of_b.iter().enumerate() {
        for row in 0..side {
            right[row] += i64::from(a[column * side + row]) * factor;
        }
    }
    // Whole numbers far below 2^53: a double has them exactly. What is no number differs too.
    (0..side).filter(|row| of_c[*row].to_bits() != (right[*row] as f64 + 0.0).to_bits()).collect()
}

fn first_wrong([a, b]: &[Vec<i8>; 2], side: usize, product: &[u8], row: usize) -> String {
    let wrong = (0..side).find_map(|column| {
        let right: i64 =
            (0..side).map(|k| i64::from(a[k * side + row]) * i64::from(b[column * side + k])).sum();
        let got = f64::from(cell(product, column * side + row));
        (got.total_cmp(&(right as f64)) != std::cmp::Ordering::Equal)
            .then(|| format!("row {row}, column {column}: {got} and not {right}"))
    });
    wrong.unwrap_or_else(|| format!("row {row}"))
}

fn repeated(
    multiplier: &Multiplier,
    operands: &Operands,
    [a, b, c]: [&Buffer; 3],
    limit: Limit,
    seen: &mut Products,
) -> Result<(), GpuError> {
    for (buffer, bytes) in [a, b].into_iter().zip(&operands.full) {
        buffer.write(0, bytes)?;
    }
    c.set(POISON)?;
    multiplier.multiply(a, b, c)?;
    multiplier.wait()?;
    let first = read(c)?;
    seen.digest = digest(&first);
    let Size { side, batch } = operands.size;
    let flops = 2.0 * f64::from(side).powi(3) * f64::from(batch);
    let mut took = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    let mut batches = 0_u32;
    while batches == 0 || !limit.is_over() {
        // What was right before must not be taken for what is right now.
        c.set(POISON)?;
        multiplier.wait()?;
        let began = Instant::now();
        for _ in 0..batch {
            multiplier.multiply(a, b, c)?;
        }
        multiplier.wait()?;
        let span = began.elapsed();
        took += span;
        slowest = slowest.max(span);
        batches += 1;
        let again = read(c)?;
        if again != first {
            seen.different += 1;
            seen.first_difference.get_or_insert_with(|| difference(&first, &again));
        }
    }
    seen.repeats = u64::from(batches);
    seen.tflops = flops * f64::from(batches) / took.as_secs_f64().max(1e-9) / 1e12;
    seen.tflops_slowest = flops / slowest.as_secs_f64().max(1e-9) / 1e12;
    Ok(())
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0, |digest, bytes| {
        let word: [u8; 8] = bytes.try_into().expect("chunks of 8");
        chain(digest, u64::from_le_bytes(word))
    })
}

fn difference(first: &[u8], again: &[u8]) -> String {
    let places = first.chunks_exact(4).zip(again.chunks_exact(4)).enumerate();
    let mut wrong = places.filter(|(_, (old, new))| old != new);
    let Some((place, _)) = wrong.next() else { return "nothing".to_string() };
    let (old, new) = (cell(first, place).to_bits(), cell(again, place).to_bits());
    format!("cell {place}: {new:08x} and not {old:08x}, and {} more", wrong.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_as_large_as_fits_the_memory() {
        let sides = [0, 1 << 20, 2 << 30, 80 << 30].map(|bytes| Size::fitting(bytes).side);
        assert_eq!(sides, [128, 128, 8192, 8192]);
        assert_eq!(Size::fitting(1 << 30).side, 4096);
    }

    #[test]
    fn small_integers_are_exact_in_bf16_and_mantissas_are_drawn() {
        for integer in -4..=4_i8 {
            let [low, high] = bf16(integer);
            let back = f32::from_bits(u32::from(u16::from_le_bytes([low, high])) << 16);
            assert_eq!(back.to_bits(), (f32::from(integer)).to_bits());
        }
        for place in 0..1000 {
            let value = f32::from_bits(u32::from(mantissa(word(13, place))) << 16).abs();
            assert!((0.5..2.0).contains(&value), "{value}");
        }
    }
}
