//! `lindos stand-by`: what `lindos.stand_by()` is for Python, for shell scripts.

use crate::failure::Failure;
use crate::output;
use clap::Args;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::{UnixDatagram, UnixStream};

/// In a job's script, where all is done that needs no rank: `eval "$(lindos stand-by)"`.
///
/// Waits for a rank where the script was started before there was one, and prints its variables for
/// the shell; prints `exit` when there will be none. Where the rank is known, it prints nothing.
#[derive(Args, Debug)]
pub struct StandByArgs {}

const STANDBY: &str = "LINDOS_STANDBY";
const BESIDE: &str = "LINDOS_STANDBY_BESIDE";
const SOCKET: &str = "LINDOS_SOCKET";

pub fn run(_: &StandByArgs) -> Result<(), Failure> {
    let Some(path) = std::env::var_os(STANDBY).filter(|path| !path.is_empty()) else {
        offer(std::env::var(SOCKET).ok());
        return Ok(());
    };
    let told = UnixStream::connect(path).and_then(|it| variables(&mut BufReader::new(it)));
    let Ok(Some(told)) = told else { return output::data("exit 0\n") };
    offer(told.iter().find(|(name, _)| name == SOCKET).map(|(_, value)| value.clone()));
    output::data(&for_a_shell(&told))
}

/// What comes up to an empty line; `None` when that does not come.
fn variables(lines: &mut impl BufRead) -> io::Result<Option<Vec<(String, String)>>> {
    let mut told = Vec::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            None => return Ok(None),
            Some("") => return Ok(Some(told)),
            Some(line) => {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                told.push((name.to_string(), value.to_string()));
            }
        }
    }
}

fn for_a_shell(told: &[(String, String)]) -> String {
    let mut text = format!("unset {STANDBY} {BESIDE}\n");
    for (name, value) in told {
        let quoted = value.replace('\'', r"'\''");
        writeln!(text, "export {name}='{quoted}'").expect("a string takes all");
    }
    text
}

/// This script can wait for its rank. Whoever is not listening need not know.
fn offer(socket: Option<String>) {
    let socket = socket.filter(|path| !path.is_empty());
    let sent = socket.and_then(|path| UnixDatagram::unbound().ok().map(|it| (it, path)));
    if let Some((socket, path)) = sent {
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to(br#"{"stand_by":true}"#, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_told_all_of_it_or_nothing() {
        let told = |text: &str| variables(&mut text.as_bytes()).unwrap();
        let all = told("RANK=3\nODD=a=b 'c' $(d)\n\n").unwrap();
        let expected = "unset LINDOS_STANDBY LINDOS_STANDBY_BESIDE\nexport RANK='3'\n\
                        export ODD='a=b '\\''c'\\'' $(d)'\n";
        assert_eq!(for_a_shell(&all), expected);
        assert_eq!(told("RANK=3\n"), None);
        assert_eq!(told(""), None);
    }
}
