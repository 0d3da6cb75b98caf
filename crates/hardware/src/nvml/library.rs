//! The entry points of the library, and what they fill in.
//!
//! Types and names come from the bindings of `nvml-wrapper-sys`. Drivers differ in what they
//! export: a function that is missing is a field that is not known.

use super::snapshot::{Fabric, Gpu, Link, Remapped, Snapshot};
use super::work::GpuUse;
use lindos_model::PciAddress;
use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlDevice_t, nvmlGpuFabricInfo_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlUtilization_t,
};
use std::ffi::{CStr, OsStr, c_char, c_uint};
use std::fmt;

const SUCCESS: u32 = 0;
const NOT_SUPPORTED: u32 = 3;
const FUNCTION_NOT_FOUND: u32 = 13;
/// `NVML_ERROR_DRIVER_NOT_LOADED`
pub const DRIVER_NOT_LOADED: u32 = 9;

const VOLATILE: u32 = 0;
const UNCORRECTED: u32 = 1;
const SLOWDOWN: u32 = 1;
const SM_CLOCK: u32 = 1;
const PCIE_SENT: u32 = 0;
const PCIE_RECEIVED: u32 = 1;
const LINK_REPLAY: u32 = 0;
const LINK_RECOVERY: u32 = 1;
const LINKS_MAX: u32 = 18;
const PROCESSES_MAX: usize = 128;
const GPUS_MAX: u32 = 64;

/// A loaded and initialised library.
pub struct Library {
    nvml: NvmlLib,
}

/// Why the library is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LibraryError {
    /// It cannot be loaded.
    Load(String),
    /// It was loaded and says no: its number, and its words.
    Call { what: &'static str, code: u32, words: String },
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LibraryError::Load(why) => write!(f, "the library cannot be loaded: {why}"),
            LibraryError::Call { what, code, words } => {
                write!(f, "{what} failed: {words} (NVML error {code})")
            }
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Library")
    }
}

/// Calls an entry point; one that the library lacks answers as NVML itself would.
macro_rules! call {
    ($self:ident.$name:ident($($argument:expr),*)) => {
        match &$self.nvml.$name {
            // SAFETY: the function has the type that the headers of NVML give it; every pointer
            // is to a value that lives through the call, and every length is that of its buffer.
            Ok(function) => unsafe { function($($argument),*) },
            Err(_) => FUNCTION_NOT_FOUND,
        }
    };
}

/// A value that an entry point writes behind a pointer; `None` when it fails.
macro_rules! ask {
    ($self:ident.$name:ident($($argument:expr),*) -> $type:ty) => {{
        let mut value: $type = Default::default();
        (call!($self.$name($($argument,)* &raw mut value)) == SUCCESS).then_some(value)
    }};
}

impl Library {
    pub fn open(path: &OsStr) -> Result<Library, LibraryError> {
        // SAFETY: loading runs the initialisers of the library; it is the driver's own, or one
        // that the operator has named in its place.
        let loaded = unsafe { NvmlLib::new(path) };
        let nvml = loaded.map_err(|error| LibraryError::Load(error.to_string()))?;
        let library = Library { nvml };
        match call!(library.nvmlInit_v2()) {
            SUCCESS => Ok(library),
            code => {
                let error = library.error("nvmlInit", code);
                // Not initialised: there is nothing to shut down.
                std::mem::forget(library);
                Err(error)
            }
        }
    }

    pub fn read(&self) -> Result<Snapshot, LibraryError> {
        let mut count: c_uint = 0;
        match call!(self.nvmlDeviceGetCount_v2(&raw mut count)) {
            SUCCESS => {}
            code => return Err(self.error("nvmlDeviceGetCount", code)),
        }
        let mut snapshot = Snapshot { driver: self.driver(), ..Snapshot::default() };
        for index in 0..count.min(GPUS_MAX) {
            let mut device: nvmlDevice_t = std::ptr::null_mut();
            match call!(self.nvmlDeviceGetHandleByIndex_v2(index, &raw mut device)) {
                SUCCESS => snapshot.gpus.push(self.gpu(index, device)),
                code => snapshot.lost.push((index, self.words(code))),
            }
        }
        Ok(snapshot)
    }

