//! Two libraries that are loaded at run time, and no more of them than is called.
//!
//! The types are written out from the headers of CUDA. A library without one of the entry points
//! is of no use, and the error names it.

use libloading::Library;
use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::fmt;

/// Why something cannot be done with a GPU: words for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuError {
    Load(String),
    Call { what: &'static str, code: c_int, words: String },
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuError::Load(why) => f.write_str(why),
            GpuError::Call { what, code, words } => write!(f, "{what} failed: {words} ({code})"),
        }
    }
}

/// A table of entry points, and the library that they lie in, which stays loaded as long.
macro_rules! entry_points {
    ($name:ident { $($field:ident $symbol:literal ($($argument:ty),*);)* }) => {
        pub struct $name {
            $(pub $field: unsafe extern "C" fn($($argument),*) -> c_int,)*
            _library: Library,
        }

        impl $name {
            pub fn open(path: &OsStr) -> Result<$name, GpuError> {
                // SAFETY: loading runs the initialisers of the library; it is the driver's own or
                // CUDA's, or one that the operator has named in its place.
                let loaded = unsafe { Library::new(path) };
                let library = loaded.map_err(|error| GpuError::Load(error.to_string()))?;
                $(
                    // SAFETY: the entry point has the type that the headers of CUDA give it.
                    let $field = *unsafe { library.get($symbol) }
                        .map_err(|error| GpuError::Load(error.to_string()))?;
                )*
                Ok($name { $($field,)* _library: library })
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

/// An address in the memory of a GPU.
pub type DevicePointer = u64;
pub type Context = *mut c_void;
pub type BlasHandle = *mut c_void;

entry_points!(Cuda {
    init b"cuInit" (c_uint);
    error_string b"cuGetErrorString" (c_int, *mut *const c_char);
    device_count b"cuDeviceGetCount" (*mut c_int);
    device b"cuDeviceGet" (*mut c_int, c_int);
    device_name b"cuDeviceGetName" (*mut c_char, c_int, c_int);
    device_pci b"cuDeviceGetPCIBusId" (*mut c_char, c_int, c_int);
    device_attribute b"cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
    device_memory b"cuDeviceTotalMem_v2" (*mut usize, c_int);
    retain_context b"cuDevicePrimaryCtxRetain" (*mut Context, c_int);
    release_context b"cuDevicePrimaryCtxRelease_v2" (c_int);
    use_context b"cuCtxSetCurrent" (Context);
    synchronize b"cuCtxSynchronize" ();
    memory_info b"cuMemGetInfo_v2" (*mut usize, *mut usize);
    allocate b"cuMemAlloc_v2" (*mut DevicePointer, usize);
    free b"cuMemFree_v2" (DevicePointer);
    set_words b"cuMemsetD32_v2" (DevicePointer, c_uint, usize);
    to_device b"cuMemcpyHtoD_v2" (DevicePointer, *const c_void, usize);
    to_host b"cuMemcpyDtoH_v2" (*mut c_void, DevicePointer, usize);
});

entry_points!(Blas {
    create b"cublasCreate_v2" (*mut BlasHandle);
    destroy b"cublasDestroy_v2" (BlasHandle);
    gemm b"cublasGemmEx" (
        BlasHandle, c_int, c_int, c_int, c_int, c_int, *const c_void,
        DevicePointer, c_int, c_int, DevicePointer, c_int, c_int, *const c_void,
        DevicePointer, c_int, c_int, c_int, c_int
    );
});

impl Cuda {
    /// What a call came to.
    pub fn check(&self, what: &'static str, code: c_int) -> Result<(), GpuError> {
        if code == 0 { Ok(()) } else { Err(GpuError::Call { what, code, words: self.words(code) }) }
    }

    fn words(&self, code: c_int) -> String {
        let mut words = std::ptr::null();
        // SAFETY: it takes any number, and writes a pointer to a constant text, or null.
        let answer = unsafe { (self.error_string)(code, &raw mut words) };
        if answer != 0 || words.is_null() {
            return "unknown error".to_string();
        }
        // SAFETY: not null, and ended by a zero, as CUDA promises.
        unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
    }
}
