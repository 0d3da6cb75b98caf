use crate::failure::{Exit, Failure};
use crate::output;
use clap::Args;
use lindos_hardware::kernel_log::{Classifier, score::NONE};
use lindos_model::{Finding, FindingClass};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub struct ClassifyArgs {
    /// A kernel log: lines of /dev/kmsg, dmesg, syslog or the journal; without it, or with -, stdin
    file: Option<PathBuf>,
    /// Also believe what processes have written into the log, as in a drill
    #[arg(long)]
    trust_user_space: bool,
    /// Print one JSON object a line of the log
    #[arg(long)]
    json: bool,
}

/// Longer lines are cut there; what is cut off is passed over.
const LINE_BYTES_MAX: usize = 64 << 10;

pub fn classify(args: &ClassifyArgs) -> Result<(), Failure> {
    let mut input = open(args.file.as_deref())?;
    let mut classifier = Classifier::new();
    if args.trust_user_space {
        classifier = classifier.trusting_user_space();
    }
    let mut printer = Printer { json: args.json, lines: 0, findings: 0 };
    let mut line = Vec::new();
    while read_line(&mut input, &mut line).map_err(|error| unreadable(&error))? {
        printer.print(classifier.read(&String::from_utf8_lossy(&line)).as_ref())?;
    }
    printer.end();
    Ok(())
}

fn open(file: Option<&Path>) -> Result<Box<dyn BufRead>, Failure> {
    match file {
        Some(path) if path != Path::new("-") => {
            let open = File::open(path).and_then(|file| {
                let is_folder = file.metadata()?.is_dir();
                if is_folder { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
            });
            let file = open.map_err(|error| {
                Failure::bad_input(
                    format!("{} cannot be read: {error}", path.display()),
                    "give a file of kernel log lines, or pipe them in: dmesg | lindos health classify",
                )
            })?;
            Ok(Box::new(BufReader::new(file)))
        }
        _ => {
            if std::io::stdin().is_terminal() {
                output::message("reading kernel log lines from the terminal; Ctrl-D ends them");
            }
            Ok(Box::new(BufReader::new(std::io::stdin())))
        }
    }
}

/// The next line, at most so long; `false` at the end.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut limited = input.take(LINE_BYTES_MAX as u64);
    if limited.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if !line.ends_with(b"\n") && line.len() == LINE_BYTES_MAX {
        skip_line(input)?;
    }
    Ok(true)
}

fn skip_line(input: &mut dyn BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (used, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(place) => (place + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the log cannot be read any further: {error}"),
        "dmesg and journalctl -k print the kernel log as text: pipe that in",
    )
}

/// One line of `--json`.
#[derive(Serialize)]
struct Reading<'a> {
    class: &'a str,
    severity: &'a str,
    action: &'a str,
    device: Option<String>,
    code: Option<u32>,
    source: Option<&'a str>,
    suspect: Option<&'a str>,
    cause: Option<&'a FindingClass>,
}

impl<'a> Reading<'a> {
    fn of(finding: &'a Finding) -> Reading<'a> {
        Reading {
            class: finding.class.as_str(),
            severity: finding.severity.as_str(),
            action: finding.action.as_str(),
            device: finding.device.as_ref().map(ToString::to_string),
            code: finding.code,
            source: Some(finding.source.as_str()),
            suspect: Some(finding.suspect.as_str()),
            cause: finding.cause.as_ref(),
        }
    }

    fn of_nothing() -> Reading<'a> {
        Reading {
            class: NONE,
            severity: NONE,
            action: NONE,
            device: None,
            code: None,
            source: None,
            suspect: None,
            cause: None,
        }
    }
}

struct Printer {
    json: bool,
    lines: u64,
    findings: u64,
}

impl Printer {
    /// At once: whoever reads a pipe has its answer before the next line comes.
    fn print(&mut self, finding: Option<&Finding>) -> Result<(), Failure> {
        self.lines += 1;
        if self.json {
            let reading = finding.map_or_else(Reading::of_nothing, Reading::of);
            self.findings += u64::from(finding.is_some());
            return output::json_line(&reading);
        }
        let Some(finding) = finding else { return Ok(()) };
        self.findings += 1;
        let title = if self.findings == 1 { TITLE } else { "" };
        output::data(&format!("{title}{}\n", row(self.lines, finding)))
    }

    fn end(&self) {
        if !self.json {
            output::message(summary(self.lines, self.findings));
        }
    }
}

const TITLE: &str = "LINE   SEVERITY   CLASS                         DEVICE         ACTION\n";

/// The columns are as wide as their words mostly are: rows are printed before the last is known.
fn row(line: u64, finding: &Finding) -> String {
    let device = finding.device.as_ref().map_or("-".to_string(), ToString::to_string);
    let mut action = finding.action.to_string();
    if let Some(cause) = &finding.cause {
        action = format!("follows {cause}");
    }
    format!("{line:<6} {:<10} {:<29} {device:<14} {action}", finding.severity, finding.class)
}

fn summary(lines: u64, findings: u64) -> String {
    let plural =
        |count: u64, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match findings {
        0 => format!("{}: nothing that tells of a fault", plural(lines, "line")),
        _ => format!("{}, {}", plural(lines, "line"), plural(findings, "finding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_the_next_one_is_whole() {
        let text = [vec![b'x'; LINE_BYTES_MAX * 3], b"\nnext\n".to_vec()].concat();
        let mut input: Box<dyn BufRead> = Box::new(BufReader::new(std::io::Cursor::new(text)));
        let mut line = Vec::new();
        assert!(read_line(input.as_mut(), &mut line).unwrap());
        assert_eq!(line.len(), LINE_BYTES_MAX);
        assert!(read_line(input.as_mut(), &mut line).unwrap());
        assert_eq!(line, b"next\n");
        assert!(!read_line(input.as_mut(), &mut line).unwrap());
    }

    #[test]
    fn a_row_says_what_follows_from_what() {
        let mut classifier = Classifier::new();
        let lost = classifier.read("NVRM: Xid (PCI:0000:17:00): 79, lost").unwrap();
        let after = classifier.read("NVRM: Xid (PCI:0000:17:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)").unwrap();
        insta::assert_snapshot!(format!("{TITLE}{}\n{}", row(1, &lost), row(12, &after)), @"
        LINE   SEVERITY   CLASS                         DEVICE         ACTION
        1      node-fatal gpu.xid.79                    0000:17:00     reboot
        12     node-fatal gpu.xid.154                   0000:17:00     follows gpu.xid.79
        ");
    }
}
