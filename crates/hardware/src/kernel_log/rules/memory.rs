//! Memory and processors: machine checks, EDAC, firmware's own error records, out of memory.

use super::means::{BY_USER, CORRECTED, LOOK_AT_IT, LOST, REPLACE_IT, TEST_IT, WARNING};
use super::{Rule, harmless, rule};
use lindos_model::{Action, Severity, Suspect};

const NOBODY_IS_LEFT: (Severity, Action, Suspect) =
    (Severity::NodeFatal, Action::Reboot, Suspect::Unclear);

pub static RULES: &[Rule] = &[
    // --- Out of memory: a program's own, mostly.
    rule("mem.oom", BY_USER, "invoked oom-killer", r"invoked oom-killer:"),
    rule("mem.oom", BY_USER, "oom-kill:", r"oom-kill:constraint="),
    rule("mem.oom", BY_USER, "Out of memory", r"(?i)out of memory: kill(?:ed)? process \d+"),
    rule("mem.oom", BY_USER, "out of memory", r"(?i)out of memory: kill(?:ed)? process \d+"),
    rule("mem.oom", BY_USER, "Killed process", r"Killed process \d+(?:, UID \d+)?,? \("),
    rule(
        "mem.oom",
        BY_USER,
        "killed as a result of limit of",
        r"Task in \S+ killed as a result of limit of",
    ),
    rule(
        "mem.oom",
        NOBODY_IS_LEFT,
        "no killable processes",
        r"[Oo]ut of memory and no killable processes",
    ),
    rule(
        "mem.allocation_failure",
        WARNING,
        "page allocation failure",
        r"page allocation failure: order:",
    ),
    // --- Memory that the kernel took out of use.
    rule(
        "mem.hardware_poison",
        TEST_IT,
        "Memory failure",
        r"Memory failure: 0x[0-9a-f]+: (?:recovery action|already hardware poisoned|.*Sending SIGBUS|.*Killing)",
    ),
    rule(
        "mem.hardware_poison",
        TEST_IT,
        "hardware memory",
        r"MCE: Killing .* due to hardware memory corruption|Uncorrected hardware memory error in user-access",
    ),
    rule(
        "mem.page_offlined",
        LOOK_AT_IT,
        "soft_offline",
        r"soft_offline: 0x[0-9a-f]+: .*(?:failed|isolat)",
    ),
    rule("mem.page_offlined", LOOK_AT_IT, "Soft-offlining", r"Soft-offlining pfn"),
    // --- EDAC: the memory controller counts.
    rule(
        "mem.edac_uncorrected",
        REPLACE_IT,
        "EDAC",
        r"EDAC (?:MC|\w+ MC|GHES MC)?(?:\d+|\S*): (?:[1-9]\d* )?(?:UE\b|uncorrected)",
    ),
    rule(
        "mem.edac_corrected",
        CORRECTED,
        "EDAC",
        r"EDAC (?:MC|\w+ MC|GHES MC)?(?:\d+|\S*): (?:[1-9]\d* )?(?:CE\b|corrected)",
    ),
    rule("cpu.edac_uncorrected", REPLACE_IT, "EDAC DEVICE", r"EDAC DEVICE\d+: UE\b"),
    // --- Machine checks.
    harmless(
        "mce:",
        r"mce: (?:CPU\d* supports|CPU supports \d+ MCE banks|Using \d+ MCE banks|\[Firmware Bug\])",
    ),
    rule(
        "cpu.machine_check_fatal",
        (Severity::NodeFatal, Action::RunDiagnostics, Suspect::Hardware),
        "achine check",
        r"(?i)fatal machine check|machine check: processor context corrupt|kernel panic.*machine check|Fatal local machine check|Uncorrected machine check",
    ),
    rule(
        "cpu.machine_check_fatal",
        (Severity::NodeFatal, Action::RunDiagnostics, Suspect::Hardware),
        "Machine Check Exception",
        r"(?:CPU (?<cpu>\d+): )?Machine Check Exception",
    ),
    // The status begins with its flags: the third bit of the first digit says "uncorrected".
    rule(
        "cpu.machine_check_uncorrected",
        REPLACE_IT,
        "Machine Check",
        r"CPU:? ?(?<cpu>\d+): Machine Check(?: Event)?: \d+ Bank \d+: [abefABEF][0-9a-fA-F]{15}",
    ),
    rule(
        "cpu.machine_check_corrected",
        CORRECTED,
        "Machine Check",
        r"CPU:? ?(?<cpu>\d+): Machine Check(?: Event)?: \d+ Bank \d+: [0-9a-fA-F]+",
    ),
    rule(
        "cpu.machine_check_uncorrected",
        REPLACE_IT,
        "[Hardware Error]",
        r"\[Hardware Error\]: (?:Uncorrected,|.*\bUncorrected error, |Deferred error, |.*severity: fatal|.*error_severity: fatal)",
    ),
    rule(
        "cpu.machine_check_uncorrected",
        TEST_IT,
        "[Hardware Error]",
        r"\[Hardware Error\]: +(?:event severity|error_severity|section severity)?:? ?recoverable",
    ),
    rule(
        "cpu.machine_check_corrected",
        CORRECTED,
        "[Hardware Error]",
        r"\[Hardware Error\]: (?:Corrected error|event severity: corrected|It has been corrected|Machine check events logged)",
    ),
    rule(
        "cpu.machine_check_corrected",
        CORRECTED,
        "Machine check events logged",
        r"Machine check events logged",
    ),
    rule("mem.storm", TEST_IT, "CMCI storm", r"CMCI storm detected"),
    rule("cpu.firmware_error_record", TEST_IT, "BERT", r"BERT: Error records from previous boot"),
    rule("cpu.lost", LOST, "smpboot", r"smpboot: CPU ?(?<cpu>\d+) failed to (?:start|come online)"),
];
