//! Nodes: listing, draining.

use super::extract::{StrictJson, StrictQuery};
use super::jobs::{Nothing, new_request};
use super::{App, PAGE_MAX};
use crate::driver::Ask;
use crate::fault::Fault;
use crate::views;
use axum::Json;
use axum::extract::{Path, State};
use lindos_api::user::{ApiError, Done, DrainRequest, MendedRequest, NodeView, NodeWhy};
use lindos_model::NodeId;
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Only nodes with a number above this.
    after: Option<u32>,
    /// At most so many; 10,000 at most, and when not given.
    limit: Option<usize>,
}

/// Lists the nodes of the fleet, by number.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", params(PageQuery),
    responses((status = OK, body = Vec<NodeView>), (status = "default", body = ApiError)))]
pub(super) async fn list(
    State(app): State<App>,
    StrictQuery(page): StrictQuery<PageQuery>,
) -> Result<Json<Vec<NodeView>>, Fault> {
    let limit = page.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let after = page.after.map(NodeId);
    app.driver.read(move |world| Json(views::nodes(&world.view(), after, limit))).await
}

/// Tells what a node is doing, and why its free GPUs are idle.
#[utoipa::path(get, path = "/v1/nodes/{name}/why", operation_id = "why_node",
    params(("name" = String, Path, description = "The node's name")),
    responses((status = OK, body = NodeWhy), (status = "default", body = ApiError)))]
pub(super) async fn why(
    State(app): State<App>,
    Path(node): Path<String>,
) -> Result<Json<NodeWhy>, Fault> {
    let name = node.clone();
    let found = app.driver.read(move |world| views::why_node(&world.view(), &name));
    found.await?.map(Json).ok_or_else(|| Fault::no_such_node(&node))
}

/// Takes a node out of service: nothing new starts there.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", operation_id = "drain_node",
    params(("name" = String, Path, description = "The node's name")),
    request_body = DrainRequest,
    responses((status = OK, body = Done), (status = "default", body = ApiError)))]
pub(super) async fn drain(
    State(app): State<App>,
    Path(node): Path<String>,
    StrictJson(body): StrictJson<DrainRequest>,
) -> Result<Json<Done>, Fault> {
    app.driver.ask(new_request()?, Ask::Drain { node, reason: body.reason }).await?;
    Ok(Json(Done { ok: true }))
}

/// Tells what became of a node that was out for repair.
#[utoipa::path(post, path = "/v1/nodes/{name}/mended", operation_id = "node_mended",
    params(("name" = String, Path, description = "The node's name")),
    request_body = MendedRequest,
    responses((status = OK, body = Done), (status = "default", body = ApiError)))]
pub(super) async fn mended(
    State(app): State<App>,
    Path(node): Path<String>,
    StrictJson(body): StrictJson<MendedRequest>,
) -> Result<Json<Done>, Fault> {
    app.driver.ask(new_request()?, Ask::Mended { node, how: body.how }).await?;
    Ok(Json(Done { ok: true }))
}

/// Puts a node back in service.
#[utoipa::path(post, path = "/v1/nodes/{name}/undrain", operation_id = "undrain_node",
    params(("name" = String, Path, description = "The node's name")),
    responses((status = OK, body = Done), (status = "default", body = ApiError)))]
pub(super) async fn undrain(
    State(app): State<App>,
    Path(node): Path<String>,
    StrictJson(Nothing {}): StrictJson<Nothing>,
) -> Result<Json<Done>, Fault> {
    app.driver.ask(new_request()?, Ask::Undrain { node }).await?;
    Ok(Json(Done { ok: true }))
}
