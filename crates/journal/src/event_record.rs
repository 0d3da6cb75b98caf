//! What the journal holds: events and when they were taken, in versions that stay readable.
//!
//! A change to [`Event`] that changes its bytes needs a new version here and a conversion of those
//! before it; the golden files `tests/golden/record-v*.txt` fail until there is one.
//!
//! Version 2 differs from version 1 in one event: the policy that a control plane starts under has
//! more keys, at its end ([`Repair::later_keys`]). What they rule did not exist under version 1, so a
//! policy of that has it switched off.
//!
//! Version 3 differs from version 2 in one event, too: the job that is submitted has more keys, at its
//! end ([`JobSpec::later_keys`]). A job of an earlier version asks for nothing by them.

use crate::record::{DecodeError, Record};
use lindos_core::Event;
use lindos_model::policy::Repair;
use lindos_model::{JobSpec, Time};
use serde::{Deserialize, Serialize};

/// The newest version that this program reads, as it stands in a record's first byte.
const NEWEST_TAG: u8 = 2;

/// One record of the journal, in postcard. A record of an older version is written again as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventRecord {
    /// Read, and no longer written.
    V1 {
        at: Time,
        event: Event,
    },
    /// Read, and no longer written.
    V2 {
        at: Time,
        event: Event,
    },
    V3 {
        at: Time,
        event: Event,
    },
}

impl EventRecord {
    /// A record of the newest version.
    pub fn new(at: Time, event: Event) -> EventRecord {
        EventRecord::V3 { at, event }
    }

    pub fn parts(&self) -> (Time, &Event) {
        let (EventRecord::V1 { at, event }
        | EventRecord::V2 { at, event }
        | EventRecord::V3 { at, event }) = self;
        (*at, event)
    }

    pub fn into_parts(self) -> (Time, Event) {
        let (EventRecord::V1 { at, event }
        | EventRecord::V2 { at, event }
        | EventRecord::V3 { at, event }) = self;
        (at, event)
    }
}

/// The end of a policy that version 1 does not have.
fn later_keys(repair: &Repair) -> Vec<u8> {
    postcard::to_stdvec(&repair.later_keys()).expect("numbers are plain data")
}

/// What they were under version 1.
fn off() -> Repair {
    Repair { pair_test_ms: 0, idle_burn_in_every_ms: 0, ..Repair::default() }
}

/// The end of a job that versions 1 and 2 do not have.
fn later_keys_of_job(spec: &JobSpec) -> Vec<u8> {
    postcard::to_stdvec(&spec.later_keys()).expect("numbers are plain data")
}

/// The bytes that a record of an older version lacks at its end: after its tag and its time stands
/// the event's number.
fn missing(bytes: &[u8]) -> Vec<u8> {
    let Some((&tag, rest)) = bytes.split_first() else { return Vec::new() };
    let Ok((_, rest)) = postcard::take_from_bytes::<u64>(rest) else { return Vec::new() };
    match (tag, rest.first()) {
        (0, Some(0)) => later_keys(&off()),
        (0 | 1, Some(7)) => later_keys_of_job(&lindos_model::job::sample("none", 1, 1)),
        _ => Vec::new(),
    }
}

impl Record for EventRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = postcard::to_stdvec(self).expect("an event is plain data");
        let later = match self {
            EventRecord::V1 { event: Event::ControlPlaneStarted { policy }, .. } => {
                later_keys(&policy.repair).len()
            }
            EventRecord::V1 { event: Event::JobSubmitted { spec, .. }, .. }
            | EventRecord::V2 { event: Event::JobSubmitted { spec, .. }, .. } => {
                later_keys_of_job(spec).len()
            }
            _ => 0,
        };
        bytes.truncate(bytes.len() - later);
        out.extend_from_slice(&bytes);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if let Some(version) = newer_version(bytes) {
            let newest = NEWEST_TAG + 1;
            let reason = format!("it has version {version}, this program reads up to {newest}");
            return Err(DecodeError(reason));
        }
        let missing = missing(bytes);
        let converted = if missing.is_empty() { None } else { Some([bytes, &missing].concat()) };
        let bytes = converted.as_deref().unwrap_or(bytes);
        let (record, rest) =
            postcard::take_from_bytes(bytes).map_err(|error| DecodeError(error.to_string()))?;
        if rest.is_empty() {
            Ok(record)
        } else {
            Err(DecodeError(format!("{} bytes are left over", rest.len())))
        }
    }
}

