//! What a process of our own needs to settle about itself before it serves.

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};

use crate::error::{Context, Error, Kind, Result};

/// Takes over a descriptor that this process was started with, such as the one `criu swrk` is told.
pub fn adopt(fd: i32) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Error::new(Kind::BadOptions, format!("{fd} is not a descriptor")));
    }
    // SAFETY: takes numbers only.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    Errno::result(flags).doing(|| format!("descriptor {fd} of the caller"))?;
    // SAFETY: takes numbers only.
    unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
    // SAFETY: the descriptor is open, and it was handed to this process to be used up by it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Signals as a worker needs them, whatever its parent had: its children can be waited for, a lost
/// reader is an error and no death, nothing is blocked.
pub fn settle_signals() -> Result<()> {
    // SAFETY: both are plain dispositions; no handler of ours runs.
    unsafe {
        nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl)
            .doing(|| "signal SIGCHLD to default")?;
        nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigIgn)
            .doing(|| "signal SIGPIPE to ignored")?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .doing(|| "sigprocmask to none")
}

/// Lets the allocator keep what is freed, as fresh memory costs a page fault for each page.
///
/// For a process of our own only, whose life is short: the setting is the whole process's.
pub fn keep_memory() {
    const KEPT: i32 = 32 << 20;
    const AT_ONCE: i32 = 1 << 20;
    #[cfg(target_env = "gnu")]
    // SAFETY: plain settings of the allocator.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TOP_PAD, AT_ONCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_cannot_be_adopted() {
        assert_eq!(adopt(-1).unwrap_err().kind(), Kind::BadOptions);
        assert_eq!(adopt(1_000_000).unwrap_err().errno(), Some(Errno::EBADF));
    }
}
