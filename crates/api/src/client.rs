//! Asks the control plane on behalf of people: one method an endpoint, typed both ways.
//!
//! Nothing here waits for ever: connecting, answering and the silence inside a stream all have a
//! bound. Lists are fetched page by page, so that no single answer grows with the fleet.

use crate::agent::LogChunk;
use crate::health::{FleetHealth, NodeHealth, Repairs};
use crate::user::{
    ApiError, Done, DrainRequest, DryRun, EventView, Goodput, JobDetail, JobSummary, MendedRequest,
    NodeView, NodeWhy, ReservationView, ReserveRequest, Status, SubmitRequest, Submitted, TeamView,
    Why,
};
use lindos_model::Mended;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A whole answer. Longer than the control plane itself waits for anybody.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pieces of a stream, in which an empty line comes every second.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most of one kind that is asked for at once.
pub const PAGE: usize = 10_000;
/// A line of a stream that is longer is not one of ours.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or nobody answered in time.
    #[error("no control plane answers at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// The token is not the control plane's.
    #[error("the control plane at {url} does not accept this token")]
    Unauthorized { url: String },
    /// The control plane says why not.
    #[error("{}", .error.message)]
    Api { status: u16, error: ApiError },
    /// An answer that this client does not understand.
    #[error("the answer of {url} is not one of a control plane: {reason}")]
    Protocol { url: String, reason: String },
}

impl ClientError {
    /// The control plane's stable word for what is wrong, if it said one.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Api { error, .. } => Some(&error.code),
            ClientError::Unauthorized { .. } => Some("unauthorized"),
            ClientError::Unreachable { .. } | ClientError::Protocol { .. } => None,
        }
    }

    /// What to do about it, where the control plane said so.
    pub fn hint(&self) -> Option<&str> {
        match self {
            ClientError::Api { error, .. } => error.hint.as_deref(),
            _ => None,
        }
    }
}

/// Which piece of a rank's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    pub rank: u32,
    /// The newest when not given.
    pub epoch: Option<u32>,
    /// The byte to begin with; the last `bytes_max` when not given.
    pub offset: Option<u64>,
    pub bytes_max: Option<u64>,
}

/// A new id for [`SubmitRequest::request`]: with it, a submission can be sent again after an
/// error without being carried out twice.
pub fn new_request_id() -> std::io::Result<String> {
    use std::fmt::Write as _;
    use std::io::Read as _;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(32), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// A connection to one control plane. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    authorization: String,
}

impl Client {
    /// `url` as in `http://127.0.0.1:7070`; nothing is sent yet.
    pub fn new(url: impl Into<String>, token: impl AsRef<str>) -> Client {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            // The control plane is near; what a proxy variable says is meant for the web.
            .no_proxy()
            .build()
            .expect("building a client without TLS asks nothing of the system");
        Client {
            http,
            url: url.into().trim_end_matches('/').to_string(),
            authorization: format!("Bearer {}", token.as_ref()),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// When this returns a job, it is on disk. With [`SubmitRequest::request`] set, sending it
    /// again after an error is safe.
    pub async fn submit(&self, request: &SubmitRequest) -> Result<Submitted, ClientError> {
        self.post(&["jobs"], request).await
    }

    /// What would become of a job; nothing is submitted.
    pub async fn dry_run(&self, request: &SubmitRequest) -> Result<DryRun, ClientError> {
        self.post(&["jobs", "dry-run"], request).await
    }

    /// Every job that the control plane remembers, by id.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>, ClientError> {
        let mut jobs: Vec<JobSummary> = Vec::new();
        loop {
            let after = jobs.last().map(|last| ("after", last.job.to_string()));
            let page: Vec<JobSummary> = self.page("jobs", after).await?;
            let is_last = page.len() < PAGE;
            jobs.extend(page);
            if is_last {
                return Ok(jobs);
            }
        }
    }

    pub async fn job(&self, job: u64) -> Result<JobDetail, ClientError> {
        self.get(&["jobs", &job.to_string()], &[]).await
    }

    pub async fn cancel(&self, job: u64) -> Result<Done, ClientError> {
        self.post(&["jobs", &job.to_string(), "cancel"], &Empty {}).await
    }

    pub async fn why(&self, job: u64) -> Result<Why, ClientError> {
        self.get(&["jobs", &job.to_string(), "why"], &[]).await
    }

    pub async fn logs(&self, job: u64, query: &LogQuery) -> Result<LogChunk, ClientError> {
        let mut params = vec![("rank", query.rank.to_string())];
        params.extend(query.epoch.map(|epoch| ("epoch", epoch.to_string())));
        params.extend(query.offset.map(|offset| ("offset", offset.to_string())));
        params.extend(query.bytes_max.map(|bytes| ("bytes_max", bytes.to_string())));
        self.get(&["jobs", &job.to_string(), "logs"], &params).await
    }

    /// Every node of the fleet, by number.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        let mut nodes: Vec<NodeView> = Vec::new();
        loop {
            let after = nodes.last().map(|last| ("after", last.node.to_string()));
            let page: Vec<NodeView> = self.page("nodes", after).await?;
            let is_last = page.len() < PAGE;
            nodes.extend(page);
            if is_last {
                return Ok(nodes);
            }
        }
    }

