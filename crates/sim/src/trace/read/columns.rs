//! Which column of a CSV trace says what: as the user says, else by the names that are usual.

use super::TraceError;
use lindos_model::file::nearest;

/// What a column may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Submit,
    Duration,
    Gpus,
    Nodes,
    GpusPerNode,
    Team,
    User,
    Limit,
    Priority,
    Id,
}

/// Each with its key in `--columns` and the names by which it is found when nobody says: in small
/// letters, and without `_`, `-`, `.` and blanks.
const FIELDS: [(Field, &str, &[&str]); 10] = [
    (
        Field::Submit,
        "submit",
        &[
            "timestamp",
            "submit",
            "submittime",
            "submittedtime",
            "submitted",
            "submitat",
            "arrival",
            "arrivaltime",
        ],
    ),
    (Field::Duration, "duration", &["duration", "runtime", "elapsed", "elapsedraw", "runseconds"]),
    (
        Field::Gpus,
        "gpus",
        &[
            "numgpus",
            "gpus",
            "gpunum",
            "ngpus",
            "gpucount",
            "numgpu",
            "numberofgpus",
            "reqgpus",
            "requestedgpus",
            "usedgpus",
        ],
    ),
    (Field::Nodes, "nodes", &["nodes", "numnodes", "nnodes", "nodenum", "nodecount"]),
    (Field::GpusPerNode, "gpus_per_node", &["gpuspernode", "gpupernode"]),
    (
        Field::Team,
        "team",
        &["team", "cluster", "vc", "virtualcluster", "account", "group", "project"],
    ),
    (Field::User, "user", &["user", "username", "userid", "uid"]),
    (Field::Limit, "limit", &["limit", "timelimit", "requestedtime", "walltimelimit"]),
    (Field::Priority, "priority", &["priority"]),
    (Field::Id, "id", &["jobid", "id", "job", "jobidraw"]),
];

/// The names that the user gave: `submit=timestamp,gpus=num_gpus`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(Vec<(Field, String)>);

impl std::str::FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Columns, String> {
        let mut columns = Vec::new();
        for part in text.split(',') {
            let (key, name) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not KEY=COLUMN, such as gpus=num_gpus"))?;
            let (key, name) = (key.trim(), name.trim());
            let Some(&(field, ..)) = FIELDS.iter().find(|(_, known, _)| *known == key) else {
                return Err(unknown_key(key));
            };
            if name.is_empty() {
                return Err(format!("`{key}=` names no column"));
            }
            if columns.iter().any(|(known, _)| *known == field) {
                return Err(format!("`{key}` is given twice"));
            }
            columns.push((field, name.to_string()));
        }
        Ok(Columns(columns))
    }
}

fn unknown_key(key: &str) -> String {
    let keys = FIELDS.map(|(_, key, _)| key);
    match nearest(key, keys.into_iter()) {
        Some(close) => format!("`{key}` is no key; did you mean `{close}`?"),
        None => format!("`{key}` is no key; the keys are {}", keys.join(", ")),
    }
}

/// Where each field stands in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places([Option<usize>; FIELDS.len()]);

impl Places {
    pub fn get(&self, field: Field) -> Option<usize> {
        self.0[field as usize]
    }

    /// Finds the fields in a header.
    pub fn find(columns: &Columns, header: &[String]) -> Result<Places, TraceError> {
        let mut places = Places([None; FIELDS.len()]);
        for (index, (field, _, usual)) in FIELDS.iter().enumerate() {
            places.0[index] = match columns.0.iter().find(|(named, _)| named == field) {
                Some((_, name)) => Some(find_named(name, header)?),
                None => usual
                    .iter()
                    .find_map(|name| header.iter().position(|column| simplified(column) == **name)),
            };
        }
        let has = |field| places.get(field).is_some();
        for (field, key) in [(Field::Submit, "submit"), (Field::Duration, "duration")] {
            if !has(field) {
                return Err(missing(key, header));
            }
        }
        let has_gang = has(Field::Nodes) && has(Field::GpusPerNode);
        if !has_gang && !has(Field::Gpus) {
            return Err(missing("gpus", header));
        }
        Ok(places)
    }
}

fn find_named(name: &str, header: &[String]) -> Result<usize, TraceError> {
    header.iter().position(|column| column == name).ok_or_else(|| {
        TraceError::new(
            format!("there is no column `{name}`"),
            format!("the header has {}", listed(header)),
        )
    })
}

fn missing(key: &str, header: &[String]) -> TraceError {
    TraceError::new(
        format!("line 1: no column says `{key}`; the header has {}", listed(header)),
        format!("name it: --columns {key}=COLUMN"),
    )
}

/// The names in a header, as many as a person reads.
fn listed(header: &[String]) -> String {
    const SHOWN: usize = 30;
    let short = |name: &String| name.chars().take(40).collect::<String>();
    let names: Vec<String> = header.iter().take(SHOWN).map(short).collect();
    let more = header.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

fn simplified(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<String> {
        text.split(',').map(String::from).collect()
    }

    #[test]
    fn the_table_is_in_the_order_of_the_fields() {
        for (index, (field, ..)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, index);
        }
    }

    #[test]
    fn usual_names_are_found_and_given_ones_go_first() {
        let header = header("Job-ID,submit_time,Duration,gpu_num,vc,count");
        let places = Places::find(&Columns::default(), &header).unwrap();
        let found = [Field::Id, Field::Submit, Field::Duration, Field::Gpus, Field::Team]
            .map(|field| places.get(field));
        assert_eq!(found, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        let places = Places::find(&"gpus=count".parse().unwrap(), &header).unwrap();
        assert_eq!(places.get(Field::Gpus), Some(5));
    }

    #[test]
    fn a_missing_column_is_told_with_the_header() {
        let error = Places::find(&Columns::default(), &header("when,duration,gpus")).unwrap_err();
        assert!(error.message.contains("no column says `submit`"), "{error}");
        assert!(error.message.contains("when, duration, gpus"), "{error}");
        let named = "submit=then".parse().unwrap();
        let error = Places::find(&named, &header("when,duration,gpus")).unwrap_err();
        assert!(error.to_string().contains("no column `then`"), "{error}");
    }

    #[test]
    fn keys_are_checked() {
        let error = |text: &str| text.parse::<Columns>().unwrap_err();
        assert!(error("sumbit=a").contains("did you mean `submit`?"));
        assert!(error("elsewhere=a").contains("the keys are submit, "));
        assert!(error("submit").contains("not KEY=COLUMN"));
        assert!(error("submit=").contains("names no column"));
        assert!(error("id=a,id=b").contains("given twice"));
    }
}
