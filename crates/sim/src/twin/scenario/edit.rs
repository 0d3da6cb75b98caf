//! A scenario with one value of it changed: for whoever asks what would be if.

use super::{Files, FleetScenario, Invalid, ScenarioTable};
use lindos_model::file::nearest;
use toml::{Table, Value};

/// The value at the dotted path, such as `policy.spares` or `jobs.main.checkpoint.every`; an entry
/// of a list goes by its name. `None`: the file leaves it to its default.
///
/// # Errors
///
/// If the path leads to no table that is there.
pub fn get<'t>(table: &'t Table, path: &str) -> Result<Option<&'t Value>, Invalid> {
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut at = table;
    let mut keys = keys.into_iter().peekable();
    while let Some(key) = keys.next() {
        at = match at.get(key) {
            None => return Ok(None),
            Some(Value::Table(inner)) => inner,
            Some(Value::Array(entries)) => {
                let Some(name) = keys.next() else { return Err(not_a_value(path)) };
                entry(entries, key, name)?
            }
            Some(_) => return Err(not_a_value(path)),
        };
    }
    match at.get(last) {
        Some(Value::Table(_) | Value::Array(_)) => Err(not_a_value(path)),
        value => Ok(value),
    }
}

/// Puts a value there; tables on the way are made.
pub fn set(table: &mut Table, path: &str, value: Value) -> Result<(), Invalid> {
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut at = table;
    let mut keys = keys.into_iter();
    while let Some(key) = keys.next() {
        let inner = at.entry(key).or_insert_with(|| Value::Table(Table::new()));
        at = match inner {
            Value::Table(inner) => inner,
            Value::Array(entries) => {
                let Some(name) = keys.next() else { return Err(not_a_value(path)) };
                entry(entries, key, name)?;
                let named = entries.iter_mut().find(|entry| is_named(entry, name));
                match named {
                    Some(Value::Table(inner)) => inner,
                    _ => return Err(not_a_value(path)),
                }
            }
            _ => return Err(not_a_value(path)),
        };
    }
    at.insert(last.to_string(), value);
    Ok(())
}

fn is_named(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

fn entry<'t>(entries: &'t [Value], list: &str, name: &str) -> Result<&'t Table, Invalid> {
    let named = entries.iter().find(|entry| is_named(entry, name)).and_then(Value::as_table);
    named.ok_or_else(|| {
        let names = entries.iter().filter_map(|entry| entry.get("name")?.as_str());
        let known: Vec<&str> = names.collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(best) => format!("did you mean `{list}.{best}`?"),
            None => format!("its names: {}", known.join(", ")),
        };
        Invalid::new(list, format!("`{list}` has no entry `{name}`")).hint(hint)
    })
}

fn not_a_value(path: &str) -> Invalid {
    Invalid::new(path, format!("`{path}` is no number and no time"))
        .hint("such as policy.spares, or jobs.NAME.checkpoint.every")
}

impl FleetScenario {
    /// Of a table that was changed: errors do not point into a file.
    pub fn of_table(table: Table, files: Files) -> Result<FleetScenario, Invalid> {
        let table = ScenarioTable::of(table)?;
        FleetScenario::new(table, files)
    }
}

impl ScenarioTable {
    fn of(table: Table) -> Result<ScenarioTable, Invalid> {
        table.try_into().map_err(|error: toml::de::Error| {
            let message = error.message().lines().next().unwrap_or("not valid").to_string();
            Invalid::new("", message)
        })
    }
}
