//! What the journal holds: events and when they were taken, in versions that stay readable.
//!
//! A change to [`Event`] that changes its bytes needs a `V2` here and a conversion of `V1`; the
//! golden file `tests/golden/record-v1.txt` fails until there is one.

use crate::record::{DecodeError, Record};
use lindos_core::Event;
use lindos_model::Time;
use serde::{Deserialize, Serialize};

/// The newest version that this program reads, as it stands in a record's first byte.
const NEWEST_TAG: u8 = 0;

/// One record of the journal, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventRecord {
    V1 { at: Time, event: Event },
}

impl EventRecord {
    pub fn parts(&self) -> (Time, &Event) {
        let EventRecord::V1 { at, event } = self;
        (*at, event)
    }
}

impl Record for EventRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let bytes = postcard::to_stdvec(self).expect("an event is plain data");
        out.extend_from_slice(&bytes);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if let Some(version) = newer_version(bytes) {
            let reason = format!("it has version {version}, this program reads up to 1");
            return Err(DecodeError(reason));
        }
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
        Stacks, Stall, Straggler, Suspect, Symptom, SymptomKind, job,
    };
    use std::sync::Arc;

    fn to_hex(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        })
    }

    const GOLDEN: &str = include_str!("../tests/golden/record-v1.txt");

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
            class: FindingClass::known("gpu.xid.79"),
            severity: Severity::NodeFatal,
            action: Action::Reboot,
            suspect: Suspect::Hardware,
            device: Some(Device::Pci("0000:17:00".parse().unwrap())),
            code: Some(79),
            source: FindingSource::KernelLog,
            detail: "GPU has fallen off the bus".into(),
            cause: None,
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

    #[test]
    fn records_have_the_bytes_that_they_always_had() {
        let at = Time(1_700_000_000_123);
        let records = samples().into_iter().map(|event| EventRecord::V1 { at, event });
        let mut lines = GOLDEN.lines();
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
            std::fs::write(
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/record-v1.txt"),
                written,
            )
            .unwrap();
        } else {
            assert!(
                same && lines.next().is_none(),
                "journals of this version are in the field; now:\n{written}"
            );
        }
    }

    /// Records that end before fields that were added since, which have their defaults then.
    #[test]
    fn records_without_the_newest_fields_are_read() {
        let older = include_str!("../tests/golden/record-v1-older.txt");
        let policy = Box::new(Policy::default());
        for line in older.lines() {
            let (name, hex) = line.split_once(' ').unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let record = EventRecord::decode(&bytes).unwrap();
            assert_eq!(record.parts().1.name(), name);
            let expected = Event::ControlPlaneStarted { policy: policy.clone() };
            assert_eq!(record.parts().1, &expected);
        }
    }

    #[test]
    fn a_record_of_a_newer_version_or_with_bytes_to_spare_is_refused() {
        let mut bytes = Vec::new();
        EventRecord::V1 { at: Time(1), event: Event::Tick }.encode(&mut bytes);
        bytes.push(0);
        assert!(EventRecord::decode(&bytes).unwrap_err().0.contains("left over"));
        bytes[0] = 1;
        assert!(EventRecord::decode(&bytes).unwrap_err().0.contains("version 2"));
        assert!(EventRecord::decode(&[]).is_err());
    }
}
