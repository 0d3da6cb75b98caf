//! The settings that the core decides by. They are part of the journal: a replay under another
//! policy is a question to the twin.

use crate::file::{FileError, Source};
use crate::{Millis, Remedy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How the queue is ordered, and who may overtake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum QueueRule {
    /// Priority, then age; nobody overtakes a job that waits for busy nodes.
    Fifo,
    /// Priority, then age; a job may overtake when that delays no reserved start.
    Backfill,
    /// Priority, then the team that has used least of its share, then age; with backfill.
    #[default]
    Fair,
}

/// A team, and what it may hold of the fleet. Teams stand in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Team {
    pub name: String,
    /// The team that it is a part of; empty: of the fleet itself.
    #[serde(default)]
    pub parent: String,
    /// GPUs that it can have back whenever it wants them: others may borrow them until then.
    #[serde(default)]
    pub share: u64,
    /// GPUs that it and its parts never hold more of together.
    pub limit: Option<u64>,
}

/// A priority class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub name: String,
    pub priority: i32,
    /// Whether its jobs may stop those of a lower priority to start.
    #[serde(default)]
    pub preempts: bool,
}

/// Spans in milliseconds where the name ends in `_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A node that has not been heard from for this long is silent.
    pub node_silent_ms: u64,
    /// Progress is recorded at most this often for one job.
    pub progress_interval_ms: u64,
    /// No hang is called before progress has stopped for this long. The other bounds are three
    /// step times and twice the longest pause that the attempt has shown.
    pub hang_floor_ms: u64,
    /// The first wait before an unanswered command is sent again; it doubles up to 16 times this.
    pub resend_ms: u64,
    /// Survivors of a fault get this long between SIGTERM and SIGKILL.
    pub fault_grace_ms: u64,
    /// Whole nodes kept free for gangs that lose one.
    pub spares: u32,
    /// Who is next among those that wait.
    pub queue: QueueRule,
    /// The teams that share the fleet. Without any, a job may name any team, and all of them have
    /// equal weight and no guarantee.
    pub teams: Vec<Team>,
    /// The priority classes that jobs may name.
    pub classes: Vec<Class>,
    /// What a team has used counts half as much after this long.
    pub usage_half_life_ms: u64,
    /// A job that has waited longer than this goes before all that have not, the oldest first,
    /// whatever its priority and its team: no job starves.
    pub wait_max_ms: u64,
    /// Blocked gangs whose start is reserved, the foremost of the queue.
    pub reservations_max: u32,
    /// Jobs that are looked at in one pass over the queue behind the first that is blocked.
    pub backfill_max: u32,
    /// Whether jobs may be moved so that a gang's nodes are together. A move is made only when the
    /// free GPUs that would stand idle until then come to more than the work that it loses.
    pub moves: bool,
    /// A job that was preempted is not preempted again before it has held a gang for this long.
    pub preempt_grace_ms: u64,
    /// A job whose attempts fail again and again without one new step waits this long before the
    /// second retry, then twice as long each time, up to `backoff_max_ms`.
    pub backoff_base_ms: u64,
    pub backoff_max_ms: u64,
    /// Rendezvous ports: `port_base` to `port_base + port_count - 1`, in turn. The default lies
    /// below Linux's ephemeral ports (32768 and up).
    pub port_base: u16,
    pub port_count: u16,
    /// Finished jobs remembered.
    pub finished_jobs_max: u32,
    /// Trail entries remembered.
    pub trail_max: u32,
    /// Requests remembered, so that one sent twice is carried out once.
    pub requests_max: u32,
    pub repair: Repair,
}

