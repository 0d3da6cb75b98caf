//! Standing by: a process that was started before it has a rank waits here for one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;

/// The variables of this process, and those that it was told when it got its rank.
#[derive(Debug, Default)]
pub struct Environment {
    told: BTreeMap<String, String>,
}

impl Environment {
    /// Waits for a rank, if there is none yet. `None`: there will be none.
    pub fn of_rank() -> io::Result<Option<Self>> {
        match std::env::var_os("LINDOS_STANDBY") {
            Some(path) => read(&mut BufReader::new(UnixStream::connect(path)?)),
            None => Ok(Some(Self::default())),
        }
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = self.told.get(name).cloned().or_else(|| std::env::var(name).ok());
        value.filter(|value| !value.is_empty())
    }
}

/// `NAME=value`, a line each, and an empty line after the last. Without that they are not all.
fn read(lines: &mut impl BufRead) -> io::Result<Option<Environment>> {
    let mut environment = Environment::default();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            None => return Ok(None),
            Some("") => return Ok(Some(environment)),
            Some(line) => {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                environment.told.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<Environment> {
        read(&mut text.as_bytes()).unwrap()
    }

    #[test]
    fn a_rank_is_told_whole_or_not_at_all() {
        let environment = told("RANK=3\nMASTER_ADDR=fd00::2\nODD=a=b\nEMPTY=\n\n").unwrap();
        assert_eq!(environment.get("RANK").as_deref(), Some("3"));
        assert_eq!(environment.get("MASTER_ADDR").as_deref(), Some("fd00::2"));
        assert_eq!(environment.get("ODD").as_deref(), Some("a=b"));
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.get("PATH"), std::env::var("PATH").ok(), "what it had, it has");
        for part in ["", "RANK=3", "RANK=3\n", "RANK=3\nWORLD_SIZE=4\n"] {
            assert!(told(part).is_none(), "{part:?}");
        }
    }
}
