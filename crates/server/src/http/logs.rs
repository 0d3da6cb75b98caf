//! A piece of a rank's output: asked of the node that has it, through the agent's stream.

use super::App;
use super::extract::{JobPath, StrictQuery};
use crate::fault::Fault;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lindos_api::agent::{LogChunk, ReadLog};
use lindos_api::user::ApiError;
use lindos_model::{Epoch, Rank};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use utoipa::IntoParams;

/// An agent that lives answers in milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const BYTES_DEFAULT: u64 = 64 << 10;
const BYTES_MAX: u64 = 4 << 20;
/// Pieces of logs that are waited for at once; each may hold [`BYTES_MAX`].
const WAITING_MAX: usize = 256;

/// Who waits for which piece.
#[derive(Debug, Default)]
pub(super) struct LogBook(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    readers: BTreeMap<u64, oneshot::Sender<LogChunk>>,
}

impl LogBook {
    fn open(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<(Request<'_>, oneshot::Receiver<LogChunk>), Fault> {
        let mut waiting = self.open();
        if waiting.readers.len() >= WAITING_MAX {
            return Err(Fault::busy());
        }
        waiting.last += 1;
        let number = waiting.last;
        let (reader, chunk) = oneshot::channel();
        waiting.readers.insert(number, reader);
        Ok((Request { book: self, number }, chunk))
    }

    /// Hands a piece to whoever waits for it; nobody may, any more.
    pub(super) fn arrived(&self, chunk: LogChunk) {
        let reader = self.open().readers.remove(&chunk.request);
        if let Some(reader) = reader {
            let _ = reader.send(chunk);
        }
    }
}

/// Struck from the book when the reader goes away, answered or not.
struct Request<'a> {
    book: &'a LogBook,
    number: u64,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.book.open().readers.remove(&self.number);
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    #[serde(default)]
    rank: u32,
    /// The newest attempt when not given. Of a job of several replicas: the newest launch of the
    /// rank's own replica up to this.
    epoch: Option<u32>,
    /// The byte to begin with; the last `bytes_max` when not given.
    offset: Option<u64>,
    /// 64 KiB when not given, 4 MiB at most.
    bytes_max: Option<u64>,
}

/// Reads a piece of a rank's output.
#[utoipa::path(get, path = "/v1/jobs/{id}/logs", operation_id = "read_logs",
    params(("id" = u64, Path, description = "The job's number"), LogsQuery),
    responses((status = OK, body = LogChunk),
        (status = 503, description = "`node_not_connected`", body = ApiError),
        (status = 504, description = "`log_timeout`: the node did not answer", body = ApiError),
        (status = "default", body = ApiError)))]
pub(super) async fn read(
    State(app): State<App>,
    JobPath(job): JobPath,
    StrictQuery(query): StrictQuery<LogsQuery>,
) -> Result<Json<LogChunk>, Fault> {
    let (request, chunk) = app.logs.begin()?;
    let ask = ReadLog {
        request: request.number,
        job,
        epoch: query.epoch.map(Epoch),
        epoch_min: None,
        rank: Rank(query.rank),
        offset: query.offset,
        bytes_max: query.bytes_max.unwrap_or(BYTES_DEFAULT).min(BYTES_MAX),
    };
    app.driver.read(move |world| world.read_log(&ask)).await??;
    if let Ok(Ok(chunk)) = tokio::time::timeout(ANSWER_TIMEOUT, chunk).await {
        return Ok(Json(chunk));
    }
    let message = format!("the node of rank {} did not send its log in time", query.rank);
    Err(Fault::new(StatusCode::GATEWAY_TIMEOUT, "log_timeout", message)
        .hint("the node may be down: `lindos nodes` shows it; the log is kept there"))
}
