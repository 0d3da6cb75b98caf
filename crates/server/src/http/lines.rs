//! Answers without an end: one JSON value a line, and an empty line while there is nothing.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// An empty line comes after this long without any other.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Pieces that wait for the connection to take them.
const PIECES_MAX: usize = 8;
/// A reader that takes nothing for this long is cut.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The end to write to.
pub(super) struct Lines {
    pieces: mpsc::Sender<Bytes>,
    last: Arc<Mutex<Option<Bytes>>>,
}

/// Nobody reads any more, or not fast enough.
pub(super) enum Unread {
    Gone,
    Slow,
}

impl Lines {
    pub(super) fn new() -> (Lines, Response) {
        let (pieces, reading) = mpsc::channel(PIECES_MAX);
        let last = Arc::default();
        let stream = LineStream { pieces: reading, last: Arc::clone(&last) };
        let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
        (Lines { pieces, last }, (kind, Body::from_stream(stream)).into_response())
    }

    pub(super) async fn send(&self, piece: Vec<u8>) -> Result<(), Unread> {
        match tokio::time::timeout(STALL_MAX, self.pieces.send(piece.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unread::Gone),
            Err(_) => Err(Unread::Slow),
        }
    }

    pub(super) async fn keep_alive(&self) -> Result<(), Unread> {
        self.send(b"\n".to_vec()).await
    }

    /// The last line, which has a place of its own: it fits even when the reader is slow.
    pub(super) fn end_with(self, value: &impl Serialize) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(line(value).into());
    }

    /// Resolves when nobody reads any more.
    pub(super) async fn gone(&self) {
        self.pieces.closed().await;
    }
}

/// A value and the end of its line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("wire types are plain data");
    line.push(b'\n');
    line
}

struct LineStream {
    pieces: mpsc::Receiver<Bytes>,
    last: Arc<Mutex<Option<Bytes>>>,
}

impl Stream for LineStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_recv(context).map(|piece| {
            let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
            piece.or_else(last).map(Ok)
        })
    }
}
