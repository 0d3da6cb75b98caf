//! Rules that no compiler knows. Each is a pure function from text to breaches, with a test that
//! plants one; here the texts are read and the breaches counted.

mod files;
mod layers;
mod manifest;
mod source;
mod words;

use anyhow::Context as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A rule that is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// Relative to the repository.
    pub path: String,
    pub line: Option<usize>,
    pub message: String,
}

impl Breach {
    pub fn new(path: &str, line: Option<usize>, message: impl Into<String>) -> Breach {
        Breach { path: path.to_string(), line, message: message.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

#[derive(Debug)]
pub struct Report {
    breaches: Vec<Breach>,
    files: usize,
    lines: usize,
    median: usize,
}

impl Report {
    pub fn print(&self) -> ExitCode {
        for breach in &self.breaches {
            println!("{breach}");
        }
        println!(
            "tidy: {} files, {} lines, median {} lines a file; {} breaches",
            self.files,
            self.lines,
            self.median,
            self.breaches.len()
        );
        if self.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Checks the whole repository.
pub fn check(root: &Path) -> anyhow::Result<Report> {
    let mut breaches = files::missing(|name| root.join(name).is_file());
    let mut lengths = Vec::new();
    for path in sources(root)? {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
        lengths.push(text.lines().count());
        breaches.extend(files::length(&name, &text));
        if has_extension(&path, "rs") {
            breaches.extend(words::check(&name, &text));
        }
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml"))?;
    breaches.extend(manifest::reasons(&manifest));
    let metadata = metadata(root)?;
    breaches.extend(layers::check(&metadata));
    for package in &metadata.packages {
        if metadata.is_member(package) {
            let text = std::fs::read_to_string(&package.manifest_path)?;
            let name = package.manifest_path.strip_prefix(root)?.to_string_lossy().into_owned();
            breaches.extend(manifest::inherited(&name, &text)?);
        }
    }
    breaches.sort();
    let lines = lengths.iter().sum();
    Ok(Report { breaches, files: lengths.len(), lines, median: files::median(&mut lengths) })
}

fn metadata(root: &Path) -> anyhow::Result<layers::Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("the answer of cargo metadata")
}

/// Every file of code that people read, in a fixed order.
fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "xtask", "examples", "python"].iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if has_extension(&path, "rs") || has_extension(&path, "py") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
