//! One rank's life: find the others, agree on the state, step, save.

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::checkpoint::{Store, to_bytes};
use crate::config::{Args, Config};
use crate::corpus::{Corpus, digest};
use crate::failure::Failure;
use crate::group::Group;
use crate::launch::Launch;
use crate::model::{Layout, Model};
use crate::optimizer::State;
use crate::progress::Progress;

/// Train to the last step, or say why not; the other ranks hear of it as well.
pub fn run(args: &Args, launch: &Launch, progress: &Progress) -> Result<()> {
    let config = args.config()?;
    if launch.world > config.leaves() {
        return Err(Failure::Usage(format!(
            "WORLD_SIZE={} and {} micro-batches in a step: some ranks would have nothing to do\n\
             hint: --batch {}",
            launch.world,
            config.leaves(),
            launch.world * config.micro_batch
        ))
        .into());
    }
    let layout = Layout::new(&config);
    let (store, start) = if launch.rank == 0 {
        let (store, corpus, state) = prepare(args, &config, &layout)?;
        (store, Some((corpus, state)))
    } else {
        (None, None)
    };

    let mut group = Group::form(launch, &config, Duration::from_secs(args.connect_timeout))?;
    let trained = (|| {
        let (corpus, state) = group.share(start)?;
        let digest = digest(&corpus);
        let corpus = Corpus::new(corpus, config.context)?;
        let mut rank =
            Rank { args, config, layout, launch, progress, store, corpus, digest, state };
        rank.train(&mut group)
    })();
    trained.inspect_err(|error: &anyhow::Error| group.give_up(&format!("{error:#}")))
}

/// Rank 0's start: the stored run if there is one, or a fresh one.
fn prepare(
    args: &Args,
    config: &Config,
    layout: &Layout,
) -> Result<(Option<Store>, Vec<u8>, State)> {
    let Some(folder) = args.checkpoint_dir() else {
        let corpus = Corpus::new(Corpus::collect(config)?, config.context)?;
        return Ok((None, corpus.bytes, State::new(config, layout)));
    };
    let store = Store::open(&folder, config)?;
    let corpus = if let Some(corpus) = store.stored_corpus()? {
        corpus
    } else {
        let corpus = Corpus::new(Corpus::collect(config)?, config.context)?.bytes;
        store.store_corpus(&corpus)?;
        corpus
    };
    let skipped = |path: &Path, why: &str| {
        eprintln!("tiny-gpt: skipped {}: {why}", path.display());
    };
    let state = match store.load(layout, &digest(&corpus), skipped)? {
        Some((state, path)) => {
            eprintln!("tiny-gpt: resuming after step {} from {}", state.step, path.display());
            state
        }
        None => State::new(config, layout),
    };
    Ok((Some(store), corpus, state))
}

struct Rank<'a> {
    args: &'a Args,
    config: Config,
    layout: Layout,
    launch: &'a Launch,
    progress: &'a Progress,
    store: Option<Store>,
    corpus: Corpus,
    /// Of the corpus.
    digest: String,
    state: State,
}

