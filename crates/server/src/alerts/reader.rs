//! Reads the trail on the core thread: quickly, and without changing anything there.

use super::alert::{Alert, JobName, Node, Place, places};
use super::classify::{Classifier, Names};
use lindos_core::Core;
use lindos_model::{JobId, Millis, Time};
use std::collections::BTreeMap;

/// Entries looked at in one go: a fraction of a millisecond of the core's time.
const PAGE: usize = 500;
/// Places whose nodes are counted in one go; each costs a look at every node.
const COUNTED_MAX: usize = 8;

#[derive(Debug)]
pub struct Reader {
    classifier: Classifier,
    /// Nodes of a place, by its path, and of how many nodes in all that was.
    sizes: BTreeMap<String, (u32, usize)>,
}

#[derive(Debug)]
pub struct Page {
    pub alerts: Vec<Alert>,
    /// Entries that were forgotten before they were read.
    pub missed: u64,
    pub next_after: u64,
    pub is_last: bool,
    /// When it was read.
    pub now: Time,
}

struct Known<'a>(&'a Core);

impl Names for Known<'_> {
    fn node(&self, name: &str) -> Node {
        let known = self.0.node_by_name(name).and_then(|id| self.0.node(id));
        let places = known.map_or_else(Vec::new, |node| places(&node.spec.location));
        Node { name: name.to_string(), places }
    }

    fn job(&self, job: JobId) -> JobName {
        let name = self.0.job(job).map(|job| job.spec.name.clone()).unwrap_or_default();
        JobName { id: job.0, name }
    }
}

impl Reader {
    pub fn new(recovery_slow: Millis) -> Reader {
        Reader { classifier: Classifier::new(recovery_slow), sizes: BTreeMap::new() }
    }

    /// The alerts among the entries after number `after`.
    pub fn page(&mut self, core: &Core, after: u64, now: Time) -> Page {
        let mut page =
            Page { alerts: Vec::new(), missed: 0, next_after: after, is_last: true, now };
        for (read, entry) in core.trail_after(after).enumerate() {
            if read == PAGE {
                page.is_last = false;
                break;
            }
            if read == 0 {
                page.missed = entry.seq - after - 1;
            }
            page.next_after = entry.seq;
            page.alerts.extend(self.classifier.alert(entry, &Known(core)));
        }
        self.count(core, &mut page.alerts);
        page
    }

    /// Says of each place how many nodes it has. Those that come back stand where others have
    /// counted; a fleet that joins is not counted again and again.
    fn count(&mut self, core: &Core, alerts: &mut [Alert]) {
        let nodes = core.nodes();
        let mut counted = 0;
        for alert in alerts {
            let is_over = alert.is_over();
            let Some(node) = &mut alert.node else { continue };
            for place in &mut node.places {
                let known = self.sizes.get(&place.path).copied();
                let is_stale = known.is_none_or(|(_, of)| of != nodes.len());
                if is_stale && !is_over && counted < COUNTED_MAX {
                    counted += 1;
                    let size = size(core, &node.name, place);
                    self.sizes.insert(place.path.clone(), (size, nodes.len()));
                }
                place.nodes = self.sizes.get(&place.path).map_or(0, |(size, _)| *size);
            }
        }
    }
}

/// How many nodes share this place with the node.
fn size(core: &Core, node: &str, place: &Place) -> u32 {
    let Some(node) = core.node_by_name(node).and_then(|id| core.node(id)) else { return 0 };
    let shares = |other: &&lindos_core::health::fleet::Node| {
        place.kind.is_shared(&node.spec.location, &other.spec.location)
    };
    core.nodes().iter().filter(shares).count() as u32
}
