//! NVIDIA GPUs through NVML, the library of their driver, which is loaded at run time.
//!
//! [`Snapshot`] is all that the checks ask of the GPUs, read in one go and shared by them.
//! [`library`] reads it from the real library, or from any other with the same entry points: a
//! machine without a driver builds and tests all of this. [`checks`] say what is wrong with it;
//! [`UseWatch`] asks whether GPUs work, for those who look into a silence.

mod checks;
mod library;
mod shared;
mod snapshot;
mod work;

#[cfg(test)]
mod tests;

pub use checks::checks;
pub use library::Library;
pub use shared::NvmlSource;
pub use snapshot::{Fabric, Gpu, Link, Remapped, Snapshot};
pub use work::{GpuUse, GpuWork, UseWatch, work_of};