    pub async fn why_node(&self, node: &str) -> Result<NodeWhy, ClientError> {
        self.get(&["nodes", node, "why"], &[]).await
    }

    pub async fn drain(&self, node: &str, reason: &str) -> Result<Done, ClientError> {
        let request = DrainRequest { reason: reason.to_string() };
        self.post(&["nodes", node, "drain"], &request).await
    }

    /// Tells what became of a node that was out for repair.
    pub async fn mended(&self, node: &str, how: Mended) -> Result<Done, ClientError> {
        self.post(&["nodes", node, "mended"], &MendedRequest { how }).await
    }

    /// Nodes that are out for repair or burn-in, and those that something keeps in service.
    pub async fn repairs(&self) -> Result<Repairs, ClientError> {
        self.get(&["repairs"], &[]).await
    }

    /// The fleet's health at a glance, with at most `limit` nodes by name.
    pub async fn fleet_health(&self, limit: usize) -> Result<FleetHealth, ClientError> {
        self.get(&["health"], &[("limit", limit.to_string())]).await
    }

    pub async fn node_health(&self, node: &str) -> Result<NodeHealth, ClientError> {
        self.get(&["nodes", node, "health"], &[]).await
    }

    pub async fn undrain(&self, node: &str) -> Result<Done, ClientError> {
        self.post(&["nodes", node, "undrain"], &Empty {}).await
    }

    /// Sets nodes aside. With [`ReserveRequest::request`] set, sending it again after an error is
    /// safe.
    pub async fn reserve(&self, request: &ReserveRequest) -> Result<Done, ClientError> {
        self.post(&["reservations"], request).await
    }

    /// Those that are not over, in the order in which they were made.
    pub async fn reservations(&self) -> Result<Vec<ReservationView>, ClientError> {
        self.get(&["reservations"], &[]).await
    }

