//! Threads that help the engine. They may run in the caller's own process, so no signal of its is
//! ever handled by one of them.

use std::io;
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::Pid;

use super::sys;
use crate::error::{Error, Kind};

/// Starts one with every signal blocked, from its first instruction on.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    without_signals(|| Builder::new().name("criu".to_owned()).spawn_scoped(scope, work))?
}

/// Starts one that works beside its maker, on another processor.
///
/// A process that may have no more threads is an error, after which the caller works alone.
pub fn help<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let here = sys::getcpu();
    start(scope, move || {
        if let Ok(cpu) = here {
            leave(cpu);
        }
        work()
    })
}

/// Runs `work` with every signal blocked.
pub fn without_signals<T>(work: impl FnOnce() -> T) -> nix::Result<T> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let done = work();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    Ok(done)
}

/// A helper that is gone when this is, even if nobody asks for it: in a process that has its memory
/// from another, and ends, it must not be in the middle of its own end.
#[derive(Debug)]
pub struct Joined<'scope, T>(Option<ScopedJoinHandle<'scope, T>>);

impl<'scope, T> Joined<'scope, T> {
    /// Of a thread that catches its panics.
    pub fn new(thread: ScopedJoinHandle<'scope, T>) -> Self {
        Self(Some(thread))
    }
}

impl<T> Drop for Joined<'_, T> {
    /// Looks for a moment first: most helpers are about to end, and to sleep takes longer.
    fn drop(&mut self) {
        const MOMENT: Duration = Duration::from_micros(200);
        let Some(thread) = self.0.take() else { return };
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < MOMENT {
            std::hint::spin_loop();
        }
        // It does not panic.
        let _ = thread.join();
    }
}

/// What is said of a helper that ended as none should.
pub fn panicked() -> Error {
    Error::new(Kind::Internal, "a thread of the engine panicked")
}

/// Goes to another processor, if there is one, from where the scheduler may move it again.
///
/// A scheduler may leave a new thread where its maker runs until it balances the load, which is
/// later than most dumps take.
fn leave(cpu: usize) {
    let this = Pid::from_raw(0);
    let Ok(all) = sched_getaffinity(this) else { return };
    let mut allowed = all;
    let others =
        (0..CpuSet::count()).any(|other| other != cpu && allowed.is_set(other) == Ok(true));
    if others && allowed.unset(cpu).is_ok() {
        // Without it the work takes longer.
        let _ = sched_setaffinity(this, &allowed);
        let _ = sched_setaffinity(this, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked() -> SigSet {
        SigSet::thread_get_mask().unwrap()
    }

    #[test]
    fn a_helper_blocks_signals_and_its_maker_does_not() {
        let before = blocked();
        let within = std::thread::scope(|scope| help(scope, blocked).unwrap().join().unwrap());
        assert!(within.contains(nix::sys::signal::SIGUSR1));
        assert_eq!(blocked(), before);
    }
}
