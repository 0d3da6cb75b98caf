//! The end that answers.

use super::wire::{Blocks, Head, Kind, PATIENCE, Received, greet};
use crate::burnin::kernel::{Path, digest_of_all};
use crate::burnin::{Faults, Limit};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Connections at a time: a test has one more than its streams.
const CONNECTIONS_MAX: usize = 16;
/// However long the other end asks for.
const SENDING_MAX: Duration = Duration::from_secs(3600);
/// Between looks for a peer that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    pub fn bind(address: SocketAddr) -> io::Result<Server> {
        Ok(Server { listener: TcpListener::bind(address)? })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the listener breaks. `told` hears of connections that broke off.
    pub fn run(&self, faults: &dyn Faults, told: &(dyn Fn(String) + Sync)) -> io::Error {
        let open = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            loop {
                let (stream, peer) = match self.listener.accept() {
                    Ok(accepted) => accepted,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => return error,
                };
                if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                    open.fetch_sub(1, Ordering::Relaxed);
                    told(format!("{peer} was sent away: {CONNECTIONS_MAX} connections are open"));
                    continue;
                }
                let open = &open;
                scope.spawn(move || {
                    let answered = greet(&stream).and_then(|()| answer(&stream, faults));
                    if let Err(error) = answered {
                        told(format!("{peer}: {error}"));
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        })
    }

    /// Answers one peer, until its test is over: it holds the first of its connections from the beginning
    /// to the end. Whether one came within the limit. Whoever connects and is no peer is sent away.
    pub fn answer_one(
        &self,
        limit: Limit,
        faults: &dyn Faults,
        told: &(dyn Fn(String) + Sync),
    ) -> io::Result<bool> {
        self.listener.set_nonblocking(true)?;
        let (has_come, is_over, open) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            while !is_over.load(Ordering::Acquire) && !limit.is_over() {
                let (stream, peer) = match self.listener.accept() {
                    Ok(accepted) => accepted,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        std::thread::sleep(LOOK_INTERVAL);
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => return Err(error),
                };
                if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                    open.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (has_come, is_over, open) = (&has_come, &is_over, &open);
                scope.spawn(move || {
                    let greeted = stream.set_nonblocking(false).and_then(|()| greet(&stream));
                    let is_first = greeted.is_ok() && !has_come.swap(true, Ordering::AcqRel);
                    let answered = greeted.and_then(|()| {
                        // It is silent for as long as its others carry blocks.
                        stream.set_read_timeout(Some(limit.left().max(PATIENCE)))?;
                        answer(&stream, faults)
                    });
                    if let Err(error) = answered {
                        told(format!("{peer}: {error}"));
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                    is_over.fetch_or(is_first, Ordering::AcqRel);
                });
            }
            Ok(has_come.load(Ordering::Acquire))
        })
    }
}

/// One connection that has been greeted, until the other end closes it.
fn answer(stream: &TcpStream, faults: &dyn Faults) -> io::Result<()> {
    let mut received = Received::new();
    loop {
        let head = match Head::read(stream) {
            Ok(head) => head,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        match head.kind {
            Kind::Ping => head.write(stream)?,
            Kind::Block => received.take(head, stream)?,
            Kind::Tally => {
                Head::new(Kind::Tally, received.blocks, received.wrong).write(stream)?;
                received = Received::new();
            }
            Kind::Send => send(stream, Duration::from_millis(head.value), faults)?,
            Kind::Compute => {
                let digest =
                    digest_of_all(Path::widest(), &mut |product| faults.product(0, 0, product));
                Head::new(Kind::Compute, 0, digest).write(stream)?;
            }
        }
    }
}

fn send(stream: &TcpStream, span: Duration, faults: &dyn Faults) -> io::Result<()> {
    let limit = Limit::of(span.min(SENDING_MAX));
    let mut blocks = Blocks::new(1 << 32);
    let mut number = 0;
    while number == 0 || !limit.is_over() {
        blocks.send(number, stream, |block| faults.wire(block))?;
        number += 1;
    }
    Head::new(Kind::Tally, number, 0).write(stream)
}
