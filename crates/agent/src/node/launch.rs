//! Starting an attempt: is the node able to, then the plan on disk, then the shim.

use crate::config::AgentConfig;
use crate::files::{self, NodeDir};
use crate::plan::{Key, Plan};
use lindos_api::agent::{GangNode, Launch, StandBy};
use lindos_hardware::cgroup::Hierarchies;
use lindos_model::report::Refusal;
use lindos_model::{Epoch, JobId, LaunchMode, Rank};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

/// Nothing was started, and nothing will be.
#[derive(Debug)]
pub struct NotLaunched(pub Refusal);

fn node(reason: String) -> NotLaunched {
    NotLaunched(Refusal::Node { reason })
}

/// Starts the shim of an attempt. When this returns a plan, somebody listens on its socket until
/// nothing of the attempt lives.
pub fn launch(
    config: &AgentConfig,
    dir: &NodeDir,
    key: Key,
    launch: Launch,
) -> Result<Plan, NotLaunched> {
    let attempt = dir.attempt(key);
    let plan = with_cgroup(plan(config, dir, key, launch)?);
    start_shim(config, &attempt, &plan).map_err(|error| {
        crate::sweep::remove_cgroup(&plan);
        node(format!("the attempt could not be started: {error}"))
    })?;
    Ok(plan)
}

/// Writes down that the processes of another plan, which wait, go on as the ranks of an attempt.
pub fn go_on(
    config: &AgentConfig,
    dir: &NodeDir,
    key: Key,
    launch: Launch,
    waiting: &Plan,
) -> Result<Plan, NotLaunched> {
    let plan = Plan {
        cookie: waiting.cookie.clone(),
        socket_dir: waiting.socket_dir.clone(),
        cgroup: waiting.cgroup.clone(),
        standby: waiting.standby,
        ..plan(config, dir, key, launch)?
    };
    let spec = files::spec_file(&dir.attempt(key));
    files::replace_json(&spec, &plan, true)
        .and_then(|()| files::sync_parent(&dir.attempt(key)))
        .map_err(|error| node(format!("{}: {error}", spec.display())))?;
    Ok(plan)
}

/// Starts the shim of processes that are to wait for a rank.
pub fn stand_by(
    config: &AgentConfig,
    dir: &NodeDir,
    job: JobId,
    order: &StandBy,
) -> io::Result<Plan> {
    let folder = dir.standby(order.id);
    files::private_dir(&folder)?;
    let rank_count = u32::from(order.spec.ranks_per_node);
    let node = config.node.clone();
    let plan = Plan {
        job,
        epoch: Epoch(0),
        node: node.name.clone(),
        // As if there were nobody else: what of it depends on a rank is not told.
        launch: Launch {
            spec: Arc::clone(&order.spec),
            gpus: order.gpus,
            first_rank: Rank(0),
            rank_count,
            world_size: rank_count,
            node_rank: 0,
            gang: Arc::new(vec![GangNode { name: node.name, address: node.address }]),
            master_port: 0,
            resume_step: None,
            save_every: None,
            array_index: order.array_index,
            replica: None,
        },
        cookie: cookie(&format!("{job}-standby"))?,
        checkpoint_dir: PathBuf::new(),
        log_dir: folder.join("logs"),
        socket_dir: files::socket_dir(&folder)?,
        cgroup: None,
        standby: Some(order.id),
        beside: order.beside,
    };
    let plan = with_cgroup(plan);
    start_shim(config, &folder, &plan).inspect_err(|_| crate::sweep::remove_cgroup(&plan))?;
    Ok(plan)
}

fn plan(
    config: &AgentConfig,
    dir: &NodeDir,
    key: Key,
    launch: Launch,
) -> Result<Plan, NotLaunched> {
    check_ports(&launch)?;
    let checkpoint_dir = checkpoint_dir(config, key, &launch);
    check_checkpoint_dir(&checkpoint_dir).map_err(|reason| {
        NotLaunched(match launch.spec.checkpoint_dir {
            Some(_) => Refusal::CheckpointDir { reason },
            None => Refusal::Node { reason },
        })
    })?;
    let attempt = dir.attempt(key);
    let cannot = |what: &Path, error: &io::Error| node(format!("{}: {error}", what.display()));
    for folder in [&attempt, &dir.log(key)] {
        files::private_dir(folder).map_err(|error| cannot(folder, &error))?;
    }
    let socket_dir = files::socket_dir(&attempt).map_err(|error| cannot(&attempt, &error))?;
    Ok(Plan {
        job: key.job,
        epoch: key.epoch,
        node: config.node.name.clone(),
        launch,
        cookie: cookie(&key.to_string())
            .map_err(|error| cannot(Path::new("/dev/urandom"), &error))?,
        checkpoint_dir,
        log_dir: dir.log(key),
        socket_dir,
        cgroup: None,
        standby: None,
        beside: false,
    })
}

/// On the first node, rank 0 will listen there. That it is free now is no promise, but that it is
/// taken is a reason to say so before every rank waits for it in vain.
fn check_ports(launch: &Launch) -> Result<(), NotLaunched> {
    let Some(first) = launch.gang.first().filter(|_| launch.node_rank == 0) else {
        return Ok(());
    };
    let meets = matches!(launch.spec.launch, LaunchMode::Torchrun | LaunchMode::Jax);
    let of_replica = launch.replica.as_ref().and_then(|r| r.peers.get(r.index as usize));
    let ports = [meets.then_some(launch.master_port), of_replica.map(|peer| peer.port)];
    match ports.into_iter().flatten().find(|&port| is_taken(&first.address, port)) {
        Some(port) => Err(NotLaunched(Refusal::PortInUse { port })),
        None => Ok(()),
    }
}

