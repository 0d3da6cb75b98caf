//! `lindos alerts test`

use super::Style;
use super::number::counted;
use super::table::Builder;
use lindos_server::alerts::{Alerts, Tried};

/// `2 webhooks`
pub fn webhooks(file: &Alerts) -> String {
    counted(file.webhooks.len() as u32, "webhook")
}

/// A line a webhook: whether it took the sample, and what it said.
pub fn table(tried: &[Tried], style: &Style) -> String {
    let header = ["WEBHOOK", "FORMAT", "SIGNED", "TOOK", "RESULT"];
    let mut table = Builder::new(style.width, &header).right(&[3]);
    for tried in tried {
        table.row([
            tried.webhook.clone(),
            tried.format.to_string(),
            if tried.signed { "yes" } else { "no" }.to_string(),
            format!("{} ms", tried.took_ms),
            format!("{}{}", if tried.ok { "taken: " } else { "not taken: " }, tried.said),
        ]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn what_a_receiver_said_is_on_its_line() {
        let tried = |webhook: &str, format, ok, said: &str| Tried {
            webhook: webhook.into(),
            format,
            ok,
            signed: format == "json",
            took_ms: 12,
            said: said.into(),
        };
        let text = table(
            &[
                tried("oncall", "json", true, "200"),
                tried("chat", "slack", false, "404 Not Found: no_service"),
            ],
            &sample::style(),
        );
        insta::assert_snapshot!(text, @"
        WEBHOOK  FORMAT  SIGNED   TOOK  RESULT
        oncall   json    yes     12 ms  taken: 200
        chat     slack   no      12 ms  not taken: 404 Not Found: no_service
        ");
    }
}
