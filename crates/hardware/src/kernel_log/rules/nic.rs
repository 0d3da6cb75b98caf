//! Network adapters: InfiniBand and Ethernet.

use super::means::{ELSEWHERE, LOOK_AT_IT, LOST, NOISE, REPLACE_IT, TEST_IT, WARNING};
use super::{Rule, rule};
use lindos_model::{Action, Severity, Suspect};

const RESTART_IT: (Severity, Action, Suspect) =
    (Severity::Warning, Action::Reboot, Suspect::Unclear);

pub static RULES: &[Rule] = &[
    rule(
        "nic.pcie_power_insufficient",
        LOOK_AT_IT,
        "insufficient power",
        r"Detected insufficient power on the PCIe slot",
    ),
    rule(
        "nic.module_high_temperature",
        LOOK_AT_IT,
        "High Temperature",
        r"Port module event.*High Temperature",
    ),
    rule(
        "nic.module_high_temperature",
        LOOK_AT_IT,
        "igh temperature",
        r"Port module event.*[Hh]igh temperature",
    ),
    rule(
        "nic.module_unplugged",
        LOOK_AT_IT,
        "Port module event",
        r"Port module event.*Cable unplugged",
    ),
    rule(
        "nic.module_error",
        LOOK_AT_IT,
        "Port module event",
        r"Port module event(?:\[error\]|.*(?:Cable error|Unknown identifier|Bad or unsupported|Bus stuck|No EEPROM|Enforce part number|Power budget exceeded))",
    ),
    // A tool asked an adapter for a register that its firmware does not give away.
    rule("nic.access_reg_failed_noise", NOISE, "ACCESS_REG", r"ACCESS_REG.*failed"),
    rule(
        "nic.unrecoverable_hw",
        REPLACE_IT,
        "unrecoverable hardware error",
        r"synd 0x[0-9a-f]+: unrecoverable hardware error|mlx5.*unrecoverable hardware error",
    ),
    rule(
        "nic.fw_health_lost",
        LOST,
        "health",
        r"device's health compromised|mlx\w+ .*health recovery (?:flow aborted|failed)|mlx\w+ .*health recovery fail",
    ),
    rule(
        "nic.fw_health_lost",
        LOST,
        "unable to respond",
        r"FW is unable to respond to initialization segment reads",
    ),
    rule(
        "nic.overheated",
        (Severity::Fatal, Action::Inspect, Suspect::Hardware),
        "mlx5",
        r"(?i)mlx\w+ .*(?:synd 0x11: |high temperature (?:on sensors|critical)|temperature.*shutdown)",
    ),
    rule("nic.fw_error", LOST, "synd 0x", r"\bsynd (?<code>0x0*[1-9a-fA-F][0-9a-fA-F]*): \w"),
    rule(
        "nic.fw_error",
        LOST,
        "mlx5",
        r"mlx5\w*:? .*(?:Fatal error (?<code>\d+) detected|firmware internal error|Internal error detected|device entered error state|assert_var\[0\] 0x0*[1-9a-f])",
    ),
    rule(
        "nic.command_timeout",
        RESTART_IT,
        "timeout",
        r"\w+\(0x[0-9a-fA-F]+\) timeout\. Will cause a leak of a command resource|mlx[45]\w* .*command 0x[0-9a-f]+ timed out",
    ),
    rule(
        "nic.command_failed",
        WARNING,
        "op_mod(",
        r"mlx5_cmd\w*:.*\w+\(0x[0-9a-fA-F]+\) op_mod\(0x[0-9a-fA-F]+\) failed",
    ),
    rule(
        "nic.tx_queue_timeout",
        RESTART_IT,
        "timed out",
        r"NETDEV WATCHDOG: (?:CPU: \d+: )?(?:(?<port>[\w.-]+) \([\w-]+\): )?transmit queue \d+ timed out",
    ),
    rule(
        "nic.tx_queue_timeout",
        RESTART_IT,
        "TX timeout",
        r"(?:(?<port>[\w.-]+): )?TX timeout (?:detected|on queue)",
    ),
    // The other end did not answer, or the program broke its connection: not this adapter's fault.
    rule(
        "nic.error_completion",
        (Severity::Warning, Action::None, Suspect::Unclear),
        "error",
        r"(?:(?<port>mlx\d_\d+): ?)?(?:dump_cqe:.*dump error cqe|dump error cqe|got CQE error|Error cqe on cqn)",
    ),
    rule("nic.queue_error", TEST_IT, "CQ error", r"CQ error on CQN 0x[0-9a-f]+"),
    rule(
        "nic.bond_member_down",
        LOOK_AT_IT,
        "link status definitely down",
        r"slave (?<port>[\w.-]+)\)?: link status definitely down|link status definitely down for interface (?<named>[\w.-]+)",
    ),
    rule(
        "nic.link_down",
        LOOK_AT_IT,
        "Link ",
        r"(?:^|[\s:])(?:(?<port>[A-Za-z][\w.-]*):\s)?(?:NIC |NIC Copper |Fibre )?Link (?:is )?(?:[Dd]own|DOWN)\b",
    ),
    rule(
        "nic.link_down",
        LOOK_AT_IT,
        "became inactive",
        r"(?<port>mlx\d_\d+|\w+)[: ].*port \d+ became inactive|Port \d+ became inactive",
    ),
    rule(
        "nic.adapter_lost",
        LOST,
        "adapter",
        r"(?:i40e|ice|ixgbe|igb|e1000e|bnxt_en|igc) .*(?:Adapter removed|PCIe link lost|adapter has been stopped|Hardware Error)",
    ),
    rule("nic.adapter_lost", LOST, "PCIe link lost", r"PCIe link lost"),
    rule(
        "nic.firmware_reset",
        TEST_IT,
        "bnxt_en",
        r"bnxt_en .*(?:Firmware (?:fatal|not responding|reset aborted)|Error \(timeout: \d+\))",
    ),
    rule(
        "nic.duplicate_address",
        ELSEWHERE,
        "uplicate",
        r"IPv6 duplicate address .* detected|IPv6: (?<port>[\w.-]+): IPv6 duplicate address",
    ),
    rule("nic.ipoib_failed", WARNING, "multicast join failed", r"\bib\d+: multicast join failed"),
];