    /// What each GPU does now; those that cannot be asked are left out.
    pub fn uses(&self) -> Result<Vec<GpuUse>, LibraryError> {
        let mut count: c_uint = 0;
        match call!(self.nvmlDeviceGetCount_v2(&raw mut count)) {
            SUCCESS => {}
            code => return Err(self.error("nvmlDeviceGetCount", code)),
        }
        let of = |index| {
            let mut device: nvmlDevice_t = std::ptr::null_mut();
            let code = call!(self.nvmlDeviceGetHandleByIndex_v2(index, &raw mut device));
            (code == SUCCESS).then(|| self.gpu_use(device))
        };
        Ok((0..count.min(GPUS_MAX)).filter_map(of).collect())
    }

    fn gpu_use(&self, device: nvmlDevice_t) -> GpuUse {
        let mut rates = nvmlUtilization_t { gpu: 0, memory: 0 };
        let code = call!(self.nvmlDeviceGetUtilizationRates(device, &raw mut rates));
        let rates = (code == SUCCESS).then_some(rates);
        let moved = |way: u32| ask!(self.nvmlDeviceGetPcieThroughput(device, way) -> u32);
        GpuUse {
            busy_percent: rates.map(|rates| rates.gpu),
            memory_percent: rates.map(|rates| rates.memory),
            milliwatts: ask!(self.nvmlDeviceGetPowerUsage(device) -> u32),
            limit_milliwatts: ask!(self.nvmlDeviceGetEnforcedPowerLimit(device) -> u32),
            bus_kib_per_s: moved(PCIE_SENT).zip(moved(PCIE_RECEIVED)).map(|(a, b)| a.max(b)),
            pids: self.pids(device),
        }
    }

    fn driver(&self) -> String {
        let mut buffer: [c_char; 96] = [0; 96];
        let length = buffer.len() as c_uint;
        match call!(self.nvmlSystemGetDriverVersion(buffer.as_mut_ptr(), length)) {
            SUCCESS => text(&buffer),
            _ => String::new(),
        }
    }

    fn gpu(&self, index: u32, device: nvmlDevice_t) -> Gpu {
        let busy = {
            let mut value = nvmlUtilization_t { gpu: 0, memory: 0 };
            let code = call!(self.nvmlDeviceGetUtilizationRates(device, &raw mut value));
            (code == SUCCESS).then_some(value.gpu)
        };
        Gpu {
            index,
            pci: self.pci(device),
            uuid: self.uuid(device),
            uncorrected_errors: ask!(self.nvmlDeviceGetTotalEccErrors(device, UNCORRECTED, VOLATILE) -> u64),
            remapped: self.remapped(device),
            throttle: ask!(self.nvmlDeviceGetCurrentClocksThrottleReasons(device) -> u64),
            celsius: ask!(self.nvmlDeviceGetTemperature(device, 0) -> u32),
            slowdown_celsius: ask!(self.nvmlDeviceGetTemperatureThreshold(device, SLOWDOWN) -> u32),
            milliwatts: ask!(self.nvmlDeviceGetPowerUsage(device) -> u32),
            limit_milliwatts: ask!(self.nvmlDeviceGetEnforcedPowerLimit(device) -> u32),
            default_limit_milliwatts: ask!(self.nvmlDeviceGetPowerManagementDefaultLimit(device) -> u32),
            sm_megahertz: ask!(self.nvmlDeviceGetClockInfo(device, SM_CLOCK) -> u32),
            sm_megahertz_max: ask!(self.nvmlDeviceGetMaxClockInfo(device, SM_CLOCK) -> u32),
            busy_percent: busy,
            pcie_width: ask!(self.nvmlDeviceGetCurrPcieLinkWidth(device) -> u32),
            pcie_width_max: ask!(self.nvmlDeviceGetMaxPcieLinkWidth(device) -> u32),
            pcie_generation: ask!(self.nvmlDeviceGetCurrPcieLinkGeneration(device) -> u32),
            pcie_generation_max: ask!(self.nvmlDeviceGetMaxPcieLinkGeneration(device) -> u32),
            links: self.links(device),
            fabric: self.fabric(device),
            pids: self.pids(device),
        }
    }

