//! The command line, and that part of it which decides the losses.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::launch::Launch;

/// Train a small byte-level GPT, on one rank or on several that exchange gradients.
///
/// Ranks are told apart by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun and Lindos
/// set them; without these it is one rank. LINDOS_REPLICA and its kin make it a rank of one of
/// several replicas, which outlive each other. Equal flags and data give equal losses, to the last
/// bit, however many ranks there are and however often they are killed and resumed.
#[derive(Debug, Clone, Parser)]
#[command(version, about, max_term_width = 100, args_override_self = true)]
pub struct Args {
    /// Optimizer steps of the whole run, resumed ones included.
    #[arg(long, default_value_t = 300)]
    pub steps: u64,
    /// Fixes the first weights and the order of the data.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Sequences in a step, over all ranks.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Sequences that a rank computes at once; batch / micro-batch is the most ranks there can be.
    #[arg(long, default_value_t = 2)]
    pub micro_batch: usize,
    /// Bytes in a sequence.
    #[arg(long, default_value_t = 128)]
    pub context: usize,
    /// Transformer blocks.
    #[arg(long, default_value_t = 3)]
    pub layers: usize,
    /// Numbers that stand for a byte inside the model.
    #[arg(long, default_value_t = 128)]
    pub width: usize,
    /// Attention heads; they share the width.
    #[arg(long, default_value_t = 4)]
    pub heads: usize,
    /// Learning rate after warm-up; it falls to a tenth along a cosine.
    #[arg(long, default_value_t = 3e-3)]
    pub lr: f64,

    /// A file or folder to learn from; without it, the sources and docs under the working folder.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Where checkpoints are kept; without it, in $LINDOS_CHECKPOINT_DIR; without that, nowhere.
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Steps between checkpoints; 0 writes only the last.
    #[arg(long, default_value_t = 25)]
    pub checkpoint_every: u64,
    /// How long ranks wait for each other at the start, and too few replicas for another.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub connect_timeout: u64,

    /// Sleep before every step, to stretch a test.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0, help_heading = "Made-up faults")]
    pub slow_ms: u64,
    /// Exit 1 before this step, on --fail-rank.
    #[arg(long, value_name = "STEP", help_heading = "Made-up faults")]
    pub fail_at_step: Option<u64>,
    #[arg(long, value_name = "RANK", default_value_t = 0, help_heading = "Made-up faults")]
    pub fail_rank: usize,
    /// With replicas, the one whose ranks fail or hang.
    #[arg(long, value_name = "REPLICA", default_value_t = 0, help_heading = "Made-up faults")]
    pub fault_replica: usize,
    /// Fail in epoch 1 only, so that the resumed attempt gets through.
    #[arg(long, requires = "fail_at_step", help_heading = "Made-up faults")]
    pub fail_once: bool,
    /// Stop making progress before this step, on --hang-rank.
    #[arg(long, value_name = "STEP", help_heading = "Made-up faults")]
    pub hang_at_step: Option<u64>,
    #[arg(long, value_name = "RANK", default_value_t = 0, help_heading = "Made-up faults")]
    pub hang_rank: usize,
    /// Hang in epoch 1 only.
    #[arg(long, requires = "hang_at_step", help_heading = "Made-up faults")]
    pub hang_once: bool,
}

/// Everything that decides the losses. All ranks, and all attempts of one run, must agree on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub steps: u64,
    pub seed: u64,
    pub batch: usize,
    pub micro_batch: usize,
    pub context: usize,
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub lr: f64,
    pub data: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Args::parse_from(["tiny-gpt"]).config().expect("the default flags are good")
    }
}

/// Sizes beyond this are slips of the keyboard; the bound keeps all products below 2^63.
const SIZE_MAX: usize = 65_536;

impl Args {
    /// Where checkpoints are kept.
    pub fn checkpoint_dir(&self, launch: &Launch) -> Option<PathBuf> {
        self.checkpoint_dir.clone().or_else(|| launch.checkpoint_dir.clone())
    }

