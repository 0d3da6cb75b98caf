//! One GPU: its names, its memory, and products on it.

use super::library::{Blas, BlasHandle, Cuda, DevicePointer, GpuError};
use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;

const MULTIPROCESSORS: c_int = 16;
const CAPABILITY_MAJOR: c_int = 75;
/// From here on (Ampere) GPUs compute in BF16.
const BF16_SINCE: c_int = 8;
const BF16: c_int = 14;
const FP32: c_int = 0;
const COMPUTE_FP32: c_int = 68;
const AS_IT_LIES: c_int = 0;
const DEFAULT_ALGORITHM: c_int = -1;

/// A GPU whose context is the current one of this thread.
#[derive(Debug)]
pub struct Device<'a> {
    cuda: &'a Cuda,
    ordinal: c_int,
    pub name: String,
    pub pci: String,
    pub multiprocessors: c_int,
    pub has_bf16: bool,
    pub bytes: u64,
    /// A context is current in one thread.
    _of_this_thread: PhantomData<*mut ()>,
}

pub fn count(cuda: &Cuda) -> Result<u32, GpuError> {
    // SAFETY: it takes 0.
    cuda.check("cuInit", unsafe { (cuda.init)(0) })?;
    let mut count = 0;
    // SAFETY: the pointer is to a local that lives through the call.
    cuda.check("cuDeviceGetCount", unsafe { (cuda.device_count)(&raw mut count) })?;
    Ok(count.unsigned_abs())
}

/// The memory of one GPU.
pub fn bytes(cuda: &Cuda, index: u32) -> Result<u64, GpuError> {
    let (mut device, mut bytes) = (0, 0);
    // SAFETY: the pointers are to locals that live through the calls.
    unsafe {
        cuda.check("cuDeviceGet", (cuda.device)(&raw mut device, index.cast_signed()))?;
        cuda.check("cuDeviceTotalMem", (cuda.device_memory)(&raw mut bytes, device))?;
    }
    Ok(bytes as u64)
}

impl<'a> Device<'a> {
    pub fn open(cuda: &'a Cuda, index: u32) -> Result<Device<'a>, GpuError> {
        let mut device = 0;
        let mut context = std::ptr::null_mut();
        let bytes = bytes(cuda, index)?;
        // SAFETY: all pointers are to locals that live through the calls; a device and a context
        // are used only once their calls have succeeded.
        unsafe {
            cuda.check("cuDeviceGet", (cuda.device)(&raw mut device, index.cast_signed()))?;
            let code = (cuda.retain_context)(&raw mut context, device);
            cuda.check("cuDevicePrimaryCtxRetain", code)?;
        }
        let mut opened = Device {
            cuda,
            ordinal: device,
            name: String::new(),
            pci: String::new(),
            multiprocessors: 0,
            has_bf16: false,
            bytes,
            _of_this_thread: PhantomData,
        };
        // SAFETY: the context was retained above.
        cuda.check("cuCtxSetCurrent", unsafe { (cuda.use_context)(context) })?;
        opened.name = opened.text("cuDeviceGetName", cuda.device_name)?;
        opened.pci = opened.text("cuDeviceGetPCIBusId", cuda.device_pci)?.to_lowercase();
        opened.multiprocessors = opened.attribute(MULTIPROCESSORS)?;
        opened.has_bf16 = opened.attribute(CAPABILITY_MAJOR)? >= BF16_SINCE;
        Ok(opened)
    }

    fn text(
        &self,
        what: &'static str,
        call: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int,
    ) -> Result<String, GpuError> {
        let mut buffer: [c_char; 128] = [0; 128];
        // SAFETY: the length is that of the buffer, less one zero that stays at its end.
        let code = unsafe { call(buffer.as_mut_ptr(), 127, self.ordinal) };
        self.cuda.check(what, code)?;
        let bytes: Vec<u8> =
            buffer.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned()).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn attribute(&self, attribute: c_int) -> Result<c_int, GpuError> {
        let mut value = 0;
        // SAFETY: the pointer is to a local that lives through the call.
        let code = unsafe { (self.cuda.device_attribute)(&raw mut value, attribute, self.ordinal) };
        self.cuda.check("cuDeviceGetAttribute", code)?;
        Ok(value)
    }

    /// Bytes that nobody has taken.
    pub fn free_bytes(&self) -> Result<u64, GpuError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the pointers are to locals that live through the call.
        let code = unsafe { (self.cuda.memory_info)(&raw mut free, &raw mut total) };
        self.cuda.check("cuMemGetInfo", code)?;
        Ok(free as u64)
    }

