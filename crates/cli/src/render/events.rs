//! `lindos events`: one line each, so that they can be followed.

use super::Style;
use lindos_api::user::EventView;

pub fn line(event: &EventView, style: &Style) -> String {
    format!("{}  {}\n", style.local(event.at), event.text)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        insta::assert_snapshot!(line(&sample::fault(), &sample::style()), @"2027-01-15T08:00:59+00:00  job 3/1 fault at step 1040: rank 1 on local-0 ended first: SIGKILL");
    }
}