/// Not of an address that is not this machine's own: it may be translated on the way.
fn is_taken(address: &str, port: u16) -> bool {
    let bound = TcpListener::bind((address, port));
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// The folder that the job names, in which each job of an array has one of its own; otherwise one
/// under the state folder, named by the job's number.
fn checkpoint_dir(config: &AgentConfig, key: Key, launch: &Launch) -> PathBuf {
    let Some(named) = launch.spec.checkpoint_dir.as_ref().map(PathBuf::from) else {
        return config.checkpoints.join(format!("{}-{}", launch.spec.name, key.job));
    };
    match launch.array_index {
        Some(index) => named.join(index.to_string()),
        None => named,
    }
}

fn check_checkpoint_dir(dir: &Path) -> Result<(), String> {
    let cannot = |what: &str, error: io::Error| {
        format!("the checkpoint folder {} {what}: {error}", dir.display())
    };
    std::fs::create_dir_all(dir).map_err(|error| cannot("cannot be made", error))?;
    let probe = dir.join(format!(".lindos-probe-{}", std::process::id()));
    let written = std::fs::write(&probe, [0; 4096]);
    let _ = std::fs::remove_file(&probe);
    written.map_err(|error| cannot("cannot be written", error))
}

fn cookie(name: &str) -> io::Result<String> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("{name}-{:032x}", u128::from_ne_bytes(random)))
}

/// A control group where this user may make one. Without one, sessions and the cookie must do;
/// `LINDOS_CGROUPS=off` in the agent's environment says so from the start.
fn with_cgroup(plan: Plan) -> Plan {
    if std::env::var_os("LINDOS_CGROUPS").is_some_and(|value| value == "off") {
        return plan;
    }
    let name = format!("lindos-{}", plan.cookie);
    let group = Hierarchies::detect().and_then(|found| found.place(&name).create().ok());
    Plan { cgroup: group.map(|group| group.place().clone()), ..plan }
}

fn start_shim(config: &AgentConfig, attempt: &Path, plan: &Plan) -> io::Result<()> {
    files::replace_json(&files::spec_file(attempt), plan, true)?;
    files::sync_parent(attempt)?;
    let socket = plan.shim_socket();
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    let log = File::options().create(true).append(true).open(attempt.join("shim.log"))?;
    let mut shim = tokio::process::Command::new(&config.program)
        .arg("shim")
        .arg(attempt)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    tokio::spawn(async move {
        // Only so that it does not stay behind as a zombie.
        let _ = shim.wait().await;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerLocation;
    use crate::environment::tests::plan;
    use lindos_api::agent::{LaunchReplica, Peer};
    use std::time::Duration;

    #[test]
    fn jobs_of_an_array_do_not_share_a_checkpoint_folder() {
        let plan = plan(LaunchMode::Plain);
        let config = AgentConfig {
            node: lindos_model::NodeSpec {
                name: "n1".into(),
                gpus: 8,
                platform: "p".into(),
                address: "127.0.0.1".into(),
                location: lindos_model::Location::default(),
                labels: std::collections::BTreeMap::new(),
            },
            dir: "/agent".into(),
            checkpoints: "/state/checkpoints".into(),
            server: ServerLocation::File("/state/server.json".into()),
            heartbeat: Duration::from_secs(1),
            program: "/lindos".into(),
            health: None,
        };
        let folder = |named: Option<&str>, index: Option<u32>| {
            let mut spec = (*plan.launch.spec).clone();
            spec.checkpoint_dir = named.map(str::to_string);
            let spec = Arc::new(spec);
            let launch = Launch { spec, array_index: index, ..plan.launch.clone() };
            checkpoint_dir(&config, plan.key(), &launch)
        };
        assert_eq!(folder(None, None), PathBuf::from("/state/checkpoints/demo-7"));
        assert_eq!(folder(None, Some(2)), PathBuf::from("/state/checkpoints/demo-7"));
        assert_eq!(folder(Some("/ckpt"), None), PathBuf::from("/ckpt"));
        assert_eq!(folder(Some("/ckpt"), Some(2)), PathBuf::from("/ckpt/2"));
    }

    #[test]
    fn a_taken_port_is_refused_on_the_node_that_would_listen_there() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let local = |name: &str| GangNode { name: name.into(), address: "127.0.0.1".into() };
        let at = |mode, master_port, node_rank, of_replica: Option<u16>| {
            let peer = |port| Peer { address: "127.0.0.1".into(), port };
            let replica = |port| LaunchReplica {
                index: 1,
                count: 2,
                replicas_min: 1,
                peers: Arc::new(vec![peer(1), peer(port)]),
            };
            let launch = Launch {
                master_port,
                node_rank,
                gang: Arc::new(vec![local("n0"), local("n1")]),
                replica: of_replica.map(replica),
                ..plan(mode).launch
            };
            check_ports(&launch).err().map(|NotLaunched(refusal)| refusal)
        };
        let refusal = Some(Refusal::PortInUse { port });
        assert_eq!(at(LaunchMode::Torchrun, port, 0, None), refusal);
        assert_eq!(at(LaunchMode::Torchrun, port, 1, None), None);
        assert_eq!(at(LaunchMode::Plain, port, 0, None), None);
        assert_eq!(at(LaunchMode::Plain, 0, 0, Some(port)), refusal, "replicas meet in every mode");
        assert_eq!(at(LaunchMode::Plain, 0, 1, Some(port)), None);
    }
}
