//! `lindos sim run --record`: a run of the twin as the journal of a control plane.

use lindos_journal::{Journal, Options, RealDisk};
use lindos_model::Time;
use lindos_sim::twin::figures::Figures;
use lindos_sim::twin::scenario::FleetScenario;
use std::path::Path;

/// Where a state folder has its journal.
const JOURNAL: &str = "journal";

/// Plays one seed and writes its journal into a new folder. An error is words, with a `hint:` line.
pub fn record(
    scenario: &FleetScenario,
    seed: u64,
    folder: &Path,
    tell: &mut dyn FnMut(Time),
) -> Result<Figures, String> {
    let journal = folder.join(JOURNAL);
    if std::fs::read_dir(&journal).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!(
            "--record: {} has a journal already\nhint: name a new folder",
            folder.display()
        ));
    }
    let unusable = |error: std::io::Error| {
        let journal = journal.display();
        format!("--record: {journal}: {error}\nhint: name a folder that you may write to")
    };
    let disk = RealDisk::create(&journal).map_err(unusable)?;
    let options = Options::new(id(scenario, seed));
    let words = |error: &dyn std::fmt::Display| error.to_string().replace("\n  hint:", "\nhint:");
    let (mut writer, _) = Journal::open(disk, options).map_err(|error| words(&error))?;
    let again = || RealDisk::existing(&journal);
    lindos_sim::whatif::record::record(&mut writer, again, scenario, seed, tell)
        .map_err(|error| words(&error))
}

/// The same for the same run: so are all bytes that are written.
fn id(scenario: &FleetScenario, seed: u64) -> u128 {
    let text = format!("{:?} {seed}", scenario.table);
    // FNV-1a, in 128 bits.
    text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}
