//! `lindos repairs`

use super::Style;
use super::table::Builder;
use super::time::span;
use lindos_api::health::Repairs;

/// The nodes that are out, then those that something keeps in service.
pub fn tables(repairs: &Repairs, style: &Style) -> String {
    let mut parts = Vec::new();
    if !repairs.open.is_empty() {
        parts.push(open(repairs, style));
    }
    if !repairs.kept_in.is_empty() {
        parts.push(kept_in(repairs, style));
    }
    parts.join("\n")
}

fn open(repairs: &Repairs, style: &Style) -> String {
    let header = ["TICKET", "NODE", "OUT FOR", "FOUND", "DEVICE", "NOW"];
    let mut table = Builder::new(style.width, &header).right(&[0]);
    for ticket in &repairs.open {
        table.row([
            ticket.ticket.to_string(),
            ticket.node.clone(),
            span(ticket.since, style.now).to_string(),
            ticket.class.clone(),
            ticket.device.clone().unwrap_or_else(|| "-".to_string()),
            ticket.text.clone(),
        ]);
    }
    table.finish()
}

fn kept_in(repairs: &Repairs, style: &Style) -> String {
    let mut table = Builder::new(style.width, &["KEPT IN", "FOUND", "DEVICE", "BECAUSE"]);
    for kept in &repairs.kept_in {
        table.row([
            kept.node.clone(),
            kept.class.clone(),
            kept.device.clone().unwrap_or_else(|| "-".to_string()),
            kept.because.clone(),
        ]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use lindos_api::health::{KeptInView, TicketView};

    #[test]
    fn what_is_out_and_what_is_kept_in_fits_the_page() {
        let style = sample::style();
        let ticket = |ticket, node: &str, minutes: u64, class: &str, text: &str| TicketView {
            ticket,
            node: node.to_string(),
            since: style.now - minutes * 60_000,
            class: class.to_string(),
            device: (ticket == 12).then(|| "0000:17:00".to_string()),
            text: text.to_string(),
            ..TicketView::default()
        };
        let repairs = Repairs {
            open: vec![
                ticket(9, "local-10", 3000, "node.lemon", "it waits for a technician"),
                ticket(12, "local-2", 4, "gpu.xid.79", "its jobs leave, then a reboot is tried"),
            ],
            kept_in: vec![KeptInView {
                node: "local-3".to_string(),
                class: "gpu.row_remap_pending".to_string(),
                device: Some("gpu3".to_string()),
                because: "1 node of its rack out already, where 1 may be".to_string(),
                ..KeptInView::default()
            }],
        };
        let text = tables(&repairs, &style);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @"
        TICKET  NODE      OUT FOR  FOUND       DEVICE      NOW
             9  local-10  2d 2h    node.lemon  -           it waits for a technician
            12  local-2   4m       gpu.xid.79  0000:17:00  its jobs leave, then a
                                                           reboot is tried

        KEPT IN  FOUND                  DEVICE  BECAUSE
        local-3  gpu.row_remap_pending  gpu3    1 node of its rack out already, where
                                                1 may be
        ");
    }
}
