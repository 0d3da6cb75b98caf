//! What a rank says of itself: messages on its socket, or lines of its output.

use crate::plan::Reading;
use lindos_api::agent::CheckpointNote;
use lindos_model::Waited;
use regex::bytes::Regex;
use serde_json::Value;

/// Longer messages are ignored.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;
const PATH_BYTES_MAX: usize = 4096;
/// Longer lines are looked at in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;
/// A year: whoever claims to have blocked or waited longer has miscounted.
const SECONDS_MAX: f64 = 366.0 * 86400.0;

/// Applies one message. `false`: it made no sense, and nothing was changed.
pub fn apply_message(message: &[u8], reading: &mut Reading) -> bool {
    if message.len() > MESSAGE_BYTES_MAX {
        return false;
    }
    let parsed = serde_json::from_slice(message)
        .or_else(|_| serde_json::from_slice(&without_nan(message)))
        .ok();
    let Some(Value::Object(fields)) = parsed else { return false };
    let step = fields.get("step").and_then(whole);
    let checkpoint = fields.get("checkpoint").and_then(checkpoint);
    if fields.get("stand_by") == Some(&Value::Bool(true)) {
        reading.stands_by = true;
        return true;
    }
    if step.is_none() && checkpoint.is_none() {
        return false;
    }
    if let Some(step) = step {
        reading.step = Some(step);
        let loss = fields.get("loss");
        reading.take_loss(step, loss.and_then(Value::as_f64).or_else(|| loss.and_then(no_number)));
        let newer = |name, old| fields.get(name).and_then(whole).or(old);
        reading.tokens = newer("tokens", reading.tokens);
        reading.total_steps = newer("total_steps", reading.total_steps);
        if let Some(ms) = fields.get("waited").and_then(millis) {
            reading.waited = Some(Waited { step, ms });
        }
    }
    if let Some((note, blocked_ms)) = checkpoint {
        reading.checkpoint = Some(note);
        reading.checkpoint_blocked_ms = reading.checkpoint_blocked_ms.saturating_add(blocked_ms);
    }
    true
}

fn checkpoint(value: &Value) -> Option<(CheckpointNote, u64)> {
    let step = value.get("step").and_then(whole)?;
    let path = value.get("path").and_then(Value::as_str).unwrap_or_default();
    if path.len() > PATH_BYTES_MAX {
        return None;
    }
    let blocked_ms = value.get("seconds").and_then(millis).unwrap_or(0);
    Some((CheckpointNote { step, path: path.to_string() }, blocked_ms))
}

/// Of seconds.
fn millis(value: &Value) -> Option<u64> {
    let seconds = value.as_f64()?;
    Some((seconds.clamp(0.0, SECONDS_MAX) * 1000.0).round() as u64)
}

/// A count; also `1200.0`, which is how some frameworks hold one.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as u64)
    })
}

/// A loss that is told as a word: `null` is one that is not told.
fn no_number(loss: &Value) -> Option<f64> {
    loss.as_str()?.trim().parse().ok().filter(|loss: &f64| !loss.is_finite())
}

impl Reading {
    fn take_loss(&mut self, step: u64, loss: Option<f64>) {
        self.loss = loss.filter(|loss| loss.is_finite());
        match loss {
            Some(loss) if loss.is_finite() => self.loss_broken_from = None,
            // Steps may begin anew, from a checkpoint that the program itself has loaded.
            Some(_) => {
                let since = self.loss_broken_from.filter(|since| *since <= step);
                self.loss_broken_from = since.or(Some(step));
            }
            None => {}
        }
    }
}

/// Python's `json.dumps` writes `NaN` and `Infinity`, which are no JSON: as a string in their place.
fn without_nan(message: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(message.len());
    let mut rest = message;
    let mut in_string = false;
    while let Some(&byte) = rest.first() {
        if !in_string {
            let word = [&b"-Infinity"[..], b"Infinity", b"NaN"]
                .into_iter()
                .find(|word| rest.starts_with(word));
            if let Some(word) = word {
                clean.extend_from_slice(b"\"NaN\"");
                rest = &rest[word.len()..];
                continue;
            }
        }
        let mut length = 1;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => length = rest.len().min(2),
            _ => {}
        }
        clean.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
    }
    clean
}

