//! Files that a person writes: TOML with unknown keys refused, and errors that point at the line.

use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong in a file, where, and what to do about it. `Display` is several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    pub path: PathBuf,
    /// Line and column from 1, and the line itself, where the fault has a place.
    pub place: Option<Place>,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub width: usize,
    pub text: String,
}

impl std::error::Error for FileError {}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.place {
            Some(place) => {
                let number = place.line.to_string();
                let gutter = " ".repeat(number.len());
                writeln!(f, "{path}:{}:{}: {}", place.line, place.column, self.message)?;
                writeln!(f, "{gutter} |")?;
                writeln!(f, "{number} | {}", place.text)?;
                write!(
                    f,
                    "{gutter} | {}{}",
                    " ".repeat(place.column - 1),
                    "^".repeat(place.width.max(1))
                )?;
            }
            None => write!(f, "{path}: {}", self.message)?,
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// The text of a file and where it came from: makes errors that point into it.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        toml::from_str(self.text).map_err(|error| {
            let message = error.message().lines().next().unwrap_or("not valid").to_string();
            let hint = did_you_mean(&message);
            self.error(error.span(), message, hint)
        })
    }

    pub fn error(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> FileError {
        FileError {
            path: self.path.to_path_buf(),
            place: span.map(|span| self.place(span)),
            message: message.into(),
            hint,
        }
    }

    /// The error of a value that parsed but makes no sense, at its key: `gang.nodes`.
    pub fn error_at_key(
        &self,
        key: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> FileError {
        self.error(self.find_key(key), message, hint)
    }

    /// The same for an entry of a list of tables: at its `name`, if it has one.
    pub fn error_at_entry(
        &self,
        key: &str,
        entry: Option<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> FileError {
        let span = entry.and_then(|entry| self.find_entry(key, entry));
        self.error(span.or_else(|| self.find_key(key)), message, hint)
    }

    fn find_entry(&self, key: &str, entry: usize) -> Option<Range<usize>> {
        let root = toml::de::DeTable::parse(self.text).ok()?;
        let list = root.get_ref().get(key)?.get_ref().as_array()?;
        let value = list.get(entry)?;
        let name = value.get_ref().as_table().and_then(|table| table.get("name"));
        Some(name.map_or_else(|| value.span(), toml::Spanned::span))
    }

    /// Where the value of a dotted key stands; the table's own place when the key is not given.
    fn find_key(&self, key: &str) -> Option<Range<usize>> {
        let root = toml::de::DeTable::parse(self.text).ok()?;
        let mut table = root.get_ref();
        let mut span = None;
        for part in key.split('.') {
            let value = table.get(part)?;
            span = Some(value.span());
            match value.get_ref() {
                toml::de::DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        span
    }

    fn place(&self, span: Range<usize>) -> Place {
        let start = span.start.min(self.text.len());
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let end = span.end.clamp(start, line_end);
        Place {
            line: before.matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            width: self.text[start..end].chars().count(),
            text: self.text[line_start..line_end].to_string(),
        }
    }
}

/// For serde's "unknown field `x`, expected one of `a`, `b`": the nearest of those expected.
pub(crate) fn did_you_mean(message: &str) -> Option<String> {
    let (kind, rest) = message
        .strip_prefix("unknown field `")
        .map(|rest| ("key", rest))
        .or_else(|| message.strip_prefix("unknown variant `").map(|rest| ("value", rest)))?;
    let (given, rest) = rest.split_once('`')?;
    let expected: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    nearest(given, expected.iter().copied())
        .map(|best| format!("did you mean `{best}`?"))
        .or_else(|| Some(format!("the {kind}s known here are: {}", expected.join(", "))))
}

/// The candidate that `given` was most probably meant to be, if any is near enough.
pub fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| {
            // Whoever left the end away meant this one: `wait_max` is `wait_max_ms`.
            let is_cut = given.len() >= 4 && candidate.starts_with(given);
            let distance = strsim::damerau_levenshtein(given, candidate);
            (if is_cut { distance.min(1) } else { distance }, candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.len().max(given.len()) / 3 + 1)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only parsed")]
    struct Sample {
        gang: Gang,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only parsed")]
    struct Gang {
        nodes: u32,
        gpus_per_node: u16,
    }

    fn parse_error(text: &str) -> String {
        let source = Source { path: Path::new("job.toml"), text };
        source.parse::<Sample>().unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_shown_with_the_nearest_known_one() {
        insta::assert_snapshot!(parse_error("[gang]\nnods = 2\ngpus_per_node = 2\n"), @r"
        job.toml:2:1: unknown field `nods`, expected `nodes` or `gpus_per_node`
          |
        2 | nods = 2
          | ^^^^
        hint: did you mean `nodes`?
        ");
    }

    #[test]
    fn a_wrong_type_is_shown_where_it_stands() {
        insta::assert_snapshot!(parse_error("[gang]\nnodes = \"two\"\ngpus_per_node = 2\n"), @r#"
        job.toml:2:9: invalid type: string "two", expected u32
          |
        2 | nodes = "two"
          |         ^^^^^
        "#);
    }

    #[test]
    fn a_negative_and_a_broken_file_are_errors() {
        assert!(parse_error("[gang]\nnodes = -1\ngpus_per_node = 2").contains("job.toml:2:9"));
        assert!(parse_error("[gang\nnodes").contains("job.toml:1:"));
        assert!(parse_error("").contains("missing field `gang`"));
    }

    #[test]
    fn a_far_word_is_not_offered() {
        assert_eq!(nearest("zzzzzz", ["nodes", "gpus"].into_iter()), None);
        assert_eq!(nearest("node", ["nodes", "gpus"].into_iter()), Some("nodes"));
        let keys = ["trail_max", "wait_max_ms"];
        assert_eq!(nearest("wait_max", keys.into_iter()), Some("wait_max_ms"));
    }
}
