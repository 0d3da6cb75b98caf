//! Mends the nodes of a fleet on this machine: with the operators' commands where a file names them,
//! and else as far as that can be done to a node that is a few processes.

use super::LocalFencer;
use lindos_agent::work::{self, Plan};
use lindos_model::{EffectId, Outcome, Remedy};
use lindos_server::remedies::Remedies;
use lindos_server::{Case, Fencer as _, Mender, Way};
use std::path::PathBuf;

pub struct LocalMender {
    /// This program, which carries out a work when it is started so.
    pub program: PathBuf,
    /// A folder for each work beside the control plane.
    pub works: PathBuf,
    pub remedies: Remedies,
    pub fencer: LocalFencer,
}

impl LocalMender {
    fn folder(&self, id: EffectId) -> PathBuf {
        self.works.join(id.0.to_string())
    }
}

impl Mender for LocalMender {
    fn way(&self, case: &Case) -> Way {
        match (self.remedies.way(case), case.remedy) {
            // Its agent and all below it are what the node is: they are started anew.
            (Way::Nowhere, Remedy::Reboot | Remedy::PowerCycle) => Way::Here,
            (way, _) => way,
        }
    }

    fn carry_out(&self, case: &Case) -> Outcome {
        let Some(work) = self.remedies.work(case) else {
            // Whoever keeps the agents starts it again. Twice comes to the same as once.
            return match self.fencer.fence(&case.node.name) {
                Ok(()) => Outcome::Done,
                Err(reason) => Outcome::Failed { reason },
            };
        };
        let plan = Plan::new(case.id.0, &case.node.name, work);
        work::carry_out(&self.program, &self.folder(case.id), &plan)
    }

    fn forget(&self, id: EffectId) {
        let folder = self.folder(id);
        if let Err(error) = work::stop(&folder) {
            tracing::error!("{}: {error:#}", folder.display());
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", folder.display());
        }
    }

    fn known(&self) -> Vec<EffectId> {
        work::numbers(&self.works).into_iter().map(EffectId).collect()
    }
}
