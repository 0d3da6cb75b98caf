//! The Standard Workload Format of the Parallel Workloads Archive, version 2.2: 18 numbers a line,
//! `;` before a comment, -1 for what is not known. A processor there is a GPU here.

use super::{FORMATS_HINT, Row, Size, SkippedRows, Trace, TraceError, moment};
use lindos_model::{Millis, Time};

const FIELDS: usize = 18;
// The places of the fields that we use, from 0.
const ID: usize = 0;
const SUBMIT_S: usize = 1;
const RUN_S: usize = 3;
const PROCESSORS_USED: usize = 4;
const PROCESSORS_ASKED: usize = 7;
const LIMIT_S: usize = 8;
const USER: usize = 11;
const GROUP: usize = 12;

pub fn read(text: &str) -> Result<Trace, TraceError> {
    let mut trace = Trace { rows: Vec::new(), skipped: SkippedRows::default() };
    for (index, line) in text.lines().enumerate() {
        let number = index as u64 + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.len() != FIELDS {
            let found = fields.len();
            if trace.rows.is_empty() {
                return Err(TraceError::new(
                    format!("line {number}: a job has {FIELDS} fields in this format, not {found}"),
                    FORMATS_HINT,
                ));
            }
            trace.skipped.add("it has not 18 fields", number);
            continue;
        }
        match row(number, &fields) {
            Ok(row) => trace.rows.push(row),
            Err(reason) => trace.skipped.add(reason, number),
        }
    }
    Ok(trace)
}

fn row(line: u64, fields: &[&str]) -> Result<Row, &'static str> {
    // What is not known is -1.
    let known = |at: usize| match moment::number(fields[at]) {
        Some(value) => Ok((value >= 0.0).then_some(value)),
        None => Err("a field is not a number"),
    };
    let ms = |seconds: f64| (seconds * 1000.0).round() as u64;
    let submit = known(SUBMIT_S)?.ok_or("no submit time")?;
    let run = known(RUN_S)?.ok_or("it has no run time (-1): it never ran")?;
    if ms(run) == 0 {
        return Err("the duration is zero or negative");
    }
    let positive = |value: &f64| *value > 0.0;
    let processors = known(PROCESSORS_ASKED)?.filter(positive);
    let processors = match processors {
        Some(processors) => processors,
        None => known(PROCESSORS_USED)?.filter(positive).ok_or("it has no GPUs")?,
    };
    let name = |value: Option<f64>, kind: &str| {
        value.map_or_else(String::new, |number| format!("{kind}{number}"))
    };
    Ok(Row {
        line,
        id: fields[ID].to_string(),
        submit: Time(ms(submit)),
        duration: Millis(ms(run)),
        size: Size::Gpus(processors as u64),
        limit: known(LIMIT_S)?.filter(positive).map(|limit| Millis(ms(limit))),
        team: name(known(GROUP)?, "group"),
        user: name(known(USER)?, "user"),
        priority: 0,
    })
}
