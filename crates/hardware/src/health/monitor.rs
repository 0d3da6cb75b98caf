//! Runs checks, each at its interval, and tells what changed.

use super::check::{About, Check, Reading};
use lindos_model::{Action, Finding, FindingClass, FindingSource, Severity, Suspect};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A check that waits for longer than this is unknown until it answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whether it has answered is asked so often.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A check that takes longer than this is run less often: the machine is for its jobs.
const BUDGET: Duration = Duration::from_millis(50);
/// Rests after a reading that was over budget are so many times as long as it took, but never so
/// long that a storm of errors would blind the monitor.
const REST_FACTOR: u32 = 1000;
const REST_INTERVALS_MAX: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeKind {
    /// It is so from now on, until it clears.
    Appeared,
    Cleared,
    /// It happened once; nothing will say that it is over.
    Happened,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    pub kind: EdgeKind,
    pub check: &'static str,
    pub finding: Finding,
}

/// How a check stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Ok,
    Found(Vec<Finding>),
    Absent,
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub about: &'static str,
    pub state: State,
    /// What was seen, or why nothing was.
    pub words: String,
    pub took: Duration,
}

#[derive(Debug)]
pub struct Monitor {
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    about: About,
    check: Runner,
    due: Duration,
    /// What was told, and has not cleared.
    open: Vec<Finding>,
    /// What was seen, but not often enough to be told.
    rising: Vec<(Finding, u32)>,
    /// What is open, but was not seen lately: how often not.
    falling: Vec<(Finding, u32)>,
    was_seen: bool,
    standing: Option<Standing>,
}

#[derive(Debug)]
enum Runner {
    Here(Box<dyn Check>),
    /// It may wait: it runs on a thread of its own, and is here between its readings.
    Beside(Option<Box<dyn Check>>, Option<Away>),
}

impl Monitor {
    pub fn new(checks: Vec<Box<dyn Check>>) -> Monitor {
        Monitor { slots: checks.into_iter().map(Slot::new).collect() }
    }

    pub fn abouts(&self) -> impl Iterator<Item = About> {
        self.slots.iter().map(|slot| slot.about)
    }

    /// Runs what is due; gives the time of the next that will be.
    pub fn poll(&mut self, now: Duration, edges: &mut Vec<Edge>) -> Duration {
        for slot in self.slots.iter_mut().filter(|slot| slot.due <= now) {
            slot.run(now, edges);
        }
        self.slots.iter().map(|slot| slot.due).min().unwrap_or(Duration::MAX)
    }

    /// How each check stood when it was run last.
    pub fn standings(&self) -> impl Iterator<Item = &Standing> {
        self.slots.iter().filter_map(|slot| slot.standing.as_ref())
    }

    /// Everything that is open now.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.slots.iter().flat_map(|slot| &slot.open)
    }
}

impl Slot {
    fn new(check: Box<dyn Check>) -> Slot {
        let about = check.about();
        let check =
            if about.may_wait { Runner::Beside(Some(check), None) } else { Runner::Here(check) };
        Slot {
            about,
            check,
            due: Duration::ZERO,
            open: Vec::new(),
            rising: Vec::new(),
            falling: Vec::new(),
            was_seen: false,
            standing: None,
        }
    }

    fn run(&mut self, now: Duration, edges: &mut Vec<Edge>) {
        let began = Instant::now();
        let Some(reading) = self.check.read(now) else {
            self.due = now + ASK_AGAIN;
            return;
        };
        let took = began.elapsed();
        self.due = now + self.rest_after(took);
        let reading = self.doubt(reading);
        let (state, words) = match reading {
            Reading::Unknown(why) => {
                self.settle(&[unreadable(&self.about, &why)], true, edges);
                (State::Unknown, why)
            }
            Reading::Absent(words) => (State::Absent, words),
            Reading::Seen { words, open, happened } => {
                self.was_seen = true;
                let all: Vec<Finding> = open.iter().chain(&happened).cloned().collect();
                for finding in happened {
                    edges.push(self.edge(EdgeKind::Happened, finding));
                }
                self.settle(&open, false, edges);
                (if all.is_empty() { State::Ok } else { State::Found(all) }, words)
            }
        };
        self.standing = Some(Standing { about: self.about.name, state, words, took });
    }

    fn rest_after(&self, took: Duration) -> Duration {
        let interval = self.about.interval;
        if took <= BUDGET || self.about.may_wait {
            return interval;
        }
        (took * REST_FACTOR).clamp(interval, interval * REST_INTERVALS_MAX)
    }

    /// What was there and is gone as a whole is more likely not seen than not there.
    fn doubt(&self, reading: Reading) -> Reading {
        match reading {
            Reading::Absent(words) if self.was_seen => {
                Reading::Unknown(format!("all of it is gone at once: {words}"))
            }
            other => other,
        }
    }

