//! How well the classifier does on lines whose class is known: precision and recall by class.

use super::Classifier;
use std::collections::BTreeMap;
use std::io::Read;

/// The class of a line that means nothing.
pub const NONE: &str = "none";

/// A line and what it should be read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub id: String,
    pub line: String,
    pub expected_class: String,
}

/// What came of the lines of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that are of the class.
    pub expected: u64,
    /// Lines that were read as of the class.
    pub found: u64,
    /// Lines that are, and were.
    pub right: u64,
}

impl Tally {
    /// Of those that were read so, the share that is so; `None`: none was.
    pub fn precision(&self) -> Option<f64> {
        (self.found > 0).then(|| self.right as f64 / self.found as f64)
    }

    /// Of those that are so, the share that was read so; `None`: none is.
    pub fn recall(&self) -> Option<f64> {
        (self.expected > 0).then(|| self.right as f64 / self.expected as f64)
    }

    fn add(&mut self, other: &Tally) {
        self.expected += other.expected;
        self.found += other.found;
        self.right += other.right;
    }
}

/// A case that was read as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    pub case: Case,
    pub found_class: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub by_class: BTreeMap<String, Tally>,
    pub misses: Vec<Miss>,
}

impl Score {
    /// Reads the lines in order, as a log that consists of them.
    pub fn of(cases: Vec<Case>) -> Score {
        let mut classifier = Classifier::new();
        let mut score = Score::default();
        for case in cases {
            let finding = classifier.read(&case.line);
            let found = finding.map_or(NONE.to_string(), |finding| finding.class.to_string());
            score.count(case, found);
        }
        score
    }

    fn count(&mut self, case: Case, found_class: String) {
        self.by_class.entry(case.expected_class.clone()).or_default().expected += 1;
        self.by_class.entry(found_class.clone()).or_default().found += 1;
        if case.expected_class == found_class {
            self.by_class.entry(found_class).or_default().right += 1;
        } else {
            self.misses.push(Miss { case, found_class });
        }
    }

    /// Over all lines that mean something.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (class, tally) in &self.by_class {
            if class != NONE {
                total.add(tally);
            }
        }
        total
    }
}

/// Reads a table with at least the columns `line` and `expected_class`; `id` where there is one.
pub fn read_cases(input: impl Read) -> Result<Vec<Case>, String> {
    let mut reader = csv::Reader::from_reader(input);
    let headers = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| headers.iter().position(|header| header.trim() == name);
    let needed = |name: &str| {
        column(name).ok_or_else(|| {
            format!("there is no column {name:?}\nhint: the first row names the columns: line, expected_class, and id if you like")
        })
    };
    let (line, expected) = (needed("line")?, needed("expected_class")?);
    let id = column("id");
    let mut cases = Vec::new();
    for (number, row) in reader.records().enumerate() {
        let row = row.map_err(|error| error.to_string())?;
        let field = |place: usize| row.get(place).unwrap_or_default().to_string();
        cases.push(Case {
            id: id.map_or_else(|| (number + 1).to_string(), field),
            line: field(line),
            expected_class: field(expected),
        });
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_recall_are_counted_by_class() {
        let table = "line,expected_class\n\
                     \"NVRM: Xid (PCI:0000:17:00): 79, lost\",gpu.xid.79\n\
                     \"NVRM: Xid (PCI:0000:17:00): 79, lost\",none\n\
                     something else,mem.oom\n";
        let score = Score::of(read_cases(table.as_bytes()).unwrap());
        let lost = score.by_class["gpu.xid.79"];
        assert_eq!((lost.precision(), lost.recall()), (Some(0.5), Some(1.0)));
        assert_eq!(score.by_class["mem.oom"].recall(), Some(0.0));
        assert_eq!(score.by_class["mem.oom"].precision(), None);
        let total = score.total();
        assert_eq!((total.expected, total.found, total.right), (2, 2, 1));
        assert_eq!(score.misses.len(), 2);
    }

    #[test]
    fn a_table_without_the_columns_is_refused_with_a_hint() {
        let error = read_cases("id,text\n1,x\n".as_bytes()).unwrap_err();
        assert!(error.contains("no column \"line\"") && error.contains("hint:"), "{error}");
    }

    #[test]
    fn our_own_cases_are_read_as_they_should_be() {
        let cases = read_cases(include_str!("../../testdata/kernel_log_cases.csv").as_bytes());
        let score = Score::of(cases.unwrap());
        let misses: Vec<String> = score
            .misses
            .iter()
            .map(|miss| {
                format!("{} as {}: {}", miss.case.expected_class, miss.found_class, miss.case.line)
            })
            .collect();
        assert_eq!(misses, Vec::<String>::new());
        assert!(score.by_class.len() >= 100, "{} classes", score.by_class.len());
    }
}
