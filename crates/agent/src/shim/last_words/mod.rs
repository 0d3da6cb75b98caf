//! What the end of a failed rank's output says of why it failed.
//!
//! While a rank runs, only the end of its output is kept ([`Tail`]); it is read once, when the rank
//! has failed. One traceback decides: the last one, and of a chain of them ("During handling of the
//! above exception …") the first, because what came after it is how the program took it. Where a
//! launcher's summary shows that several processes share the output, the one that did not only
//! lose its peers decides. What is not known says nothing: then the exit status has to do.

mod catalogue;

use catalogue::{ECHOES, FATAL, LAST_LINES, Meaning, PHRASES, Sign, TERMINATES, TYPES};
use lindos_model::{Symptom, SymptomKind};

/// So much of the end of a rank's output is kept: a few hundred lines.
const TAIL_BYTES: usize = 32 << 10;
/// Lines after that of an exception which may belong to its message.
const MESSAGE_LINES_MAX: usize = 8;
/// Lines after a traceback within which it still explains how the process ended.
const STILL_NEAR: usize = 100;

/// The end of a rank's output.
#[derive(Debug, Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    pub fn push(&mut self, output: &[u8]) {
        let from = output.len().saturating_sub(TAIL_BYTES);
        // Moved together seldom, so that short writes cost no more than their copy.
        if self.0.len() + output.len() - from > 2 * TAIL_BYTES {
            let surplus = self.0.len().saturating_sub(TAIL_BYTES);
            self.0.drain(..surplus);
        }
        self.0.extend_from_slice(&output[from..]);
    }

    pub fn symptom(&self) -> Option<Symptom> {
        let from = self.0.len().saturating_sub(TAIL_BYTES);
        symptom(&String::from_utf8_lossy(&self.0[from..]))
    }
}

/// What one traceback, or one line, says.
#[derive(Clone, Debug)]
struct Told<'a> {
    kind: Option<SymptomKind>,
    line: &'a str,
    at: usize,
}

fn symptom(output: &str) -> Option<Symptom> {
    let lines: Vec<String> = output.lines().map(bare).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let found =
        fatal(&lines).or_else(|| of_tracebacks(&lines)).or_else(|| of_last_lines(&lines))?;
    Some(Symptom { kind: found.kind?, line: cut(found.line) })
}

fn fatal<'a>(lines: &[&'a str]) -> Option<Told<'a>> {
    lines.iter().enumerate().find_map(|(at, line)| {
        let kind = look_up(FATAL, line)?.kind();
        Some(Told { kind, line, at })
    })
}

/// A traceback whose exception is not known still is why the process ended: then it says nothing,
/// and neither does what follows it.
fn of_tracebacks<'a>(lines: &[&'a str]) -> Option<Told<'a>> {
    let (chains, has_echo) = tracebacks(lines);
    let newest = chains.last()?;
    if lines.len() - newest.at > STILL_NEAR {
        return None;
    }
    if !has_echo {
        return Some(newest.clone());
    }
    let known = || chains.iter().filter(|told| told.kind.is_some());
    let cause = known().find(|told| told.kind != Some(SymptomKind::Peer));
    cause.or_else(|| known().next()).or(Some(newest)).cloned()
}

/// What each chain of tracebacks says, and whether a launcher has added its summary.
fn tracebacks<'a>(lines: &[&'a str]) -> (Vec<Told<'a>>, bool) {
    let mut chains: Vec<Told> = Vec::new();
    let mut has_echo = false;
    let mut is_linked = false;
    let mut at = 0;
    while at < lines.len() {
        if is_link(lines[at]) {
            is_linked = true;
        } else if begins_traceback(lines[at]) {
            let Some(end) = exception_after(lines, at) else { break };
            let told = Told { kind: of_exception(lines, end), line: lines[end].trim(), at: end };
            let linked = std::mem::take(&mut is_linked);
            if ECHOES.contains(&type_of(told.line)) {
                has_echo = true;
            } else if let Some(first) = chains.last_mut().filter(|_| linked) {
                if first.kind.is_none() {
                    *first = told;
                } else {
                    first.at = end;
                }
            } else {
                chains.push(told);
            }
            at = end;
        }
        at += 1;
    }
    (chains, has_echo)
}

