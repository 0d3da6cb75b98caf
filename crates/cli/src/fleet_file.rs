//! Which fleet a person means: a file, or a ready-made one by its name.

use crate::failure::Failure;
use lindos_model::file::{FileError, nearest};
use lindos_model::fleet::{Fleet, ready};
use std::path::Path;

/// Reads a fleet, and refuses it if anything is wrong with it.
pub fn load(fleet: &str) -> Result<Fleet, Failure> {
    let (path, text) = read(fleet)?;
    Fleet::load(Path::new(&path), &text).map_err(failure)
}

/// Reads a fleet that may have something wrong with it: see [`Fleet::check`].
pub fn parse(fleet: &str) -> Result<Fleet, Failure> {
    let (path, text) = read(fleet)?;
    Fleet::parse(Path::new(&path), &text).map_err(failure)
}

/// The path that errors name, and the text. A ready-made fleet's name means that fleet, unless
/// there is such a file.
pub fn read(fleet: &str) -> Result<(String, String), Failure> {
    if let (Some(text), false) = (ready::text(fleet), Path::new(fleet).exists()) {
        return Ok((format!("fleets/{fleet}.toml"), text.to_string()));
    }
    let text = std::fs::read_to_string(fleet).map_err(|error| {
        let names = ready::ALL.iter().map(|(name, _)| *name);
        let hint = match nearest(fleet, names) {
            Some(best) => format!("did you mean the ready-made fleet `{best}`?"),
            None => "name a fleet file, or a ready-made fleet: `lindos fleet list`".to_string(),
        };
        Failure::bad_input(format!("{fleet}: {error}"), hint)
    })?;
    Ok((fleet.to_string(), text))
}

pub fn failure(error: FileError) -> Failure {
    let hint = error.hint.clone();
    Failure {
        hint: hint.or_else(|| Some("the keys of a fleet file: docs/fleet-file.md".into())),
        ..Failure::from(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_made_fleet_has_a_name() {
        assert_eq!(load("laptop").unwrap().gpus(), 6);
        let failure = load("stargate-2m").unwrap_err().to_string();
        assert!(failure.ends_with("hint: did you mean the ready-made fleet `stargate-1m`?"));
        let failure = load("no/such/file.toml").unwrap_err().to_string();
        assert!(failure.contains("`lindos fleet list`"), "{failure}");
    }
}
