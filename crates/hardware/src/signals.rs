//! Signals as something to read, so that one `poll` waits for everything.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

/// Delivers the signals that it was made for, and keeps them from doing anything else.
#[derive(Debug)]
pub struct SignalFile {
    file: File,
}

impl SignalFile {
    /// Blocks `signals` for this thread and those that it starts later. Children inherit that:
    /// see [`crate::child::Preparation`], which takes it back.
    pub fn new(signals: &[i32]) -> io::Result<SignalFile> {
        // SAFETY: `set` is written by sigemptyset before anything reads it, the pointers are to
        // a live local, and the descriptor that signalfd returns belongs to nobody else.
        unsafe {
            let mut set = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut set);
            for &signal in signals {
                libc::sigaddset(&raw mut set, signal);
            }
            let error =
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(SignalFile { file: File::from_raw_fd(fd) })
        }
    }

    /// The numbers of the signals that have come since the last call; several of one kind may
    /// come as one.
    pub fn pending(&self) -> Vec<i32> {
        const RECORD: usize = size_of::<libc::signalfd_siginfo>();
        let mut buffer = [0; RECORD * 16];
        let mut signals = Vec::new();
        // The first field of each record is the signal's number.
        while let Ok(length @ 1..) = (&self.file).read(&mut buffer) {
            signals.extend(
                buffer[..length]
                    .chunks_exact(RECORD)
                    .map(|record| i32::from_ne_bytes([record[0], record[1], record[2], record[3]])),
            );
        }
        signals
    }
}

impl AsFd for SignalFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