/// Finds progress in a rank's output, line by line.
#[derive(Debug)]
pub struct OutputScanner {
    pattern: Regex,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl OutputScanner {
    /// `None` for a pattern that does not compile: the control plane has checked it, but the
    /// ranks are not to suffer if it knew a newer syntax.
    pub fn new(pattern: &str) -> Option<OutputScanner> {
        Regex::new(pattern).ok().map(|pattern| OutputScanner { pattern, partial: Vec::new() })
    }

    /// Takes the last line of `output` that fits; progress bars end theirs with a carriage
    /// return. Returns whether there was one.
    pub fn scan(&mut self, output: &[u8], reading: &mut Reading) -> bool {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let Some(last_end) = output.iter().rposition(is_end) else {
            self.keep(output);
            return false;
        };
        let mut complete = std::mem::take(&mut self.partial);
        complete.extend_from_slice(&output[..last_end]);
        self.keep(&output[last_end + 1..]);
        let fits = complete.rsplit(is_end).find_map(|line| self.read_line(line));
        let Some((step, loss)) = fits else { return false };
        reading.step = Some(step);
        reading.take_loss(step, loss);
        true
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let surplus = self.partial.len().saturating_sub(LINE_BYTES_MAX);
        self.partial.drain(..surplus);
    }

    fn read_line(&self, line: &[u8]) -> Option<(u64, Option<f64>)> {
        let captures = self.pattern.captures(line)?;
        let text =
            |name| captures.name(name).and_then(|found| str::from_utf8(found.as_bytes()).ok());
        // "1,200" and "1_200" are how people print large steps.
        let step = text("step")?.trim().replace([',', '_'], "").parse().ok()?;
        let loss = text("loss").and_then(|text| text.trim().parse::<f64>().ok());
        Some((step, loss))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(messages: &[&str]) -> (Reading, Vec<bool>) {
        let mut reading = Reading::default();
        let taken = messages.iter().map(|it| apply_message(it.as_bytes(), &mut reading)).collect();
        (reading, taken)
    }

    #[test]
    fn what_was_waited_stands_with_the_step_that_told_it() {
        let (reading, taken) = apply(&[
            r#"{"step":7,"waited":1.2345}"#,
            r#"{"step":8,"waited":null}"#,
            r#"{"step":9,"waited":"long"}"#,
            r#"{"waited":100.0}"#,
        ]);
        assert_eq!(taken, [true, true, true, false]);
        assert_eq!((reading.step, reading.waited), (Some(9), Some(Waited { step: 7, ms: 1235 })));
        let (reading, _) = apply(&[r#"{"step":7,"waited":-3}"#]);
        assert_eq!(reading.waited, Some(Waited { step: 7, ms: 0 }));
    }

    #[test]
    fn the_newest_message_counts_and_checkpoints_add_up() {
        let (reading, taken) = apply(&[
            r#"{"step":1,"loss":3.5,"tokens":10,"total_steps":100}"#,
            r#"{"checkpoint":{"step":1,"path":"/a","seconds":0.4}}"#,
            r#"{"checkpoint":{"step":2,"path":"/b","seconds":0.1}}"#,
            r#"{"step":2.0,"loss":2.5,"something":"new"}"#,
        ]);
        assert_eq!(taken, [true; 4]);
        let expected = Reading {
            step: Some(2),
            loss: Some(2.5),
            tokens: Some(10),
            total_steps: Some(100),
            checkpoint: Some(CheckpointNote { step: 2, path: "/b".into() }),
            checkpoint_blocked_ms: 500,
            loss_broken_from: None,
            stands_by: false,
            waited: None,
        };
        assert_eq!(reading, expected);
    }

    #[test]
    fn a_loss_that_is_no_number_is_no_loss() {
        for loss in ["NaN", "null", "Infinity", "-Infinity", "\"NaN\"", "1e999"] {
            let message = format!(r#"{{"step":5,"note":"a \"NaN\" b","loss":{loss}}}"#);
            let (reading, taken) = apply(&[&message]);
            // serde_json refuses 1e999 as a whole.
            if loss != "1e999" {
                assert_eq!((taken[0], reading.step, reading.loss), (true, Some(5), None), "{loss}");
                let is_told = loss != "null";
                assert_eq!(reading.loss_broken_from, is_told.then_some(5), "{loss}");
            }
        }
    }

    #[test]
    fn a_loss_is_broken_from_the_first_that_is_no_number_until_one_is() {
        let told = |messages: &[&str]| apply(messages).0.loss_broken_from;
        let (nan, later) = (r#"{"step":5,"loss":NaN}"#, r#"{"step":9,"loss":Infinity}"#);
        let silent = r#"{"step":8}"#;
        assert_eq!(told(&[nan, silent, later]), Some(5));
        assert_eq!(told(&[nan, r#"{"step":6,"loss":2.5}"#, later]), Some(9));
        assert_eq!(told(&[later, nan]), Some(5), "it began anew");
        assert_eq!(told(&[r#"{"step":5,"loss":null,"grad":NaN}"#]), None);
    }

    #[test]
    fn nonsense_changes_nothing() {
        let huge = format!(r#"{{"step":1,"x":"{}"}}"#, "y".repeat(MESSAGE_BYTES_MAX));
        let (reading, taken) = apply(&[
            "",
            "{",
            "7",
            "[]",
            "{}",
            r#"{"step":-1}"#,
            r#"{"step":"7"}"#,
            r#"{"step":1.5}"#,
            r#"{"checkpoint":7}"#,
            &huge,
        ]);
        assert_eq!(taken, [false; 10]);
        assert_eq!(reading, Reading::default());
    }

    #[test]
    fn the_last_line_that_fits_counts() {
        let mut scanner =
            OutputScanner::new(r"step (?<step>[\d,_]+)(: loss (?<loss>\S+))?").unwrap();
        let mut reading = Reading::default();
        assert!(!scanner.scan(b"starting\nste", &mut reading));
        assert!(scanner.scan(b"p 1: loss 2.5\nstep 2: loss 1.5\nother\nstep 9", &mut reading));
        assert_eq!((reading.step, reading.loss), (Some(2), Some(1.5)));
        assert!(scanner.scan(b"9,000: loss nan\r", &mut reading));
        assert_eq!((reading.step, reading.loss), (Some(99_000), None));
        assert_eq!(reading.loss_broken_from, Some(99_000));
        assert!(!scanner.scan(&vec![b'x'; 3 * LINE_BYTES_MAX], &mut reading));
        assert!(scanner.scan(b"step 5\n", &mut reading));
        assert_eq!(reading.step, Some(5));
    }

    proptest! {
        #[test]
        fn no_message_makes_us_fall(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reading = Reading::default();
            apply_message(&message, &mut reading);
            let mut scanner = OutputScanner::new("(?<step>[0-9]+)").unwrap();
            scanner.scan(&message, &mut reading);
        }
    }
}