impl Rank<'_> {
    fn train(&mut self, group: &mut Group) -> Result<()> {
        let (began, first_step) = (Instant::now(), self.state.step);
        self.note(&format!(
            "{} parameters, {} bytes of data, WORLD_SIZE {}, steps {} to {}",
            self.layout.len,
            self.corpus.bytes.len(),
            self.launch.world,
            first_step + 1,
            self.config.steps
        ));
        let mut blocked = Duration::ZERO;
        while self.state.step < self.config.steps {
            self.maybe_fault();
            let loss = self.step(group)?;
            let step = self.state.step;
            self.say(&format!("step {step} loss {loss:.4}"));
            let loss = (self.launch.rank == 0).then_some(loss);
            let tokens = step * self.config.tokens_per_step();
            self.progress.step(step, loss, tokens, self.config.steps);
            blocked += self.maybe_checkpoint()?;
        }
        let loss = self.validate(group)?;
        self.say(&format!("validation loss {loss:.4}"));
        // Two runs with equal weights are equal runs.
        self.say(&format!("weights {}", digest(&to_bytes(&self.state.weights))));
        let seconds = began.elapsed().as_secs_f64();
        let steps = self.state.step - first_step;
        self.note(&format!(
            "{steps} steps in {seconds:.1} s, {:.0} tokens/s; checkpoints held them up for {:.2} s",
            (steps * self.config.tokens_per_step()) as f64 / seconds,
            blocked.as_secs_f64()
        ));
        Ok(())
    }

    /// Gradient, sum, update. The loss is that of the whole batch before the update.
    fn step(&mut self, group: &mut Group) -> Result<f32> {
        let step = self.state.step + 1;
        let model = Model::new(&self.config, &self.layout, &self.state.weights)?;
        let (leaves, size) = (self.config.leaves(), self.config.micro_batch);
        let mut sum = group.sum(step, leaves, self.layout.len + 1, |leaf| {
            let sequences: Vec<&[u8]> = (leaf * size..(leaf + 1) * size)
                .map(|index| self.corpus.sequence(&self.config, step, index))
                .collect();
            Ok(model.gradient_and_loss(&sequences)?)
        })?;
        let share = 1.0 / leaves as f32;
        for value in &mut sum {
            *value *= share;
        }
        let loss = sum.pop().expect("the loss stands behind the gradient");
        ensure!(
            loss.is_finite() && sum.iter().all(|slope| slope.is_finite()),
            "step {step}: the loss or its gradient is no longer a number\n\
             hint: a lower --lr than {}",
            self.config.lr
        );
        self.state.update(&self.config, &self.layout, &mut sum);
        Ok(loss)
    }

    /// Where one is due: written by rank 0, while the others wait for its next sum.
    fn maybe_checkpoint(&mut self) -> Result<Duration> {
        let step = self.state.step;
        let every = self.args.checkpoint_every;
        let due = step == self.config.steps || (every > 0 && step.is_multiple_of(every));
        let Some(store) = self.store.as_ref().filter(|_| due) else {
            return Ok(Duration::ZERO);
        };
        let began = Instant::now();
        let path = store.save(&self.state, &self.layout, &self.digest)?;
        let blocked = began.elapsed();
        self.progress.checkpoint(step, &path, blocked.as_secs_f64());
        Ok(blocked)
    }

    /// The mean over the held-out sequences, which the ranks share like a batch.
    fn validate(&self, group: &mut Group) -> Result<f32> {
        let model = Model::new(&self.config, &self.layout, &self.state.weights)?;
        let sequences: Vec<&[u8]> = self.corpus.validation().collect();
        let round = self.state.step + 1;
        let sum = group.sum(round, sequences.len(), 1, |leaf| {
            Ok(vec![model.loss(&sequences[leaf..=leaf])?])
        })?;
        Ok(sum[0] / sequences.len() as f32)
    }

    /// What the flags ask for, so that somebody can be seen to notice it.
    fn maybe_fault(&self) {
        let (args, next) = (self.args, self.state.step + 1);
        if args.slow_ms > 0 {
            thread::sleep(Duration::from_millis(args.slow_ms));
        }
        let due = |step: Option<u64>, rank: usize, once: bool| {
            step == Some(next) && rank == self.launch.rank && (!once || self.launch.epoch == 1)
        };
        if due(args.fail_at_step, args.fail_rank, args.fail_once) {
            eprintln!("tiny-gpt: rank {} fails at step {next}, as told", self.launch.rank);
            std::process::exit(1);
        }
        if due(args.hang_at_step, args.hang_rank, args.hang_once) {
            eprintln!("tiny-gpt: rank {} hangs at step {next}, as told", self.launch.rank);
            loop {
                thread::park();
            }
        }
    }

    /// Data, from rank 0 alone. A reader that went away does not stop the training.
    fn say(&self, line: &str) {
        if self.launch.rank == 0 {
            let mut out = io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    fn note(&self, line: &str) {
        if self.launch.rank == 0 {
            let _ = writeln!(io::stderr(), "tiny-gpt: {line}");
        }
    }
}
