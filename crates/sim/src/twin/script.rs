//! What is known to happen: nodes that come, drains, faults whose time and place are on record.
//!
//! A scenario draws what fails ([`super::harm`]); a recording knows it. Whatever a deed says happens
//! at its moment, and the core answers to it as it would to the same words of a real fleet.

use super::answers::{Mending, UsualMending};
use super::harm::count;
use super::world::World;
use crate::reliability::Target;
use lindos_core::Event;
use lindos_model::finding::{Device, Finding, FindingClass};
use lindos_model::reservation::Reservation;
use lindos_model::{Exit, JobId, Mended, Millis, NodeId, NodeSpec, Policy, Time};

/// In the order of time; those of one moment in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub deeds: Vec<Deed>,
    /// How orders to mend a node end of which nothing is on record.
    pub usual: UsualMending,
}

#[derive(Clone, Debug)]
pub struct Deed {
    pub at: Time,
    pub what: What,
    /// Before all else of that moment; otherwise after it.
    pub is_first: bool,
    /// Deeds of one incident. If the first of them that strikes a job finds none, nobody notices,
    /// and nothing else of the incident comes.
    pub incident: Option<u32>,
}

/// Nodes are named by their place in the setup's list, jobs by theirs.
#[derive(Clone, Debug)]
pub enum What {
    /// A control plane takes over.
    Starts(Box<Policy>),
    Joins(Box<NodeSpec>),
    Drains {
        node: NodeId,
        reason: String,
    },
    Undrains(NodeId),
    Cancels(usize),
    Reserves(Box<Reservation>),
    Unreserves(String),
    /// A rank ends so, of a job that has this GPU, or of any there.
    RankEnds {
        node: NodeId,
        gpu: Option<u16>,
        exit: Exit,
    },
    /// What trains there gets no further, and nobody says so; a look at the ranks shows who it is, or
    /// does not.
    Hangs {
        node: NodeId,
        shows: bool,
    },
    /// What trains there stands still for so long, and nobody calls it a fault.
    Stalls {
        node: NodeId,
        span: Millis,
    },
    Dies(NodeId),
    Rises(NodeId),
    /// A check finds something on a node, and finds it no more.
    Finds {
        node: NodeId,
        finding: Box<Finding>,
    },
    FindsNoMore {
        node: NodeId,
        class: FindingClass,
        device: Option<Device>,
    },
    /// From now on, orders to mend the node end so.
    Mends {
        node: NodeId,
        mending: Box<Mending>,
    },
    /// A person says what became of a node that nobody had asked about.
    Says {
        node: NodeId,
        how: Mended,
    },
}

impl What {
    /// Whether it is felt only where something runs.
    fn strikes_jobs(&self) -> bool {
        matches!(self, What::RankEnds { .. } | What::Hangs { .. } | What::Stalls { .. })
    }
}

impl World<'_, '_> {
    pub(super) fn on_deed(&mut self, place: usize) {
        let script = self.setup.script.as_ref().expect("it has this deed");
        let deed = &script.deeds[place];
        if deed.incident.is_some_and(|incident| self.tallies.unfelt.contains(&incident)) {
            return;
        }
        let has_struck = self.do_deed(&deed.what);
        if let Some(incident) = deed.incident.filter(|_| deed.what.strikes_jobs()) {
            if has_struck {
                self.tallies.felt.insert(incident);
            } else if !self.tallies.felt.contains(&incident) {
                self.tallies.unfelt.insert(incident);
            }
        }
    }

    /// Whether it has struck a job.
    fn do_deed(&mut self, what: &What) -> bool {
        match what.clone() {
            What::Starts(policy) => {
                let policy = Box::new(super::world::forgetful(*policy));
                self.tell(&Event::ControlPlaneStarted { policy });
            }
            What::Joins(spec) => self.node_joins(spec),
            What::Drains { node, reason } => self.drain(node, reason),
            What::Undrains(node) => self.undrain(node),
            What::Cancels(index) => self.cancel(index),
            What::Reserves(reservation) => {
                let request = self.next_request();
                self.tell(&Event::NodesReserved { request, reservation });
            }
            What::Unreserves(name) => {
                let request = self.next_request();
                self.tell(&Event::ReservationCancelled { request, name });
            }
            What::RankEnds { node, gpu, exit } => return self.end_a_rank(node, gpu, &exit),
            What::Hangs { node, shows } => return self.hang_on(node, shows),
            What::Stalls { node, span } => return self.stall_on(node, span),
            What::Dies(node) => self.die_for_now(node),
            What::Rises(node) => self.rise(node),
            What::Finds { node, finding } => self.tell(&Event::FindingSeen { node, finding }),
            What::FindsNoMore { node, class, device } => {
                self.tell(&Event::FindingGone { node, class, device });
            }
            What::Mends { node, mending } => self.expect_mending(node, *mending),
            What::Says { node, how } => {
                let request = self.next_request();
                self.tell(&Event::NodeMended { request, node, how });
            }
        }
        false
    }

    fn node_joins(&mut self, spec: Box<NodeSpec>) {
        let name = spec.name.clone();
        let is_new = self.core.node_by_name(&name).is_none();
        self.tell(&Event::NodeJoined { spec });
        if let Some(node) = self.core.node_by_name(&name).filter(|_| is_new) {
            self.report(node, Vec::new());
        }
    }

    fn cancel(&mut self, index: usize) {
        let of_it = self.lives.iter().filter(|(_, life)| life.index == index);
        let jobs: Vec<JobId> = of_it.map(|(&job, _)| job).collect();
        for job in jobs {
            let request = self.next_request();
            self.tell(&Event::JobCancelled { request, job });
        }
    }

    fn end_a_rank(&mut self, node: NodeId, gpu: Option<u16>, exit: &Exit) -> bool {
        if self.machines.is_dead(node) {
            return false;
        }
        let target = gpu.map_or(Target::Node(node), |gpu| Target::Gpu { node, gpu });
        let part = self.parts_on(node, target).into_iter().next();
        if let Some(part) = part {
            self.end_rank(node, part, exit);
        }
        part.is_some()
    }

    fn hang_on(&mut self, node: NodeId, shows: bool) -> bool {
        let parts = self.parts_on(node, Target::Node(node));
        for part in &parts {
            self.hang_training(part.job, part.replica as u32, node, shows);
        }
        !parts.is_empty()
    }

    fn stall_on(&mut self, node: NodeId, span: Millis) -> bool {
        let parts = self.parts_on(node, Target::Node(node));
        for part in &parts {
            self.stall_training(part.job, span);
        }
        !parts.is_empty()
    }

    fn die_for_now(&mut self, node: NodeId) {
        if count(&mut self.machines.dead, node, true) > 1 {
            return;
        }
        for part in self.parts_on(node, Target::Node(node)) {
            self.break_training(part.job, part.replica as u32);
        }
        self.expect_silence(node);
    }

    /// A job has come to the fault of its own.
    pub(super) fn fail_by_itself(&mut self, job: JobId, exit: &Exit) {
        let Some(node) = self.gang_of(job).map(|attempt| attempt.members[0].node) else { return };
        let parts = self.parts_on(node, Target::Node(node));
        if let Some(part) = parts.into_iter().find(|part| part.job == job) {
            self.end_rank(node, part, exit);
        }
    }

    /// Nothing is heard of a node from now on.
    pub(super) fn expect_silence(&mut self, node: NodeId) {
        let silence = Millis(self.setup.policy.node_silent_ms);
        let since = self.now;
        self.put(silence, super::world::Happening::Silent { node, since });
    }
}
