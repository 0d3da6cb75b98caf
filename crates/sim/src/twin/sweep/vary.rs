//! What a sweep varies: `policy.spares=0..64:5`, `jobs.main.checkpoint.every=5m..4h*2`.

use lindos_model::Millis;
use lindos_model::job::parse_span;
use std::fmt;
use std::str::FromStr;

const STEPS_DEFAULT: usize = 5;
/// Of one key.
const VALUES_MAX: usize = 1000;
/// Times longer than this are varied in whole seconds: nobody wants 20m 0.013s.
const FINE_MAX_MS: f64 = 60_000.0;

/// A key of a scenario and the values that it is to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Vary {
    /// A dotted path: see [`crate::twin::scenario::edit`].
    pub key: String,
    pub values: Vec<Value>,
    /// Each is so many times the one before: they stand evenly on a logarithmic axis.
    pub is_geometric: bool,
    /// As it was written.
    pub text: String,
}

impl fmt::Display for Vary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Time(Millis),
    Word(String),
}

impl Value {
    pub fn toml(&self) -> toml::Value {
        match self {
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                toml::Value::Integer(*number as i64)
            }
            Value::Number(number) => toml::Value::Float(*number),
            Value::Time(span) => toml::Value::String(format!("{}ms", span.0)),
            Value::Word(word) => toml::Value::String(word.clone()),
        }
    }

    /// The nearest whole number, for keys that count something.
    pub fn rounded(&self) -> Value {
        match self {
            Value::Number(number) => Value::Number(number.round()),
            other => other.clone(),
        }
    }

    /// Its place on an axis: times in seconds. `None` for a word.
    pub fn place(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Time(span) => Some(span.0 as f64 / 1000.0),
            Value::Word(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) if number.fract() == 0.0 => f.pad(&format!("{number:.0}")),
            // Four digits are enough to know a point by.
            Value::Number(number) => {
                let digits = (3 - number.abs().log10().floor() as i64).clamp(0, 12) as usize;
                let text = format!("{number:.digits$}");
                f.pad(text.trim_end_matches('0').trim_end_matches('.'))
            }
            Value::Time(span) => f.pad(&span.to_string()),
            Value::Word(word) => f.pad(word),
        }
    }
}

impl FromStr for Vary {
    type Err = String;

    fn from_str(text: &str) -> Result<Vary, String> {
        let wrong = "it is KEY=FROM..TO, KEY=FROM..TO:STEPS, KEY=FROM..TO*FACTOR or KEY=A,B,C";
        let (key, range) = text.split_once('=').ok_or(wrong)?;
        let (key, range) = (key.trim(), range.trim());
        if key.is_empty() || range.is_empty() {
            return Err(wrong.to_string());
        }
        let (values, is_geometric) = match range.split_once("..") {
            Some((from, rest)) => between(from, rest)?,
            None => (range.split(',').map(|word| value(word.trim())).collect(), false),
        };
        if values.len() > VALUES_MAX {
            return Err(format!("{} values; a key has at most {VALUES_MAX}", values.len()));
        }
        Ok(Vary { key: key.to_string(), values, is_geometric, text: text.to_string() })
    }
}

fn value(text: &str) -> Value {
    if let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        return Value::Number(number);
    }
    parse_span(text).map_or_else(|_| Value::Word(text.to_string()), Value::Time)
}

fn between(from: &str, rest: &str) -> Result<(Vec<Value>, bool), String> {
    if let Some((to, factor)) = rest.split_once('*') {
        let factor: f64 = factor.trim().parse().map_err(|_| format!("`{factor}` is no factor"))?;
        return Ok((geometric(&Ends::new(from, to)?, factor)?, true));
    }
    let (to, steps) = match rest.split_once(':') {
        Some((to, steps)) => {
            (to, steps.trim().parse().map_err(|_| format!("`{steps}` is no number of steps"))?)
        }
        None => (rest, STEPS_DEFAULT),
    };
    Ok((linear(&Ends::new(from, to)?, steps)?, false))
}

