//! Names by pattern: `abl-{hall}-r{rack:04}-n{node:02}`.

use crate::file::nearest;

/// What a pattern may ask for, besides the names of site and hall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Of the node in its rack, from 1.
    Node,
    /// Of the rack, row, leaf and spine in the hall, from 1.
    Rack,
    Row,
    Leaf,
    Spine,
    /// Of the node in the hall, from 1.
    Index,
    /// Of the hall among those that one table stands for, from 1.
    Number,
}

const COUNTERS: [(&str, Counter); 7] = [
    ("node", Counter::Node),
    ("rack", Counter::Rack),
    ("row", Counter::Row),
    ("leaf", Counter::Leaf),
    ("spine", Counter::Spine),
    ("index", Counter::Index),
    ("number", Counter::Number),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Site,
    Hall,
    /// Filled with zeros to the width; without one, to that of the largest there is.
    Count(Counter, Option<usize>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

/// What is put into a pattern.
pub trait Values {
    fn site(&self) -> &str;
    fn hall(&self) -> &str;
    /// The number, and the digits of the largest of its kind.
    fn count(&self, counter: Counter) -> (u64, usize);
}

impl Pattern {
    /// Reads a pattern; `allowed` are the counters that mean something where it stands.
    pub fn parse(text: &str, allowed: &[Counter]) -> Result<Pattern, (String, Option<String>)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            if !rest[open..].starts_with('{') {
                return Err((format!("`{text}` has a `}}` without its `{{`"), None));
            }
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_string()));
            }
            let close = rest[open..]
                .find('}')
                .ok_or_else(|| (format!("`{text}` has a `{{` without its `}}`"), None))?;
            parts.push(part(&rest[open + 1..open + close], text, allowed)?);
            rest = &rest[open + close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_string()));
        }
        Ok(Pattern { parts })
    }

    pub fn fill(&self, values: &impl Values) -> String {
        use std::fmt::Write as _;
        let mut name = String::with_capacity(24);
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Site => name.push_str(values.site()),
                Part::Hall => name.push_str(values.hall()),
                Part::Count(counter, width) => {
                    let (number, digits) = values.count(*counter);
                    let width = width.unwrap_or(digits);
                    let _ = write!(name, "{number:0width$}");
                }
            }
        }
        name
    }

    pub fn has(&self, counter: Counter) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Count(c, _) if *c == counter))
    }
}

fn part(
    placeholder: &str,
    text: &str,
    allowed: &[Counter],
) -> Result<Part, (String, Option<String>)> {
    let (name, width) = match placeholder.split_once(':') {
        None => (placeholder, None),
        Some((name, width)) => {
            let digits = width.parse::<usize>().ok().filter(|width| (1..=9).contains(width));
            let digits = digits.ok_or_else(|| {
                let hint = "a width is a number of digits from 1 to 9: {rack:04}".to_string();
                (format!("`{text}`: `{width}` is not a width"), Some(hint))
            })?;
            (name, Some(digits))
        }
    };
    let known = |counter: &Counter| allowed.contains(counter);
    let counter = COUNTERS.iter().find(|(word, counter)| *word == name && known(counter));
    match (name, counter) {
        ("site", _) if width.is_none() => Ok(Part::Site),
        ("hall", _) if width.is_none() && !known(&Counter::Number) => Ok(Part::Hall),
        (_, Some((_, counter))) => Ok(Part::Count(*counter, width)),
        _ => {
            let mut words = vec!["site"];
            if !known(&Counter::Number) {
                words.push("hall");
            }
            words.extend(COUNTERS.iter().filter(|(_, c)| known(c)).map(|(word, _)| *word));
            let hint = match nearest(name, words.iter().copied()) {
                Some(best) if best != name => format!("did you mean `{{{best}}}`?"),
                _ => format!("known here are {{{}}}", words.join("}, {")),
            };
            Err((format!("`{text}`: there is no `{{{placeholder}}}`"), Some(hint)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample;

    impl Values for Sample {
        fn site(&self) -> &'static str {
            "abilene"
        }
        fn hall(&self) -> &'static str {
            "hall-1"
        }
        fn count(&self, counter: Counter) -> (u64, usize) {
            if counter == Counter::Rack { (7, 3) } else { (4, 1) }
        }
    }

    fn fill(text: &str) -> Result<String, (String, Option<String>)> {
        Pattern::parse(text, &[Counter::Rack, Counter::Node]).map(|pattern| pattern.fill(&Sample))
    }

    #[test]
    fn numbers_are_as_wide_as_the_largest_or_as_asked() {
        assert_eq!(fill("{site}-r{rack}-n{node:02}").unwrap(), "abilene-r007-n04");
        assert_eq!(fill("{hall}.{rack:05}").unwrap(), "hall-1.00007");
        assert_eq!(fill("plain").unwrap(), "plain");
    }

    #[test]
    fn a_wrong_pattern_says_what_is_known() {
        for (text, expected) in [
            ("n{rac}", "did you mean `{rack}`?"),
            ("n{building}", "{site}, {hall}, {node}, {rack}"),
            ("n{index}", "there is no `{index}`"),
            ("n{rack", "without its `}`"),
            ("nrack}", "without its `{`"),
            ("n{rack:x}", "not a width"),
        ] {
            let (message, hint) = fill(text).unwrap_err();
            let said = format!("{message} {}", hint.unwrap_or_default());
            assert!(said.contains(expected), "{text} gave {said}");
        }
    }
}
