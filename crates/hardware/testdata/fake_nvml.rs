//! A library with the entry points of NVML, whose answers stand in the file that `FAKE_NVML` names.
//!
//! Tests compile it with `rustc --crate-type cdylib` and load it in place of the driver's own, so
//! that finding the symbols, passing the structures and reading them back is what is tested. The
//! types are written out here once more, from the header of NVML, and not shared with the reader:
//! if the two differ, tests fail.
//!
//! A line of the file is `KEY VALUE`: `count 8`, `init 9`, `driver 550.54`, or `GPU.KEY VALUE` with
//! the number of a GPU: `3.temperature 92`. What is not there is not supported (error 3).

#![allow(non_snake_case)]

use std::ffi::{c_char, c_uint, c_ulonglong, c_void};

const SUCCESS: c_uint = 0;
const INVALID_ARGUMENT: c_uint = 2;
const NOT_SUPPORTED: c_uint = 3;
const INSUFFICIENT_SIZE: c_uint = 7;

type Device = *mut c_void;

#[repr(C)]
pub struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_sub_system_id: c_uint,
    bus_id: [c_char; 32],
}

#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[repr(C)]
pub struct ProcessInfo {
    pid: c_uint,
    used_gpu_memory: c_ulonglong,
    gpu_instance_id: c_uint,
    compute_instance_id: c_uint,
}

#[repr(C)]
pub struct FabricInfo {
    cluster_uuid: [u8; 16],
    status: c_uint,
    clique_id: c_uint,
    state: c_uint,
}

/// The file is read at every call: a test changes it between two looks.
fn answer(key: &str) -> Option<String> {
    let text = std::fs::read_to_string(std::env::var("FAKE_NVML").ok()?).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().to_string())
    })
}

fn number(key: &str) -> Option<u64> {
    answer(key)?.parse().ok()
}

/// A handle is the number of the GPU, and never null.
fn of(device: Device, key: &str) -> String {
    format!("{}.{key}", device as usize - 1)
}

fn give<T: TryFrom<u64>>(key: &str, out: *mut T) -> c_uint {
    let Some(value) = number(key).and_then(|value| T::try_from(value).ok()) else {
        return NOT_SUPPORTED;
    };
    if out.is_null() {
        return INVALID_ARGUMENT;
    }
    unsafe { out.write(value) };
    SUCCESS
}

fn give_text(value: &str, out: *mut c_char, length: usize) -> c_uint {
    if value.len() + 1 > length {
        return INSUFFICIENT_SIZE;
    }
    for (place, byte) in value.bytes().chain([0]).enumerate() {
        unsafe { out.add(place).write(byte as c_char) };
    }
    SUCCESS
}

