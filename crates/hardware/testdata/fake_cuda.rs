//! A library with the entry points of CUDA's driver and of cuBLAS, over the memory of the host.
//!
//! Tests compile it with `rustc --crate-type cdylib` and load it in place of both, so that finding
//! the symbols, passing the arguments and moving the bytes is what is tested. It allocates, copies
//! and multiplies for real; the types are written out here once more, and not shared with the
//! caller: if the two differ, tests fail.
//!
//! The file that `FAKE_CUDA` names says how it is: a line is `KEY VALUE`. `count 8`, `init 999`,
//! `0.name NVIDIA X`, `0.memory BYTES`, `0.capability 7`, and for faults `1.flip_product N` (a bit
//! of the Nth product of GPU 1), `1.flip_memory N` (a bit of the Nth copy to that GPU),
//! `1.refuse_product CODE`, `1.idle_product N` (the Nth product does nothing).

#![allow(non_snake_case, clippy::missing_safety_doc)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Mutex;

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NOT_INITIALIZED: c_int = 3;
const INVALID_CONTEXT: c_int = 201;

/// Address → the bytes there and whose they are.
static MEMORY: Mutex<BTreeMap<u64, (Vec<u64>, usize, c_int)>> = Mutex::new(BTreeMap::new());
/// How often each thing was done, since `cuInit`.
static DONE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
static RETAINED: Mutex<BTreeMap<c_int, i64>> = Mutex::new(BTreeMap::new());

thread_local! {
    static CURRENT: Cell<c_int> = const { Cell::new(-1) };
}

fn answer(key: &str) -> Option<String> {
    let text = std::fs::read_to_string(std::env::var("FAKE_CUDA").ok()?).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().to_string())
    })
}

fn number(key: &str) -> Option<u64> {
    answer(key)?.parse().ok()
}

/// Whether this is the time at which `key` says that something happens.
fn is_due(key: &str) -> bool {
    let mut done = DONE.lock().unwrap();
    let count = done.entry(key.to_string()).or_default();
    *count += 1;
    number(key) == Some(*count)
}

fn current() -> Option<c_int> {
    let device = CURRENT.get();
    let retained = RETAINED.lock().unwrap().get(&device).copied().unwrap_or(0);
    (retained > 0).then_some(device)
}

fn give_text(text: &str, out: *mut c_char, length: c_int) -> c_int {
    if text.len() + 1 > length as usize {
        return INVALID_VALUE;
    }
    for (place, byte) in text.bytes().chain([0]).enumerate() {
        unsafe { out.add(place).write(byte as c_char) };
    }
    SUCCESS
}