    /// Tells what is new and what is over. A monitor that is blind clears nothing, and is known to
    /// be blind at once.
    fn settle(&mut self, seen: &[Finding], is_blind: bool, edges: &mut Vec<Edge>) {
        let needed = if is_blind { 1 } else { self.about.confirmations };
        self.rising.retain(|(known, _)| seen.iter().any(|now| now.is_about_the_same(known)));
        for finding in seen {
            self.falling.retain(|(known, _)| !known.is_about_the_same(finding));
            if self.open.iter().any(|known| known.is_about_the_same(finding)) {
                continue;
            }
            if count(&mut self.rising, finding) >= needed {
                self.rising.retain(|(known, _)| !known.is_about_the_same(finding));
                self.open.push(finding.clone());
                edges.push(self.edge(EdgeKind::Appeared, finding.clone()));
            }
        }
        if is_blind {
            return;
        }
        let gone: Vec<Finding> = self
            .open
            .iter()
            .filter(|known| !seen.iter().any(|now| now.is_about_the_same(known)))
            .cloned()
            .collect();
        for finding in gone {
            if count(&mut self.falling, &finding) >= needed {
                self.falling.retain(|(known, _)| !known.is_about_the_same(&finding));
                self.open.retain(|known| !known.is_about_the_same(&finding));
                edges.push(self.edge(EdgeKind::Cleared, finding));
            }
        }
    }

    fn edge(&self, kind: EdgeKind, finding: Finding) -> Edge {
        Edge { kind, check: self.about.name, finding }
    }
}

fn count(counted: &mut Vec<(Finding, u32)>, finding: &Finding) -> u32 {
    if let Some((_, times)) = counted.iter_mut().find(|(known, _)| known.is_about_the_same(finding))
    {
        *times += 1;
        return *times;
    }
    counted.push((finding.clone(), 1));
    1
}

/// `monitor.kernel_log_unreadable`
fn unreadable(about: &About, why: &str) -> Finding {
    let name = about.name.replace(['.', '-'], "_");
    let class: FindingClass =
        format!("monitor.{name}_unreadable").parse().expect("names of checks are words");
    Finding {
        suspect: Suspect::Software,
        ..Finding::new(class, Severity::Unknown, Action::None, FindingSource::Monitor, why)
    }
}

/// A reading that goes on beside the others.
#[derive(Debug)]
struct Away {
    since: Duration,
    answered: mpsc::Receiver<(Box<dyn Check>, Reading)>,
}

impl Runner {
    /// `None`: no answer yet, and there is still patience.
    fn read(&mut self, now: Duration) -> Option<Reading> {
        let (check, away) = match self {
            Runner::Here(check) => return Some(check.read(now)),
            Runner::Beside(check, away) => (check, away),
        };
        if let Some(check) = check.take() {
            match send_away(check, now) {
                Ok(gone) => *away = Some(gone),
                Err(error) => return Some(Reading::Unknown(format!("no thread for it: {error}"))),
            }
        }
        let Some(Away { since, answered }) = away else {
            return Some(Reading::Unknown("it was lost with its thread".to_string()));
        };
        match answered.try_recv() {
            Ok((back, reading)) => {
                *check = Some(back);
                *away = None;
                Some(reading)
            }
            Err(mpsc::TryRecvError::Disconnected) => {
                *away = None;
                Some(Reading::Unknown("it was lost with its thread".to_string()))
            }
            Err(mpsc::TryRecvError::Empty) if now.saturating_sub(*since) >= PATIENCE => {
                let seconds = PATIENCE.as_secs();
                Some(Reading::Unknown(format!("no answer for more than {seconds} s")))
            }
            Err(mpsc::TryRecvError::Empty) => None,
        }
    }
}

