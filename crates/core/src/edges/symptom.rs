//! Last words, each written down once, however often agents repeat them.

use crate::event::Event;
use lindos_model::{Epoch, JobId, Rank, Symptom};
use std::collections::{BTreeMap, BTreeSet};

/// Last words of more ranks of one attempt than this say nothing new.
const RANKS_MAX: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct SymptomEdges {
    said: BTreeMap<JobId, BTreeSet<(Epoch, Rank)>>,
}

impl SymptomEdges {
    /// Takes the last words of a rank of a launch that belongs to the attempt; the event, if it is
    /// news.
    pub fn on_symptom(
        &mut self,
        job: JobId,
        attempt: Epoch,
        epoch: Epoch,
        rank: Rank,
        symptom: &Symptom,
    ) -> Option<Event> {
        let said = self.said.entry(job).or_default();
        // Those of attempts before say nothing any more.
        said.retain(|(other, _)| *other >= attempt);
        let is_news = said.len() < RANKS_MAX && said.insert((epoch, rank));
        let symptom = || Box::new(plain(symptom));
        is_news.then(|| Event::SymptomSeen { job, epoch, rank, symptom: symptom() })
    }

    /// The event was not written down.
    pub fn unsaid(&mut self, job: JobId, epoch: Epoch, rank: Rank) {
        if let Some(said) = self.said.get_mut(&job) {
            said.remove(&(epoch, rank));
        }
    }

    /// The job is over.
    pub fn forget(&mut self, job: JobId) {
        self.said.remove(&job);
    }
}

/// As an agent should have made it: anybody may have sent it.
fn plain(symptom: &Symptom) -> Symptom {
    let mut line = String::new();
    for c in symptom.line.chars().filter(|c| !c.is_control()) {
        if line.len() + c.len_utf8() > Symptom::LINE_MAX {
            break;
        }
        line.push(c);
    }
    Symptom { line, kind: symptom.kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::SymptomKind;

    #[test]
    fn last_words_are_told_once_a_launch_and_of_so_many_ranks() {
        let mut edges = SymptomEdges::default();
        let line = "KeyError\u{7}: ".to_string() + &"ä".repeat(200);
        let symptom = Symptom { kind: SymptomKind::Program, line };
        let (job, first, second) = (JobId(1), Epoch(1), Epoch(2));
        let mut say =
            |attempt, epoch, rank| edges.on_symptom(job, attempt, epoch, Rank(rank), &symptom);
        let Some(Event::SymptomSeen { symptom: said, .. }) = say(first, first, 0) else {
            panic!("it is news")
        };
        assert!(said.line.starts_with("KeyError: ä") && said.line.len() <= Symptom::LINE_MAX);
        assert_eq!(say(first, first, 0), None);
        assert!(say(first, second, 0).is_some(), "its replica was launched anew");
        assert!(say(second, second, 1).is_some());
        assert_eq!((2..200).filter_map(|rank| say(second, second, rank)).count(), RANKS_MAX - 2);
        edges.unsaid(job, second, Rank(1));
        assert!(edges.on_symptom(job, second, second, Rank(1), &symptom).is_some());
    }
}
