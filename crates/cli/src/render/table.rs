//! Plain tables: columns two blanks apart, no lines, no colour.

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};
use std::fmt::Write as _;

pub struct Builder {
    table: Table,
    right: Vec<usize>,
    width: u16,
}

impl Builder {
    pub fn new(width: u16, header: &[&str]) -> Builder {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header.iter().copied());
        Builder { table, right: Vec::new(), width }
    }

    /// These columns hold numbers.
    pub fn right(mut self, columns: &[usize]) -> Builder {
        self.right = columns.to_vec();
        self
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row = Row::from(cells.into_iter().collect::<Vec<String>>());
        // Without a bound, one very long word would push the table past the width for ever.
        row.max_height(12);
        self.table.add_row(row);
    }

    pub fn finish(mut self) -> String {
        self.table.set_content_arrangement(ContentArrangement::Dynamic);
        self.table.set_width(self.width);
        for (index, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `name   value` lines, the values in one column.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let widest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<widest$}  {value}");
        text
    })
}
