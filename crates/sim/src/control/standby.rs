//! A standby: it follows the journal of the control plane that leads, and takes over from it.

use super::Control;
use super::recover::read_record;
use lindos_core::{Core, Effects, Event};
use lindos_journal::{MemoryDisk, Reader, Seq};

/// A core that has stepped through the records so far, and has never seen a snapshot.
#[derive(Default)]
pub struct Standby {
    core: Core,
    seq: Seq,
    /// A planted bug: it passes over the control plane's own starts.
    pub skips_starts: bool,
}

impl Standby {
    /// Reads what has come since, while the one that leads may be writing.
    pub fn follow(&mut self, disk: &MemoryDisk) {
        let (reader, _) = Reader::open(disk.clone(), None).expect("a torn tail is no error");
        let mut effects = Effects::new();
        for entry in reader.iter_from(self.seq.next()).expect("the journal is readable") {
            let entry = entry.expect("a record that was committed is readable");
            let record = read_record(&entry.payload);
            let (at, event) = record.parts();
            self.seq = entry.seq;
            if self.skips_starts && matches!(event, Event::ControlPlaneStarted { .. }) {
                continue;
            }
            self.core.step(at, event, &mut effects);
            effects.clear();
        }
    }

    /// It leads from now on: its state is what the journal says, and nothing else.
    pub fn check_takes_over(&self, control: &Control) {
        let is_same = self.seq == control.stepped && self.core.digest() == control.core.digest();
        assert!(is_same, "violation: the standby came out differently from the journal");
    }
}
