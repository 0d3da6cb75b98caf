//! What a request must look like. A key that nobody knows is an error: it is a slip of the
//! finger, or meant for another version.

use crate::fault::Fault;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use lindos_model::file::nearest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// Of a person's request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Of an agent's: all ranks of all jobs of a node, or a piece of a log.
const AGENT_BODY_BYTES_MAX: usize = 64 << 20;
/// A body that does not come holds a connection for no longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A person's JSON: small, and without keys that are not known.
pub(super) struct StrictJson<T>(pub(super) T);

/// An agent's JSON: unknown keys are of another version, and ignored.
pub(super) struct AgentJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Serialize> FromRequest<S> for StrictJson<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let bytes = body(request, BODY_BYTES_MAX).await?;
        let value: T = parse(&bytes)?;
        refuse_unknown_keys(&bytes, &value)?;
        Ok(StrictJson(value))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for AgentJson<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        parse(&body(request, AGENT_BODY_BYTES_MAX).await?).map(AgentJson)
    }
}

async fn body(request: Request, bytes_max: usize) -> Result<Bytes, Fault> {
    let too_large = || {
        let message = format!("the body is longer than {bytes_max} bytes");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    };
    let declared = request.headers().get(axum::http::header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let reading = axum::body::to_bytes(request.into_body(), bytes_max);
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            use std::error::Error as _;
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            if cause.contains("length limit") {
                Err(too_large())
            } else {
                Err(Fault::bad_request("broken_body", format!("the body broke off: {error}")))
            }
        }
        Err(_) => {
            let message = "the body did not come in time";
            Err(Fault::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message))
        }
    }
}

/// What is not JSON is a bad request; JSON of a wrong shape is told with its place.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    // Nothing at all stands for an object without keys.
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let message =
                if place == "." { inner.to_string() } else { format!("{place}: {inner}") };
            Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", message)
        } else {
            not_json(&inner)
        }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Fault {
    Fault::bad_request("not_json", format!("the body is not JSON: {error}"))
}

/// Every key of the text must be one that the value, written out again, has too. This finds
/// those inside types that agents read as well, and that must therefore not refuse them.
fn refuse_unknown_keys(bytes: &[u8], value: &impl Serialize) -> Result<(), Fault> {
    let given: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let known = serde_json::to_value(value).unwrap_or(Value::Null);
    let Some((place, hint)) = unknown_key(&given, &known) else { return Ok(()) };
    let message = format!("unknown key `{place}`");
    let fault = Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_key", message);
    Err(match hint {
        Some(hint) => fault.hint(format!("did you mean `{hint}`?")),
        None => fault,
    })
}

/// The first unknown key, with the path to it, and the known one that it is nearest to.
fn unknown_key(given: &Value, known: &Value) -> Option<(String, Option<String>)> {
    let below = |key: &str, given, known| {
        unknown_key(given, known).map(|(place, hint)| (format!("{key}.{place}"), hint))
    };
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            if let Some(inner) = known.get(key) {
                return below(key, value, inner);
            }
            let hint = nearest(key, known.keys().map(String::as_str));
            Some((key.clone(), hint.map(str::to_string)))
        }),
        (Value::Array(given), Value::Array(known)) => given
            .iter()
            .zip(known)
            .enumerate()
            .find_map(|(index, (value, inner))| below(&index.to_string(), value, inner)),
        _ => None,
    }
}

/// The query, with unknown keys refused by the type.
pub(super) struct StrictQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let query = Query::from_request_parts(parts, state).await;
        let fault = |error: axum::extract::rejection::QueryRejection| {
            let text = error.body_text();
            let message =
                text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Fault::bad_request("invalid_query", message)
        };
        query.map(|Query(query)| StrictQuery(query)).map_err(fault)
    }
}

/// The number of a job in the path. One that is no number is no job.
pub(super) struct JobPath(pub(super) lindos_model::JobId);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Fault::bad_request("invalid_path", error.body_text()))?;
        text.parse().map(JobPath).map_err(|_| Fault::no_such_job(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_api::user::SubmitRequest;
    use lindos_model::job;

    fn check(change: impl FnOnce(&mut Value)) -> Result<SubmitRequest, Fault> {
        let request = SubmitRequest { request: None, user: None, spec: job::sample("a", 1, 1) };
        let mut value = serde_json::to_value(request).unwrap();
        change(&mut value);
        let bytes = serde_json::to_vec(&value).unwrap();
        let parsed = parse(&bytes)?;
        refuse_unknown_keys(&bytes, &parsed)?;
        Ok(parsed)
    }

    #[test]
    fn a_wrong_body_is_told_with_its_place() {
        assert!(check(|_| {}).is_ok());
        let fault = check(|value| value["spec"]["nodse"] = 1.into()).unwrap_err();
        assert_eq!(fault.error.message, "unknown key `spec.nodse`");
        assert_eq!(fault.error.hint.as_deref(), Some("did you mean `nodes`?"));

        let fault = check(|value| value["spec"]["nodes"] = "two".into()).unwrap_err();
        assert_eq!(fault.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(fault.error.message.starts_with("spec.nodes: invalid type: string"), "{fault:?}");

        let fault = check(|value| value["sepc"] = 1.into()).unwrap_err();
        assert!(fault.error.message.contains("unknown field `sepc`"), "{fault:?}");

        check(|value| value["spec"]["env"]["ANY"] = "x".into()).expect("a map takes any key");
    }

    #[test]
    fn what_is_not_json_is_a_bad_request() {
        for text in ["{", "{} {}", "nonsense"] {
            let fault = parse::<Value>(text.as_bytes()).unwrap_err();
            assert_eq!(fault.status, StatusCode::BAD_REQUEST, "{text}");
        }
        assert_eq!(parse::<Value>(b"").unwrap(), serde_json::json!({}));
    }
}
