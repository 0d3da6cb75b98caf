//! What the two ends of a network test say to each other: heads of one size, some with a block.

use crate::burnin::stream::fill;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Both ends say this first. The digit is the version: ends that differ part at once.
pub const HELLO: [u8; 8] = *b"LINDOSB1";
pub const BLOCK: usize = 256 << 10;
/// Blocks that are made once and sent in turn: making them must not be what is measured.
const KINDS: u64 = 4;
/// Nobody is waited for longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants the same back.
    Ping,
    /// A block follows. `number`: of the block; `value`: its checksum.
    Block,
    /// Wants a tally. As an answer, `number`: blocks; `value`: those of them that were wrong.
    Tally,
    /// Wants blocks for `value` milliseconds, and then a tally of how many were sent.
    Send,
    /// Wants the digest of the computation; in the answer it is `value`.
    Compute,
}

const KINDS_BY_NUMBER: [Kind; 5] =
    [Kind::Ping, Kind::Block, Kind::Tally, Kind::Send, Kind::Compute];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub number: u64,
    pub value: u64,
}

impl Head {
    pub fn new(kind: Kind, number: u64, value: u64) -> Head {
        Head { kind, number, value }
    }

    pub fn write(self, mut to: impl Write) -> io::Result<()> {
        let mut bytes = [0; 24];
        let kind = KINDS_BY_NUMBER.iter().position(|kind| *kind == self.kind).unwrap_or(0);
        bytes[..8].copy_from_slice(&(kind as u64).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..].copy_from_slice(&self.value.to_le_bytes());
        to.write_all(&bytes)
    }

    pub fn read(mut from: impl Read) -> io::Result<Head> {
        let mut word = || -> io::Result<u64> {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let (kind, number, value) = (word()?, word()?, word()?);
        let kind = usize::try_from(kind).ok().and_then(|kind| KINDS_BY_NUMBER.get(kind));
        let Some(kind) = kind else { return Err(nonsense("an unknown message")) };
        Ok(Head { kind: *kind, number, value })
    }
}

pub fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Says hello and hears it.
pub fn greet(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = stream;
    stream.write_all(&HELLO)?;
    let mut heard = [0; 8];
    stream.read_exact(&mut heard)?;
    if heard == HELLO {
        Ok(())
    } else {
        Err(nonsense("it is not `lindos burnin --serve`, or another version"))
    }
}

/// The blocks that an end sends, with the checksums that they had when they were made.
#[derive(Debug)]
pub struct Blocks(Vec<(Vec<u8>, u64)>);

impl Blocks {
    pub fn new(seed: u64) -> Blocks {
        let block = |kind| {
            let mut bytes = vec![0; BLOCK];
            fill(seed.wrapping_add(kind), &mut bytes);
            let sum = xxh3_64(&bytes);
            (bytes, sum)
        };
        Blocks((0..KINDS).map(block).collect())
    }

    /// Sends the `number`th.
    pub fn send(
        &mut self,
        number: u64,
        mut to: impl Write,
        disturb: impl FnOnce(&mut [u8]),
    ) -> io::Result<()> {
        let (bytes, sum) = &mut self.0[(number % KINDS) as usize];
        disturb(bytes);
        Head::new(Kind::Block, number, *sum).write(&mut to)?;
        to.write_all(bytes)
    }
}

/// What an end has received.
#[derive(Debug)]
pub struct Received {
    buffer: Vec<u8>,
    pub blocks: u64,
    pub wrong: u64,
}

impl Received {
    pub fn new() -> Received {
        Received { buffer: vec![0; BLOCK], blocks: 0, wrong: 0 }
    }

    /// The block that follows `head`. It is wrong if its bytes or its number are not those sent.
    pub fn take(&mut self, head: Head, mut from: impl Read) -> io::Result<()> {
        from.read_exact(&mut self.buffer)?;
        if xxh3_64(&self.buffer) != head.value || head.number != self.blocks {
            self.wrong += 1;
        }
        self.blocks += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written_and_others_are_refused() {
        for kind in KINDS_BY_NUMBER {
            let mut bytes = Vec::new();
            let head = Head::new(kind, 7, u64::MAX);
            head.write(&mut bytes).unwrap();
            assert_eq!(Head::read(bytes.as_slice()).unwrap(), head);
        }
        assert!(Head::read([9; 24].as_slice()).is_err());
        assert!(Head::read([0; 23].as_slice()).is_err());
    }

    #[test]
    fn a_block_with_another_bit_or_out_of_turn_is_wrong() {
        let mut blocks = Blocks::new(1);
        let mut received = Received::new();
        let mut pass = |number, flip: u8| {
            let mut bytes = Vec::new();
            blocks.send(number, &mut bytes, |block| block[1000] ^= flip).unwrap();
            let mut from = bytes.as_slice();
            let head = Head::read(&mut from).unwrap();
            received.take(head, from).unwrap();
            received.wrong
        };
        assert_eq!([pass(0, 0), pass(1, 1), pass(2, 0), pass(9, 0)], [0, 1, 1, 2]);
    }
}
