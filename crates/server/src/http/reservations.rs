//! Reservations: making, listing, ending.

use super::App;
use super::extract::StrictJson;
use super::jobs::{given_or_new, new_request};
use crate::driver::Ask;
use crate::fault::Fault;
use crate::views;
use axum::Json;
use axum::extract::{Path, State};
use lindos_api::user::{ApiError, Done, ReservationView, ReserveRequest};
use lindos_model::Time;
use lindos_model::reservation::Purpose;
use std::collections::BTreeSet;

/// Names stand in paths and in tables.
const NAME_MAX: usize = 64;

/// Lists the reservations that are not over, in the order in which they were made.
#[utoipa::path(get, path = "/v1/reservations", operation_id = "list_reservations",
    responses((status = OK, body = Vec<ReservationView>), (status = "default", body = ApiError)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<ReservationView>>, Fault> {
    app.driver.read(|world| Json(views::reservations(&world.view()))).await
}

/// Sets nodes aside for a team, or for maintenance, from a moment on.
#[utoipa::path(post, path = "/v1/reservations", operation_id = "reserve_nodes",
    request_body = ReserveRequest,
    responses((status = OK, body = Done),
        (status = 404, description = "`no_such_node`", body = ApiError),
        (status = 422, description = "`invalid_reservation`, `unknown_key`, `invalid_body`", body = ApiError),
        (status = "default", body = ApiError)))]
pub(super) async fn reserve(
    State(app): State<App>,
    StrictJson(body): StrictJson<ReserveRequest>,
) -> Result<Json<Done>, Fault> {
    let request = given_or_new(body.request.as_deref())?;
    check_name(&body.name)?;
    check_nodes(&body.nodes)?;
    let ask = Ask::Reserve {
        purpose: purpose(body.team, body.maintenance)?,
        name: body.name,
        nodes: body.nodes,
        from: Time(body.from),
        until: Time(body.until),
    };
    app.driver.ask(request, ask).await?;
    Ok(Json(Done { ok: true }))
}

/// Ends a reservation, whether it has begun or not.
#[utoipa::path(delete, path = "/v1/reservations/{name}", operation_id = "unreserve_nodes",
    params(("name" = String, Path, description = "The reservation's name")),
    responses((status = OK, body = Done),
        (status = 404, description = "`no_such_reservation`", body = ApiError),
        (status = "default", body = ApiError)))]
pub(super) async fn unreserve(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Fault> {
    app.driver.ask(new_request()?, Ask::Unreserve { name }).await?;
    Ok(Json(Done { ok: true }))
}

fn check_name(name: &str) -> Result<(), Fault> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && name.len() <= NAME_MAX && name.chars().all(is_plain) {
        return Ok(());
    }
    let message = format!(
        "`{name}` is no name for a reservation: it has 1 to {NAME_MAX} letters, digits, `-`, `_` \
         and `.`, and begins with a letter or a digit"
    );
    Err(Fault::invalid_reservation("name", &message))
}

fn check_nodes(nodes: &[String]) -> Result<(), Fault> {
    if nodes.is_empty() {
        return Err(Fault::invalid_reservation("nodes", "it names no node"));
    }
    let mut seen = BTreeSet::new();
    match nodes.iter().find(|&name| !seen.insert(name)) {
        None => Ok(()),
        Some(twice) => Err(Fault::invalid_reservation("nodes", &format!("{twice} is named twice"))),
    }
}

fn purpose(team: Option<String>, maintenance: bool) -> Result<Purpose, Fault> {
    match (team, maintenance) {
        (None, true) => Ok(Purpose::Maintenance),
        (Some(team), false) if team.is_empty() => {
            Err(Fault::invalid_reservation("team", "it is empty"))
        }
        (Some(team), false) => Ok(Purpose::Team(team)),
        (None, false) => {
            let fault = Fault::invalid_reservation("team", "it is for no team");
            Err(fault.hint("give a `team`, or `maintenance: true`"))
        }
        (Some(_), true) => {
            let fault = Fault::invalid_reservation("team", "no team uses nodes in maintenance");
            Err(fault.hint("give a `team` or `maintenance: true`, not both"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fault: &Fault) -> &str {
        assert_eq!(fault.error.code, "invalid_reservation");
        &fault.error.message
    }

    #[test]
    fn a_name_can_stand_in_a_path() {
        for good in ["psu", "2026-11_rack.7", &"a".repeat(NAME_MAX)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "é", &"a".repeat(NAME_MAX + 1)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_for_a_team_or_for_maintenance() {
        assert_eq!(purpose(None, true).unwrap(), Purpose::Maintenance);
        assert_eq!(purpose(Some("a".into()), false).unwrap(), Purpose::Team("a".into()));
        assert_eq!(message(&purpose(None, false).unwrap_err()), "team: it is for no team");
        assert!(purpose(Some("a".into()), true).is_err());
        assert!(purpose(Some(String::new()), false).is_err());
    }

    #[test]
    fn a_node_that_is_named_twice_is_told() {
        let nodes = ["n1", "n2", "n1"].map(String::from);
        assert!(check_nodes(&nodes[..2]).is_ok());
        assert_eq!(message(&check_nodes(&nodes).unwrap_err()), "nodes: n1 is named twice");
        assert!(check_nodes(&[]).is_err());
    }
}
