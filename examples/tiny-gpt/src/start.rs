//! Where a run begins: the checkpoint folder, or a fresh state.

use std::cell::Cell;
use std::path::Path;

use anyhow::Result;

use crate::checkpoint::Store;
use crate::config::{Args, Config};
use crate::corpus::{Corpus, digest};
use crate::failure::Failure;
use crate::launch::Launch;
use crate::model::Layout;
use crate::optimizer::State;
use crate::replicas::{Shelf, Start};

/// What rank 0 has before it meets the others.
#[derive(Debug)]
pub struct Beginning<'a> {
    config: &'a Config,
    layout: &'a Layout,
    pub store: Option<Store>,
    /// The last checkpoint was there and did not verify: it is not looked at again.
    spoiled: Cell<bool>,
}

impl<'a> Beginning<'a> {
    /// Nothing begins what cannot be saved.
    pub fn new(
        args: &Args,
        launch: &Launch,
        config: &'a Config,
        layout: &'a Layout,
    ) -> Result<Self, Failure> {
        // Of a folder that is not lent, Lindos knows nothing; replicas may have saved more since.
        let spoilt_after = launch.resume_step.filter(|_| args.checkpoint_dir.is_none());
        let store = args.checkpoint_dir(launch).map(|folder| match &launch.replica {
            None => {
                let store = Store::open(&folder, config)?;
                spoilt_after.map_or(Ok(()), |step| store.drop_after(step)).map(|()| store)
            }
            Some(place) => {
                let store =
                    Store::open_beside_others(&folder, config, place.replica, launch.epoch)?;
                store.check().map(|()| store)
            }
        });
        Ok(Self { config, layout, store: store.transpose()?, spoiled: Cell::new(false) })
    }

    fn corpus(&self) -> Result<Vec<u8>> {
        let collect = || -> Result<Vec<u8>> {
            Ok(Corpus::new(Corpus::collect(self.config)?, self.config.context)?.bytes)
        };
        let Some(store) = &self.store else {
            return collect();
        };
        if let Some(corpus) = store.stored_corpus()? {
            return Ok(corpus);
        }
        let corpus = collect()?;
        store.store_corpus(&corpus)?;
        Ok(corpus)
    }
}

impl Shelf for Beginning<'_> {
    fn finished(&self) -> Result<Option<Start>> {
        let steps = self.config.steps;
        if self.spoiled.get() || !self.store.as_ref().is_some_and(|store| store.has(steps)) {
            return Ok(None);
        }
        let start = self.load()?;
        self.spoiled.set(start.1.step != steps);
        Ok(Some(start).filter(|(_, state)| state.step == steps))
    }

    /// The stored run if there is one, or a fresh one.
    fn load(&self) -> Result<Start> {
        let corpus = self.corpus()?;
        let skipped = |path: &Path, why: &str| {
            eprintln!("tiny-gpt: skipped {}: {why}", path.display());
        };
        let stored = match &self.store {
            Some(store) => store.load(self.layout, &digest(&corpus), skipped)?,
            None => None,
        };
        let state = stored.map(|(state, path)| {
            eprintln!("tiny-gpt: resuming after step {} from {}", state.step, path.display());
            state
        });
        Ok((corpus, state.unwrap_or_else(|| State::new(self.config, self.layout))))
    }
}
