//! Whose share is in use: what each team holds once those that are being stopped are gone, and those
//! that they were stopped for have started.
//!
//! A team that has parts is a part of itself too: its own jobs have what its share leaves to them
//! beside the shares of the parts. So a part has its share back from its whole's own jobs, and the
//! other way round.

use super::teams::{TeamId, Teams};
use crate::Core;
use crate::gang::attempt::Phase;
use crate::job::Job;
use lindos_model::EndReason;

#[derive(Clone, Debug)]
pub struct Claims {
    /// By account: with the teams below it.
    whole: Vec<u64>,
    /// By account: its own jobs alone.
    own: Vec<u64>,
}

/// A place in the tree of teams that has a share: a team, or the own jobs of one that has parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    Team(TeamId),
    OwnJobs(TeamId),
}

impl Claims {
    pub fn of(teams: &Teams) -> Claims {
        let whole: Vec<u64> = teams.every().map(|(_, account)| account.held).collect();
        let mut own = whole.clone();
        for (team, account) in teams.every() {
            if let Some(parent) = teams.upwards(team).nth(1) {
                own[parent.0 as usize] -= account.held;
            }
        }
        Claims { whole, own }
    }

    pub fn take(&mut self, teams: &Teams, team: TeamId, gpus: u64) {
        self.own[team.0 as usize] += gpus;
        for above in teams.upwards(team) {
            self.whole[above.0 as usize] += gpus;
        }
    }

    pub fn give_back(&mut self, teams: &Teams, team: TeamId, gpus: u64) {
        self.own[team.0 as usize] -= gpus;
        for above in teams.upwards(team) {
            self.whole[above.0 as usize] -= gpus;
        }
    }

    fn held(&self, seat: Seat) -> u64 {
        match seat {
            Seat::Team(team) => self.whole[team.0 as usize],
            Seat::OwnJobs(team) => self.own[team.0 as usize],
        }
    }

    /// Whether so many GPUs more are within the team's own share.
    pub fn is_within_share(&self, teams: &Teams, team: TeamId, gpus: u64) -> bool {
        self.held(Seat::Team(team)).saturating_add(gpus) <= teams.share(team)
    }

    /// Whether a job of so many GPUs may be started at the cost of a team that borrows: on the way
    /// up to what both teams are parts of, all on the one side hold more than their shares, and all
    /// on the other have room in theirs.
    pub fn may_reclaim(&self, teams: &Teams, asks: &[Seat], gpus: u64, from: &[Seat]) -> bool {
        let (asks, from) = apart(asks, from);
        let borrows = |&seat: &Seat| self.held(seat) > teams.share_of(seat);
        let has_room = |(at, &seat): (usize, &Seat)| {
            // What the parts of a team leave unused is its own jobs' to have back from others.
            let counts = at == 0 || matches!(seat, Seat::Team(_));
            !counts || self.held(seat).saturating_add(gpus) <= teams.share_of(seat)
        };
        !from.is_empty() && from.iter().all(borrows) && asks.iter().enumerate().all(has_room)
    }

    /// Whether to stop so many GPUs there would leave anybody on the way less than its share.
    pub fn would_cut(&self, teams: &Teams, asks: &[Seat], gpus: u64, from: &[Seat]) -> bool {
        let (_, from) = apart(asks, from);
        let is_cut = |&seat: &Seat| self.held(seat).saturating_sub(gpus) < teams.share_of(seat);
        from.iter().any(is_cut)
    }
}

/// Two ways down the tree, without what they have in common.
fn apart<'a>(one: &'a [Seat], other: &'a [Seat]) -> (&'a [Seat], &'a [Seat]) {
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    (&one[common..], &other[common..])
}

impl Core {
    pub(crate) fn claims(&self) -> Claims {
        let mut claims = Claims::of(&self.teams);
        for id in &self.alive {
            let job = &self.jobs[id];
            if is_leaving(job) {
                let gpus = job.attempt.as_ref().map_or(0, |attempt| attempt.gpus);
                claims.give_back(&self.teams, job.team, gpus);
            }
        }
        for (id, _) in self.holds.iter().filter(|(_, hold)| hold.preempts) {
            if self.queue.contains(*id) {
                let job = &self.jobs[id];
                claims.take(&self.teams, job.team, job.least_gpus());
            }
        }
        claims
    }
}

/// Whether a job is being stopped and does not go on at once.
fn is_leaving(job: &Job) -> bool {
    let phase = job.attempt.as_ref().map(|attempt| &attempt.phase);
    let Some(Phase::Stopping { reason, .. }) = phase else { return false };
    matches!(
        reason,
        EndReason::Completed
            | EndReason::Cancelled
            | EndReason::TimeLimit { .. }
            | EndReason::Preempted { .. }
            | EndReason::Reserved { .. }
    )
}
