//! Frames over TCP: a kind, a length, and that many bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A rank to rank 0: who I am.
    Hello,
    /// Rank 0 to a rank that it will not have, and why.
    Refusal,
    /// Rank 0 to a rank that it takes in; the welcome comes when all are there.
    Acceptance,
    /// Rank 0 to all: the step to go on from, and the sizes of what follows.
    Welcome,
    /// Rank 0 to all: the corpus, weights or moments.
    Content,
    /// A rank to rank 0: the digest of what it received.
    Ready,
    /// A rank to rank 0: its part of the sum.
    Part,
    /// Rank 0 to all: the sum.
    Sum,
    /// Either way: I must stop, and why.
    GivingUp,
    /// Rank 0 of a replica to its ranks: the leaves of a sum that are theirs.
    Work,
    /// Between replicas: a message of their agreement.
    Talk,
    /// A replica to another: the whole state.
    State,
}

const KINDS: [Kind; 12] = [
    Kind::Hello,
    Kind::Refusal,
    Kind::Acceptance,
    Kind::Welcome,
    Kind::Content,
    Kind::Ready,
    Kind::Part,
    Kind::Sum,
    Kind::GivingUp,
    Kind::Work,
    Kind::Talk,
    Kind::State,
];

/// No frame is longer: 4 GB of weights is not a tiny GPT.
const LENGTH_MAX: u64 = 4 << 30;
/// Bound on what is read from a peer that has not said who it is.
const TEXT_LENGTH_MAX: u64 = 1 << 16;

/// A host that is off answers nothing: its silence is noticed after this long.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a connection is idle before the system asks whether the other end is still there.
const IDLE: Duration = Duration::from_secs(4);

/// One end of a connection between two ranks.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
}

impl Link {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        // Each frame is waited for at the other end.
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Bound on each read and write; none waits as long as the peer lives.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)?;
        self.stream.set_write_timeout(timeout)
    }

    /// Let the system find out that the other host is gone. A process that merely hangs is not
    /// found so, as long as the system can keep for it what it does not read.
    pub fn notice_silence(&self) -> io::Result<()> {
        sockopt::set_socket_keepalive(&self.stream, true)?;
        sockopt::set_tcp_keepidle(&self.stream, IDLE)?;
        sockopt::set_tcp_keepintvl(&self.stream, IDLE / 2)?;
        sockopt::set_tcp_user_timeout(&self.stream, SILENCE_MAX.as_millis() as u32)?;
        Ok(())
    }

    /// The same connection, so that one thread may read and another write.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()? })
    }

    /// End it for both sides, and for a thread that reads from it.
    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mut header = [0; 9];
        header[0] = kind as u8;
        header[1..].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        self.stream.write_all(&header)?;
        self.stream.write_all(payload)
    }

    pub fn receive(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header)?;
        let kind = *KINDS
            .get(usize::from(header[0]))
            .ok_or_else(|| invalid(format!("frame of unknown kind {}", header[0])))?;
        let length = u64::from_le_bytes(header[1..].try_into().expect("eight bytes"));
        let text = matches!(
            kind,
            Kind::Hello | Kind::Refusal | Kind::Ready | Kind::GivingUp | Kind::Work | Kind::Talk
        );
        if length > if text { TEXT_LENGTH_MAX } else { LENGTH_MAX } {
            return Err(invalid(format!("{kind:?} frame of {length} bytes")));
        }
        // Grows with what arrives, so that a made-up length costs nothing.
        let mut payload = Vec::new();
        let read = (&mut self.stream).take(length).read_to_end(&mut payload)?;
        if read as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((kind, payload))
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Link::new(listener.accept().unwrap().0).unwrap(), other)
    }

    #[test]
    fn a_kind_is_its_place_in_the_list() {
        for (place, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
    }

    #[test]
    fn frames_arrive_whole_and_in_order() {
        let (mut link, other) = pair();
        let mut other = Link::new(other).unwrap();
        other.send(Kind::Part, &[1, 2, 3]).unwrap();
        other.send(Kind::GivingUp, b"").unwrap();
        assert_eq!(link.receive().unwrap(), (Kind::Part, vec![1, 2, 3]));
        assert_eq!(link.receive().unwrap(), (Kind::GivingUp, vec![]));
        drop(other);
        assert_eq!(link.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_link_that_is_closed_frees_its_reader() {
        let (mut link, _other) = pair();
        link.notice_silence().unwrap();
        let closer = link.try_clone().unwrap();
        let reader = std::thread::spawn(move || link.receive().unwrap_err().kind());
        closer.close();
        assert_eq!(reader.join().unwrap(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_stranger_cannot_make_it_wait_or_allocate() {
        let (mut link, mut other) = pair();
        other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(link.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);

        let (mut link, mut other) = pair();
        other.write_all(&[0, 255, 255, 255, 255, 255, 255, 255, 255]).unwrap();
        assert!(link.receive().unwrap_err().to_string().contains("Hello frame of"));

        let (mut link, mut other) = pair();
        other.write_all(&[0, 9, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
        drop(other);
        assert_eq!(link.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
