//! Reads a file of remedies, for whoever starts a control plane.

use crate::failure::Failure;
use lindos_server::remedies::Remedies;
use std::path::Path;

const HINT: &str = "the keys of a file of remedies: docs/repair.md";

/// What a file says; without one, nothing.
pub fn load(path: Option<&Path>) -> Result<Remedies, Failure> {
    let Some(path) = path else { return Ok(Remedies::default()) };
    Remedies::load(path).map_err(|error| {
        let hint = error.hint.clone();
        Failure { hint: hint.or_else(|| Some(HINT.to_string())), ..Failure::from(error) }
    })
}
