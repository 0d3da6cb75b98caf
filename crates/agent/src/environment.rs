//! The launch contract: the environment of a rank. See `docs/launch-contract.md`.

use crate::plan::Plan;
use lindos_model::LaunchMode;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

pub type Environment = BTreeMap<OsString, OsString>;

/// Names an agent may have inherited (from a Slurm allocation, or from a rank that started it)
/// and that would tell a rank lies about its own job.
const FOREIGN_PREFIXES: [&str; 9] =
    ["LINDOS_", "TORCHELASTIC_", "SLURM_", "SLURMD_", "SRUN_", "OMPI_", "PMI_", "PMIX_", "ROLE_"];
const FOREIGN_NAMES: [&str; 19] = [
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "REPLICA_GROUP_ID",
    "NUM_REPLICA_GROUPS",
    "JAX_COORDINATOR_ADDRESS",
    "JAX_COORDINATOR_PORT",
    "JAX_COORDINATOR_BIND_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_COUNT",
    "JAX_PROCESS_ID",
    "JAX_LOCAL_PROCESS_ID",
    "JAX_LOCAL_DEVICE_IDS",
];

/// The variable that marks every process of an attempt.
pub const COOKIE: &str = "LINDOS_ATTEMPT";

/// The environment of this node's rank number `local` (from 0).
///
/// `inherited` is the agent's own. `nvidia`: whether the node has NVIDIA devices, so that
/// `CUDA_VISIBLE_DEVICES` means something.
pub fn launch_env(
    plan: &Plan,
    local: u32,
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    nvidia: bool,
) -> Environment {
    let mut environment: Environment =
        inherited.into_iter().filter(|(name, _)| !is_foreign(name)).collect();
    let job = plan.launch.spec.env.iter();
    environment.extend(job.map(|(name, value)| (name.into(), value.into())));
    // Without these two, a script's output comes in blocks of 8 KiB, too late for a progress
    // pattern, and every rank starts as many threads as there are cores. Whoever sets them wins.
    let mut defaults = vec![("PYTHONUNBUFFERED", "1")];
    if plan.launch.spec.launch == LaunchMode::Torchrun && plan.launch.rank_count > 1 {
        defaults.push(("OMP_NUM_THREADS", "1"));
    }
    for (name, value) in defaults {
        environment.entry(name.into()).or_insert_with(|| value.into());
    }
    Contract { plan, local, nvidia }.apply(&mut environment);
    environment
}

/// What this contract sets of it, and nothing else.
pub fn contract_env(plan: &Plan, local: u32, nvidia: bool) -> Environment {
    let mut environment = Environment::new();
    Contract { plan, local, nvidia }.apply(&mut environment);
    environment
}

/// Where processes that wait for a rank say so.
const STANDBY: &str = "LINDOS_STANDBY";
/// Set where ranks of the job have the GPUs meanwhile.
const STANDBY_BESIDE: &str = "LINDOS_STANDBY_BESIDE";
/// What of the contract is the same whatever rank it will be.
const KNOWN_BEFORE: [&str; 12] = [
    "LINDOS_JOB",
    "LINDOS_JOB_NAME",
    "LINDOS_NODE",
    "LINDOS_LOCAL_RANK",
    "LINDOS_LOCAL_WORLD_SIZE",
    "LINDOS_GPUS",
    "LINDOS_ARRAY_INDEX",
    "LINDOS_ARRAY_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "CUDA_VISIBLE_DEVICES",
    COOKIE,
];

/// The environment of a process that waits for a rank. What its rank decides is missing: it is told
/// later, as [`contract_env`] of the attempt.
pub fn standby_env(
    plan: &Plan,
    local: u32,
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    nvidia: bool,
) -> Environment {
    let mut environment = launch_env(plan, local, inherited, nvidia);
    for name in contract_env(plan, local, nvidia).into_keys() {
        if KNOWN_BEFORE.iter().all(|known| name != *known) {
            environment.remove(&name);
        }
    }
    set(&mut environment, STANDBY, plan.standby_socket(local).display());
    set_or_remove(&mut environment, STANDBY_BESIDE, plan.beside.then_some(1));
    environment
}

fn is_foreign(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    FOREIGN_PREFIXES.iter().any(|prefix| bytes.starts_with(prefix.as_bytes()))
        || FOREIGN_NAMES.iter().any(|foreign| bytes == foreign.as_bytes())
}

