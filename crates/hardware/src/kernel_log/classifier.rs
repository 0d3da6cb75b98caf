//! A line in, a finding or nothing out.

use super::fold::Memory;
use super::record::{Record, Speaker};
use super::{rules, xid};
use lindos_model::{Device, Finding, PciAddress};

/// The driver writes of a lost GPU in three lines, and names it in the first.
const NAME_HOLDS_LINES: u64 = 3;

/// Reads a kernel log from its beginning, or from anywhere.
#[derive(Debug, Default)]
pub struct Classifier {
    memory: Memory,
    /// The GPU that "The NVIDIA GPU …" has named, and in which line.
    named: Option<(PciAddress, u64)>,
    line: u64,
    trusts_user_space: bool,
}

impl Classifier {
    pub fn new() -> Classifier {
        Classifier::default()
    }

    /// Believes what processes write into the kernel log as if the kernel had: for drills, in
    /// which a person writes a line into `/dev/kmsg`.
    pub fn trusting_user_space(self) -> Classifier {
        Classifier { trusts_user_space: true, ..self }
    }

    /// The next line, with whatever a log has put around it.
    pub fn read(&mut self, line: &str) -> Option<Finding> {
        self.line += 1;
        let record = Record::parse(line);
        if record.speaker == Speaker::UserSpace && !self.trusts_user_space {
            return None;
        }
        let mut finding = self.number(&record).or_else(|| rules::read(record.text))?;
        if finding.device.is_none() {
            finding.device = self.recently_named().map(Device::Pci);
        }
        finding.cut_detail();
        Some(finding)
    }

    fn number(&mut self, record: &Record<'_>) -> Option<Finding> {
        self.remember_name(record.text);
        let mut numbered = xid::read(record.text)?;
        self.memory.fold(&mut numbered, record.at, self.line);
        Some(numbered.finding)
    }

    /// `NVRM: The NVIDIA GPU 0000:17:00.0`
    fn remember_name(&mut self, text: &str) {
        let named = text
            .split_once("The NVIDIA GPU ")
            .and_then(|(_, rest)| rest.split([' ', '\n']).next()?.parse().ok());
        if let Some(pci) = named {
            self.named = Some((pci, self.line));
        }
    }

    fn recently_named(&self) -> Option<PciAddress> {
        let (pci, line) = self.named?;
        (self.line - line < NAME_HOLDS_LINES).then_some(pci)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn causes(lines: &[&str]) -> Vec<Option<String>> {
        let mut classifier = Classifier::new();
        let mut cause = |line: &&str| Some(classifier.read(line)?.cause?.to_string());
        lines.iter().map(&mut cause).collect()
    }

    #[test]
    fn what_follows_from_an_error_names_it() {
        let lines = [
            "[  10.0] NVRM: Xid (PCI:0000:17:00): 48, pid=7, DBE",
            "[  10.1] NVRM: Xid (PCI:0000:17:00): 63, Row remapper",
            "[  10.2] NVRM: Xid (PCI:0000:17:00): 45, pid=7, name=train, Ch 00000008",
            "[  10.3] NVRM: Xid (PCI:0000:17:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
            // Another GPU has its own story.
            "[  10.4] NVRM: Xid (PCI:0000:18:00): 45, pid=8, name=train, Ch 00000008",
            // So has another fault.
            "[  90.0] NVRM: Xid (PCI:0000:17:00): 45, pid=9, name=train, Ch 00000008",
        ];
        let root = || Some("gpu.xid.48".to_string());
        assert_eq!(causes(&lines), [None, root(), root(), root(), None, None]);
    }

    #[test]
    fn a_fault_is_never_folded_into_what_it_does_not_follow_from() {
        let lines = [
            "[  10.0] NVRM: Xid (PCI:0000:17:00): 13, pid=7, Graphics Exception",
            "[  10.1] NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.",
            "[  10.2] NVRM: Xid (PCI:0000:17:00): 48, pid=7, DBE",
        ];
        assert_eq!(causes(&lines), [None, None, None]);
    }

    #[test]
    fn without_times_lines_are_counted() {
        let cause = "NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.";
        let after = "NVRM: Xid (PCI:0000:17:00): 154, GPU recovery action changed";
        assert_eq!(causes(&[cause, after])[1], Some("gpu.xid.79".to_string()));
        let mut far = vec![cause];
        far.resize(300, "nothing");
        far.push(after);
        assert_eq!(causes(&far)[300], None);
    }

    #[test]
    fn the_lines_of_one_switch_error_are_one() {
        let lines = [
            "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)",
            "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Severity 0 Engine instance 32 Sub-engine instance 00",
            "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Data {0x10000000, 0x10000000}",
        ];
        let root = || Some("gpu.sxid.12028".to_string());
        assert_eq!(causes(&lines), [None, root(), root()]);
    }

    #[test]
    fn a_gpu_that_is_named_three_lines_long_is_found() {
        let mut classifier = Classifier::new();
        assert_eq!(classifier.read("NVRM: The NVIDIA GPU 0000:b3:00.0"), None);
        assert_eq!(classifier.read("NVRM: (PCI ID: 10de:2330) installed in this system has"), None);
        let finding =
            classifier.read("NVRM: fallen off the bus and is not responding to commands.").unwrap();
        assert_eq!(finding.class.as_str(), "gpu.fallen_off_bus_no_xid");
        assert_eq!(finding.device.unwrap().to_string(), "0000:b3:00.0");
    }

    #[test]
    fn processes_are_believed_in_drills_only() {
        let line = "12,1,1,-;NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.";
        assert_eq!(Classifier::new().read(line), None);
        assert!(Classifier::new().trusting_user_space().read(line).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut classifier = Classifier::new();
            for line in lines {
                classifier.read(&String::from_utf8_lossy(&line));
            }
        }

        #[test]
        fn damaged_lines_have_an_answer(which in 0_usize..6, cut in 0_usize..200, with in "\\PC{0,20}") {
            let line = [
                "4,339,5140900,-;NVRM: Xid (PCI:0000:17:00 GPU-I:05): 145, pid=7, name=x, RLW_REMAP Nonfatal XC1 i0 Link 10 (0x00000004 0x00000040)",
                "[  12.3] nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Severity 0 Engine instance 32",
                "Oct 16 20:47:19 n kernel: mlx5_core 0000:41:00.0: print_health_info:458:(pid 0): synd 0x8: unrecoverable hardware error",
                "kern  :warn  : 2025-01-21T04:41:44,285060+00:00 nvme nvme0: I/O 23 QID 4 timeout, aborting",
                "[Sun Feb 23 16:24:24 2025] mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 7: be00000000800400",
                "pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:01:00.0",
            ][which];
            let cut = line.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(line.len());
            let mut classifier = Classifier::new();
            let damaged = format!("{}{with}{}", &line[..cut], &line[cut..]);
            if let Some(finding) = classifier.read(&damaged) {
                prop_assert!(finding.detail.len() <= Finding::DETAIL_MAX);
                prop_assert!(finding.class.as_str().parse::<lindos_model::FindingClass>().is_ok());
            }
        }
    }
}