struct Ends {
    from: f64,
    to: f64,
    is_time: bool,
}

impl Ends {
    fn new(from: &str, to: &str) -> Result<Ends, String> {
        let (from, to) = (value(from.trim()), value(to.trim()));
        let ends = match (&from, &to) {
            (Value::Number(from), Value::Number(to)) => (*from, *to, false),
            (Value::Time(from), Value::Time(to)) => (from.0 as f64, to.0 as f64, true),
            // No time is no time in every unit.
            (Value::Number(0.0), Value::Time(to)) => (0.0, to.0 as f64, true),
            _ => return Err(format!("`{from}` and `{to}` are not two numbers or two times")),
        };
        let (from, to, is_time) = ends;
        if from >= to {
            Err("FROM is the smaller one".to_string())
        } else {
            Ok(Ends { from, to, is_time })
        }
    }

    fn value(&self, at: f64) -> Value {
        if !self.is_time {
            // Away with the last bits of a division.
            return Value::Number((at * 1e9).round() / 1e9);
        }
        let ms = if at > FINE_MAX_MS { (at / 1000.0).round() * 1000.0 } else { at.round() };
        Value::Time(Millis(ms as u64))
    }
}

fn linear(ends: &Ends, steps: usize) -> Result<Vec<Value>, String> {
    if !(2..=VALUES_MAX).contains(&steps) {
        return Err(format!("there are 2 to {VALUES_MAX} steps"));
    }
    let each = (ends.to - ends.from) / (steps - 1) as f64;
    Ok((0..steps).map(|index| ends.value(ends.from + each * index as f64)).collect())
}

fn geometric(ends: &Ends, factor: f64) -> Result<Vec<Value>, String> {
    if !(factor > 1.0 && factor.is_finite()) || ends.from <= 0.0 {
        return Err("with *FACTOR, the factor is above 1 and FROM above 0".to_string());
    }
    let mut values = Vec::new();
    let mut at = ends.from;
    // A little above the end: 0.1 three times is not 0.3.
    while at <= ends.to * (1.0 + 1e-9) && values.len() <= VALUES_MAX {
        values.push(ends.value(at));
        at *= factor;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        text.parse::<Vary>().unwrap().values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_has_so_many_steps_or_a_factor() {
        assert_eq!(said("policy.spares=0..64"), ["0", "16", "32", "48", "64"]);
        assert_eq!(said("policy.spares=0..64:3"), ["0", "32", "64"]);
        assert_eq!(said("a.b=10..90*3"), ["10", "30", "90"]);
        assert_eq!(said("a=0.1..0.8*2"), ["0.1", "0.2", "0.4", "0.8"]);
        assert_eq!(said("a.every=5m..4h*2"), ["5m", "10m", "20m", "40m", "1h 20m", "2h 40m"]);
        assert_eq!(said("a.every=0..2h:3"), ["0ms", "1h", "2h"]);
        assert_eq!(said("policy.queue=fifo,fair"), ["fifo", "fair"]);
        assert_eq!(said("a=1,20m,never"), ["1", "20m", "never"]);
    }

    #[test]
    fn what_is_no_range_is_told() {
        for (text, expected) in [
            ("spares", "KEY=FROM..TO"),
            ("=1..2", "KEY=FROM..TO"),
            ("a=2..1", "FROM is the smaller one"),
            ("a=1..2h", "not two numbers or two times"),
            ("a=1..9:1", "2 to 1000 steps"),
            ("a=1..9:x", "`x` is no number of steps"),
            ("a=0..9*2", "FROM above 0"),
            ("a=1..9*1", "the factor is above 1"),
        ] {
            let error = text.parse::<Vary>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn whole_numbers_stay_whole_in_a_file() {
        assert_eq!(Value::Number(3.0).toml(), toml::Value::Integer(3));
        assert_eq!(Value::Number(3.5).toml(), toml::Value::Float(3.5));
        assert_eq!(Value::Time(Millis(1500)).toml(), toml::Value::String("1500ms".into()));
    }
}
