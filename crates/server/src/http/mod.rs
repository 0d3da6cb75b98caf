//! The HTTP side: who may ask, what a request must look like, and which handler answers it.
//!
//! Handlers are short: they check the request, hand it to the core thread, and turn the outcome
//! into JSON. Everything that is not a success is an [`ApiError`](lindos_api::user::ApiError).

mod agent;
mod events;
mod extract;
mod health;
mod jobs;
mod lines;
mod logs;
mod nodes;
mod reservations;

use crate::alerts::Figures;
use crate::driver::DriverHandle;
use crate::fault::Fault;
use crate::token::Token;
use crate::views::{self, View};
use crate::world::World;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use lindos_api::agent::{LOG_CHUNK_PATH, MESSAGES_PATH, REPORT_PATH};
use lindos_api::user::{ApiError, Goodput, Status, TeamView};
use logs::LogBook;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use utoipa::OpenApi as _;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The most of one kind in one answer.
const PAGE_MAX: usize = lindos_api::client::PAGE;
/// Streams of events that are followed at once; each costs the core a question an event.
const FOLLOWERS_MAX: usize = 256;

#[derive(Clone)]
pub(crate) struct App {
    driver: DriverHandle,
    token: Arc<Token>,
    version: Arc<str>,
    logs: Arc<LogBook>,
    followers: Arc<Semaphore>,
    alerts: Arc<Figures>,
    stopping: watch::Receiver<bool>,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Lindos", description = "The control plane's API for people and their programs. What agents speak is not part of it."),
    components(schemas(ApiError)),
    security(("token" = []))
)]
struct Description;

/// The endpoints for people, and their description.
fn for_people() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(jobs::list, jobs::submit))
        .routes(routes!(jobs::dry_run))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::why))
        .routes(routes!(logs::read))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::why))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::undrain))
        .routes(routes!(nodes::mended))
        .routes(routes!(health::node))
        .routes(routes!(health::repairs))
        .routes(routes!(health::fleet))
        .routes(routes!(reservations::list, reservations::reserve))
        .routes(routes!(reservations::unreserve))
        .routes(routes!(events::list))
        .routes(routes!(teams))
        .routes(routes!(goodput))
        .routes(routes!(status))
        .split_for_parts();
    // The version of the program is not that of the API, and would change the file for nothing.
    description.info.version = "1".to_string();
    let components = description.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("token", bearer);
    (router, description)
}

/// The OpenAPI description of what is served, as it stands in `docs/openapi.json`.
pub fn openapi() -> String {
    let mut text = for_people().1.to_pretty_json().expect("a description is plain data");
    text.push('\n');
    text
}

pub(crate) fn router(
    driver: DriverHandle,
    token: Token,
    version: String,
    alerts: Arc<Figures>,
    stopping: watch::Receiver<bool>,
) -> Router {
    let app = App {
        driver,
        token: Arc::new(token),
        version: version.into(),
        logs: Arc::default(),
        followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        alerts,
        stopping,
    };
    let (router, _) = for_people();
    router
        .route("/v1/openapi.json", get(description))
        .route("/metrics", get(metrics))
        .route(REPORT_PATH, post(agent::report))
        .route(MESSAGES_PATH, get(agent::messages))
        .route(LOG_CHUNK_PATH, post(agent::log_chunk))
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), check_token))
        .with_state(app)
}

async fn check_token(State(app): State<App>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_some_and(|value| app.token.is_in(value.as_bytes())) {
        next.run(request).await
    } else {
        Fault::unauthorized().into_response()
    }
}

/// Resolves when the server is to stop.
async fn stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn no_such_endpoint(request: Request) -> Fault {
    let message = format!("there is no {}", request.uri().path());
    Fault::new(StatusCode::NOT_FOUND, "no_such_endpoint", message)
        .hint("GET /v1/openapi.json lists what there is")
}

async fn wrong_method(request: Request) -> Fault {
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
        .hint("GET /v1/openapi.json lists what there is")
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi())
}

/// The fleet in numbers, for Prometheus.
async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, Fault> {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let alerts = Arc::clone(&app.alerts);
    let read = app
        .driver
        .read(move |world| views::metrics(&world.view(), &world.tally, &alerts, world.records));
    Ok(([(header::CONTENT_TYPE, FORMAT)], read.await?))
}

impl World {
    fn view(&self) -> View<'_> {
        View { core: &self.core, telemetry: &self.telemetry, now: self.now }
    }
}

/// Lists the teams that the policy or a job has named: what they may hold, hold and have used.
#[utoipa::path(get, path = "/v1/teams", operation_id = "list_teams",
    responses((status = OK, body = Vec<TeamView>), (status = "default", body = ApiError)))]
async fn teams(State(app): State<App>) -> Result<axum::Json<Vec<TeamView>>, Fault> {
    app.driver.read(|world| axum::Json(views::teams(&world.view()))).await
}

/// Where the fleet's GPU-time went.
#[utoipa::path(get, path = "/v1/goodput", operation_id = "goodput",
    responses((status = OK, body = Goodput), (status = "default", body = ApiError)))]
async fn goodput(State(app): State<App>) -> Result<axum::Json<Goodput>, Fault> {
    app.driver.read(|world| axum::Json(views::goodput(&world.view()))).await
}

/// The control plane in a few numbers.
#[utoipa::path(get, path = "/v1/status", operation_id = "status",
    responses((status = OK, body = Status), (status = "default", body = ApiError)))]
async fn status(State(app): State<App>) -> Result<axum::Json<Status>, Fault> {
    let version = Arc::clone(&app.version);
    app.driver
        .read(move |world| axum::Json(views::status(&world.view(), &version, world.records)))
        .await
}
