//! The agents' endpoints: reports in, messages out.

use super::extract::{AgentJson, StrictQuery};
use super::lines::{KEEP_ALIVE, Lines, Unread, line};
use super::{App, stop};
use crate::agents::STREAM_MESSAGES_MAX;
use crate::fault::Fault;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use lindos_api::agent::{LogChunk, Message, Report, ReportAck};
use lindos_api::user::Done;
use serde::Deserialize;
use tokio::sync::mpsc;

/// Takes a report; the answer comes once what is new in it is durable.
pub(super) async fn report(
    State(app): State<App>,
    AgentJson(report): AgentJson<Box<Report>>,
) -> Result<Json<ReportAck>, Fault> {
    app.driver.report(report).await.map(Json)
}

/// Other keys are of another version, and ignored.
#[derive(Deserialize)]
pub(super) struct MessagesQuery {
    node: String,
    incarnation: u64,
}

/// The messages for one node, until a newer connection replaces this one.
pub(super) async fn messages(
    State(app): State<App>,
    StrictQuery(query): StrictQuery<MessagesQuery>,
) -> Result<Response, Fault> {
    let (sender, receiver) = mpsc::channel(STREAM_MESSAGES_MAX);
    app.driver.connect(query.node, query.incarnation, sender).await?;
    let (lines, response) = Lines::new();
    tokio::spawn(async move {
        // Whatever ends it, the agent connects again and is told again.
        let _ = feed(&app, receiver, &lines).await;
    });
    Ok(response)
}

async fn feed(
    app: &App,
    mut messages: mpsc::Receiver<Message>,
    lines: &Lines,
) -> Result<(), Unread> {
    let mut stopping = app.stopping.clone();
    // At once, so that the agent knows that it is connected.
    lines.keep_alive().await?;
    loop {
        tokio::select! {
            biased;
            () = stop(&mut stopping) => return Ok(()),
            () = lines.gone() => return Ok(()),
            message = messages.recv() => match message {
                Some(message) => lines.send(line(&message)).await?,
                None => return Ok(()),
            },
            () = tokio::time::sleep(KEEP_ALIVE) => lines.keep_alive().await?,
        }
    }
}

/// Takes a piece of a log that somebody asked for.
pub(super) async fn log_chunk(
    State(app): State<App>,
    AgentJson(chunk): AgentJson<LogChunk>,
) -> Json<Done> {
    app.logs.arrived(chunk);
    Json(Done { ok: true })
}