    /// Ends a reservation, whether it has begun or not.
    pub async fn unreserve(&self, name: &str) -> Result<Done, ClientError> {
        let request = self.request(Method::DELETE, &["reservations", name], &[])?;
        self.answer(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// What happened after trail entry `after` (0: from the oldest that is remembered).
    pub async fn events(
        &self,
        after: u64,
        job: Option<u64>,
    ) -> Result<Vec<EventView>, ClientError> {
        let mut stream = self.event_stream(after, job, false).await?;
        let mut events = Vec::new();
        while let Some(event) = stream.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// As [`Self::events`], and then whatever happens, as it happens.
    pub async fn follow_events(
        &self,
        after: u64,
        job: Option<u64>,
    ) -> Result<EventStream, ClientError> {
        self.event_stream(after, job, true).await
    }

    /// The teams that the policy or a job has named.
    pub async fn teams(&self) -> Result<Vec<TeamView>, ClientError> {
        self.get(&["teams"], &[]).await
    }

    pub async fn goodput(&self) -> Result<Goodput, ClientError> {
        self.get(&["goodput"], &[]).await
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(&["status"], &[]).await
    }

    /// The OpenAPI description of what this control plane serves.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.get(&["openapi.json"], &[]).await
    }

    async fn page<T: DeserializeOwned>(
        &self,
        what: &str,
        after: Option<(&'static str, String)>,
    ) -> Result<Vec<T>, ClientError> {
        let mut params = vec![("limit", PAGE.to_string())];
        params.extend(after);
        self.get(&[what], &params).await
    }

    async fn event_stream(
        &self,
        after: u64,
        job: Option<u64>,
        follow: bool,
    ) -> Result<EventStream, ClientError> {
        let mut params = vec![("after", after.to_string()), ("follow", follow.to_string())];
        params.extend(job.map(|job| ("job", job.to_string())));
        // No bound on the whole: a stream may go on for months. Its silence is bounded.
        let response = self.send(self.request(Method::GET, &["events"], &params)?).await?;
        Ok(EventStream {
            url: self.url.clone(),
            response,
            buffer: Vec::new(),
            lines: VecDeque::new(),
        })
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        params: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path, params)?.timeout(ANSWER_TIMEOUT);
        self.answer(request).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, ClientError> {
        let request = self.request(Method::POST, path, &[])?.timeout(ANSWER_TIMEOUT).json(body);
        self.answer(request).await
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        params: &[(&str, String)],
    ) -> Result<RequestBuilder, ClientError> {
        let unusable = |reason: String| ClientError::Unreachable { url: self.url.clone(), reason };
        let mut url = Url::parse(&self.url).map_err(|error| unusable(error.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| unusable("it is not an http:// address".to_string()))?
            .push("v1")
            .extend(path);
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params);
        }
        Ok(self.http.request(method, url).header("authorization", &self.authorization))
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Protocol {
            url: self.url.clone(),
            reason: error.to_string(),
        })
    }

    /// The response, if it is a success.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == reqwest::StatusCode::UNAUTHORIZED {
            return Err(ClientError::Unauthorized { url: self.url.clone() });
        }
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => Err(ClientError::Api { status: status.as_u16(), error }),
            Err(_) => Err(ClientError::Protocol {
                url: self.url.clone(),
                reason: format!("status {status} without an explanation"),
            }),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.url.clone(), reason: innermost(error) }
    }
}

/// The last cause says it best: "Connection refused", where the first says "error sending".
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_string();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[derive(Serialize)]
struct Empty {}

/// Trail entries as they come.
#[derive(Debug)]
pub struct EventStream {
    url: String,
    response: Response,
    /// The beginning of a line whose end has not come yet.
    buffer: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
}

impl EventStream {
    /// The next entry; `None` when the stream has ended, which one that follows never does by
    /// itself. Dropping the future loses nothing: the next call goes on where it was.
    pub async fn next(&mut self) -> Result<Option<EventView>, ClientError> {
        loop {
            while let Some(line) = self.lines.pop_front() {
                if !line.is_empty() {
                    return self.parse(&line).map(Some);
                }
            }
            let chunk = self.response.chunk().await.map_err(|error| ClientError::Unreachable {
                url: self.url.clone(),
                reason: innermost(&error),
            })?;
            let Some(chunk) = chunk else {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(self.protocol("the stream broke off inside a line"));
            };
            for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
                self.buffer.extend_from_slice(piece);
                if self.buffer.last() == Some(&b'\n') {
                    self.buffer.pop();
                    self.lines.push_back(std::mem::take(&mut self.buffer));
                }
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(self.protocol("a line has no end"));
            }
        }
    }

    /// A line is an event or, as the last one, the reason why there are no more.
    fn parse(&self, line: &[u8]) -> Result<EventView, ClientError> {
        match serde_json::from_slice::<EventView>(line) {
            Ok(event) => Ok(event),
            Err(reason) => match serde_json::from_slice::<ApiError>(line) {
                Ok(error) => Err(ClientError::Api { status: 200, error }),
                Err(_) => Err(self.protocol(&reason.to_string())),
            },
        }
    }

    fn protocol(&self, reason: &str) -> ClientError {
        ClientError::Protocol { url: self.url.clone(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_32_hexadecimal_digits_and_new() {
        let id = new_request_id().unwrap();
        assert_eq!(id.len(), 32);
        assert!(id.chars().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(id, new_request_id().unwrap());
    }

    #[tokio::test]
    async fn a_place_where_nobody_listens_is_unreachable() {
        // Bound and dropped: nobody else has it, and nobody listens.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Client::new(&url, "token").status().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_an_error() {
        for url in ["", "not an address", "mailto:someone"] {
            let error = Client::new(url, "token").status().await.unwrap_err();
            assert!(matches!(error, ClientError::Unreachable { .. }), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_somebody_else_is_not_taken_for_one() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await.unwrap();
            let body = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
            socket.write_all(body.as_bytes()).await.unwrap();
        });
        let error = Client::new(&url, "token").status().await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
        other.await.unwrap();
    }
}
