//! The reservations that are not over.

use super::View;
use lindos_api::user::ReservationView;
use lindos_model::NodeId;
use lindos_model::reservation::{Purpose, Reservation};

/// In the order in which they were made.
pub fn reservations(view: &View<'_>) -> Vec<ReservationView> {
    let nodes = view.core.nodes();
    let name = |node: &NodeId| nodes[node.index()].spec.name.clone();
    let one = |(_, kept): (u64, &Reservation)| {
        let has_begun = kept.from <= view.now;
        ReservationView {
            name: kept.name.clone(),
            team: match &kept.purpose {
                Purpose::Team(team) => Some(team.clone()),
                Purpose::Maintenance => None,
            },
            maintenance: kept.purpose == Purpose::Maintenance,
            nodes: kept.nodes.iter().map(name).collect(),
            from: kept.from.0,
            until: kept.until.0,
            state: if has_begun { "active" } else { "planned" }.to_string(),
        }
    };
    view.core.reservations().iter().map(one).collect()
}
