//! The ledger: where the GPU-time went.

use super::number::{apportion, hundredths, tenths};
use super::table::Builder;
use lindos_api::user::{Goodput, LedgerView};
use lindos_model::Column;
use std::collections::BTreeMap;

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// The columns that are not zero, in the ledger's order, with what they are of the whole. Both
/// figures of the rows sum to those of the last line exactly.
pub fn table(ledger: &LedgerView, width: u16) -> String {
    let rows: Vec<(&str, u64)> =
        in_order(&ledger.columns).into_iter().filter(|&(_, ms)| ms > 0).collect();
    let (unit, unit_ms) = unit(ledger.total_gpu_ms);
    let mut table = Builder::new(width, &["COLUMN", unit, "%"]).right(&[1, 2]);
    let parts: Vec<u64> = rows.iter().map(|&(_, ms)| ms).collect();
    let total =
        (u128::from(ledger.total_gpu_ms) * 100 + u128::from(unit_ms) / 2) / u128::from(unit_ms);
    let amounts = apportion(&parts, total as u64);
    let shares = apportion(&parts, 1000);
    for (index, (name, _)) in rows.iter().enumerate() {
        table.row([(*name).to_string(), hundredths(amounts[index]), tenths(shares[index])]);
    }
    let whole = if rows.is_empty() { "-".to_string() } else { tenths(1000) };
    table.row(["total".to_string(), hundredths(total as u64), whole]);
    table.finish()
}

/// The unit in which this much is said, and its size.
fn unit(total_gpu_ms: u64) -> (&'static str, u64) {
    if total_gpu_ms >= 2 * HOUR_MS {
        ("GPU-HOURS", HOUR_MS)
    } else if total_gpu_ms >= 2 * MINUTE_MS {
        ("GPU-MINUTES", MINUTE_MS)
    } else {
        ("GPU-SECONDS", SECOND_MS)
    }
}

/// By the ledger's own order; columns of a newer control plane come last.
fn in_order(columns: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let place = |name: &str| Column::ALL.iter().position(|column| column.name() == name);
    let mut rows: Vec<(&str, u64)> =
        columns.iter().map(|(name, &ms)| (name.as_str(), ms)).collect();
    rows.sort_by_key(|&(name, _)| (place(name).unwrap_or(usize::MAX), name));
    rows
}

/// The whole answer of `lindos goodput`.
pub fn goodput(goodput: &Goodput, width: u16) -> String {
    let mut text =
        format!("goodput {}\n\n{}", percent(&goodput.ledger), table(&goodput.ledger, width));
    if goodput.stranded_by.values().any(|&ms| ms > 0) {
        let (unit, unit_ms) = unit(goodput.ledger.total_gpu_ms);
        let mut stranded = Builder::new(width, &["STRANDED BY", unit]).right(&[1]);
        for (cause, &ms) in goodput.stranded_by.iter().filter(|&(_, &ms)| ms > 0) {
            let amount = (u128::from(ms) * 100 + u128::from(unit_ms) / 2) / u128::from(unit_ms);
            stranded.row([cause.clone(), hundredths(amount as u64)]);
        }
        text.push('\n');
        text.push_str(&stranded.finish());
    }
    text
}

/// Productive ÷ all: `93.1%`, or `-` when there was no GPU-time at all.
pub fn percent(ledger: &LedgerView) -> String {
    // Rounded together with the other columns, as in the table: they must say the same.
    let rows = in_order(&ledger.columns);
    let parts: Vec<u64> = rows.iter().map(|&(_, ms)| ms).collect();
    let shares = apportion(&parts, 1000);
    let productive = rows.iter().position(|&(name, _)| name == Column::Productive.name());
    match productive {
        Some(index) if ledger.total_gpu_ms > 0 => format!("{}%", tenths(shares[index])),
        _ => "-".to_string(),
    }
}

/// Productive ÷ all, from 0 to 1.
pub fn share(ledger: &LedgerView) -> Option<f64> {
    let productive = *ledger.columns.get(Column::Productive.name())?;
    (ledger.total_gpu_ms > 0).then(|| productive as f64 / ledger.total_gpu_ms as f64)
}

