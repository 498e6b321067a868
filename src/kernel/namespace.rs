//! Entering and making namespaces.
//!
//! The caller never leaves its own namespaces. Work inside another namespace is done by a
//! short-lived process, which shares the memory and the descriptors of the caller, enters the
//! namespace, and ends there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};

use super::beside::{self, Tables};
use crate::error::{Context, Error, Kind, Result, shown};

/// Runs `work` in a process that has entered the namespaces `fds`, of uts or ipc.
pub fn inside<T>(fds: &[impl AsFd], work: impl FnOnce() -> Result<T>) -> Result<T> {
    elsewhere(|| {
        for fd in fds {
            setns(fd, CloneFlags::empty()).doing(|| "setns")?;
        }
        work()
    })
}

/// Makes a new namespace and returns what `setup` opens of it while a process is inside.
pub fn create<T>(kind: CloneFlags, setup: impl FnOnce() -> Result<T>) -> Result<T> {
    elsewhere(|| {
        leave(kind)?;
        setup()
    })
}

/// Takes the caller to a new namespace; a new time namespace takes only its children.
pub fn leave(kind: CloneFlags) -> Result<()> {
    unshare(kind).doing(|| format!("unshare {kind:?}"))
}

/// Runs `work` in a process that keeps the namespaces that it goes to.
pub fn elsewhere<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = beside::run(Tables::Callers, work).doing(|| "start a process")?;
    let lost =
        || Error::new(Kind::Internal, "a process of the engine ended before its work was done");
    result.unwrap_or_else(|| Err(lost()))
}

/// A namespace of the calling thread, `name` as under /proc/PID/ns.
pub fn of_thread(name: &str) -> Result<OwnedFd> {
    open(&format!("/proc/thread-self/ns/{name}"))
}

/// A namespace by path.
pub fn open(path: &(impl AsRef<OsStr> + ?Sized)) -> Result<OwnedFd> {
    let path = path.as_ref();
    let file = std::fs::File::open(path).doing(|| format!("open namespace {}", shown(path)))?;
    Ok(file.into())
}

/// `CLONE_NEWTIME`, which nix does not know.
pub const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
