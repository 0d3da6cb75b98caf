//! From a folder to a history: the journal is replayed, and what it comes to is proved.

use super::Recording;
use crate::failure::{Exit, Failure};
use crate::{output, state};
use indicatif::{ProgressBar, ProgressStyle};
use lindos_journal::{Reader, RealDisk};
use lindos_sim::whatif::{ReplayError, Watch, replay};
use std::path::{Path, PathBuf};

/// A state folder has its journal here.
const JOURNAL: &str = "journal";
const HINT: &str = "name the state folder of a control plane, or one that `lindos sim run --record \
                    DIR` has written";

pub fn read(folder: Option<&Path>, is_quiet: bool) -> Result<Recording, Failure> {
    let folder = state::folder(folder)?;
    let journal = journal_in(&folder)?;
    let disk = RealDisk::existing(&journal).map_err(|error| {
        Failure::state(format!("{} cannot be read: {error}", journal.display()), HINT)
    })?;
    let unusable = |text: &str| Failure::with_hint_inside(Exit::StateUnusable, text, HINT);
    let opened = Reader::open(disk, None).map_err(|error| unusable(&error.to_string()))?;
    let (reader, recovered) = opened;
    let bar = bar(recovered.last.0, is_quiet);
    let mut watch = Watch::default();
    let replayed = replay(&reader, &mut |moment| watch.on_moment(moment), &mut |records| {
        bar.set_position(records);
    });
    bar.finish_and_clear();
    let (proof, core) = replayed.map_err(|error: ReplayError| unusable(&error.to_string()))?;
    if recovered.cut_bytes > 0 {
        output::message(format!(
            "the last {} bytes of the journal are the beginning of a batch that was never \
             finished: they are left out",
            recovered.cut_bytes
        ));
    }
    let history = watch.into_history(&core);
    if history.nodes.is_empty() {
        let message = format!("{}: no node has ever joined", journal.display());
        return Err(Failure::state(message, "there is nothing to play before one has"));
    }
    Ok(Recording { journal, history, proof })
}

/// The folder's own journal, or the folder, if it is one.
fn journal_in(folder: &Path) -> Result<PathBuf, Failure> {
    let inside = folder.join(JOURNAL);
    if inside.is_dir() {
        return Ok(inside);
    }
    let is_one = std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|ext| ext == JOURNAL))
    });
    if is_one {
        return Ok(folder.to_path_buf());
    }
    Err(Failure::state(format!("there is no journal in {}", folder.display()), HINT))
}

fn bar(records: u64, is_quiet: bool) -> ProgressBar {
    if is_quiet || !output::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("replaying {bar:30} {percent}%, {eta} left");
    ProgressBar::new(records).with_style(style.expect("the template is right"))
}
