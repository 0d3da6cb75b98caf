//! The file of alerts: which webhooks there are, and what each wants to hear.
//!
//! It is no part of the policy, which is journalled: secrets never reach the journal. They are
//! read from files or from the environment, and so is an address that is one.

use super::alert::{Alert, Grade, Kind};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lindos_model::Millis;
use lindos_model::file::{FileError, Source};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Each has a task of its own, which reads the whole trail.
const WEBHOOKS_MAX: usize = 16;
const NAME_MAX: usize = 40;
/// Shorter secrets are guessed.
const SECRET_MIN: usize = 16;

/// When a message is complete, and how long what it told of is not told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A message is complete when nothing has joined it for this long …
    pub window: Millis,
    /// … and at the latest this long after it began.
    pub hold: Millis,
    pub repeat: Millis,
    /// A recovery that takes longer is told of.
    pub recovery_slow: Millis,
}

/// How a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For one try.
    pub timeout: Duration,
    /// A message is tried again and again for this long.
    pub give_up: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub min_severity: Grade,
    pub kinds: BTreeSet<Kind>,
}

impl Filter {
    pub fn takes(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Warnings are collected even for a webhook that wants none: many of them in one place are
    /// more than a warning.
    pub fn passes(&self, alert: &Alert) -> bool {
        self.is_grave_enough(alert) && self.takes(alert.kind)
    }

    /// Whether it was taken for its own sake, and not as a part of the story of another.
    pub fn may_lead(&self, alert: &Alert) -> bool {
        alert.is_over() || self.is_grave_enough(alert)
    }

    fn is_grave_enough(&self, alert: &Alert) -> bool {
        alert.grade >= self.min_severity.min(Grade::Warning)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Slack,
    Json,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Slack => "slack",
            Format::Json => "json",
        }
    }
}

/// What deliveries are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    pub name: String,
    pub url: String,
    pub format: Format,
    pub secret: Option<Secret>,
    pub filter: Filter,
}

impl fmt::Debug for Webhook {
    /// Without the address: of Slack's, whoever knows it may write there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    pub rules: Rules,
    pub patience: Patience,
    pub webhooks: Vec<Webhook>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    window_ms: u64,
    hold_ms: u64,
    repeat_ms: u64,
    recovery_slow_ms: u64,
    timeout_ms: u64,
    give_up_ms: u64,
    webhooks: Vec<WrittenWebhook>,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            window_ms: 10_000,
            hold_ms: 60_000,
            repeat_ms: 10 * 60_000,
            recovery_slow_ms: 5 * 60_000,
            timeout_ms: 10_000,
            give_up_ms: 3_600_000,
            webhooks: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWebhook {
    name: String,
    url: Option<String>,
    url_file: Option<String>,
    url_env: Option<String>,
    format: Format,
    secret_file: Option<String>,
    secret_env: Option<String>,
    min_severity: Option<Grade>,
    kinds: Option<BTreeSet<Kind>>,
}

/// What is wrong with one webhook, and what to do about it.
type Wrong = (String, Option<String>);

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err((message.into(), Some(hint.into())))
}

impl Alerts {
    /// Reads the file at `path`, and the secrets that it names.
    pub fn load(path: &Path) -> Result<Alerts, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError {
            path: path.to_path_buf(),
            place: None,
            message: error.to_string(),
            hint: Some("the keys of this file: docs/alerts.md".into()),
        })?;
        Alerts::parse(path, &text, |name| std::env::var(name).ok())
    }

    /// `environment` has what the variables are set to.
    fn parse(
        path: &Path,
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Alerts, FileError> {
        let source = Source { path, text };
        let written: Written = source.parse()?;
        let spans = [
            ("window_ms", written.window_ms),
            ("repeat_ms", written.repeat_ms),
            ("recovery_slow_ms", written.recovery_slow_ms),
            ("timeout_ms", written.timeout_ms),
            ("give_up_ms", written.give_up_ms),
        ];
        if let Some((key, _)) = spans.iter().find(|(_, ms)| *ms == 0) {
            return Err(source.error_at_key(
                key,
                format!("{key}: it must be longer than zero"),
                None,
            ));
        }
        if written.hold_ms < written.window_ms {
            let message = "hold_ms: it may not be shorter than window_ms";
            return Err(source.error_at_key("hold_ms", message, None));
        }
        let count = written.webhooks.len();
        if count == 0 || count > WEBHOOKS_MAX {
            let message = format!("webhooks: there are {count}, and must be 1 to {WEBHOOKS_MAX}");
            let hint = "a webhook is a table [[webhooks]] with name, url and format".to_string();
            return Err(source.error_at_key("webhooks", message, Some(hint)));
        }
        let mut webhooks: Vec<Webhook> = Vec::new();
        for (index, one) in written.webhooks.into_iter().enumerate() {
            let is_twice = webhooks.iter().any(|other| other.name == one.name);
            let name = one.name.clone();
            let made = if is_twice {
                wrong("this name is taken", "give each webhook a name of its own")
            } else {
                webhook(one, &environment)
            };
            webhooks.push(made.map_err(|(message, hint)| {
                let message = format!("webhooks: `{name}`: {message}");
                source.error_at_entry("webhooks", Some(index), message, hint)
            })?);
        }
        Ok(Alerts {
            rules: Rules {
                window: Millis(written.window_ms),
                hold: Millis(written.hold_ms),
                repeat: Millis(written.repeat_ms),
                recovery_slow: Millis(written.recovery_slow_ms),
            },
            patience: Patience {
                timeout: Duration::from_millis(written.timeout_ms),
                give_up: Duration::from_millis(written.give_up_ms),
            },
            webhooks,
        })
    }
}

