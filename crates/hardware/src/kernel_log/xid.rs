//! "Xid" and "SXid": how the NVIDIA driver numbers what happens to GPUs and NVSwitches.
//!
//! The catalogue knows the numbers. Some lines say more than their number: which unit of a link
//! failed and whether that is fatal, what has to be done to recover, which earlier number was the
//! cause. The line has the last word.

use super::catalogue::{self, Kind};
use lindos_model::{
    Action, Device, Finding, FindingClass, FindingSource, PciAddress, Severity, Suspect,
};
use regex_lite::{Captures, Regex};
use std::sync::OnceLock;

/// `NVRM: Xid (PCI:0000:17:00 GPU-I:02): 94, pid=7, name=train, Contained: …`. Old drivers leave
/// out `PCI:`; the address has no function, except behind some hypervisors.
const XID: &str = r"(?:^|[^A-Za-z])Xid \((?:PCI:)?(?<pci>[0-9A-Fa-f:]+(?:\.[0-7])?)(?:[ -][^)]*)?\):? ?(?<code>\d{1,5})\b(?:[,:]?\s*(?<rest>.*))?";

/// `nvidia-nvswitch0: SXid (PCI:0000:c3:00.0): 12033, Severity 1 …`
const SXID: &str = r"SXid \((?:PCI:)?(?<pci>[0-9A-Fa-f:]+(?:\.[0-7])?)(?:[ -][^)]*)?\):? ?(?<code>\d{1,5})\b(?:[,:]?\s*(?<rest>.*))?";

/// `RLW_REMAP Nonfatal XC1 i0 Link 10 (0x00000004 …)`, from Blackwell on.
const LINK_UNIT: &str = r"(?<unit>[A-Z][A-Z0-9_/]+)\s+(?<word>Fatal|Nonfatal|Link Fatal)\b(?:.*?\((?<info>0x[0-9a-fA-F]+))?";

/// `GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)`
const RECOVERY: &str = r"to 0x[0-9a-fA-F]+ \((?<word>[^)]*)\)";

const CAUSED_BY: &str = r"caused by previous Xid (?<code>\d{1,5})\b";

/// The numbers whose lines name a unit of a link.
const LINK_UNITS: std::ops::RangeInclusive<u32> = 144..=150;
const PREEMPTIVE_REMOVAL: u32 = 45;
const RECOVERY_ACTION_CHANGED: u32 = 154;
const CONTAINED: u32 = 94;

