//! Entering and making namespaces.
//!
//! A process keeps its namespaces: what has to happen inside another one is done by a thread that
//! enters it and ends there (setns and unshare of uts, ipc and time act on the calling thread).

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};

use super::blank::Pin;
use super::sys::{Kcmp, kcmp};
use super::{proc, threads};
use crate::error::{Context, Result};

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

/// Makes a new namespace, `name` as under /proc/PID/ns, and returns what `setup` opens of it while
/// a thread is inside.
///
/// A thread is dear for that: a process that has one only, and may come back to where it is, goes
/// there itself, with its signals blocked.
pub fn create<T: Send>(
    kind: CloneFlags,
    name: &str,
    setup: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let enter = || {
        unshare(kind).doing(|| format!("unshare {kind:?}"))?;
        setup()
    };
    let here = of_thread(name)?;
    if !is_alone()? || setns(&here, kind).is_err() {
        return in_thread(enter);
    }
    threads::without_signals(|| {
        let made = enter();
        setns(&here, kind).doing(|| format!("go back to the {name} namespace"))?;
        made
    })
    .doing(|| "block signals")?
}

/// Whether no other thread has the memory of this one: the kernel lets nobody else come back to a
/// time namespace, and takes most of a millisecond to say so.
fn is_alone() -> Result<bool> {
    let own = std::process::id().cast_signed();
    let parent = nix::unistd::getppid().as_raw();
    let shared = || kcmp(own, parent, Kcmp::Vm, 0, 0) == Ok(0);
    Ok(proc::threads(own)?.len() == 1 && !shared())
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    // The thread starts where this one waits for it: no other CPU has to be woken.
    let _pin = Pin::here();
    std::thread::scope(|scope| {
        let thread = threads::start(scope, work).doing(|| "start a thread")?;
        thread.join().unwrap_or_else(|_| Err(threads::panicked()))
    })
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
