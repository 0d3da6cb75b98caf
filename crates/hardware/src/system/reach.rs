//! What lies outside of the node and is needed: names that resolve, folders that answer.

use crate::health::check::{means, system_finding};
use crate::health::{About, Check, Reading};
use lindos_model::{Device, Finding};
use rustix::fs::Access;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug)]
pub struct Names {
    names: Vec<String>,
}

impl Names {
    pub fn new(names: Vec<String>) -> Names {
        Names { names }
    }
}

fn resolve(name: &str) -> Option<Finding> {
    let error = match (name, 0).to_socket_addrs() {
        Ok(mut addresses) => match addresses.next() {
            Some(_) => return None,
            None => "no address".to_string(),
        },
        Err(error) => error.to_string(),
    };
    let device = Some(Device::Named(name.to_string()));
    let detail = format!("{name} does not resolve: {error}");
    Some(system_finding("dns.unresolved", means::ELSEWHERE, device, detail))
}

impl Check for Names {
    fn about(&self) -> About {
        About {
            name: "dns.names",
            meaning: "a name that jobs need does not resolve",
            source: "the resolver of the system",
            thresholds: "names of the expectations; two failures in a row",
            interval: Duration::from_secs(60),
            confirmations: 2,
            may_wait: true,
            cost: "one look-up a name",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        if self.names.is_empty() {
            return Reading::Absent("no name is expected to resolve".to_string());
        }
        let open: Vec<Finding> = self.names.iter().filter_map(|name| resolve(name)).collect();
        let good = self.names.len() - open.len();
        Reading::of(format!("{good} of {} names resolve", self.names.len()), open)
    }
}

#[derive(Debug)]
pub struct Folders {
    folders: Vec<PathBuf>,
}

impl Folders {
    pub fn new(folders: Vec<PathBuf>) -> Folders {
        Folders { folders }
    }
}

fn try_folder(folder: &Path) -> Option<Finding> {
    let error = rustix::fs::statvfs(folder)
        .and_then(|_| rustix::fs::access(folder, Access::READ_OK | Access::WRITE_OK))
        .err()?;
    let device = Some(Device::Mount(folder.display().to_string()));
    let detail = format!("{} cannot be used: {error}", folder.display());
    Some(system_finding("storage.unreachable", means::ELSEWHERE, device, detail))
}

impl Check for Folders {
    fn about(&self) -> About {
        About {
            name: "storage.folders",
            meaning: "a folder that jobs need cannot be reached or written",
            source: "statvfs, access",
            thresholds: "folders of the expectations; unknown after 5 s without an answer",
            interval: Duration::from_secs(60),
            confirmations: 2,
            may_wait: true,
            cost: "two system calls a folder, and a short thread",
        }
    }

    fn read(&mut self, _now: Duration) -> Reading {
        if self.folders.is_empty() {
            return Reading::Absent("no folder is expected".to_string());
        }
        let open: Vec<Finding> = self.folders.iter().filter_map(|f| try_folder(f)).collect();
        let good = self.folders.len() - open.len();
        Reading::of(format!("{good} of {} folders answer", self.folders.len()), open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders_are_tried() {
        assert_eq!(resolve("localhost"), None);
        // Reserved for this by RFC 2606; without a network nothing resolves either.
        let unresolved = resolve("lindos.invalid").unwrap();
        assert_eq!(unresolved.class.as_str(), "dns.unresolved");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(try_folder(folder.path()), None);
        let unreachable = try_folder(&folder.path().join("none")).unwrap();
        assert_eq!(unreachable.class.as_str(), "storage.unreachable");
    }
}
