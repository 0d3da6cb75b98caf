//! Words that may not stand in the code of some crates.

use super::Breach;
use super::source::{code, has_word};

struct Rule {
    /// The beginnings of the paths that it holds for.
    paths: &'static [&'static str],
    /// … except those.
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        paths: &["crates/core/src/", "crates/planner/src/"],
        except: &[],
        words: &["HashMap", "HashSet"],
        why: "its order differs from run to run: use a BTreeMap, or a Vec by dense ids",
    },
    Rule {
        paths: &["crates/core/src/"],
        except: &[],
        words: &["f32", "f64"],
        why: "core counts in integers, so that a replay gives the same on every machine",
    },
    Rule {
        paths: &["crates/core/src/", "crates/model/src/", "crates/planner/src/"],
        except: &[],
        words: &[
            "Instant",
            "SystemTime",
            "std::time",
            "std::thread",
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "tokio",
            "rand",
            "rand_chacha",
        ],
        why: "no clock, no I/O, no threads and no chance here: time and facts come in as events",
    },
    Rule {
        paths: &["crates/sim/src/"],
        except: &[],
        words: &["Instant::now", "SystemTime", "std::net", "tokio", "thread_rng"],
        why: "sim runs in virtual time, and equal seeds give equal runs",
    },
    Rule {
        paths: &["crates/"],
        except: &["crates/cli/"],
        words: &["println!", "eprintln!", "print!", "eprint!"],
        why: "only cli speaks to people: use tracing, or return it",
    },
    Rule {
        paths: &["crates/", "xtask/", "examples/"],
        except: &[],
        words: &["todo!", "unimplemented!", "dbg!"],
        why: "it was left behind",
    },
];

pub fn check(path: &str, text: &str) -> Vec<Breach> {
    // A module that is only declared under `cfg(test)` has this name.
    if path.ends_with("/src/tests.rs") || path.contains("/src/tests/") {
        return Vec::new();
    }
    // Tests and benchmarks are programs of their own, and build scripts speak to cargo.
    let is_program = ["/tests/", "/benches/", "/examples/", "/src/bin/"]
        .iter()
        .any(|folder| path.contains(folder))
        || path.ends_with("/build.rs");
    let code = code(text);
    let mut breaches = Vec::new();
    for rule in RULES {
        let prints = rule.words.contains(&"println!");
        let holds = rule.paths.iter().any(|start| path.starts_with(start))
            && !rule.except.iter().any(|start| path.starts_with(start))
            && !(prints && is_program);
        if !holds {
            continue;
        }
        for (index, line) in code.lines().enumerate() {
            for word in rule.words.iter().filter(|word| contains(line, word)) {
                breaches.push(Breach::new(
                    path,
                    Some(index + 1),
                    format!("`{word}` may not stand here: {}", rule.why),
                ));
            }
        }
    }
    breaches
}

/// A macro's `!` ends its name; anything else is a word or a path.
fn contains(line: &str, word: &str) -> bool {
    match word.strip_suffix('!') {
        Some(name) => line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_') && !name.is_empty()
        }),
        None => has_word(line, word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str, text: &str) -> Vec<String> {
        let breaches = check(path, text);
        let word = |breach: &Breach| breach.message.split('`').nth(1).unwrap().to_string();
        breaches.iter().map(word).collect()
    }

    #[test]
    fn core_has_no_hash_no_clock_no_float_and_no_io() {
        for (text, expected) in [
            ("use std::collections::HashMap;", "HashMap"),
            ("let a = HashSet::new();", "HashSet"),
            ("Instant::now()", "Instant"),
            ("SystemTime::now()", "SystemTime"),
            ("let a: f32 = b;", "f32"),
            ("a as f64", "f64"),
            ("std::thread::spawn", "std::thread"),
            ("use std::fs;", "std::fs"),
            ("std::net::TcpStream", "std::net"),
            ("rand::random()", "rand"),
        ] {
            assert_eq!(words("crates/core/src/a/b.rs", text), [expected], "{text}");
        }
        assert!(words("crates/core/src/a.rs", "// HashMap\nlet a = \"f64\";").is_empty());
        assert!(
            words("crates/core/src/a.rs", "#[cfg(test)]\nmod tests { use HashMap; }").is_empty()
        );
        assert!(words("crates/server/src/a.rs", "use std::collections::HashMap;").is_empty());
    }

    #[test]
    fn model_has_no_clock_and_sim_no_real_time() {
        assert_eq!(words("crates/model/src/a.rs", "use std::time::Duration;"), ["std::time"]);
        assert_eq!(words("crates/sim/src/a.rs", "let a = Instant::now();"), ["Instant::now"]);
        assert_eq!(words("crates/sim/src/a.rs", "tokio::spawn"), ["tokio"]);
    }

    #[test]
    fn only_cli_prints() {
        for text in ["println!(\"a\");", "eprintln!()", "print!(\"a\")"] {
            assert_eq!(words("crates/server/src/a.rs", text).len(), 1, "{text}");
            for path in ["crates/cli/src/a.rs", "crates/server/tests/a.rs", "xtask/src/main.rs"] {
                assert!(words(path, text).is_empty(), "{path}: {text}");
            }
        }
        assert!(
            words("crates/server/src/a.rs", "#[cfg(test)]\nmod t { fn a() { println!() } }")
                .is_empty()
        );
    }

    #[test]
    fn nothing_is_left_behind() {
        for (path, text) in [
            ("crates/cli/src/a.rs", "todo!()"),
            ("examples/tiny-gpt/src/a.rs", "unimplemented!()"),
            ("xtask/src/a.rs", "dbg!(a)"),
        ] {
            assert_eq!(words(path, text).len(), 1, "{text}");
        }
        assert!(words("crates/cli/src/a.rs", "my_todo!()").is_empty());
    }
}
