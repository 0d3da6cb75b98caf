//! One rank's life: find the others, agree on the state, step, save.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::checkpoint::{Store, to_bytes};
use crate::company::Company;
use crate::config::{Args, Config};
use crate::corpus::{Corpus, digest};
use crate::failure::Failure;
use crate::group::Group;
use crate::launch::Launch;
use crate::model::{Layout, Model};
use crate::optimizer::State;
use crate::progress::Progress;
use crate::replicas::{Place, Replicas, Shelf, Start, Trainee};
use crate::start::Beginning;

/// Train to the last step, or say why not; the other ranks hear of it as well.
pub fn run(args: &Args, launch: &Launch, progress: &Progress) -> Result<()> {
    let config = args.config()?;
    check_number(launch, &config)?;
    let layout = Layout::new(&config);
    let beginning =
        if launch.rank == 0 { Some(Beginning::new(args, launch, &config, &layout)?) } else { None };
    let patience = Duration::from_secs(args.connect_timeout);
    let (mut company, start) = meet(launch, &config, patience, beginning.as_ref())?;
    let trained = (|| {
        let (corpus, state) = company.group().share(start)?;
        let digest = digest(&corpus);
        let corpus = Corpus::new(corpus, config.context)?;
        let store = beginning.as_ref().and_then(|beginning| beginning.store.as_ref());
        let config = config.clone();
        let mut rank =
            Rank { args, config, layout: &layout, launch, progress, store, corpus, digest, state };
        rank.train(&mut company)
    })();
    trained.inspect_err(|error: &anyhow::Error| company.group().give_up(&format!("{error:#}")))
}

fn check_number(launch: &Launch, config: &Config) -> Result<(), Failure> {
    let replicas = launch.replica.as_ref().map_or(1, |place| place.replicas);
    let ranks = launch.world * replicas;
    if ranks <= config.leaves() {
        return Ok(());
    }
    let times = if replicas > 1 { format!(" LINDOS_REPLICAS={replicas}") } else { String::new() };
    Err(Failure::Usage(format!(
        "WORLD_SIZE={}{times} and {} micro-batches in a step: some ranks would have nothing to do\n\
         hint: --batch {}",
        launch.world,
        config.leaves(),
        ranks * config.micro_batch
    )))
}

/// The others, and for rank 0 where to begin.
fn meet(
    launch: &Launch,
    config: &Config,
    patience: Duration,
    beginning: Option<&Beginning>,
) -> Result<(Company, Option<Start>)> {
    let Some(place) = &launch.replica else {
        let start = beginning.map(Shelf::load).transpose()?;
        return Ok((Company::Group(Group::form(launch, config, patience)?), start));
    };
    let group = Group::form(launch, config, patience)?;
    let Some(beginning) = beginning else {
        return Ok((Company::Led(group), None));
    };
    let (replicas, start) = Replicas::form(launch, place, config, group, patience, beginning)?;
    Ok((Company::Leading(Box::new(replicas)), Some(start)))
}

struct Rank<'a> {
    args: &'a Args,
    config: Config,
    layout: &'a Layout,
    launch: &'a Launch,
    progress: &'a Progress,
    store: Option<&'a Store>,
    corpus: Corpus,
    /// Of the corpus.
    digest: String,
    state: State,
}

impl Rank<'_> {
    fn train(&mut self, company: &mut Company) -> Result<()> {
        let (began, first_step) = (Instant::now(), self.state.step);
        self.note(&format!(
            "{} parameters, {} bytes of data, WORLD_SIZE {}{}, steps {} to {}",
            self.layout.len,
            self.corpus.bytes.len(),
            self.launch.world,
            self.launch.replica.as_ref().map(Place::words).unwrap_or_default(),
            first_step + 1,
            self.config.steps
        ));
        if self.launch.replica.is_some() && company.leads() {
            self.took_over()?;
        }
        let mut blocked = Duration::ZERO;
        while self.state.step < self.config.steps {
            self.maybe_fault();
            let loss = self.step(company)?;
            let step = self.state.step;
            self.say(&format!("step {step} loss {loss:.4}"));
            let loss = (self.launch.rank == 0).then_some(loss);
            let tokens = step * self.config.tokens_per_step();
            self.progress.step(step, loss, tokens, self.config.steps);
            blocked += self.maybe_checkpoint(company)?;
        }
        let loss = self.validate(company)?;
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
    fn step(&mut self, company: &mut Company) -> Result<f32> {
        let step = self.state.step + 1;
        let model = Model::new(&self.config, self.layout, &self.state.weights)?;
        let (leaves, size) = (self.config.leaves(), self.config.micro_batch);
        let gradient = |leaf| {
            let sequences: Vec<&[u8]> = (leaf * size..(leaf + 1) * size)
                .map(|index| self.corpus.sequence(&self.config, step, index))
                .collect();
            Ok(model.gradient_and_loss(&sequences)?)
        };
        let mut sum = company.sum(step, leaves, self.layout.len + 1, gradient, self)?;
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
        self.state.update(&self.config, self.layout, &mut sum);
        Ok(loss)
    }

    /// Where one is due: written by rank 0, while the others wait for its next sum.
    fn maybe_checkpoint(&self, company: &Company) -> Result<Duration> {
        match self.store.filter(|_| company.leads() && self.checkpoint_is_due()) {
            Some(store) => self.checkpoint(store),
            None => Ok(Duration::ZERO),
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        let (step, every) = (self.state.step, self.args.checkpoint_every);
        step == self.config.steps || (every > 0 && step > 0 && step.is_multiple_of(every))
    }

    fn checkpoint(&self, store: &Store) -> Result<Duration> {
        let began = Instant::now();
        let path = store.save(&self.state, self.layout, &self.digest)?;
        let blocked = began.elapsed();
        self.progress.checkpoint(self.state.step, &path, blocked.as_secs_f64());
        Ok(blocked)
    }

    /// The mean over the held-out sequences, which the ranks share like a batch.
    fn validate(&self, company: &mut Company) -> Result<f32> {
        let model = Model::new(&self.config, self.layout, &self.state.weights)?;
        let sequences: Vec<&[u8]> = self.corpus.validation().collect();
        let round = self.state.step + 1;
        let loss = |leaf| Ok(vec![model.loss(&sequences[leaf..=leaf])?]);
        let sum = company.sum(round, sequences.len(), 1, loss, self)?;
        Ok(sum[0] / sequences.len() as f32)
    }

    /// What the flags ask for, so that somebody can be seen to notice it.
    fn maybe_fault(&self) {
        let (args, next) = (self.args, self.state.step + 1);
        if args.slow_ms > 0 {
            thread::sleep(Duration::from_millis(args.slow_ms));
        }
        let due = |step: Option<u64>, rank: usize, once: bool| {
            step == Some(next)
                && rank == self.launch.rank
                && self.launch.replica.as_ref().is_none_or(|r| r.replica == args.fault_replica)
                && (!once || self.launch.epoch == 1)
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

impl Trainee for Rank<'_> {
    fn corpus(&self) -> &[u8] {
        &self.corpus.bytes
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn took_over(&self) -> Result<()> {
        let missing = |store: &&Store| self.checkpoint_is_due() && !store.has(self.state.step);
        self.store.filter(missing).map_or(Ok(()), |store| self.checkpoint(store).map(drop))
    }
}