/// What Lindos does by itself with nodes on which something was found: see `docs/repair.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repair {
    /// Whether nodes are taken out and mended without anybody's word. If not, findings are only
    /// recorded and shown.
    pub automatic: bool,
    /// So much of a rack, a leaf, the nodes of one platform and the fleet may be out at once by
    /// Lindos's own decision: at least one node of each, and never the last.
    pub rack_out_max_percent: u32,
    pub leaf_out_max_percent: u32,
    pub platform_out_max_percent: u32,
    pub fleet_out_max_percent: u32,
    /// When one class of findings condemns more nodes than this within the window, it is taken to
    /// be the check that is broken: it condemns no others for a while.
    pub breaker_nodes: u32,
    pub breaker_window_ms: u64,
    pub breaker_open_ms: u64,
    /// A node that was to blame for this many faults within the window is taken out, though no
    /// check has found anything.
    pub strikes_max: u32,
    pub strikes_window_ms: u64,
    /// A remedy that was tried so often within the window is not tried again: the next one is.
    pub remedy_window_ms: u64,
    pub reset_gpu_max: u32,
    pub reboot_max: u32,
    pub power_cycle_max: u32,
    pub diagnose_max: u32,
    /// One that is not over after this long has failed.
    pub remedy_timeout_ms: u64,
    /// A node that works, but not for long, waits for a checkpoint of its job for this long.
    pub leave_max_ms: u64,
    /// How long a node is proved before it takes work again; 0: not at all.
    pub burn_in_ms: u64,
    // Those below came with version 2 of the journal's records, in this order: see
    // [`Repair::later_keys`].
    /// How long two suspects of a fault are tested against each other; 0: suspects are not tested.
    pub pair_test_ms: u64,
    /// More suspects of one fault than this are not tested.
    pub suspects_max: u32,
    /// A node that is idle is burnt in when its last burn-in is so long ago; 0: idle nodes are left
    /// alone.
    pub idle_burn_in_every_ms: u64,
    /// Of the idle nodes so many at once, but at least one.
    pub idle_burn_in_max_percent: u32,
    /// A node that a job loses at least this part of its time by, for at least so long, is left at
    /// the next checkpoint and sent to diagnosis, if another can stand in; 0: it is only told of.
    /// Off unless asked for: a rank is also slow when its program gives it more to do, and then a
    /// healthy node would be taken out.
    pub straggler_cost_percent: u32,
    pub straggler_ms: u64,
}

const STRAGGLER_MS: u64 = 10 * 60_000;

impl Default for Repair {
    fn default() -> Repair {
        Repair {
            automatic: true,
            rack_out_max_percent: 50,
            leaf_out_max_percent: 25,
            platform_out_max_percent: 10,
            fleet_out_max_percent: 5,
            breaker_nodes: 10,
            breaker_window_ms: 10 * 60_000,
            breaker_open_ms: 3_600_000,
            strikes_max: 3,
            strikes_window_ms: 7 * 24 * 3_600_000,
            remedy_window_ms: 7 * 24 * 3_600_000,
            reset_gpu_max: 2,
            reboot_max: 2,
            power_cycle_max: 1,
            diagnose_max: 1,
            remedy_timeout_ms: 30 * 60_000,
            leave_max_ms: 30 * 60_000,
            burn_in_ms: 10 * 60_000,
            pair_test_ms: 2 * 60_000,
            suspects_max: 8,
            idle_burn_in_every_ms: 0,
            idle_burn_in_max_percent: 5,
            straggler_cost_percent: 0,
            straggler_ms: STRAGGLER_MS,
        }
    }
}

impl Repair {
    /// The keys at its end that a policy in a record of version 1 lacks. A policy ends with these, so
    /// its bytes in that version are all before theirs.
    pub fn later_keys(&self) -> (u64, u32, u64, u32, u32, u64) {
        let (every, most) = (self.idle_burn_in_every_ms, self.idle_burn_in_max_percent);
        let (cost, span) = (self.straggler_cost_percent, self.straggler_ms);
        (self.pair_test_ms, self.suspects_max, every, most, cost, span)
    }

