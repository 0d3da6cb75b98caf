//! One line of a kernel log, whoever wrote it down.
//!
//! The same words of a driver reach us bare, as raw records of `/dev/kmsg`, as `dmesg` prints
//! them in any of its formats, and through syslog or the journal. What stands around them is
//! taken off here, and says when it was and whether the kernel itself spoke.

use std::time::Duration;

/// The facility of the kernel in a syslog priority. User space cannot write with it.
const KERNEL_FACILITY: u64 = 0;

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The kernel, or nobody says otherwise.
    Kernel,
    /// A process that wrote into the same log.
    UserSpace,
}

/// A line without what the log put around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub speaker: Speaker,
    /// 0 is an emergency, 7 debugging.
    pub level: Option<u8>,
    /// The number of the record, in `/dev/kmsg`.
    pub sequence: Option<u64>,
    /// Since the boot.
    pub at: Option<Duration>,
    pub text: &'a str,
}

impl<'a> Record<'a> {
    pub fn parse(line: &'a str) -> Record<'a> {
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(record) = raw(line) {
            return record;
        }
        let mut record =
            Record { speaker: Speaker::Kernel, level: None, sequence: None, at: None, text: line };
        // Headers nest: the journal's around syslog's around dmesg's.
        while let Some(rest) = record.strip_one(record.text) {
            record.text = rest;
        }
        record
    }

    fn strip_one(&mut self, text: &'a str) -> Option<&'a str> {
        self.strip_priority(text)
            .or_else(|| self.strip_brackets(text))
            .or_else(|| strip_decoded_level(text))
            .or_else(|| self.strip_syslog(text))
    }

    /// `<4>`
    fn strip_priority(&mut self, text: &'a str) -> Option<&'a str> {
        let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
        self.set_priority(digits.parse().ok().filter(|_| digits.len() <= 3)?);
        Some(rest)
    }

    /// `[   12.345678]`, `[Sun Feb 23 16:24:24 2025]`, `[...]`, and the caller of new kernels:
    /// `[    T123]`, `[   C4]`.
    fn strip_brackets(&mut self, text: &'a str) -> Option<&'a str> {
        let (inside, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
        let inside = inside.trim();
        if inside.len() > 40 {
            return None;
        }
        if let Some(at) = seconds(inside) {
            self.at = Some(at);
        } else if inside != "..." && !is_calendar_time(inside) && !is_caller(inside) {
            return None;
        }
        Some(rest.strip_prefix(' ').unwrap_or(rest))
    }

    /// `Oct 16 20:47:19 host kernel: `, `2025-01-21T04:41:44+00:00 host kernel: `, `host kernel: `,
    /// and the same with the name of a process.
    fn strip_syslog(&mut self, text: &'a str) -> Option<&'a str> {
        if let Some(rest) = strip_timestamp(text) {
            return Some(self.strip_names(rest).unwrap_or(rest));
        }
        if let Some(rest) = text.strip_prefix("kernel: ") {
            return Some(rest);
        }
        let (host, rest) = text.split_once(' ')?;
        rest.strip_prefix("kernel: ").filter(|_| !host.contains([':', '(', '[']))
    }

    /// `host kernel: ` and `host name[123]: `, after a timestamp.
    fn strip_names(&mut self, text: &'a str) -> Option<&'a str> {
        if let Some(rest) = text.strip_prefix("kernel: ") {
            return Some(rest);
        }
        let (host, rest) = text.split_once(' ')?;
        if host.ends_with(':') {
            return None;
        }
        let (name, rest) = rest.split_once(": ")?;
        if name == "kernel" {
            return Some(rest);
        }
        // `name[123]` is a process; a bare word may as well be how a driver begins.
        let (process, pid) = name.strip_suffix(']')?.split_once('[')?;
        let is_process = !process.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
        if !is_process || process.contains(' ') || process == "kernel" {
            return None;
        }
        self.speaker = Speaker::UserSpace;
        Some(rest)
    }

    fn set_priority(&mut self, priority: u64) {
        self.level = Some((priority & 7) as u8);
        if priority >> 3 != KERNEL_FACILITY {
            self.speaker = Speaker::UserSpace;
        }
    }
}

/// `6,339,5140900,-;text`: priority, sequence, microseconds since the boot, flags, and more.
fn raw(line: &str) -> Option<Record<'_>> {
    let (header, text) = line.split_once(';')?;
    let mut fields = header.split(',');
    let priority = number(fields.next()?)?;
    let sequence = number(fields.next()?)?;
    let microseconds = number(fields.next()?)?;
    fields.next()?;
    let mut record = Record {
        speaker: Speaker::Kernel,
        level: None,
        sequence: Some(sequence),
        at: Some(Duration::from_micros(microseconds)),
        text,
    };
    record.set_priority(priority);
    Some(record)
}

fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// `12.345678`
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.')?;
    let (whole, _) = (number(whole)?, number(fraction)?);
    let micros = format!("{fraction:0<6}");
    Some(Duration::from_secs(whole) + Duration::from_micros(number(micros.get(..6)?)?))
}

/// `Sun Feb 23 16:24:24 2025`, and the offsets that `dmesg -e` and `-d` print.
fn is_calendar_time(text: &str) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    DAYS.iter().any(|day| text.starts_with(day)) && text.contains(':')
        || is_month(text.get(..3).unwrap_or_default())
        || text.strip_prefix('+').and_then(seconds).is_some()
}

fn is_month(word: &str) -> bool {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    MONTHS.contains(&word)
}

/// `T123`, `C4`
fn is_caller(text: &str) -> bool {
    text.strip_prefix(['T', 'C']).is_some_and(|digits| number(digits).is_some())
}

/// `kern  :warn  : ` of `dmesg -x`.
fn strip_decoded_level(text: &str) -> Option<&str> {
    const FACILITIES: [&str; 6] = ["kern", "user", "daemon", "syslog", "auth", "local"];
    const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    let (facility, rest) = text.split_once(':')?;
    if !FACILITIES.iter().any(|known| facility.trim().starts_with(known)) || facility.len() > 8 {
        return None;
    }
    let (level, rest) = rest.split_once(':')?;
    LEVELS.contains(&level.trim()).then(|| rest.trim_start())
}

/// `Oct 16 20:47:19 ` or a time as ISO 8601 writes it.
fn strip_timestamp(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once(' ')?;
    if first.len() >= 19 && first.as_bytes().get(10) == Some(&b'T') && first.starts_with("20") {
        return Some(rest.trim_start());
    }
    if !is_month(first) {
        return None;
    }
    let (day, rest) = rest.trim_start().split_once(' ')?;
    number(day)?;
    let (clock, rest) = rest.trim_start().split_once(' ')?;
    (clock.len() >= 8 && clock.bytes().filter(|b| *b == b':').count() == 2).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.";

    #[test]
    fn every_header_comes_off() {
        for header in [
            "",
            "4,339,5140900,-;",
            "4,339,5140900,-,caller=T12;",
            "<4>",
            "<4>[  103.5] ",
            "[   12.345678] ",
            "[   12.345678][ T1234] ",
            "[...] ",
            "[Sun Feb 23 16:24:24 2025] ",
            "[Feb23 16:24] ",
            "kern  :warn  : 2025-01-21T04:41:44,285060+00:00 ",
            "kern  :warn  : [  103.5] ",
            "kernel: [16450076.435595] ",
            "kernel: ",
            "node17 kernel: ",
            "Oct 16 20:47:19 node17 kernel: ",
            "Oct  6 20:47:19 node17 kernel: [  103.5] ",
            "2025-01-21T04:41:44+0000 node17 kernel: ",
            "2025-01-21T04:41:44.285060+00:00 node17 kernel: [  103.5] ",
        ] {
            let line = format!("{header}{TEXT}\n");
            let record = Record::parse(&line);
            assert_eq!(record.text, TEXT, "{header}");
            assert_eq!(record.speaker, Speaker::Kernel, "{header}");
        }
    }

    #[test]
    fn what_a_process_writes_is_told_apart() {
        for header in [
            "12,339,5140900,-;",
            "<30>",
            "Oct 16 20:47:19 node17 python3[4711]: ",
            "2025-01-21T04:41:44+0000 node17 systemd-coredump[7]: ",
        ] {
            let line = format!("{header}{TEXT}");
            let record = Record::parse(&line);
            assert_eq!(record.text, TEXT, "{header}");
            assert_eq!(record.speaker, Speaker::UserSpace, "{header}");
        }
    }

    #[test]
    fn a_raw_record_has_its_number_level_and_time() {
        let record = Record::parse("3,42,1500000,-;nvme nvme0: I/O timeout");
        assert_eq!(record.sequence, Some(42));
        assert_eq!(record.level, Some(3));
        assert_eq!(record.at, Some(Duration::from_millis(1500)));
        assert_eq!(Record::parse("[    1.5] x").at, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_words_of_drivers_are_left_alone() {
        for text in [
            "{1}[Hardware Error]: event severity: fatal",
            "[Hardware Error]: Machine check events logged",
            "mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 7",
            "md/raid1:md0: Disk failure on sda1, disabling device.",
            "block nvme0n1: no available path - failing I/O",
            "[drm] GPU recovery disabled.",
        ] {
            assert_eq!(Record::parse(text).text, text);
        }
    }
}
