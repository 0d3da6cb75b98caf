//! GPUs, beyond their numbered errors; and the libraries that speak to them.

use super::means::{BY_USER, LOST, SET_UP, WARNING};
use super::{Rule, rule};
use lindos_model::{Action, Severity, Suspect};

pub static RULES: &[Rule] = &[
    // Without a number: before the driver has the device, or after it gave it up.
    rule(
        "gpu.fallen_off_bus_no_xid",
        LOST,
        "fallen off the bus",
        r"NVRM:.*?(?:GPU (?:at )?(?:PCI:)?(?<pci>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\b.*)?fallen off the bus",
    ),
    rule(
        "gpu.nvlink_post_rx_detect_failure",
        (Severity::Warning, Action::ResetGpu, Suspect::Hardware),
        "knvlink",
        r"postRxDetLinkMask failed|Rx Detect Link mask",
    ),
    // A GPU's memory was freed while an adapter still had it registered.
    rule(
        "gpu.peermem_invalid_context",
        (Severity::Warning, Action::RestartApp, Suspect::Software),
        "detected invalid context",
        r"nvidia[-_]peermem.*detected invalid context",
    ),
    rule(
        "gpu.init_failed",
        (Severity::GpuFatal, Action::ResetGpu, Suspect::Unclear),
        "NVRM",
        r"RmInitAdapter failed|rm_init_adapter failed|GPU initialization failed|Cannot attach gpu|NVRM: GPU .*: Failed to (?:enable MSI-X|map regs)",
    ),
    rule("gpu.driver_mismatch", SET_UP, "mismatch", r"NVRM: API mismatch|nvidia.*version mismatch"),
    rule(
        "gpu.driver_load_failed",
        SET_UP,
        "NVRM: ",
        r"NVRM: (?:The NVIDIA probe routine failed|None of the NVIDIA devices were (?:probed|initialized))",
    ),
    rule(
        "gpu.bar_unassigned",
        SET_UP,
        "NVRM: ",
        r"NVRM: (?:This PCI I/O region assigned to your NVIDIA device is invalid|BAR\d+ is 0M)",
    ),
    // Accelerators of another maker.
    rule(
        "gpu.amd_ras_uncorrectable",
        (Severity::GpuFatal, Action::ResetGpu, Suspect::Hardware),
        "amdgpu",
        r"amdgpu.*(?:[1-9]\d* (?:new )?uncorrectable hardware errors|RAS.*poison|fatal error detected)",
    ),
    rule(
        "gpu.amd_reset",
        (Severity::GpuFatal, Action::ResetGpu, Suspect::Unclear),
        "amdgpu",
        r"amdgpu.*GPU reset (?:begin|\(\d+\) failed|end with ret = -\d+)",
    ),
    rule(
        "gpu.amd_ring_timeout",
        (Severity::AppFatal, Action::RestartApp, Suspect::Unclear),
        "amdgpu",
        r"amdgpu.*ring [\w.]+ timeout",
    ),
    rule("gpu.amd_page_fault", BY_USER, "page fault", r"amdgpu.*page fault \(src_id"),
    // A library of collectives ran into memory that is not there.
    rule(
        "app.nccl_segfault",
        (Severity::Warning, Action::RestartApp, Suspect::Software),
        "libnccl",
        r"segfault at .* in libnccl\.so",
    ),
    rule(
        "app.efa_or_rdma_segfault",
        (Severity::Warning, Action::RestartApp, Suspect::Software),
        "segfault at",
        r"segfault at .* in (?:libibverbs|libmlx5|librdmacm|libfabric|libnccl-net)[\w.-]*",
    ),
    rule(
        "gpu.fabric_manager",
        WARNING,
        "nvidia-nvswitch",
        r"nvidia-nvswitch.*(?:[Ff]ailed to (?:initialize|probe|bring up)|device initialization failed)",
    ),
];
