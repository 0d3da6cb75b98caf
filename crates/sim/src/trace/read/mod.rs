//! Traces as they are found: CSV by column names or the Standard Workload Format, plain or gzip.
//!
//! A row that makes no sense is counted with its reason and left out; a file that is none of these
//! is an error.

mod columns;
mod csv;
mod moment;
mod swf;
#[cfg(test)]
mod tests;

pub use columns::Columns;

use flate2::read::MultiGzDecoder;
use lindos_model::{Millis, Time};
use std::io::Read;

/// Larger files are refused when they unpack: a trace of 100 million jobs is smaller.
const BYTES_MAX: u64 = 8 << 30;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// One job of a trace, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its line in the (unpacked) file, from 1.
    pub line: u64,
    pub id: String,
    /// Milliseconds on the trace's own clock.
    pub submit: Time,
    pub duration: Millis,
    pub size: Size,
    /// The time limit that its user gave.
    pub limit: Option<Millis>,
    pub team: String,
    pub user: String,
    pub priority: i32,
}

/// What a row says of its job's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Gpus(u64),
    Gang { nodes: u32, gpus_per_node: u16 },
}

impl Size {
    pub fn gpus(self) -> u64 {
        match self {
            Size::Gpus(gpus) => gpus,
            Size::Gang { nodes, gpus_per_node } => u64::from(nodes) * u64::from(gpus_per_node),
        }
    }
}

/// Rows that were left out, by reason.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    pub reason: String,
    pub count: u64,
    pub first_line: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedRows(Vec<Skipped>);

impl SkippedRows {
    pub fn add(&mut self, reason: &str, line: u64) {
        match self.0.iter_mut().find(|known| known.reason == reason) {
            Some(known) => known.count += 1,
            None => self.0.push(Skipped { reason: reason.into(), count: 1, first_line: line }),
        }
    }

    pub fn extend(&mut self, more: &SkippedRows) {
        self.0.extend_from_slice(&more.0);
    }

    pub fn list(&self) -> &[Skipped] {
        &self.0
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|skipped| skipped.count).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// By submission; those of one moment in the order of the file.
    pub rows: Vec<Row>,
    pub skipped: SkippedRows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    Swf,
}

#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// `None`: by the name of the file, else by its first line.
    pub format: Option<Format>,
    pub columns: Columns,
}

/// A file that is no trace, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    pub message: String,
    pub hint: String,
}

impl TraceError {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> TraceError {
        TraceError { message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nhint: {}", self.message, self.hint)
    }
}

impl std::error::Error for TraceError {}

const FORMATS_HINT: &str = "a trace is a CSV file with a header, or a file in the Standard Workload Format (.swf), \
     either plain or gzip: see docs/sim-trace.md";

/// Reads the trace in the bytes of the file `name`; the name tells only the format.
pub fn read(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<Trace, TraceError> {
    let text = unpack(bytes)?;
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(TraceError::new("the file is empty", FORMATS_HINT));
    }
    let mut trace = match options.format.unwrap_or_else(|| format_of(name, &text)) {
        Format::Csv => csv::read(&text, &options.columns)?,
        Format::Swf => swf::read(&text)?,
    };
    if trace.rows.is_empty() {
        let why = match trace.skipped.list().first() {
            Some(first) => format!("line {}: {}", first.first_line, first.reason),
            None => "there is nothing below the header".to_string(),
        };
        return Err(TraceError::new(format!("no row of the file is a job; {why}"), FORMATS_HINT));
    }
    // A stable sort: jobs of one moment keep the order of the file.
    trace.rows.sort_by_key(|row| row.submit);
    Ok(trace)
}

fn unpack(bytes: &[u8]) -> Result<String, TraceError> {
    let mut unpacked = Vec::new();
    let plain = if bytes.starts_with(&GZIP_MAGIC) {
        MultiGzDecoder::new(bytes).take(BYTES_MAX).read_to_end(&mut unpacked).map_err(|error| {
            let at = unpacked.len();
            TraceError::new(
                format!("the gzip data is damaged after {at} unpacked bytes: {error}"),
                "fetch the file again; `gzip -t FILE` checks it",
            )
        })?;
        unpacked
    } else {
        bytes.to_vec()
    };
    String::from_utf8(plain).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        TraceError::new(format!("the file is no text: byte {at} is not UTF-8"), FORMATS_HINT)
    })
}

fn format_of(name: &str, text: &str) -> Format {
    let name = name.to_ascii_lowercase();
    let ending = name.strip_suffix(".gz").unwrap_or(&name).rsplit_once('.').map(|(_, end)| end);
    match ending {
        Some("swf") => Format::Swf,
        Some("csv") => Format::Csv,
        // A comment: no header of a CSV file begins so.
        _ if text.trim_start().starts_with(';') => Format::Swf,
        _ => Format::Csv,
    }
}
