//! Data goes to stdout, messages to stderr.

use crate::failure::{Exit, Failure};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};

/// Writes data and flushes it, so that a program at the other end of a pipe has it at once.
pub fn data(text: &str) -> Result<(), Failure> {
    bytes(printable(text).as_bytes())
}

/// Words of nodes and programs stand in what people read: none of them may steer a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(steers) {
        Cow::Owned(text.replace(steers, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
        if error.kind() == ErrorKind::BrokenPipe {
            Failure::silent(Exit::ReaderGone)
        } else {
            Failure::new(
                Exit::Failed,
                format!("the output could not be written: {error}"),
                "check where the output is redirected to",
            )
        }
    })
}

/// One value as indented JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    data(&(to_json(value, true) + "\n"))
}

/// One value as one line of JSON.
pub fn json_line<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    data(&(to_json(value, false) + "\n"))
}

fn to_json<T: Serialize + ?Sized>(value: &T, is_indented: bool) -> String {
    if is_indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }
        .expect("our types have string keys and no failing serializers")
}

/// A line for the person, not part of the data. A closed stderr is nobody's loss.
pub fn message(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// The width for tables: the terminal's, and 80 where there is none.
pub fn width() -> u16 {
    const DEFAULT: u16 = 80;
    const NARROWEST: u16 = 40;
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.max(NARROWEST),
        _ => DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_steers_the_terminal() {
        assert_eq!(printable("a\tb\n"), "a\tb\n");
        assert_eq!(printable("x\u{1b}[2J\r\u{9b}y"), "x\u{fffd}[2J\u{fffd}\u{fffd}y");
    }
}
