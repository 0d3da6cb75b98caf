//! How ranks spend their time, and nodes that keep the others waiting.
//!
//! The steps of a job are as long as its script says, slow node or not: what changes is who waits. The ranks of
//! every second job spin as they wait, and tell how long.

use super::{Key, World};
use crate::fault::Plant;
use crate::random::scatter;
use lindos_model::{Millis, Time, TrailEntry, TrailKind, Waited};

/// Thousandths of the time that ranks wait for each other at the end of each step, and how much that
/// differs from rank to rank and from report to report.
const WAITS: u64 = 150;
const JITTER: u64 = 100;
/// … when one of them is slow.
const WAITS_FOR_SLOW: u64 = 450;
/// So long after a node is as before it may still be called slow: windows are long where steps are.
const CALLED_UNTIL: Millis = Millis::from_secs(3600);

impl World {
    pub(super) fn slow_down(&mut self, node: usize, lasts: Millis) {
        let until = self.now + lasts;
        self.nodes[node].slow_until = Some(until);
        self.slow_spans.push((node, until));
    }

    /// Counts the time since the last report for each rank on a node.
    pub(super) fn spend_time(&mut self, node: usize) {
        let now = self.now;
        let is_slow = |node: usize| self.nodes[node].slow_until.is_some_and(|until| until > now);
        let mut parts: Vec<(Key, u64, Option<Waited>)> = Vec::new();
        for (&key, attempt) in self.nodes[node].attempts.iter().filter(|(_, it)| it.is_alive()) {
            let Some(run) = self.runs.get(&key) else { continue };
            let training = self.runs.get(&run.base).and_then(|base| base.training.as_ref());
            let waits = match training {
                Some(training) if training.ended.is_some() => 1000,
                None => 0,
                Some(_) if is_slow(node) => 0,
                Some(_) if self.has_slow_node(key, is_slow) => WAITS_FOR_SLOW,
                Some(_) => WAITS,
            };
            let is_miscounted =
                self.is_planted(Plant::PaceMiscounted) && attempt.ranks[0].rank.0 == 0;
            // The step that it is in, and what of this is over.
            let told = training.filter(|_| key.0.0.is_multiple_of(2)).and_then(|training| {
                let step = run.script.at(training, now).step?;
                Some(Waited { step, ms: now.since(run.script.reaches(training, step)).0 })
            });
            parts.push((key, if is_miscounted { 0 } else { waits }, told));
        }
        for (key, waits, told) in parts {
            let attempt = self.nodes[node].attempts.get_mut(&key).expect("it was just there");
            for rank in &mut attempt.ranks {
                let before = std::mem::replace(&mut rank.pace_at, now);
                if before == Time::ZERO {
                    continue;
                }
                let span = now.since(before).0;
                let noise = scatter(u64::from(rank.rank.0) ^ (now.0 << 20)) % JITTER;
                let waits = (waits + if waits > 0 { noise } else { noise / 10 }).min(1000);
                rank.waited_ms += span * waits / 1000;
                rank.pace.waited = told.map(|Waited { step, ms }| {
                    let in_this = ms.min(span) * waits / 1000;
                    Waited { step, ms: rank.waited_ms.saturating_sub(in_this) }
                });
                let slept = if told.is_some() { 0 } else { span * waits / 1000 };
                rank.pace.span_ms += span;
                rank.pace.slept_ms += slept;
                rank.pace.ran_ms += span - slept;
            }
        }
    }

    /// Whether some node on which the job's launch, or one that trains with it, lives is slow.
    fn has_slow_node(&self, key: Key, is_slow: impl Fn(usize) -> bool) -> bool {
        let base = self.runs[&key].base;
        self.slow_spans.iter().any(|&(other, _)| {
            let mut here = self.nodes[other].attempts.iter().filter(|(_, it)| it.is_alive());
            is_slow(other)
                && here.any(|(of, _)| self.runs.get(of).is_some_and(|run| run.base == base))
        })
    }

    /// Who is called slow is, or was a moment ago.
    pub(super) fn look_for_false_straggler(&self, entry: &TrailEntry) {
        let (TrailKind::StragglerSeen { straggler, .. }, Some(name)) = (&entry.what, &entry.node)
        else {
            return;
        };
        let node = self.by_name[name];
        let mut spans = self.slow_spans.iter();
        let was = spans.any(|&(slow, until)| slow == node && self.now <= until + CALLED_UNTIL);
        assert!(was, "violation: {name} is called slow and is not: {straggler}");
    }
}
