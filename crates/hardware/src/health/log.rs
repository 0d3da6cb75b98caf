//! The kernel log as a check: what it says happened.

use super::check::{About, Check, Reading};
use crate::kernel_log::Classifier;
pub use crate::kernel_log::source::From;
use crate::kernel_log::source::{self, Input, LogSource};
use lindos_model::Finding;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A log that is written faster than this is read on in the next reading.
const LINES_A_READING_MAX: usize = 5_000;
/// A storm of errors is not told line by line.
const FINDINGS_A_READING_MAX: usize = 256;

#[derive(Debug)]
pub struct KernelLog {
    path: PathBuf,
    from: From,
    source: Option<Box<dyn LogSource>>,
    classifier: Classifier,
    lines: u64,
    lost: u64,
}

impl KernelLog {
    pub fn new(path: &Path, from: From) -> KernelLog {
        let path = path.to_path_buf();
        KernelLog { path, from, source: None, classifier: Classifier::new(), lines: 0, lost: 0 }
    }

    /// For drills: lines that a person writes into `/dev/kmsg` count.
    pub fn trusting_user_space(self) -> KernelLog {
        KernelLog { classifier: self.classifier.trusting_user_space(), ..self }
    }

    fn words(&self, just_now: u64) -> String {
        let (lines, lost) = (self.lines, self.lost);
        match (lost, just_now) {
            (0, _) => format!("{lines} lines read"),
            (_, 0) => format!("{lines} lines read, {lost} lost before they were read"),
            _ => format!(
                "{lines} lines read, {lost} lost before they were read ({just_now} just now)"
            ),
        }
    }

    fn read_lines(&mut self) -> std::io::Result<Vec<Finding>> {
        if self.source.is_none() {
            self.source = Some(source::open(&self.path, self.from)?);
            // Opened again after an error: what was written meanwhile is still there.
            self.from = From::Boot;
        }
        let source = self.source.as_mut().expect("opened above");
        let mut findings: Vec<Finding> = Vec::new();
        for _ in 0..LINES_A_READING_MAX {
            match source.next()? {
                None => break,
                Some(Input::Lost(records)) => self.lost += records.max(1),
                Some(Input::Line(line)) => {
                    self.lines += 1;
                    let Some(finding) = self.classifier.read(&line) else { continue };
                    let is_repeated =
                        findings.iter().any(|known| known.is_about_the_same(&finding));
                    if !is_repeated && findings.len() < FINDINGS_A_READING_MAX {
                        findings.push(finding);
                    }
                }
            }
        }
        Ok(findings)
    }
}

impl Check for KernelLog {
    fn about(&self) -> About {
        About {
            name: "kernel.log",
            meaning: "what drivers and the kernel write of faults: numbers of the NVIDIA driver, \
                      machine checks, PCIe, adapters, disks, lockups, heat",
            source: "/dev/kmsg",
            thresholds: "every line that docs/health.md lists; told once in each reading",
            interval: Duration::from_secs(1),
            confirmations: 1,
            may_wait: false,
            cost: "one system call when nothing was written; 5 µs a line",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        let lost_before = self.lost;
        match self.read_lines() {
            Ok(happened) => {
                let just_now = self.lost - lost_before;
                Reading::Seen { words: self.words(just_now), open: Vec::new(), happened }
            }
            Err(error) => {
                self.source = None;
                Reading::Unknown(why(&self.path, &error))
            }
        }
    }
}

fn why(path: &Path, error: &std::io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{path} may not be read: it takes root, CAP_SYSLOG, or kernel.dmesg_restrict=0")
        }
        _ => format!("{path} cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_written_is_found_once_a_reading() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut log = KernelLog::new(file.path(), From::Now);
        let lost = "NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.";
        writeln!(file, "{lost}").unwrap();
        assert_eq!(log.read(Duration::ZERO), Reading::of("0 lines read", vec![]));
        writeln!(file, "{lost}\nnothing\n{lost}").unwrap();
        let Reading::Seen { happened, words, .. } = log.read(Duration::ZERO) else { panic!() };
        assert_eq!(happened.len(), 1);
        assert_eq!(words, "3 lines read");
    }

    #[test]
    fn a_log_that_cannot_be_read_is_unknown() {
        let mut log = KernelLog::new(Path::new("/nonexistent/kmsg"), From::Now);
        let Reading::Unknown(why) = log.read(Duration::ZERO) else { panic!() };
        assert!(why.contains("/nonexistent/kmsg cannot be read"), "{why}");
    }
}
