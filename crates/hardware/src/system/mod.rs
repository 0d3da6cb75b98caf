//! Checks of the system around the GPUs: adapters, disks, memory, clock, names, versions.
//!
//! All of them read files below a [`Root`], which is `/` on a real machine and a folder in tests.

mod clock;
mod expect;
mod memory;
mod mounts;
mod pci;
mod ports;
mod reach;
mod root;
mod versions;

pub use expect::Expectations;
pub use root::Root;

use crate::health::Check;

/// All of them.
pub fn checks(root: &Root, expected: &Expectations) -> Vec<Box<dyn Check>> {
    vec![
        Box::new(ports::InfinibandPorts::new(root.clone())),
        Box::new(ports::EthernetPorts::new(root.clone())),
        Box::new(pci::Devices::new(root.clone(), expected.devices.clone())),
        Box::new(pci::Links::new(root.clone())),
        Box::new(memory::Memory::new(root.clone(), expected.memory_bytes)),
        Box::new(memory::Edac::new(root.clone())),
        Box::new(memory::Processors::new(root.clone(), expected.cpus)),
        Box::new(mounts::Space::new(root.clone())),
        Box::new(clock::Clock),
        Box::new(reach::Names::new(expected.names.clone())),
        Box::new(reach::Folders::new(expected.folders.clone())),
        Box::new(versions::Versions::new(root.clone(), expected.versions.clone())),
    ]
}