    pub fn allocate(&self, bytes: usize) -> Result<Buffer<'_>, GpuError> {
        let mut pointer = 0;
        // SAFETY: the pointer is to a local that lives through the call.
        let code = unsafe { (self.cuda.allocate)(&raw mut pointer, bytes) };
        self.cuda.check("cuMemAlloc", code)?;
        Ok(Buffer { device: self, pointer, bytes })
    }

    /// Waits until all is done that was begun.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        // SAFETY: the context is current.
        self.cuda.check("cuCtxSynchronize", unsafe { (self.cuda.synchronize)() })
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        // SAFETY: retained once, in `open`; buffers and products borrow the device.
        unsafe { (self.cuda.release_context)(self.ordinal) };
    }
}

/// Memory of a GPU.
#[derive(Debug)]
pub struct Buffer<'a> {
    device: &'a Device<'a>,
    pointer: DevicePointer,
    bytes: usize,
}

impl Buffer<'_> {
    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn write(&self, offset: usize, data: &[u8]) -> Result<(), GpuError> {
        self.assert_inside(offset, data.len());
        let to = self.pointer + offset as u64;
        // SAFETY: the source is as long as is said, and the target lies inside the allocation.
        let code = unsafe { (self.device.cuda.to_device)(to, data.as_ptr().cast(), data.len()) };
        self.device.cuda.check("cuMemcpyHtoD", code)
    }

    pub fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), GpuError> {
        self.assert_inside(offset, data.len());
        let from = self.pointer + offset as u64;
        // SAFETY: the target is as long as is said, and the source lies inside the allocation.
        let code =
            unsafe { (self.device.cuda.to_host)(data.as_mut_ptr().cast(), from, data.len()) };
        self.device.cuda.check("cuMemcpyDtoH", code)
    }

    /// The same word everywhere.
    pub fn set(&self, word: u32) -> Result<(), GpuError> {
        // SAFETY: as many whole words as the allocation has.
        let code = unsafe { (self.device.cuda.set_words)(self.pointer, word, self.bytes / 4) };
        self.device.cuda.check("cuMemsetD32", code)
    }

    fn assert_inside(&self, offset: usize, length: usize) {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.bytes), "outside of the memory of a GPU");
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: allocated once, in `Device::allocate`, and the context is still current.
        unsafe { (self.device.cuda.free)(self.pointer) };
    }
}

/// Products of square matrices of BF16 into FP32, column by column.
#[derive(Debug)]
pub struct Multiplier<'a> {
    blas: &'a Blas,
    handle: BlasHandle,
    side: c_int,
    device: &'a Device<'a>,
}

impl<'a> Multiplier<'a> {
    pub fn new(
        blas: &'a Blas,
        device: &'a Device<'a>,
        side: u16,
    ) -> Result<Multiplier<'a>, GpuError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the pointer is to a local that lives through the call; a context is current.
        check("cublasCreate", unsafe { (blas.create)(&raw mut handle) })?;
        Ok(Multiplier { blas, handle, side: c_int::from(side), device })
    }

    /// `c = a · b`. Returns before it is done.
    pub fn multiply(&self, a: &Buffer, b: &Buffer, c: &Buffer) -> Result<(), GpuError> {
        let side = self.side;
        let cells = side.unsigned_abs() as usize * side.unsigned_abs() as usize;
        assert!(a.bytes >= cells * 2 && b.bytes >= cells * 2 && c.bytes >= cells * 4);
        let (one, zero) = (1.0_f32, 0.0_f32);
        let one: *const c_void = (&raw const one).cast();
        let zero: *const c_void = (&raw const zero).cast();
        // SAFETY: the handle is live, the factors are read before the call returns, and the
        // matrices are as large as was asserted.
        let code = unsafe {
            (self.blas.gemm)(
                self.handle,
                AS_IT_LIES,
                AS_IT_LIES,
                side,
                side,
                side,
                one,
                a.pointer,
                BF16,
                side,
                b.pointer,
                BF16,
                side,
                zero,
                c.pointer,
                FP32,
                side,
                COMPUTE_FP32,
                DEFAULT_ALGORITHM,
            )
        };
        check("cublasGemmEx", code)
    }

    pub fn wait(&self) -> Result<(), GpuError> {
        self.device.synchronize()
    }
}

impl Drop for Multiplier<'_> {
    fn drop(&mut self) {
        // SAFETY: made once, in `new`.
        unsafe { (self.blas.destroy)(self.handle) };
    }
}

/// cuBLAS numbers its answers apart from CUDA's.
fn check(what: &'static str, code: c_int) -> Result<(), GpuError> {
    if code == 0 {
        return Ok(());
    }
    let words = match code {
        1 => "not initialized",
        3 => "out of memory",
        7 => "a wrong argument",
        8 => "not on this architecture",
        13 => "it did not run",
        14 => "an internal error",
        15 => "not supported",
        _ => "cuBLAS status",
    };
    Err(GpuError::Call { what, code, words: words.to_string() })
}
