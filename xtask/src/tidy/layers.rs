//! Which crate may know which: the table of the design, checked against `cargo metadata`.

use super::Breach;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Our crates, and those of ours that each may depend on. A crate that is not named here may not
/// be there; tests may use more.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("lindos-model", &[]),
    ("lindos-core", &["lindos-model"]),
    ("lindos-planner", &["lindos-model"]),
    ("lindos-api", &["lindos-model"]),
    ("lindos-hardware", &["lindos-model"]),
    ("lindos-journal", &["lindos-model", "lindos-core"]),
    ("lindos-sim", &["lindos-model", "lindos-core", "lindos-journal", "lindos-planner"]),
    ("lindos-agent", &["lindos-model", "lindos-api", "lindos-hardware"]),
    (
        "lindos-server",
        &["lindos-model", "lindos-core", "lindos-journal", "lindos-planner", "lindos-api"],
    ),
    (
        "lindos",
        &[
            "lindos-model",
            "lindos-core",
            "lindos-journal",
            "lindos-planner",
            "lindos-api",
            "lindos-sim",
            "lindos-hardware",
            "lindos-agent",
            "lindos-server",
        ],
    ),
    ("xtask", &[]),
    ("tiny-gpt", &[]),
];

/// Crates that may not even be reached, over any number of steps.
const MAY_NOT_REACH: &[(&str, &[&str], &str)] = &[
    ("lindos-model", &["tokio", "rand", "rand_core"], "model does nothing"),
    ("lindos-core", &["tokio", "rand", "rand_core"], "core knows no I/O and no chance"),
    ("lindos-planner", &["tokio", "rand", "rand_core"], "planner knows no I/O and no chance"),
    ("lindos-sim", &["tokio", "lindos-server", "lindos-agent"], "sim runs in virtual time"),
];

#[derive(Debug, Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    pub workspace_members: BTreeSet<String>,
    pub resolve: Resolve,
}

#[derive(Debug, Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub manifest_path: PathBuf,
}

#[derive(Debug, Deserialize)]
pub struct Resolve {
    pub nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    pub id: String,
    pub deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub pkg: String,
    pub dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
pub struct Kind {
    /// `None` for an ordinary one, else `dev` or `build`.
    pub kind: Option<String>,
}

impl Metadata {
    pub fn is_member(&self, package: &Package) -> bool {
        self.workspace_members.contains(&package.id)
    }

    /// Name → names of what it is built from; not what its tests use.
    fn graph(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let names: BTreeMap<&str, &str> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package.name.as_str()))
            .collect();
        let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for node in &self.resolve.nodes {
            let known = graph.entry(names[node.id.as_str()]).or_default();
            let is_ordinary = |kind: &Kind| kind.kind.is_none();
            let ordinary = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(is_ordinary));
            known.extend(ordinary.map(|dep| names[dep.pkg.as_str()]));
        }
        graph
    }
}

pub fn check(metadata: &Metadata) -> Vec<Breach> {
    let graph = metadata.graph();
    let members: Vec<&str> = metadata
        .packages
        .iter()
        .filter(|package| metadata.is_member(package))
        .map(|package| package.name.as_str())
        .collect();
    let mut breaches = Vec::new();
    for &member in &members {
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == member) else {
            breaches.push(Breach::new(
                member,
                None,
                "this crate has no place in the table of dependencies (xtask/src/tidy/layers.rs)",
            ));
            continue;
        };
        for known in graph[member].iter().filter(|known| members.contains(known)) {
            if !allowed.contains(known) {
                breaches.push(Breach::new(member, None, format!("it may not know `{known}`")));
            }
        }
    }
    for &(member, forbidden, why) in MAY_NOT_REACH {
        let reached = reach(&graph, member);
        for name in forbidden.iter().filter(|name| reached.contains(**name)) {
            breaches.push(Breach::new(member, None, format!("it reaches `{name}`: {why}")));
        }
    }
    breaches
}

fn reach<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = graph.get(from).into_iter().flatten().copied().collect();
    while let Some(name) = open.pop() {
        if let Some((&name, next)) = graph.get_key_value(name)
            && reached.insert(name)
        {
            open.extend(next);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crates and what they depend on; a name with `!` is used by tests alone.
    fn metadata(crates: &[(&str, &[&str])], foreign: &[&str]) -> Metadata {
        let all = crates.iter().map(|(name, _)| *name).chain(foreign.iter().copied());
        let package = |name: &str| Package {
            id: name.to_string(),
            name: name.to_string(),
            manifest_path: PathBuf::new(),
        };
        let dependency = |name: &&str| Dependency {
            pkg: name.trim_end_matches('!').to_string(),
            dep_kinds: vec![Kind { kind: name.ends_with('!').then(|| "dev".to_string()) }],
        };
        let mut nodes: Vec<Node> = crates
            .iter()
            .map(|(name, deps)| Node {
                id: (*name).to_string(),
                deps: deps.iter().map(dependency).collect(),
            })
            .collect();
        nodes.extend(foreign.iter().map(|name| Node { id: (*name).to_string(), deps: vec![] }));
        Metadata {
            packages: all.map(package).collect(),
            workspace_members: crates.iter().map(|(name, _)| (*name).to_string()).collect(),
            resolve: Resolve { nodes },
        }
    }

    #[test]
    fn the_allowed_directions_pass() {
        let crates: &[(&str, &[&str])] = &[
            ("lindos-model", &["serde"]),
            ("lindos-core", &["lindos-model", "tokio!"]),
            ("lindos-sim", &["lindos-core", "lindos-model"]),
            ("lindos-server", &["lindos-core", "tokio"]),
        ];
        assert_eq!(check(&metadata(crates, &["serde", "tokio"])), []);
    }

    #[test]
    fn a_wrong_direction_is_a_breach() {
        let crates: &[(&str, &[&str])] = &[
            ("lindos-model", &["lindos-core"]),
            ("lindos-core", &[]),
            ("lindos-agent", &["lindos-core"]),
        ];
        let breaches = check(&metadata(crates, &[]));
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert!(breaches[0].message.contains("may not know `lindos-core`"));
    }

    #[test]
    fn sim_may_not_reach_tokio_over_others() {
        let crates: &[(&str, &[&str])] = &[
            ("lindos-model", &[]),
            ("lindos-core", &["lindos-model"]),
            ("lindos-journal", &["tokio"]),
            ("lindos-sim", &["lindos-journal"]),
        ];
        let breaches = check(&metadata(crates, &["tokio"]));
        assert_eq!(breaches.len(), 1, "{breaches:?}");
        assert!(breaches[0].message.contains("reaches `tokio`"));
    }

    #[test]
    fn a_crate_without_a_place_is_a_breach() {
        let breaches = check(&metadata(&[("lindos-new", &[])], &[]));
        assert_eq!(breaches.len(), 1);
    }
}