fn refusal(key: &str) -> c_uint {
    number(key).unwrap_or(0) as c_uint
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    refusal("init")
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(code: c_uint) -> *const c_char {
    let words: &[u8] = match code {
        9 => b"Driver Not Loaded\0",
        15 => b"GPU is lost\0",
        _ => b"Some error\0",
    };
    words.as_ptr().cast()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> c_uint {
    match answer("driver") {
        Some(driver) => give_text(&driver, version, length as usize),
        None => NOT_SUPPORTED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_uint {
    give("count", count)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Device) -> c_uint {
    let refused = refusal(&format!("{index}.handle"));
    if refused == SUCCESS {
        unsafe { device.write((index as usize + 1) as Device) };
    }
    refused
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(device: Device, pci: *mut PciInfo) -> c_uint {
    let Some(address) = answer(&of(device, "pci")) else { return NOT_SUPPORTED };
    let info = unsafe { &mut *pci };
    give_text(&address, info.bus_id.as_mut_ptr(), info.bus_id.len())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(device: Device, uuid: *mut c_char, length: c_uint) -> c_uint {
    match answer(&of(device, "uuid")) {
        Some(text) => give_text(&text, uuid, length as usize),
        None => NOT_SUPPORTED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Device,
    kind: c_uint,
    counter: c_uint,
    errors: *mut c_ulonglong,
) -> c_uint {
    give(&of(device, &format!("ecc_{kind}_{counter}")), errors)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetRemappedRows(
    device: Device,
    corrected: *mut c_uint,
    uncorrected: *mut c_uint,
    pending: *mut c_uint,
    failed: *mut c_uint,
) -> c_uint {
    unsafe {
        corrected.write(0);
        uncorrected.write(0);
    }
    match give(&of(device, "remap_pending"), pending) {
        SUCCESS => give(&of(device, "remap_failed"), failed),
        error => error,
    }
}

macro_rules! simple {
    ($($name:ident $key:literal $type:ty;)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name(device: Device, out: *mut $type) -> c_uint {
                give(&of(device, $key), out)
            }
        )*
    };
}

simple! {
    nvmlDeviceGetCurrentClocksThrottleReasons "throttle" c_ulonglong;
    nvmlDeviceGetPowerUsage "power" c_uint;
    nvmlDeviceGetEnforcedPowerLimit "power_limit" c_uint;
    nvmlDeviceGetPowerManagementDefaultLimit "power_default" c_uint;
    nvmlDeviceGetCurrPcieLinkWidth "pcie_width" c_uint;
    nvmlDeviceGetMaxPcieLinkWidth "pcie_width_max" c_uint;
    nvmlDeviceGetCurrPcieLinkGeneration "pcie_generation" c_uint;
    nvmlDeviceGetMaxPcieLinkGeneration "pcie_generation_max" c_uint;
}

macro_rules! chosen {
    ($($name:ident $key:literal;)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name(device: Device, which: c_uint, out: *mut c_uint) -> c_uint {
                give(&of(device, &format!("{}_{which}", $key)), out)
            }
        )*
    };
}

chosen! {
    nvmlDeviceGetTemperature "temperature";
    nvmlDeviceGetTemperatureThreshold "threshold";
    nvmlDeviceGetClockInfo "clock";
    nvmlDeviceGetMaxClockInfo "clock_max";
    nvmlDeviceGetNvLinkState "link";
    nvmlDeviceGetPcieThroughput "pcie_throughput";
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    device: Device,
    link: c_uint,
    counter: c_uint,
    out: *mut c_ulonglong,
) -> c_uint {
    give(&of(device, &format!("link_{link}_errors_{counter}")), out)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(device: Device, out: *mut Utilization) -> c_uint {
    let Some(busy) = number(&of(device, "busy")) else { return NOT_SUPPORTED };
    let memory = number(&of(device, "memory_busy")).unwrap_or(0) as c_uint;
    unsafe { out.write(Utilization { gpu: busy as c_uint, memory }) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuFabricInfo(device: Device, out: *mut FabricInfo) -> c_uint {
    let Some(state) = number(&of(device, "fabric_state")) else { return NOT_SUPPORTED };
    let status = number(&of(device, "fabric_status")).unwrap_or(0) as c_uint;
    let info = FabricInfo { cluster_uuid: [0; 16], status, clique_id: 1, state: state as c_uint };
    unsafe { out.write(info) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    infos: *mut ProcessInfo,
) -> c_uint {
    let pids = answer(&of(device, "pids")).unwrap_or_default();
    let pids: Vec<c_uint> = pids.split(' ').filter_map(|pid| pid.parse().ok()).collect();
    let room = unsafe { count.read() } as usize;
    unsafe { count.write(pids.len() as c_uint) };
    if pids.len() > room {
        return INSUFFICIENT_SIZE;
    }
    for (place, pid) in pids.into_iter().enumerate() {
        let info =
            ProcessInfo { pid, used_gpu_memory: 1, gpu_instance_id: 0, compute_instance_id: 0 };
        unsafe { infos.add(place).write(info) };
    }
    SUCCESS
}
