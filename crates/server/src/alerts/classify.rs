//! Which entries of the trail people should hear of, and how loudly.

use super::alert::{Alert, Grade, JobName, Kind, Node};
use lindos_model::blame::{Blame, Culprit};
use lindos_model::{EndReason, JobId, Millis, Outcome, Severity, Time, TrailEntry, TrailKind};
use std::collections::BTreeMap;

/// What of a fleet the trail does not say itself.
pub trait Names {
    fn node(&self, name: &str) -> Node;
    fn job(&self, job: JobId) -> JobName;
}

/// Goes along the trail; it remembers only which jobs have not trained since their fault.
#[derive(Debug)]
pub struct Classifier {
    recovery_slow: Millis,
    faulted: BTreeMap<JobId, Time>,
}

/// Grade, kind, class, and what it puts an end to.
type Verdict = (Grade, Kind, String, &'static [Kind]);

const SILENCE: &[Kind] = &[Kind::NodeSilent];
const REPAIR: &[Kind] = &[Kind::NodeOut, Kind::PersonWanted, Kind::Repair];
const FOUND: &[Kind] = &[Kind::Finding, Kind::NodeKeptIn];

impl Classifier {
    pub fn new(recovery_slow: Millis) -> Classifier {
        Classifier { recovery_slow, faulted: BTreeMap::new() }
    }

    /// What there is to tell of an entry. All entries must come by, in order.
    pub fn alert(&mut self, entry: &TrailEntry, names: &impl Names) -> Option<Alert> {
        let slow = self.follow_recovery(entry);
        let (verdict, words) = match slow {
            Some(took) => (
                (Grade::Warning, Kind::RecoverySlow, String::new(), &[][..]),
                format!("took {took} from its fault until it trained again"),
            ),
            None => (verdict(&entry.what)?, entry.what.to_string()),
        };
        let (grade, kind, class, mends) = verdict;
        let node = entry.node.as_deref().or_else(|| blamed(&entry.what));
        let text = if slow.is_some() {
            let job = entry.job.map_or(0, |job| job.0);
            format!("job {job} {words}")
        } else {
            entry.to_string()
        };
        Some(Alert {
            seq: entry.seq,
            at: entry.at,
            grade,
            kind,
            class,
            node: node.map(|node| names.node(node)),
            job: entry.job.map(|job| names.job(job)),
            mends,
            text,
            words,
        })
    }

    /// How long a job took that trains again now, if that was long.
    fn follow_recovery(&mut self, entry: &TrailEntry) -> Option<Millis> {
        let job = entry.job?;
        match &entry.what {
            TrailKind::Fault { reason, .. } if !reason.is_by_the_queue() => {
                self.faulted.entry(job).or_insert(entry.at);
                None
            }
            TrailKind::FirstStep { .. } => {
                let took = entry.at.since(self.faulted.remove(&job)?);
                (took > self.recovery_slow).then_some(took)
            }
            TrailKind::Completed
            | TrailKind::Cancelled
            | TrailKind::CancelledFor { .. }
            | TrailKind::Failed { .. } => {
                self.faulted.remove(&job);
                None
            }
            _ => None,
        }
    }
}

fn verdict(what: &TrailKind) -> Option<Verdict> {
    use Grade::{Critical, Info, Warning};
    let plain = |grade, kind| Some((grade, kind, String::new(), &[][..]));
    let of = |grade, kind, class: &dyn ToString| Some((grade, kind, class.to_string(), &[][..]));
    match what {
        TrailKind::ControlPlaneStarted { .. } => plain(Info, Kind::ControlPlane),
        TrailKind::NodeSilent { .. } => plain(Warning, Kind::NodeSilent),
        TrailKind::NodeFenced => of(Info, Kind::NodeSilent, &"fenced"),
        TrailKind::NodeUp => Some((Info, Kind::NodeBack, "up".into(), SILENCE)),
        TrailKind::BackInService { .. } => Some((Info, Kind::NodeBack, "repaired".into(), REPAIR)),
        TrailKind::Found { class, severity, .. } => {
            let grade = match severity {
                severity if severity.is_loss_of_hardware() => Warning,
                Severity::Warning => Warning,
                _ => Info,
            };
            of(grade, Kind::Finding, class)
        }
        TrailKind::FoundNoMore { class } => Some((Info, Kind::NodeBack, class.to_string(), FOUND)),
        TrailKind::TakenOut { class, .. } => of(Warning, Kind::NodeOut, class),
        TrailKind::KeptIn { class, .. } => of(Critical, Kind::NodeKeptIn, class),
        TrailKind::BreakerOpened { class, .. } => of(Critical, Kind::BreakerOpened, class),
        TrailKind::RemedyBegun { remedy } if remedy.is_by_hand() => {
            of(Critical, Kind::PersonWanted, &remedy.name())
        }
        TrailKind::RemedyBegun { remedy } => of(Info, Kind::Repair, &remedy.name()),
        TrailKind::RemedyOver { remedy, outcome } => {
            of(graded(outcome), Kind::Repair, &remedy.name())
        }
        TrailKind::BurnInBegun { .. } => of(Info, Kind::Repair, &"burn_in"),
        TrailKind::BurnInOver { outcome } => of(graded(outcome), Kind::Repair, &"burn_in"),
        TrailKind::Weighed { blame } if blame.percent >= Blame::LIKELY => match &blame.culprit {
            Culprit::Node(_) => plain(Warning, Kind::Blamed),
            // Of one kind and class: a switch that fails many jobs is one message.
            Culprit::Shared { place, .. } => of(Warning, Kind::Blamed, place),
            Culprit::User | Culprit::OneOf(_) | Culprit::Unknown => None,
        },
        TrailKind::Failed { .. } | TrailKind::CancelledFor { .. } => {
            plain(Warning, Kind::JobFailed)
        }
        TrailKind::Fault { reason, .. } if reason.is_by_the_queue() => None,
        TrailKind::Fault { reason: EndReason::Cancelled | EndReason::Completed, .. } => None,
        TrailKind::Fault {
            reason: EndReason::Hang { .. } | EndReason::NoFirstStep { .. }, ..
        } => plain(Warning, Kind::JobHung),
        TrailKind::Fault { .. } | TrailKind::ReplicaLost { .. } => plain(Info, Kind::JobFault),
        TrailKind::Resumes { .. } | TrailKind::ReplicaLaunched { .. } => {
            plain(Info, Kind::JobResumed)
        }
        TrailKind::Preempted { .. }
        | TrailKind::Moved { .. }
        | TrailKind::MadeWay { .. }
        | TrailKind::Grows { .. } => plain(Info, Kind::JobMoved),
        _ => None,
    }
}

/// A remedy that nobody here can do is passed over for the next: that is no failure.
fn graded(outcome: &Outcome) -> Grade {
    match outcome {
        Outcome::Failed { .. } => Grade::Warning,
        Outcome::Done | Outcome::Unsupported => Grade::Info,
    }
}

/// The node that a job's fault is laid to.
fn blamed(what: &TrailKind) -> Option<&str> {
    if let TrailKind::Weighed { blame } = what
        && let Culprit::Node(node) = &blame.culprit
    {
        return Some(node);
    }
    let (TrailKind::Fault { reason, .. }
    | TrailKind::Failed { reason }
    | TrailKind::ReplicaLost { reason, .. }) = what
    else {
        return None;
    };
    match reason {
        EndReason::RankExited { node, .. }
        | EndReason::NodeSilent { node }
        | EndReason::AttemptLost { node }
        | EndReason::Refused { node, .. }
        | EndReason::NodeOut { node, .. } => Some(node),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoNames;

    impl Names for NoNames {
        fn node(&self, name: &str) -> Node {
            Node { name: name.into(), places: Vec::new() }
        }

        fn job(&self, job: JobId) -> JobName {
            JobName { id: job.0, name: "gpt".into() }
        }
    }

    fn entry(at: u64, what: TrailKind) -> TrailEntry {
        TrailEntry { seq: at, at: Time(at), job: Some(JobId(4)), epoch: None, node: None, what }
    }

    #[test]
    fn a_slow_recovery_is_told_once_it_is_over_and_a_quick_one_is_not() {
        let mut classifier = Classifier::new(Millis(1000));
        let fault =
            || TrailKind::Fault { reason: EndReason::NodeSilent { node: "n1".into() }, step: 9 };
        let step = || TrailKind::FirstStep { after: Millis(100) };
        let told = classifier.alert(&entry(1, fault()), &NoNames).unwrap();
        assert_eq!((told.kind, told.node.unwrap().name.as_str()), (Kind::JobFault, "n1"));
        assert_eq!(classifier.alert(&entry(900, step()), &NoNames), None);
        classifier.alert(&entry(2000, fault()), &NoNames);
        classifier.alert(&entry(2500, fault()), &NoNames);
        let told = classifier.alert(&entry(5000, step()), &NoNames).unwrap();
        assert_eq!(told.kind, Kind::RecoverySlow);
        assert_eq!(told.text, "job 4 took 3s from its fault until it trained again");
    }

    #[test]
    fn a_verdict_is_told_when_it_names_a_node_or_a_place_and_is_sure_enough() {
        let mut classifier = Classifier::new(Millis(1000));
        let mut told = |culprit: Culprit, percent: u8| {
            let blame = Box::new(Blame { culprit, percent, clues: Vec::new() });
            classifier.alert(&entry(1, TrailKind::Weighed { blame }), &NoNames)
        };
        let shared = || Culprit::Shared { place: "leaf l3".into(), nodes: 4 };
        let node = told(Culprit::Node("n1".into()), Blame::LIKELY).unwrap();
        assert_eq!((node.kind, node.grade), (Kind::Blamed, Grade::Warning));
        assert_eq!(node.node.unwrap().name, "n1");
        let place = told(shared(), 91).unwrap();
        assert_eq!((place.class.as_str(), place.node), ("leaf l3", None));
        assert_eq!(told(shared(), Blame::LIKELY - 1), None);
        assert_eq!(told(Culprit::User, 99), None);
        assert_eq!(told(Culprit::OneOf(vec!["n1".into(), "n2".into()]), 95), None);
        assert_eq!(told(Culprit::Unknown, 95), None);
    }

    #[test]
    fn what_the_queue_does_is_no_fault() {
        let mut classifier = Classifier::new(Millis(1000));
        let reason = EndReason::Preempted { by: JobId(5) };
        assert_eq!(
            classifier.alert(&entry(1, TrailKind::Fault { reason, step: 3 }), &NoNames),
            None
        );
        let preempted = TrailKind::Preempted { by: JobId(5), lost: Millis(1) };
        let told = classifier.alert(&entry(2, preempted), &NoNames).unwrap();
        assert_eq!((told.kind, told.grade), (Kind::JobMoved, Grade::Info));
    }
}
