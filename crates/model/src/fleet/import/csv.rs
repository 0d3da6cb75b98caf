//! A node list as CSV: a header, then a node a line. Fields may be quoted (RFC 4180).

use super::{Import, Input, KEYS, collect};
use crate::file::{FileError, nearest};
use crate::node::{Location, NodeSpec};
use csv::ReaderBuilder;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads a CSV node list. `name` and `gpus` must be there; the other columns are those of
/// `[[hosts]]` in a fleet file, and `labels` as `key=value;key=value`.
pub fn csv(path: &Path, text: &str) -> Result<Import, FileError> {
    let input = Input { path, text };
    let mut records = records(input)?.into_iter();
    let Some((line, header)) = records.next() else {
        return Err(input.error(0, "the file is empty", "the first line names the columns"));
    };
    let columns: Vec<&str> = header.iter().map(|name| name.trim()).collect();
    check_header(input, line, &columns)?;
    let mut read = Vec::new();
    for (line, fields) in records {
        if fields.len() != columns.len() {
            let message = format!("{} fields for {} columns", fields.len(), columns.len());
            return Err(input.error(line, message, "quote a field that has a comma in it"));
        }
        let row: BTreeMap<&str, &str> =
            columns.iter().copied().zip(fields.iter().map(|field| field.trim())).collect();
        read.push((line, node(input, line, &row)?));
    }
    collect(input, read)
}

fn check_header(input: Input<'_>, line: usize, columns: &[&str]) -> Result<(), FileError> {
    for (index, column) in columns.iter().enumerate() {
        if !KEYS.contains(column) {
            let hint = match nearest(column, KEYS.into_iter()) {
                Some(best) => format!("did you mean `{best}`?"),
                None => format!("the columns known here are: {}", KEYS.join(", ")),
            };
            return Err(input.error(line, format!("unknown column `{column}`"), hint));
        }
        if columns[..index].contains(column) {
            let message = format!("column `{column}` stands there twice");
            return Err(input.error(line, message, "name each column once"));
        }
    }
    for needed in &KEYS[..2] {
        if !columns.contains(needed) {
            let hint = format!("the columns here are: {}", columns.join(", "));
            return Err(input.error(line, format!("the column `{needed}` is missing"), hint));
        }
    }
    Ok(())
}

fn node(input: Input<'_>, line: usize, row: &BTreeMap<&str, &str>) -> Result<NodeSpec, FileError> {
    let field = |name: &str| row.get(name).copied().unwrap_or_default().to_string();
    let gpus = row["gpus"].parse().map_err(|_| {
        let message = format!("`gpus` is `{}`, which is no count", row["gpus"]);
        input.error(line, message, "write a number: 8")
    })?;
    let spans = match field("nvlink_spans_racks").to_ascii_lowercase().as_str() {
        "" | "false" | "no" | "0" => false,
        "true" | "yes" | "1" => true,
        other => {
            let message = format!("`nvlink_spans_racks` is `{other}`");
            return Err(input.error(line, message, "write true or false"));
        }
    };
    if row["name"].is_empty() {
        return Err(input.error(line, "a node without a name", "fill the column `name`"));
    }
    let mut labels = BTreeMap::new();
    for label in field("labels").split(';').map(str::trim).filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once('=').ok_or_else(|| {
            let message = format!("`{label}` is no label");
            input.error(line, message, "write labels as key=value;key=value")
        })?;
        labels.insert(key.trim().to_string(), value.trim().to_string());
    }
    Ok(NodeSpec {
        name: field("name"),
        gpus,
        platform: field("platform"),
        address: field("address"),
        location: Location {
            site: field("site"),
            hall: field("hall"),
            spine: field("spine"),
            leaf: field("leaf"),
            rack: field("rack"),
            nvlink: field("nvlink"),
            nvlink_spans_racks: spans,
            row: field("row"),
            pdu: field("pdu"),
        },
        labels,
    })
}

/// Records with the lines on which they begin; empty lines are none.
fn records(input: Input<'_>) -> Result<Vec<(usize, Vec<String>)>, FileError> {
    let text = input.text.as_bytes();
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    reader
        .records()
        .map(|record| {
            let record = record.map_err(|error| input.error(0, error.to_string(), ""))?;
            // The reader's place is before the empty lines that it skips.
            let (line, byte) = record.position().map_or((0, 0), |at| (at.line(), at.byte()));
            let after = text.get(byte as usize..).unwrap_or_default().iter();
            let skipped = after.take_while(|byte| byte.is_ascii_whitespace());
            let skipped = skipped.filter(|byte| **byte == b'\n').count();
            Ok((line as usize + skipped, record.iter().map(str::to_string).collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Import, String> {
        csv(Path::new("nodes.csv"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_may_stand_in_any_order_and_be_quoted() {
        let import = read(
            "rack,name,gpus,labels,nvlink,nvlink_spans_racks\r\n\
             \"r 1, left\",n1,8,\"note=a \"\"b\"\"\",nvl1,true\r\n\n",
        )
        .unwrap();
        let node = &import.nodes[0];
        assert_eq!((node.location.rack.as_str(), node.gpus), ("r 1, left", 8));
        assert_eq!(node.labels["note"], "a \"b\"");
        assert!(node.location.nvlink_spans_racks);
        assert_eq!((node.platform.as_str(), node.address.as_str()), ("generic", "n1"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        insta::assert_snapshot!(read("name,platform\nn1,hgx-h100\n").unwrap_err(), @r"
        nodes.csv:1:1: the column `gpus` is missing
          |
        1 | name,platform
          | ^^^^^^^^^^^^^
        hint: the columns here are: name, platform
        ");
        for (text, expected) in [
            ("", "the file is empty"),
            ("name,gpus\n", "no node"),
            ("name,gpus,rak\nn1,8,r1", "did you mean `rack`?"),
            ("name,gpus,gpus\nn1,8,8", "stands there twice"),
            ("name,gpus\nn1,8\nn2\n", "nodes.csv:3:1: 1 fields for 2 columns"),
            ("name,gpus\nn1,many", "no count"),
            ("name,gpus\nn1,0", "0 GPUs"),
            ("name,gpus\n,8", "without a name"),
            ("name,gpus\nn1,8\n\nn1,8", "nodes.csv:4:1: node n1 is listed twice, first on line 2"),
            ("name,gpus,rack\nn1,8,r1\nn1,8,r2", "in two racks: `r1` (line 2) and `r2`"),
            ("name,gpus,platform\nn1,8,hgx-h10", "did you mean `hgx-h100`?"),
            ("name,gpus,labels\nn1,8,fast", "no label"),
            ("name,gpus\n\"n1,8", "1 fields for 2 columns"),
            ("name,gpus,nvlink_spans_racks\nn1,8,perhaps", "true or false"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text} gave {error}");
        }
    }
}
