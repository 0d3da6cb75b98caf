//! Health and repair: what was found in the fleet, and what is done about it.

use super::extract::StrictQuery;
use super::{App, PAGE_MAX};
use crate::fault::Fault;
use crate::views;
use axum::Json;
use axum::extract::{Path, State};
use lindos_api::health::{FleetHealth, NodeHealth, Repairs};
use lindos_api::user::ApiError;
use serde::Deserialize;
use utoipa::IntoParams;

/// Nodes that are named when nobody says how many.
const WORST: usize = 20;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WorstQuery {
    /// At most so many nodes by name; 20 when not given, and 10,000 at most.
    limit: Option<usize>,
}

/// Lists the nodes that are out for repair or burn-in, and those that something keeps in service.
#[utoipa::path(get, path = "/v1/repairs", operation_id = "list_repairs",
    responses((status = OK, body = Repairs), (status = "default", body = ApiError)))]
pub(super) async fn repairs(State(app): State<App>) -> Result<Json<Repairs>, Fault> {
    app.driver.read(|world| Json(views::repairs(&world.view()))).await
}

/// Tells how well the fleet is: by state, by severity, by class, and its worst nodes.
#[utoipa::path(get, path = "/v1/health", operation_id = "health", params(WorstQuery),
    responses((status = OK, body = FleetHealth), (status = "default", body = ApiError)))]
pub(super) async fn fleet(
    State(app): State<App>,
    StrictQuery(query): StrictQuery<WorstQuery>,
) -> Result<Json<FleetHealth>, Fault> {
    let limit = query.limit.unwrap_or(WORST).min(PAGE_MAX);
    app.driver.read(move |world| Json(views::fleet_health(&world.view(), limit))).await
}

/// Tells all that is known of a node: its findings, what was tried, its history.
#[utoipa::path(get, path = "/v1/nodes/{name}/health", operation_id = "node_health",
    params(("name" = String, Path, description = "The node's name")),
    responses((status = OK, body = NodeHealth), (status = "default", body = ApiError)))]
pub(super) async fn node(
    State(app): State<App>,
    Path(node): Path<String>,
) -> Result<Json<NodeHealth>, Fault> {
    let name = node.clone();
    let found = app.driver.read(move |world| views::node_health(&world.view(), &name));
    found.await?.map(Json).ok_or_else(|| Fault::no_such_node(&node))
}