/// The version of a record that only a newer program can read.
pub fn newer_version(bytes: &[u8]) -> Option<u32> {
    bytes.first().filter(|&&tag| tag > NEWEST_TAG).map(|&tag| u32::from(tag) + 1)
}

/// A snapshot: the core's own bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotRecord {
    V1 { core: Vec<u8> },
}

impl SnapshotRecord {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("bytes are plain data")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_core::event::GangWord;
    use lindos_model::report::Refusal;
    use lindos_model::reservation::{Purpose, Reservation};
    use lindos_model::{
        Action, Activity, Apart, AttemptReport, Device, EffectId, Epoch, Exit, Finding,
        FindingClass, FindingSource, JobId, Mended, NodeId, NodeSpec, Outcome, Policy, Rank,
        RankExit, RankReport, ReportedPhase, RequestId, Severity, SlowBy, SlowSign, StackPlace,
        Stacks, Stall, StandbyReport, StandbyState, Straggler, Symptom, SymptomKind, job,
    };
    use std::sync::Arc;

    fn to_hex(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        })
    }

    const GOLDEN: [&str; 3] = [
        include_str!("../tests/golden/record-v1.txt"),
        include_str!("../tests/golden/record-v2.txt"),
        include_str!("../tests/golden/record-v3.txt"),
    ];

    fn attempts() -> Vec<AttemptReport> {
        let rank = |rank, exit: Option<Exit>| RankReport {
            rank: Rank(rank),
            pid: 4000 + rank,
            exit: exit.map(|exit| RankExit {
                exit,
                at: Time(1_700_000_000_100),
                stopping: rank == 1,
            }),
        };
        let attempt =
            |job, phase, ranks| AttemptReport { job: JobId(job), epoch: Epoch(2), phase, ranks };
        vec![
            attempt(1, ReportedPhase::Running, vec![rank(0, None), rank(1, Some(Exit::Code(3)))]),
            attempt(
                2,
                ReportedPhase::Gone,
                vec![rank(2, Some(Exit::Signal(9))), rank(3, Some(Exit::OutOfMemory))],
            ),
            attempt(
                3,
                ReportedPhase::Gone,
                vec![
                    rank(4, Some(Exit::Lost)),
                    rank(5, Some(Exit::NotStarted("no such file".into()))),
                ],
            ),
            attempt(4, ReportedPhase::Refused(Refusal::StaleEpoch { newest: Epoch(3) }), vec![]),
            attempt(5, ReportedPhase::Refused(Refusal::PortInUse { port: 20_001 }), vec![]),
            attempt(
                6,
                ReportedPhase::Refused(Refusal::Node { reason: "disk full".into() }),
                vec![],
            ),
            attempt(
                7,
                ReportedPhase::Refused(Refusal::CheckpointDir { reason: "read-only".into() }),
                vec![],
            ),
        ]
    }

    /// One of every kind. Fields that are optional are given, so that their bytes are there.
    fn samples() -> Vec<Event> {
        let request = RequestId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let mut spec = job::sample("gpt", 2, 8);
        spec.env.insert("SEED".into(), "7".into());
        spec.time_limit = Some(lindos_model::Millis(3_600_000));
        spec.progress_pattern = Some("step (?<step>\\d+)".into());
        let node_spec = NodeSpec {
            name: "n0".into(),
            gpus: 8,
            platform: "hgx-h100".into(),
            address: "10.0.0.1".into(),
            location: lindos_model::Location { rack: "r1".into(), ..Default::default() },
            labels: std::iter::once(("disk".to_string(), "nvme".to_string())).collect(),
        };
        let node = NodeId(300);
        let for_team = Reservation {
            name: "demo".into(),
            purpose: Purpose::Team("vision".into()),
            nodes: vec![node, NodeId(1)],
            from: Time(1_700_000_000_000),
            until: Time(1_700_003_600_000),
        };
        let for_maintenance = Reservation {
            name: "psu".into(),
            purpose: Purpose::Maintenance,
            nodes: vec![node],
            ..for_team.clone()
        };
        let finding = Finding {
            device: Some(Device::Pci("0000:17:00".parse().unwrap())),
            code: Some(79),
            ..Finding::new(
                FindingClass::known("gpu.xid.79"),
                Severity::NodeFatal,
                Action::Reboot,
                FindingSource::KernelLog,
                "GPU has fallen off the bus",
            )
        };
        vec![
            Event::ControlPlaneStarted { policy: Box::new(Policy::default()) },
            Event::NodeJoined { spec: Box::new(node_spec) },
            Event::NodeReported { node, incarnation: 3, seq: 1000, attempts: attempts() },
            Event::NodeSilent { node, last_heard: Time(1_700_000_000_000) },
            Event::NodeFenced { node, fence: EffectId(70_000) },
            Event::NodeDrained { request, node, reason: "firmware".into() },
            Event::NodeUndrained { request, node },
            Event::JobSubmitted { request, user: "ada".into(), spec: Arc::new(spec) },
            Event::JobCancelled { request, job: JobId(9) },
            Event::NodesReserved { request, reservation: Box::new(for_team) },
            Event::NodesReserved { request, reservation: Box::new(for_maintenance) },
            Event::ReservationCancelled { request, name: "psu".into() },
            Event::StepReached {
                job: JobId(9),
                epoch: Epoch(1),
                step: 1200,
                total_steps: Some(5000),
                loss_micro: Some(-2_310_000),
                is_watched: true,
            },
            Event::CheckpointSaved { job: JobId(9), epoch: Epoch(1), step: 1200, blocked_ms: 40 },
            Event::Tick,
            Event::GangReported {
                job: JobId(9),
                epoch: Epoch(2),
                word: GangWord::Stopped,
                but: vec![NodeId(300)],
            },
            Event::ProgressStopped { job: JobId(9), epoch: Epoch(1), since: Time(5) },
            Event::FindingSeen { node, finding: Box::new(finding) },
            Event::FindingGone {
                node,
                class: FindingClass::known("gpu.xid.79"),
                device: Some(Device::Gpu(3)),
            },
            Event::RemedyOver {
                node,
                remedy: EffectId(70_001),
                outcome: Outcome::Failed { reason: "it does not boot".into() },
            },
            Event::NodeMended { request, node, how: Mended::Replaced },
            Event::SymptomSeen {
                job: JobId(9),
                epoch: Epoch(2),
                rank: Rank(300),
                symptom: Box::new(Symptom {
                    kind: SymptomKind::Peer,
                    line: "NCCL WARN Connection closed".into(),
                }),
            },
            Event::StallSeen { job: JobId(9), epoch: Epoch(2), stall: Box::new(stall()) },
            Event::LossBroken { job: JobId(9), epoch: Epoch(2), rank: Rank(0), step: 1200 },
            Event::StragglerSeen {
                job: JobId(9),
                epoch: Epoch(2),
                straggler: Box::new(straggler()),
            },
            Event::StragglerGone { job: JobId(9), epoch: Epoch(2), rank: Rank(300) },
            Event::StacksSeen {
                job: JobId(9),
                epoch: Epoch(2),
                stacks: Box::new(Stacks {
                    step: 1200,
                    known: 512,
                    in_collective: 511,
                    outside: vec![(Rank(300), StackPlace::Data)],
                }),
            },
            Event::StandbyOffered { job: JobId(9) },
            Event::StandbysReported {
                node,
                incarnation: 3,
                seq: 1000,
                standbys: [
                    StandbyState::Starting,
                    StandbyState::Ready,
                    StandbyState::Ended { reason: "exit status 1".into() },
                ]
                .map(|state| StandbyReport { job: JobId(9), id: EffectId(70_002), state })
                .into(),
            },
            Event::PairTested {
                test: EffectId(70_002),
                node: Outcome::Done,
                peer: Outcome::Unsupported,
                link: Outcome::Failed { reason: "network.bits: 1 of 9 blocks".into() },
            },
            Event::ReplicaSilent {
                job: JobId(9),
                epoch: Epoch(2),
                replica: 70_000,
                stall: Box::new(stall()),
            },
        ]
    }

    fn straggler() -> Straggler {
        Straggler {
            rank: Rank(300),
            ranks: 8,
            sign: SlowSign::FewerSteps,
            by: SlowBy::Held,
            since: Time(1_700_000_000_000),
            step: 1200,
            own: 20,
            peers: 470,
            cost_permille: 450,
        }
    }

    fn stall() -> Stall {
        let apart = Apart { rank: Rank(300), step: Some(1199), activity: Some(Activity::Blocked) };
        Stall {
            since: Time(1_700_000_000_000),
            step: 1200,
            told: 512,
            at_step: 511,
            most: Some(Activity::Idle),
            apart: vec![apart],
        }
    }

    /// Compares records with what stands in a golden file, or writes it.
    fn hold_against(version: usize, records: impl Iterator<Item = EventRecord>) {
        let mut lines = GOLDEN[version - 1].lines();
        let mut written = String::new();
        let mut same = true;
        for record in records {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(EventRecord::decode(&bytes).as_ref(), Ok(&record));
            let line = format!("{} {}", record.parts().1.name(), to_hex(&bytes));
            same &= lines.next() == Some(&line);
            written.push_str(&line);
            written.push('\n');
        }
        if std::env::var_os("LINDOS_UPDATE_GOLDEN").is_some() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
            std::fs::write(format!("{folder}/record-v{version}.txt"), written).unwrap();
        } else {
            assert!(
                same && lines.next().is_none(),
                "journals of version {version} are in the field; now:\n{written}"
            );
        }
    }

    #[test]
    fn records_have_the_bytes_that_they_always_had() {
        let at = Time(1_700_000_000_123);
        let events = samples().into_iter();
        let of_version_1 = |event| match event {
            Event::ControlPlaneStarted { .. } => {
                let policy = Policy { repair: off(), ..Policy::default() };
                Event::ControlPlaneStarted { policy: Box::new(policy) }
            }
            other => other,
        };
        let records = events.clone().map(of_version_1);
        hold_against(1, records.map(|event| EventRecord::V1 { at, event }));
        let of_version_2 = |event| match event {
            Event::ControlPlaneStarted { mut policy } => {
                let repair = &mut policy.repair;
                (repair.pair_test_ms, repair.suspects_max) = (60_000, 3);
                (repair.idle_burn_in_every_ms, repair.idle_burn_in_max_percent) = (1 << 40, 200);
                (repair.straggler_cost_percent, repair.straggler_ms) = (10, 300_000);
                Event::ControlPlaneStarted { policy }
            }
            other => other,
        };
        let records = events.map(of_version_2);
        hold_against(2, records.clone().map(|event| EventRecord::V2 { at, event }));
        let of_version_3 = |event| match event {
            Event::JobSubmitted { request, user, spec } => {
                let spec =
                    JobSpec { spares: 2, warm_spares: 300, warm_restarts: true, ..(*spec).clone() };
                Event::JobSubmitted { request, user, spec: Arc::new(spec) }
            }
            other => other,
        };
        hold_against(3, records.map(of_version_3).map(|event| EventRecord::new(at, event)));
    }

    #[test]
    fn a_record_of_a_newer_version_or_with_bytes_to_spare_is_refused() {
        let mut bytes = Vec::new();
        EventRecord::V1 { at: Time(1), event: Event::Tick }.encode(&mut bytes);
        bytes.push(0);
        assert!(EventRecord::decode(&bytes).unwrap_err().0.contains("left over"));
        bytes[0] = 3;
        assert!(EventRecord::decode(&bytes).unwrap_err().0.contains("version 4"));
        assert!(EventRecord::decode(&[]).is_err());
    }
}