    /// The flags that decide the losses, checked.
    pub fn config(&self) -> Result<Config, Failure> {
        let sizes = [
            ("--batch", self.batch),
            ("--micro-batch", self.micro_batch),
            ("--context", self.context),
            ("--layers", self.layers),
            ("--width", self.width),
            ("--heads", self.heads),
        ];
        for (flag, value) in sizes {
            if !(1..=SIZE_MAX).contains(&value) {
                return usage(format!("{flag} {value}: it must be from 1 to {SIZE_MAX}"));
            }
        }
        if self.steps == 0 {
            return usage("--steps 0: there is nothing to do\nhint: at least 1".to_owned());
        }
        if !self.width.is_multiple_of(self.heads) {
            return usage(format!(
                "--width {} --heads {}: the heads must share the width evenly\n\
                 hint: --width {}",
                self.width,
                self.heads,
                self.width.next_multiple_of(self.heads)
            ));
        }
        if !self.batch.is_multiple_of(self.micro_batch) {
            return usage(format!(
                "--batch {} --micro-batch {}: the batch must be whole micro-batches\n\
                 hint: --batch {}",
                self.batch,
                self.micro_batch,
                self.batch.next_multiple_of(self.micro_batch)
            ));
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return usage(format!("--lr {}: it must be above 0", self.lr));
        }
        Ok(Config {
            steps: self.steps,
            seed: self.seed,
            batch: self.batch,
            micro_batch: self.micro_batch,
            context: self.context,
            layers: self.layers,
            width: self.width,
            heads: self.heads,
            lr: self.lr,
            data: self.data.clone(),
        })
    }
}

fn usage<T>(message: String) -> Result<T, Failure> {
    Err(Failure::Usage(message))
}

impl Config {
    /// Micro-batches of a step: the leaves of the sum.
    pub fn leaves(&self) -> usize {
        self.batch / self.micro_batch
    }

    /// Of the whole job.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch * self.context) as u64
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of numbers and a path")
    }

    /// The first flag that `other` (as [`Config::to_json`] wrote it) has otherwise, in words.
    pub fn difference(&self, other: &str) -> Option<String> {
        let fields = |json: &str| -> serde_json::Map<String, serde_json::Value> {
            serde_json::from_str(json).unwrap_or_default()
        };
        let (ours, theirs) = (fields(&self.to_json()), fields(other));
        ours.iter().find_map(|(name, ours)| {
            let theirs = theirs.get(name).unwrap_or(&serde_json::Value::Null);
            let flag = format!("--{}", name.replace('_', "-"));
            (ours != theirs).then(|| format!("{flag} is {theirs} there and {ours} here"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str]) -> Result<Config, String> {
        let args = std::iter::once("tiny-gpt").chain(flags.iter().copied());
        Args::try_parse_from(args).map_err(|e| e.to_string())?.config().map_err(|e| e.to_string())
    }

    #[test]
    fn bad_values_say_what_to_do() {
        for (flags, expected) in [
            (["--width", "129"], "hint: --width 132"),
            (["--micro-batch", "3"], "hint: --batch 33"),
            (["--batch", "0"], "--batch 0: it must be from 1"),
            (["--context", "99999999"], "--context 99999999"),
            (["--lr", "nan"], "--lr NaN"),
            (["--steps", "0"], "--steps 0"),
            (["--steps", "many"], "invalid value 'many' for '--steps"),
            (["--hang-rank", "-1"], "-1"),
        ] {
            let error = config(&flags).expect_err("a bad value");
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }

    #[test]
    fn a_difference_names_the_flag() {
        let ours = config(&[]).unwrap();
        assert_eq!(ours.difference(&ours.to_json()), None);
        let theirs = config(&["--micro-batch", "4"]).unwrap();
        assert_eq!(
            ours.difference(&theirs.to_json()).unwrap(),
            "--micro-batch is 4 there and 2 here"
        );
    }
}
