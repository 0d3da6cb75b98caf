//! Where agents and the control plane write what they trace. `LINDOS_LOG` sets how much: `error`,
//! `warn`, `info` (the default), `debug` or `trace`.

use crate::failure::Failure;
use std::fs::{File, OpenOptions};
use std::path::Path;
use tracing::level_filters::LevelFilter;

/// A log this long when it is opened is set aside as `….1`, so that at most twice this is kept.
const BYTES_MAX: u64 = 16 << 20;

fn level() -> LevelFilter {
    std::env::var("LINDOS_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::INFO)
}

pub fn to_stderr() {
    // An error means that somebody set one before: then that one stays.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level())
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .try_init();
}

pub fn to_file(path: &Path) -> Result<(), Failure> {
    let file = open(path)?;
    let _ = tracing_subscriber::fmt()
        .with_max_level(level())
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(file))
        .try_init();
    Ok(())
}

/// A log file to append to.
pub fn open(path: &Path) -> Result<File, Failure> {
    let attempt = || -> std::io::Result<File> {
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > BYTES_MAX) {
            let mut old = path.as_os_str().to_owned();
            old.push(".1");
            std::fs::rename(path, old)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    attempt().map_err(|error| {
        Failure::state(
            format!("{} cannot be written: {error}", path.display()),
            "name a folder that you may write to with --state DIR",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_long_log_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        open(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        open(&path).unwrap().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(folder.path().join("a.log.1").exists());
    }
}