fn webhook(
    written: WrittenWebhook,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Webhook, Wrong> {
    let WrittenWebhook { name, format, kinds, min_severity, .. } = written;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_plain) {
        return wrong(
            format!("a name has 1 to {NAME_MAX} letters, digits, `-` and `_`"),
            "it is the name of a file in the state folder, and a label in the metrics",
        );
    }
    if kinds.as_ref().is_some_and(BTreeSet::is_empty) {
        return wrong("kinds: none", "leave the key out for all kinds");
    }
    let given = match (written.url, written.url_file, written.url_env) {
        (Some(url), None, None) => url,
        (None, Some(file), None) => file_of(&file)?,
        (None, None, Some(variable)) => variable_of(&variable, environment)?,
        _ => {
            return wrong(
                "it needs one of url, url_file and url_env",
                "an address that is a secret, as Slack's, is better in a file or a variable",
            );
        }
    };
    let url = checked_url(given)?;
    let secret = match (written.secret_file, written.secret_env) {
        (None, None) if format == Format::Json => {
            return wrong(
                "it has no secret",
                "give secret_file or secret_env, so that the receiver can tell who writes",
            );
        }
        (None, None) => None,
        (Some(file), None) => Some(secret_of(&file_of(&file)?)?),
        (None, Some(variable)) => Some(secret_of(&variable_of(&variable, environment)?)?),
        (Some(_), Some(_)) => {
            return wrong("it has both secret_file and secret_env", "leave one of them out");
        }
    };
    let filter = Filter {
        min_severity: min_severity.unwrap_or(Grade::Warning),
        kinds: kinds.unwrap_or_else(|| Kind::ALL.into()),
    };
    Ok(Webhook { name, url, format, secret, filter })
}

fn file_of(path: &str) -> Result<String, Wrong> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_string()),
        Err(error) => wrong(
            format!("{path}: {error}"),
            "the file must be readable by whoever runs the control plane",
        ),
    }
}

fn variable_of(name: &str, environment: &impl Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    match environment(name) {
        Some(value) => Ok(value.trim().to_string()),
        None => wrong(
            format!("the environment variable {name} is not set"),
            "set it for the control plane, and for `lindos alerts test`",
        ),
    }
}

/// The message never has the address: it may have come from a secret file.
fn checked_url(url: String) -> Result<String, Wrong> {
    let uri = url.parse::<ureq::http::Uri>().ok();
    let is_good = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some()
    });
    if is_good { Ok(url) } else { wrong("its url is no address", "https://HOST/PATH") }
}

