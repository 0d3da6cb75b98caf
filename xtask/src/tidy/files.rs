//! What there must be, and how long a file may grow.

use super::Breach;

/// A file should be read in one sitting.
const LINES_MAX: usize = 800;
/// The documents that a newcomer looks for.
const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE"];

pub fn missing(is_there: impl Fn(&str) -> bool) -> Vec<Breach> {
    DOCUMENTS
        .iter()
        .filter(|name| !is_there(name))
        .map(|name| Breach::new(name, None, "this document is missing"))
        .collect()
}

/// A longer file must begin by saying why: `//! long: …`, or `# long: …` in Python.
pub fn length(path: &str, text: &str) -> Option<Breach> {
    let lines = text.lines().count();
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"))?;
    let says_why = ["//! long: ", "# long: "].iter().any(|start| first.starts_with(start));
    (lines > LINES_MAX && !says_why).then(|| {
        Breach::new(
            path,
            None,
            format!(
                "{lines} lines, more than {LINES_MAX}: split it, or begin it with `//! long: WHY`"
            ),
        )
    })
}

pub fn median(lengths: &mut [usize]) -> usize {
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_document_is_a_breach() {
        let breaches = missing(|name| name != "README.md");
        assert_eq!(breaches.len(), 1);
        assert_eq!(breaches[0].path, "README.md");
    }

    #[test]
    fn a_long_file_must_say_why() {
        let long = "let x = 1;\n".repeat(LINES_MAX + 1);
        assert!(length("a.rs", &long).is_some());
        assert!(length("a.rs", &format!("//! long: one table\n{long}")).is_none());
        assert!(
            length("a.py", &format!("#!/usr/bin/python3\n# long: one table\n{long}")).is_none()
        );
        assert!(length("a.rs", &format!("//! A table.\n{long}")).is_some());
        assert!(length("a.rs", &"\n".repeat(LINES_MAX)).is_none());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [900, 1, 200]), 200);
        assert_eq!(median(&mut []), 0);
    }
}