    /// How often a remedy is tried on one node within the window.
    pub fn limit(&self, remedy: Remedy) -> u32 {
        match remedy {
            Remedy::ResetGpu => self.reset_gpu_max,
            Remedy::Reboot => self.reboot_max,
            Remedy::PowerCycle => self.power_cycle_max,
            Remedy::Diagnose => self.diagnose_max,
            Remedy::Technician | Remedy::Replace => u32::MAX,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            node_silent_ms: 5_000,
            progress_interval_ms: 1_000,
            hang_floor_ms: 5_000,
            resend_ms: 1_000,
            fault_grace_ms: 1_000,
            spares: 0,
            queue: QueueRule::Fair,
            teams: Vec::new(),
            classes: Vec::new(),
            usage_half_life_ms: 7 * 24 * 3_600_000,
            wait_max_ms: 7 * 24 * 3_600_000,
            reservations_max: 2,
            backfill_max: 10_000,
            moves: true,
            preempt_grace_ms: 3_600_000,
            backoff_base_ms: 1_000,
            backoff_max_ms: 60_000,
            port_base: 20_000,
            port_count: 10_000,
            finished_jobs_max: 10_000,
            trail_max: 20_000,
            requests_max: 100_000,
            repair: Repair::default(),
        }
    }
}

/// What is wrong with a policy, and the key that it is wrong in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct InvalidPolicy {
    pub key: &'static str,
    pub message: String,
    /// Which of the entries of the key, if it is a list of them.
    pub entry: Option<usize>,
}

impl Policy {
    /// The policies that have a name, for `lindos sim`.
    pub fn named(name: &str) -> Option<Policy> {
        let queue = match name {
            "fifo" => QueueRule::Fifo,
            "backfill" => QueueRule::Backfill,
            "default" => QueueRule::Fair,
            _ => return None,
        };
        // Plain backfill, as it is known, reserves the start of one job.
        let reservations_max =
            if queue == QueueRule::Backfill { 1 } else { Policy::default().reservations_max };
        let moves = queue == QueueRule::Fair;
        Some(Policy { queue, reservations_max, moves, ..Policy::default() })
    }

    /// The rules that a person's policy has to keep; the core takes any.
    pub fn validate(&self) -> Result<(), InvalidPolicy> {
        self.validate_teams()?;
        let bad = |key, entry, message| Err(InvalidPolicy { key, message, entry });
        let mut classes: BTreeMap<&str, &Class> = BTreeMap::new();
        for (index, class) in self.classes.iter().enumerate() {
            if class.name.is_empty() || classes.insert(&class.name, class).is_some() {
                let name = &class.name;
                let message = format!("`{name}`: a class has a name of its own");
                return bad("classes", Some(index), message);
            }
        }
        if self.usage_half_life_ms == 0 {
            return bad("usage_half_life_ms", None, "it must be longer than zero".to_string());
        }
        Ok(())
    }

    fn validate_teams(&self) -> Result<(), InvalidPolicy> {
        let bad = |index, message| Err(InvalidPolicy { key: "teams", message, entry: Some(index) });
        let mut teams: BTreeMap<&str, &Team> = BTreeMap::new();
        for (index, team) in self.teams.iter().enumerate() {
            if team.name.is_empty() {
                return bad(index, "a team has a name".to_string());
            }
            if teams.insert(&team.name, team).is_some() {
                return bad(index, format!("two teams are named `{}`", team.name));
            }
            if let Some(limit) = team.limit.filter(|&limit| limit < team.share) {
                let (name, share) = (&team.name, team.share);
                let message =
                    format!("`{name}` has a share of {share} GPUs above its limit of {limit}");
                return bad(index, message);
            }
        }
        for (index, team) in self.teams.iter().enumerate() {
            let mut above = team;
            for _ in 0..=self.teams.len() {
                if above.parent.is_empty() {
                    break;
                }
                let Some(parent) = teams.get(above.parent.as_str()) else {
                    let (name, parent) = (&above.name, &above.parent);
                    return bad(index, format!("`{name}` is part of `{parent}`, which is no team"));
                };
                above = parent;
            }
            if !above.parent.is_empty() {
                return bad(index, format!("`{}` is part of itself", team.name));
            }
            let parts = self.teams.iter().filter(|part| part.parent == team.name);
            let (mut count, mut shares) = (0, 0u64);
            for part in parts {
                count += 1;
                shares = shares.saturating_add(part.share);
            }
            if count > 0 && shares > team.share {
                let (name, share) = (&team.name, team.share);
                let message =
                    format!("the parts of `{name}` have shares of {shares} GPUs, it has {share}");
                return bad(index, message);
            }
        }
        Ok(())
    }

