//! Runs of the twin by which its speed is told: `lindos bench sim`.
//!
//! They are fleet scenarios as anybody writes them. `docs/twin.md` says what is measured.

use super::scenario::{FleetScenario, edit};
use std::path::Path;
use toml::Value;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: &'static str,
    pub text: &'static str,
    pub days: u32,
    /// For a look, not for a quotation.
    pub quick_days: u32,
}

pub const CASES: [Case; 3] = [
    Case { name: "16k", text: include_str!("16k.toml"), days: 54, quick_days: 5 },
    Case { name: "200k", text: include_str!("200k.toml"), days: 90, quick_days: 3 },
    Case { name: "1m", text: include_str!("1m.toml"), days: 30, quick_days: 1 },
];

impl Case {
    pub fn named(name: &str) -> Option<Case> {
        CASES.into_iter().find(|case| case.name == name)
    }

    /// # Panics
    ///
    /// Never: the scenarios ship with the program, and a test reads each.
    pub fn scenario(&self, is_quick: bool) -> FleetScenario {
        let no_files = |_: &str| Err(std::io::ErrorKind::NotFound.into());
        if !is_quick {
            let path = format!("{}.toml", self.name);
            return FleetScenario::parse(Path::new(&path), self.text, &no_files)
                .expect("it ships with the program");
        }
        let mut table: toml::Table = self.text.parse().expect("it ships with the program");
        let until = Value::String(format!("{}d", self.quick_days));
        edit::set(&mut table, "until", until).expect("it has this key");
        FleetScenario::of_table(table, &no_files).expect("it ships with the program")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_a_scenario_of_the_days_that_it_says() {
        for case in CASES {
            for (is_quick, days) in [(false, case.days), (true, case.quick_days)] {
                let scenario = case.scenario(is_quick);
                assert_eq!(scenario.until().0, u64::from(days) * 86_400_000, "{}", case.name);
            }
        }
        assert_eq!(Case::named("1m").unwrap().scenario(true).gpus(), 1_000_000);
    }
}
