//! CSV by column names. The delimiter is the one of `,`, `;`, tab and `|` that the header has most.

use super::columns::{Columns, Field, Places};
use super::{FORMATS_HINT, Row, Size, SkippedRows, Trace, TraceError, moment};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

pub fn read(text: &str, columns: &Columns) -> Result<Trace, TraceError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .trim(::csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let unreadable = |error: ::csv::Error| {
        TraceError::new(format!("the file cannot be read as CSV: {error}"), FORMATS_HINT)
    };
    let header: Vec<String> =
        reader.headers().map_err(unreadable)?.iter().map(String::from).collect();
    if header.len() < 2 {
        return Err(TraceError::new(
            "line 1: this is no CSV header: it has one column only",
            FORMATS_HINT,
        ));
    }
    let places = Places::find(columns, &header)?;
    let mut trace = Trace { rows: Vec::new(), skipped: SkippedRows::default() };
    let mut record = ::csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(unreadable)? {
        let line = record.position().map_or(0, ::csv::Position::line);
        match row(line, &record, &places) {
            Ok(row) => trace.rows.push(row),
            Err(reason) => trace.skipped.add(reason, line),
        }
    }
    Ok(trace)
}

fn delimiter(text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    let count = |delimiter: u8| header.matches(char::from(delimiter)).count();
    // The first of those that are found equally often.
    DELIMITERS.into_iter().rev().max_by_key(|&delimiter| count(delimiter)).unwrap_or(b',')
}

/// The job in a record, or why there is none.
fn row(line: u64, record: &::csv::StringRecord, places: &Places) -> Result<Row, &'static str> {
    let get = |field| places.get(field).and_then(|at| record.get(at)).filter(|v| !v.is_empty());
    let text = |field| get(field).unwrap_or_default().to_string();
    let submit = get(Field::Submit).ok_or("no submit time")?;
    let submit = moment::time(submit).ok_or("the submit time is neither a number nor a date")?;
    let duration = get(Field::Duration).ok_or("no duration")?;
    if moment::number(duration).is_some_and(|seconds| seconds <= 0.0) {
        return Err("the duration is zero or negative");
    }
    let duration = moment::span(duration).ok_or("the duration is not a number of seconds")?;
    if duration.0 == 0 {
        return Err("the duration is zero or negative");
    }
    let whole = |field| match get(field) {
        Some(value) => moment::whole(value).map(Some).ok_or("a size is not a whole number"),
        None => Ok(None),
    };
    let size = size(whole(Field::Gpus)?, whole(Field::Nodes)?, whole(Field::GpusPerNode)?)?;
    let limit = match get(Field::Limit) {
        Some(value) => moment::span(value).filter(|limit| limit.0 > 0),
        None => None,
    };
    let priority = whole(Field::Priority).ok().flatten().unwrap_or(0).clamp(-1000, 1000) as i32;
    Ok(Row {
        line,
        id: text(Field::Id),
        submit,
        duration,
        size,
        limit,
        team: text(Field::Team),
        user: text(Field::User),
        priority,
    })
}

/// A gang when the row says what one node gives, else a number of GPUs.
fn size(
    gpus: Option<i64>,
    nodes: Option<i64>,
    gpus_per_node: Option<i64>,
) -> Result<Size, &'static str> {
    let positive = |value: i64| u32::try_from(value).ok().filter(|&value| value > 0);
    if let (Some(nodes), Some(each)) = (nodes, gpus_per_node) {
        let nodes = positive(nodes).ok_or("it has no nodes")?;
        let each = positive(each).ok_or("it has no GPUs")?;
        let gpus_per_node = u16::try_from(each).map_err(|_| "no node has so many GPUs")?;
        return Ok(Size::Gang { nodes, gpus_per_node });
    }
    let gpus = gpus.ok_or("it does not say its GPUs")?;
    positive(gpus).map(|gpus| Size::Gpus(u64::from(gpus))).ok_or("it has no GPUs")
}