    /// The policy in the text of the file at `path`: see `docs/queue.md`. Keys that are not given
    /// have their defaults.
    pub fn parse(path: &Path, text: &str) -> Result<Policy, FileError> {
        let source = Source { path, text };
        let policy: Policy = source.parse()?;
        policy.validate().map_err(|invalid| {
            source.error_at_entry(invalid.key, invalid.entry, invalid.to_string(), None)
        })?;
        Ok(policy)
    }

    /// The wait before retry number `failures_without_progress` (from 1): none before the first.
    pub fn backoff(&self, failures_without_progress: u32) -> Millis {
        if failures_without_progress <= 1 {
            return Millis::ZERO;
        }
        let doublings = (failures_without_progress - 2).min(32);
        Millis(self.backoff_base_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_that_make_no_tree_are_refused() {
        let team = |name: &str, parent: &str, share, limit| Team {
            name: name.into(),
            parent: parent.into(),
            share,
            limit,
        };
        let error = |teams: Vec<Team>| {
            let policy = Policy { teams, ..Policy::default() };
            policy.validate().map_or_else(|error| error.to_string(), |()| String::new())
        };
        assert_eq!(error(vec![team("a", "", 8, Some(8)), team("b", "a", 8, None)]), "");
        assert!(error(vec![team("a", "b", 0, None)]).contains("`b`, which is no team"));
        let ring = vec![team("a", "b", 0, None), team("b", "a", 0, None)];
        assert!(error(ring).contains("part of itself"));
        assert!(error(vec![team("a", "", 9, Some(8))]).contains("above its limit of 8"));
        let greedy = vec![team("a", "", 8, None), team("b", "a", 9, None)];
        assert!(error(greedy).contains("shares of 9 GPUs, it has 8"));
        assert!(error(vec![team("a", "", 0, None), team("a", "", 0, None)]).contains("two teams"));
    }

    #[test]
    fn a_policy_file_is_checked_where_it_stands() {
        let parse = |text: &str| Policy::parse(Path::new("policy.toml"), text);
        let policy = parse("spares = 2\n[[teams]]\nname = \"a\"\nshare = 8\n").unwrap();
        assert_eq!((policy.spares, policy.teams[0].share, policy.teams[0].limit), (2, 8, None));
        let teams =
            "[[teams]]\nname = \"a\"\nshare = 8\n\n[[teams]]\nname = \"b\"\nparent = \"c\"\n";
        insta::assert_snapshot!(parse(teams).unwrap_err(), @r#"
        policy.toml:6:8: teams: `b` is part of `c`, which is no team
          |
        6 | name = "b"
          |        ^^^
        "#);
        let cut = parse("wait_max = 5").unwrap_err().to_string();
        assert!(cut.starts_with("policy.toml:1:1: unknown field `wait_max`"), "{cut}");
        assert!(cut.ends_with("hint: did you mean `wait_max_ms`?"), "{cut}");
        insta::assert_snapshot!(parse("[[teams]]\nname = \"a\"\nshrae = 8").unwrap_err(), @"
        policy.toml:3:1: unknown field `shrae`, expected one of `name`, `parent`, `share`, `limit`
          |
        3 | shrae = 8
          | ^^^^^
        hint: did you mean `share`?
        ");
        insta::assert_snapshot!(parse("queue = \"fiar\"").unwrap_err(), @r#"
        policy.toml:1:9: unknown variant `fiar`, expected one of `fifo`, `backfill`, `fair`
          |
        1 | queue = "fiar"
          |         ^^^^^^
        hint: did you mean `fair`?
        "#);
        insta::assert_snapshot!(parse("usage_half_life_ms = 0").unwrap_err(), @"
        policy.toml:1:22: usage_half_life_ms: it must be longer than zero
          |
        1 | usage_half_life_ms = 0
          |                      ^
        ");
        assert_eq!(parse("").unwrap(), Policy::default());
    }

    #[test]
    fn the_first_retry_is_at_once_and_later_ones_double_up_to_the_cap() {
        let policy = Policy::default();
        let waits = [0, 1, 2, 3, 4, 8, 100].map(|n| policy.backoff(n).0);
        assert_eq!(waits, [0, 0, 1000, 2000, 4000, 60_000, 60_000]);
    }
}
