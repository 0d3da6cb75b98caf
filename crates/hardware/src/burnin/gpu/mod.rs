//! NVIDIA GPUs through CUDA and cuBLAS, which are loaded at run time where they are.
//!
//! [`library`] has the entry points, [`device`] one GPU made safe, [`product`] and [`memory`] what
//! is tried on it. All GPUs of the node work at once, as they do in a training job: that is when
//! power and heat run out.

mod device;
mod library;
mod memory;
mod product;

#[cfg(test)]
mod tests;

use super::{Expected, Limit, size, times};
use device::Device;
use library::{Blas, Cuda, GpuError};
use lindos_model::burnin::{Bound, TestResult, Verdict};
use memory::MemorySeen;
use product::{Operands, Products, Size};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

const CUDA: &str = "libcuda.so.1";
const BLAS: [&str; 6] = [
    "libcublas.so.13",
    "libcublas.so.12",
    "libcublas.so.11",
    "/usr/local/cuda/lib64/libcublas.so.13",
    "/usr/local/cuda/lib64/libcublas.so.12",
    "/usr/local/cuda/lib64/libcublas.so.11",
];
const NO_DEVICE: i32 = 100;
/// Of the time; the rest goes to the memory.
const COMPUTING: f64 = 0.6;

/// Where the libraries are.
#[derive(Clone, Debug)]
pub struct GpuSource {
    cuda: OsString,
    blas: Vec<OsString>,
    /// As fits the memory, if nothing is said.
    size: Option<Size>,
}

impl GpuSource {
    /// Those named, and otherwise as the dynamic linker finds them.
    pub fn new(cuda: Option<PathBuf>, blas: Option<PathBuf>) -> GpuSource {
        GpuSource {
            cuda: cuda.map_or_else(|| CUDA.into(), PathBuf::into_os_string),
            blas: blas.map_or_else(
                || BLAS.iter().map(OsString::from).collect(),
                |path| vec![path.into_os_string()],
            ),
            size: None,
        }
    }
}

/// What one GPU came to.
#[derive(Clone, Debug)]
struct Gpu {
    index: u32,
    name: String,
    pci: String,
    multiprocessors: i32,
    bytes: u64,
    products: Result<Products, String>,
    memory: Result<MemorySeen, String>,
}

impl Gpu {
    fn label(&self) -> String {
        format!("GPU {} ({})", self.index, self.pci)
    }
}

pub fn run(limit: Limit, source: &GpuSource, expected: &Expected) -> Vec<TestResult> {
    // A node that should have GPUs and has none is not one that has none to test.
    let absent = |why: String| match expected.gpus {
        Some(gpus) if gpus > 0 => {
            vec![TestResult::failed("gpu.count", format!("{gpus} GPUs are expected, and {why}"))]
        }
        _ => vec![TestResult::skipped("gpu.count", why)],
    };
    let cuda = match Cuda::open(&source.cuda) {
        Ok(cuda) => cuda,
        Err(error) => return absent(format!("there is no CUDA driver: {error}")),
    };
    let count = match device::count(&cuda) {
        Ok(0) => return absent("the CUDA driver has no GPU".to_string()),
        Ok(count) => count,
        Err(GpuError::Call { code: NO_DEVICE, words, .. }) => {
            return absent(format!("the CUDA driver says: {words}"));
        }
        // A driver that is there and does not work is a fault.
        Err(error) => return vec![TestResult::failed("gpu.count", error.to_string())],
    };
    let blas = open_blas(source);
    let least = (0..count).filter_map(|index| device::bytes(&cuda, index).ok()).min();
    let size = source.size.unwrap_or_else(|| Size::fitting(least.unwrap_or(0)));
    let operands = blas.as_ref().ok().map(|_| Operands::new(size));
    let answers: Vec<Result<Gpu, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| {
                let (cuda, blas, operands) = (&cuda, blas.as_ref(), operands.as_ref());
                scope.spawn(move || {
                    on_gpu(cuda, blas.ok().zip(operands), index, limit)
                        .map_err(|error| format!("GPU {index}: {error}"))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_string())))
            .collect()
    });
    results(&answers, size, blas.as_ref().err(), expected)
}