fn compiled(cell: &'static OnceLock<Regex>, pattern: &str) -> &'static Regex {
    cell.get_or_init(|| Regex::new(pattern).expect("a test compiles every pattern"))
}

fn captures<'a>(pattern: &'static str, text: &'a str) -> Option<Captures<'a>> {
    static CELLS: [OnceLock<Regex>; 5] = [const { OnceLock::new() }; 5];
    let place = [XID, SXID, LINK_UNIT, RECOVERY, CAUSED_BY].iter().position(|p| *p == pattern)?;
    compiled(&CELLS[place], pattern).captures(text)
}

/// A line with a number, before what came earlier is looked at.
#[derive(Clone, Debug)]
pub struct Numbered {
    pub kind: Kind,
    pub code: u32,
    pub pci: PciAddress,
    pub finding: Finding,
    pub follows: catalogue::Follows,
    /// It says more of an error that another line of the same number has told of.
    pub is_detail: bool,
}

/// The finding of a line with an Xid or an SXid; `None` for every other line.
pub fn read(text: &str) -> Option<Numbered> {
    if let Some(found) = text.contains("SXid (").then(|| captures(SXID, text)).flatten() {
        return numbered(Kind::Sxid, &found);
    }
    let found = text.contains("Xid (").then(|| captures(XID, text)).flatten()?;
    numbered(Kind::Xid, &found)
}

fn numbered(kind: Kind, found: &Captures<'_>) -> Option<Numbered> {
    let pci: PciAddress = found["pci"].parse().ok()?;
    let code: u32 = found["code"].parse().ok()?;
    let rest = found.name("rest").map_or("", |m| m.as_str()).trim();
    let entry = catalogue::find(kind, code);
    let mut finding = Finding {
        class: class(kind, code),
        severity: entry.as_ref().map_or(Severity::Unknown, |e| e.severity),
        action: entry.as_ref().map_or(Action::ContactSupport, |e| e.action),
        suspect: entry.as_ref().map_or(Suspect::Unclear, |e| e.suspect),
        device: Some(Device::Pci(pci)),
        code: Some(code),
        source: FindingSource::KernelLog,
        detail: detail(entry.as_ref(), rest),
        cause: None,
    };
    match kind {
        Kind::Xid => heed_xid(&mut finding, code, rest),
        Kind::Sxid => heed_sxid(&mut finding, rest),
    }
    Some(Numbered {
        kind,
        code,
        pci,
        finding,
        follows: entry.map_or(catalogue::Follows::Nothing, |e| e.follows),
        is_detail: kind == Kind::Sxid
            && (rest.starts_with("Data {") || rest.starts_with("Severity ")),
    })
}

/// `gpu.xid.79`, `gpu.sxid.12033`
pub fn class(kind: Kind, code: u32) -> FindingClass {
    let word = if kind == Kind::Xid { "xid" } else { "sxid" };
    format!("gpu.{word}.{code}").parse().expect("words and digits")
}

fn detail(entry: Option<&catalogue::Entry>, rest: &str) -> String {
    match (entry.map(|e| e.meaning), rest) {
        (Some(meaning), "") => meaning.to_string(),
        (Some(meaning), rest) => format!("{meaning}: {rest}"),
        (None, rest) => format!("a number that no catalogue lists: {rest}"),
    }
}

fn heed_xid(finding: &mut Finding, code: u32, rest: &str) {
    if LINK_UNITS.contains(&code) {
        heed_link_unit(finding, rest);
    } else if code == RECOVERY_ACTION_CHANGED {
        heed_recovery(finding, rest);
    } else if code == CONTAINED && rest.contains(" RST: Yes") {
        // The driver says of this very error that only a reset gets rid of it.
        (finding.severity, finding.action) = (Severity::GpuFatal, Action::ResetGpu);
    } else if code == PREEMPTIVE_REMOVAL
        && let Some(cause) = captures(CAUSED_BY, rest)
    {
        finding.cause = cause["code"].parse().ok().map(|code| class(Kind::Xid, code));
    }
}

fn heed_link_unit(finding: &mut Finding, rest: &str) {
    let Some(found) = captures(LINK_UNIT, rest) else { return };
    let unit = &found["unit"];
    if &found["word"] == "Nonfatal" {
        // The error rate of a wire foretells its end; the other units have survived.
        (finding.severity, finding.action) = if unit.starts_with("NETIR_BER") {
            (Severity::Warning, Action::Inspect)
        } else {
            (Severity::Nonfatal, Action::None)
        };
        return;
    }
    (finding.severity, finding.action) = (Severity::GpuFatal, Action::ResetGpu);
    if unit.starts_with("NETIR_LINK") {
        let info = found.name("info").map_or("", |m| m.as_str());
        finding.suspect = suspect_of_link_down(info);
    }
}

/// Bits 20 to 25 of the first word say why a link went down: its own wires, its own software, or
/// the other end.
fn suspect_of_link_down(info: &str) -> Suspect {
    let digits = info.strip_prefix("0x").unwrap_or(info);
    let Ok(word) = u32::from_str_radix(digits, 16) else { return Suspect::Unclear };
    match (word >> 20) & 0x3f {
        0x02 | 0x04 | 0x0a | 0x2a | 0x2b => Suspect::Hardware,
        0x0f | 0x11 | 0x16 | 0x26 | 0x28 => Suspect::Software,
        0x15 | 0x20..=0x25 => Suspect::Peer,
        _ => Suspect::Unclear,
    }
}

fn heed_recovery(finding: &mut Finding, rest: &str) {
    let Some(found) = captures(RECOVERY, rest) else { return };
    let word = found["word"].to_ascii_lowercase();
    (finding.severity, finding.action) = if word == "none" {
        (Severity::Info, Action::None)
    } else if word.contains("reboot") {
        (Severity::NodeFatal, Action::Reboot)
    } else if word.contains("gpu reset") {
        (Severity::GpuFatal, Action::ResetGpu)
    } else if word.contains("drain and reset") {
        // What runs may end in peace; the reset comes after.
        (Severity::Warning, Action::ResetGpu)
    } else if word.contains("drain p2p") {
        (Severity::Warning, Action::RestartApp)
    } else if word.contains("imex") {
        (Severity::Warning, Action::ResetFabric)
    } else {
        (Severity::Unknown, Action::ContactSupport)
    };
}

/// The switch's driver writes how bad it is: `Fatal, Link 04 …`, `Non-fatal, …`, or
/// `Severity 1 …`, where 1 is fatal.
fn heed_sxid(finding: &mut Finding, rest: &str) {
    let says_fatal = rest.starts_with("Fatal") || rest.starts_with("Severity 1 ");
    let says_survived = rest.starts_with("Non-fatal") || rest.starts_with("Severity 0 ");
    if says_fatal && finding.severity != Severity::Fatal {
        finding.severity = Severity::Fatal;
        if finding.action == Action::None {
            finding.action = Action::ResetFabric;
        }
    } else if says_survived && finding.severity == Severity::Fatal {
        finding.severity = Severity::Nonfatal;
        if finding.action == Action::ResetFabric {
            finding.action = Action::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Finding {
        read(text).unwrap_or_else(|| panic!("not read: {text}")).finding
    }

    #[test]
    fn every_pattern_compiles() {
        for pattern in [XID, SXID, LINK_UNIT, RECOVERY, CAUSED_BY] {
            Regex::new(pattern).unwrap();
        }
    }

    #[test]
    fn numbers_are_read_in_every_form_that_drivers_have_written() {
        for (text, class, device) in [
            ("NVRM: Xid (PCI:0000:17:00): 79, GPU lost", "gpu.xid.79", "0000:17:00"),
            ("NVRM: Xid (PCI:0000:17:00): 79", "gpu.xid.79", "0000:17:00"),
            ("NVRM: Xid (0000:03:00): 14, Channel 00000001", "gpu.xid.14", "0000:03:00"),
            ("NVRM: Xid (03:00): 13, 0001", "gpu.xid.13", "0000:03:00"),
            ("NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7", "gpu.xid.94", "0000:01:00"),
            ("NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:01): 43, x", "gpu.xid.43", "0000:01:00"),
            ("NVRM: Xid (PCI:0000:B3:00.0): 31, pid=1", "gpu.xid.31", "0000:b3:00.0"),
            ("Xid (PCI:0018:01:00): 149, NETIR", "gpu.xid.149", "0018:01:00"),
            (
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 10003, x",
                "gpu.sxid.10003",
                "0000:c1:00.0",
            ),
            ("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 00123, x", "gpu.sxid.123", "0000:c1:00.0"),
        ] {
            let finding = of(text);
            assert_eq!(finding.class.as_str(), class, "{text}");
            assert_eq!(finding.device.unwrap().to_string(), device, "{text}");
        }
    }

    #[test]
    fn what_has_no_number_or_no_address_is_nothing() {
        for text in [
            "NVRM: Xid (invalid): some error",
            "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): xyz, Fatal error",
            "NVRM: Xid (PCI:0000:17:00): seventy-nine",
            "NVRM: Xid (PCI:zz:17:00): 79",
            "NVRM: Xid",
            "maXid (PCI:0000:17:00): 79",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_line_has_the_last_word_on_how_bad_it_is() {
        let of = |text: &str| {
            let finding = of(text);
            (finding.severity, finding.action)
        };
        let link = |rest: &str| of(&format!("NVRM: Xid (PCI:0000:17:00): 145, {rest}"));
        assert_eq!(link("RLW_REMAP Fatal XC0 i0 Link 00 (0x1 0x2)").0, Severity::GpuFatal);
        assert_eq!(link("RLW_REMAP Nonfatal XC0 i0 Link 00 (0x1 0x2)").0, Severity::Nonfatal);
        assert_eq!(link("pid=7, name=x, RLW_REMAP Fatal   XC0").1, Action::ResetGpu);
        let recovery = |word: &str| {
            of(&format!(
                "NVRM: Xid (PCI:0000:17:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 ({word})"
            ))
        };
        assert_eq!(recovery("GPU Reset Required"), (Severity::GpuFatal, Action::ResetGpu));
        assert_eq!(recovery("Node Reboot Required"), (Severity::NodeFatal, Action::Reboot));
        assert_eq!(recovery("Drain and Reset"), (Severity::Warning, Action::ResetGpu));
        assert_eq!(recovery("None"), (Severity::Info, Action::None));
        let switch =
            |rest: &str| of(&format!("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20009, {rest}"));
        assert_eq!(switch("Non-fatal, Link 04 RX"), (Severity::Nonfatal, Action::Inspect));
        assert_eq!(switch("Fatal, Link 04 RX"), (Severity::Fatal, Action::Inspect));
        assert_eq!(
            of("NVRM: Xid (PCI:0000:17:00): 94, pid=1, Contained: LTC (0x1). RST: Yes, D-RST: No"),
            (Severity::GpuFatal, Action::ResetGpu)
        );
    }

    #[test]
    fn a_link_that_went_down_says_which_end_to_look_at() {
        let suspect = |info: &str| {
            of(&format!("NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 ({info} 0x0)")).suspect
        };
        assert_eq!(suspect("0x021425c6"), Suspect::Peer);
        assert_eq!(suspect("0x004505c6"), Suspect::Hardware);
        assert_eq!(suspect("0x00f405c6"), Suspect::Software);
        assert_eq!(suspect("0x000405c6"), Suspect::Unclear);
    }

    #[test]
    fn the_driver_may_name_the_cause() {
        let text = "NVRM: Xid (PCI:0000:17:00): 45, pid=7, name=train, Ch 00000008 caused by previous Xid 48";
        assert_eq!(of(text).cause.unwrap().as_str(), "gpu.xid.48");
    }
}
