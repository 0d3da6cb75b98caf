//! Which jobs a fleet could never hold: the core itself is asked.

use lindos_core::effect::Reply;
use lindos_core::{Core, Effect, Effects, Event};
use lindos_model::{JobSpec, NodeSpec, Policy, RequestId, Time, WaitReason};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of these jobs, those that no state of the fleet could hold, each name once, and why.
///
/// The nodes have joined and none is in service, so no job starts, and each is looked at alone.
pub fn never_fit<'j>(
    nodes: &[NodeSpec],
    policy: &Policy,
    jobs: impl Iterator<Item = &'j Arc<JobSpec>>,
) -> BTreeMap<String, WaitReason> {
    let (mut core, mut out) = (Core::new(), Effects::new());
    let mut requests = 0..;
    let mut next = || RequestId(requests.next().unwrap_or(0));
    let started = Event::ControlPlaneStarted { policy: Box::new(policy.clone()) };
    core.step(Time::ZERO, &started, &mut out);
    for spec in nodes {
        let joined = Event::NodeJoined { spec: Box::new(spec.clone()) };
        core.step(Time::ZERO, &joined, &mut out);
    }
    let mut unfit = BTreeMap::new();
    for spec in jobs {
        out.clear();
        let name = spec.name.clone();
        let alone = JobSpec { after: Vec::new(), array: None, ..(**spec).clone() };
        let (request, user, spec) = (next(), "whatif".to_string(), Arc::new(alone));
        core.step(Time::ZERO, &Event::JobSubmitted { request, user, spec }, &mut out);
        let submitted = out.iter().find_map(|effect| match effect {
            Effect::Reply { reply: Reply::Submitted { job }, .. } => Some(*job),
            _ => None,
        });
        let Some(job) = submitted else { continue };
        let wait = core.job(job).and_then(|job| job.wait.clone());
        if let Some(wait @ WaitReason::NeverFits { .. }) = wait {
            unfit.insert(name, wait);
        }
        let request = next();
        core.step(Time::ZERO, &Event::JobCancelled { request, job }, &mut out);
    }
    unfit
}
