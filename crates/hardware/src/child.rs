//! Children: what is arranged between fork and exec, and how their ends are seen.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How a process ended, in the kernel's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// Arranges that a command's child
/// - leads a session and a process group of its own;
/// - dies at once when the thread that started it does, however that ended;
/// - stands in the control groups of `entrances` before its first instruction (where the kernel
///   refuses, it runs outside of them: the session still holds it);
/// - has no signal blocked or ignored, whatever this process does with them.
pub fn prepare(command: &mut Command, entrances: Vec<File>) {
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    let arrange = move || -> io::Result<()> {
        // SAFETY: between fork and exec only async-signal-safe functions may be called: setsid,
        // prctl, getppid, write, signal and sigprocmask are, and nothing here allocates.
        unsafe {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            for entrance in &entrances {
                let _ = libc::write(entrance.as_raw_fd(), b"0\n".as_ptr().cast(), 2);
            }
            for signal in 1..32 {
                if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                    libc::signal(signal, libc::SIG_DFL);
                }
            }
            let mut none = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: see `arrange`.
    unsafe { command.pre_exec(arrange) };
}

/// A child that has ended and was not yet reaped, so that its number is still its own.
/// `Ok(None)`: there are children, and all of them live. `Err` with `ECHILD`: there is none.
pub fn next_ended() -> io::Result<Option<(u32, Ended)>> {
    // SAFETY: `info` is a live local of the right type; all-zero is a valid siginfo_t.
    unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, options) != 0 {
            return Err(io::Error::last_os_error());
        }
        if info.si_pid() == 0 {
            return Ok(None);
        }
        let ended = match info.si_code {
            libc::CLD_EXITED => Ended::Code(info.si_status()),
            _ => Ended::Signal(info.si_status()),
        };
        Ok(Some((info.si_pid().cast_unsigned(), ended)))
    }
}

/// Gives back the number of a child that [`next_ended`] named.
pub fn reap(pid: u32) {
    if let Some(pid) = crate::process::rustix_pid(pid) {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
    }
}

/// Whether this process has any child, living or not yet reaped. Under a subreaper, no child
/// means no descendant: whoever loses its parent becomes the subreaper's child.
pub fn has_children() -> bool {
    match next_ended() {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(libc::ECHILD),
    }
}

/// Makes this process the parent of every descendant that loses its own.
pub fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

/// Keeps descriptors that this process inherited by accident from its children.
pub fn keep_inherited_files_from_children() {
    // SAFETY: close_range with this flag closes nothing: it only marks descriptors. It fails
    // harmlessly on kernels before 5.11.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn a_prepared_child_leads_its_own_session() {
        let mut command = Command::new("cat");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        prepare(&mut command, Vec::new());
        let mut child = command.spawn().unwrap();
        let stat = process::stat(child.id()).unwrap();
        assert_eq!((stat.session, stat.group), (child.id(), child.id()));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