fn open_blas(source: &GpuSource) -> Result<Blas, String> {
    let mut refused = Vec::new();
    for path in &source.blas {
        match Blas::open(path) {
            Ok(blas) => return Ok(blas),
            Err(error) => refused.push(error.to_string()),
        }
    }
    Err(format!("there is no cuBLAS: {}", refused.first().cloned().unwrap_or_default()))
}

fn on_gpu(
    cuda: &Cuda,
    products: Option<(&Blas, &Operands)>,
    index: u32,
    limit: Limit,
) -> Result<Gpu, GpuError> {
    let device = Device::open(cuda, index)?;
    let products = match products {
        Some(_) if !device.has_bf16 => Err("it does not compute in BF16".to_string()),
        Some((blas, operands)) => product::run(blas, &device, operands, limit.part(COMPUTING))
            .map_err(|error| error.to_string()),
        None => Err(String::new()),
    };
    let memory = memory::run(&device, limit.part(1.0)).map_err(|error| error.to_string());
    Ok(Gpu {
        index,
        name: device.name.clone(),
        pci: device.pci.clone(),
        multiprocessors: device.multiprocessors,
        bytes: device.bytes,
        products,
        memory,
    })
}

fn results(
    answers: &[Result<Gpu, String>],
    size: Size,
    no_blas: Option<&String>,
    expected: &Expected,
) -> Vec<TestResult> {
    let gpus: Vec<&Gpu> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    let lost: Vec<&String> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    let mut results = vec![counted(&gpus, &lost, expected), smallest(&gpus, expected)];
    match no_blas {
        Some(why) => results.extend(
            ["gpu.exact", "gpu.repeat", "gpu.peers", "gpu.speed"]
                .map(|name| TestResult::skipped(name, why)),
        ),
        None => results.extend(products(&gpus, size, expected)),
    }
    results.push(memories(&gpus));
    results
}

fn counted(gpus: &[&Gpu], lost: &[&String], expected: &Expected) -> TestResult {
    let mut detail = gpus.first().map_or(String::new(), |gpu| gpu.name.clone());
    let others = gpus.iter().filter(|gpu| gpu.name != detail).count();
    if others > 0 {
        let _ = write!(detail, " and {others} of another kind");
    }
    for why in lost {
        let _ = write!(detail, "; {why}");
    }
    let bound = expected.gpus.map(|gpus| Bound::AtLeast(f64::from(gpus)));
    let mut result = TestResult::judged("gpu.count", gpus.len() as f64, "GPUs", bound, detail);
    if !lost.is_empty() {
        result.verdict = Verdict::Fail;
    }
    result
}

fn smallest(gpus: &[&Gpu], expected: &Expected) -> TestResult {
    let Some(gpu) = gpus.iter().min_by_key(|gpu| (gpu.bytes, gpu.index)) else {
        return TestResult::skipped("gpu.size", "no GPU could be opened");
    };
    let bound = expected.gpu_memory_gb.map(Bound::AtLeast);
    let detail = format!("the smallest memory, of {}", gpu.label());
    TestResult::judged("gpu.size", gpu.bytes as f64 / 1e9, "GB", bound, detail)
}

fn products(gpus: &[&Gpu], size: Size, expected: &Expected) -> Vec<TestResult> {
    let done: Vec<(&Gpu, &Products)> =
        gpus.iter().filter_map(|gpu| Some((*gpu, gpu.products.as_ref().ok()?))).collect();
    let mut refused = String::new();
    for gpu in gpus {
        if let Err(why) = &gpu.products {
            let _ = write!(refused, "; {}: {why}", gpu.label());
        }
    }
    let names = ["gpu.exact", "gpu.repeat", "gpu.peers", "gpu.speed"];
    if done.is_empty() {
        let mut all: Vec<TestResult> =
            names.map(|name| TestResult::skipped(name, "no product was computed")).into();
        if !gpus.is_empty() {
            all[0] = TestResult::failed("gpu.exact", refused.trim_start_matches("; "));
        }
        return all;
    }
    let exact: u64 = done.iter().map(|(_, products)| products.exact).sum();
    let mut wrong = format!("{exact} products of integers, checked row by row");
    let repeats: u64 = done.iter().map(|(_, products)| products.repeats).sum();
    let mut different = format!("{repeats} batches, each compared with the first bit for bit");
    for (gpu, products) in &done {
        if let Some(first) = &products.first_wrong {
            let _ = write!(wrong, "; {}: {first}", gpu.label());
        }
        if let Some(first) = &products.first_difference {
            let _ = write!(different, "; {}: {first}", gpu.label());
        }
    }
    wrong.push_str(&refused);
    let sum = |of: fn(&Products) -> u64| done.iter().map(|(_, products)| of(products)).sum();
    let mut first = TestResult::errors(names[0], sum(|products| products.wrong_rows), wrong);
    if !refused.is_empty() {
        first.verdict = Verdict::Fail;
    }
    let repeat = TestResult::errors(names[1], sum(|products| products.different), different);
    vec![first, repeat, peers(&done), speed(&done, size, expected)]
}

