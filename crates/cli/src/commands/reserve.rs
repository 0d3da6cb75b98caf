use crate::connect::Target;
use crate::failure::Failure;
use crate::render::{Style, reservations::purpose, time};
use crate::{output, when};
use clap::{ArgGroup, Args};
use jiff::tz::TimeZone;
use lindos_api::client::new_request_id;
use lindos_api::user::ReserveRequest;
use lindos_model::fleet::hostlist;
use lindos_model::job::parse_span;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("purpose").args(["team", "maintenance"]).required(true))]
#[command(group = ArgGroup::new("end").args(["span", "until"]).required(true))]
pub struct ReserveArgs {
    /// A name for it, such as rack-7-power
    name: String,
    /// Which nodes, such as n[001-016],m3
    #[arg(long, value_name = "HOSTLIST")]
    nodes: String,
    /// For jobs of this team, and of those that are part of it
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// For no jobs at all
    #[arg(long)]
    maintenance: bool,
    /// When it begins: now, 'in 2h', 2026-11-24T08:00
    #[arg(long, value_name = "WHEN")]
    from: String,
    /// How long it lasts: 90m, '1 day'
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<String>,
    /// When it ends, written as for --from
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub async fn run(args: ReserveArgs) -> Result<(), Failure> {
    let style = Style::of_the_reader();
    let mut request = request(&args, time::now(), &style.zone)?;
    // Should the answer be lost, nothing is reserved twice by whoever sends it again.
    request.request = new_request_id().ok();
    args.target.live().await?.reserve(&request).await?;
    let what = purpose(request.team.as_deref());
    let count = match request.nodes.len() {
        1 => request.nodes[0].clone(),
        count => format!("{count} nodes"),
    };
    output::message(format!(
        "{}: {count} reserved for {what} from {} to {}",
        request.name,
        style.local(request.from),
        style.local(request.until)
    ));
    Ok(())
}

fn request(args: &ReserveArgs, now: u64, zone: &TimeZone) -> Result<ReserveRequest, Failure> {
    let nodes = hostlist::expand(&args.nodes).map_err(|reason| {
        Failure::bad_input(
            format!("--nodes: {reason}"),
            "write names with commas between them, and ranges as in n[001-016],m3",
        )
    })?;
    let from = when::parse("from", &args.from, now, zone)?;
    let until = match (&args.span, &args.until) {
        (Some(span), _) => {
            let span = parse_span(span).map_err(|reason| {
                Failure::bad_input(format!("--for: {reason}"), "write a span: 90m, 2h 30m, 1 day")
            })?;
            from.saturating_add(span.0)
        }
        (None, Some(until)) => when::parse("until", until, now, zone)?,
        (None, None) => unreachable!("clap wants one of the two"),
    };
    if until <= from || until <= now {
        let style = Style { width: 80, now, zone: zone.clone() };
        let (begin, end) = (style.local(from), style.local(until));
        let message = if until <= from {
            format!("the reservation would end at {end}, and begin at {begin}")
        } else {
            format!("the reservation would have ended already, at {end}")
        };
        return Err(Failure::bad_input(message, "look at --from, and at --for or --until"));
    }
    let (name, team) = (args.name.clone(), args.team.clone());
    Ok(ReserveRequest {
        request: None,
        name,
        team,
        maintenance: args.maintenance,
        nodes,
        from,
        until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Words {
        #[command(flatten)]
        args: ReserveArgs,
    }

    const NOW: u64 = 1_800_000_000_000;

    fn asked(words: &str) -> Result<ReserveRequest, String> {
        // Blanks inside a word are written as `_` here.
        let words = words.split(' ').map(|word| word.replace('_', " "));
        let words = Words::try_parse_from(std::iter::once("reserve".to_string()).chain(words));
        let args = words.map_err(|error| error.to_string())?.args;
        request(&args, NOW, &TimeZone::UTC).map_err(|failure| failure.to_string())
    }

    #[test]
    fn words_become_a_request() {
        let made = asked("psu --nodes n[08-10],m3 --maintenance --from in_2h --for 90m").unwrap();
        assert_eq!(made.nodes, ["n08", "n09", "n10", "m3"]);
        assert_eq!((made.team, made.maintenance), (None, true));
        assert_eq!((made.from, made.until), (NOW + 7_200_000, NOW + 12_600_000));
        let made = asked("demo --nodes n1 --team a --from now --until 2027-01-15T09:00").unwrap();
        assert_eq!((made.team.as_deref(), made.maintenance), (Some("a"), false));
        assert_eq!((made.from, made.until), (NOW, NOW + 3_600_000));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (words, expected) in [
            ("a --nodes n1 --from now --for 1h", "--team <TEAM>|--maintenance"),
            ("a --nodes n1 --team b --maintenance --from now --for 1h", "cannot be used with"),
            ("a --nodes n1 --team b --from now", "--for <SPAN>|--until <WHEN>"),
            ("a --nodes n1 --team b --from now --for 1h --until now", "cannot be used with"),
            ("a --nodes n[1 --team b --from now --for 1h", "--nodes: `n[1` has a `[` without"),
            ("a --nodes n1 --team b --from now --for soon", "--for: `soon` is not a span"),
            ("a --nodes n1 --team b --from in_2h --until in_1h", "would end at 2027-01-15T09:00"),
            ("a --nodes n1 --team b --from 2020-01-01 --for 1h", "would have ended already"),
        ] {
            let error = asked(words).unwrap_err();
            assert!(error.contains(expected), "{words} gave\n{error}");
        }
    }
}
