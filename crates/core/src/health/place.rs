//! A place that several nodes of a job share, and that is to blame: taken out as a group.

use crate::Core;
use crate::blame::answer::SharedPlace;
use crate::effect::Effects;
use lindos_model::finding::{Action, Finding, FindingClass, FindingSource, Severity};
use lindos_model::trail::{KeptIn, OutScope};
use lindos_model::{JobId, NodeId, Remedy, TrailKind};

impl Core {
    /// Nodes of a place. A pass over the fleet: a place is blamed seldom.
    pub(crate) fn nodes_of_place(&self, place: &SharedPlace) -> Vec<NodeId> {
        let nodes = self.fleet.nodes().iter().enumerate();
        let there = nodes.filter(|(_, node)| place.has(&node.spec.location));
        there.map(|(index, _)| NodeId(index as u32)).collect()
    }

    /// Takes out the nodes of a place that is to blame for a fault of a job, all of them or none.
    /// Those on which others work stay: they show by themselves whether it is theirs, too.
    pub(crate) fn take_out_place(&mut self, job: JobId, place: &SharedPlace, out: &mut Effects) {
        let mut nodes = self.nodes_of_place(place);
        nodes.retain(|&node| {
            let known = self.fleet.node(node);
            known.out.is_none() && known.allocations.iter().all(|a| a.job == job)
        });
        if nodes.is_empty() {
            return;
        }
        let kept_in = self.keeps_place_in(place, &nodes);
        let is_kept = kept_in.is_some();
        let (name, count) = (place.to_string(), nodes.len() as u32);
        let what = TrailKind::PlaceOut { place: name, nodes: count, kept_in };
        let epoch = self.jobs[&job].epoch;
        self.say(Some((job, Some(epoch))), None, what, out);
        if is_kept {
            return;
        }
        let finding = Finding::new(
            FindingClass::known("node.shared_fault"),
            Severity::Warning,
            Action::RunDiagnostics,
            FindingSource::Job,
            format!("{place} was to blame for a fault of job {job}"),
        );
        for node in nodes {
            self.take_out(node, &finding, Remedy::Diagnose, out);
        }
    }

    fn keeps_place_in(&self, place: &SharedPlace, nodes: &[NodeId]) -> Option<KeptIn> {
        if !self.policy.repair.automatic {
            return Some(KeptIn::NotAutomatic);
        }
        // A bound on what of a rack may be out is no bound on a rack that is itself to blame.
        let but: &[OutScope] = place.scopes();
        let checked = nodes.iter().enumerate();
        let mut kept =
            checked.filter_map(|(index, &node)| self.too_many_out_with(node, &nodes[..index], but));
        kept.next()
    }
}
