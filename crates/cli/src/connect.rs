//! Finds whom to ask: a control plane that is named, else the one that serves from the state
//! folder, else (for questions) the folder's journal itself.

use crate::failure::{Exit, Failure};
use crate::offline::Offline;
use crate::{output, state};
use clap::Args;
use lindos_api::client::Client;
use lindos_api::health::{FleetHealth, NodeHealth, Repairs};
use lindos_api::user::{
    DryRun, EventView, Goodput, JobDetail, JobSummary, NodeView, NodeWhy, ReservationView,
    SubmitRequest, TeamView, Why,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Args, Clone, Debug, Default)]
pub struct Target {
    /// Address of the control plane, such as <http://127.0.0.1:7070>
    #[arg(long, value_name = "URL", env = "LINDOS_SERVER")]
    pub server: Option<String>,
    /// State folder of the control plane on this machine [default: ~/.local/state/lindos]
    #[arg(long, value_name = "DIR", env = "LINDOS_STATE")]
    pub state: Option<PathBuf>,
}

/// Where answers come from.
pub enum Source {
    Live(Client),
    Offline(Box<Offline>),
}

impl Target {
    /// A control plane that answers; for what only a live one can do.
    pub async fn live(&self) -> Result<Client, Failure> {
        if let Some(url) = self.named() {
            let client = named_client(url, self.state.as_deref());
            client.status().await?;
            return Ok(client);
        }
        let folder = state::folder(self.state.as_deref())?;
        match living(&folder).await {
            Some(client) => Ok(client),
            None => Err(Failure::new(
                Exit::NoControlPlane,
                format!("no control plane serves from {}", folder.display()),
                "start one with `lindos up`, or name one with --server URL or LINDOS_SERVER",
            )),
        }
    }

    /// Whoever can answer a question: with no control plane alive, what the journal says.
    pub async fn source(&self) -> Result<Source, Failure> {
        if self.named().is_some() {
            return self.live().await.map(Source::Live);
        }
        let folder = state::folder(self.state.as_deref())?;
        if let Some(client) = living(&folder).await {
            return Ok(Source::Live(client));
        }
        let Some(offline) = Offline::read(&folder)? else {
            return self.live().await.map(Source::Live);
        };
        output::message(format!(
            "no control plane is running: this is from the journal in {}",
            folder.display()
        ));
        Ok(Source::Offline(Box::new(offline)))
    }

    /// The address that was given; an empty variable counts as none.
    pub fn named(&self) -> Option<&str> {
        self.server.as_deref().filter(|url| !url.is_empty())
    }
}

/// The control plane at this address. The token is `LINDOS_TOKEN`, or else the one in the state
/// folder if it is the same control plane.
pub fn named_client(url: &str, state_folder: Option<&Path>) -> Client {
    let url = url.trim_end_matches('/');
    let token = std::env::var("LINDOS_TOKEN").ok().filter(|token| !token.is_empty());
    let token = token.or_else(|| {
        let file = state::server_file(&state::folder(state_folder).ok()?)?;
        (file.url.trim_end_matches('/') == url).then_some(file.token)
    });
    Client::new(url, token.unwrap_or_default())
}

/// The control plane that serves from this folder, if one answers.
pub async fn living(folder: &Path) -> Option<Client> {
    let file = state::server_file(folder)?;
    let client = Client::new(file.url, file.token);
    client.status().await.ok()?;
    Some(client)
}

/// Whoever follows something outlasts a control plane that is away for a while: an upgrade, a
/// crash.
#[derive(Debug, Default)]
pub struct Patience {
    lost_at: Option<Instant>,
}

impl Patience {
    const SPAN: Duration = Duration::from_secs(60);

    pub fn regain(&mut self) {
        self.lost_at = None;
    }

    /// Nothing, as long as it is worth while to try again; then the failure itself. One that is no
    /// matter of patience comes back at once.
    pub fn lose(&mut self, failure: Failure) -> Result<(), Failure> {
        let is_passing = matches!(failure.exit, Exit::NoControlPlane | Exit::Failed);
        let lost_at = *self.lost_at.get_or_insert_with(Instant::now);
        if is_passing && lost_at.elapsed() < Self::SPAN { Ok(()) } else { Err(failure) }
    }
}

impl Source {
    pub async fn jobs(&self) -> Result<Vec<JobSummary>, Failure> {
        match self {
            Source::Live(client) => Ok(client.jobs().await?),
            Source::Offline(offline) => Ok(offline.jobs()),
        }
    }

    pub async fn job(&self, id: u64) -> Result<JobDetail, Failure> {
        match self {
            Source::Live(client) => Ok(client.job(id).await?),
            Source::Offline(offline) => offline.job(id),
        }
    }

    pub async fn why(&self, id: u64) -> Result<Why, Failure> {
        match self {
            Source::Live(client) => Ok(client.why(id).await?),
            Source::Offline(offline) => offline.why(id),
        }
    }

    pub async fn dry_run(&self, request: &SubmitRequest) -> Result<DryRun, Failure> {
        match self {
            Source::Live(client) => Ok(client.dry_run(request).await?),
            Source::Offline(offline) => offline.dry_run(&request.spec),
        }
    }

    pub async fn why_node(&self, node: &str) -> Result<NodeWhy, Failure> {
        match self {
            Source::Live(client) => Ok(client.why_node(node).await?),
            Source::Offline(offline) => offline.why_node(node),
        }
    }

    pub async fn teams(&self) -> Result<Vec<TeamView>, Failure> {
        match self {
            Source::Live(client) => Ok(client.teams().await?),
            Source::Offline(offline) => Ok(offline.teams()),
        }
    }

    pub async fn reservations(&self) -> Result<Vec<ReservationView>, Failure> {
        match self {
            Source::Live(client) => Ok(client.reservations().await?),
            Source::Offline(offline) => Ok(offline.reservations()),
        }
    }

    pub async fn nodes(&self) -> Result<Vec<NodeView>, Failure> {
        match self {
            Source::Live(client) => Ok(client.nodes().await?),
            Source::Offline(offline) => Ok(offline.nodes()),
        }
    }

    pub async fn repairs(&self) -> Result<Repairs, Failure> {
        match self {
            Source::Live(client) => Ok(client.repairs().await?),
            Source::Offline(offline) => Ok(offline.repairs()),
        }
    }

    pub async fn fleet_health(&self, worst: usize) -> Result<FleetHealth, Failure> {
        match self {
            Source::Live(client) => Ok(client.fleet_health(worst).await?),
            Source::Offline(offline) => Ok(offline.fleet_health(worst)),
        }
    }

    pub async fn node_health(&self, node: &str) -> Result<NodeHealth, Failure> {
        match self {
            Source::Live(client) => Ok(client.node_health(node).await?),
            Source::Offline(offline) => offline.node_health(node),
        }
    }

    pub async fn events(&self, job: Option<u64>) -> Result<Vec<EventView>, Failure> {
        match self {
            Source::Live(client) => Ok(client.events(0, job).await?),
            Source::Offline(offline) => Ok(offline.events(job)),
        }
    }

    pub async fn goodput(&self) -> Result<Goodput, Failure> {
        match self {
            Source::Live(client) => Ok(client.goodput().await?),
            Source::Offline(offline) => Ok(offline.goodput()),
        }
    }
}
