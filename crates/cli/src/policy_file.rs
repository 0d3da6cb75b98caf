//! Reads a policy file, for whoever starts a control plane.

use crate::failure::Failure;
use lindos_model::Policy;
use lindos_model::file::FileError;
use std::path::Path;

const HINT: &str = "the keys of a policy file: docs/queue.md";

/// The policy in a file; keys that are not given have their defaults.
pub fn load(path: &Path) -> Result<Policy, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::bad_input(format!("{}: {error}", path.display()), HINT))?;
    Policy::parse(path, &text).map_err(failure)
}

fn failure(error: FileError) -> Failure {
    let hint = error.hint.clone();
    Failure { hint: hint.or_else(|| Some(HINT.to_string())), ..Failure::from(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_file_that_makes_no_sense_is_pointed_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let missing = load(&path).unwrap_err().to_string();
        assert!(missing.contains("No such file") && missing.ends_with(HINT), "{missing}");
        std::fs::write(&path, "[[teams]]\nname = \"vision\"\nshare = 64\nlimit = 32\n").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("policy.toml:2:8: teams: `vision` has a share"), "{error}");
        std::fs::write(&path, "[[teams]]\nname = \"vision\"\nshares = 64\n").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.ends_with("hint: did you mean `share`?"), "{error}");
        std::fs::write(&path, "queue = \"backfill\"\n").unwrap();
        assert_eq!(load(&path).unwrap().queue, lindos_model::policy::QueueRule::Backfill);
    }
}
