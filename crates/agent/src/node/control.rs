//! HTTP to the control plane.

use crate::config::{Endpoint, ServerLocation};
use anyhow::{Context as _, bail};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A control plane that has not answered a report after this long is asked again.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the control plane was found last, and the way there.
#[derive(Debug)]
pub struct Control {
    client: reqwest::Client,
    location: ServerLocation,
    endpoint: Mutex<Option<Endpoint>>,
}

impl Control {
    pub fn new(location: ServerLocation) -> anyhow::Result<Control> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .build()?;
        Ok(Control { client, location, endpoint: Mutex::new(None) })
    }

    /// After a failure: look again where it is.
    pub fn forget_endpoint(&self) {
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let mut known = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(self.location.endpoint()?);
        }
        known.clone().context("no control plane")
    }

    pub async fn post<T: serde::Serialize>(
        &self,
        path: &str,
        body: &T,
    ) -> anyhow::Result<reqwest::Response> {
        let endpoint = self.endpoint()?;
        let request = self
            .client
            .post(format!("{}{path}", endpoint.url.trim_end_matches('/')))
            .timeout(ANSWER_TIMEOUT)
            .json(body);
        send(request, &endpoint).await
    }

    /// A stream: no limit to how long it may last.
    pub async fn get(&self, path_and_query: &str) -> anyhow::Result<reqwest::Response> {
        let endpoint = self.endpoint()?;
        let url = format!("{}{path_and_query}", endpoint.url.trim_end_matches('/'));
        let answer = send(self.client.get(url), &endpoint);
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.context("no answer")?
    }
}

async fn send(
    request: reqwest::RequestBuilder,
    endpoint: &Endpoint,
) -> anyhow::Result<reqwest::Response> {
    let response = request.bearer_auth(&endpoint.token).send().await?;
    if !response.status().is_success() {
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        let said: String = body.chars().take(200).collect();
        bail!("the control plane answered {status}: {said}");
    }
    Ok(response)
}

/// For a query: everything but letters, digits and a few signs as `%XX`.
pub fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Waits between tries: twice as long each time, up to a second.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure, and whether it is the first in a row.
    pub fn next(&mut self) -> (Duration, bool) {
        let first = self.failures == 0;
        let wait = Duration::from_millis((50 << self.failures.min(5)).min(1000));
        self.failures += 1;
        (wait, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.next().0.as_millis() as u64).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(), (Duration::from_millis(50), true));
    }

    #[test]
    fn a_name_fits_a_query() {
        assert_eq!(percent_encoded("n-1.a b&c/é"), "n-1.a%20b%26c%2F%C3%A9");
    }
}