struct Contract<'a> {
    plan: &'a Plan,
    local: u32,
    nvidia: bool,
}

fn set(environment: &mut Environment, name: &str, value: impl std::fmt::Display) {
    environment.insert(name.into(), format!("{value}").into());
}

/// A variable that the job itself sets must not stand in for one that is unknown.
fn set_or_remove(environment: &mut Environment, name: &str, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => set(environment, name, value),
        None => drop(environment.remove(OsStr::new(name))),
    }
}

/// An address and a port in one word; an IPv6 address has colons of its own.
fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Contract<'_> {
    fn apply(&self, environment: &mut Environment) {
        self.lindos(environment);
        self.replica(environment);
        match self.plan.launch.spec.launch {
            LaunchMode::Torchrun => self.torchrun(environment),
            LaunchMode::Jax => self.jax(environment),
            LaunchMode::Slurm => self.slurm(environment),
            LaunchMode::Plain => {}
        }
    }

    /// Counted over the whole job, as in reports and logs.
    fn job_rank(&self) -> u32 {
        self.plan.launch.first_rank.0 + self.local
    }

    /// Counted over those that it meets at the master's port.
    fn rank(&self) -> u32 {
        self.plan.launch.rank_in_world(self.local)
    }

    fn master_address(&self) -> &str {
        self.plan.launch.gang.first().map_or("127.0.0.1", |node| node.address.as_str())
    }

    /// Attempts before this one.
    fn restarts(&self) -> u32 {
        self.plan.epoch.0.saturating_sub(1)
    }

    fn lindos(&self, environment: &mut Environment) {
        let Plan { launch, .. } = self.plan;
        let rank = lindos_model::Rank(self.job_rank());
        set(environment, "LINDOS_JOB", self.plan.job);
        set(environment, "LINDOS_JOB_NAME", &launch.spec.name);
        set(environment, "LINDOS_EPOCH", self.plan.epoch);
        set(environment, "LINDOS_NODE", &self.plan.node);
        set(environment, "LINDOS_NODE_RANK", launch.job_node_rank());
        set(environment, "LINDOS_NODES", launch.job_nodes());
        set(environment, "LINDOS_RANK", rank);
        set(environment, "LINDOS_LOCAL_RANK", self.local);
        set(environment, "LINDOS_WORLD_SIZE", launch.job_world_size());
        set(environment, "LINDOS_LOCAL_WORLD_SIZE", launch.rank_count);
        set(environment, "LINDOS_MASTER_ADDR", self.master_address());
        set(environment, "LINDOS_MASTER_PORT", launch.master_port);
        set(environment, "LINDOS_GPUS", launch.gpus);
        set(environment, "LINDOS_SOCKET", self.plan.rank_socket(rank).display());
        set(environment, "LINDOS_CHECKPOINT_DIR", self.plan.checkpoint_dir.display());
        set(environment, COOKIE, &self.plan.cookie);
        let array = launch.array();
        set_or_remove(environment, "LINDOS_RESUME_STEP", launch.resume_step);
        // Whole seconds do for shells, and are never 0.
        let save_every = launch.save_every.map(|every| every.0.div_ceil(1000));
        set_or_remove(environment, "LINDOS_CHECKPOINT_SECONDS", save_every);
        set_or_remove(environment, "LINDOS_ARRAY_INDEX", array.map(|(index, _)| index));
        set_or_remove(environment, "LINDOS_ARRAY_SIZE", array.map(|(_, size)| size));
        if self.nvidia {
            set(environment, "CUDA_VISIBLE_DEVICES", launch.gpus);
        }
    }

    /// Where the replicas of a job that has several meet; also by the names that torchft reads.
    fn replica(&self, environment: &mut Environment) {
        let replica = self.plan.launch.replica.as_ref();
        let addresses = replica.map(|replica| {
            let peers = replica.peers.iter().map(|peer| host_and_port(&peer.address, peer.port));
            peers.collect::<Vec<String>>().join(",")
        });
        set_or_remove(environment, "LINDOS_REPLICA", replica.map(|replica| replica.index));
        set_or_remove(environment, "LINDOS_REPLICAS", replica.map(|replica| replica.count));
        set_or_remove(environment, "LINDOS_REPLICAS_MIN", replica.map(|r| r.replicas_min));
        set_or_remove(environment, "LINDOS_REPLICA_ADDRS", addresses);
        // Of a job without replicas these are its own to set.
        if let Some(replica) = replica {
            set(environment, "REPLICA_GROUP_ID", replica.index);
            set(environment, "NUM_REPLICA_GROUPS", replica.count);
        }
    }

    fn torchrun(&self, environment: &mut Environment) {
        let launch = &self.plan.launch;
        set(environment, "RANK", self.rank());
        set(environment, "LOCAL_RANK", self.local);
        set(environment, "WORLD_SIZE", launch.world_size);
        set(environment, "LOCAL_WORLD_SIZE", launch.rank_count);
        set(environment, "GROUP_RANK", launch.node_rank);
        set(environment, "GROUP_WORLD_SIZE", launch.gang.len());
        set(environment, "ROLE_NAME", "default");
        set(environment, "ROLE_RANK", self.rank());
        set(environment, "ROLE_WORLD_SIZE", launch.world_size);
        set(environment, "MASTER_ADDR", self.master_address());
        set(environment, "MASTER_PORT", launch.master_port);
        set(environment, "TORCHELASTIC_RESTART_COUNT", self.restarts());
        set(environment, "TORCHELASTIC_MAX_RESTARTS", launch.spec.retry_infrastructure);
        set(environment, "TORCHELASTIC_RUN_ID", self.plan.job);
        // With "True", rank 0 would look for a store that torchrun's agent keeps.
        set(environment, "TORCHELASTIC_USE_AGENT_STORE", "False");
    }

    fn jax(&self, environment: &mut Environment) {
        let launch = &self.plan.launch;
        let coordinator = host_and_port(self.master_address(), launch.master_port);
        set(environment, "JAX_COORDINATOR_ADDRESS", coordinator);
        set(environment, "JAX_NUM_PROCESSES", launch.world_size);
        set(environment, "JAX_PROCESS_ID", self.rank());
        set(environment, "JAX_LOCAL_PROCESS_ID", self.local);
        // Ids among the devices of CUDA_VISIBLE_DEVICES; a share that does not come out even is
        // the script's to divide.
        let gpus = u32::from(launch.gpus.len());
        if self.nvidia && launch.rank_count > 0 && gpus.is_multiple_of(launch.rank_count) {
            let share = gpus / launch.rank_count;
            let ids: Vec<String> =
                (self.local * share..(self.local + 1) * share).map(|id| id.to_string()).collect();
            set(environment, "JAX_LOCAL_DEVICE_IDS", ids.join(","));
        }
    }

    fn slurm(&self, environment: &mut Environment) {
        let launch = &self.plan.launch;
        let nodes = launch.gang.len();
        // By address: scripts take the first as the master's address, and that is the one name
        // of it that surely leads there.
        let list = lindos_model::fleet::hostlist::fold(
            launch.gang.iter().map(|node| node.address.as_str()),
        );
        let tasks_per_node = if nodes > 1 {
            format!("{}(x{nodes})", launch.rank_count)
        } else {
            launch.rank_count.to_string()
        };
        for name in ["SLURM_JOB_ID", "SLURM_JOBID"] {
            set(environment, name, self.plan.job);
        }
        for name in ["SLURM_STEP_ID", "SLURM_STEPID", "SLURM_RESTART_COUNT"] {
            set(environment, name, self.restarts());
        }
        for name in ["SLURM_NTASKS", "SLURM_NPROCS", "SLURM_STEP_NUM_TASKS"] {
            set(environment, name, launch.world_size);
        }
        for name in ["SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_STEP_NUM_NODES"] {
            set(environment, name, nodes);
        }
        for name in ["SLURM_NODELIST", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST"] {
            set(environment, name, &list);
        }
        for name in ["SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"] {
            set(environment, name, &tasks_per_node);
        }
        for name in ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS"] {
            set(environment, name, launch.gpus);
        }
        for name in ["SLURM_LAUNCH_NODE_IPADDR", "SLURM_SRUN_COMM_HOST"] {
            set(environment, name, self.master_address());
        }
        set(environment, "SLURM_JOB_NAME", &launch.spec.name);
        set(environment, "SLURM_CLUSTER_NAME", "lindos");
        set(environment, "SLURM_SUBMIT_DIR", &launch.spec.workdir);
        set(environment, "SLURM_PROCID", self.rank());
        set(environment, "SLURM_LOCALID", self.local);
        set(environment, "SLURM_NODEID", launch.node_rank);
        set(environment, "SLURM_NTASKS_PER_NODE", launch.rank_count);
        set(environment, "SLURM_GPUS_ON_NODE", launch.gpus.len());
        set(environment, "SLURMD_NODENAME", &self.plan.node);
        if let Some((index, size)) = launch.array() {
            set(environment, "SLURM_ARRAY_TASK_ID", index);
            set(environment, "SLURM_ARRAY_TASK_COUNT", size);
            set(environment, "SLURM_ARRAY_TASK_MIN", 0);
            set(environment, "SLURM_ARRAY_TASK_MAX", size.saturating_sub(1));
            set(environment, "SLURM_ARRAY_TASK_STEP", 1);
            // The jobs of an array are submitted together, and have numbers one after another.
            set(environment, "SLURM_ARRAY_JOB_ID", self.plan.job.0.saturating_sub(index.into()));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lindos_api::agent::{GangNode, Launch, LaunchReplica, Peer};
    use lindos_model::{Epoch, GpuSet, JobId, Rank, job};
    use std::sync::Arc;

    /// The second of two nodes with two ranks each.
    pub(crate) fn plan(mode: LaunchMode) -> Plan {
        let mut spec = job::sample("demo", 2, 2);
        spec.launch = mode;
        let node =
            |name: &str, address: &str| GangNode { name: name.into(), address: address.into() };
        Plan {
            job: JobId(7),
            epoch: Epoch(3),
            node: "n1".into(),
            launch: Launch {
                spec: Arc::new(spec),
                gpus: GpuSet::first(4).without(GpuSet::first(2)),
                first_rank: Rank(2),
                rank_count: 2,
                world_size: 4,
                node_rank: 1,
                gang: Arc::new(vec![node("n0", "10.0.0.1"), node("n1", "10.0.0.2")]),
                master_port: 20_001,
                resume_step: Some(40),
                save_every: Some(lindos_model::Millis(90_500)),
                array_index: None,
                replica: None,
            },
            cookie: "cookie".into(),
            checkpoint_dir: "/ckpt/demo-7".into(),
            log_dir: "/logs/7-3".into(),
            socket_dir: "/a/7-3".into(),
            cgroup: None,
            standby: None,
            beside: false,
        }
    }

    /// The same node, with its gang as the second of three replicas.
    fn plan_of_replica(mode: LaunchMode) -> Plan {
        let mut plan = plan(mode);
        let mut spec = (*plan.launch.spec).clone();
        (spec.nodes, spec.min_nodes, spec.replicas, spec.replicas_min) = (6, 6, 3, 2);
        plan.launch.spec = Arc::new(spec);
        plan.launch.first_rank = Rank(6);
        let peer = |address: &str, port| Peer { address: address.into(), port };
        plan.launch.replica = Some(LaunchReplica {
            index: 1,
            count: 3,
            replicas_min: 2,
            peers: Arc::new(vec![
                peer("10.0.0.7", 20_010),
                peer("10.0.0.1", 20_002),
                peer("fd00::9", 20_014),
            ]),
        });
        plan
    }

    fn lines(environment: &Environment, prefixes: &[&str]) -> Vec<String> {
        environment
            .iter()
            .map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()))
            .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    fn env(mode: LaunchMode) -> Environment {
        launch_env(&plan(mode), 1, Vec::new(), false)
    }

    #[test]
    fn a_process_that_waits_knows_nothing_of_its_rank() {
        let own = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let inherited = vec![own("HOME", "/root"), own("RANK", "9")];
        for mode in [LaunchMode::Torchrun, LaunchMode::Jax, LaunchMode::Slurm, LaunchMode::Plain] {
            let mut plan = plan(mode);
            (plan.epoch, plan.beside) = (Epoch(0), true);
            let waits = standby_env(&plan, 1, inherited.clone(), true);
            let expected = [
                "LINDOS_ATTEMPT=cookie",
                "LINDOS_GPUS=2,3",
                "LINDOS_JOB=7",
                "LINDOS_JOB_NAME=demo",
                "LINDOS_LOCAL_RANK=1",
                "LINDOS_LOCAL_WORLD_SIZE=2",
                "LINDOS_NODE=n1",
                "LINDOS_STANDBY=/a/7-3/s1.sock",
                "LINDOS_STANDBY_BESIDE=1",
            ];
            assert_eq!(lines(&waits, &["LINDOS_"]), expected);
            assert_eq!(
                lines(&waits, &["HOME", "CUDA_"]),
                ["CUDA_VISIBLE_DEVICES=2,3", "HOME=/root"]
            );
            let of_rank = ["RANK", "WORLD", "GROUP", "ROLE", "MASTER", "TORCHE", "JAX_", "SLURM"];
            assert_eq!(lines(&waits, &of_rank), Vec::<String>::new());
            // With what it is told later it has all that a rank has.
            let full = launch_env(&plan, 1, inherited.clone(), true);
            let mut told = waits;
            told.extend(contract_env(&plan, 1, true));
            for name in [STANDBY, STANDBY_BESIDE] {
                told.remove(OsStr::new(name));
            }
            assert_eq!(told, full);
        }
    }

    #[test]
    fn every_mode_has_the_lindos_variables() {
        let expected = [
            "LINDOS_ATTEMPT=cookie",
            "LINDOS_CHECKPOINT_DIR=/ckpt/demo-7",
            "LINDOS_CHECKPOINT_SECONDS=91",
            "LINDOS_EPOCH=3",
            "LINDOS_GPUS=2,3",
            "LINDOS_JOB=7",
            "LINDOS_JOB_NAME=demo",
            "LINDOS_LOCAL_RANK=1",
            "LINDOS_LOCAL_WORLD_SIZE=2",
            "LINDOS_MASTER_ADDR=10.0.0.1",
            "LINDOS_MASTER_PORT=20001",
            "LINDOS_NODE=n1",
            "LINDOS_NODES=2",
            "LINDOS_NODE_RANK=1",
            "LINDOS_RANK=3",
            "LINDOS_RESUME_STEP=40",
            "LINDOS_SOCKET=/a/7-3/r3.sock",
            "LINDOS_WORLD_SIZE=4",
        ];
        for mode in [LaunchMode::Torchrun, LaunchMode::Jax, LaunchMode::Slurm, LaunchMode::Plain] {
            assert_eq!(lines(&env(mode), &["LINDOS_"]), expected, "{mode:?}");
        }
        let plain = env(LaunchMode::Plain);
        assert_eq!(plain.len(), expected.len() + 1, "{plain:?}");
    }

    #[test]
    fn torchrun_sets_what_torchrun_sets() {
        let environment = env(LaunchMode::Torchrun);
        let expected = [
            "GROUP_RANK=1",
            "GROUP_WORLD_SIZE=2",
            "LOCAL_RANK=1",
            "LOCAL_WORLD_SIZE=2",
            "MASTER_ADDR=10.0.0.1",
            "MASTER_PORT=20001",
            "OMP_NUM_THREADS=1",
            "PYTHONUNBUFFERED=1",
            "RANK=3",
            "ROLE_NAME=default",
            "ROLE_RANK=3",
            "ROLE_WORLD_SIZE=4",
            "TORCHELASTIC_MAX_RESTARTS=1000",
            "TORCHELASTIC_RESTART_COUNT=2",
            "TORCHELASTIC_RUN_ID=7",
            "TORCHELASTIC_USE_AGENT_STORE=False",
            "WORLD_SIZE=4",
        ];
        let others: Vec<String> = lines(&environment, &[""])
            .into_iter()
            .filter(|line| !line.starts_with("LINDOS_"))
            .collect();
        assert_eq!(others, expected);
    }

    #[test]
    fn jax_divides_real_devices_among_local_ranks() {
        let expected = [
            "JAX_COORDINATOR_ADDRESS=10.0.0.1:20001",
            "JAX_LOCAL_PROCESS_ID=1",
            "JAX_NUM_PROCESSES=4",
            "JAX_PROCESS_ID=3",
        ];
        assert_eq!(lines(&env(LaunchMode::Jax), &["JAX_"]), expected);
        let mut plan = plan(LaunchMode::Jax);
        plan.launch.gpus = GpuSet::first(4);
        let environment = launch_env(&plan, 1, Vec::new(), true);
        assert_eq!(
            lines(&environment, &["JAX_LOCAL_DEVICE", "CUDA"]),
            ["CUDA_VISIBLE_DEVICES=0,1,2,3", "JAX_LOCAL_DEVICE_IDS=2,3"]
        );
    }

    #[test]
    fn slurm_has_the_step_and_no_master() {
        let environment = env(LaunchMode::Slurm);
        for line in [
            "SLURM_PROCID=3",
            "SLURM_LOCALID=1",
            "SLURM_NODEID=1",
            "SLURM_NTASKS=4",
            "SLURM_JOB_NODELIST=10.0.0.[1-2]",
            "SLURM_STEP_TASKS_PER_NODE=2(x2)",
            "SLURM_RESTART_COUNT=2",
        ] {
            assert!(lines(&environment, &["SLURM"]).contains(&line.to_string()), "{line}");
        }
        for absent in ["RANK", "MASTER_", "WORLD_SIZE", "LOCAL_", "TORCHELASTIC", "JAX_"] {
            assert_eq!(lines(&environment, &[absent]), Vec::<String>::new());
        }
    }

    #[test]
    fn a_job_of_an_array_knows_its_number() {
        let of_array = |mode, index: Option<u32>| {
            let mut plan = plan(mode);
            let mut spec = (*plan.launch.spec).clone();
            spec.array = index.map(|_| 5);
            // What the job itself says of it is a lie in every case.
            spec.env.insert("LINDOS_ARRAY_INDEX".into(), "77".into());
            plan.launch.spec = Arc::new(spec);
            plan.launch.array_index = index;
            lines(&launch_env(&plan, 0, Vec::new(), false), &["LINDOS_ARRAY", "SLURM_ARRAY"])
        };
        let plain = ["LINDOS_ARRAY_INDEX=3", "LINDOS_ARRAY_SIZE=5"];
        assert_eq!(of_array(LaunchMode::Torchrun, Some(3)), plain);
        assert_eq!(
            of_array(LaunchMode::Slurm, Some(3)),
            [
                "LINDOS_ARRAY_INDEX=3",
                "LINDOS_ARRAY_SIZE=5",
                "SLURM_ARRAY_JOB_ID=4",
                "SLURM_ARRAY_TASK_COUNT=5",
                "SLURM_ARRAY_TASK_ID=3",
                "SLURM_ARRAY_TASK_MAX=4",
                "SLURM_ARRAY_TASK_MIN=0",
                "SLURM_ARRAY_TASK_STEP=1",
            ]
        );
        assert_eq!(of_array(LaunchMode::Slurm, None), Vec::<String>::new());
    }

    #[test]
    fn a_replica_knows_itself_and_the_others_in_every_mode() {
        for mode in [LaunchMode::Torchrun, LaunchMode::Jax, LaunchMode::Slurm, LaunchMode::Plain] {
            let environment = launch_env(&plan_of_replica(mode), 1, Vec::new(), false);
            let expected = [
                "LINDOS_REPLICA=1",
                "LINDOS_REPLICAS=3",
                "LINDOS_REPLICAS_MIN=2",
                "LINDOS_REPLICA_ADDRS=10.0.0.7:20010,10.0.0.1:20002,[fd00::9]:20014",
                "NUM_REPLICA_GROUPS=3",
                "REPLICA_GROUP_ID=1",
            ];
            let named = ["LINDOS_REPLICA", "NUM_REPLICA", "REPLICA_"];
            assert_eq!(lines(&environment, &named), expected, "{mode:?}");
            let of_the_job = [
                "LINDOS_LOCAL_RANK=1",
                "LINDOS_MASTER_ADDR=10.0.0.1",
                "LINDOS_MASTER_PORT=20001",
                "LINDOS_NODES=6",
                "LINDOS_NODE_RANK=3",
                "LINDOS_RANK=7",
                "LINDOS_SOCKET=/a/7-3/r7.sock",
                "LINDOS_WORLD_SIZE=12",
            ];
            let named = [
                "LINDOS_LOCAL_RANK",
                "LINDOS_MASTER",
                "LINDOS_NODES",
                "LINDOS_NODE_",
                "LINDOS_RANK",
                "LINDOS_SOCKET",
                "LINDOS_WORLD_SIZE",
            ];
            assert_eq!(lines(&environment, &named), of_the_job, "{mode:?}");
        }
    }

    #[test]
    fn each_replica_is_a_world_of_its_own() {
        let of = |mode, names: &[&str]| {
            lines(&launch_env(&plan_of_replica(mode), 1, Vec::new(), false), names)
        };
        let torchrun = [
            "GROUP_RANK=1",
            "GROUP_WORLD_SIZE=2",
            "LOCAL_RANK=1",
            "LOCAL_WORLD_SIZE=2",
            "MASTER_ADDR=10.0.0.1",
            "MASTER_PORT=20001",
            "RANK=3",
            "ROLE_NAME=default",
            "ROLE_RANK=3",
            "ROLE_WORLD_SIZE=4",
            "WORLD_SIZE=4",
        ];
        let named = ["GROUP_", "LOCAL_", "MASTER_", "RANK", "ROLE_", "WORLD_SIZE"];
        assert_eq!(of(LaunchMode::Torchrun, &named), torchrun);
        let jax = [
            "JAX_COORDINATOR_ADDRESS=10.0.0.1:20001",
            "JAX_LOCAL_PROCESS_ID=1",
            "JAX_NUM_PROCESSES=4",
            "JAX_PROCESS_ID=3",
        ];
        assert_eq!(of(LaunchMode::Jax, &["JAX_"]), jax);
        let slurm = [
            "SLURM_NNODES=2",
            "SLURM_NODEID=1",
            "SLURM_NODELIST=10.0.0.[1-2]",
            "SLURM_NTASKS=4",
            "SLURM_PROCID=3",
        ];
        let mut said = of(LaunchMode::Slurm, &["SLURM_NNODES", "SLURM_NODE", "SLURM_PROCID"]);
        said.extend(of(LaunchMode::Slurm, &["SLURM_NTASKS"]));
        said.retain(|line| !line.contains("PER_NODE"));
        said.sort();
        assert_eq!(said, slurm);
    }

    #[test]
    fn a_job_without_replicas_is_told_of_none() {
        let mut plan = plan(LaunchMode::Torchrun);
        let mut spec = (*plan.launch.spec).clone();
        spec.env.insert("LINDOS_REPLICA".into(), "9".into());
        spec.env.insert("NUM_REPLICA_GROUPS".into(), "4".into());
        plan.launch.spec = Arc::new(spec);
        let inherited = [
            ("LINDOS_REPLICA_ADDRS", "a:1,b:2"),
            ("REPLICA_GROUP_ID", "1"),
            ("NUM_REPLICA_GROUPS", "2"),
        ];
        let inherited = inherited.map(|(name, value)| (name.into(), value.into()));
        let environment = launch_env(&plan, 0, inherited, false);
        let named = ["LINDOS_REPLICA", "REPLICA_", "NUM_REPLICA"];
        assert_eq!(lines(&environment, &named), ["NUM_REPLICA_GROUPS=4"], "its own is kept");
    }

    #[test]
    fn inherited_lies_are_removed_and_the_contract_wins_over_the_job() {
        let mut plan = plan(LaunchMode::Slurm);
        let mut spec = (*plan.launch.spec).clone();
        for (name, value) in
            [("LINDOS_JOB", "99"), ("HOME", "/job"), ("SLURM_PROCID", "0"), ("PYTHONPATH", "src")]
        {
            spec.env.insert(name.into(), value.into());
        }
        spec.env.insert("LINDOS_RESUME_STEP".into(), "1".into());
        plan.launch.spec = Arc::new(spec);
        plan.launch.resume_step = None;
        let inherited = [
            ("HOME", "/agent"),
            ("PATH", "/bin"),
            ("RANK", "0"),
            ("MASTER_ADDR", "x"),
            ("SLURM_ARRAY_JOB_ID", "1"),
            ("LINDOS_TOKEN", "secret"),
            ("PMIX_RANK", "1"),
            ("JAX_PLATFORMS", "cpu"),
        ];
        let inherited = inherited.map(|(name, value)| (name.into(), value.into()));
        let environment = launch_env(&plan, 0, inherited, false);
        let get = |name: &str| environment.get(OsStr::new(name)).and_then(|value| value.to_str());
        assert_eq!(get("LINDOS_JOB"), Some("7"));
        assert_eq!(get("SLURM_PROCID"), Some("2"));
        assert_eq!(get("HOME"), Some("/job"));
        assert_eq!(get("PATH"), Some("/bin"));
        assert_eq!(get("PYTHONPATH"), Some("src"));
        assert_eq!(get("JAX_PLATFORMS"), Some("cpu"));
        for gone in [
            "RANK",
            "MASTER_ADDR",
            "SLURM_ARRAY_JOB_ID",
            "LINDOS_TOKEN",
            "PMIX_RANK",
            "LINDOS_RESUME_STEP",
        ] {
            assert_eq!(get(gone), None, "{gone}");
        }
    }
}