/// What was added between two readings of the same ledger.
///
/// Work since the last checkpoint is `productive` until a fault makes it `lost`, so that
/// `productive` can shrink; what it lacks is then taken from `lost`, where it went.
pub fn difference(before: &LedgerView, after: &LedgerView) -> LedgerView {
    let old = |name: &str| before.columns.get(name).copied().unwrap_or(0);
    let mut columns = BTreeMap::new();
    let mut missing = 0;
    for (name, &new) in &after.columns {
        missing += old(name).saturating_sub(new);
        columns.insert(name.clone(), new.saturating_sub(old(name)));
    }
    let names = [Column::Lost, Column::Waiting, Column::Detect].into_iter().chain(Column::ALL);
    for column in names {
        if let Some(ms) = columns.get_mut(column.name()) {
            let taken = missing.min(*ms);
            *ms -= taken;
            missing -= taken;
        }
    }
    LedgerView { total_gpu_ms: columns.values().sum(), columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(columns: &[(Column, u64)]) -> LedgerView {
        let mut all = lindos_model::Columns::default();
        for &(column, ms) in columns {
            all[column] = ms;
        }
        all.into()
    }

    #[test]
    fn the_table_sums_to_its_last_line() {
        let ledger = ledger(&[
            (Column::Productive, 100_001),
            (Column::Lost, 33_333),
            (Column::Startup, 33_333),
            (Column::Idle, 33_334),
        ]);
        insta::assert_snapshot!(table(&ledger, 80), @"
        COLUMN      GPU-MINUTES      %
        productive         1.67   50.0
        lost               0.55   16.7
        startup            0.55   16.6
        idle               0.56   16.7
        total              3.33  100.0
        ");
    }

    #[test]
    fn a_large_ledger_is_said_in_hours_and_an_empty_one_has_no_shares() {
        let large = ledger(&[(Column::Productive, 90 * HOUR_MS), (Column::Spare, 10 * HOUR_MS)]);
        insta::assert_snapshot!(table(&large, 80), @"
        COLUMN      GPU-HOURS      %
        productive      90.00   90.0
        spare           10.00   10.0
        total          100.00  100.0
        ");
        insta::assert_snapshot!(table(&ledger(&[]), 80), @"
        COLUMN  GPU-SECONDS  %
        total          0.00  -
        ");
    }

    #[test]
    fn goodput_shows_what_was_stranded_and_why() {
        let answer = Goodput {
            ledger: ledger(&[(Column::Productive, 3 * HOUR_MS), (Column::Stranded, HOUR_MS)]),
            goodput: 0.75,
            stranded_by: [("busy".to_string(), HOUR_MS), ("nodes_out".to_string(), 0)].into(),
            at: 0,
        };
        insta::assert_snapshot!(goodput(&answer, 80), @"
        goodput 75.0%

        COLUMN      GPU-HOURS      %
        productive       3.00   75.0
        stranded         1.00   25.0
        total            4.00  100.0

        STRANDED BY  GPU-HOURS
        busy              1.00
        ");
    }

    #[test]
    fn goodput_is_the_tables_own_figure() {
        let thirds = [Column::Productive, Column::Lost, Column::Idle].map(|column| (column, 6665));
        let ledger = ledger(&[thirds.as_slice(), &[(Column::Spare, 5)]].concat());
        let percent = percent(&ledger);
        let row = table(&ledger, 80).lines().nth(1).unwrap().to_string();
        assert!(row.ends_with(percent.trim_end_matches('%')), "{percent} and {row}");
    }

    #[test]
    fn the_difference_of_two_readings_sums_to_the_time_between_them() {
        let before = ledger(&[(Column::Productive, 1000), (Column::Lost, 50), (Column::Idle, 7)]);
        let after = ledger(&[(Column::Productive, 900), (Column::Lost, 400), (Column::Idle, 17)]);
        let difference = difference(&before, &after);
        assert_eq!(difference.columns["productive"], 0);
        assert_eq!(difference.columns["lost"], 250);
        assert_eq!(difference.columns["idle"], 10);
        assert_eq!(difference.total_gpu_ms, after.total_gpu_ms - before.total_gpu_ms);
    }
}
