//! Tells people, over webhooks, what happened and what Lindos did about it.
//!
//! The trail is the source: [`classify`] says which entries are worth a word, [`group`] makes one
//! message of what belongs together, [`words`] its sentences, [`body`] the bytes. A [`pipeline`]
//! for each webhook reads, sends (`courier`, `post`) and remembers (`memory`); nothing of it runs
//! on the core's path. `docs/alerts.md` is what users may rely on.

mod alert;
mod body;
mod classify;
mod config;
mod courier;
mod figures;
mod group;
mod memory;
mod message;
mod pipeline;
mod post;
mod queue;
mod reader;
mod sign;
mod words;

#[cfg(test)]
mod tests;

pub use config::Alerts;
pub(crate) use figures::{Counts, Figures};

use crate::driver::DriverHandle;
use courier::Courier;
use group::Grouper;
use memory::Memory;
use message::Message;
use pipeline::Pipeline;
use post::{Answer, Poster};
use reader::Reader;
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Starts a task for each webhook; they end when the control plane stops.
pub(crate) fn start(
    alerts: Alerts,
    driver: &DriverHandle,
    state_dir: &Path,
    stopping: &watch::Receiver<bool>,
) -> (Arc<Figures>, JoinSet<()>) {
    let figures = Arc::new(Figures::of(&alerts.webhooks));
    let mut tasks = JoinSet::new();
    for (index, webhook) in alerts.webhooks.into_iter().enumerate() {
        let name = webhook.name.clone();
        let pipeline = Pipeline {
            driver: driver.clone(),
            reader: Arc::new(Mutex::new(Reader::new(alerts.rules.recovery_slow))),
            grouper: Grouper::new(alerts.rules, webhook.filter.clone()),
            memory_path: Memory::path(state_dir, &name),
            courier: Arc::new(Courier {
                name,
                format: webhook.format,
                patience: alerts.patience,
                state: String::new(),
                poster: Poster::new(webhook, alerts.patience.timeout),
            }),
            figures: Arc::clone(&figures),
            index,
        };
        tasks.spawn(pipeline.run(stopping.clone()));
    }
    (figures, tasks)
}

/// What came of a sample message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    pub webhook: String,
    pub format: &'static str,
    pub ok: bool,
    pub signed: bool,
    pub took_ms: u64,
    /// The status, or what went wrong.
    pub said: String,
}

/// Sends a sample to every webhook, once and all at the same time. Blocks for as long as the
/// time-out at most.
pub fn try_all(alerts: &Alerts) -> Vec<Tried> {
    std::thread::scope(|scope| {
        let tries: Vec<_> = alerts
            .webhooks
            .iter()
            .map(|webhook| scope.spawn(|| try_one(alerts, webhook)))
            .collect();
        let done = tries.into_iter().map(|tried| tried.join().expect("it does not panic"));
        done.collect()
    })
}

fn try_one(alerts: &Alerts, webhook: &config::Webhook) -> Tried {
    let began = SystemTime::now();
    let now = began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let message = Message::sample(lindos_model::Time(now));
    let id = message.id("sample");
    let bytes = body::body(webhook.format, &message, &id, body::Lost::default());
    let poster = Poster::new(webhook.clone(), alerts.patience.timeout);
    let (ok, said) = match poster.post(&id, &bytes) {
        Answer::Taken { status } => (true, status.to_string()),
        Answer::Later { reason, .. } | Answer::Refused { reason } => (false, reason),
    };
    Tried {
        webhook: webhook.name.clone(),
        format: webhook.format.name(),
        ok,
        signed: webhook.secret.is_some(),
        took_ms: began.elapsed().map_or(0, |took| took.as_millis() as u64),
        said,
    }
}
