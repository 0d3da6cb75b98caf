//! The PCI Express bus: AER, lost and degraded links, hot plug, address translation.

use super::means::{CORRECTED, LOOK_AT_IT, LOST, TEST_IT, WARNING};
use super::{Rule, harmless, rule};
use lindos_model::{Action, Severity, Suspect};

/// The end that reports is named first; the one in error after "received:" or "from".
pub static RULES: &[Rule] = &[
    harmless("AER:", r"AER: (?:enabled with IRQ|can't find device of ID)"),
    harmless("AER:", r"AER: (?:broadcast \w+ message|device recovery successful)"),
    rule(
        "pcie.recovery_failed",
        LOST,
        "recovery failed",
        r"(?:AER: )?(?:device|subordinate device reset|link) recovery failed",
    ),
    rule("pcie.recovery_failed", LOST, "device reset failed", r"AER: .*device reset failed"),
    rule(
        "pcie.aer_fatal",
        LOST,
        "Fatal",
        r"(?:AER: .*Uncorrect(?:ed|able) \(Fatal\) error|PCIe Bus Error: severity=Uncorrect(?:ed|able) \(Fatal\)|AER: .*Fatal error)(?:.*?(?:received:|received from|from) (?<pci>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]))?",
    ),
    rule(
        "pcie.aer_nonfatal",
        TEST_IT,
        "Non-Fatal",
        r"(?:AER: .*Uncorrect(?:ed|able) \(Non-Fatal\) error|PCIe Bus Error: severity=Uncorrect(?:ed|able) \(Non-Fatal\))(?:.*?(?:received:|received from|from) (?<pci>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]))?",
    ),
    rule(
        "pcie.aer_corrected",
        CORRECTED,
        "orrect",
        r"(?:AER: .*Correct(?:ed|able) error|PCIe Bus Error: severity=Correct(?:ed|able))(?:.*?(?:received:|received from|from) (?<pci>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]))?",
    ),
    // Narrower or slower than both ends could: seating, riser, or a lane that died.
    rule(
        "pcie.link_degraded",
        LOOK_AT_IT,
        "limited by",
        r"available PCIe bandwidth, limited by [\d.]+ GT/s",
    ),
    rule(
        "pcie.link_degraded",
        LOOK_AT_IT,
        "downgraded",
        r"(?i)PCIe .*link .*downgraded|(?:link|width|speed) (?:is )?downgraded",
    ),
    rule(
        "pcie.link_degraded",
        LOOK_AT_IT,
        "retrain",
        r"broken device, retraining non-functional downstream link|retraining failed",
    ),
    rule(
        "pcie.bandwidth_notification",
        LOOK_AT_IT,
        "bandwidth",
        r"(?i)pcie.*bandwidth.*(?:reduced|degraded)",
    ),
    rule(
        "pcie.link_down",
        LOST,
        "Slot(",
        r"pciehp: Slot\((?<named>[^)]*)\): (?:Link Down|Card not present)",
    ),
    rule(
        "pcie.power_fault",
        (Severity::Fatal, Action::Inspect, Suspect::Hardware),
        "ower fault",
        r"(?:pciehp: )?Slot\((?<named>[^)]*)\): Power fault|[Pp]ower fault (?:bit|detected|on slot)",
    ),
    rule(
        "pcie.containment",
        LOST,
        "DPC:",
        r"DPC: containment event|DPC: .*(?:unmasked uncorrectable error|ERR_FATAL|ERR_NONFATAL|RP PIO error)",
    ),
    rule(
        "pcie.inaccessible",
        LOST,
        "power state",
        r"[Uu]nable to change power state from \w+ to D0, device inaccessible|can't change power state from D3(?:cold|hot) to D0",
    ),
    rule(
        "pcie.reset_failed",
        LOST,
        "not ready",
        r"not ready \d+ms after (?:\w+[ -]){0,3}(?:reset|FLR|resume|DPC|bus reset); giving up",
    ),
    // A device touched memory that it was not given: a driver's bug, or a dying device.
    rule(
        "pcie.iommu_fault",
        (Severity::Warning, Action::RunDiagnostics, Suspect::Unclear),
        "DMAR: ",
        r"DMAR: (?:\[|DRHD: handling fault status|.*\[?(?:DMA (?:Read|Write)|INTR-REMAP)).*(?:fault|Request device)",
    ),
    rule(
        "pcie.iommu_fault",
        (Severity::Warning, Action::RunDiagnostics, Suspect::Unclear),
        "AMD-Vi",
        r"AMD-Vi: Event logged \[(?:IO_PAGE_FAULT|ILLEGAL_DEV_TABLE_ENTRY|DEV_TAB_HARDWARE_ERROR|PAGE_TAB_HARDWARE_ERROR|COMMAND_HARDWARE_ERROR)",
    ),
    rule(
        "pcie.iommu_fault",
        (Severity::Warning, Action::RunDiagnostics, Suspect::Unclear),
        "arm-smmu",
        r"arm-smmu\S* .*(?:event 0x[0-9a-f]+ received|Unhandled context fault|CMDQ timeout)",
    ),
    rule("pcie.iommu_stuck", LOST, "AMD-Vi", r"AMD-Vi: Completion-Wait loop timed out"),
    rule(
        "pcie.no_resources",
        WARNING,
        "failed to assign",
        r"[0-9a-f]\.[0-7]: BAR \d+(?: \[mem size .*\]: failed to assign|: failed to assign \[mem)",
    ),
];
