//! One try to hand a message over.

use super::config::Webhook;
use super::sign::signature;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};

/// Of what a receiver says, so much is repeated to people.
const REASON_MAX: u64 = 200;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Taken {
        status: u16,
    },
    /// It may be taken later; not before so long, if the receiver said so.
    Later {
        reason: String,
        after: Option<Duration>,
    },
    /// It will never be taken.
    Refused {
        reason: String,
    },
}

/// Sends to one webhook; connections are kept.
#[derive(Clone)]
pub struct Poster {
    agent: ureq::Agent,
    webhook: Webhook,
}

impl std::fmt::Debug for Poster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poster").field("webhook", &self.webhook).finish_non_exhaustive()
    }
}

impl Poster {
    pub fn new(webhook: Webhook, timeout: Duration) -> Poster {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let mut config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // A signed message is for the address that a person has written down, and no other.
            .max_redirects(0)
            .user_agent(concat!("lindos/", env!("CARGO_PKG_VERSION")));
        if is_on_this_machine(&webhook.url) {
            config = config.proxy(None);
        }
        Poster { agent: config.build().into(), webhook }
    }

    /// Blocks for as long as the time-out at most.
    pub fn post(&self, id: &str, body: &[u8]) -> Answer {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let mut request = self
            .agent
            .post(&self.webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds.to_string());
        if let Some(secret) = &self.webhook.secret {
            request = request.header("webhook-signature", signature(secret, id, seconds, body));
        }
        match request.send(body) {
            Ok(mut response) => {
                let said = response.body_mut().with_config().limit(REASON_MAX).lossy_utf8(true);
                let said = said.read_to_string().unwrap_or_default();
                judge(response.status(), response.headers(), said.trim())
            }
            Err(error) => Answer::Later { reason: explained(&error), after: None },
        }
    }
}

fn is_on_this_machine(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn judge(status: StatusCode, headers: &HeaderMap, said: &str) -> Answer {
    let number = status.as_u16();
    if status.is_success() {
        return Answer::Taken { status: number };
    }
    let reason = match said {
        "" => status.to_string(),
        said => format!("{status}: {}", said.lines().next().unwrap_or_default()),
    };
    let is_passing = status.is_server_error() || matches!(number, 408 | 425 | 429);
    if !is_passing {
        return Answer::Refused { reason };
    }
    let after = headers.get("retry-after").and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    Answer::Later { reason, after }
}

/// Without the address, which may be a secret.
fn explained(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "it did not answer in time".into(),
        ureq::Error::HostNotFound => "its host is not known".into(),
        ureq::Error::ConnectionFailed => "it cannot be reached".into(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, retry_after: Option<&str>) -> Answer {
        let mut headers = HeaderMap::new();
        headers.extend(
            retry_after.map(|text| (ureq::http::header::RETRY_AFTER, text.parse().unwrap())),
        );
        judge(StatusCode::from_u16(status).unwrap(), &headers, "no_service")
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [200, 201, 204] {
            assert!(matches!(judged(status, None), Answer::Taken { .. }), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(matches!(judged(status, None), Answer::Later { after: None, .. }), "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 410] {
            let Answer::Refused { reason } = judged(status, None) else { panic!("{status}") };
            assert!(reason.ends_with(": no_service"), "{reason}");
        }
    }

    #[test]
    fn a_receiver_says_how_long_to_wait() {
        let after = |text| match judged(429, Some(text)) {
            Answer::Later { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("30"), Some(Duration::from_secs(30)));
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None, "backoff is long enough");
    }

    #[test]
    fn no_proxy_stands_before_this_machine() {
        for here in ["http://127.0.0.1:9/x", "http://localhost/", "http://[::1]:9/x"] {
            assert!(is_on_this_machine(here), "{here}");
        }
        assert!(!is_on_this_machine("https://hooks.example.com/127.0.0.1"));
    }
}