    fn pci(&self, device: nvmlDevice_t) -> Option<PciAddress> {
        let mut info = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: [0; 32],
        };
        let code = call!(self.nvmlDeviceGetPciInfo_v3(device, &raw mut info));
        (code == SUCCESS).then(|| text(&info.busId).parse().ok()).flatten()
    }

    fn uuid(&self, device: nvmlDevice_t) -> String {
        let mut buffer: [c_char; 96] = [0; 96];
        let length = buffer.len() as c_uint;
        match call!(self.nvmlDeviceGetUUID(device, buffer.as_mut_ptr(), length)) {
            SUCCESS => text(&buffer),
            _ => String::new(),
        }
    }

    fn remapped(&self, device: nvmlDevice_t) -> Option<Remapped> {
        let (mut corrected, mut uncorrected, mut pending, mut failed) = (0, 0, 0, 0);
        let code = call!(self.nvmlDeviceGetRemappedRows(
            device,
            &raw mut corrected,
            &raw mut uncorrected,
            &raw mut pending,
            &raw mut failed
        ));
        (code == SUCCESS).then_some(Remapped { is_pending: pending != 0, has_failed: failed != 0 })
    }

    /// Up to the first number that the GPU does not have.
    fn links(&self, device: nvmlDevice_t) -> Vec<Link> {
        let counter = |link: u32, counter: u32| ask!(self.nvmlDeviceGetNvLinkErrorCounter(device, link, counter) -> u64);
        let link = |number: u32| {
            let is_up = ask!(self.nvmlDeviceGetNvLinkState(device, number) -> u32)? != 0;
            let (replays, recoveries) =
                (counter(number, LINK_REPLAY), counter(number, LINK_RECOVERY));
            Some(Link { number, is_up, recoveries, replays })
        };
        (0..LINKS_MAX).map_while(link).collect()
    }

    fn fabric(&self, device: nvmlDevice_t) -> Option<Fabric> {
        let mut info =
            nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 0 };
        if call!(self.nvmlDeviceGetGpuFabricInfo(device, &raw mut info)) != SUCCESS {
            return None;
        }
        match (info.state, info.status) {
            (1, _) => Some(Fabric::Waits),
            (2, _) => Some(Fabric::Works),
            (3, SUCCESS) => Some(Fabric::Done),
            (3, NOT_SUPPORTED) => None,
            (3, status) => Some(Fabric::Failed(status)),
            _ => None,
        }
    }

    fn pids(&self, device: nvmlDevice_t) -> Vec<u32> {
        let empty =
            nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
        let mut buffer = vec![empty; PROCESSES_MAX];
        let mut count = PROCESSES_MAX as c_uint;
        let code = call!(self.nvmlDeviceGetComputeRunningProcesses_v3(
            device,
            &raw mut count,
            buffer.as_mut_ptr()
        ));
        if code != SUCCESS {
            return Vec::new();
        }
        buffer.truncate(count as usize);
        buffer.iter().map(|process| process.pid).collect()
    }

    fn error(&self, what: &'static str, code: u32) -> LibraryError {
        LibraryError::Call { what, code, words: self.words(code) }
    }

    fn words(&self, code: u32) -> String {
        let Ok(function) = &self.nvml.nvmlErrorString else { return "unknown error".to_string() };
        // SAFETY: it takes any number and gives a pointer to a constant text, or null.
        let words = unsafe { function(code) };
        if words.is_null() {
            return "unknown error".to_string();
        }
        // SAFETY: not null, and ended by a zero, as NVML promises.
        unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = call!(self.nvmlShutdown());
    }
}

/// What stands before the first zero.
fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> =
        buffer.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
