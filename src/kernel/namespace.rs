//! Entering and making namespaces.
//!
//! A process keeps its namespaces: what has to happen inside another one is done by a thread that
//! enters it and ends there (setns and unshare of uts, ipc and time act on the calling thread).

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Context, Error, Kind, Result};

/// Runs `work` in a thread that has entered the namespaces `fds`.
pub fn inside<T: Send>(
    fds: &[impl AsFd + Sync],
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    in_thread(|| {
        for fd in fds {
            setns(fd, CloneFlags::empty()).doing(|| "setns")?;
        }
        work()
    })
}

/// Makes new namespaces and returns what `open` opens of them while a thread is inside.
pub fn create<T: Send>(kinds: CloneFlags, setup: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    in_thread(|| {
        unshare(kinds).doing(|| format!("unshare {kinds:?}"))?;
        setup()
    })
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Error::new(Kind::Internal, "a namespace thread panicked")))
}

/// A namespace of the calling thread, `name` as under /proc/PID/ns.
pub fn of_thread(name: &str) -> Result<OwnedFd> {
    open(&format!("/proc/thread-self/ns/{name}"))
}

/// A namespace by path.
pub fn open(path: &str) -> Result<OwnedFd> {
    let file = std::fs::File::open(path).doing(|| format!("open namespace {path}"))?;
    Ok(file.into())
}

/// `CLONE_NEWTIME`, which nix does not know.
pub const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
