//! Rust source with everything blanked that is not code: comments, the insides of strings, and
//! test modules. Lines keep their numbers.

/// The code of a file, without its tests.
pub fn code(text: &str) -> String {
    without_tests(&without_comments_and_strings(text))
}

/// Whether `word` stands in `line` as a word of its own; a path such as `std::time` counts as one.
pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn without_comments_and_strings(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            '/' if bytes.get(at + 1) == Some(&'/') => line_end(&bytes, at),
            '/' if bytes.get(at + 1) == Some(&'*') => comment_end(&bytes, at),
            '"' => string_end(&bytes, at),
            'r' | 'b' | 'c' if !follows_word(&bytes, at) => match raw_string_end(&bytes, at) {
                Some(end) => end,
                None => at,
            },
            '\'' => char_end(&bytes, at),
            _ => at,
        };
        if end == at {
            code.push(bytes[at]);
            at += 1;
        } else {
            code.extend(bytes[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn line_end(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|&c| c == '\n').map_or(text.len(), |length| at + length)
}

/// Comments in comments count.
fn comment_end(text: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

fn string_end(text: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn follows_word(text: &[char], at: usize) -> bool {
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_')
}

/// The end of `r"…"`, `r#"…"#`, `br"…"` and so on; `None` where no raw string begins.
fn raw_string_end(text: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    if matches!(text[at], 'b' | 'c') {
        at += 1;
    }
    if text.get(at) != Some(&'r') {
        return None;
    }
    at += 1;
    let hashes = text[at..].iter().take_while(|&&c| c == '#').count();
    at += hashes;
    if text.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < text.len() {
        let closes = text[at] == '"'
            && text[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        if closes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(text.len())
}

/// The end of a character such as `'"'`; a lifetime is left alone.
fn char_end(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => {
            let close = text[at + 2..].iter().skip(1).position(|&c| c == '\'');
            close.map_or(at, |length| at + 2 + 1 + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// Blanks every `#[cfg(test)] mod … { … }`. Braces can be counted: strings are gone.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        let end = item_end(from);
        kept.extend(from[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &from[end..];
    }
    kept + rest
}

/// Where the item behind an attribute ends: its `;`, or the brace that closes it.
fn item_end(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let text = "let a = \"HashMap\"; // HashMap\n/* HashMap /* nested */ HashMap */ let b = 'x';\n\
                    let c = r#\"HashMap \" HashMap\"#; let d = b\"HashMap\";\nfn e<'a>(f: &'a str) {}\n";
        let code = code(text);
        assert!(!code.contains("HashMap"), "{code}");
        assert_eq!(code.lines().count(), text.lines().count());
        for left in ["let a", "let b", "let c", "let d", "fn e<'a>(f: &'a str) {}"] {
            assert!(code.contains(left), "{left} is gone from {code}");
        }
    }

    #[test]
    fn quotes_in_characters_open_no_string() {
        let code = code("let a = ['\"', '\\'', '\\\\', '\\u{1F600}']; HashMap");
        assert!(code.contains("HashMap"), "{code}");
    }

    #[test]
    fn tests_are_left_out_and_what_follows_them_is_not() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { \"}\"; } }\n#[cfg(test)]\nmod s;\nfn c() {}";
        let code = code(text);
        assert!(code.contains("fn a") && code.contains("fn c"), "{code}");
        assert!(!code.contains("fn b") && !code.contains("mod s"), "{code}");
    }

    #[test]
    fn a_word_is_a_whole_word() {
        assert!(has_word("use std::collections::HashMap;", "HashMap"));
        assert!(!has_word("MyHashMaps", "HashMap"));
        assert!(has_word("std::time::Instant", "std::time"));
        assert!(!has_word("std::timeless", "std::time"));
        assert!(!has_word("as f640", "f64"));
    }
}
