//! Threads of the engine. They may run in the process of whoever calls the library, so none of them
//! ever handles a signal of that process.

use std::io;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::Sys;

/// Starts a thread that has every signal blocked from its first instruction on.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    without_signals(|| Builder::new().name("criu".to_owned()).spawn_scoped(scope, work))?
}

/// Runs `work` in a thread of its own that takes no signals.
pub fn in_own_thread<T: Send>(work: impl FnOnce() -> Sys<T> + Send) -> Sys<T> {
    std::thread::scope(|scope| {
        let thread = start(scope, work).map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or(Err(Errno::EIO))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_blocks_signals_and_its_maker_does_not() {
        let blocked = || SigSet::thread_get_mask().unwrap();
        let before = blocked();
        let within = std::thread::scope(|scope| start(scope, blocked).unwrap().join().unwrap());
        assert!(within.contains(nix::sys::signal::SIGUSR1));
        assert_eq!(blocked(), before);
    }
}
