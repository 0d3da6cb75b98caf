//! A fleet summed up: its network tree and its power tree, with runs of alike branches as one.

use super::Fleet;
use super::power::PowerKind;
use super::watts::Watts;
use crate::topology::Level;
use serde::Serialize;
use std::collections::HashMap;

/// `times` places side by side that are alike in all but their names. Counts are of one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// `fleet`, `site`, `hall`, `spine`, `leaf`, `rack`, `nvlink`, `node`; `feed`, `UPS`, `PDU`.
    pub level: &'static str,
    pub first: String,
    /// The same as `first` where there is only one.
    pub last: String,
    pub times: u64,
    pub nodes: u64,
    pub gpus: u64,
    /// What its nodes draw at most; 0 where no platform has a figure.
    pub load_w: Watts,
    /// Of feeds, UPSes and PDUs.
    pub capacity_w: Option<Watts>,
    /// Of nodes.
    pub platform: Option<String>,
    pub children: Vec<Branch>,
}

/// Site, hall, spine, leaf, rack, NVLink domain, node.
pub fn network(fleet: &Fleet) -> Branch {
    let mut arena = Arena::new(&fleet.name);
    let platforms: Vec<&str> = fleet.platforms.keys().map(String::as_str).collect();
    let mut by_name: HashMap<(usize, Level, &str), usize> = HashMap::new();
    for node in &fleet.nodes {
        let platform = platforms.binary_search(&node.platform.as_str()).ok();
        arena.count(0, node.gpus, platform);
        let mut at = 0;
        for (level, name) in node.location.path() {
            at = *by_name
                .entry((at, level, name))
                .or_insert_with(|| arena.add(at, level.name(), name));
            arena.count(at, node.gpus, platform);
        }
        arena.put(at, &node.name, node.gpus, platform);
    }
    for knot in &mut arena.knots {
        let load = |(index, count): (usize, &u64)| fleet.platforms[platforms[index]].load(*count);
        knot.load = knot.by_platform.iter().enumerate().filter_map(load).map(|watts| watts.0).sum();
    }
    let loads: Vec<_> = platforms.iter().map(|name| fleet.platforms[*name].load(1)).collect();
    arena.branch(&platforms, &loads)
}

/// Site, feed, UPS, PDU, rack. `None` when the file says nothing about power.
pub fn power(fleet: &Fleet) -> Option<Branch> {
    let units = &fleet.power.units;
    if units.is_empty() {
        return None;
    }
    let mut arena = Arena::new(&fleet.name);
    let mut sites: HashMap<&str, usize> = HashMap::new();
    let mut open_ends: HashMap<&str, usize> = HashMap::new();
    let mut knots: Vec<usize> = vec![0; units.len()];
    for kind in [PowerKind::Feed, PowerKind::Ups, PowerKind::Pdu, PowerKind::Rack] {
        for (index, unit) in units.iter().enumerate().filter(|(_, unit)| unit.kind == kind) {
            let site = *sites.entry(&unit.site).or_insert_with(|| match unit.site.as_str() {
                "" => 0,
                site => arena.add(0, "site", site),
            });
            let parent = match unit.parent {
                Some(parent) => knots[parent],
                None if kind == PowerKind::Feed => site,
                None => *open_ends
                    .entry(&unit.site)
                    .or_insert_with(|| arena.add(site, "hanging on", "nothing")),
            };
            let name = if unit.name.is_empty() { "(no rack)" } else { &unit.name };
            knots[index] = arena.add(parent, kind.name(), name);
            let knot = &mut arena.knots[knots[index]];
            knot.load = unit.load.0;
            knot.capacity = unit.capacity;
        }
    }
    arena.add_up();
    Some(arena.branch(&[], &[]))
}

/// Nodes side by side in one place, of one platform and size.
struct Run {
    platform: Option<usize>,
    gpus: u16,
    count: u64,
    first: String,
    last: String,
}

#[derive(Default)]
struct Knot {
    level: &'static str,
    name: String,
    parent: usize,
    children: Vec<usize>,
    runs: Vec<Run>,
    nodes: u64,
    gpus: u64,
    load: u64,
    capacity: Option<Watts>,
    by_platform: Vec<u64>,
}

/// What makes two knots alike: all but the names.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    level: &'static str,
    load: u64,
    capacity: Option<Watts>,
    runs: Vec<(Option<usize>, u16, u64)>,
    /// Shape of the children, and how many in a row.
    children: Vec<(usize, u64)>,
}

