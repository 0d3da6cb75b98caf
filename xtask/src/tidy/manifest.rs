//! Every dependency from outside has a reason, and stands in one place.

use super::Breach;
use anyhow::Context as _;

/// In `[workspace.dependencies]`, a comment stands right above each dependency that is not ours:
/// why this one, or what it is for.
pub fn reasons(manifest: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut is_inside = false;
    let mut before = "";
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            is_inside = line == "[workspace.dependencies]";
        } else if is_inside && let Some((name, _)) = line.split_once('=') {
            let name = name.trim();
            let is_dependency = !line.starts_with('#') && !name.contains([' ', ']', '"']);
            if is_dependency && !name.starts_with("lindos-") && !before.starts_with('#') {
                breaches.push(Breach::new(
                    "Cargo.toml",
                    Some(index + 1),
                    format!("`{name}` has no reason: say above it why it is here"),
                ));
            }
        }
        before = line;
    }
    breaches
}

/// A crate takes its dependencies from the workspace, so that each has one version and one reason.
pub fn inherited(path: &str, manifest: &str) -> anyhow::Result<Vec<Breach>> {
    let table: toml::Table = manifest.parse().with_context(|| path.to_string())?;
    let mut breaches = Vec::new();
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = table.get(kind).and_then(toml::Value::as_table) else { continue };
        for (name, value) in dependencies {
            let is_inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            if !is_inherited {
                breaches.push(Breach::new(
                    path,
                    None,
                    format!("`{name}` must come from the workspace: `{name}.workspace = true`"),
                ));
            }
        }
    }
    Ok(breaches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_is_a_breach() {
        let manifest = "[workspace.dependencies]\nlindos-model = { path = \"x\" }\n\n# Errors.\n\
                        anyhow = \"1\"\nserde = \"1\"\n\n[profile.dev]\ndebug = 1\n";
        let breaches = reasons(manifest);
        assert_eq!(breaches.len(), 1, "{breaches:?}");
        assert!(breaches[0].message.contains("`serde`"));
        assert_eq!(breaches[0].line, Some(6));
    }

    #[test]
    fn a_version_of_its_own_is_a_breach() {
        let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n\
                        [dev-dependencies]\nc = { workspace = true, features = [\"x\"] }\n";
        let breaches = inherited("crates/x/Cargo.toml", manifest).unwrap();
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].message.contains("`b`"));
    }
}
