//! Agents that are connected to a shim: usually one, none while it is away.

use crate::plan::Request;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

pub const CLIENTS_MAX: usize = 8;
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// One connection. A newer state replaces one that waits to be sent, so that an agent that does
/// not read costs two states of memory at most.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    sending: VecDeque<Rc<[u8]>>,
    /// Bytes of the first that are sent.
    sent: usize,
    received: Vec<u8>,
    closed: bool,
}

impl Client {
    pub fn new(stream: UnixStream) -> io::Result<Client> {
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            sending: VecDeque::new(),
            sent: 0,
            received: Vec::new(),
            closed: false,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn wants_to_write(&self) -> bool {
        !self.sending.is_empty() && !self.closed
    }

    pub fn send(&mut self, line: &Rc<[u8]>) {
        // The first may be half sent.
        self.sending.truncate(1);
        self.sending.push_back(line.clone());
        self.flush();
    }

    pub fn flush(&mut self) {
        while let Some(line) = self.sending.front() {
            match self.stream.write(&line[self.sent..]) {
                Ok(length) => {
                    self.sent += length;
                    if self.sent == line.len() {
                        self.sending.pop_front();
                        self.sent = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// The requests that have come. Lines that make no sense are for a newer shim.
    pub fn receive(&mut self) -> Vec<Request> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.closed = true;
                    break;
                }
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.closed = true;
                    break;
                }
            }
            if self.received.len() > REQUEST_BYTES_MAX {
                self.closed = true;
                break;
            }
        }
        let mut requests = Vec::new();
        while let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            requests.extend(serde_json::from_slice::<Request>(&line).ok());
        }
        requests
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