fn is_device(device: c_int) -> bool {
    device >= 0 && (device as u64) < number("count").unwrap_or(0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> c_int {
    if flags != 0 {
        return INVALID_VALUE;
    }
    DONE.lock().unwrap().clear();
    number("init").unwrap_or(0) as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: c_int, words: *mut *const c_char) -> c_int {
    let text: &[u8] = match error {
        2 => b"out of memory\0",
        100 => b"no CUDA-capable device is detected\0",
        802 => b"system not yet initialized\0",
        _ => return INVALID_VALUE,
    };
    unsafe { words.write(text.as_ptr().cast()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    unsafe { count.write(number("count").unwrap_or(0) as c_int) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    if !is_device(ordinal) {
        return 101;
    }
    unsafe { device.write(ordinal) };
    number(&format!("{ordinal}.open")).unwrap_or(0) as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> c_int {
    let text = answer(&format!("{device}.name")).unwrap_or("NVIDIA Fake".into());
    give_text(&text, name, length)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(
    id: *mut c_char,
    length: c_int,
    device: c_int,
) -> c_int {
    give_text(&format!("0000:{:02X}:00.0", 0x1A + device), id, length)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    which: c_int,
    device: c_int,
) -> c_int {
    let answer = match which {
        16 => number(&format!("{device}.multiprocessors")).unwrap_or(132),
        75 => number(&format!("{device}.capability")).unwrap_or(9),
        _ => return INVALID_VALUE,
    };
    unsafe { value.write(answer as c_int) };
    SUCCESS
}

fn total(device: c_int) -> usize {
    number(&format!("{device}.memory")).unwrap_or(64 << 20) as usize
}

fn used(device: c_int) -> usize {
    let memory = MEMORY.lock().unwrap();
    memory.values().filter(|(_, _, owner)| *owner == device).map(|(_, bytes, _)| bytes).sum()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> c_int {
    unsafe { bytes.write(total(device)) };
    SUCCESS
}

/// A context is the number of its GPU, and never null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(
    context: *mut *mut c_void,
    device: c_int,
) -> c_int {
    *RETAINED.lock().unwrap().entry(device).or_default() += 1;
    unsafe { context.write((device as usize + 1) as *mut c_void) };
    SUCCESS
}

/// What was not given back by then is a leak: the next call on this GPU says so.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    assert_eq!(used(device), 0, "memory of GPU {device} was not freed");
    *RETAINED.lock().unwrap().entry(device).or_default() -= 1;
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: *mut c_void) -> c_int {
    CURRENT.set(context as usize as c_int - 1);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> c_int {
    current().map_or(INVALID_CONTEXT, |_| SUCCESS)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, all: *mut usize) -> c_int {
    let Some(device) = current() else { return INVALID_CONTEXT };
    unsafe {
        free.write(total(device) - used(device));
        all.write(total(device));
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(pointer: *mut u64, bytes: usize) -> c_int {
    let Some(device) = current() else { return INVALID_CONTEXT };
    if bytes == 0 {
        return INVALID_VALUE;
    }
    if used(device) + bytes > total(device) {
        return OUT_OF_MEMORY;
    }
    let words = vec![0_u64; bytes.div_ceil(8)];
    let address = words.as_ptr() as u64;
    MEMORY.lock().unwrap().insert(address, (words, bytes, device));
    unsafe { pointer.write(address) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(pointer: u64) -> c_int {
    if MEMORY.lock().unwrap().remove(&pointer).is_some() { SUCCESS } else { INVALID_VALUE }
}

/// Whether all of it lies in one allocation of the current GPU.
fn is_ours(pointer: u64, bytes: usize) -> bool {
    let Some(device) = current() else { return false };
    let memory = MEMORY.lock().unwrap();
    let Some((start, (_, length, owner))) = memory.range(..=pointer).next_back() else {
        return false;
    };
    *owner == device && pointer + bytes as u64 <= start + *length as u64
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemsetD32_v2(pointer: u64, word: c_uint, count: usize) -> c_int {
    if !is_ours(pointer, count * 4) {
        return INVALID_VALUE;
    }
    for place in 0..count {
        unsafe { (pointer as *mut u32).add(place).write(word) };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> c_int {
    if !is_ours(to, bytes) {
        return INVALID_VALUE;
    }
    unsafe { std::ptr::copy_nonoverlapping(from.cast(), to as *mut u8, bytes) };
    if is_due(&format!("{}.flip_memory", CURRENT.get())) {
        unsafe { *(to as *mut u8).add(bytes / 2) ^= 8 };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> c_int {
    if !is_ours(from, bytes) {
        return INVALID_VALUE;
    }
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.cast(), bytes) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasCreate_v2(handle: *mut *mut c_void) -> c_int {
    let Some(device) = current() else { return NOT_INITIALIZED };
    unsafe { handle.write((device as usize + 1) as *mut c_void) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasDestroy_v2(handle: *mut c_void) -> c_int {
    if handle.is_null() { NOT_INITIALIZED } else { SUCCESS }
}

fn bf16(at: u64, place: usize) -> f32 {
    let bits = unsafe { (at as *const u16).add(place).read() };
    f32::from_bits(u32::from(bits) << 16)
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn cublasGemmEx(
    handle: *mut c_void,
    transa: c_int,
    transb: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: *const c_void,
    atype: c_int,
    lda: c_int,
    b: *const c_void,
    btype: c_int,
    ldb: c_int,
    beta: *const c_void,
    c: *mut c_void,
    ctype: c_int,
    ldc: c_int,
    compute: c_int,
    algorithm: c_int,
) -> c_int {
    let device = handle as usize as c_int - 1;
    if current() != Some(device) {
        return 1;
    }
    if let Some(code) = number(&format!("{device}.refuse_product")) {
        return code as c_int;
    }
    // Only what this fake can do: plain BF16 into FP32, as the header numbers them.
    if (transa, transb, atype, btype, ctype, compute, algorithm) != (0, 0, 14, 14, 0, 68, -1) {
        return 15;
    }
    let (alpha, beta) = unsafe { (*alpha.cast::<f32>(), *beta.cast::<f32>()) };
    let (rows, columns, inner) = (m as usize, n as usize, k as usize);
    let (lda, ldb, ldc) = (lda as usize, ldb as usize, ldc as usize);
    if !is_ours(a as u64, lda * inner * 2)
        || !is_ours(b as u64, ldb * columns * 2)
        || !is_ours(c as u64, ldc * columns * 4)
    {
        return 7;
    }
    if is_due(&format!("{device}.idle_product")) {
        return SUCCESS;
    }
    let out = c.cast::<f32>();
    for column in 0..columns {
        for row in 0..rows {
            let mut sum = 0.0_f32;
            for place in 0..inner {
                sum += bf16(a as u64, row + place * lda) * bf16(b as u64, place + column * ldb);
            }
            let at = unsafe { out.add(row + column * ldc) };
            // With beta 0 the old value is not read: it may be no number.
            let old = if beta == 0.0 { 0.0 } else { beta * unsafe { at.read() } };
            unsafe { at.write(alpha * sum + old) };
        }
    }
    if is_due(&format!("{device}.flip_product")) {
        let at = unsafe { out.add(rows / 2 + columns / 3 * ldc) };
        unsafe { at.write(f32::from_bits(at.read().to_bits() ^ (1 << 20))) };
    }
    SUCCESS
}
