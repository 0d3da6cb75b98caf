//! Disks, arrays, NVMe, local and network file systems.

use super::means::{ELSEWHERE, LOOK_AT_IT, REPLACE_IT, TEST_IT, WARNING};
use super::{Rule, harmless, rule};
use lindos_model::{Action, Severity, Suspect};

const FILE_SYSTEM_LOST: (Severity, Action, Suspect) =
    (Severity::Fatal, Action::RunDiagnostics, Suspect::Hardware);

pub static RULES: &[Rule] = &[
    // --- NVMe.
    rule(
        "nvme.path_failure",
        REPLACE_IT,
        "no available path",
        r"block (?<disk>\S+): no available path - failing I/O",
    ),
    rule(
        "nvme.path_waits",
        WARNING,
        "no usable path",
        r"block (?<disk>\S+): no usable path - requeuing I/O",
    ),
    rule(
        "nvme.device_lost",
        REPLACE_IT,
        "nvme",
        r"nvme (?<disk>nvme\d+): (?:Disabling device after reset failure|Removing after probe failure|Device not ready; aborting|Identify Controller failed|failed to mark controller|Could not set queue count|device has been lost)",
    ),
    rule(
        "nvme.controller_down",
        TEST_IT,
        "nvme",
        r"nvme (?<disk>nvme\d+): (?:controller is down; will reset|Abort status: 0x371|resetting controller due to|frozen state error detected|Device shutdown incomplete|controller reset failed)",
    ),
    rule(
        "nvme.timeout",
        TEST_IT,
        "timeout",
        r"nvme (?<disk>nvme\d+): (?:I/O .*timeout|.*QID \d+ timeout)",
    ),
    rule(
        "nvme.media_error",
        REPLACE_IT,
        "I/O Error",
        r"(?<disk>nvme\d+\w*): .*I/O Error \(sct 0x2 / sc",
    ),
    rule(
        "nvme.io_error",
        TEST_IT,
        "I/O Error",
        r"(?<disk>nvme\d+\w*): .*I/O Error \(sct 0x[0-9a-f]+ / sc",
    ),
    rule(
        "nvme.media_error",
        REPLACE_IT,
        "critical medium error",
        r"critical medium error, dev (?<disk>nvme\w+)",
    ),
    // --- Arrays and disks.
    rule(
        "disk.raid_failure",
        REPLACE_IT,
        "Disk failure on",
        r"(?:md/)?raid\S*:? ?.*Disk failure on (?<disk>[\w-]+)",
    ),
    rule(
        "disk.raid_failure",
        REPLACE_IT,
        "md/raid",
        r"md/raid\S*?(?<disk>md\d+): (?:cannot continue operation|not enough operational devices|Cannot continue)",
    ),
    rule(
        "disk.raid_degraded",
        REPLACE_IT,
        "md/raid",
        r"md/raid\S*?(?<disk>md\d+): (?:Operation continuing on|raid level \d+ active with .*degraded)",
    ),
    rule(
        "disk.beyond_end_of_device",
        TEST_IT,
        "beyond end of device",
        r"attempt to access beyond end of device",
    ),
    rule(
        "disk.buffer_io_error",
        TEST_IT,
        "Buffer I/O error",
        r"Buffer I/O error(?: on dev(?:ice)? (?<disk>[\w-]+))?",
    ),
    rule(
        "disk.medium_error",
        REPLACE_IT,
        "edium",
        r"critical medium error, dev (?<disk>[\w-]+)|(?:\[(?<named>sd\w+)\] .*)?Sense Key : Medium Error",
    ),
    rule(
        "disk.medium_error",
        REPLACE_IT,
        "nrecovered",
        r"(?:\[(?<disk>sd\w+)\] .*)?Add\. Sense: Unrecovered read error",
    ),
    rule(
        "disk.target_error",
        TEST_IT,
        "critical target error",
        r"critical target error, dev (?<disk>[\w-]+)",
    ),
    rule(
        "disk.hardware_error",
        REPLACE_IT,
        "Hardware Error",
        r"(?:\[(?<disk>sd\w+)\] .*)?Sense Key : Hardware Error",
    ),
    rule("disk.io_error", TEST_IT, "I/O error, dev", r"I/O error, dev (?<disk>[\w-]+), sector"),
    rule(
        "disk.offline",
        REPLACE_IT,
        "offline",
        r"rejecting I/O to (?:offline|dead) device|Device offlined",
    ),
    rule("disk.link_reset", TEST_IT, "resetting link", r"\bata\d+(?:\.\d+)?: hard resetting link"),
    rule(
        "disk.ata_error",
        TEST_IT,
        "failed",
        r"\bata\d+(?:\.\d+)?: (?:failed command:|COMRESET failed|revalidation failed)",
    ),
    rule(
        "disk.multipath_failed",
        TEST_IT,
        "multipath",
        r"device-mapper: multipath: (?:\d+:\d+: )?Failing path",
    ),
    // --- File systems.
    rule(
        "fs.remount_ro",
        FILE_SYSTEM_LOST,
        "read-only",
        r"(?:\((?:device )?(?<disk>[\w-]+)\):? )?[Rr]emounting filesystem read-only",
    ),
    rule(
        "fs.remount_ro",
        FILE_SYSTEM_LOST,
        "forced readonly",
        r"BTRFS.*(?:\(device (?<disk>[\w-]+).*\))?.*forced readonly",
    ),
    rule(
        "fs.superblock_write_error",
        FILE_SYSTEM_LOST,
        "superblock",
        r"(?:\((?<disk>[\w-]+)\): )?I/O error while writing superblock|lost page write due to I/O error on superblock",
    ),
    rule(
        "fs.journal_aborted",
        FILE_SYSTEM_LOST,
        "journal",
        r"(?i)aborting journal on device (?<disk>[\w-]+)|detected aborted journal|JBD2: .*(?:I/O error|Error -?\d+) .*(?:journal|when)",
    ),
    rule(
        "fs.shutdown",
        FILE_SYSTEM_LOST,
        "XFS (",
        r"XFS \((?<disk>[\w-]+)\): (?:.*[Ss]hutting down filesystem|.*Filesystem has been shut down|log I/O error|metadata I/O error|xfs_do_force_shutdown|.*Please u(?:n)?mount the filesystem)",
    ),
    rule(
        "fs.corruption",
        FILE_SYSTEM_LOST,
        "XFS (",
        r"XFS \((?<disk>[\w-]+)\): (?:Metadata (?:corruption|CRC error) detected|Internal error|Corruption (?:detected|of in-memory data)|Unmount and run xfs_repair)",
    ),
    rule(
        "fs.corruption",
        FILE_SYSTEM_LOST,
        "-fs error",
        r"EXT[234]-fs error \(device (?<disk>[\w-]+)\)",
    ),
    rule(
        "fs.io_error",
        TEST_IT,
        "BTRFS",
        r"BTRFS error \(device (?<disk>[\w-]+)[^)]*\): bdev .* errs: wr",
    ),
    rule(
        "fs.corruption",
        FILE_SYSTEM_LOST,
        "BTRFS",
        r"BTRFS (?:critical|error) \(device (?<disk>[\w-]+)[^)]*\):? .*(?:corrupt|csum|checksum|bad tree|parent transid)|BTRFS.*\(device (?<named>[\w-]+)\).*csum failed",
    ),
    rule(
        "fs.writeback_lost",
        TEST_IT,
        "Delayed block allocation failed",
        r"EXT4-fs \((?<disk>[\w-]+)\): Delayed block allocation failed",
    ),
    rule(
        "fs.errors_since_check",
        LOOK_AT_IT,
        "error count since last fsck",
        r"\((?<disk>[\w-]+)\): error count since last fsck: [1-9]",
    ),
    // --- Network file systems: the server's or the network's fault, as far as one node can tell.
    rule(
        "nfs.server_not_responding",
        ELSEWHERE,
        "not responding",
        r"nfs: server (?<named>\S+) not responding",
    ),
    rule(
        "nfs.lock_reclaim_failed",
        ELSEWHERE,
        "ock reclaim failed",
        r"nfs\w*: ?.*[Ll]ock reclaim failed",
    ),
    // A frame of a stack trace: somebody waits for a server to take what was written.
    rule(
        "nfs.writeback_hang",
        ELSEWHERE,
        "nfs_",
        r"nfs_(?:page_async_flush|writepages_callback|writepages|lock_and_join_requests|do_writepage|wb_all|wb_page|wb_folio|wb_folio_cancel|wait_on_request)\+0x",
    ),
    rule(
        "nfs.state_lost",
        ELSEWHERE,
        "nfs4_",
        r"nfs4_reclaim_open_state: .*(?:reclaim failed|unhandled error)|NFS: state manager: .*failed on NFSv4 server (?<named>\S+)",
    ),
    harmless("Lustre", r"Lustre: .*Connection restored"),
    rule(
        "fs.lustre_connection_lost",
        ELSEWHERE,
        "Lustre",
        r"Lustre(?:Error)?: .*Connection to (?<named>\S+) .*was lost",
    ),
    rule(
        "fs.lustre_evicted",
        ELSEWHERE,
        "LustreError",
        r"LustreError: .*(?:This client was evicted by (?<named>\S+)|was evicted)",
    ),
    rule(
        "fs.ceph_unreachable",
        ELSEWHERE,
        "ceph: ",
        r"(?:lib)?ceph: (?:mds\d+ (?:hung|caps stale|session lost)|(?<named>(?:osd|mon|mds)\d+) .*(?:down|socket closed|session lost|connect error))",
    ),
    rule(
        "fs.cifs_unreachable",
        ELSEWHERE,
        "CIFS",
        r"CIFS: VFS: .*(?:has not responded in|Server (?<named>\S+) has not)",
    ),
];
