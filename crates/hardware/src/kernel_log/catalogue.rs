//! What the numbers of the NVIDIA driver mean: `data/xid.csv`, compiled in.
//!
//! The file is searched when a number turns up, which is seldom, so that an agent that sees none
//! pays nothing for it.

use lindos_model::{Action, Severity, Suspect};

const TEXT: &str = include_str!("../../data/xid.csv");

/// Which driver counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Xid`: a GPU.
    Xid,
    /// `SXid`: an NVSwitch.
    Sxid,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub code: u32,
    pub severity: Severity,
    pub action: Action,
    pub suspect: Suspect,
    /// The numbers of the same GPU that this one only follows from.
    pub follows: Follows,
    /// As in the headers of the driver.
    pub name: &'static str,
    /// In our words.
    pub meaning: &'static str,
    /// Where sources differ, and what was decided.
    pub note: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It tells of itself.
    Nothing,
    Any,
    These(Vec<u32>),
}

impl Follows {
    pub fn includes(&self, code: u32) -> bool {
        match self {
            Follows::Nothing => false,
            Follows::Any => true,
            Follows::These(codes) => codes.contains(&code),
        }
    }

    fn parse(text: &str) -> Option<Follows> {
        Some(match text {
            "" => Follows::Nothing,
            "*" => Follows::Any,
            codes => {
                Follows::These(codes.split(' ').map(|c| c.parse().ok()).collect::<Option<_>>()?)
            }
        })
    }
}

/// What is known of a number; `None` for one that no source lists.
pub fn find(kind: Kind, code: u32) -> Option<Entry> {
    let letter = if kind == Kind::Xid { "x" } else { "s" };
    let start = format!("{letter},{code},");
    TEXT.lines().find(|line| line.starts_with(&start)).and_then(parse)
}

/// All of it, in the order of the file.
pub fn all() -> impl Iterator<Item = Entry> {
    rows().filter_map(parse)
}

fn rows() -> impl Iterator<Item = &'static str> {
    TEXT.lines().filter(|line| !line.starts_with('#'))
}

fn parse(line: &'static str) -> Option<Entry> {
    let fields: Vec<&'static str> = line.split(',').collect();
    let [kind, code, severity, action, suspect, follows, name, meaning, note] = fields.as_slice()
    else {
        return None;
    };
    Some(Entry {
        kind: match *kind {
            "x" => Kind::Xid,
            "s" => Kind::Sxid,
            _ => return None,
        },
        code: code.parse().ok()?,
        severity: Severity::from_word(severity)?,
        action: Action::from_word(action)?,
        suspect: Suspect::from_word(suspect)?,
        follows: Follows::parse(follows)?,
        name,
        meaning,
        note,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_read_once_and_means_something() {
        let mut seen = BTreeSet::new();
        for row in rows() {
            let entry = parse(row).unwrap_or_else(|| panic!("not a row: {row}"));
            assert!(seen.insert((entry.kind == Kind::Sxid, entry.code)), "twice: {row}");
            assert!(!entry.meaning.is_empty() && !entry.name.is_empty(), "{row}");
            assert_eq!(find(entry.kind, entry.code), Some(entry));
        }
        let xids = all().filter(|entry| entry.kind == Kind::Xid).count();
        assert_eq!((xids, seen.len() - xids), (176, 400));
    }

    #[test]
    fn a_fault_that_stops_hardware_says_what_to_do() {
        for entry in all().filter(|entry| entry.severity.is_loss_of_hardware()) {
            assert_ne!(entry.action, Action::None, "{} {}", entry.code, entry.name);
        }
    }

    #[test]
    fn the_codes_that_others_follow_from_are_known() {
        for entry in all() {
            if let Follows::These(codes) = &entry.follows {
                for code in codes {
                    assert!(find(Kind::Xid, *code).is_some(), "{} follows {code}", entry.code);
                }
            }
        }
    }
}
