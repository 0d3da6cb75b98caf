//! The launch contract: who this process is, by the variables that torchrun and Lindos set.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::replicas::Place;
use crate::standby::Environment;

/// One rank of one attempt, or of one launch of a replica: then all but `replica` speaks of
/// the replica alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub rank: usize,
    pub world: usize,
    /// Where rank 0 listens; unused with one rank.
    pub master: (String, u16),
    pub job: String,
    pub epoch: u64,
    /// Which replica this rank is of, where the job is made of replicas.
    pub replica: Option<Place>,
    /// The folder for checkpoints that Lindos lends.
    pub checkpoint_dir: Option<PathBuf>,
    /// No checkpoint that was saved after this step is to be gone on from.
    pub resume_step: Option<u64>,
}

impl Launch {
    /// From the environment, or alone where it has neither RANK nor WORLD_SIZE.
    pub fn from(environment: &Environment) -> Result<Self, Failure> {
        Self::from_lookup(|name| environment.get(name))
    }

    fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let job = get("LINDOS_JOB").unwrap_or_default();
        let epoch = number(&get, "LINDOS_EPOCH")?.unwrap_or(1);
        let replica = Place::from_lookup(&get)?;
        let mut launch = Self {
            rank: 0,
            world: 1,
            master: ("127.0.0.1".to_owned(), 0),
            job,
            epoch,
            replica,
            checkpoint_dir: get("LINDOS_CHECKPOINT_DIR").map(PathBuf::from),
            resume_step: number(&get, "LINDOS_RESUME_STEP")?,
        };
        match (number(&get, "RANK")?, number(&get, "WORLD_SIZE")?) {
            (None, None) => return Ok(launch),
            (Some(rank), Some(world)) if rank < world => {
                launch.rank = rank as usize;
                launch.world = world as usize;
            }
            (Some(rank), Some(world)) => {
                return Err(Failure::Usage(format!(
                    "RANK={rank} WORLD_SIZE={world}: ranks run from 0 to WORLD_SIZE - 1"
                )));
            }
            (rank, _) => {
                let (set, missing) =
                    if rank.is_some() { ("RANK", "WORLD_SIZE") } else { ("WORLD_SIZE", "RANK") };
                return Err(Failure::Usage(format!(
                    "{set} is set and {missing} is not\n\
                     hint: set both, or neither for a single rank"
                )));
            }
        }
        if launch.world > 1 {
            let address = get("MASTER_ADDR").ok_or_else(|| needed("MASTER_ADDR"))?;
            let port = number(&get, "MASTER_PORT")?.ok_or_else(|| needed("MASTER_PORT"))?;
            let port = u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| {
                Failure::Usage(format!("MASTER_PORT={port}: it must be from 1 to 65535"))
            })?;
            launch.master = (address, port);
        }
        Ok(launch)
    }
}

fn needed(name: &str) -> Failure {
    Failure::Usage(format!("WORLD_SIZE is above 1 and {name} is not set: where is rank 0?"))
}

pub fn number(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<u64>, Failure> {
    get(name)
        .map(|value| {
            value
                .parse()
                .map_err(|_| Failure::Usage(format!("{name}={value}: it must be a whole number")))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Launch, String> {
        Launch::from_lookup(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
        .map_err(|e| e.to_string())
    }

    #[test]
    fn without_variables_it_is_alone() {
        let launch = launch(&[]).unwrap();
        assert_eq!((launch.rank, launch.world, launch.epoch), (0, 1, 1));
    }

    #[test]
    fn the_contract_is_read() {
        let launch = launch(&[
            ("RANK", "2"),
            ("WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node-1"),
            ("MASTER_PORT", "29500"),
            ("LINDOS_JOB", "job-7"),
            ("LINDOS_EPOCH", "3"),
            ("LINDOS_CHECKPOINT_DIR", "/ckpt"),
            ("LINDOS_RESUME_STEP", "40"),
        ])
        .unwrap();
        let expected = Launch {
            rank: 2,
            world: 4,
            master: ("node-1".to_owned(), 29500),
            job: "job-7".to_owned(),
            epoch: 3,
            replica: None,
            checkpoint_dir: Some(PathBuf::from("/ckpt")),
            resume_step: Some(40),
        };
        assert_eq!(launch, expected);
    }

    #[test]
    fn half_a_contract_is_an_error() {
        let error = |variables: &[(&str, &str)]| launch(variables).unwrap_err();
        assert!(error(&[("RANK", "0")]).contains("WORLD_SIZE is not"));
        assert!(error(&[("RANK", "4"), ("WORLD_SIZE", "4")]).contains("ranks run from 0"));
        assert!(error(&[("RANK", "0"), ("WORLD_SIZE", "two")]).contains("WORLD_SIZE=two"));
        let two = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a")];
        assert!(error(&two).contains("MASTER_PORT is not set"));
    }
}
