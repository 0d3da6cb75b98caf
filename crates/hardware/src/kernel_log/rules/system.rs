//! The kernel itself: lockups, stalls, crashes, limits; heat and power.

use super::means::{LOOK_AT_IT, LOST_BY_SOFTWARE, LOST_UNCLEAR, NOISE, WARNING};
use super::{Rule, harmless, rule};
use lindos_model::{Action, Severity, Suspect};

const KERNEL_DEAD: (Severity, Action, Suspect) =
    (Severity::NodeFatal, Action::Reboot, Suspect::Unclear);
const THROTTLED: (Severity, Action, Suspect) =
    (Severity::Warning, Action::Inspect, Suspect::Hardware);

pub static RULES: &[Rule] = &[
    // --- Processors that do not come back.
    harmless(
        "oft lockup",
        r"(?i)soft lockup (?:detect(?:or|ion)|watchdog|thresh\w*|panic)|(?:enabl|disabl)\w+ .*soft lockup",
    ),
    rule("cpu.soft_lockup", LOST_UNCLEAR, "soft lockup", r"soft lockup(?:.*CPU#(?<cpu>\d+))?"),
    rule("cpu.hard_lockup", LOST_UNCLEAR, "LOCKUP", r"hard LOCKUP(?: on cpu (?<cpu>\d+))?"),
    rule(
        "cpu.hung_task",
        WARNING,
        "blocked",
        r"\btask .+ blocked (?:in I/O wait )?for more than \d+ seconds",
    ),
    rule(
        "cpu.rcu_stall",
        LOST_UNCLEAR,
        "stall",
        r"rcu\w*:? .*(?:self-detected stall|detected (?:expedited )?stalls?\b)",
    ),
    rule("cpu.rcu_stall", LOST_UNCLEAR, "starved for", r"rcu\w* kthread starved for \d+ jiffies"),
    rule("cpu.workqueue_stuck", WARNING, "workqueue lockup", r"BUG: workqueue lockup"),
    rule(
        "cpu.interrupt_lost",
        WARNING,
        "nobody cared",
        r"irq \d+: nobody cared|No irq handler for vector",
    ),
    rule(
        "cpu.clock_unstable",
        WARNING,
        "unstable",
        r"(?:clocksource|tsc|TSC).*(?:[Mm]arking .*unstable|unstable because)",
    ),
    rule(
        "cpu.watchdog_interrupt",
        WARNING,
        "NMI received for unknown reason",
        r"NMI received for unknown reason",
    ),
    // --- Crashes.
    rule("os.kernel_panic", KERNEL_DEAD, "Kernel panic", r"Kernel panic - not syncing"),
    rule(
        "os.kernel_bug",
        LOST_BY_SOFTWARE,
        "BUG: ",
        r"\bBUG: (?:unable to handle|kernel NULL pointer|scheduling while atomic|Bad (?:page|rss-counter)|stack guard page|sleeping function called)",
    ),
    rule("os.kernel_bug", LOST_BY_SOFTWARE, "kernel BUG at", r"kernel BUG at \S+:\d+"),
    rule("os.kernel_bug", LOST_BY_SOFTWARE, "Oops", r"\bOops: |Oops - "),
    rule(
        "os.kernel_bug",
        LOST_BY_SOFTWARE,
        "general protection fault",
        r"general protection fault(?:, maybe| , probably|, probably|: [0-9a-f]{4} \[#\d+\])",
    ),
    // --- Limits.
    rule("os.file_max", WARNING, "file-max", r"VFS: file-max limit \d+ reached"),
    rule("os.connections_full", WARNING, "table full", r"nf_conntrack: .*table full"),
    rule(
        "os.neighbours_full",
        WARNING,
        "table overflow",
        r"neighbou?r table overflow|neigh\w*: .*table overflow",
    ),
    rule("os.pids_full", WARNING, "fork rejected", r"cgroup: fork rejected by pids controller"),
    rule("os.syn_flood", NOISE, "SYN flooding", r"[Pp]ossible SYN flooding"),
    // --- Heat and power.
    harmless("normal", r"temperature/speed normal"),
    rule(
        "thermal.critical",
        (Severity::NodeFatal, Action::Inspect, Suspect::Hardware),
        "ritical temperature",
        r"(?:[Cc]ritical temperature reached|above critical temperature)",
    ),
    rule(
        "thermal.critical",
        (Severity::NodeFatal, Action::Inspect, Suspect::Hardware),
        "HARDWARE PROTECTION",
        r"HARDWARE PROTECTION shutdown|[Tt]emperature too high",
    ),
    rule(
        "cpu.thermal_throttled",
        THROTTLED,
        "temperature above threshold",
        r"(?:CPU(?<cpu>\d+): )?(?:Core|Package) temperature above threshold",
    ),
    rule(
        "power.limited",
        THROTTLED,
        "ower limit",
        r"(?:CPU(?<cpu>\d+): )?(?:Core|Package) power limit notification",
    ),
    rule(
        "power.supply",
        LOOK_AT_IT,
        "ower supply",
        r"(?i)power supply (?:\S+ )?(?:failed|failure|lost|input lost|unplugged)",
    ),
    rule("power.supply", LOOK_AT_IT, "under-voltage", r"(?i)under-?voltage (?:detected|alarm)"),
    rule("power.supply", LOOK_AT_IT, "Undervoltage", r"(?i)under-?voltage detected"),
    rule("thermal.fan", LOOK_AT_IT, " fail", r"(?i)\bfan ?\d* (?:\S+ )?(?:failed|failure)\b"),
    rule(
        "os.kernel_warning",
        (Severity::Info, Action::None, Suspect::Software),
        "WARNING: CPU:",
        r"WARNING: CPU: (?<cpu>\d+) PID: \d+ at ",
    ),
];
