//! The answer as one page: the ledger before and after, the figures, and every assumption.

use super::assume::{assumptions, calibration};
use super::change::Change;
use super::compare::{Comparison, Row, Unit};
use super::history::History;
use super::replay::Proof;
use super::words::{Words, verdict};
use crate::page::{self, escape};
use std::fmt::Write as _;

/// What a page tells besides the comparison.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub journal: &'a str,
    pub history: &'a History,
    pub proof: &'a Proof,
    pub change: &'a Change,
    pub price: f64,
    pub currency: &'a str,
    /// What somebody types to have it again.
    pub command: &'a str,
}

pub fn page(about: &About, comparison: &Comparison) -> String {
    let mut page = page::head("What if");
    page.push_str(page::FOOT);
    let _ = (about, comparison);
    page
}
