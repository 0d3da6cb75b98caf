//! `lindos reservations`

use super::Style;
use super::table::Builder;
use lindos_api::user::ReservationView;
use lindos_model::fleet::hostlist;

/// By their beginning, and then by name.
pub fn table(reservations: &[ReservationView], style: &Style) -> String {
    let header = ["NAME", "FOR", "NODES", "BEGINS", "ENDS", "STATE"];
    let mut table = Builder::new(style.width, &header);
    let mut in_order: Vec<&ReservationView> = reservations.iter().collect();
    in_order.sort_by(|a, b| (a.from, &a.name).cmp(&(b.from, &b.name)));
    for one in in_order {
        table.row([
            one.name.clone(),
            purpose(one.team.as_deref()),
            // A long list is broken where there is a blank.
            folded(&one.nodes),
            style.local_minute(one.from),
            style.local_minute(one.until),
            one.state.clone(),
        ]);
    }
    table.finish()
}

/// Whom it is for.
/// Names that count up stand together, in whatever order their nodes have joined.
fn folded(nodes: &[String]) -> String {
    let mut names: Vec<&str> = nodes.iter().map(String::as_str).collect();
    names.sort_unstable_by_key(|name| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        (stem, name.len(), *name)
    });
    hostlist::fold(names).replace("],", "], ")
}

pub fn purpose(team: Option<&str>) -> String {
    team.map_or_else(|| "maintenance".to_string(), |team| format!("team {team}"))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn reservations_stand_in_the_order_in_which_they_begin() {
        let style = sample::style();
        let one =
            |name: &str, team: Option<&str>, nodes: Vec<String>, hours: [u64; 2]| ReservationView {
                name: name.to_string(),
                team: team.map(ToString::to_string),
                maintenance: team.is_none(),
                nodes,
                from: style.now + hours[0] * 3_600_000,
                until: style.now + hours[1] * 3_600_000,
                state: if hours[0] == 0 { "active" } else { "planned" }.to_string(),
            };
        let rack: Vec<String> = (1..=16).map(|number| format!("r7-n{number:02}")).collect();
        let some = ["n1", "n4", "n5", "m3"].map(String::from).to_vec();
        let reservations =
            [one("rack-7-power", None, rack, [14, 18]), one("demo", Some("vision"), some, [0, 2])];
        let text = table(&reservations, &style);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @"
        NAME          FOR          NODES        BEGINS        ENDS          STATE
        demo          team vision  m3,n[1,4-5]  Jan 15 08:03  Jan 15 10:03  active
        rack-7-power  maintenance  r7-n[01-16]  Jan 15 22:03  Jan 16 02:03  planned
        ");
    }
}
