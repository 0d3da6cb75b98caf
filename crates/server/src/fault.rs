//! Answers that are not a success: a status and an [`ApiError`].

use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use lindos_api::user::ApiError;
use lindos_core::effect::Rejection;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) error: ApiError,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Fault {
        let error = ApiError { code: code.to_string(), message: message.into(), hint: None };
        Fault { status, error }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.error.hint = Some(hint.into());
        self
    }

    pub(crate) fn unauthorized() -> Fault {
        Fault::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or wrong")
            .hint("send `Authorization: Bearer TOKEN` with the token in STATE/server.json")
    }

    pub(crate) fn no_such_job(job: impl std::fmt::Display) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, "no_such_job", format!("there is no job {job}"))
            .hint("`lindos jobs` lists the jobs; the oldest finished ones are forgotten")
    }

    pub(crate) fn no_such_node(name: &str) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, "no_such_node", format!("there is no node `{name}`"))
            .hint("`lindos nodes` lists the nodes")
    }

    pub(crate) fn invalid_job(key: &str, message: &str) -> Fault {
        let message = format!("{key}: {message}");
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_job", message)
    }

    pub(crate) fn invalid_reservation(key: &str, message: &str) -> Fault {
        let message = format!("{key}: {message}");
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_reservation", message)
    }

    pub(crate) fn bad_request(code: &str, message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Nothing was changed; the same request may be sent again.
    pub(crate) fn unavailable(code: &str, message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    pub(crate) fn busy() -> Fault {
        Fault::unavailable("busy", "too many requests are waiting").hint("try again in a second")
    }

    pub(crate) fn stopping() -> Fault {
        Fault::unavailable("stopping", "the control plane is stopping; running jobs go on")
    }
}

impl From<&Rejection> for Fault {
    fn from(rejection: &Rejection) -> Fault {
        match rejection {
            Rejection::InvalidJob { key, message } => Fault::invalid_job(key, message),
            Rejection::NoSuchJob { job } => Fault::no_such_job(job),
            Rejection::JobIsOver { job, state } => {
                let message = format!("job {job} is over: it is {state}");
                Fault::new(StatusCode::CONFLICT, "job_is_over", message)
            }
            Rejection::NoSuchNode { node } => Fault::no_such_node(&node.to_string()),
            Rejection::InvalidReservation { key, message } => {
                Fault::invalid_reservation(key, message)
            }
            Rejection::NotInRepair { .. } => {
                Fault::new(StatusCode::CONFLICT, "not_in_repair", "the node is not out for repair")
                    .hint("`lindos repairs` lists those that are")
            }
            Rejection::StillInUse { .. } => {
                Fault::new(StatusCode::CONFLICT, "still_in_use", "jobs have not left the node yet")
                    .hint("`lindos why NODE` tells which; `release` takes it back as it is")
            }
            Rejection::NoSuchReservation { name } => Fault::new(
                StatusCode::NOT_FOUND,
                "no_such_reservation",
                format!("there is no reservation `{name}`"),
            )
            .hint("`lindos reservations` lists those that are not over"),
        }
    }
}

impl From<&lindos_journal::Error> for Fault {
    fn from(error: &lindos_journal::Error) -> Fault {
        let text = error.to_string();
        let (message, hint) = text.split_once("\n  hint: ").unwrap_or((&text, ""));
        let fault = match error {
            lindos_journal::Error::DiskFull { .. } => Fault::unavailable("disk_full", message),
            lindos_journal::Error::PayloadTooLarge { .. } => {
                Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
            }
            _ => Fault::unavailable("journal_failed", message),
        };
        if hint.is_empty() { fault } else { fault.hint(hint) }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.error)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
