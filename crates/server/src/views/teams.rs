//! The teams: what they may hold, what they hold, what they have used, and what they wait for.

use super::View;
use lindos_api::user::TeamView;
use lindos_core::queue::teams::TeamId;
use std::collections::BTreeMap;

/// Every team that the policy or a job has named, in the order in which they were.
pub fn teams(view: &View<'_>) -> Vec<TeamView> {
    let teams = view.core.teams();
    let mut waiting: BTreeMap<TeamId, (u32, u64)> = BTreeMap::new();
    for job in view.core.jobs().filter(|job| !job.is_over() && job.attempt.is_none()) {
        for team in teams.upwards(job.team) {
            let (jobs, gpus) = waiting.entry(team).or_default();
            *jobs += 1;
            *gpus += job.gpus();
        }
    }
    let name = |team: TeamId| teams.account(team).name.clone();
    let one = |(id, account): (TeamId, &lindos_core::queue::teams::Account)| {
        let (waiting_jobs, waiting_gpus) = waiting.get(&id).copied().unwrap_or_default();
        let share = teams.share(id);
        TeamView {
            name: account.name.clone(),
            parent: teams.upwards(id).nth(1).map(name).unwrap_or_default(),
            share,
            limit: teams.limit(id),
            held: account.held,
            borrowed: account.held.saturating_sub(share),
            used_gpu_ms: teams.used(id, view.now),
            waiting_jobs,
            waiting_gpus,
        }
    };
    teams.accounts().map(one).collect()
}
