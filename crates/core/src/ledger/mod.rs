//! Where every GPU-millisecond of the fleet went.
//!
//! The ledger holds totals and rates: how many GPUs stand in each column now. Time passes
//! ([`Ledger::accrue`]), GPUs change columns ([`Ledger::set_rates`]), and time already counted is
//! judged anew ([`Ledger::transfer`]: work that a fault made worthless moves from `productive` to
//! `lost`). All three keep the sum, so it is exact by construction; [`Ledger::check`] proves it.

use lindos_model::{Column, Columns, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    totals: Columns,
    rates: Columns,
    at: Time,
    /// What `totals` must sum to: fleet size times time.
    expected: u64,
    /// GPU-milliseconds stranded, by the kind of wait that strands them.
    stranded_by: BTreeMap<String, u64>,
    stranding: Option<String>,
}

impl Ledger {
    /// Lets time pass to `now` at the present rates.
    pub fn accrue(&mut self, now: Time) {
        let span = now.since(self.at).0;
        self.at = self.at.max(now);
        if span == 0 {
            return;
        }
        for column in Column::ALL {
            self.totals[column] += self.rates[column] * span;
        }
        self.expected += self.rates.total() * span;
        if let Some(cause) = &self.stranding {
            let stranded = self.rates[Column::Stranded] * span;
            match self.stranded_by.get_mut(cause) {
                Some(sum) => *sum += stranded,
                None => {
                    self.stranded_by.insert(cause.clone(), stranded);
                }
            }
        }
    }

    /// From now on, GPUs stand so. `stranding` names the wait that strands the stranded ones.
    pub fn set_rates(&mut self, rates: Columns, stranding: Option<&str>) {
        self.rates = rates;
        if self.stranding.as_deref() != stranding {
            self.stranding = stranding.map(str::to_string);
        }
    }

    /// Judges so many GPU-milliseconds anew.
    pub fn transfer(&mut self, from: Column, to: Column, amount: u64) {
        assert!(
            self.totals[from] >= amount,
            "{} holds {} GPU-ms, {amount} should leave it",
            from.name(),
            self.totals[from]
        );
        self.totals[from] -= amount;
        self.totals[to] += amount;
    }

    /// The totals as they stand at `now`, with the time since the last event counted.
    pub fn at(&self, now: Time) -> Columns {
        let span = now.since(self.at).0;
        let mut totals = self.totals;
        for column in Column::ALL {
            totals[column] += self.rates[column] * span;
        }
        totals
    }

    pub fn stranded_by(&self) -> &BTreeMap<String, u64> {
        &self.stranded_by
    }

    pub fn check(&self, fleet_gpus: u64) {
        assert_eq!(self.totals.total(), self.expected, "the ledger's columns lost GPU-time");
        assert_eq!(self.rates.total(), fleet_gpus, "the ledger's rates are not the fleet");
        let stranded: u64 = self.stranded_by.values().sum();
        assert_eq!(stranded, self.totals[Column::Stranded], "stranded time without a cause");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::Millis;
    use proptest::prelude::*;

    fn rates(pairs: &[(Column, u64)]) -> Columns {
        let mut columns = Columns::default();
        for &(column, gpus) in pairs {
            columns[column] = gpus;
        }
        columns
    }

    #[test]
    fn lost_work_moves_and_the_sum_stays() {
        let mut ledger = Ledger::default();
        ledger.set_rates(rates(&[(Column::Productive, 8), (Column::Idle, 8)]), None);
        ledger.accrue(Time(1000));
        ledger.transfer(Column::Productive, Column::Lost, 8 * 400);
        let at = ledger.at(Time(1500));
        assert_eq!(at[Column::Lost], 3200);
        assert_eq!(at[Column::Productive], 8 * 1500 - 3200);
        assert_eq!(at.total(), 16 * 1500);
        ledger.check(16);
    }

    #[test]
    #[should_panic(expected = "should leave it")]
    fn more_than_a_column_holds_cannot_leave_it() {
        Ledger::default().transfer(Column::Productive, Column::Lost, 1);
    }

    proptest! {
        #[test]
        fn every_gpu_millisecond_stands_in_one_column(
            steps in prop::collection::vec((0u64..10_000, 0u64..64, 0u64..64), 1..50)
        ) {
            let mut ledger = Ledger::default();
            let (mut now, mut expected, mut gpus) = (Time(0), 0, 0);
            for (span, busy, free) in steps {
                expected += gpus * span;
                now = now + Millis(span);
                ledger.accrue(now);
                ledger.set_rates(
                    rates(&[(Column::Productive, busy), (Column::Stranded, free)]),
                    Some("busy"),
                );
                gpus = busy + free;
                ledger.check(gpus);
                prop_assert_eq!(ledger.at(now).total(), expected);
            }
        }
    }
}