/// Parents stand before their children; the root first.
struct Arena {
    knots: Vec<Knot>,
}

impl Arena {
    fn new(name: &str) -> Arena {
        let name = if name.is_empty() { "the fleet" } else { name };
        Arena { knots: vec![Knot { level: "fleet", name: name.into(), ..Knot::default() }] }
    }

    fn add(&mut self, parent: usize, level: &'static str, name: &str) -> usize {
        let index = self.knots.len();
        self.knots.push(Knot { level, name: name.to_string(), parent, ..Knot::default() });
        self.knots[parent].children.push(index);
        index
    }

    fn count(&mut self, at: usize, gpus: u16, platform: Option<usize>) {
        let knot = &mut self.knots[at];
        knot.nodes += 1;
        knot.gpus += u64::from(gpus);
        if let Some(platform) = platform {
            if knot.by_platform.len() <= platform {
                knot.by_platform.resize(platform + 1, 0);
            }
            knot.by_platform[platform] += 1;
        }
    }

    fn put(&mut self, at: usize, name: &str, gpus: u16, platform: Option<usize>) {
        let runs = &mut self.knots[at].runs;
        match runs.last_mut() {
            Some(run) if (run.platform, run.gpus) == (platform, gpus) => {
                run.count += 1;
                run.last.clear();
                run.last.push_str(name);
            }
            _ => runs.push(Run {
                platform,
                gpus,
                count: 1,
                first: name.to_string(),
                last: name.to_string(),
            }),
        }
    }

    /// Loads of those knots that have none of their own: sites and the whole.
    fn add_up(&mut self) {
        for index in (1..self.knots.len()).rev() {
            let (load, parent) = (self.knots[index].load, self.knots[index].parent);
            if ["fleet", "site", "hanging on"].contains(&self.knots[parent].level) {
                self.knots[parent].load += load;
            }
        }
    }

    fn branch(&self, platforms: &[&str], loads: &[Option<Watts>]) -> Branch {
        let mut shapes: HashMap<Shape, usize> = HashMap::new();
        let mut shape_of = vec![0; self.knots.len()];
        for index in (0..self.knots.len()).rev() {
            let knot = &self.knots[index];
            let shape = Shape {
                level: knot.level,
                load: knot.load,
                capacity: knot.capacity,
                runs: knot.runs.iter().map(|run| (run.platform, run.gpus, run.count)).collect(),
                children: runs_of(&knot.children, &shape_of)
                    .iter()
                    .map(|run| (shape_of[run[0]], run.len() as u64))
                    .collect(),
            };
            let next = shapes.len();
            shape_of[index] = *shapes.entry(shape).or_insert(next);
        }
        self.draw(&[0], &shape_of, platforms, loads)
    }

    /// `alike` are knots side by side of one shape.
    fn draw(
        &self,
        alike: &[usize],
        shape_of: &[usize],
        platforms: &[&str],
        loads: &[Option<Watts>],
    ) -> Branch {
        let (first, last) = (&self.knots[alike[0]], &self.knots[alike[alike.len() - 1]]);
        let places = runs_of(&first.children, shape_of);
        let mut children: Vec<Branch> =
            places.iter().map(|run| self.draw(run, shape_of, platforms, loads)).collect();
        children.extend(first.runs.iter().map(|run| Branch {
            level: "node",
            first: run.first.clone(),
            last: run.last.clone(),
            times: run.count,
            nodes: 1,
            gpus: u64::from(run.gpus),
            load_w: run.platform.and_then(|platform| loads[platform]).unwrap_or_default(),
            capacity_w: None,
            platform: run.platform.map(|platform| platforms[platform].to_string()),
            children: Vec::new(),
        }));
        Branch {
            level: first.level,
            first: first.name.clone(),
            last: last.name.clone(),
            times: alike.len() as u64,
            nodes: first.nodes,
            gpus: first.gpus,
            load_w: Watts(first.load),
            capacity_w: first.capacity,
            platform: None,
            children,
        }
    }
}

/// Neighbours of one shape together.
fn runs_of<'a>(children: &'a [usize], shape_of: &[usize]) -> Vec<&'a [usize]> {
    children.chunk_by(|one, other| shape_of[*one] == shape_of[*other]).collect()
}
