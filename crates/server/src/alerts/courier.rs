//! Hands one message over, however many tries it takes, within a bound.

use super::body::{Lost, body};
use super::config::{Format, Patience};
use super::figures::Counts;
use super::message::Message;
use super::post::{Answer, Poster};
use crate::token::random_u128;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// The first wait before another try; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Courier {
    pub poster: Poster,
    pub name: String,
    pub format: Format,
    pub patience: Patience,
    /// In front of every delivery's id.
    pub state: String,
}

impl Courier {
    /// Whether the message was taken in the end. What was lost before is said in it.
    pub async fn deliver(&self, message: &Message, lost: Lost, counts: &Counts) -> bool {
        let id = message.id(&self.state);
        let bytes = body(self.format, message, &id, lost);
        let until = Instant::now() + self.patience.give_up;
        let mut tries = 0;
        loop {
            tries += 1;
            let (reason, after) = match self.post(&id, &bytes).await {
                Answer::Taken { .. } => {
                    counts.sent.fetch_add(1, Relaxed);
                    return true;
                }
                Answer::Later { reason, after } => (reason, after),
                Answer::Refused { reason } => {
                    counts.failed_tries.fetch_add(1, Relaxed);
                    self.give_up(message, tries, &reason, counts);
                    return false;
                }
            };
            counts.failed_tries.fetch_add(1, Relaxed);
            let wait = after.unwrap_or_else(|| backoff(tries, chance()));
            if Instant::now() + wait >= until {
                self.give_up(message, tries, &reason, counts);
                return false;
            }
            tracing::debug!(webhook = self.name, tries, reason, ?wait, "an alert is tried again");
            tokio::time::sleep(wait).await;
        }
    }

    fn give_up(&self, message: &Message, tries: u32, reason: &str, counts: &Counts) {
        counts.given_up.fetch_add(1, Relaxed);
        let (webhook, title) = (&self.name, &message.title);
        tracing::error!(webhook, tries, reason, title, "an alert could not be delivered");
    }

    async fn post(&self, id: &str, bytes: &[u8]) -> Answer {
        let (poster, id, bytes) = (self.poster.clone(), id.to_string(), bytes.to_vec());
        let posted = tokio::task::spawn_blocking(move || poster.post(&id, &bytes)).await;
        posted.unwrap_or_else(|error| Answer::Later { reason: error.to_string(), after: None })
    }
}

/// The wait after so many tries, from half of it to all of it by `chance` (0 to 1): so that many
/// who fail at once do not come back at once.
fn backoff(tries: u32, chance: f64) -> Duration {
    let doublings = tries.saturating_sub(1).min(10);
    let longest = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    longest.mul_f64(0.5 + chance / 2.0)
}

fn chance() -> f64 {
    // Without random numbers, all wait equally long.
    random_u128().map_or(1.0, |number| (number >> 96) as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_differ() {
        let longest: Vec<u64> = (1..=8).map(|tries| backoff(tries, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(3, 0.0), Duration::from_secs(2));
        assert!((0..100).map(|_| chance()).all(|chance| (0.0..=1.0).contains(&chance)));
        assert_eq!(backoff(u32::MAX, 1.0), LONGEST_WAIT);
    }
}
