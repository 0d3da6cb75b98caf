//! Who can mend a node, and how: told apart from what the core decides, which is when and with what.

use lindos_api::work::{Task, Work};
use lindos_model::finding::Device;
use lindos_model::{EffectId, Millis, NodeSpec, Outcome, Remedy};

/// Where a remedy is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// On the node, by its agent.
    Node(Work),
    /// Beside the control plane, by [`Mender::carry_out`].
    Here,
    /// Nobody here can do it.
    Nowhere,
}

/// A remedy for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Of the effect that asks for it: grows over the life of a fleet.
    pub id: EffectId,
    pub node: NodeSpec,
    pub remedy: Remedy,
    /// Where the fault was found.
    pub device: Option<Device>,
    /// It has failed when it takes longer.
    pub limit: Millis,
}

/// What operators have to mend nodes with.
pub trait Mender: Send + Sync {
    fn way(&self, case: &Case) -> Way;

    /// Carries out what goes [`Way::Here`], and returns when it is over. It blocks. A control plane
    /// that starts anew asks again for what was under way: the same id is carried out once, and the
    /// later call waits for it.
    fn carry_out(&self, case: &Case) -> Outcome;

    /// Nobody waits for it any more: what lives of it is killed, what was noted of it removed.
    fn forget(&self, id: EffectId);

    /// What an earlier control plane began here and has not forgotten.
    fn known(&self) -> Vec<EffectId>;
}

/// Nothing but what agents can do by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentsAlone;

/// The burn-in that is a part of diagnostics.
const DIAGNOSE_SPAN: Millis = Millis::from_secs(30);

impl AgentsAlone {
    /// What an agent does for it, if it can.
    pub fn way(case: &Case) -> Way {
        let task = match case.remedy {
            Remedy::ResetGpu => Task::ResetGpu { device: case.device.clone() },
            Remedy::Diagnose => Task::Diagnose { span: DIAGNOSE_SPAN },
            _ => return Way::Nowhere,
        };
        Way::Node(Work { task, limit: case.limit })
    }
}

impl Mender for AgentsAlone {
    fn way(&self, case: &Case) -> Way {
        AgentsAlone::way(case)
    }

    fn carry_out(&self, _: &Case) -> Outcome {
        Outcome::Unsupported
    }

    fn forget(&self, _: EffectId) {}

    fn known(&self) -> Vec<EffectId> {
        Vec::new()
    }
}