fn secret_of(text: &str) -> Result<Secret, Wrong> {
    let bytes = match text.strip_prefix("whsec_") {
        Some(encoded) => BASE64_STANDARD.decode(encoded).map_err(|error| {
            let hint = "`echo whsec_$(openssl rand -base64 32)` makes a good one".to_string();
            (format!("what follows whsec_ in its secret is no base64: {error}"), Some(hint))
        })?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET_MIN {
        return wrong(
            format!("its secret has {} bytes, and needs {SECRET_MIN}", bytes.len()),
            "`echo whsec_$(openssl rand -base64 32)` makes a good one",
        );
    }
    Ok(Secret(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Alerts, String> {
        let environment = |name: &str| match name {
            "SECRET" => Some("0123456789abcdef\n".to_string()),
            "SHORT" => Some("short".to_string()),
            "BROKEN" => Some("whsec_!".to_string()),
            _ => None,
        };
        Alerts::parse(Path::new("alerts.toml"), text, environment).map_err(|e| e.to_string())
    }

    const GOOD: &str = "[[webhooks]]\nname = \"oncall\"\nurl = \"http://127.0.0.1:1/x\"\n\
                        format = \"json\"\nsecret_env = \"SECRET\"\n";

    #[test]
    fn a_webhook_hears_all_kinds_from_warnings_up_unless_it_says_otherwise() {
        let alerts = parse(GOOD).unwrap();
        let [webhook] = &alerts.webhooks[..] else { panic!("one") };
        assert_eq!(webhook.filter.min_severity, Grade::Warning);
        assert_eq!(webhook.filter.kinds.len(), Kind::ALL.len());
        assert_eq!(webhook.secret, Some(Secret(b"0123456789abcdef".to_vec())));
        assert_eq!((alerts.rules.window, alerts.rules.hold), (Millis(10_000), Millis(60_000)));
        let text = format!("{GOOD}min_severity = \"critical\"\nkinds = [\"node_out\"]\n");
        let filter = parse(&text).unwrap().webhooks.remove(0).filter;
        assert_eq!(filter, Filter { min_severity: Grade::Critical, kinds: [Kind::NodeOut].into() });
    }

    #[test]
    fn what_makes_no_sense_is_shown_where_it_stands() {
        insta::assert_snapshot!(parse(&format!("{GOOD}min_severty = \"info\"")).unwrap_err(), @r#"
        alerts.toml:6:1: unknown field `min_severty`, expected one of `name`, `url`, `url_file`, `url_env`, `format`, `secret_file`, `secret_env`, `min_severity`, `kinds`
          |
        6 | min_severty = "info"
          | ^^^^^^^^^^^
        hint: did you mean `min_severity`?
        "#);
        insta::assert_snapshot!(parse(&format!("{GOOD}kinds = [\"node_slient\"]")).unwrap_err(), @r#"
        alerts.toml:6:10: unknown variant `node_slient`, expected one of `node_silent`, `person_wanted`, `node_kept_in`, `breaker_opened`, `node_out`, `finding`, `blamed`, `repair`, `node_back`, `job_failed`, `job_hung`, `job_fault`, `recovery_slow`, `job_resumed`, `job_moved`, `control_plane`
          |
        6 | kinds = ["node_slient"]
          |          ^^^^^^^^^^^^^
        hint: did you mean `node_silent`?
        "#);
        insta::assert_snapshot!(parse(&GOOD.replace("SECRET", "ABSENT")).unwrap_err(), @r#"
        alerts.toml:2:8: webhooks: `oncall`: the environment variable ABSENT is not set
          |
        2 | name = "oncall"
          |        ^^^^^^^^
        hint: set it for the control plane, and for `lindos alerts test`
        "#);
    }

    #[test]
    fn nonsense_is_refused_with_a_hint_and_without_the_secret() {
        let cases = [
            (String::new(), "webhooks: there are 0"),
            (format!("window_ms = 0\n{GOOD}"), "window_ms: it must be longer"),
            (format!("hold_ms = 5\n{GOOD}"), "hold_ms: it may not be shorter"),
            (format!("{GOOD}{GOOD}"), "this name is taken"),
            (GOOD.replace("oncall", "on/call"), "a name has 1 to 40"),
            (GOOD.replace("url =", "url_file ="), "No such file"),
            (GOOD.replace("http:", "ftp:"), "its url is no address"),
            (GOOD.replace("http://127.0.0.1:1/x", "nonsense here"), "its url is no address"),
            (format!("{GOOD}url_env = \"SECRET\"\n"), "one of url, url_file"),
            (format!("{GOOD}secret_file = \"x\"\n"), "both secret_file and secret_env"),
            (format!("{GOOD}kinds = []\n"), "kinds: none"),
            (GOOD.replace("secret_env = \"SECRET\"\n", ""), "it has no secret"),
            (GOOD.replace("SECRET", "SHORT"), "has 5 bytes, and needs 16"),
            (GOOD.replace("SECRET", "BROKEN"), "no base64"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
            assert!(!error.contains("short\n") && !error.contains("whsec_!"), "{error}");
        }
        let slack = GOOD.replace("json", "slack").replace("secret_env = \"SECRET\"\n", "");
        let webhook = parse(&slack).unwrap().webhooks.remove(0);
        assert!(webhook.secret.is_none());
        assert!(!format!("{webhook:?}").contains("127.0.0.1"), "a log must not tell it");
    }
}
