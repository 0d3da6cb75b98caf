//! The trail, as it was and as it grows.
//!
//! A follower asks the core for a page whenever the trail has grown, so the trail itself is the
//! buffer: a slow follower costs nothing until what it has not read is forgotten. Then it is cut,
//! with a last line that says so.

use super::extract::StrictQuery;
use super::lines::{KEEP_ALIVE, Lines, Unread, line};
use super::{App, FOLLOWERS_MAX, stop};
use crate::fault::Fault;
use crate::views;
use axum::extract::State;
use axum::response::Response;
use lindos_api::user::{ApiError, EventView};
use lindos_model::JobId;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

/// Entries asked for at once: a fraction of a millisecond of the core's time.
const PAGE: usize = 500;

#[derive(Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only entries with a number above this.
    #[serde(default)]
    after: u64,
    /// Only those of this job.
    job: Option<u64>,
    /// Go on with new ones as they come, with an empty line every second while there is none.
    #[serde(default)]
    follow: bool,
}

/// What happened, one JSON object a line. A last line that is an `ApiError` tells why the stream
/// was cut: `events_forgotten`, `too_slow`, `stopping`.
#[utoipa::path(get, path = "/v1/events", operation_id = "list_events", params(EventsQuery),
    responses((status = OK, content_type = "application/x-ndjson", body = EventView),
        (status = "default", body = ApiError)))]
pub(super) async fn list(
    State(app): State<App>,
    StrictQuery(query): StrictQuery<EventsQuery>,
) -> Result<Response, Fault> {
    let permit = app.followers.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{FOLLOWERS_MAX} streams of events are open already");
        Fault::unavailable("busy", message)
    })?;
    let (lines, response) = Lines::new();
    tokio::spawn(feed(app, query, lines, permit));
    Ok(response)
}

async fn feed(app: App, query: EventsQuery, lines: Lines, _permit: OwnedSemaphorePermit) {
    match write(&app, &query, &lines).await {
        Ok(()) | Err(Cut::Unread(Unread::Gone)) => {}
        Err(Cut::Unread(Unread::Slow)) => {
            let fault = Fault::unavailable("too_slow", "this stream was not read for too long");
            lines.end_with(&fault.error);
        }
        Err(Cut::Fault(fault)) => lines.end_with(&fault.error),
    }
}

enum Cut {
    Unread(Unread),
    Fault(Fault),
}

impl From<Unread> for Cut {
    fn from(unread: Unread) -> Self {
        Cut::Unread(unread)
    }
}

impl From<Fault> for Cut {
    fn from(fault: Fault) -> Self {
        Cut::Fault(fault)
    }
}

/// Until the history is told or, when it is followed, until something is in the way.
async fn write(app: &App, query: &EventsQuery, lines: &Lines) -> Result<(), Cut> {
    let mut trail = app.driver.trail();
    let mut stopping = app.stopping.clone();
    let mut failure = app.driver.shared().failure.subscribe();
    let job = query.job.map(JobId);
    let mut after = query.after;
    loop {
        trail.borrow_and_update();
        let page =
            app.driver.read(move |world| views::events(&world.view(), after, job, PAGE)).await?;
        if page.has_gap {
            let message = format!("the entries after {after} are forgotten");
            let fault = Fault::unavailable("events_forgotten", message)
                .hint("ask with after=0 for what is remembered");
            return Err(fault.into());
        }
        after = page.next_after;
        if !page.events.is_empty() {
            lines.send(page.events.iter().flat_map(line).collect()).await?;
        }
        if !page.is_last {
            continue;
        }
        if !query.follow {
            return Ok(());
        }
        loop {
            tokio::select! {
                biased;
                () = stop(&mut stopping) => return Err(Fault::stopping().into()),
                // The question above then tells why.
                _ = failure.changed() => break,
                () = lines.gone() => return Err(Unread::Gone.into()),
                _ = trail.changed() => break,
                () = tokio::time::sleep(KEEP_ALIVE) => lines.keep_alive().await?,
            }
        }
    }
}