/// GPUs of one kind come to the same bits; of two that differ nobody knows which is right, of
/// three the one that stands alone is named.
fn peers(done: &[(&Gpu, &Products)]) -> TestResult {
    let mut odd = Vec::new();
    let mut compared = 0;
    for (place, (gpu, products)) in done.iter().enumerate() {
        let alike =
            |other: &Gpu| other.name == gpu.name && other.multiprocessors == gpu.multiprocessors;
        let peers: Vec<u64> = done
            .iter()
            .enumerate()
            .filter(|(other, (peer, _))| *other != place && alike(peer))
            .map(|(_, (_, products))| products.digest)
            .collect();
        if peers.is_empty() {
            continue;
        }
        compared += 1;
        let agree = peers.iter().filter(|digest| **digest == products.digest).count();
        if agree * 2 < peers.len() {
            odd.push(format!("{} computes {:016x}", gpu.label(), products.digest));
        }
    }
    if compared == 0 {
        return TestResult::skipped("gpu.peers", "there are no two GPUs of one kind");
    }
    let mut detail = format!("{compared} GPUs compared with others of their kind");
    for words in &odd {
        let _ = write!(detail, "; {words}");
    }
    TestResult::errors("gpu.peers", odd.len() as u64, detail)
}

fn speed(done: &[(&Gpu, &Products)], size: Size, expected: &Expected) -> TestResult {
    let slowest = done.iter().min_by(|(_, a), (_, b)| a.tflops.total_cmp(&b.tflops));
    let fastest = done.iter().map(|(_, products)| products.tflops).fold(0.0, f64::max);
    let Some((gpu, products)) = slowest else {
        return TestResult::skipped("gpu.speed", "no product was computed");
    };
    let detail = format!(
        "BF16, side {}, the slowest: {}; its slowest batch {:.1}, the fastest GPU {fastest:.1}",
        size.side,
        gpu.label(),
        products.tflops_slowest
    );
    let bound = expected.gpu_tflops.map(Bound::AtLeast);
    TestResult::judged("gpu.speed", products.tflops, "TFLOP/s", bound, detail)
}

fn memories(gpus: &[&Gpu]) -> TestResult {
    let mut bytes = 0;
    let mut wrong = 0;
    let mut words = String::new();
    let mut has_failed = false;
    for gpu in gpus {
        match &gpu.memory {
            Ok(seen) => {
                bytes += seen.bytes;
                wrong += seen.wrong_words;
                if let Some(first) = &seen.first_wrong {
                    let _ = write!(words, "; {}: first at {first}", gpu.label());
                }
            }
            Err(why) => {
                has_failed = true;
                let _ = write!(words, "; {}: {why}", gpu.label());
            }
        }
    }
    if gpus.is_empty() {
        return TestResult::skipped("gpu.memory", "no GPU could be opened");
    }
    let passes =
        gpus.iter().filter_map(|gpu| Some(gpu.memory.as_ref().ok()?.passes)).min().unwrap_or(0);
    let total: u64 = gpus.iter().map(|gpu| gpu.bytes).sum();
    let detail =
        format!("{} of {}, {}, with the inverse{words}", size(bytes), size(total), times(passes));
    let mut result = TestResult::errors("gpu.memory", wrong, detail);
    if has_failed {
        result.verdict = Verdict::Fail;
    }
    result
}