fn send_away(mut check: Box<dyn Check>, now: Duration) -> std::io::Result<Away> {
    let (answer, answered) = mpsc::channel();
    std::thread::Builder::new().name(check.about().name.to_string()).stack_size(256 << 10).spawn(
        move || {
            let reading = check.read(now);
            // Nobody waits any more when the monitor is gone.
            let _ = answer.send((check, reading));
        },
    )?;
    Ok(Away { since: now, answered })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::check::{means, system_finding};
    use std::sync::{Arc, Mutex};

    /// Says what it is told to say.
    #[derive(Debug)]
    struct Told {
        about: About,
        says: Arc<Mutex<Vec<Reading>>>,
    }

    impl Check for Told {
        fn about(&self) -> About {
            self.about
        }

        fn read(&mut self, _now: Duration) -> Reading {
            self.says.lock().unwrap().remove(0)
        }
    }

    fn about(confirmations: u32) -> About {
        About {
            name: "test.told",
            meaning: "",
            source: "",
            thresholds: "",
            interval: Duration::from_secs(1),
            confirmations,
            may_wait: false,
            cost: "",
        }
    }

    fn hot() -> Finding {
        system_finding("test.hot", means::INSPECT, None, "90 °C")
    }

    fn well() -> Reading {
        Reading::of("well", vec![])
    }

    fn bad() -> Reading {
        Reading::of("hot", vec![hot()])
    }

    /// The edges after each of these readings.
    fn play(confirmations: u32, says: Vec<Reading>) -> Vec<Vec<(EdgeKind, String)>> {
        let readings = says.len() as u64;
        let told = Told { about: about(confirmations), says: Arc::new(Mutex::new(says)) };
        let mut monitor = Monitor::new(vec![Box::new(told)]);
        (0..readings)
            .map(|second| {
                let mut edges = Vec::new();
                monitor.poll(Duration::from_secs(second), &mut edges);
                edges.into_iter().map(|edge| (edge.kind, edge.finding.class.to_string())).collect()
            })
            .collect()
    }

    fn one(kind: EdgeKind, class: &str) -> Vec<(EdgeKind, String)> {
        vec![(kind, class.to_string())]
    }

    #[test]
    fn a_finding_appears_once_and_clears_once() {
        let edges = play(1, vec![well(), bad(), bad(), well(), well()]);
        let (appeared, cleared) =
            (one(EdgeKind::Appeared, "test.hot"), one(EdgeKind::Cleared, "test.hot"));
        assert_eq!(edges, [vec![], appeared, vec![], cleared, vec![]]);
    }

    #[test]
    fn one_odd_reading_is_no_finding_and_no_relief() {
        let edges = play(2, vec![bad(), well(), bad(), bad(), well(), bad(), well(), well()]);
        let told: Vec<usize> = edges
            .iter()
            .enumerate()
            .filter(|(_, edges)| !edges.is_empty())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(told, [3, 7]);
    }

    #[test]
    fn a_blind_monitor_says_so_and_clears_nothing() {
        let blind = || Reading::Unknown("no file".into());
        let edges = play(1, vec![bad(), blind(), blind(), bad()]);
        assert_eq!(edges[0], one(EdgeKind::Appeared, "test.hot"));
        assert_eq!(edges[1], one(EdgeKind::Appeared, "monitor.test_told_unreadable"));
        assert_eq!(edges[2], vec![]);
        assert_eq!(edges[3], one(EdgeKind::Cleared, "monitor.test_told_unreadable"));
    }

    #[test]
    fn what_vanishes_as_a_whole_is_unknown() {
        let absent = || Reading::Absent("no adapter".into());
        assert_eq!(play(1, vec![absent(), absent()]), [vec![], vec![]]);
        let edges = play(1, vec![well(), absent()]);
        assert_eq!(edges[1], one(EdgeKind::Appeared, "monitor.test_told_unreadable"));
    }

    #[test]
    fn a_check_over_budget_rests_longer_but_not_for_ever() {
        let says = Arc::new(Mutex::new(vec![]));
        let slot = Slot::new(Box::new(Told { about: about(1), says }));
        let interval = about(1).interval;
        assert_eq!(slot.rest_after(Duration::from_millis(1)), interval);
        assert_eq!(slot.rest_after(BUDGET), interval);
        assert_eq!(slot.rest_after(Duration::from_millis(60)), interval * REST_INTERVALS_MAX);
    }

    #[test]
    fn a_check_that_hangs_holds_up_no_other() {
        #[derive(Debug)]
        struct Hangs(mpsc::Receiver<()>);
        impl Check for Hangs {
            fn about(&self) -> About {
                About { may_wait: true, ..about(1) }
            }
            fn read(&mut self, _now: Duration) -> Reading {
                let _ = self.0.recv();
                well()
            }
        }
        let (go, wait) = mpsc::channel();
        let mut monitor = Monitor::new(vec![Box::new(Hangs(wait))]);
        let mut edges = Vec::new();
        monitor.poll(Duration::ZERO, &mut edges);
        assert_eq!(monitor.standings().next(), None);
        monitor.poll(PATIENCE, &mut edges);
        assert_eq!(monitor.standings().next().unwrap().state, State::Unknown);
        go.send(()).unwrap();
        let began = Instant::now();
        while monitor.standings().next().unwrap().state != State::Ok {
            assert!(began.elapsed() < Duration::from_secs(20), "it never came back");
            monitor.poll(PATIENCE * 2 + began.elapsed(), &mut edges);
            std::thread::yield_now();
        }
        let kinds: Vec<EdgeKind> = edges.iter().map(|edge| edge.kind).collect();
        assert_eq!(kinds, [EdgeKind::Appeared, EdgeKind::Cleared]);
    }
}