fn begins_traceback(line: &str) -> bool {
    line.trim_end().ends_with("Traceback (most recent call last):")
}

fn is_link(line: &str) -> bool {
    line.contains("During handling of the above exception, another exception occurred")
        || line.contains("The above exception was the direct cause of the following exception")
}

/// Where the exception of the traceback that begins at `begin` is named: the first line that is
/// not indented further.
fn exception_after(lines: &[&str], begin: usize) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines[begin]);
    let is_it = |line: &str| !line.trim().is_empty() && indent(line) <= own;
    let after = lines[begin + 1..].iter().position(|line| is_it(line))?;
    Some(begin + 1 + after)
}

/// `torch.distributed.DistBackendError: …` is a `DistBackendError`.
fn type_of(line: &str) -> &str {
    let name = line.split([':', ' ']).next().unwrap_or_default();
    name.rsplit('.').next().unwrap_or_default()
}

fn of_exception(lines: &[&str], at: usize) -> Option<SymptomKind> {
    let own = lines[at];
    let name = type_of(own);
    let by_type = || TYPES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let is_peers = by_type() == Some(Meaning::Says(SymptomKind::Peer));
    let of_rest = || {
        let rest = lines[at + 1..].iter().take(MESSAGE_LINES_MAX);
        let mut rest = rest.take_while(|line| !line.trim().is_empty() && !begins_traceback(line));
        rest.find_map(|line| look_up(PHRASES, line))
    };
    // That of a lost peer may hold more exact words further down.
    let found = look_up(PHRASES, own);
    if found.is_none() && is_peers {
        return of_rest().or_else(by_type)?.kind();
    }
    found.or_else(by_type).or_else(of_rest)?.kind()
}

/// Without a traceback: C++, Rust, and what says so in one line.
fn of_last_lines<'a>(lines: &[&'a str]) -> Option<Told<'a>> {
    let near = lines.len().saturating_sub(STILL_NEAR);
    let last = lines.iter().enumerate().skip(near);
    last.filter_map(|(at, &line)| {
        let meaning = of_terminate(lines, at).or_else(|| of_panic(lines, at));
        let meaning = meaning.or_else(|| look_up(LAST_LINES, line))?;
        Some(Told { kind: meaning.kind(), line: line.trim(), at })
    })
    .find(|told| told.kind.is_some())
}

fn of_terminate(lines: &[&str], at: usize) -> Option<Meaning> {
    let line = lines[at];
    if line.contains("terminate called after throwing an instance of") {
        return look_up(TERMINATES, line);
    }
    line.trim_start().starts_with("what():").then(|| look_up(PHRASES, line))?
}

/// A panic says what it is in its own line, or in the one after it.
fn of_panic(lines: &[&str], at: usize) -> Option<Meaning> {
    if !(lines[at].starts_with("thread '") && lines[at].contains("panicked at")) {
        return None;
    }
    let message = lines[at..].iter().take(2).find_map(|line| look_up(PHRASES, line));
    Some(message.unwrap_or(Meaning::Says(SymptomKind::Program)))
}

fn look_up(signs: &[Sign], line: &str) -> Option<Meaning> {
    signs.iter().find(|(words, _)| line.contains(words)).map(|(_, kind)| *kind)
}

/// A line without colours and without the rank that some launchers and PyTorch put before it.
fn bare(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.peek() == Some(&'[') {
            // Up to the letter that ends it.
            rest.next();
            while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
        } else if c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    let prefix = plain.strip_prefix('[').and_then(|after| after.split_once("]:"));
    match prefix {
        Some((word, after)) if is_rank(word) => {
            after.strip_prefix(' ').unwrap_or(after).to_string()
        }
        _ => plain,
    }
}

/// `rank3`, `default3`.
fn is_rank(word: &str) -> bool {
    let number = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    number.len() < word.len() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

fn cut(line: &str) -> String {
    let mut end = line.len().min(Symptom::LINE_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_string()
}

#[cfg(test)]
mod tests;
