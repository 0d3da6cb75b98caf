//! A message as the receiver wants it: JSON of our own, or Slack's.

use super::alert::Grade;
use super::config::Format;
use super::message::Message;
use serde::Serialize;
use serde_json::{Value, json};

/// Slack refuses sections of more than 3000 characters.
const SECTION_MAX: usize = 2_800;

/// What was given up before this message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    pub messages: u64,
    pub events: u64,
}

/// The bytes that are sent and signed.
pub fn body(format: Format, message: &Message, id: &str, lost: Lost) -> Vec<u8> {
    let value = match format {
        Format::Json => plain(message, id, lost),
        Format::Slack => slack(message, lost),
    };
    value.to_string().into_bytes()
}

fn plain(message: &Message, id: &str, lost: Lost) -> Value {
    let mut value = serde_json::to_value(message).expect("a message is plain data");
    value["id"] = id.into();
    value["text"] = first_line(message).into();
    if lost != Lost::default() {
        value["given_up_before"] = json!(lost);
    }
    value
}

/// The word in front is for whoever sees nothing else.
pub fn first_line(message: &Message) -> String {
    let word = if message.over { "RESOLVED" } else { word(message.severity) };
    format!("{word}: {}", message.title)
}

fn word(severity: Grade) -> &'static str {
    match severity {
        Grade::Critical => "CRITICAL",
        Grade::Warning => "WARNING",
        Grade::Info => "INFO",
    }
}

fn slack(message: &Message, lost: Lost) -> Value {
    let mark = match message.severity {
        _ if message.over => ":large_green_circle:",
        Grade::Critical => ":red_circle:",
        Grade::Warning => ":large_orange_circle:",
        Grade::Info => ":information_source:",
    };
    let title = escaped(&first_line(message));
    let mut blocks = vec![section(&format!("{mark} *{title}*\n{}", escaped(&message.advice)))];
    if message.count > 1 {
        let mut lines: Vec<String> =
            message.events.iter().map(|line| format!("• {}", escaped(&line.text))).collect();
        let more = message.count.saturating_sub(lines.len());
        if more > 0 {
            lines.push(format!("… and {more} more: `lindos events`"));
        }
        blocks.push(section(&lines.join("\n")));
    }
    let lost = match lost {
        Lost { messages: 0, .. } => String::new(),
        Lost { messages, events } => format!(
            " · {messages} earlier messages ({events} events) could not be delivered: `lindos \
             events` has them"
        ),
    };
    let small = when(message) + &lost;
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": small}]}));
    json!({"text": title, "blocks": blocks})
}

/// In the reader's own time zone: Slack puts it in.
fn when(message: &Message) -> String {
    let date = |ms: u64| {
        let seconds = ms / 1000;
        format!("<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{seconds} s since 1970>")
    };
    let (first, last) = (message.first.0, message.last.0);
    if first / 1000 == last / 1000 {
        date(first)
    } else {
        format!("{} to {}", date(first), date(last))
    }
}

fn section(text: &str) -> Value {
    let cut: String = text.chars().take(SECTION_MAX).collect();
    json!({"type": "section", "text": {"type": "mrkdwn", "text": cut}})
}

/// The three characters that Slack gives a meaning to.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
