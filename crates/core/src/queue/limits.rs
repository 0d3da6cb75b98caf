//! The limits of teams: the most that a team and its parts ever hold together.
//!
//! What is promised to a team counts as held: a job of its own must not take from a gang the room
//! within the limit that its start is reserved in. And nobody of a team overtakes one that waits for
//! the team's limit, or jobs that keep coming would keep a large gang out for ever.

use super::hold::Hold;
use super::pass::Pass;
use super::teams::{Promised, TeamId, Teams};
use crate::Core;
use lindos_model::{JobId, JobSpec, WaitReason};

impl Core {
    /// What keeps a job from starting though it may have room: a limit of its team, or somebody
    /// before it who waits for that limit.
    pub(crate) fn kept_by_limit(&mut self, id: JobId, pass: &mut Pass) -> Option<WaitReason> {
        let team = self.jobs[&id].team;
        if !self.teams.is_limited(team) {
            return None;
        }
        if let Some(first) = self.first_at_limit(team).filter(|&first| first != id) {
            return Some(WaitReason::Behind { job: first });
        }
        let wanted = self.jobs[&id].least_gpus();
        let look = |teams: &Teams, promised: &Promised| teams.over_limit(team, wanted, promised);
        let over = self.beside_promised(id, pass, look)?;
        // One that would wait in any case must not keep its team waiting.
        if wanted <= over.limit && self.could_have_nodes(id) {
            self.queue.at_limit.insert(over.team, id);
        }
        let team = self.teams.account(over.team).name.clone();
        Some(WaitReason::TeamLimit { team, limit: over.limit, held: over.held, wanted })
    }

    /// The job that waits for the limit of a team, or of one that it is a part of.
    pub(crate) fn first_at_limit(&self, team: TeamId) -> Option<JobId> {
        self.teams.upwards(team).find_map(|above| self.queue.at_limit.get(&above).copied())
    }

    fn could_have_nodes(&mut self, id: JobId) -> bool {
        let least = self.jobs[&id].spec.min_nodes;
        !matches!(
            self.place(id, &[], least),
            Err(WaitReason::NeverFits { .. } | WaitReason::NodesOut { .. })
        )
    }

    /// The limit that a job with this specification would break if it came now, though it were as
    /// small as may be.
    pub(crate) fn team_limit(&self, spec: &JobSpec, promised: &Promised) -> Option<WaitReason> {
        let wanted = u64::from(spec.min_nodes) * u64::from(spec.gpus_per_node);
        let over = self.teams.over_limit(self.teams.find(&spec.team)?, wanted, promised)?;
        let team = self.teams.account(over.team).name.clone();
        Some(WaitReason::TeamLimit { team, limit: over.limit, held: over.held, wanted })
    }

    /// What is promised to all teams.
    pub(crate) fn promised(&self) -> Promised {
        self.promised_to(|_, _| true)
    }

    /// Looks at the teams beside what is promised to those that come before a job, in this pass.
    fn beside_promised<R>(
        &self,
        id: JobId,
        pass: &mut Pass,
        look: impl FnOnce(&Teams, &Promised) -> R,
    ) -> R {
        let known = pass.promised.take();
        let mut promised = known
            .unwrap_or_else(|| self.promised_to(|other, hold| self.is_ahead(other, hold, pass)));
        let team = self.jobs[&id].team;
        let own = self.holds.get(&id).filter(|hold| self.is_ahead(id, hold, pass));
        let own = own.map_or(0, |hold| self.promised_by(id, hold));
        promised.take_back(&self.teams, team, own);
        let seen = look(&self.teams, &promised);
        promised.add(&self.teams, team, own);
        pass.promised = Some(promised);
        seen
    }

    fn promised_by(&self, id: JobId, hold: &Hold) -> u64 {
        let job = &self.jobs[&id];
        // Some may only be held as spares.
        let nodes = u64::from(job.spec.nodes).min(hold.nodes.len() as u64);
        (nodes * u64::from(job.spec.gpus_per_node)).max(job.least_gpus())
    }

    pub(crate) fn promised_to(&self, counts: impl Fn(JobId, &Hold) -> bool) -> Promised {
        let mut promised = Promised::default();
        for (&id, hold) in &self.holds {
            if self.queue.contains(id) && counts(id, hold) {
                promised.add(&self.teams, self.jobs[&id].team, self.promised_by(id, hold));
            }
        }
        promised
    }

    /// The most nodes that a job may have by its team's limits: as few as it makes do with, if they
    /// leave it less.
    pub(crate) fn nodes_within_limit(&self, id: JobId, pass: &mut Pass) -> u32 {
        let job = &self.jobs[&id];
        if job.spec.min_nodes == job.spec.nodes || !self.teams.is_limited(job.team) {
            return job.spec.nodes;
        }
        let look = |teams: &Teams, promised: &Promised| teams.left_to(job.team, promised);
        within(&job.spec, self.beside_promised(id, pass, look))
    }
}

/// The most nodes of a job that so many GPUs are enough for, in whole segments.
pub fn within(spec: &JobSpec, gpus: u64) -> u32 {
    let segment = spec.segment.unwrap_or(1);
    let nodes = gpus / u64::from(spec.gpus_per_node);
    let nodes = spec.nodes.min(u32::try_from(nodes).unwrap_or(u32::MAX));
    (nodes / segment * segment).max(spec.min_nodes)
}
