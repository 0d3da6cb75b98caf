use crate::failure::Failure;
use lindos_hardware::burnin::Expected;
use std::path::Path;

/// A file where there is one, or where it can only be one; otherwise a platform's name.
pub fn of(platform: Option<&str>) -> Result<Expected, Failure> {
    let Some(platform) = platform else { return Ok(Expected::default()) };
    let path = Path::new(platform);
    let is_file = path.exists() || platform.contains(['/', '.']);
    if !is_file {
        return Expected::of_platform(platform)
            .map_err(|(message, hint)| Failure::bad_input(message, hint));
    }
    let hint = "the figures of a node: docs/burnin.md";
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::bad_input(format!("{platform}: {error}"), hint))?;
    Expected::parse(path, &text).map_err(|error| {
        let own = error.hint.clone();
        Failure { hint: own.or_else(|| Some(hint.to_string())), ..Failure::from(error) }
    })
}
